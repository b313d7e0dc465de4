"""A run's folder: its states, the rests of killed writers, resuming, and disks that fill up."""

import dataclasses
import json
import re
import resource
import shutil
import signal
from pathlib import Path

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn.applications._runs import (
    Recorder,
    RunConfig,
    RunFolder,
    export,
    save_model,
)
from kerasrnn.applications.sentiment import task
from kerasrnn.applications.sentiment.config import SentimentConfig
from kerasrnn.applications.sentiment.data import load_corpus
from tests.applications._helpers import (
    assert_alike,
    assert_the_same_run,
    flags,
    history,
    start,
    wait_for,
)


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    """A copy of the shared run, to be damaged."""
    return Path(shutil.copytree(trained.folder, tmp_path / "run"))


def resumed(folder: Path, **settings) -> RunFolder:
    """The folder as `train` sees it before it goes on."""
    run = RunFolder(folder)
    config = run.check(SentimentConfig(out=str(folder), resume=True, **settings))
    run.start(config, load_corpus(config).digest())
    return run


# The rests of killed writers


def test_the_rest_of_a_killed_writer_is_cleared_away_when_the_run_goes_on(copy):
    for place in (copy, copy / "checkpoints"):
        (place / ".kerasrnn-x" / "model").mkdir(parents=True)
        (place / ".kerasrnn-x" / "model" / "half").write_text("half")
    (copy / "part-of-mine").write_text("a stranger's")
    resumed(copy)
    assert not list(copy.rglob(".kerasrnn*")) and (copy / "part-of-mine").exists()


# Disks that fill up: the system itself refuses to write more than so many bytes to a file.


def test_a_full_disk_while_the_model_is_saved(trained, tmp_path):
    """For each of the two files of a model: an error that says so, and the old one stays."""
    model = task.load(trained.folder)
    save_model(model, tmp_path)
    kept = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    for write, name in (
        (lambda: save_model(model, tmp_path), "model.keras"),
        (lambda: export(trained.folder, tmp_path / "saved_model", True), "saved_model"),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, most))
        try:
            with pytest.raises(OSError, match="what was there is kept") as raised:
                write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        assert str(tmp_path / name) in str(raised.value)
        assert "File too large" in str(raised.value)
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == kept


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux's prlimit")
@pytest.mark.slow
def test_a_disk_that_fills_up_in_training(trained, tmp_path):
    """One clear line, status 2, the checkpoint before is whole, and the run can go on from it."""
    run = tmp_path / "run"
    process = start(tmp_path, "train", "sentiment", *flags(**trained.settings, out=run))
    wait_for(run / "checkpoints" / "epoch-0001.npz", process)
    # From now on no file may be larger than the history, which is smaller than a checkpoint.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (3000, 3000))
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    # After what TensorFlow itself may write there.
    assert "Traceback" not in errors
    assert re.fullmatch(
        r"kerasrnn: error: Could not write .*epoch-000\d.npz \(File too large\); "
        r"what was there is kept\.",
        errors.strip().splitlines()[-1],
    ), errors
    left = sorted(p.name for p in (run / "checkpoints").iterdir())
    assert left and all(re.fullmatch(r"epoch-000[1-4]\.npz", name) for name in left)

    metrics = task.train(SentimentConfig(out=str(run), resume=True))
    assert metrics["epochs"] == trained.settings["epochs"]
    assert_alike(history(run), history(trained.folder), "history")
    assert_alike(metrics["test_loss"], trained.metrics["test_loss"], "test_loss")


# The states of a folder


def test_a_new_folder_is_made_at_the_start_and_not_before(tmp_path):
    folder = RunFolder(tmp_path / "a" / "run")
    config = folder.check(RunConfig(out=str(folder.path)))
    assert not (tmp_path / "a").exists()
    folder.start(config)
    saved = json.loads((folder.path / "config.json").read_text("utf-8"))
    assert saved["config"] == folder.saved_config() == dataclasses.asdict(config)
    assert saved["kerasrnn"] == kerasrnn.__version__ and saved["keras"] == keras.__version__
    empty = tmp_path / "empty"
    empty.mkdir()
    RunFolder(empty).start(RunFolder(empty).check(RunConfig()))


