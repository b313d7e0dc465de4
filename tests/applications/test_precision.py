"""Half precision, and whole steps compiled by XLA: from the first step to the model that is served."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.applications import LanguageModel, SentimentClassifier, SequenceLabeler, _runs
from kerasrnn.applications._training import optimizer
from kerasrnn.applications.language_model import task as language
from kerasrnn.applications.language_model.config import LanguageModelConfig
from kerasrnn.applications.sentiment import task as sentiment
from kerasrnn.applications.sentiment.config import SentimentConfig
from kerasrnn.applications.sequence_labeling import task as labeling
from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig
from kerasrnn.layers import CRF
from tests.applications import _helpers

WORDS = ["great", "dull", "film", "the"]
TEXTS = tf.constant(["a great film", "the dull film", "great", "dull dull the film"])
VERDICTS = np.eye(2, dtype="float32")[[1, 0, 1, 0]]
NO_DROPOUT = dict.fromkeys(("word_dropout", "type_dropout", "embedding_dropout", "dropout"), 0.0)
SMALL = {"units": 4, "embedding_dim": 4, "seed": 1}


def classifier(dtype="float32", jit_compile=False, learning_rate=0.05):
    model = SentimentClassifier(
        WORDS, **SMALL, **NO_DROPOUT, cell="simple_rnn", bidirectional=False, dtype=dtype
    )
    config = SentimentConfig(learning_rate=learning_rate, averaging=0.5)
    loss = keras.losses.CategoricalCrossentropy()
    model.compile(optimizer(config, 40), loss, metrics=["accuracy"], jit_compile=jit_compile)
    return model


def labeler(**arguments):
    names = ["O", "B-PER", "I-PER"]
    return SequenceLabeler(
        WORDS, "aeglrtu", names, scheme="BIO", **SMALL, character_units=4, **arguments
    )


# Half precision.


@pytest.mark.parametrize(
    "dtype", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_it_learns_in_half_precision_what_it_learns_in_float32(dtype):
    narrow, whole = classifier(dtype), classifier()
    ids, losses = narrow.word_ids(TEXTS), {narrow: [], whole: []}
    for model, seen in losses.items():
        for _ in range(40):
            seen.append(float(model.train_on_batch(ids, VERDICTS)[0]))
    assert losses[narrow][-1] < 0.5 * losses[narrow][0]
    assert losses[narrow][-1] == pytest.approx(losses[whole][-1], rel=0.25)
    assert {weight.dtype for weight in narrow.trainable_weights} == {"float32"}
    assert narrow(ids).dtype == "float32"


def test_in_float16_the_loss_is_scaled_and_a_step_that_overflows_is_left_out():
    model = classifier("mixed_float16")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    inner = model.optimizer.inner_optimizer
    assert inner.use_ema and inner.global_clipnorm == 1.0
    ids = model.word_ids(TEXTS)
    model.train_on_batch(ids, VERDICTS)
    model.optimizer.dynamic_scale.assign(1e38)
    before, done = [w.numpy() for w in model.weights], int(inner.iterations)
    averages = [v.numpy() for v in inner.variables]
    model.train_on_batch(ids, VERDICTS)
    assert float(model.optimizer.dynamic_scale) == pytest.approx(5e37)
    assert int(inner.iterations) == done
    for new, old in zip([*model.weights, *inner.variables], [*before, *averages], strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: SentimentClassifier(WORDS, dtype=dtype),
        lambda dtype: labeler(dtype=dtype),
        lambda dtype: LanguageModel(WORDS, dtype=dtype),
    ],
)
def test_other_precisions_are_refused_when_the_model_is_built(make, dtype):
    with pytest.raises(ValueError, match=f"`dtype` must be one of float32, .*got '{dtype}'"):
        make(dtype)


# Steps that XLA compiles as a whole.


def test_compiled_as_a_whole_it_learns_the_same():
    models = plain, compiled = classifier(), classifier(jit_compile=True)
    assert "train_step" not in vars(plain) and "train_step" in vars(compiled)
    numbers = plain.word_ids(TEXTS)
    for _ in range(3):
        one, other = (model.train_on_batch(numbers, VERDICTS) for model in models)
        np.testing.assert_allclose(one, other, rtol=1e-5)
    one, other = (model.test_on_batch(TEXTS, VERDICTS) for model in models)  # strings too
    np.testing.assert_allclose(one, other, rtol=1e-5)
    for weight, expected in zip(compiled.weights, plain.weights, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=0, atol=1e-5, err_msg=weight.path)
    assert compiled.classify(["great"])[0].label == plain.classify(["great"])[0].label


def test_the_step_is_one_computation():
    """XLA refuses what it does not know, so it must have been asked: of the step, not of layers in it."""
    model = classifier(jit_compile=True)
    data = (TEXTS, VERDICTS)
    model.optimizer.build(model.trainable_variables)
    graph = tf.function(model.train_step).get_concrete_function(data).graph
    kinds = [op.type for op in graph.get_operations()]
    (call,) = [op for op in graph.get_operations() if "PartitionedCall" in op.type]
    assert call.get_attr("_XlaMustCompile") and "MatMul" not in kinds


def test_a_compiled_model_comes_back_as_one_and_may_be_compiled_otherwise(tmp_path):
    model = classifier(jit_compile=True)
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    assert "train_step" in vars(model)
    model.compile("sgd", "categorical_crossentropy")
    assert "train_step" not in vars(model)


def language_rows():
    ids = np.random.default_rng(0).integers(1, 5, (4, 7))
    return {"ids": ids[:, :-1], "continues": np.array([True, False, True, True])}, ids[:, 1:]


# XLA draws other numbers: against so many of six tokens each is drawn, whatever they are.
@pytest.mark.parametrize("sampled", [0, pytest.param(500, marks=pytest.mark.slow)])
def test_the_language_model_compiled(sampled):
    losses = []
    for jit_compile in (True, False):
        drops = dict.fromkeys(
            ("embedding_dropout", "input_dropout", "output_dropout", "dropout"), 0
        )
        model = LanguageModel(
            WORDS, **SMALL, **drops, cell="simple_rnn", num_layers=1, sampled=min(sampled, 2)
        )
        model.sampled = sampled
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=jit_compile)
        rows = language_rows()
        losses.append([float(model.train_on_batch(*rows)) for _ in range(3)])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert losses[0][0] != losses[0][-1]


@pytest.mark.slow  # That its gradients are the same is in the tests of the model.
def test_the_labeler_compiled():
    tokens = tf.constant([["the", "great", "film"], ["dull", "", ""]])
    tags = np.array([[0, 1, 2], [0, -1, -1]])
    losses = []
    for jit_compile in (True, False):
        drops = dict.fromkeys(("word_dropout", "type_dropout", "embedding_dropout", "dropout"), 0)
        model = labeler(**drops)
        model.compile(keras.optimizers.SGD(0.1), CRF.loss, jit_compile=jit_compile)
        losses.append([float(model.train_on_batch(tokens, tags)) for _ in range(3)])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_compiled_steps_are_those_of_one_device():
    config = SentimentConfig(jit_compile=True, strategy="mirrored")
    with pytest.raises(ValueError, match="`jit_compile` compiles the steps of one device"):
        sentiment.train(config)


# From the training to the server.

RUNS = {
    "sentiment": (sentiment, SentimentConfig, _helpers.SETTINGS, _helpers.write_texts),
    "labeling": (labeling, SequenceLabelingConfig, _helpers.LABELING, _helpers.write_names),
    "language": (language, LanguageModelConfig, _helpers.LANGUAGE, _helpers.write_sayings),
}
ASKED = ["the film was great", "the dull film"]


def end_to_end(name, tmp_path, **settings):
    """Train, evaluate, load, export, and ask the SavedModel in a process that has TensorFlow alone."""
    task, config_class, own, write = RUNS[name]
    dataset = str(write(tmp_path / "data.csv"))
    given = {"dataset": dataset if name == "sentiment" else (dataset,), "epochs": 2}
    config = config_class(out=str(tmp_path / "run"), **own | given | settings)
    measured = task.train(config)
    again = task.evaluate(config.out, show_progress=False)
    before, after = (
        {"sentiment": ("test_loss", "loss"), "language": ("test_cross_entropy", "cross_entropy")}
    ).get(name, ("test", None))
    if after:
        assert again[after] == pytest.approx(measured[before], rel=0.02)
    model = task.load(config.out)
    assert model.compute_dtype == config.precision.removeprefix("mixed_")
    assert ("train_step" in vars(model)) == config.jit_compile
    _runs.export(config.out, tmp_path / "exported")
    said = _runs.said_by_a_fresh_process(tmp_path / "exported", ASKED).splitlines()
    assert len(said) == len(ASKED)
    if name == "sentiment":
        for line, verdict in zip(said, model.classify(ASKED), strict=True):
            assert line.split()[0] == verdict.label
            assert float(line.split()[1].rstrip("%")) == pytest.approx(
                100 * verdict.confidence, abs=0.5
            )
    elif name == "labeling":
        for line, found in zip(said, model.label([text.split() for text in ASKED]), strict=True):
            assert line.split() == [
                f"{t}/{n}" for t, n in zip(found.tokens, found.labels, strict=True)
            ]
    else:
        for line, score in zip(said, model.score(ASKED), strict=True):
            assert float(line.split()[0]) == pytest.approx(score.log_probability, rel=0.02)
    return measured


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize("name", RUNS)
def test_from_the_training_to_the_server(name, precision, jit_compile, tmp_path):
    if (precision, jit_compile) != ("float32", False):  # Everything else tests that.
        end_to_end(name, tmp_path, precision=precision, jit_compile=jit_compile)


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [True, False])
def test_averaged_sgd_in_float16(jit_compile, tmp_path):
    settings = {"optimizer": "nt_asgd", "schedule": "constant", "learning_rate": 5.0}
    settings |= {"clip_norm": 0.25, "precision": "mixed_float16", "jit_compile": jit_compile}
    end_to_end("language", tmp_path, **settings)


@pytest.mark.slow
def test_the_default_classifier_is_as_good_in_bfloat16(tmp_path):
    metrics = [
        sentiment.train(SentimentConfig(out=str(tmp_path / precision), precision=precision))
        for precision in ("float32", "mixed_bfloat16")
    ]
    whole, narrow = (found["test_accuracy"] for found in metrics)
    # Of 132 texts; one more or less is 0.0076.
    assert abs(whole - narrow) < 0.05
