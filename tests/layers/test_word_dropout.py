"""`WordDropout`: what it hides, how much of it, and what it never touches."""

import keras
import numpy as np
import pytest

from kerasrnn.layers import WordDropout

WORDS = 2000
# How far a measured rate may lie from the wanted one: over five standard deviations of the mean of
# the at least 2,000 draws that each of these tests makes.
TOLERANCE = 0.06


def text(*shape: int, seed: int = 0) -> np.ndarray:
    """Random words, numbers from 2: neither padding nor the unknown word."""
    return np.random.default_rng(seed).integers(2, WORDS, shape)


def hide(layer: WordDropout, ids: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(layer(ids, training=True))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_rate_of_hidden_words_holds(rate):
    ids = text(50, 200)
    hidden = hide(WordDropout(rate, seed=1), ids)
    np.testing.assert_array_equal(hidden[hidden != 1], ids[hidden != 1])
    assert abs((hidden == 1).mean() - rate) < TOLERANCE
    # Each occurrence on its own: some words are hidden in one place and stay in another.
    here, there = ({*ids[hidden == 1]}, {*ids[hidden != 1]})
    assert here & there


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_hidden_type_is_hidden_wherever_it_occurs_in_the_batch(rate):
    ids = text(50, 200)
    hidden = hide(WordDropout(type_rate=rate, vocabulary_size=WORDS, seed=1), ids)
    here, there = ({*ids[hidden == 1]}, {*ids[hidden != 1]})
    assert not here & there
    assert abs(len(here) / len(here | there) - rate) < TOLERANCE


def test_both_rates_together():
    ids = text(50, 200)
    hidden = hide(WordDropout(0.3, 0.4, WORDS, seed=1), ids)
    assert abs((hidden == 1).mean() - (1 - 0.7 * 0.6)) < TOLERANCE


@pytest.mark.parametrize("arguments", [{"rate": 0.9}, {"type_rate": 0.9, "vocabulary_size": WORDS}])
def test_padding_is_never_touched(arguments):
    ids = text(20, 30)
    ids[:, 20:] = 0
    for seed in range(10):
        hidden = hide(WordDropout(**arguments, seed=seed), ids)
        np.testing.assert_array_equal(hidden == 0, ids == 0)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_shape_and_dtype_stay(dtype):
    layer = WordDropout(0.5, 0.5, WORDS)
    for shape in ((3, 4), (0, 4), (3, 0)):
        hidden = hide(layer, text(*shape).astype(dtype))
        assert hidden.shape == shape and hidden.dtype == dtype
    symbolic = layer(keras.Input((None,), dtype=dtype), training=True)
    assert symbolic.shape == (None, None) and symbolic.dtype == dtype


def test_another_number_for_the_unknown_word():
    ids = text(5, 20)
    hidden = hide(WordDropout(0.5, unknown=7777, seed=1), ids)
    assert {*np.unique(hidden)} <= {*np.unique(ids), 7777} and 7777 in hidden


def test_nothing_is_hidden_outside_training():
    ids = text(5, 20)
    layer = WordDropout(0.9, 0.9, WORDS)
    np.testing.assert_array_equal(layer(ids), ids)
    np.testing.assert_array_equal(layer(ids, training=False), ids)
    np.testing.assert_array_equal(WordDropout()(ids, training=True), ids)


def test_the_seed_decides_and_every_batch_is_another():
    ids = text(5, 200)
    one, same, other = (WordDropout(0.5, 0.3, WORDS, seed=seed) for seed in (3, 3, 4))
    first, second = hide(one, ids), hide(one, ids)
    np.testing.assert_array_equal(first, hide(same, ids))
    np.testing.assert_array_equal(second, hide(same, ids))
    assert (first != second).any()
    assert (first != hide(other, ids)).any()


def test_saving(tmp_path):
    words = keras.Input((None,), dtype="int64")
    arguments = {"rate": 0.5, "type_rate": 0.3, "vocabulary_size": WORDS, "unknown": 9, "seed": 5}
    model = keras.Model(words, WordDropout(**arguments, name="hide")(words))
    model.save(tmp_path / "model.keras")
    layer = keras.models.load_model(tmp_path / "model.keras").get_layer("hide")
    assert {name: layer.get_config()[name] for name in arguments} == arguments
    ids = text(5, 20)
    np.testing.assert_array_equal(hide(layer, ids), hide(WordDropout(**arguments), ids))


@pytest.mark.parametrize("name", ["rate", "type_rate"])
@pytest.mark.parametrize("value", [-0.1, 1, 1.5, float("nan")])
def test_a_rate_that_cannot_be_is_named(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be at least 0 and less than 1, got"):
        WordDropout(**{name: value}, vocabulary_size=WORDS)


def test_hiding_types_needs_the_size_of_the_vocabulary():
    with pytest.raises(ValueError, match="`type_rate` needs `vocabulary_size`"):
        WordDropout(type_rate=0.5)