def test_a_folder_that_holds_a_run_is_refused(trained):
    for out in (trained.folder, f"{trained.folder}/"):
        with pytest.raises(
            FileExistsError, match=r"already holds a run.*--resume.*--overwrite"
        ) as e:
            RunFolder(out).check(SentimentConfig(out=str(out)))
        assert str(trained.folder) in str(e.value)


def test_overwrite_throws_the_old_run_away(copy):
    folder, config = RunFolder(copy), SentimentConfig(out=str(copy), overwrite=True, seed=9)
    folder.check(config)
    assert (copy / "model.keras").exists()  # not yet
    folder.start(config)
    assert [p.name for p in copy.iterdir()] == ["config.json"]
    assert folder.saved_config()["seed"] == 9


def test_overwrite_does_not_delete_what_is_not_a_run(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    # Many a folder has a config.json that another program wrote.
    for content in (None, "{}", "[1]", "not JSON", '{"config": {"seed": 1}}', "\xff"):
        if content is not None:
            (tmp_path / "config.json").write_text(content, "latin1")
        with pytest.raises(FileExistsError, match=r"not a run; --overwrite does not delete that"):
            RunFolder(tmp_path).check(RunConfig(overwrite=True))
        assert (tmp_path / "thesis.txt").exists()


def test_without_matplotlib_a_run_has_no_picture(tmp_path, no_matplotlib, capsys):
    folder = RunFolder(tmp_path)
    folder.history = [{"epoch": 1, "loss": 1.0, "val_loss": 2.0}]
    folder.draw_history()
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and 'pip install "kerasrnn[plot]"' in said
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_folder(tmp_path):
    path = tmp_path / "run"
    path.write_text("a file")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match=r"`out` must be a folder, but .*run is a file"):
            RunFolder(path).check(RunConfig(overwrite=overwrite))


def test_resume_and_overwrite_contradict_each_other(trained):
    with pytest.raises(ValueError, match=r"`resume` .* `overwrite` .*choose one"):
        RunFolder(trained.folder).check(RunConfig(resume=True, overwrite=True))


# Resuming


@pytest.mark.parametrize("there", ["nothing", "folder", "other files"])
def test_no_run_to_go_on_with(tmp_path, there):
    path = tmp_path / "run"
    if there != "nothing":
        path.mkdir()
    if there == "other files":
        (path / "notes.txt").write_text("not a run")
    with pytest.raises(FileNotFoundError, match=r"There is no run in .*run to go on with"):
        RunFolder(path).check(RunConfig(resume=True))


def test_what_is_not_given_again_is_as_it_was(trained):
    out = str(trained.folder)
    config = RunFolder(out).check(SentimentConfig(out=out, resume=True))
    assert config == SentimentConfig(out=out, resume=True, **trained.settings)
    # And it may be given again, as long as it is the same.
    again = SentimentConfig(out=out, resume=True, tensorboard=True, **trained.settings)
    assert RunFolder(out).check(again) == again


def test_a_run_of_another_task_or_a_damaged_one_is_not_gone_on_with(copy):
    file = copy / "config.json"
    content = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(content | {"task": "cooking"}))
    with pytest.raises(ValueError, match=r"is one of 'cooking', not of 'sentiment'"):
        resumed(copy)
    file.write_text(json.dumps(content)[:50])
    with pytest.raises(ValueError, match=r"config.json is damaged, or is not the configuration"):
        resumed(copy)


def test_going_on_says_with_which_settings(copy, capsys):
    task.train(SentimentConfig(out=str(copy), resume=True))
    said = capsys.readouterr().out
    assert "going on after epoch 5" in said and "units 4" in said and "learning_rate 0.02" in said


