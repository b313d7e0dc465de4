"""`SentimentClassifier`: every cell and reading, strings and numbers, saving, serving, errors."""

import dataclasses
import inspect
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerasrnn
from kerasrnn.applications import SentimentClassifier
from kerasrnn.applications.sentiment.config import SentimentConfig
from tests.cells._helpers import FOUNDATION, NAMES

ROOT = Path(__file__).parents[2]
WORDS = ["the", "film", "was", "great", "dull", "not", "a", "and", ",", "."]
TEXTS = [
    "The film was great.",
    "dull",
    "",
    "  \n ",
    "words that nobody knows",
    "The film was not dull, and not great, and the film was the film.",
    "great <br /> GREAT",
    "🙂",
]

# The same verdict by another way through the same float32 operations.
ATOL = 1e-6
# float16 has 11 bits; a probability comes after a few dozen operations.
ATOL_HALF = 1e-2

READINGS = [("last",), ("mean",), ("max",), ("attention",), ("last", "max", "attention")]


def classifier(vocabulary=WORDS, **arguments) -> SentimentClassifier:
    """A small model with weights that are far from those of the start."""
    model = SentimentClassifier(vocabulary, **{"units": 4, "embedding_dim": 4, **arguments})
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(0, 0.6, weight.shape))
    return model


def probabilities(model, texts) -> np.ndarray:
    return np.asarray(model(tf.constant(texts)))


def assert_probabilities(values, labels: int = 2) -> None:
    values = np.asarray(values)
    assert values.shape[-1] == labels and values.dtype == "float32"
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values.sum(-1), 1, rtol=0, atol=1e-5)


# Cells of every kind: with counters, with a scan, stacked.
SOME = (*FOUNDATION, "clockwork_rnn", "sru", "grid_lstm")


# What it is built of


@pytest.mark.parametrize("cell", NAMES)
def test_every_cell(cell):
    model = classifier(cell=cell)
    values = probabilities(model, TEXTS)
    assert_probabilities(values)
    # It reads: another text gets another verdict, and so does another order of the words.
    assert len(np.unique(values.round(6), axis=0)) >= len(TEXTS) - 2
    reordered = probabilities(model, ["great was the film", "film great the was"])
    assert (np.abs(reordered[0] - reordered[1]) > 1e-4).all()


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_readings_layers_and_directions(reading, bidirectional, num_layers):
    model = classifier(reading=reading, bidirectional=bidirectional, num_layers=num_layers)
    assert_probabilities(probabilities(model, TEXTS))
    directions = 2 if bidirectional else 1
    assert model.verdict.kernel.shape == (4 * directions * len(reading), 2)
    one = cell_parameters(4) + (num_layers - 1) * cell_parameters(4 * directions)
    attention = (4 * directions) ** 2 + 2 * 4 * directions
    assert model.count_params() == (
        (len(WORDS) + 2) * 4
        + one * directions
        + attention * reading.count("attention")
        + (4 * directions * len(reading) + 1) * 2
    )


def cell_parameters(features: int, units: int = 4) -> int:
    cell = kerasrnn.cells.get("coupled_lstm", units)
    cell.build((None, features))
    return cell.count_params()


def test_one_reading_may_be_given_as_a_word():
    assert classifier(reading="mean").reading == ("mean",)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_last_state_is_that_of_the_last_word_read(num_layers):
    """In either direction, whatever the padding behind it."""
    model = classifier(reading="last", num_layers=num_layers)
    ids = np.array([[2, 3, 4]])
    padded = np.pad(ids, [(0, 0), (0, 5)])
    np.testing.assert_allclose(model(ids), model(padded), rtol=0, atol=ATOL)


def test_three_labels():
    labels = ["bad", "so so", "good"]
    model = classifier(labels=labels)
    assert_probabilities(probabilities(model, TEXTS), 3)
    verdict = model.classify(["great"])[0]
    assert list(verdict.probabilities) == labels
    assert verdict.label == max(verdict.probabilities, key=verdict.probabilities.get)
    assert verdict.confidence == verdict.probabilities[verdict.label]


