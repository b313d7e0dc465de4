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
from kerasrnn.applications._runs import Recorder, RunFolder, versions
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
    ROUNDING,
    SETTINGS,
    assert_alike,
    command,
    environment,
    flags,
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


def tf_configs(workers):
    """What `TF_CONFIG` is for each worker of a cluster on this machine."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(workers)]}
    return [tf_config(cluster=cluster, task={"type": "worker", "index": i}) for i in range(workers)]


def start(strategy, folder, workers, settings=None):
    """Start the processes of a training; they find each other by `TF_CONFIG`, as in a cluster."""
    processes = []
    for index, text in enumerate(tf_configs(workers)):
        words = [strategy, folder / f"{index}.npz", *([json.dumps(settings)] if settings else [])]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.applications._worker", *map(str, words)],
            cwd=ROOT,
            env={**environment(), "TF_CONFIG": text, "CUDA_VISIBLE_DEVICES": ""},
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


@pytest.mark.parametrize(
    ("strategy", "workers"),
    [("multi-worker", 2), pytest.param("mirrored", 1, marks=pytest.mark.slow)],
)
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
            assert row[figure] == pytest.approx(value, abs=1e-4), figure


@pytest.mark.slow
def test_half_precision_is_shared_too(tmp_path):
    """The shares are rounded otherwise than the whole, so they learn about the same."""
    settings = with_data("sentiment", tmp_path) | {"precision": "mixed_float16"}
    alone = _worker.train_task("sentiment", settings, out=str(tmp_path / "alone"))
    told = {"name": "sentiment", "settings": settings, "out": str(tmp_path / "run")}
    found = run("multi-worker", tmp_path, 2, told)
    np.testing.assert_array_equal(found[0]["weights"], found[1]["weights"])
    np.testing.assert_allclose(found[0]["weights"], alone["weights"], atol=1e-2, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_is_killed_in_mid_epoch_and_the_run_goes_on(victim, tmp_path):
    """Dropouts too: each worker goes on with its own draws, and each lane with its state."""
    settings = {**LANGUAGE, "epochs": 3, "epoch_updates": 7}
    settings["dataset"] = [str(write_sayings(tmp_path / "sayings.txt"))]
    told = {"name": "language_model", "settings": settings}
    whole = run("multi-worker", tmp_path, 2, {**told, "out": str(tmp_path / "whole")})
    told["out"] = str(tmp_path / "run")
    processes = start("multi-worker", tmp_path, 2, {**told, "kill": [victim, 1, 3]})
    other = processes[1 - victim]
    try:
        said = other.communicate(timeout=120)[0]
        assert processes[victim].wait(30) == -signal.SIGKILL
    finally:
        for process in processes:
            process.kill()
    assert "another worker is gone" in said
    assert other.returncode == 1
    assert len(history(tmp_path / "run")) == 1
    found = run("multi-worker", tmp_path, 2, {**told, "resume": True})
    for each, wanted in zip(found, whole, strict=True):
        np.testing.assert_allclose(each["weights"], wanted["weights"], ROUNDING, ROUNDING)
    assert_alike(history(tmp_path / "run"), history(tmp_path / "whole"), "history")


@pytest.mark.slow
def test_the_command_of_the_documentation(tmp_path):
    """Of one worker and of two; the folder is the chief's."""
    settings = with_data("sentiment", tmp_path)
    for workers in (1, 2):
        out = tmp_path / str(workers)
        words = flags(**settings, strategy="multi-worker", out=out)
        processes = [
            subprocess.Popen(
                command("train", "sentiment", *words),
                env={**environment(), "TF_CONFIG": text, "CUDA_VISIBLE_DEVICES": ""},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for text in tf_configs(workers)
        ]
        said = [process.communicate(timeout=300)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * workers, said
        assert "test accuracy" in said[0]
        assert len(history(out)) == settings["epochs"]
    one, two = (history(tmp_path / name)[-1] for name in "12")
    assert float(one["val_loss"]) == pytest.approx(float(two["val_loss"]), abs=1e-4)


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
        (
            tf_config(cluster={"worker": ["http://a:1"]}),
            r"list of host:port, .* got \['http://a:1'\]",
        ),
        (tf_config(cluster={"worker": ["[::1]:1"]}), r"an IPv4 address .* got \['\[::1\]:1'\]"),
        (tf_config(cluster={"worker": [7]}), r"list of host:port, .* got \[7\]"),
        (tf_config(cluster={"worker": ["a:1", "a:1"]}), "each worker once"),
        (tf_config(cluster={"chief": ["a:1", "b:1"]}), "one chief at most"),
        (tf_config(task=None), "`task` of TF_CONFIG is None"),
        (
            tf_config(task={"type": "evaluator", "index": 0}),
            r"the jobs of its cluster \['worker'\]",
        ),
        (
            tf_config(task={"type": ["worker"], "index": 0}),
            r"`task` of TF_CONFIG is {'type': \['worker'\]",
        ),
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


def regression(*more):
    """A compiled model of one weight."""
    model = keras.Sequential([keras.layers.Input((1,)), *more, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_workers_that_differ_keep_the_old_run(trained):
    config = SentimentConfig(**{**trained.settings, "out": str(trained.folder)}, overwrite=True)
    folder, told = RunFolder(trained.folder), []

    def agree(**facts):
        told.append(facts)
        if "seed" in facts:
            raise ValueError("another seed")

    with pytest.raises(ValueError, match="another seed"):
        folder.start(folder.check(config), "a digest", agree)
    assert (trained.folder / "model.keras").exists()
    assert told[0] == {"task": "sentiment", **versions()}
    assert told[1]["data"] == "a digest" and told[1]["units"] == config.units


def test_a_lost_worker_is_a_clear_error():
    team, model = Team(strategy=object()), regression()
    with (
        pytest.raises(ConnectionError, match=r"another worker is gone .* --resume"),
        replicated(team, model, sequences, 1, 1),
    ):
        raise tf.errors.UnavailableError(None, None, "a peer is away")
    assert model.train_function is None


def test_weights_that_no_gradient_reaches_are_refused():
    model = regression(keras.layers.BatchNormalization())
    with (
        pytest.raises(ValueError, match=r"not trained are .*moving_mean, .*moving_variance"),
        replicated(Team(strategy=object()), model, sequences, 1, 1),
    ):
        pass


@pytest.mark.slow
def test_the_benchmark_weighs_what_goes_over_the_wire(tmp_path, capsys):
    text = str(write_sayings(tmp_path / "sayings.txt", 2000))
    options = scaling.Options(
        ("language-model",), text=text, batches=2, rounds=1, out=str(tmp_path)
    )
    scaling.main(options)
    result = json.loads((tmp_path / "scaling.json").read_text("utf-8"))["language-model"]
    one, (two, other) = result["one process"][0], result["two processes"]
    assert one["sent"] == one["sparse"] == 0
    assert two["dense"] == other["dense"] == 4 * one["parameters"]
    # Besides the gradients the states of all lanes, at the end of a round of two steps, and some words.
    for each in (two, other):
        states = 2 * 32 * 256 * 8 / 2
        assert states < each["sent"] - each["dense"] < states + 0.1 * each["dense"] + 20_000
    assert "bytes of a step" in capsys.readouterr().out