def test_a_data_set_may_have_moved(copy):
    config = RunFolder(copy).check(SentimentConfig(resume=True, data_dir="elsewhere"))
    assert config.data_dir == "elsewhere"
    content = json.loads((copy / "config.json").read_text("utf-8"))
    content["config"]["data_dir"] = "here"
    (copy / "config.json").write_text(json.dumps(content))
    assert RunFolder(copy).check(SentimentConfig(resume=True)).data_dir == "here"


@pytest.mark.parametrize("name, value", [("units", 5), ("seed", 4), ("reading", ("last", "max"))])
def test_a_setting_that_contradicts_the_run_is_named_with_both_values(trained, name, value):
    out = str(trained.folder)
    with pytest.raises(ValueError) as raised:
        RunFolder(out).check(SentimentConfig(out=out, resume=True, **{name: value}))
    message = str(raised.value)
    began = json.loads(json.dumps(trained.settings[name]))
    assert f"`{name}` is {value!r}" in message and f"began with {began!r}" in message


def test_a_run_of_an_older_version_lacks_a_setting(copy):
    """Then the setting is what is given."""
    saved = json.loads((copy / "config.json").read_text("utf-8"))
    del saved["config"]["label_smoothing"]
    (copy / "config.json").write_text(json.dumps(saved))
    config = RunFolder(copy).check(SentimentConfig(resume=True, label_smoothing=0.2))
    assert config.label_smoothing == 0.2


def test_an_epoch_counts_when_its_checkpoint_is_there_too(copy):
    """The history is written first: a run may be killed between the two."""
    assert [row["epoch"] for row in resumed(copy).history] == [1, 2, 3, 4, 5]
    checkpoints = sorted((copy / "checkpoints").iterdir())
    checkpoints[-1].rename(copy / "checkpoints" / "epoch-0004.npz")
    assert [row["epoch"] for row in resumed(copy).history] == [1, 2, 3, 4]
    shutil.rmtree(copy / "checkpoints")
    assert resumed(copy).history == []


def test_a_history_that_is_shorter_than_the_checkpoints(copy):
    """Nothing says what the later epochs brought, so they do not count."""
    lines = (copy / "history.csv").read_text().splitlines(keepends=True)
    for path in (copy / "checkpoints").iterdir():
        path.rename(path.with_name("epoch-0005.npz"))
    shutil.copy(copy / "checkpoints" / "epoch-0005.npz", copy / "checkpoints" / "epoch-0002.npz")
    (copy / "history.csv").write_text("".join(lines[:4]))
    assert [row["epoch"] for row in resumed(copy).history] == [1, 2]
    (copy / "history.csv").unlink()
    assert resumed(copy).history == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],  # cut off within a row
        lambda text: text.replace("0.", "zero"),
        lambda text: text.replace("epoch,", "epochs,"),
    ],
)
def test_a_damaged_history_is_named(copy, damage):
    path = copy / "history.csv"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=r"history.csv is damaged: .*--overwrite"):
        resumed(copy)


@pytest.mark.parametrize("damage", ["cut off", "empty", "not an archive", "missing"])
def test_a_damaged_checkpoint_is_named(copy, damage, trained):
    run = resumed(copy)
    best = run.best_epoch("val_loss")
    path = copy / "checkpoints" / f"epoch-{best:04d}.npz"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {"cut off": content[: len(content) // 2], "empty": b"", "not an archive": b"?" * 99}[
                damage
            ]
        )
    model = task.load(trained.folder)
    model.compile(keras.optimizers.Adam(use_ema=True))
    with pytest.raises(ValueError, match=rf"checkpoint .*epoch-{best:04d}.npz cannot be read"):
        run.load_state(model, best)


def test_a_checkpoint_made_from_other_data_is_named(copy):
    """As when the data set has changed, and the vocabulary with it."""
    run = resumed(copy)
    model = task.build(
        SentimentConfig(units=4, embedding_dim=4), ["other", "words"], ["bad", "good"]
    )
    model.compile(keras.optimizers.Adam(use_ema=True))
    with pytest.raises(ValueError, match="was made from other data"):
        run.load_state(model, run.best_epoch("val_loss"))


