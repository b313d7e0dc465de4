"""Perplexity and bits per character, against NumPy in float64."""

import json

import keras
import numpy as np
import pytest

from kerasrnn import metrics
from kerasrnn.metrics._likelihood import cross_entropy

CLASSES = 7
tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="it is about graphs of TensorFlow"
)


def batches(seed=0):
    """Three batches of other lengths: right tokens, logits and weights, some of them 0."""
    generator = np.random.default_rng(seed)
    for batch, time in ((4, 7), (6, 1), (5, 12)):
        true = generator.integers(CLASSES, size=(batch, time))
        logits = generator.normal(scale=3, size=(batch, time, CLASSES)).astype("float32")
        weights = generator.choice([0.0, 0.5, 1.0, 2.0], size=(batch, time))
        yield true, logits, weights


def probabilities(logits):
    exponentials = np.exp(logits.astype("float64"))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def nats(true, logits):
    return -np.log(np.take_along_axis(probabilities(logits), true[..., None], axis=-1)[..., 0])


def mean_nats(parts):
    total = sum(np.sum(weights * nats(true, logits)) for true, logits, weights in parts)
    return total / sum(np.sum(weights) for *_, weights in parts)


def results(parts, **arguments):
    both = (metrics.Perplexity(**arguments), metrics.BitsPerCharacter(**arguments))
    for metric in both:
        for part in parts:
            metric.update_state(*part)
    return [float(metric.result()) for metric in both]


def test_the_mean_is_over_the_steps_of_all_batches():
    parts = list(batches())
    mean = mean_nats(parts)
    expected = [np.exp(mean), mean / np.log(2)]
    np.testing.assert_allclose(results(parts), expected, rtol=1e-5)
    np.testing.assert_allclose(results(parts, dtype="float16"), expected, rtol=1e-5)
    shares = [(true, probabilities(logits), weights) for true, logits, weights in parts]
    np.testing.assert_allclose(results(shares, from_logits=False), expected, rtol=1e-5)
    # Neither the sizes of the batches nor their padding make a difference.
    rows = [tuple(x[i : i + 1] for x in part) for part in parts for i in range(len(part[0]))]
    padded = [
        (
            np.pad(true, ((0, 0), (0, 3))),
            np.pad(logits, ((0, 0), (0, 3), (0, 0)), constant_values=np.inf),
            np.pad(weights, ((0, 0), (0, 3))),
        )
        for true, logits, weights in rows
    ]
    np.testing.assert_allclose(results(padded), expected, rtol=1e-5)


def test_without_weights_every_step_counts():
    parts = [(true, logits) for true, logits, _ in batches()]
    mean = mean_nats([(*part, np.ones(part[0].shape)) for part in parts])
    np.testing.assert_allclose(results(parts), [np.exp(mean), mean / np.log(2)], rtol=1e-5)
    assert results([]) == [1, 0]


def test_forms_of_tokens_and_weights_make_no_difference():
    true, logits, weights = next(batches())
    expected = results([(true, logits, weights)])
    for part in (
        (true[..., None], logits, weights[..., None]),
        (true.astype("float32"), logits.tolist(), weights.tolist()),
    ):
        assert results([part]) == expected
    rows = weights[:, 0]
    expected = results([(true, logits, np.repeat(rows[:, None], true.shape[1], axis=1))])
    for part in ((true, logits, rows), (true, logits, rows[:, None])):
        assert results([part]) == expected


def test_an_ignored_class_is_left_out():
    true, logits, weights = next(batches())
    hole = np.random.default_rng(1).random(true.shape) < 0.4
    expected = results([(true, logits, weights * ~hole)])
    given = [(np.where(hole, -1, true), logits, weights)]
    np.testing.assert_allclose(results(given, ignore_class=-1), expected, rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_sums_keep_their_digits_over_a_hundred_million_steps(jit_compile):
    """Each of 1,000 equal batches is less exact a float32 in the end than what is added to it."""
    weight, batch_count = 100_003.0, 1000
    logits = np.array([[[0.3, -1.7, 2.2]]], "float32")
    metric = metrics.Perplexity()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        given = [tf.constant(x) for x in ([[1]], logits, [[weight]])]

        @tf.function(jit_compile=jit_compile)
        def update():
            for _ in tf.range(batch_count):
                metric.update_state(*given)

        update()
    else:
        for _ in range(batch_count):
            metric.update_state([[1]], logits, [[weight]])
    sums, rests = (keras.ops.convert_to_numpy(x) for x in (metric.sums, metric.rests))
    steps = weight * batch_count
    assert sums[1] + np.float64(rests[1]) == steps
    assert abs(sums[1] / steps - 1) > 1e-6  # They would be lost without the rests.
    one = np.float64(np.float32(weight) * np.float32(nats(np.array([[1]]), logits)[0, 0]))
    np.testing.assert_allclose(np.float64(sums[0]) + rests[0], one * batch_count, rtol=2e-7)
    expected = np.exp(nats(np.array([[1]]), logits)[0, 0])
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-6)


# In a model.


def model(mask_zero=False, **compiled):
    words = keras.Input((None,), dtype="int32")
    embed = keras.layers.Embedding(CLASSES, CLASSES, mask_zero=mask_zero, name="embed")
    made = keras.Model(words, keras.layers.Activation("linear")(embed(words)))
    scores = np.random.default_rng(2).normal(size=(CLASSES, CLASSES)).astype("float32")
    embed.set_weights([scores])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    chosen = [metrics.Perplexity(), metrics.BitsPerCharacter()]
    made.compile(keras.optimizers.SGD(0.0), loss, weighted_metrics=chosen, **compiled)
    return made, scores


