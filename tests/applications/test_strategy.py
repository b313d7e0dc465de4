"""Several devices and machines: the same as one, nothing lost or doubled, and clear words."""

import json
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import scaling
from kerasrnn.applications._runs import Recorder, RunFolder
from kerasrnn.applications._strategy import Team, read_tf_config, replicated, sequences
from kerasrnn.applications._training import TrainingConfig, fit
from kerasrnn.applications.language_model import task as language_model
from kerasrnn.applications.language_model.config import LanguageModelConfig
from kerasrnn.applications.sentiment import task as sentiment
from kerasrnn.applications.sentiment.config import SentimentConfig
from tests.applications import _worker
from tests.applications._helpers import (
    LABELING,
    LANGUAGE,
    ROOT,
    SETTINGS,
    environment,
    history,
    write_names,
    write_sayings,
    write_texts,
)


def free_ports(count):
    """Ports that nobody has: held all at once, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(strategy, folder, workers, settings=None):
    """Start the processes of a training; they find each other by `TF_CONFIG`, as in a cluster."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(workers)]}
    processes = []
    for index in range(workers):
        tf_config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        words = [strategy, folder / f"{index}.npz", *([json.dumps(settings)] if settings else [])]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.applications._worker", *map(str, words)],
            cwd=ROOT,
            env={**environment(), "TF_CONFIG": json.dumps(tf_config), "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
    return processes


def run(strategy, folder, workers, settings=None, killed=None):
    """What each process has found, when all have ended well, but for the one that is killed."""
    processes = start(strategy, folder, workers, settings)
    try:
        said = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for index, (process, text) in enumerate(zip(processes, said, strict=True)):
        assert process.returncode == (-signal.SIGKILL if index == killed else 0), text
    return [dict(np.load(folder / f"{index}.npz")) for index in range(workers)]


@pytest.fixture(scope="module")
def alone():
    """What one process with one device learns from the whole batches."""
    return _worker.train_plainly(Team())


@pytest.mark.parametrize(("strategy", "workers"), [("multi-worker", 2), ("mirrored", 1)])
def test_replicas_learn_what_one_device_learns(strategy, workers, alone, tmp_path):
    found = run(strategy, tmp_path, workers, killed=1)
    for each in found:
        np.testing.assert_allclose(each["weights"], alone["weights"], atol=1e-5, rtol=0)
        # The losses and metrics of training and validation are those of the whole.
        np.testing.assert_allclose(each["history"], alone["history"], atol=1e-5, rtol=0)
        # In every epoch each example was there once ...
        assert not each["seen"].any()
    np.testing.assert_array_equal(found[0]["weights"], found[-1]["weights"])
    # ... in one of the workers, over three epochs of training and as many validations.
    ever = np.array([each["ever"] for each in found])
    np.testing.assert_array_equal(ever.sum(axis=0), 6)
    if workers == 2:
        # Of three examples one and two; of the one that is left over none and one.
        assert ever.sum(axis=1).tolist() == [6 * 4, 6 * 9]
        # What has gone wrong afterwards, as worker 0 was told.
        assert "The workers differ in seed (here 0): start each" in str(found[0]["differ"])
        assert all("another worker is gone" in str(found[0][when]) for when in ("died", "gone"))


def quiet(settings, **more):
    """Without dropout, whose draws differ from worker to worker."""
    still = {name: 0.0 for name in settings if name.endswith("dropout")}
    return {**settings, **still, **more}


# Batches of 21 leave one sentence over, which one of two workers gets.
TASKS = {
    "sentiment": quiet(SETTINGS, epochs=2),
    "sequence_labeling": quiet(LABELING, epochs=2, batch_size=21),
    "language_model": quiet(LANGUAGE, epochs=3, epoch_updates=7),
}


def with_data(name, place):
    """The settings of a task, and its data set."""
    write = {
        "sentiment": write_texts,
        "sequence_labeling": write_names,
        "language_model": write_sayings,
    }[name]
    path = write(place / "data.csv")
    return TASKS[name] | {"dataset": str(path) if name == "sentiment" else [str(path)]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "strategy", "workers"),
    [*((name, "multi-worker", 2) for name in TASKS), ("language_model", "mirrored", 1)],
)
def test_tasks_learn_what_one_device_learns(name, strategy, workers, tmp_path):
    settings = with_data(name, tmp_path)
    alone = _worker.train_task(name, settings, out=str(tmp_path / "alone"))
    told = {"name": name, "settings": settings, "out": str(tmp_path / "run")}
    found = run(strategy, tmp_path, workers, told)
    np.testing.assert_allclose(found[0]["weights"], alone["weights"], atol=1e-5, rtol=0)
    np.testing.assert_array_equal(found[0]["weights"], found[-1]["weights"])
    files, expected = (
        {str(path.relative_to(place)) for path in place.rglob("*")}
        for place in (tmp_path / "run", tmp_path / "alone")
    )
    assert files == expected
    one, other = (history(tmp_path / run) for run in ("alone", "run"))
    for row, wanted in zip(other, one, strict=True):
        for figure, value in wanted.items():
            assert float(row[figure]) == pytest.approx(float(value), abs=1e-4), figure