# What goes in


@pytest.mark.parametrize("reading", READINGS)
def test_strings_and_numbers_give_the_same(reading):
    model = classifier(reading=reading)
    ids = model.word_ids(tf.constant(TEXTS))
    assert ids.dtype == tf.int64 and ids.shape[0] == len(TEXTS)
    expected = probabilities(model, TEXTS)
    np.testing.assert_array_equal(model(ids), expected)
    np.testing.assert_array_equal(model(tf.cast(ids, tf.int32)), expected)


@pytest.mark.parametrize("cell", SOME)
def test_a_verdict_does_not_depend_on_the_other_texts_of_the_batch(cell):
    model = classifier(cell=cell, reading=SentimentClassifier.READINGS, num_layers=2)
    together = probabilities(model, [*TEXTS, "film " * 30])
    alone = np.concatenate([probabilities(model, [text]) for text in TEXTS])
    np.testing.assert_allclose(together[: len(TEXTS)], alone, rtol=0, atol=ATOL)


def test_classify_gives_the_texts_in_their_order_whatever_the_batches():
    model = classifier()
    expected = probabilities(model, TEXTS)
    for size in (1, 3, 100):
        verdicts = model.classify(TEXTS, batch_size=size)
        rows = [[v.probabilities["negative"], v.probabilities["positive"]] for v in verdicts]
        np.testing.assert_allclose(rows, expected, rtol=0, atol=ATOL)
    assert model.classify([]) == []


def test_texts_of_no_words_are_alike():
    model = classifier()
    empty, blank, tag = probabilities(model, ["", " \n ", "<br />"])
    np.testing.assert_array_equal(empty, blank)
    np.testing.assert_array_equal(empty, tag)
    one, other = probabilities(model, ["xyzzy", "plugh"])
    np.testing.assert_array_equal(one, other)
    assert (one != empty).any()


@pytest.mark.parametrize("reading", READINGS)
def test_an_empty_batch(reading):
    model = classifier(reading=reading)
    assert model(tf.constant([], tf.string)).shape == (0, 2)
    assert model(tf.zeros((0, 5), tf.int64)).shape == (0, 2)


def test_of_a_long_text_the_start_and_the_end_are_read():
    model = classifier(max_length=8)
    words = [WORDS[number % len(WORDS)] for number in range(10_000)]
    ids = model.word_ids(tf.constant([" ".join(words)]))
    expected = [WORDS.index(word) + 2 for word in (*words[:2], *words[-6:])]
    assert ids.numpy().tolist() == [expected]
    # A text of just that length is read whole, and a shorter one is not stretched.
    for length in (7, 8):
        ids = model.word_ids(tf.constant([" ".join(words[:length])]))
        assert ids.numpy().tolist() == [[WORDS.index(word) + 2 for word in words[:length]]]


def test_ten_thousand_words():
    model = classifier(max_length=400, bidirectional=False)
    assert_probabilities(probabilities(model, ["the film was great " * 2500, "great"]))


def test_bytes_that_are_not_utf8_get_a_verdict():
    assert_probabilities(probabilities(classifier(), [b"caf\xe9 great", b"\xff"]))


# Training


def labelled_batches(count: int = 64) -> tf.data.Dataset:
    """Raw strings with a rule that one word decides: "great" is good and "dull" is bad."""
    random = np.random.default_rng(1)
    texts = []
    for number in range(count):
        words = [*random.choice(["the", "film", "was", "a", "and"], random.integers(1, 8))]
        words.insert(random.integers(len(words) + 1), ["dull", "great"][number % 2])
        texts.append(" ".join(words))
    labels = tf.one_hot(np.arange(count) % 2, 2)
    return tf.data.Dataset.from_tensor_slices((texts, labels)).batch(16)


