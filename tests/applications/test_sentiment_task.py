"""The task: what a run leaves behind, that its numbers are right, and what is refused."""

import dataclasses
import itertools
import json
import shutil
import struct

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.applications._runs import export
from kerasrnn.applications.sentiment import task
from kerasrnn.applications.sentiment.config import DataConfig, SentimentConfig
from kerasrnn.applications.sentiment.data import load_corpus
from kerasrnn.applications.text import learn_vocabulary
from tests.applications._helpers import SETTINGS, history, write_texts

# A mean over the same texts in other batches.
TOLERANCE = 1e-6
# The same under mixed precision: compiled or not, float16 rounds in other places.
TOLERANCE_HALF = 2e-3


@pytest.fixture(scope="module")
def model(trained):
    return task.load(trained.folder)


@pytest.fixture(scope="module")
def corpus(trained):
    return load_corpus(SentimentConfig(**trained.settings))


def surprise(model, part) -> float:
    """The cross-entropy of a part of a corpus, text by text."""
    verdicts = model.classify(part.texts)
    return float(
        np.mean(
            [
                -np.log(verdict.probabilities[part.label_names[number]])
                for verdict, number in zip(verdicts, part.labels, strict=True)
            ]
        )
    )


# What a run leaves behind


def test_the_folder_is_complete(trained):
    assert {path.name for path in trained.folder.iterdir()} == {
        "checkpoints",
        "config.json",
        "history.csv",
        "learning_curve.png",
        "metrics.json",
        "model.keras",
        "saved_model",
    }


def test_metrics(trained, corpus, model):
    metrics = json.loads((trained.folder / "metrics.json").read_text("utf-8"))
    config = SentimentConfig(out=str(trained.folder), **trained.settings)
    assert metrics == json.loads(json.dumps(trained.metrics))
    assert metrics["config"] == json.loads(json.dumps(dataclasses.asdict(config)))
    assert metrics["keras"] == keras.__version__ and metrics["tensorflow"] == tf.__version__
    assert metrics["texts"] == {name: len(part) for name, part in corpus._asdict().items()}
    assert metrics["parameters"] == model.count_params()
    assert metrics["train_seconds"] > 0
    rows = history(trained.folder)
    losses = [row["val_cross_entropy"] for row in rows]
    assert metrics["epochs"] == len(rows)
    assert metrics["best_epoch"] == 1 + losses.index(min(losses))


def test_the_numbers_are_those_of_the_saved_model(trained, corpus, model):
    """Counted anew, text by text: so what was measured is what was saved."""
    verdicts = model.classify(corpus.test.texts)
    true = [corpus.test.label_names[number] for number in corpus.test.labels]
    hits = np.mean([verdict.label == label for verdict, label in zip(verdicts, true, strict=True)])
    assert trained.metrics["test_accuracy"] == pytest.approx(hits, abs=TOLERANCE)
    assert trained.metrics["test_loss"] == pytest.approx(
        surprise(model, corpus.test), abs=TOLERANCE
    )
    assert trained.metrics["test_accuracy"] > 0.6  # the rule is a simple one


def test_the_best_epoch_is_the_one_that_is_saved(trained, corpus, model):
    """With the averaged weights that validation saw."""
    row = history(trained.folder)[trained.metrics["best_epoch"] - 1]
    assert row["val_cross_entropy"] == pytest.approx(
        surprise(model, corpus.validation), abs=TOLERANCE
    )


def test_the_vocabulary_comes_from_the_training_part_alone(corpus, model, trained):
    words = model.get_config()["vocabulary"]
    assert words == learn_vocabulary(corpus.train.texts, trained.settings["vocabulary_size"])