@pytest.mark.slow
def test_a_worker_is_killed_in_mid_epoch_and_the_run_goes_on(tmp_path):
    """Dropouts too: each worker goes on with its own draws, and each lane with its state."""
    settings = {**LANGUAGE, "epochs": 3, "epoch_updates": 7}
    settings["dataset"] = [str(write_sayings(tmp_path / "sayings.txt"))]
    told = {"name": "language_model", "settings": settings}
    whole = run("multi-worker", tmp_path, 2, {**told, "out": str(tmp_path / "whole")})
    told["out"] = str(tmp_path / "run")
    chief, other = start("multi-worker", tmp_path, 2, {**told, "kill": [1, 3]})
    try:
        said = chief.communicate(timeout=120)[0]
        assert other.wait(30) == -signal.SIGKILL
    finally:
        for process in (chief, other):
            process.kill()
    assert "another worker is gone" in said
    assert chief.returncode == 1
    assert len(history(tmp_path / "run")) == 1
    found = run("multi-worker", tmp_path, 2, {**told, "resume": True})
    for each, wanted in zip(found, whole, strict=True):
        np.testing.assert_array_equal(each["weights"], wanted["weights"])
    assert history(tmp_path / "run") == history(tmp_path / "whole")


# What is wrong.


def tf_config(**more):
    cluster = {"worker": ["a:2222", "b:2222"]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}} | more)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "TF_CONFIG is not set"),
        ("", "TF_CONFIG is not set"),
        ("{cluster: 1}", r"TF_CONFIG is not JSON \(.*\): '{cluster: 1}'"),
        ("[]", "TF_CONFIG has no `cluster`: '\\[\\]'"),
        (tf_config(cluster={}), "no `cluster`"),
        (tf_config(cluster={"worker": ["a:1"], "ps": ["b:1"]}), r"the jobs \['ps'\]"),
        (tf_config(cluster={"worker": []}), r"`worker` .* list of host:port, .* got \[\]"),
        (tf_config(cluster={"worker": "a:1"}), r"list of host:port, .* got 'a:1'"),
        (tf_config(cluster={"worker": ["a"]}), r"list of host:port, .* got \['a'\]"),
        (tf_config(cluster={"worker": ["a:0"]}), r"list of host:port, .* got \['a:0'\]"),
        (tf_config(cluster={"worker": ["http://a:1"]}), r"list of host:port, .* got \['http://a:1'\]"),
        (tf_config(cluster={"worker": ["[::1]:1"]}), r"an IPv4 address .* got \['\[::1\]:1'\]"),
        (tf_config(cluster={"worker": [7]}), r"list of host:port, .* got \[7\]"),
        (tf_config(cluster={"worker": ["a:1", "a:1"]}), "each worker once"),
        (tf_config(cluster={"chief": ["a:1", "b:1"]}), "one chief at most"),
        (tf_config(task=None), "`task` of TF_CONFIG is None"),
        (
            tf_config(task={"type": "evaluator", "index": 0}),
            r"the jobs of its cluster \['worker'\]",
        ),
        (tf_config(task={"type": ["worker"], "index": 0}), r"`task` of TF_CONFIG is {'type': \['worker'\]"),
        (tf_config(task={"type": "worker", "index": True}), "is True, and must be a number"),
        (tf_config(task={"type": "worker", "index": 2}), "is 2, and must be a number from 0 to 1"),
        (tf_config(task={"type": "worker", "index": "0"}), "is '0', and must be a number"),
    ],
)
def test_a_wrong_tf_config_is_refused(text, message, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    out = tmp_path / "run"
    with pytest.raises(ValueError, match=message) as error:
        sentiment.train(SentimentConfig(strategy="multi-worker", out=str(out)))
    assert "must name all workers" in str(error.value)
    assert not out.exists()


def test_the_chief_comes_first():
    cluster = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    for place, (job, index) in enumerate([("chief", 0), ("worker", 0), ("worker", 1)]):
        text = tf_config(cluster=cluster, task={"type": job, "index": index})
        assert read_tf_config(text) == (["a:1", "b:1", "c:1"], place)


def test_a_worker_that_cannot_be_reached_is_named():
    own, nobody = (f"127.0.0.1:{port}" for port in free_ports(2))
    with pytest.raises(
        ConnectionError, match=rf"2 workers, and {nobody} .* within 0.2 s. Start every"
    ):
        Team("multi-worker", [own, nobody], 0).meet(0.2)


def test_an_address_that_is_taken_is_named():
    with socket.create_server(("", 0)) as server:
        own = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(OSError, match=f"{own}.*cannot be used"):
            Team("multi-worker", [own, "127.0.0.1:1"], 0).meet(0.2)


def test_workers_must_be_first_to_use_tensorflow(monkeypatch):
    tf.zeros(1).numpy()
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        workers = [f"127.0.0.1:{number}" for number in (port, other.getsockname()[1])]
        monkeypatch.setenv("TF_CONFIG", tf_config(cluster={"worker": workers}))
        with pytest.raises(ValueError, match="begin the training in a fresh one"):
            Team("multi-worker", workers, 0).meet(5)


def test_the_command_loads_tensorflow_and_leaves_it_at_rest():
    """Or the workers could not meet: see the test before."""
    script = (
        "import kerasrnn_cli, kerasrnn.cli\n"
        "from tensorflow.python.eager import context\n"
        "kerasrnn.cli.run = lambda: print(context.context()._initialized)\n"
        "kerasrnn_cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n", done.stderr


def test_an_unknown_strategy():
    with pytest.raises(ValueError, match="one of none, mirrored, multi-worker; got 'tpu'"):
        Team.of("tpu")


def test_a_batch_must_suffice_for_all_replicas(tmp_path, monkeypatch):
    three = Team(devices=("", "", ""))
    with pytest.raises(ValueError, match="`batch_size` is 2, to be split among 3 replicas"):
        fit(None, TrainingConfig(batch_size=2), RunFolder(tmp_path), None, None, "", team=three)
    monkeypatch.setattr(Team, "of", lambda strategy: three)
    config = LanguageModelConfig(batch_size=8, out=str(tmp_path / "run"))
    with pytest.raises(ValueError, match=r"`batch_size` must be a multiple of 3, .* got 8"):
        language_model.train(config)


def test_only_the_chief_writes(trained, tmp_path):
    settings = {**trained.settings, "out": str(trained.folder)}
    before = {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*")}
    digest = json.loads((trained.folder / "config.json").read_text("utf-8"))["data"]
    for more in ({}, {"overwrite": True}, {"resume": True}):
        folder = RunFolder(trained.folder, chief=False)
        folder.start(folder.check(SentimentConfig(**settings, **more)), digest)
    assert len(folder.history) == trained.metrics["epochs"]
    recorder = Recorder(folder, "val_loss", 3)
    recorder.set_model(keras.Sequential())
    recorder.on_epoch_end(len(folder.history), dict.fromkeys(folder.history[0], 0.5))
    assert {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*")} == before


def test_a_lost_worker_is_a_clear_error():
    team = Team(strategy=object())
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with (
        pytest.raises(ConnectionError, match=r"another worker is gone .* --resume"),
        replicated(team, model, sequences, 1, 1),
    ):
        raise tf.errors.UnavailableError(None, None, "a peer is away")
    assert model.train_function is None


@pytest.mark.slow
def test_the_benchmark_weighs_what_goes_over_the_wire(tmp_path, capsys):
    text = str(write_sayings(tmp_path / "sayings.txt", 2000))
    options = scaling.Options(
        ("language-model",), text=text, batches=2, rounds=1, out=str(tmp_path)
    )
    scaling.main(options)
    result = json.loads((tmp_path / "scaling.json").read_text("utf-8"))["language-model"]
    one, (two, other) = result["one process"][0], result["two processes"]
    # The gradients, and at the end of a round of two steps the states of all lanes.
    assert two["dense"] == pytest.approx(4 * one["parameters"] + 2 * 32 * 256 * 8 / 2, abs=200)
    assert one["sent"] == one["dense"] == two["sparse"] == 0
    # In a ring of two each sends as much as it has; the rest is what they say around it.
    for each in (two, other):
        assert each["dense"] < each["sent"] < 1.1 * each["dense"] + 20_000
    assert "bytes of a step" in capsys.readouterr().out
