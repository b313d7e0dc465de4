"""What goes wrong says what it was: the argument's name, what was expected, what was received."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import cells, layers
from tests.cells._helpers import make
from tests.layers._helpers import BATCH, FEATURES, TIME, UNITS, each_layer, inputs, layer


def built(**arguments):
    lstm = layers.LSTM(UNITS, name="mine", **arguments)
    lstm(inputs())
    return lstm


def says(error, *parts):
    """The parts of the message, in their order."""
    return pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, parts)))


# Arguments of the constructor.


def test_a_name_is_no_cell():
    with says(ValueError, "`cell`", "'lstm'", "kerasrnn.cells.get('lstm', units)"):
        layers.Recurrent("lstm")


@pytest.mark.parametrize("thing", [None, 3, keras.layers.Dense(2)])
def test_other_things_are_no_cells(thing):
    with pytest.raises(ValueError, match="cell"):
        layers.Recurrent(thing)


@pytest.mark.parametrize("word", ["random", None, True, 0])
def test_initial_states_are_zeros_or_learned(word):
    with says(ValueError, "`initial_state`", '"zeros" or "learned"', repr(word)):
        layers.LSTM(UNITS, initial_state=word)


@each_layer
def test_an_unknown_argument_is_named(name):
    with says(ValueError, "forget_bias", "0.5"):
        layer(name, forget_bias=0.5)
    with says(ValueError, "forget_bias", "0.5"):
        layers.Recurrent(make(name, UNITS), forget_bias=0.5)


@each_layer
def test_too_many_positional_arguments(name):
    """In Keras the next one would be `use_bias`: nobody must lose it unawares."""
    gated = issubclass(cells.info(name).cell_class, cells.GatedCell)
    by_position = ["tanh", "sigmoid"][: 1 + gated]
    layer(
        name, UNITS, **dict(zip(("activation", "recurrent_activation"), by_position, strict=False))
    )
    own = type(layer(name))
    with says(TypeError, own.__name__, "`units`, `activation`", "got", "False"):
        own(UNITS, *by_position, False)
    with says(TypeError, "activation"):
        own(UNITS, "tanh", activation="relu")
    with says(TypeError, "units"):
        own()


@pytest.mark.parametrize("units", [0, -1, 2.5, "8", None, True])
def test_units_must_be_a_positive_integer(units):
    with says(ValueError, "`units`", "positive integer", repr(units)):
        layers.GRU(units)


# Inputs.


@pytest.mark.parametrize("shape", [(4,), (2, 3)])
def test_sequences_have_three_dimensions(shape):
    expected = "`sequences`", "(batch, time, features)", str(shape)
    with says(ValueError, *expected):
        layers.LSTM(UNITS)(np.zeros(shape))
    with says(ValueError, "`sequences`", "(batch, time, features)", "None"):
        layers.LSTM(UNITS)(keras.Input(shape[1:]))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((BATCH, FEATURES), "ndim=3, found ndim=2"),
        (
            (BATCH, TIME, 9),
            "axis -1",
        ),
    ],
)
def test_a_built_layer_knows_its_inputs(shape, expected):
    with says(ValueError, "mine", expected, str(shape)):
        built()(np.zeros(shape))


def test_features_must_be_known():
    with says(ValueError, "`inputs`", "None"):
        layers.LSTM(UNITS)(keras.Input((None, None)))


def test_a_mask_may_be_a_list():
    x, mask = inputs(), np.ones((BATCH, TIME), bool)
    mask[:, -2:] = False
    layer = built()
    np.testing.assert_array_equal(layer(x, mask=mask.tolist()), layer(x, mask=mask))


@pytest.mark.parametrize(
    "shape",
    [(BATCH, TIME + 1), (BATCH + 1, TIME), (TIME,), (BATCH, TIME, 2), (BATCH, 1, TIME, 1), ()],
)
def test_a_mask_has_the_shape_of_the_steps(shape):
    with says(ValueError, "`mask`", "'mine'", f"(batch, time) = ({BATCH}, {TIME})", f"got {shape}"):
        built()(inputs(), mask=np.ones(shape, bool))


@pytest.mark.parametrize(
    "shapes",
    [
        [(BATCH, UNITS)],
        [(BATCH, UNITS)] * 3,
        [(BATCH, UNITS), (BATCH, UNITS + 1)],
        [(BATCH + 1, UNITS)] * 2,
        [(UNITS,), (UNITS,)],
        [],
    ],
)
def test_initial_states_have_the_shapes_of_the_cells_states(shapes):
    with says(ValueError, "`initial_state`", "'mine'", str([(BATCH, UNITS)] * 2), f"got {shapes}"):
        built()(inputs(), initial_state=[np.zeros(shape) for shape in shapes])


def test_a_tensor_is_no_list_of_states():
    with says(ValueError, "`initial_state`", f"got [({BATCH}, {UNITS})]"):
        built()(inputs(), initial_state=np.zeros((BATCH, UNITS)))


def test_unrolling_needs_to_know_how_far():
    unrolled = built(unroll=True)
    dynamic = tf.function(unrolled, input_signature=[tf.TensorSpec((BATCH, None, FEATURES))])
    with says(ValueError, "`unroll=True`", "time steps", f"({BATCH}, None, {FEATURES})"):
        dynamic(inputs())


# Stateful layers.


def test_a_stateful_layer_needs_a_batch_size():
    with says(ValueError, "stateful", "batch size", "None"):
        layers.LSTM(UNITS, stateful=True)(keras.Input((None, FEATURES)))


def test_a_larger_batch_has_no_states():
    stateful = built(stateful=True)
    with says(ValueError, "'mine'", f"batches of {BATCH}", f"got a batch of {BATCH + 1}"):
        stateful(inputs(BATCH + 1, TIME, FEATURES))
    model = keras.Sequential([keras.Input(batch_shape=(BATCH, None, FEATURES)), stateful])
    with says(ValueError, f"batches of {BATCH}", f"got a batch of {BATCH + 1}"):
        model.predict(inputs(BATCH + 1, TIME, FEATURES), verbose=0)


def test_only_a_stateful_layer_can_be_reset():
    with says(ValueError, "`reset_state`", "stateful=True", "'mine'"):
        built().reset_state()


@pytest.mark.parametrize("shapes", [[(BATCH, UNITS)], [(1, UNITS)] * 2, [(BATCH, UNITS)] * 3])
def test_states_to_reset_to_have_the_shapes_of_the_states(shapes):
    with says(ValueError, "`states`", str([(BATCH, UNITS)] * 2), f"got {shapes}"):
        built(stateful=True).reset_state([np.zeros(shape) for shape in shapes])


def test_states_cannot_be_set_before_there_are_any():
    with says(ValueError, "no states to set yet", "build it first"):
        layers.LSTM(UNITS, stateful=True).reset_state([np.zeros((BATCH, UNITS))] * 2)


def test_initial_states_may_be_lists_and_numbers_are_none():
    x, layer = inputs(), built()
    start = np.random.default_rng(1).normal(size=(2, BATCH, UNITS)).astype("float32")
    np.testing.assert_array_equal(
        layer(x, initial_state=start.tolist()), layer(x, initial_state=list(start))
    )
    with says(ValueError, "`initial_state`", "got [(), ()]"):
        layer(x, initial_state=[1, 2])


def test_an_initial_state_of_a_functional_model_is_checked_when_it_is_built():
    x, wrong = keras.Input((TIME, FEATURES)), keras.Input((UNITS + 1,))
    with says(ValueError, "`initial_state`", str(UNITS + 1)):
        layers.LSTM(UNITS)(x, initial_state=[wrong, wrong])
    right = keras.Input((UNITS,))
    assert layers.LSTM(UNITS)(x, initial_state=[right, right]).shape == (None, UNITS)
    assert layers.GRU(UNITS)(x, initial_state=right).shape == (None, UNITS)


@pytest.mark.parametrize("mask", ["abc", [True, False], 1])
def test_a_mask_is_one(mask):
    with says((ValueError, TypeError), "mask"):
        built()(inputs(), mask=mask)


@pytest.mark.parametrize("word", ["fast", None, True])
def test_an_unknown_implementation(word):
    with says(ValueError, "`implementation` must be one of 'auto', 'fused', 'loop'", repr(word)):
        layers.LSTM(UNITS, implementation=word)


@pytest.mark.parametrize(
    ("cell", "arguments", "why"),
    [
        (cells.LSTMCell(UNITS), {"unroll": True}, "`unroll=True`"),
        (keras.layers.LSTMCell(UNITS), {}, "not one of kerasrnn.cells"),
        (cells.LSTMCell(UNITS), {"dtype": "mixed_bfloat16"}, "another dtype policy"),
    ],
    ids=["unroll", "foreign", "policy"],
)
def test_a_kernel_that_cannot_be_used_is_refused_when_it_is_asked_for(cell, arguments, why):
    layer = layers.Recurrent(cell, implementation="fused", **arguments)
    with says(ValueError, '`implementation="fused"`', why, '"auto"'):
        layer(inputs())