@pytest.mark.parametrize(
    "compiled",
    [{"jit_compile": False}, {"jit_compile": True}, {"run_eagerly": True}],
    ids=["graph", "xla", "eager"],
)
def test_in_training_with_a_smaller_last_batch(compiled):
    if keras.backend.backend() == "torch" and compiled.get("jit_compile"):
        pytest.skip("PyTorch has no XLA")
    made, scores = model(**compiled)
    generator = np.random.default_rng(3)
    x, y = generator.integers(CLASSES, size=(2, 5, 6))
    weights = generator.choice([0.0, 1.0], size=x.shape).astype("float32")
    history = made.fit(x, y, sample_weight=weights, batch_size=2, verbose=0).history
    mean = mean_nats([(y, scores[x], weights)])
    assert history["perplexity"] == [pytest.approx(np.exp(mean), rel=1e-5)]
    assert history["bits_per_character"] == [pytest.approx(mean / np.log(2), rel=1e-5)]


def test_the_mask_counts():
    made, scores = model(mask_zero=True)
    x, y = np.random.default_rng(3).integers(CLASSES, size=(2, 5, 6))
    found = made.evaluate(x, y, batch_size=2, verbose=0, return_dict=True)
    mean = mean_nats([(y, scores[x], x != 0)])
    assert found["perplexity"] == pytest.approx(np.exp(mean), rel=1e-5)


@tensorflow_only
@pytest.mark.parametrize("ignore_class", [None, -1])
def test_the_loss_and_the_metric_share_the_cross_entropy(ignore_class):
    import tensorflow as tf

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=ignore_class)
    metric = metrics.Perplexity(ignore_class=ignore_class)

    @tf.function
    def measure(true, logits):
        value = loss(true, logits)
        metric.update_state(true, logits)
        return value

    given = [tf.constant(x) for x in next(batches())[:2]]
    graph = measure.get_concrete_function(*given).graph
    kind = "SparseSoftmaxCrossEntropyWithLogits"
    nodes = [op for op in graph.get_operations() if op.type == kind]

    def origin(tensor):
        """What a tensor is computed by, back to the arguments: equal text, equal value."""
        op = tensor.op
        if op.type == "Placeholder":
            return op.name
        attributes = sorted((name, str(value)) for name, value in op.node_def.attr.items())
        return op.type, str(attributes), [origin(x) for x in op.inputs]

    first, second = ([origin(x) for x in node.inputs] for node in nodes)
    assert first == second


@pytest.mark.parametrize(
    "metric",
    [
        metrics.Perplexity(),
        metrics.Perplexity(from_logits=False, ignore_class=-1, dtype="float16"),
        metrics.BitsPerCharacter("bits", ignore_class=0),
    ],
    ids=lambda metric: metric.name,
)
def test_configuration_round_trips(metric):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    assert config["registered_name"] == f"kerasrnn>{type(metric).__name__}"
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()


def test_a_model_with_the_metrics_loads(tmp_path):
    made, _ = model()
    x, y = np.random.default_rng(3).integers(CLASSES, size=(2, 5, 6))
    expected = made.evaluate(x, y, verbose=0, return_dict=True)
    made.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(expected)


def test_wrong_shapes_are_refused():
    for true, scores in (((4,), (4, 3)), ((2, 4), (2, 4)), ((2, 4, 3), (2, 4, 3))):
        with pytest.raises(ValueError, match=r"`y_true` must be .*\(batch, time, classes\); got"):
            metrics.Perplexity().update_state(np.zeros(true), np.zeros(scores))


@tensorflow_only
@pytest.mark.parametrize("known", [True, False])
def test_the_cross_entropy_of_many_classes_is_compiled_with_its_gradient(known):
    import tensorflow as tf

    generator, classes = np.random.default_rng(0), 1500
    metric = metrics.Perplexity()
    for shape in ((3, 5), (2, 11)):
        logits = generator.normal(scale=3, size=(*shape, classes)).astype("float32")
        true = generator.integers(classes, size=shape)
        weights = generator.choice([0.0, 0.5, 2.0], size=shape).astype("float32")
        signature = [
            tf.TensorSpec(shape if known else (None, None), t) for t in ("int64", "float32")
        ]
        scores = tf.TensorSpec((*signature[0].shape, classes))

        @tf.function(input_signature=[signature[0], scores, signature[1]])
        def measure(true, logits, weights):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                found = cross_entropy(true, logits)
                total = tf.reduce_sum(found * weights)
            metric.update_state(true, logits, weights)
            return found, tape.gradient(total, logits)

        found, gradient = measure(true, logits, weights)
        np.testing.assert_allclose(found, nats(true, logits), rtol=1e-5)
        right = np.arange(classes) == true[..., None]
        expected = probabilities(logits) - right
        np.testing.assert_allclose(gradient, expected * weights[..., None], rtol=0, atol=1e-6)
        assert float(metric.result()) == pytest.approx(
            np.exp(mean_nats([(true, logits, weights)])), rel=1e-5
        )
        metric.reset_state()
        for none in (classes, -1):
            found, gradient = measure(np.full_like(true, none), logits, weights)
            assert np.isnan(found).all()
            np.testing.assert_array_equal(gradient, 0.0)
        metric.reset_state()


@tensorflow_only
def test_few_classes_and_calls_without_a_graph_are_left_to_tensorflow():
    import tensorflow as tf

    assert cross_entropy(tf.zeros((2, 3), "int32"), tf.zeros((2, 3, 1500))) is None
    few = tf.function(lambda y, z: cross_entropy(y, z) is None)
    assert few(tf.zeros((2, 3), "int32"), tf.zeros((2, 3, 20)))
