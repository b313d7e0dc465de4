"""Saturation, what was kept and written, and gradients through time."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerasrnn
from kerasrnn import analysis, layers
from tests.layers._helpers import MASK, assert_close, few_layers, inputs, layer, randomise, states


def traced(name, mask=None, **arguments):
    own, x = layer(name, **arguments), inputs()
    own.build(x.shape)
    randomise(own)
    return own, x, kerasrnn.trace(own, x, mask)[own.name]


def test_saturation_counts_the_steps_that_count():
    _, _, seen = traced("lstm", MASK)
    found = analysis.saturation(seen)
    assert set(found) == {"input", "forget", "output"}
    values = seen.gates["forget"][MASK]
    assert_close(found["forget"].closed, (values < 0.1).mean(axis=0))
    assert_close(found["forget"].open, (values > 0.9).mean(axis=0))


def test_the_cell_says_what_is_a_gate_that_opens():
    own = layer("multiplicative_lstm")
    own.build((None, None, 2))
    seen = kerasrnn.trace(own, np.zeros((1, 3, 2)))[own.name]
    assert not seen.gates["multiplicative"].any()
    assert set(analysis.saturation(seen)) == {"input", "forget", "output"}
    # But a gate that is let out of its bounds is none.
    own = layer("gru", recurrent_activation="tanh")
    own.build((None, None, 2))
    randomise(own)
    with pytest.raises(ValueError, match="has no gates between 0 and 1"):
        analysis.saturation(kerasrnn.trace(own, inputs(2, 4, 2)))


def test_a_cell_without_gates_is_not_saturated():
    with pytest.raises(ValueError, match="a SimpleRNNCell has candidate"):
        analysis.saturation(traced("simple_rnn")[2])


KEPT = {
    ("lstm", "cell"): "forget * cell",
    ("lstm", "hidden"): "nothing",
    ("no_output_activation_lstm", "hidden"): "nothing",
    ("no_output_gate_lstm", "hidden"): "nothing",
    ("full_gate_recurrence_lstm", "forget"): "nothing",
    ("coupled_lstm", "cell"): "forget * cell",
    ("no_forget_gate_lstm", "cell"): "cell",
    ("original_lstm", "cell"): "cell",
    ("nested_lstm", "inner_cell"): "forget * inner_cell",
    ("nested_lstm", "cell"): "nothing",
    ("depth_gated_lstm", "cell_0"): "forget * cell_0",
    ("depth_gated_lstm", "cell_1"): None,
    ("depth_gated_lstm", "hidden_1"): "nothing",
    ("grid_lstm", "cell_0"): "forget * cell_0",
    ("grid_lstm", "hidden_0"): "nothing",
    ("gru", "hidden"): "(1 - update) * hidden",
    ("mut2", "hidden"): "(1 - update) * hidden",
    ("mgu", "hidden"): "(1 - forget) * hidden",
    ("janet", "hidden"): "forget * hidden",
    ("sru", "cell"): "forget * cell",
    ("simple_rnn", "hidden"): "nothing",
    ("recurrent_highway", "hidden"): None,
    ("clockwork_rnn", "hidden"): None,
    ("constant_error_carousel", "hidden"): "hidden",
}


@pytest.mark.parametrize(("name", "state"), KEPT)
def test_what_was_kept_and_what_was_written(name, state):
    _, _, seen = traced(name, MASK)
    found = analysis.belt(seen, state)
    assert found.how == KEPT[name, state]
    assert_close((found.kept + found.written)[MASK], seen.states[state][MASK])
    assert np.isnan(found.kept[~MASK]).all() and np.isnan(found.state[~MASK]).all()


@pytest.mark.parametrize(
    ("name", "state", "how"),
    [("simple_rnn", "hidden", "nothing"), ("original_lstm", "cell", "cell")],
)
def test_of_a_single_step_from_zero_the_cell_decides(name, state, how):
    """Nothing was there to be kept."""
    own = layer(name)
    own.build((None, None, 2))
    found = analysis.belt(kerasrnn.trace(own, inputs(1, 1, 2)), state)
    assert found.how == how and not found.kept.any()


@pytest.mark.parametrize(
    ("name", "state"), [("mgu", "hidden"), ("lstm", "cell"), ("gru", "hidden")]
)
def test_of_small_states_too(name, state):
    """To be near is to be near for numbers of this size."""
    own, x = layer(name), 1e-7 * inputs()
    own.build(x.shape)
    found = analysis.belt(kerasrnn.trace(own, x), state)
    assert found.how == KEPT[name, state]


def test_what_is_measured_on_one_layer_of_a_model():
    model = keras.Sequential([layers.GRU(2, name="one", return_sequences=True)])
    model(inputs())
    seen = kerasrnn.trace(model, inputs())
    assert_close(
        analysis.saturation(seen)["reset"].open, analysis.saturation(seen["one"])["reset"].open
    )
    model.add(layers.GRU(2, name="two"))
    model(inputs())
    seen = kerasrnn.trace(model, inputs())
    for measure in (analysis.saturation, lambda given: analysis.belt(given, "hidden")):
        with pytest.raises(ValueError, match=r"take one, `trace\['one'\]`"):
            measure(seen)
        with pytest.raises(TypeError, match=r"`layer_trace` must be what `kerasrnn\.trace` gave"):
            measure({"one": 1})


def test_the_kept_part_of_an_lstm_and_of_a_gru():
    _, _, seen = traced("lstm")
    assert_close(
        analysis.belt(seen, "cell").written,
        seen.gates["input"] * seen.gates["candidate"],
        atol=1e-5,
    )
    _, _, seen = traced("mgu", go_backwards=True)
    kept = (1 - seen.gates["forget"]) * seen.previous("hidden")
    assert_close(analysis.belt(seen, "hidden").kept, kept)
    with pytest.raises(ValueError, match="`state` must be one of 'hidden', got 'cell'"):
        analysis.belt(seen, "cell")


@few_layers
def test_gradient_norms_are_tensorflows(name):
    """By one tape over all steps, with the states between them watched."""
    own, x = layer(name), inputs()
    own.build(x.shape)
    randomise(own)
    start = states(own)
    cell = own.cell
    learns = [name not in cell.counters for name in cell.states]
    with tf.GradientTape(persistent=True) as tape:
        now, between = [tf.constant(state) for state in start], []
        for t in range(x.shape[1]):
            now = [tf.identity(state) for state in now]
            tape.watch(now)
            between.append(now)
            output, now = cell(tf.constant(x[:, t]), now)
        loss = tf.reduce_sum(output**2)
    expected = []
    for found in between:
        gradients = tape.gradient(loss, found, unconnected_gradients="zero")
        squares = [
            np.square(g).sum(axis=1) for g, known in zip(gradients, learns, strict=True) if known
        ]
        expected.append(np.sqrt(sum(squares)))
    norms = analysis.gradient_norms(own, x, initial_state=start, loss=lambda output: output**2)
    np.testing.assert_allclose(norms, np.stack(expected, axis=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("go_backwards", [False, True])
def test_gradients_start_at_the_last_step_that_counts(go_backwards):
    own, x = layer("lstm", go_backwards=go_backwards), inputs()
    own.build(x.shape)
    norms = analysis.gradient_norms(own, x, MASK)
    assert norms.shape == MASK.shape and norms.dtype == "float64"
    rows = MASK[:, ::-1] if go_backwards else MASK
    found = norms[:, ::-1] if go_backwards else norms
    for row, values in zip(rows, found, strict=True):
        last = np.flatnonzero(row)[-1] + 1 if row.any() else 0
        assert (values[:last] > 0).all() and not values[last:].any()
    # As if the sequence had no such steps.
    padded, real = norms[1:2, :4], analysis.gradient_norms(own, x[1:2, :4], MASK[1:2, :4])
    np.testing.assert_allclose(padded, real, rtol=1e-5)


def test_gradients_that_vanish_far_below_the_smallest_float32():
    own, x = layers.SimpleRNN(8), inputs(2, 500, 3)
    own.build(x.shape)
    keras.utils.set_random_seed(1)
    randomise(own)
    hidden = kerasrnn.trace(own, x)[own.name].states["hidden"].astype("float64")
    recurrent = np.asarray(own.get_weights()[1], "float64")
    gradient, expected = np.ones((2, 8)), []
    for t in reversed(range(500)):
        gradient = (gradient * (1 - hidden[:, t] ** 2)) @ recurrent.T
        expected.append(np.linalg.norm(gradient, axis=1))
    norms = analysis.gradient_norms(own, x)
    assert 0 < norms[:, 0].max() < 1e-45
    np.testing.assert_allclose(norms[:, ::-1], np.stack(expected, axis=1), rtol=1e-3)


def test_gradients_of_half_precision_are_computed_in_more():
    own, half = layers.GRU(8), layers.GRU(8, dtype="mixed_float16")
    x = inputs(2, 120, 3)
    for each in (own, half):
        each.build(x.shape)
    half.set_weights(own.get_weights())
    norms, of_half = (analysis.gradient_norms(each, x) for each in (own, half))
    assert norms[:, 0].max() < 1e-9
    np.testing.assert_allclose(of_half, norms, rtol=0.1)


def test_what_has_no_gradient_norms():
    stack = layers.Recurrent([kerasrnn.cells.GRUCell(2), kerasrnn.cells.GRUCell(2)])
    with pytest.raises(ValueError, match="`layer` must be a recurrent layer with one cell"):
        analysis.gradient_norms(stack, inputs())
    with pytest.raises(
        ValueError, match=r"Of a model take `model\.get_layer\(name\)`.*`forward_layer`"
    ):
        analysis.gradient_norms(keras.Sequential([layers.GRU(2)]), inputs())
    own = layers.GRU(2)
    own(inputs())
    with pytest.raises(ValueError, match="`loss` must be a function of the output"):
        analysis.gradient_norms(own, inputs(), loss=lambda output: keras.ops.ones((3,)))
