"""`SequencePooling` against the same sums written in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.layers import SequencePooling
from tests.layers._helpers import MASK, inputs, randomise

# A handful of float32 operations, whose sums may be taken in another order.
ATOL = 1e-6
# float16 has 11 bits.
ATOL_HALF = 5e-3

each_mode = pytest.mark.parametrize("mode", SequencePooling.MODES)


def reference(layer: SequencePooling, sequence: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The reading of one sequence, `(time, features)`, in float64."""
    steps = sequence[valid].astype("float64")
    if not len(steps):
        return np.zeros(sequence.shape[-1])
    if layer.mode == "max":
        return steps.max(axis=0)
    weights = np.ones(len(steps))
    if layer.mode == "attention":
        kernel, bias, query = (keras.ops.convert_to_numpy(weight) for weight in layer.weights)
        weights = np.exp(np.tanh(steps @ kernel + bias) @ query)[:, 0]
    return weights @ steps / weights.sum()


def pooling(mode: str, features: int = 4, **arguments: object) -> SequencePooling:
    layer = SequencePooling(mode, **arguments)
    layer.build((None, None, features))
    randomise(layer)
    return layer


@each_mode
def test_values_are_those_of_numpy_for_every_kind_of_mask(mode):
    layer, x = pooling(mode), inputs()
    for mask in (None, MASK, np.ones_like(MASK)):
        valid = np.ones(x.shape[:2], bool) if mask is None else mask
        expected = [reference(layer, *pair) for pair in zip(x, valid, strict=True)]
        np.testing.assert_allclose(layer(x, mask=mask), expected, rtol=0, atol=ATOL)


@each_mode
def test_what_is_masked_does_not_matter(mode):
    """Even where it is larger than all that counts, or not finite."""
    layer, x = pooling(mode), inputs()
    other = x.copy()
    other[~MASK] = 1e6
    np.testing.assert_array_equal(layer(x, mask=MASK), layer(other, mask=MASK))


@each_mode
def test_a_wholly_masked_row_gives_zeros_and_finite_gradients(mode):
    layer, x = pooling(mode), tf.constant(inputs())
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x, mask=MASK)
        loss = tf.reduce_sum(tf.sin(output))  # no coordinate's gradient is 0 by symmetry
    assert not MASK[2].any()
    np.testing.assert_array_equal(output[2], np.zeros(4))
    of_x, *of_weights = tape.gradient(loss, [x, *layer.trainable_weights])
    assert all(np.isfinite(gradient).all() for gradient in (of_x, *of_weights))
    np.testing.assert_array_equal(of_x.numpy()[~MASK], 0)
    assert np.abs(of_x.numpy()[:2]).sum() > 0


@each_mode
def test_gradients_are_those_of_central_differences(mode):
    layer, x, step = pooling(mode), inputs(2, 3, 4).astype("float64"), 1e-5
    mask = np.array([[True, False, True], [True, True, False]])
    wanted = inputs(2, 4, seed=5).astype("float64")

    def loss(x: np.ndarray) -> float:
        rows = [reference(layer, *pair) for pair in zip(x, mask, strict=True)]
        return float((np.stack(rows) * wanted).sum())

    numeric = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        there = np.zeros_like(x)
        there[place] = step
        numeric[place] = (loss(x + there) - loss(x - there)) / (2 * step)
    tensor = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = tf.reduce_sum(layer(tensor, mask=mask) * tf.constant(wanted, tf.float32))
    np.testing.assert_allclose(tape.gradient(value, tensor), numeric, rtol=0, atol=1e-5)


@each_mode
def test_float64_is_computed_in_float64(mode):
    layer, x = pooling(mode, dtype="float64"), inputs().astype("float64")
    expected = [reference(layer, *pair) for pair in zip(x, MASK, strict=True)]
    np.testing.assert_allclose(layer(x, mask=MASK), expected, rtol=0, atol=1e-14)


@each_mode
@pytest.mark.parametrize("shape", [(0, 5, 4), (3, 0, 4), (0, 0, 4)])
def test_no_sequences_and_no_steps(mode, shape):
    """An empty batch is what a server gets now and then."""
    output = pooling(mode)(np.zeros(shape, "float32"), mask=np.zeros(shape[:2], bool))
    np.testing.assert_array_equal(output, np.zeros((shape[0], 4)))


@each_mode
@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "mixed_bfloat16"])
def test_sixteen_bits(mode, dtype):
    """Over 4,000 steps a sum or a count in float16 itself would overflow or stick."""
    layer = pooling(mode, dtype=dtype)
    x = (np.abs(inputs(2, 4000, 4)) + 30).astype("float16")
    mask = np.arange(4000) < np.array([[4000], [2500]])
    output = layer(x, mask=mask)
    assert output.dtype == layer.compute_dtype
    wide = pooling(mode)
    wide.set_weights(layer.get_weights())
    expected = [reference(wide, *pair) for pair in zip(x, mask, strict=True)]
    # Relative to values of about 30; bfloat16 has 8 bits only.
    rtol = 2e-2 if "bfloat16" in dtype else ATOL_HALF
    np.testing.assert_allclose(np.asarray(output, "float32"), expected, rtol=rtol)


def test_large_scores_do_not_overflow():
    layer = pooling("attention")
    layer.set_weights([weight * 1000 for weight in layer.get_weights()])
    x = inputs()
    for sign in (1, -1):
        layer.query.assign(np.abs(layer.query.numpy()) * sign)
        assert np.isfinite(layer(x, mask=MASK)).all()


@each_mode
def test_the_mask_of_an_embedding_arrives_and_goes_no_further(mode):
    embedding, layer = keras.layers.Embedding(9, 4, mask_zero=True), pooling(mode)
    ids = np.array([[3, 5, 0, 0]])
    read = layer(embedding(ids))
    np.testing.assert_allclose(read, layer(embedding(ids[:, :2])), rtol=0, atol=ATOL)
    assert getattr(read, "_keras_mask", None) is None


@each_mode
def test_saving_and_shapes(mode, tmp_path):
    sequences = keras.Input((None, 4))
    output = SequencePooling(mode, name="reading")(sequences)
    assert output.shape == (None, 4)
    model = keras.Model(sequences, output)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = inputs()
    np.testing.assert_array_equal(model(x), again(x))
    assert again.get_layer("reading").mode == mode
    copy = SequencePooling.from_config(model.get_layer("reading").get_config())
    assert copy.get_config() == model.get_layer("reading").get_config()


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match=r"`mode` must be one of mean, max, attention; got 'sum'"):
        SequencePooling("sum")