def test_fit_on_raw_strings_learns_a_rule():
    model = SentimentClassifier(WORDS, cell="gru", units=4, embedding_dim=4, seed=1)
    model.compile(keras.optimizers.Adam(0.03), "categorical_crossentropy", metrics=["accuracy"])
    model.fit(labelled_batches(), epochs=8, verbose=0)
    assert model.evaluate(labelled_batches(), verbose=0, return_dict=True)["accuracy"] == 1
    good, bad = model.classify(["was the film great", "a dull film"])
    assert (good.label, bad.label) == ("positive", "negative")
    values = model.predict(labelled_batches().map(lambda text, label: text), verbose=0)
    assert values.shape == (64, 2)


def test_dropouts_are_at_work_in_training_only_and_the_seed_decides():
    rates = dict.fromkeys(
        ("word_dropout", "type_dropout", "embedding_dropout", "recurrent_dropout", "dropout"), 0.5
    )
    texts = tf.constant(["the film was great"])
    one, same = (classifier(**rates, seed=1, num_layers=2) for _ in range(2))
    first, second = (np.asarray(one(texts, training=True)) for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(first, same(texts, training=True))
    np.testing.assert_array_equal(one(texts), one(texts))
    np.testing.assert_allclose(one(texts), classifier(num_layers=2)(texts), rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    "rate",
    ["word_dropout", "type_dropout", "embedding_dropout", "recurrent_dropout", "dropout"],
)
def test_each_dropout_on_its_own(rate):
    model = classifier(**{rate: 0.5}, seed=1)
    texts = tf.constant(["the film was great and dull"])
    values = [np.asarray(model(texts, training=True)) for _ in range(6)]
    assert len(np.unique(values, axis=0)) > 1
    assert_probabilities(values)


def test_the_layers_start_alike_with_one_seed_and_each_its_own_way():
    def random_weights(seed):
        model = SentimentClassifier(
            WORDS, units=4, embedding_dim=4, num_layers=2, reading=["max", "attention"], seed=seed
        )
        return [value for value in model.get_weights() if value.ndim > 1]

    one = random_weights(1)
    for value, same in zip(one, random_weights(1), strict=True):
        np.testing.assert_array_equal(value, same)
    for value, other in zip(one, random_weights(2), strict=True):
        assert (value != other).any()
    # Nor do two weights of one model start alike: the two directions, above all.
    for value, other in itertools.combinations(one, 2):
        assert value.shape != other.shape or (value != other).any()


def test_the_defaults_are_those_of_the_task():
    parameters = inspect.signature(SentimentClassifier.__init__).parameters
    settings = {f.name: f.default for f in dataclasses.fields(SentimentConfig)}
    shared = set(parameters) & set(settings) - {"seed"}
    assert {"cell", "units", "reading", "dropout", "type_dropout", "max_length"} <= shared
    for name in shared:
        assert parameters[name].default == settings[name], name


def test_a_model_compiled_with_xla_still_gives_verdicts_on_texts():
    model = classifier()
    model.compile(jit_compile=True)
    (verdict,) = model.classify(["a great film"])
    row = model(tf.constant(["a great film"])).numpy()[0]
    assert list(verdict.probabilities.values()) == pytest.approx(list(row), abs=1e-6)


def test_without_a_seed_the_model_follows_keras():
    def weights():
        keras.utils.set_random_seed(5)
        reading = ["max", "attention"]
        return SentimentClassifier(WORDS, units=4, embedding_dim=4, reading=reading).get_weights()

    for one, same in zip(weights(), weights(), strict=True):
        np.testing.assert_array_equal(one, same)


def test_the_two_directions_drop_out_on_their_own():
    model = SentimentClassifier(WORDS, units=4, embedding_dim=4, recurrent_dropout=0.5, seed=1)
    (both,) = model.recurrent
    cells = both.forward_layer.cell, both.backward_layer.cell
    masks = [cell.get_recurrent_dropout_mask(keras.ops.ones((64, 4))).numpy() for cell in cells]
    assert (masks[0] != masks[1]).any()


# Precision


@pytest.mark.parametrize("way", ["argument", "policy"])
def test_mixed_float16(way, tmp_path):
    """As an argument or as Keras's own setting, and a saved model computes as it did."""
    arguments = {"num_layers": 2, "reading": ("last", "mean", "max", "attention")}
    if way == "argument":
        model = classifier(**arguments, dtype="mixed_float16")
    else:
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = classifier(**arguments)
        finally:
            keras.config.set_dtype_policy("float32")
    for layer in (model.embedding, *model.recurrent, *model.pooling):
        assert layer.compute_dtype == "float16", layer.name
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    values = probabilities(model, TEXTS)
    assert_probabilities(values)
    np.testing.assert_allclose(
        values, probabilities(classifier(**arguments), TEXTS), rtol=0, atol=ATOL_HALF
    )
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(probabilities(again, TEXTS), values)


# Saving and serving


def test_config_and_clone():
    arguments = {
        "labels": ["a", "b", "c"],
        "cell": "gru",
        "units": 3,
        "num_layers": 2,
        "bidirectional": False,
        "embedding_dim": 5,
        "reading": ["last", "max"],
        "word_dropout": 0.1,
        "type_dropout": 0.2,
        "embedding_dropout": 0.3,
        "recurrent_dropout": 0.4,
        "dropout": 0.5,
        "max_length": 7,
        "seed": 11,
        "name": "critic",
    }
    model = SentimentClassifier(WORDS, **arguments)
    config = model.get_config()
    assert {name: config[name] for name in arguments} == arguments
    assert config["vocabulary"] == WORDS
    json.dumps(config["vocabulary"])
    again = SentimentClassifier.from_config(config)
    assert again.get_config() == config
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(probabilities(copy, TEXTS), probabilities(model, TEXTS))


IN_A_FRESH_PROCESS = """
import sys
import numpy as np
import keras, kerasrnn
assert "kerasrnn.applications" not in sys.modules
texts = np.load("texts.npy")
for name in sys.argv[1:]:
    model = keras.models.load_model(name + ".keras")
    assert type(model) is kerasrnn.applications.SentimentClassifier
    np.save(name + ".npy", model(keras.ops.convert_to_tensor(texts)))
"""

WITH_PLAIN_TENSORFLOW = """
import sys
import numpy as np
import tensorflow as tf
texts = tf.constant(np.load("texts.npy"))
for name in sys.argv[1:]:
    served = tf.saved_model.load(name).signatures["serving_default"]
    answer = {key: value.numpy() for key, value in served(text=texts).items()}
    none = served(text=tf.constant([], tf.string))
    answer["label"] = [label.decode() for label in answer["label"]]
    assert none["label"].shape == (0,)
    np.savez(name + ".npz", none=none["probabilities"], **answer)
assert not [name for name in sys.modules if name.startswith("kerasrnn")]
"""


def models_of_all_kinds() -> dict[str, SentimentClassifier]:
    models = {cell: classifier(cell=cell) for cell in SOME}
    models["readings"] = classifier(
        reading=("last", "mean", "max", "attention"), num_layers=2, labels=["é", "🙂", "c"]
    )
    models["one_way"] = classifier(
        cell="gru", bidirectional=False, dropout=0.5, type_dropout=0.5, max_length=5
    )
    return models


def test_a_fresh_process_loads_the_model_and_another_serves_it_without_this_package(tmp_path):
    models = models_of_all_kinds()
    np.save(tmp_path / "texts.npy", np.array([text.encode() for text in TEXTS]))
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    expectations = {name: probabilities(model, TEXTS) for name, model in models.items()}
    exported = ["readings", "one_way"]
    for name in exported:
        models[name].export(str(tmp_path / name))
        # The export leaves the model as it was.
        np.testing.assert_array_equal(probabilities(models[name], TEXTS), expectations[name])
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    with_package = environment | {"PYTHONPATH": os.pathsep.join(paths)}
    processes = [
        subprocess.Popen(
            [sys.executable, *options, "-c", script, *names],
            cwd=tmp_path,
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        for options, script, names, env in (
            ([], IN_A_FRESH_PROCESS, [*models], with_package),
            (["-P"], WITH_PLAIN_TENSORFLOW, exported, environment),
        )
    ]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors

    for name, model in models.items():
        expected = expectations[name]
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), expected, err_msg=name)
        if name not in exported:
            continue
        with np.load(tmp_path / f"{name}.npz") as answer:
            np.testing.assert_allclose(
                answer["probabilities"], expected, rtol=0, atol=ATOL, err_msg=name
            )
            np.testing.assert_allclose(answer["confidence"], expected.max(-1), rtol=0, atol=ATOL)
            said = [model.labels[number] for number in expected.argmax(-1)]
            assert answer["label"].tolist() == said
            assert answer["none"].shape == (0, len(model.labels))