def test_the_history(trained):
    rows = history(trained.folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(row)
        assert all(np.isfinite(float(value)) for value in row.values())


def test_the_picture_is_one(trained):
    data = (trained.folder / "learning_curve.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert width >= 800 and height >= 300
    pixels = tf.io.decode_png(data).numpy()
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 10  # something is drawn


def test_the_saved_model_says_what_the_model_says(trained, model):
    texts = ["a great film", "dull", "", "nobody knows this"]
    served = tf.saved_model.load(str(trained.folder / "saved_model")).signatures["serving_default"]
    answer = served(text=tf.constant(texts))
    for number, verdict in enumerate(model.classify(texts)):
        assert answer["label"][number].numpy().decode() == verdict.label
        assert float(answer["confidence"][number]) == pytest.approx(verdict.confidence, abs=1e-6)


# Another run: one that can only learn by heart, in 16 bits, with logs


@pytest.fixture(scope="module")
def hopeless(trained, tmp_path_factory):
    """Labels by chance: the better the training part is known, the worse is the validation."""
    place, random = tmp_path_factory.mktemp("hopeless"), np.random.default_rng(0)
    rows = [
        f"{' '.join(f'w{n}' for n in random.integers(0, 40, 8))},{'good' if number % 2 else 'bad'}"
        for number in range(120)
    ]
    (place / "texts.csv").write_text("\n".join(["text,label", *rows]), "utf-8")
    no_dropout = {name: 0.0 for name in SETTINGS if name.endswith("dropout")}
    settings = trained.settings | no_dropout
    settings |= {
        "out": str(place / "run"),
        "dataset": str(place / "texts.csv"),
        "cell": "simple_rnn",
        "bidirectional": False,
        "epochs": 20,
        "patience": 2,
        "learning_rate": 0.2,
        "tensorboard": True,
        "precision": "mixed_float16",
    }
    return place / "run", task.train(SentimentConfig(**settings))


def test_a_run_that_gets_no_better_stops_and_its_best_epoch_is_saved(hopeless):
    out, metrics = hopeless
    assert metrics["epochs"] == len(history(out)) < 20
    assert metrics["best_epoch"] == metrics["epochs"] - 2
    validation = load_corpus(SentimentConfig(**metrics["config"])).validation
    row = history(out)[metrics["best_epoch"] - 1]
    assert row["val_cross_entropy"] == pytest.approx(
        surprise(task.load(out), validation), abs=TOLERANCE_HALF
    )
    last = history(out)[-1]["val_cross_entropy"]
    assert abs(row["val_cross_entropy"] - last) > 10 * TOLERANCE_HALF


def test_logs_for_tensorboard(hopeless, trained):
    out, _ = hopeless
    for part in ("train", "validation"):
        (events,) = (out / "tensorboard" / part).glob("events.out.tfevents.*")
        tags = {
            value.tag
            for event in tf.compat.v1.train.summary_iterator(str(events))
            for value in event.summary.value
        }
        assert "epoch_loss" in tags
    assert not (trained.folder / "tensorboard").exists()


def test_mixed_precision_is_the_models_and_stays_with_it(hopeless):
    out, metrics = hopeless
    assert keras.config.dtype_policy().name == "float32"
    model = task.load(out)
    assert model.recurrent[0].compute_dtype == "float16"
    assert task.evaluate(out, show_progress=False)["loss"] == pytest.approx(
        metrics["test_loss"], abs=TOLERANCE_HALF
    )


# What is refused, before anything is written


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"cell": "peephole_ltsm"}, "`cell` was 'peephole_ltsm'. Did you mean 'peephole_lstm'"),
        ({"units": 0}, "`units` must be a positive integer, got 0"),
        ({"epochs": 0}, "`epochs` must be at least 1, got 0"),
        ({"epochs": -3}, "`epochs` must be at least 1, got -3"),
        ({"patience": 0}, "`patience` must be at least 1, got 0"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"vocabulary_size": 0}, "`vocabulary_size` must be at least 1, got 0"),
        ({"max_length": 0}, "`max_length` must be a positive integer, got 0"),
        ({"learning_rate": -1.0}, "`learning_rate` must not be negative, got -1.0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must not be negative, got nan"),
        ({"averaging": -1.0}, "`averaging` must not be negative, got -1.0"),
        ({"label_smoothing": 1.0}, "`label_smoothing` must be at least 0 and less than 1, got 1.0"),
        ({"word_dropout": 1.0}, "`word_dropout` must be at least 0 and less than 1, got 1.0"),
        ({"test_fraction": 0.0}, "`test_fraction` must lie between 0 and 1, got 0.0"),
        ({"reading": ()}, "`reading` must name some of"),
        ({"text_column": "body"}, "there is no column 'body'; the columns are 'text', 'label'"),
        ({"dataset": "nowhere.csv"}, "There is no file nowhere.csv"),
        ({"resume": True}, "There is no run in .* to go on with"),
    ],
)
def test_a_wrong_setting_is_named_and_no_folder_is_made(trained, tmp_path, setting, message):
    out = tmp_path / "run"
    settings = {"out": str(out), "dataset": str(trained.dataset), **setting}
    with pytest.raises((ValueError, OSError), match=message):
        task.train(SentimentConfig(**settings))
    assert not out.exists()


def test_a_wrong_setting_spares_the_run_that_was_to_be_overwritten(trained):
    before = sorted(p.name for p in trained.folder.rglob("*"))
    settings = trained.settings | {"out": str(trained.folder), "overwrite": True, "cell": "no"}
    with pytest.raises(ValueError, match="`cell` was 'no'"):
        task.train(SentimentConfig(**settings))
    assert sorted(p.name for p in trained.folder.rglob("*")) == before


# Measuring


def test_evaluate_gives_the_numbers_of_the_training(trained, corpus, model):
    scores = task.evaluate(trained.folder, show_progress=False)
    assert scores["accuracy"] == pytest.approx(trained.metrics["test_accuracy"], abs=TOLERANCE)
    assert scores["loss"] == pytest.approx(trained.metrics["test_loss"], abs=TOLERANCE)
    assert scores["texts"] == len(corpus.test)
    table = scores["confusion"]
    assert list(table) == ["bad", "good"]
    for number, label in enumerate(table):
        assert sum(table[label].values()) == (corpus.test.labels == number).sum()
    right = sum(table[label][label] for label in table)
    assert right / len(corpus.test) == pytest.approx(scores["accuracy"])


