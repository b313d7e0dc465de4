"""Locked dropout, embedding dropout, dropped weights, and penalties on activations."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasrnn import layers
from kerasrnn.layers import ActivationRegularization, EmbeddingDropout, LockedDropout, _recurrent

WORDS, FEATURES = 500, 8
# A measured rate lies within five standard deviations of the wanted one; of 500 draws or more.
TOLERANCE = 0.11
each_rate = pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="kernels run on TensorFlow"
)


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def vectors(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32") + 5


def text(*shape):
    return np.random.default_rng(0).integers(WORDS, size=shape)


# Locked dropout.


@each_rate
def test_one_mask_for_all_steps_and_another_for_each_sequence(rate):
    x = vectors(40, 5, 50)
    factors = numpy(LockedDropout(rate, seed=1)(x, training=True)) / x
    np.testing.assert_array_equal(factors == 0, np.repeat(factors[:, :1] == 0, 5, axis=1))
    np.testing.assert_allclose(factors[factors != 0], 1 / (1 - rate), rtol=1e-5)
    assert abs((factors[:, 0] == 0).mean() - rate) < TOLERANCE
    assert len({row.tobytes() for row in factors[:, 0] == 0}) == 40


def test_locked_dropout_drops_nothing_outside_training():
    x = vectors(2, 3, FEATURES)
    np.testing.assert_array_equal(numpy(LockedDropout(0.9)(x)), x)
    np.testing.assert_array_equal(numpy(LockedDropout(0.0)(x, training=True)), x)


def test_locked_dropout_wants_sequences():
    with pytest.raises(ValueError, match="expected ndim=3"):
        LockedDropout(0.5)(vectors(2, 3))


# Embedding dropout.


@each_rate
def test_a_word_is_dropped_wherever_it_occurs_in_the_batch(rate):
    ids, x = text(30, 100), vectors(30, 100, FEATURES)
    layer = EmbeddingDropout(rate, WORDS, seed=1)
    factors = numpy(layer(x, ids, training=True)) / x
    dropped, kept = {*ids[(factors == 0).all(axis=-1)]}, {*ids[(factors != 0).all(axis=-1)]}
    assert dropped | kept == {*ids.ravel()}
    assert not dropped & kept
    assert abs(len(dropped) / len(dropped | kept) - rate) < TOLERANCE
    np.testing.assert_allclose(factors[factors != 0], 1 / (1 - rate), rtol=1e-5)
    again = numpy(layer(x, ids, training=True)) / x
    assert (again != factors).any()


def test_embedding_dropout_equals_dropout_of_the_rows_of_the_embedding():
    ids = text(4, 6)
    embed = keras.layers.Embedding(WORDS, FEATURES)
    dropped = EmbeddingDropout(0.4, WORDS, seed=3)(embed(ids), ids, training=True)
    every = np.arange(WORDS)[None]
    table = EmbeddingDropout(0.4, WORDS, seed=3)(embed(every), every, training=True)
    np.testing.assert_array_equal(numpy(dropped), numpy(table)[0][ids])


def test_embedding_dropout_drops_nothing_outside_training():
    ids, x = text(2, 3), vectors(2, 3, FEATURES)
    np.testing.assert_array_equal(numpy(EmbeddingDropout(0.9, WORDS)(x, ids)), x)
    np.testing.assert_array_equal(numpy(EmbeddingDropout(0.0, WORDS)(x, ids, training=True)), x)


def test_wrong_arguments_of_embedding_dropout_are_named():
    for rate in (-0.1, 1, float("nan")):
        with pytest.raises(ValueError, match="`rate` must be at least 0 and less than 1, got"):
            EmbeddingDropout(rate, WORDS)
    for size in (0, -3, 2.5, None):
        with pytest.raises(ValueError, match="`vocabulary_size` must be a positive integer, got"):
            EmbeddingDropout(0.5, size)


# Penalties.

MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0]], bool)


def penalty(x, mask, activation, temporal):
    """The terms and their gradient, in float64, step by step."""
    steps = [(b, t) for b, t in np.ndindex(x.shape[:2]) if mask[b, t]]
    pairs = [(b, t) for b, t in steps if t and mask[b, t - 1]]
    loss, gradient = 0.0, np.zeros(x.shape)
    for b, t in steps:
        share = activation / len(steps) / x.shape[2]
        loss += share * np.sum(x[b, t] ** 2)
        gradient[b, t] += 2 * share * x[b, t]
    for b, t in pairs:
        share, change = temporal / len(pairs) / x.shape[2], x[b, t] - x[b, t - 1]
        loss += share * np.sum(change**2)
        gradient[b, t] += 2 * share * change
        gradient[b, t - 1] -= 2 * share * change
    return loss, gradient


@pytest.mark.parametrize("rates", [(2.0, 0.0), (0.0, 1.5), (2.0, 1.5)])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_the_penalty_and_its_gradient(mask, rates):
    x = vectors(*MASK.shape, 3)
    valid = np.ones(MASK.shape, bool) if mask is None else mask
    expected, slope = penalty(x.astype("float64"), valid, *rates)
    if mask is not None:
        x[~mask] = np.inf  # What does not count may hold anything.
    layer = ActivationRegularization(*rates)
    given = None if mask is None else ops.convert_to_tensor(mask)
    outputs = layer(ops.convert_to_tensor(x), mask=given, training=True)
    np.testing.assert_array_equal(numpy(outputs), x)
    (loss,) = layer.losses
    np.testing.assert_allclose(float(loss), expected, rtol=1e-5)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        inputs = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            layer(inputs, mask=given, training=True)
            loss = sum(layer.losses)
        np.testing.assert_allclose(tape.gradient(loss, inputs), slope, rtol=1e-4, atol=1e-6)


def test_a_penalty_on_too_few_steps_is_zero():
    layer = ActivationRegularization(2.0, 1.0)
    for x, mask, expected in (
        (np.full((2, 1, 3), 2.0), None, 8.0),
        (np.ones((2, 4, 3)), np.zeros((2, 4), bool), 0.0),
        (np.ones((2, 0, 3)), None, 0.0),
        (np.ones((0, 4, 3)), None, 0.0),
    ):
        mask = None if mask is None else ops.convert_to_tensor(mask)
        layer(ops.convert_to_tensor(x, dtype="float32"), mask=mask, training=True)
        assert [float(loss) for loss in layer.losses] == [expected]


def test_no_penalty_outside_training_and_none_by_default():
    x = vectors(2, 3, FEATURES)
    for layer, training in (
        (ActivationRegularization(2.0, 1.0), False),
        (ActivationRegularization(), True),
    ):
        np.testing.assert_array_equal(numpy(layer(x, training=training)), x)
        assert layer.losses == []


def test_the_penalty_is_summed_in_float32():
    layer = ActivationRegularization(2.0, 1.0, dtype="mixed_float16")
    x = np.zeros((4, 200, FEATURES), "float16")
    x[:, ::2] = 300  # Its square is no number of 16 bits.
    outputs = layer(x, training=True)
    (loss,) = layer.losses
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    np.testing.assert_allclose(float(loss), 2 * 300**2 / 2 + 300**2, rtol=1e-5)


@pytest.mark.parametrize("name", ["activation", "temporal"])
@pytest.mark.parametrize("value", [-1, float("inf"), float("nan")])
def test_a_penalty_that_cannot_be_is_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a number of at least 0, got"):
        ActivationRegularization(**{name: value})


# In a model.


class GivesMask(keras.layers.Layer):
    """Shows the mask that reaches it."""

    def compute_mask(self, inputs, mask=None):
        return mask

    def call(self, inputs, mask=None):
        return ops.cast(mask, "float32")


def language_model(dtype=None):
    ids = keras.Input((None,), dtype="int32")
    vectors = keras.layers.Embedding(WORDS, FEATURES, mask_zero=True, dtype=dtype)(ids)
    x = EmbeddingDropout(0.3, WORDS, seed=1, dtype=dtype, name="words")(vectors, ids)
    x = ActivationRegularization(0.0, 1.0, dtype=dtype, name="temporal")(x)
    x = LockedDropout(0.4, seed=2, dtype=dtype, name="locked")(x)
    x = ActivationRegularization(2.0, dtype=dtype, name="activation")(x)
    return ids, x


def test_shapes_and_masks_go_through():
    ids, x = language_model()
    assert x.shape == (None, None, FEATURES)
    assert x.dtype == "float32"
    given = text(3, 5)
    given[:, 3:] = 0
    np.testing.assert_array_equal(numpy(keras.Model(ids, GivesMask()(x))(given)), given != 0)
    layer = EmbeddingDropout(0.3, WORDS)
    assert layer.compute_output_shape((2, 3, 4), (2, 3)) == (2, 3, 4)


@pytest.mark.parametrize(
    ("dtype", "jit_compile"),
    [
        ("float32", True),
        ("mixed_float16", False),
        pytest.param("mixed_float16", True, marks=pytest.mark.slow),
    ],
)
def test_training_and_saving(dtype, jit_compile, tmp_path):
    jit_compile = jit_compile and keras.backend.backend() != "torch"
    ids, x = language_model(dtype)
    assert x.dtype == ("float16" if dtype == "mixed_float16" else "float32")
    model = keras.Model(ids, keras.layers.Dense(1)(x))
    model.compile("sgd", "mse", jit_compile=jit_compile)
    given = text(6, 5)
    plain = model.evaluate(given, np.zeros((6, 5, 1)), verbose=0)
    (loss,) = model.fit(given, np.zeros((6, 5, 1)), batch_size=6, verbose=0).history["loss"]
    assert np.isfinite(loss)
    assert loss != plain
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict_on_batch(given), model.predict_on_batch(given))
    for name in ("words", "temporal", "locked", "activation"):
        before, after = model.get_layer(name), loaded.get_layer(name)
        assert after.get_config() == before.get_config()
        assert after.dtype_policy.name == dtype


# Dropped weights: recurrent dropout in the form "weights".


@tensorflow_only
@pytest.mark.parametrize("form", ["weights", "state"])
@pytest.mark.parametrize(
    "kind",
    [
        layers.SimpleRNN,
        layers.LSTM,
        layers.PeepholeLSTM,
        layers.CoupledLSTM,
        layers.GRU,
        layers.MGU,
    ],
)
def test_a_layer_with_recurrent_dropout_keeps_its_kernel(monkeypatch, kind, form):
    """And draws one mask for each batch; of weights the same one for all sequences."""
    import tensorflow as tf

    ways = []

    def spied(way):
        def spy(*args, **kwargs):
            ways.append(way.__name__)
            return way(*args, **kwargs)

        return spy

    for name in ("fused_loop", "generic_loop"):
        monkeypatch.setattr(_recurrent, name, spied(getattr(_recurrent, name)))
    layer = kind(16, recurrent_dropout=0.5, recurrent_dropout_form=form, seed=1)
    x = np.repeat(vectors(1, 6, 3), 4, axis=0) - 5
    train = tf.function(lambda x: layer(x, training=True))
    first, second = train(x).numpy(), train(x).numpy()
    assert set(ways) == {"generic_loop" if kind is layers.MGU else "fused_loop"}
    # Equal sequences stay equal within a batch if weights are dropped; in the next batch these are others.
    stays = np.allclose(first, np.repeat(first[:1], 4, axis=0), rtol=1e-6)
    assert stays == (form == "weights")
    assert np.abs(first - second).max() > 1e-3


@tensorflow_only
def test_what_drops_candidates_is_in_inference_a_layer_like_any_other(monkeypatch):
    import tensorflow as tf

    ways = []
    fused = _recurrent.fused_loop
    monkeypatch.setattr(_recurrent, "fused_loop", lambda *a, **k: ways.append(1) or fused(*a, **k))
    layer = layers.LSTM(5, recurrent_dropout=0.5, recurrent_dropout_form="candidate")
    plain = layers.LSTM(5, implementation="loop")
    x = vectors(2, 6, 3)
    for each in (layer, plain):
        each.build(x.shape)
    plain.set_weights(layer.get_weights()[: len(plain.get_weights())])
    np.testing.assert_allclose(tf.function(layer)(x), plain(x), atol=1e-6)
    assert ways == [1]