# The recorder, with a model of one weight


def regression(tmp_path, rates, patience=10, **settings):
    """Fit one weight with a learning rate for each epoch; gives the run and what `fit` raised."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].set_weights([np.array([[0.0]])])
    model.compile(keras.optimizers.SGD(1.0), "mse", metrics=["mae"])
    run = RunFolder(tmp_path / "run")
    run.start(RunConfig())
    x = np.ones((8, 1), "float32")
    model.fit(
        x,
        x,
        validation_data=(x, x),
        epochs=len(rates),
        batch_size=8,
        verbose=0,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch, _: rates[epoch]),
            Recorder(run, "val_loss", patience),
        ],
    )
    return run


def test_a_training_that_breaks_down_says_so_and_keeps_the_epoch_before(tmp_path):
    with pytest.raises(ValueError, match=r"`val_loss` became (nan|inf) in epoch 3.*learning rate"):
        regression(tmp_path, [0.1, 0.1, 1e38, 0.1])
    path = tmp_path / "run"
    with pytest.raises(ValueError, match=r"in epoch 1.*smaller learning rate\.$"):
        regression(tmp_path / "other", [1e38])
    assert [row["epoch"] for row in history(path)] == [1, 2]
    with np.load(path / "checkpoints" / "epoch-0002.npz") as arrays:
        assert all(np.isfinite(arrays[name]).all() for name in arrays)


def test_training_stops_after_so_many_epochs_without_a_better_one(tmp_path):
    # The third epoch throws the weight to the other side, and the next ones do not bring it back.
    run = regression(tmp_path, [0.1, 0.1, 1.5, 0.0, 0.0, 0.0, 0.0], patience=2)
    assert len(run.history) == 4 and run.best_epoch("val_loss") == 2
    assert Recorder(run, "val_loss", 2).is_over()
    assert not Recorder(run, "val_loss", 3).is_over()
    # The best epoch, to measure; the last one, to go on from.
    assert sorted(p.name for p in (run.path / "checkpoints").iterdir()) == [
        "epoch-0002.npz",
        "epoch-0004.npz",
    ]


def test_the_history_has_a_row_for_each_epoch(tmp_path):
    run = regression(tmp_path, [0.1] * 3)
    assert history(run.path) == [
        {name: value for name, value in row.items() if name != "seconds"} for row in run.history
    ]
    assert {"epoch", "loss", "mae", "val_loss", "val_mae"} <= set(history(run.path)[0])
    run.draw_history()
    assert (run.path / "learning_curve.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


# A process that is killed


@pytest.mark.slow  # Its quick form, in one process, is among the tests of the labeler.
def test_a_killed_run_that_goes_on_ends_as_one_that_was_not_killed(trained, tmp_path):
    """Killed in the midst of it, and gone on with by the command line, in processes of their own."""
    run = tmp_path / "run"
    process = start(tmp_path, "train", "sentiment", *flags(**trained.settings, out=run))
    wait_for(run / "checkpoints" / "epoch-0002.npz", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (run / "metrics.json").exists()

    process = start(tmp_path, "train", "sentiment", "--out", run, "--resume")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert re.search("going on after epoch [1-5] of the run", output)
    *_, verdicts = output.partition("what the SavedModel says in a fresh process")
    assert all(re.search(rf"(bad|good) +[\d.]+%  {text}", verdicts) for text in task.EXAMPLES)

    assert_the_same_run(run, trained.folder, task.load)


def test_a_finished_run_that_goes_on_stays_as_it_is(copy, trained):
    before = history(copy)
    metrics = task.train(SentimentConfig(out=str(copy), resume=True))
    assert history(copy) == before
    assert_alike(metrics["test_loss"], trained.metrics["test_loss"], "test_loss")
    assert metrics["epochs"] == trained.metrics["epochs"]