def test_keras_other_formats_of_export_are_kerass(tmp_path):
    with pytest.raises(ValueError, match="format"):
        classifier().export(str(tmp_path / "model"), format="floppy disk")


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary": []}, "`vocabulary` must hold at least 1"),
        ({"vocabulary": "abc"}, "`vocabulary` must be a list of words, got the one string 'abc'"),
        (
            {"vocabulary": ["a", "b", "a"]},
            "`vocabulary` must all be different, but 'a' is there twice",
        ),
        ({"labels": ["only"]}, r"`labels` must hold at least 2 names, got \['only'\]"),
        ({"labels": ["a", "a"]}, "`labels` must all be different, but 'a' is there twice"),
        ({"labels": "ab"}, "`labels` must be a list of words, got the one string 'ab'"),
        ({"cell": "couplet_lstm"}, "`cell` was 'couplet_lstm'. Did you mean 'coupled_lstm'"),
        ({"units": 0}, "`units` must be a positive integer, got 0"),
        ({"units": 2.5}, "`units` must be a positive integer, got 2.5"),
        ({"num_layers": 0}, "`num_layers` must be a positive integer, got 0"),
        ({"num_layers": 1.5}, "`num_layers` must be a positive integer, got 1.5"),
        ({"max_length": -1}, "`max_length` must be a positive integer, got -1"),
        ({"max_length": 2.5}, "`max_length` must be a positive integer, got 2.5"),
        ({"embedding_dim": 0}, "`embedding_dim` must be a positive integer, got 0"),
        ({"reading": "first"}, r"`reading` must name some of .*'last'.*got \('first',\)"),
        ({"reading": ()}, r"`reading` must name some of .*got \(\)"),
        ({"word_dropout": 1.0}, "`word_dropout` must be at least 0 and less than 1, got 1.0"),
        ({"type_dropout": -0.1}, "`type_dropout` must be at least 0 and less than 1, got -0.1"),
        ({"embedding_dropout": 2}, "`embedding_dropout` must be at least 0 and less than 1, got 2"),
        ({"recurrent_dropout": 1}, "`recurrent_dropout` must be a fraction.*got 1"),
        ({"dropout": float("nan")}, "`dropout` must be at least 0 and less than 1, got nan"),
    ],
)
def test_an_argument_that_cannot_be_is_named_with_what_was_received(arguments, message):
    with pytest.raises(ValueError, match=message):
        SentimentClassifier(**{"vocabulary": WORDS, "units": 4, "embedding_dim": 4, **arguments})


def test_an_unknown_argument():
    with pytest.raises((TypeError, ValueError), match="unit_count"):
        SentimentClassifier(WORDS, unit_count=4)


def test_classify_wants_a_list():
    with pytest.raises(ValueError, match="`texts` must be a list of strings, got the one string"):
        classifier().classify("great")