def test_evaluate_on_other_texts(trained, tmp_path):
    """All of them, as there is no test part; in columns of any name; of one label, or one text."""
    other = write_texts(tmp_path / "other.csv", count=40)
    data = DataConfig(dataset=str(other))
    scores = task.evaluate(trained.folder, data, show_progress=False)
    assert (scores["texts"], scores["part"], scores["dataset"]) == (40, "all", str(other))
    content = other.read_text("utf-8")
    other.write_text(content.replace("text,label", "body,stars"), "utf-8")
    data = DataConfig(dataset=str(other), text_column="body", label_column="stars")
    assert task.evaluate(trained.folder, data, show_progress=False) == scores
    other.write_text(content.replace(",good", ",fine"), "utf-8")
    with pytest.raises(ValueError, match=r"has the labels \('bad', 'fine'\), the model .*'good'"):
        task.evaluate(trained.folder, DataConfig(dataset=str(other)), show_progress=False)
    other.write_text("text,label\na great film,good\n", "utf-8")
    scores = task.evaluate(trained.folder, DataConfig(dataset=str(other)), show_progress=False)
    assert scores["texts"] == 1 and sum(scores["confusion"]["good"].values()) == 1


def test_evaluate_notices_that_the_data_set_has_changed(trained, tmp_path):
    """Cut anew, it would hold out texts that the model was trained on."""
    run, texts = tmp_path / "run", tmp_path / "texts.csv"
    shutil.copytree(trained.folder, run)
    content = json.loads((run / "config.json").read_text("utf-8"))
    content["config"]["dataset"] = str(texts)
    (run / "config.json").write_text(json.dumps(content))
    shutil.copy(trained.dataset, texts)
    assert task.evaluate(run, show_progress=False)["texts"] == 30
    with texts.open("a", encoding="utf-8") as file:
        file.write("another film,good\n")
    with pytest.raises(ValueError, match=r"The data set has changed since the run in .*run began"):
        task.evaluate(run, show_progress=False)
    with pytest.raises(ValueError, match=r"The data set has changed since the run in .*run began"):
        task.train(SentimentConfig(out=str(run), resume=True))


def test_evaluate_on_a_set_with_a_test_part(trained, tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        for label in ("bad", "good"):
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(count):
                (tmp_path / part / label / f"{number}.txt").write_text("a film")
    data = DataConfig(dataset=str(tmp_path))
    scores = task.evaluate(trained.folder, data, show_progress=False)
    assert (scores["texts"], scores["part"]) == (4, "test")


def test_evaluate_a_keras_file(trained):
    path = trained.folder / "model.keras"
    with pytest.raises(ValueError, match=r"`dataset` is needed: .*model.keras does not say"):
        task.evaluate(path, show_progress=False)
    data = DataConfig(dataset=trained.settings["dataset"])
    assert task.evaluate(path, data, show_progress=False)["texts"] == 120
    with pytest.raises(ValueError, match=r"'reviews' has the labels .*the model \('bad', 'good'\)"):
        task.evaluate(path, DataConfig(dataset="reviews"), show_progress=False)


# Predicting, exporting, loading


def test_predict_keeps_the_order_and_takes_texts_as_they_come(model):
    texts = (f"{'great' if number % 3 else 'dull'} film {number}" for number in itertools.count())
    got = list(itertools.islice(task.predict(model, texts, batch_size=4), 10))
    assert [text for text, _ in got] == [
        f"{'great' if number % 3 else 'dull'} film {number}" for number in range(10)
    ]
    assert next(texts).endswith(" 12")  # three batches of four, and no further
    expected = model.classify([text for text, _ in got])
    for (_, verdict), other in zip(got, expected, strict=True):
        assert verdict.label == other.label
        assert verdict.confidence == pytest.approx(other.confidence, abs=TOLERANCE)


def test_export_refuses_what_is_there_and_what_is_no_saved_model(trained, tmp_path):
    out = tmp_path / "deep" / "served"
    export(trained.folder, out)
    assert (out / "saved_model.pb").is_file()
    with pytest.raises(FileExistsError, match=r"`out` is there already: .*served.*--overwrite"):
        export(trained.folder, out)
    (out / "stale").write_text("of an older version")
    export(trained.folder, out, overwrite=True)
    assert (out / "saved_model.pb").is_file() and not (out / "stale").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    for path in (tmp_path / "thesis", trained.folder, trained.dataset):
        with pytest.raises(FileExistsError, match=r"is no SavedModel: .*does not delete that"):
            export(trained.folder, path, overwrite=True)
    assert (tmp_path / "thesis" / "thesis.txt").is_file()


def test_load_says_what_is_missing_or_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no trained model at .*none"):
        task.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no file .*model.keras"):
        task.load(tmp_path)
    other = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    other.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="holds a Sequential, not a SentimentClassifier"):
        task.load(tmp_path)


def test_the_settings_of_these_tests_are_settings():
    """So that one that is renamed does not go unnoticed."""
    assert set(SETTINGS) <= {field.name for field in dataclasses.fields(SentimentConfig)}
