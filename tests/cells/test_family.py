"""What single cells of the family promise beyond their equations."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import cells
from tests.cells import references
from tests.cells._helpers import DTYPES, assert_close, numpy64, randomise, tensors
from tests.cells.references import clockwork_rnn

DTYPE = DTYPES[0]
BATCH, TIME, FEATURES, UNITS = 3, 9, 4, 6


def data(units=UNITS, seed=1):
    random = np.random.default_rng(seed)
    return random.normal(size=(BATCH, TIME, FEATURES)), random.normal(size=(BATCH, units))


def outputs(cell, x, weights, states=None):
    layer = kerasrnn.layers.Recurrent(cell, return_sequences=True, dtype=DTYPE)
    layer.build(x.shape)
    for weight in cell.trainable_weights:
        weight.assign(weights[weight.name])
    (inputs,) = tensors([x], DTYPE)
    return numpy64(layer(inputs, initial_state=tensors(states, DTYPE) if states else None))


def drawn(cell, features=FEATURES):
    cell.build((None, features))
    return randomise(cell)


def regate(weight, cell, **signs):
    """The weight, with the columns of some gates negated."""
    parts = zip(cell.gates, np.split(weight, len(cell.gates), axis=-1), strict=True)
    return np.concatenate([signs.get(gate, 1) * part for gate, part in parts], axis=-1)


# Greff's variants.


def test_without_peepholes_it_is_the_lstm():
    x, _ = data()
    one, lstm = (kind(UNITS, dtype=DTYPE) for kind in (cells.NoPeepholeLSTMCell, cells.LSTMCell))
    weights = drawn(one)
    assert_close(outputs(one, x, weights), outputs(lstm, x, weights))


def test_the_two_coupled_lstms_are_each_other_with_one_gate_negated():
    """Here the input gate is learned, there the forget gate: f = 1 - i, and 1 - S(z) = S(-z)."""
    x, _ = data()
    learns_input = cells.InputCoupledLSTMCell(UNITS, dtype=DTYPE)
    weights = drawn(learns_input)
    learns_forget = cells.CoupledLSTMCell(UNITS, use_peephole=True, dtype=DTYPE)
    negated = {
        name: regate(weight, learns_input, input=-1)
        for name, weight in weights.items()
        if name != "peephole_kernel"
    }
    negated["peephole_kernel"] = weights["peephole_kernel"] * [[-1.0], [1.0]]
    # Input, candidate, output there; forget, candidate, output here: the same places.
    assert_close(outputs(learns_input, x, weights), outputs(learns_forget, x, negated))


def test_full_gate_recurrence_without_its_matrices_is_the_peephole_lstm():
    x, _ = data()
    full = cells.FullGateRecurrenceLSTMCell(UNITS, dtype=DTYPE)
    weights = drawn(full)
    weights["gate_kernel"] = np.zeros_like(weights["gate_kernel"])
    peephole = cells.PeepholeLSTMCell(UNITS, dtype=DTYPE)
    assert_close(outputs(full, x, weights), outputs(peephole, x, weights))


# The carousel.


def test_the_carousel_carries_an_error_back_as_it_is():
    """The gradient of the last state with respect to the first is the identity, at any distance."""
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("needs tf.GradientTape")
    layer = kerasrnn.layers.ConstantErrorCarousel(UNITS)
    start = tf.ones((1, UNITS))
    with tf.GradientTape() as tape:
        tape.watch(start)
        last = layer(tf.random.normal((1, 500, FEATURES)), initial_state=[start])
    np.testing.assert_array_equal(tape.jacobian(last, start)[0, :, 0], np.eye(UNITS))


# The clockwork.


@pytest.mark.parametrize("periods", [(1, 4, 2), (3,), (2, 5)])
def test_groups_of_several_units_equal_the_reference(periods):
    x, h = data()
    cell = cells.ClockworkRNNCell(UNITS, periods=periods, dtype=DTYPE)
    weights = drawn(cell)
    phase = np.random.default_rng(2).integers(0, periods, (BATCH, len(periods))).astype("float64")

    def step(*args):
        return clockwork_rnn.step(*args, periods=periods)

    expected, _, _ = references.run(step, x, (h, phase), weights)
    assert_close(outputs(cell, x, weights, [h, phase]), expected)


def test_a_group_ticks_at_its_period_and_all_do_at_the_first_step():
    cell = cells.ClockworkRNNCell(4, periods=(1, 2, 3, 8), dtype=DTYPE)
    x = np.random.default_rng(0).normal(size=(1, 16, FEATURES))
    values = outputs(cell, x, drawn(cell))[0]
    for number, period in enumerate(cell.periods):
        moved = [t for t in range(16) if t == 0 or values[t, number] != values[t - 1, number]]
        assert moved == list(range(0, 16, period))


@pytest.mark.parametrize(("dtype", "period"), [("float16", 2048), ("bfloat16", 256)])
def test_the_clock_does_not_stick(dtype, period):
    """A counter of steps would, from 2048 on in float16; a phase begins anew before that."""
    layer = kerasrnn.layers.ClockworkRNN(
        1,
        "linear",
        periods=(period,),
        recurrent_initializer="ones",
        dtype=dtype,
        return_sequences=True,
    )
    steps = period + 2
    x = np.zeros((1, steps, 1), "float32")
    layer.build(x.shape)
    layer.set_weights([np.ones((1, 1)), np.ones((1, 1)), np.ones(1)])  # It counts its own ticks.
    values = numpy64(layer(x))[0, :, 0]
    np.testing.assert_array_equal(values, 1 + np.arange(steps) // period)


def test_masked_steps_stop_the_clock():
    cell = cells.ClockworkRNNCell(4, periods=(1, 2, 3, 4))
    layer = kerasrnn.layers.Recurrent(cell, return_state=True)
    x = np.random.default_rng(0).normal(size=(1, 12, FEATURES)).astype("float32")
    mask = np.array([[1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 0, 1]], bool)
    for one, other in zip(layer(x, mask=mask), layer(x[:, mask[0]]), strict=True):
        np.testing.assert_allclose(numpy64(one), numpy64(other), rtol=0, atol=1e-6)


@pytest.mark.parametrize("built_by", ["Input", "fit"])
def test_what_a_group_does_not_read_is_zero_and_stays_so(built_by):
    layer = kerasrnn.layers.ClockworkRNN(UNITS, periods=(1, 2, 4))
    start = [keras.Input((TIME, FEATURES))] if built_by == "Input" else []
    model = keras.Sequential([*start, layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.AdamW(0.01), "mse")
    x, _ = data()
    group = np.repeat([1, 2, 4], 2)
    unread = group[:, None] < group
    if built_by == "fit":
        model.fit(x, x[:, 0, :1], verbose=0)
    before = numpy64(layer.cell.recurrent_kernel)
    model.fit(x, x[:, 0, :1], epochs=3, verbose=0)
    after = numpy64(layer.cell.recurrent_kernel)
    assert not before[unread].any() and not after[unread].any()
    assert (before[~unread] != after[~unread]).all()


def test_a_learned_initial_state_leaves_the_clock_alone():
    layer = kerasrnn.layers.ClockworkRNN(UNITS, periods=(1, 2, 4), initial_state="learned")
    layer.build((None, TIME, FEATURES))
    assert [weight.name for weight in layer.learned_states if weight is not None] == [
        "initial_state_0"
    ]
    start = layer.get_initial_state(2)
    np.testing.assert_array_equal(numpy64(start[1]), np.zeros((2, 3)))


# The deep ones.


def test_one_layer_of_depth_gates_is_the_peephole_lstm():
    x, _ = data()
    deep = cells.DepthGatedLSTMCell(UNITS, depth=1, dtype=DTYPE)
    weights = drawn(deep)
    peephole = cells.PeepholeLSTMCell(UNITS, dtype=DTYPE)
    assert_close(outputs(deep, x, weights), outputs(peephole, x, weights))


def test_shut_depth_gates_leave_stacked_lstms():
    x, _ = data()
    deep = cells.DepthGatedLSTMCell(UNITS, depth=2, dtype=DTYPE)
    weights = drawn(deep)
    gate = deep.gates.index("depth_1")
    weights["bias"][gate * UNITS :] = -1e3
    peepholes = np.split(weights["peephole_kernel"], 2)
    columns = 4 * UNITS
    lower = {
        "kernel": weights["kernel"],
        "recurrent_kernel": weights["recurrent_kernel"][:, :columns],
        "bias": weights["bias"][:columns],
        "peephole_kernel": peepholes[0],
    }
    upper = {
        "kernel": weights["depth_kernel"][:, :columns],
        "recurrent_kernel": weights["recurrent_kernel"][:, columns:],
        "bias": weights["bias"][columns : 2 * columns],
        "peephole_kernel": peepholes[1],
    }
    below = outputs(cells.PeepholeLSTMCell(UNITS, dtype=DTYPE), x, lower)
    expected = outputs(cells.PeepholeLSTMCell(UNITS, dtype=DTYPE), below, upper)
    assert_close(outputs(deep, x, weights), expected)


def test_a_grid_without_time_sees_no_other_step():
    x, _ = data()
    cell = cells.GridLSTMCell(UNITS, dimensions=1, depth=2, dtype=DTYPE)
    weights = drawn(cell)
    together = outputs(cell, x, weights)
    apart = [outputs(cell, x[:, t : t + 1], weights) for t in range(TIME)]
    assert_close(together, np.concatenate(apart, axis=1))


def test_a_tied_grid_has_the_weights_of_one_layer():
    counts = []
    for depth in (1, 4):
        cell = cells.GridLSTMCell(UNITS, depth=depth, tied=True)
        cell.build((None, FEATURES))
        counts.append(cell.count_params())
    assert counts[0] == counts[1]


def test_sru_without_a_map_is_the_one_with_the_identity():
    random = np.random.default_rng(1)
    x = random.normal(size=(BATCH, TIME, UNITS))
    plain, mapped = (
        cells.SRUCell(UNITS, project_input=project, dtype=DTYPE) for project in (False, True)
    )
    weights = drawn(plain, UNITS)
    kernel = np.concatenate([weights["kernel"], np.eye(UNITS)], axis=1)
    assert_close(outputs(plain, x, weights), outputs(mapped, x, {**weights, "kernel": kernel}))
