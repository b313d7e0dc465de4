"""Metrics of labelled sequences, against seqeval and by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import metrics, tagging

LETTERS = {"BIO": "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU"}
ENTITY = [metrics.EntityPrecision, metrics.EntityRecall, metrics.EntityF1]
NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def names_of(scheme):
    return ["O", *(f"{letter}-{kind}" for kind in ("PER", "LOC") for letter in LETTERS[scheme])]


def random_batches(labels, seed=0, holes=False):
    """Three batches of other lengths: right labels, similar predictions, and what is valid."""
    generator = np.random.default_rng(seed)
    for batch, time in ((4, 7), (6, 1), (5, 12)):
        true = generator.integers(labels, size=(batch, time))
        changed = generator.random((batch, time)) < 0.25
        predicted = np.where(changed, generator.integers(labels, size=(batch, time)), true)
        lengths = generator.integers(time + 1, size=(batch, 1))
        valid = generator.random((batch, time)) < 0.7 if holes else np.arange(time) < lengths
        yield true, predicted, valid


def seqeval_scores(names, batches, entity_type=None):
    """Micro averages, or the scores of one type. seqeval knows L and U by the names E and S only."""
    sequence_labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    score = sequence_labeling.precision_recall_fscore_support
    same = {"L": "E", "U": "S"}
    names = [same.get(name[0], name[0]) + name[1:] for name in names]
    true, predicted = (
        [
            [names[label] for label in row[keep]]
            for batch in batches
            for row, keep in zip(batch[part], batch[2], strict=True)
        ]
        for part in (0, 1)
    )
    if entity_type is None:
        return score(true, predicted, average="micro")[:3]
    kinds = sorted({span.type for row in true + predicted for span in tagging.spans(row, "BIOES")})
    return [column[kinds.index(entity_type)] for column in score(true, predicted, average=None)[:3]]


def our_scores(names, batches, scheme="BIO", entity_type=None):
    found = []
    for metric_class in ENTITY:
        metric = metric_class(names, scheme, entity_type)
        for true, predicted, valid in batches:
            metric.update_state(true, predicted, sample_weight=valid)
        found.append(float(metric.result()))
    return found


@pytest.mark.parametrize("holes", [False, True], ids=["padding", "holes"])
@pytest.mark.parametrize("scheme", tagging.SCHEMES)
def test_entity_scores_are_seqevals(scheme, holes):
    names = names_of(scheme)
    for seed in range(3):
        batches = list(random_batches(len(names), seed, holes))
        expected = seqeval_scores(names, batches)
        assert 0 < expected[2] < 1
        np.testing.assert_allclose(our_scores(names, batches, scheme), expected, rtol=1e-6)


def test_the_scores_of_one_type_are_seqevals():
    batches = list(random_batches(len(NAMES)))
    for kind in ("PER", "LOC"):
        expected = seqeval_scores(NAMES, batches, kind)
        np.testing.assert_allclose(our_scores(NAMES, batches, "BIO", kind), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("true", "predicted", "right", "found", "there"),
    [
        # The right type, one step too long: wrong, though most steps are right.
        ("B-PER I-PER O O B-LOC", "B-PER I-PER I-PER O B-LOC", 1, 2, 2),
        # The right steps, with another type.
        ("B-PER I-PER O", "B-LOC I-LOC O", 0, 1, 1),
        # Two beside each other, or one.
        ("B-PER B-PER I-PER", "B-PER I-PER I-PER", 0, 1, 2),
        # Two that make up one: both ends are there, but not of one entity.
        ("B-PER I-PER I-PER", "B-PER B-PER I-PER", 0, 2, 1),
        # A lone I begins an entity, as in conlleval; so does another type.
        ("B-PER I-PER B-LOC", "I-PER I-PER I-LOC", 2, 2, 2),
        ("O O O", "O O O", 0, 0, 0),
        ("B-PER I-PER I-PER", "B-PER I-PER I-PER", 1, 1, 1),
    ],
)
def test_entities_by_hand(true, predicted, right, found, there):
    rows = [[[NAMES.index(label) for label in text.split()]] for text in (true, predicted)]
    metric = metrics.EntityF1(NAMES)
    metric.update_state(*rows)
    assert metric.counts.numpy().tolist() == [right, found, there]
    expected = 2 * right / (found + there) if found + there else 0
    assert float(metric.result()) == pytest.approx(expected)


def test_skipped_steps_are_as_if_they_were_not_there():
    """On the left, on the right and in between, whatever they hold."""
    true, predicted = [[9, 1, 9, 2, 0, -1]], [[0, 1, -7, 2, 3, 99]]
    metric = metrics.EntityF1(NAMES)
    metric.update_state(true, predicted, sample_weight=[[0, 1, 0, 1, 1, 0]])
    assert metric.counts.numpy().tolist() == [1, 2, 1]
    metric.reset_state()
    metric.update_state(true, predicted, sample_weight=[0])
    assert metric.counts.numpy().tolist() == [0, 0, 0]
    assert float(metric.result()) == 0
    # Nothing at all is nothing as well.
    for shape in ((0, 5), (3, 0)):
        metric.update_state(np.zeros(shape), np.zeros(shape))
        assert float(metric.result()) == 0


def test_forms_of_labels_and_weights_make_no_difference():
    true, predicted, valid = next(random_batches(len(NAMES)))
    scores = keras.ops.one_hot(predicted, len(NAMES)) * 3 - 7
    for metric in (metrics.TokenAccuracy(), metrics.EntityF1(NAMES, dtype="float16")):
        metric.update_state(true, predicted, valid)
        expected = metric.counts.numpy()
        for y_true, y_pred, weight in (
            (true[..., None], predicted, valid.astype("float32")),
            (true.astype("float32"), scores, valid[..., None]),
            (tf.constant(true, tf.int64), predicted.astype("uint8"), valid.tolist()),
        ):
            metric.reset_state()
            metric.update_state(y_true, y_pred, weight)
            np.testing.assert_array_equal(metric.counts.numpy(), expected)
        for rows in (valid.any(axis=1), valid.any(axis=1)[:, None]):
            metric.reset_state()
            metric.update_state(true, predicted, rows)
            by_rows = metric.counts.numpy()
            metric.reset_state()
            metric.update_state(true, predicted, np.broadcast_to(rows.reshape(-1, 1), true.shape))
            np.testing.assert_array_equal(metric.counts.numpy(), by_rows)


def test_token_accuracy_counts_steps_over_all_batches():
    metric, plain = metrics.TokenAccuracy(), metrics.TokenAccuracy(ignore=2)
    right = steps = right_of_some = some = 0
    for true, predicted, valid in random_batches(4):
        metric.update_state(true, predicted, valid)
        plain.update_state(true, predicted, valid)
        right += np.sum((true == predicted) & valid)
        steps += np.sum(valid)
        right_of_some += np.sum((true == predicted) & valid & (true != 2))
        some += np.sum(valid & (true != 2))
    assert float(metric.result()) == pytest.approx(right / steps)
    assert float(plain.result()) == pytest.approx(right_of_some / some)
    assert some < steps
    weighted = metrics.TokenAccuracy()
    weighted.update_state([[1, 1, 0]], [[1, 0, 0]], [[3.0, 0.5, 0.5]])
    assert float(weighted.result()) == pytest.approx(3.5 / 4)
    assert float(metrics.TokenAccuracy().result()) == 0


# In a model.

WORDS = np.array([[1, 2, 3, 4, 0, 0], [5, 5, 1, 2, 4, 3], [4, 0, 0, 0, 0, 0], [3, 1, 0, 0, 0, 0]])


GIVEN = np.array([0, 1, 2, 3, 2, 0])[WORDS]  # The label that the model gives to each word.


def model_and_scores(**compiled):
    """A model with a mask and fixed predictions, right labels for it, and its scores by them."""
    words = keras.Input((None,), dtype="int32")
    embed = keras.layers.Embedding(6, len(NAMES), mask_zero=True)
    model = keras.Model(words, keras.layers.Activation("softmax")(embed(words)))
    embed.set_weights([5 * np.eye(len(NAMES))[[0, 1, 2, 3, 2, 0]]])
    model.compile(
        optimizer=keras.optimizers.SGD(0.0),
        loss="sparse_categorical_crossentropy",
        metrics=[
            metrics.TokenAccuracy(),
            metrics.EntityF1(NAMES),
            metrics.EntityRecall(NAMES, entity_type="PER", name="people"),
        ],
        **compiled,
    )
    true, valid = np.full(WORDS.shape, 1), WORDS != 0
    true[:, :3] = GIVEN[:, :3]
    true[2, 0] = 1
    batches = [(true, GIVEN, valid)]
    expected = {
        "token_accuracy": np.sum((true == GIVEN) & valid) / np.sum(valid),
        "entity_f1": our_scores(NAMES, batches)[2],
        "people": our_scores(NAMES, batches, entity_type="PER")[1],
    }
    assert all(0 < score < 1 for score in expected.values())
    return model, true, expected


@pytest.mark.parametrize(
    "compiled",
    [{"jit_compile": False}, {"jit_compile": True}, {"run_eagerly": True}],
    ids=["graph", "xla", "eager"],
)
def test_in_training_with_a_mask(compiled):
    model, true, expected = model_and_scores(**compiled)
    history = model.fit(WORDS, true, batch_size=2, verbose=0).history
    for name, score in expected.items():
        assert history[name] == [pytest.approx(score)]


def test_in_evaluation_with_a_smaller_last_batch():
    model, true, expected = model_and_scores()
    found = model.evaluate(WORDS, true, batch_size=3, verbose=0, return_dict=True)
    for name, score in expected.items():
        assert found[name] == pytest.approx(score)


def test_the_mask_of_predicted_numbers_counts_and_so_does_the_weight():
    predicted = tf.constant([[1, 2, 1, 1]])
    predicted._keras_mask = tf.constant([[True, True, True, False]])
    for metric, expected in (
        (metrics.TokenAccuracy(), [2, 2]),
        (metrics.EntityF1(NAMES), [1, 1, 1]),
    ):
        metric.update_state([[1, 2, 0, 0]], predicted, sample_weight=[[1, 1, 0, 1]])
        assert metric.counts.numpy().tolist() == expected


def test_one_graph_serves_all_lengths():
    metric = metrics.EntityF1(NAMES)

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)] * 2)
    def update(true, predicted):
        metric.update_state(true, predicted)

    eager = metrics.EntityF1(NAMES)
    for true, predicted, _ in random_batches(len(NAMES)):
        update(true, predicted)
        eager.update_state(true, predicted)
    np.testing.assert_array_equal(metric.counts.numpy(), eager.counts.numpy())


@pytest.mark.parametrize(
    "metric",
    [
        metrics.TokenAccuracy(ignore=3, name="words", dtype="float16"),
        metrics.EntityPrecision(names_of("BILOU"), "BILOU", "LOC"),
        metrics.EntityRecall(tuple(NAMES), name="found"),
        metrics.EntityF1(names_of("IOB1"), scheme="IOB1"),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_configuration_round_trips(metric):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    assert config["registered_name"] == f"kerasrnn>{type(metric).__name__}"
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()
    true, predicted, valid = next(random_batches(5))
    for each in (metric, again):
        each.reset_state()
        each.update_state(true, predicted, valid)
    np.testing.assert_array_equal(metric.counts.numpy(), again.counts.numpy())


# What is refused.


@pytest.mark.parametrize("metric_class", ENTITY)
def test_wrong_names_are_refused(metric_class):
    with pytest.raises(ValueError, match="`label_names` must be a list of labels, not one string"):
        metric_class("OOO")
    with pytest.raises(ValueError, match="one of BIO, IOB1, BIOES, BILOU; got 'BMES'"):
        metric_class(NAMES, "BMES")
    with pytest.raises(ValueError, match="'<pad>' is not a label of BIO"):
        metric_class([*NAMES, "<pad>"])
    with pytest.raises(ValueError, match="one of LOC, PER; got 'ORG'"):
        metric_class(NAMES, entity_type="ORG")


def test_labels_out_of_range_are_refused_or_make_the_result_nan():
    for true, predicted, name, label in (
        ([[0, 5]], [[0, 0]], "y_true", 5),
        ([[0, 1]], [[-1, 0]], "y_pred", -1),
    ):
        metric = metrics.EntityF1(NAMES)
        with pytest.raises(ValueError, match=f"`{name}` holds the label {label}, .* from 0 to 4"):
            metric.update_state(true, predicted)
        tf.function(metric.update_state)(tf.constant(true), tf.constant(predicted))
        assert np.isnan(float(metric.result()))
        metric.reset_state()
        assert float(metric.result()) == 0


@pytest.mark.parametrize("metric", [metrics.TokenAccuracy(), metrics.EntityF1(NAMES)])
def test_wrong_shapes_are_refused(metric):
    for shape in ((4,), (2, 4, 5)):
        with pytest.raises(ValueError, match=r"`y_true` must be the numbers of the labels"):
            metric.update_state(np.zeros(shape), np.zeros((2, 4)))
    for shape in ((2,), (2, 1), (1, 4), (2, 4, 5, 1)):
        with pytest.raises(ValueError, match=r"`y_pred` must be .* of `y_true`, \(2, 4\); got"):
            metric.update_state(np.zeros((2, 4)), np.zeros(shape))


def test_scores_for_other_labels_are_refused():
    with pytest.raises(ValueError, match="scores for 4 labels, but there are 5 `label_names`"):
        metrics.EntityF1(NAMES).update_state(np.zeros((2, 3)), np.zeros((2, 3, 4)))


# Another backend.

SCRIPT = """
import keras, numpy as np
from kerasrnn import metrics
words = keras.Input((None,), dtype="int32")
scores = keras.layers.Embedding(5, 5, embeddings_initializer="identity", mask_zero=True)(words)
model = keras.Model(words, keras.layers.Activation("softmax")(scores))
names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
chosen = [metrics.TokenAccuracy(), metrics.EntityF1(names)]
model.compile(loss="sparse_categorical_crossentropy", metrics=chosen)
x = np.array([[1, 2, 3, 4, 0, 0], [1, 1, 2, 3, 2, 0]])
y = np.array([[1, 2, 3, 0, 1, 1], [1, 2, 2, 3, 4, 1]])
found = model.evaluate(x, y, verbose=0, return_dict=True)
print(keras.backend.backend(), found["token_accuracy"], found["entity_f1"])
"""


@pytest.mark.slow
def test_on_jax():
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    backend, accuracy, f1 = done.stdout.split()
    assert backend == "jax"
    assert float(accuracy) == pytest.approx(6 / 9)
    assert float(f1) == pytest.approx(2 * 1 / (6 + 4))  # One is right, of 6 found and 4 there.
