"""`Recurrent` itself: its arguments, masks, states and lengths, with one cell or another."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerasrnn
from kerasrnn import cells
from kerasrnn.layers import GRU, LSTM, Recurrent
from tests.layers._helpers import (
    BATCH,
    FEATURES,
    MASK,
    NAMES,
    TIME,
    UNITS,
    assert_close,
    assert_equal,
    cell,
    each_layer,
    flat,
    inputs,
    randomise,
    states,
)

# Two orders of the same float64 operations.
EXACT = 1e-12

# One cell with two states, one with a single state, two cells with states of different sizes, and
# a cell of Keras's own.
CELLS = {
    "lstm": lambda **arguments: cells.LSTMCell(UNITS, **arguments),
    "gru": lambda **arguments: cells.GRUCell(UNITS, **arguments),
    "stack": lambda **arguments: [
        cells.LSTMCell(3, **arguments),
        cells.GRUCell(UNITS, **arguments),
    ],
    "foreign": lambda **arguments: keras.layers.LSTMCell(UNITS, **arguments),
}
each_cell = pytest.mark.parametrize("kind", CELLS)


def recurrent(kind="lstm", **arguments):
    """A built layer with random weights."""
    layer = Recurrent(CELLS[kind](), **arguments)
    layer.build((BATCH, TIME, FEATURES))
    randomise(layer)
    return layer


def again(layer, **arguments):
    """The same cell in a layer with other arguments."""
    other = Recurrent(layer.cell, **arguments)
    other.build((BATCH, TIME, FEATURES))
    return other


# What comes out.


@pytest.mark.parametrize("mask", [None, MASK], ids=["", "masked"])
@pytest.mark.parametrize("unroll", [False, True], ids=["", "unrolled"])
@each_cell
def test_sequences_and_states_agree(kind, unroll, mask):
    full = recurrent(kind, return_sequences=True, return_state=True)
    arguments = {"initial_state": states(full), "mask": mask}
    outputs, *final = full(inputs(), **arguments)
    last = again(full, unroll=unroll)(inputs(), **arguments)
    sequence = again(full, unroll=unroll, return_sequences=True)(inputs(), **arguments)
    with_state = again(full, unroll=unroll, return_state=True)(inputs(), **arguments)
    assert_close(sequence, outputs)
    assert_close(last, outputs[:, -1])
    assert_close(with_state, [last, *final])
    assert isinstance(with_state, tuple)
    # The first state of these cells is their output, but for rows without a single step.
    assert_close(flat(final)[-1 if kind == "stack" else 0][:2], last[:2])


@pytest.mark.parametrize("zero_output_for_mask", [False, True], ids=["repeating", "zeros"])
@pytest.mark.parametrize("go_backwards", [False, True], ids=["forwards", "backwards"])
@each_cell
def test_backwards_and_unrolled_equal_the_loop_over_reversed_steps(
    kind, go_backwards, zero_output_for_mask
):
    arguments = {
        "return_sequences": True,
        "return_state": True,
        "zero_output_for_mask": zero_output_for_mask,
    }
    loop = recurrent(kind, **arguments)
    start, turn = states(loop), slice(None, None, -1 if go_backwards else 1)
    expected = loop(inputs()[:, turn], initial_state=start, mask=MASK[:, turn])
    for unroll in (False, True):
        other = again(loop, unroll=unroll, go_backwards=go_backwards, **arguments)
        assert_close(other(inputs(), initial_state=start, mask=MASK), expected)


@each_layer
def test_projecting_all_steps_at_once_changes_nothing(name):
    own = cell(name, dtype="float64")
    x = tf.constant(inputs(), "float64")
    results = []
    for wrapper in (Recurrent, keras.layers.RNN):
        layer = wrapper(own, return_sequences=True, dtype="float64")
        layer.build(x.shape)
        randomise(layer)
        weights = [weight.value for weight in layer.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, mask=MASK)
            loss = tf.reduce_sum(outputs**2)
        results.append([outputs, *tape.gradient(loss, [x, *weights])])
    assert_close(*results, atol=EXACT)


# Masks.


@pytest.mark.parametrize("go_backwards", [False, True])
@each_cell
def test_masked_steps_are_as_if_they_were_not_there(kind, go_backwards):
    layer = recurrent(kind, return_sequences=True, return_state=True, go_backwards=go_backwards)
    x, start = inputs(), states(layer)
    outputs, *final = flat(layer(x, mask=MASK, initial_state=start))
    for row, valid in enumerate(MASK):
        one, processed = slice(row, row + 1), valid[::-1] if go_backwards else valid
        own_start = [state[one] for state in start]
        alone, *alone_final = layer(x[one][:, valid], initial_state=own_start)
        assert_close(outputs[one][:, processed], alone)
        assert_close([state[one] for state in final], alone_final)
    # A row without steps: zeros go out, and the states are the ones that came in.
    assert not outputs[2].any()
    assert_equal([state[2] for state in final], [state[2] for state in start])


@each_cell
def test_a_masked_step_repeats_the_output_before_it_or_is_zero(kind):
    layer = recurrent(kind, return_sequences=True)
    start = states(layer)
    outputs = np.asarray(layer(inputs(), mask=MASK, initial_state=start))
    zeroed = again(layer, return_sequences=True, zero_output_for_mask=True)
    assert_close(zeroed(inputs(), mask=MASK, initial_state=start), outputs * MASK[..., None])
    before = np.concatenate([np.zeros_like(outputs[:, :1]), outputs[:, :-1]], axis=1)
    assert_equal(outputs[~MASK], before[~MASK])


@pytest.mark.parametrize("kind", ["lstm", "foreign"])
def test_every_form_of_mask_is_the_same_mask(kind):
    layer = recurrent(kind)
    expected = layer(inputs(), mask=MASK)
    for mask in (MASK[..., None], MASK.astype("int32"), MASK.astype("float32"), tf.constant(MASK)):
        assert_close(layer(inputs(), mask=mask), expected)
    assert_close(layer(inputs(), mask=np.ones_like(MASK)), layer(inputs()))


def test_masks_come_from_embedding_and_masking_and_go_on():
    words = np.random.default_rng(4).integers(1, 9, (BATCH, TIME)) * MASK
    embedding = keras.layers.Embedding(9, FEATURES, mask_zero=True)
    lower, upper = recurrent(return_sequences=True), LSTM(3, return_state=True)
    by_hand = upper(lower(embedding(words), mask=MASK), mask=MASK)
    tokens = keras.Input((None,), dtype="int32")
    model = keras.Model(tokens, upper(lower(embedding(tokens))))
    assert_close(model(words), by_hand)
    x = inputs() * MASK[..., None]
    assert_close(lower(keras.layers.Masking()(x)), lower(x, mask=MASK))
    assert lower.compute_mask(None, MASK) is MASK
    assert upper.compute_mask(None, MASK) == [None, None, None]


def test_what_a_mask_hides_has_no_gradient():
    layer, x = recurrent(), tf.constant(inputs())
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, mask=MASK) ** 2)
    gradient = tape.gradient(loss, x).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[~MASK].any()
    assert gradient[MASK].all()


# Lengths that are unknown or zero.


@pytest.mark.parametrize(
    ("masked", "jit_compile"),
    [
        pytest.param(False, False, marks=pytest.mark.slow),
        (False, True),
        (True, False),
        pytest.param(True, True, marks=pytest.mark.slow),
    ],
)
def test_batch_and_time_may_be_dynamic_and_zero(masked, jit_compile):
    layer = recurrent("lstm", return_sequences=True, return_state=True)
    weights = [weight.value for weight in layer.trainable_weights]

    @tf.function(
        jit_compile=jit_compile,
        input_signature=[tf.TensorSpec((None, None, FEATURES)), tf.TensorSpec((None, None), bool)],
    )
    def run(x, mask):
        with tf.GradientTape() as tape:
            outputs = layer(x, mask=mask if masked else None)
            loss = tf.add_n([tf.reduce_sum(output) for output in outputs])
        return outputs, tape.gradient(loss, weights)

    for batch, time in ((3, 6), (1, 2), (2, 0), (0, 3), (0, 0)):
        x, mask = inputs(batch, time, FEATURES), np.resize(MASK, (batch, time))
        outputs, gradients = run(x, mask)
        assert_close(outputs, layer(x, mask=mask if masked else None))
        assert outputs[0].shape == (batch, time, UNITS)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


@each_cell
def test_no_steps_leave_the_states_as_they_were(kind):
    layer = recurrent(kind, return_sequences=True, return_state=True)
    start, nothing = states(layer), inputs(BATCH, 0, FEATURES)
    known = layer(nothing, initial_state=start)
    dynamic = tf.function(
        lambda x: layer(x, initial_state=start),
        input_signature=[tf.TensorSpec((BATCH, None, FEATURES))],
    )(nothing)
    for outputs, *final in (known, dynamic):
        assert outputs.shape == (BATCH, 0, UNITS)
        assert_equal(final, start)
    assert not np.any(again(layer)(nothing, initial_state=start))
    if kind != "foreign":  # Keras's cells cannot add a bias to an empty batch.
        assert again(layer)(inputs(0, TIME, FEATURES)).shape == (0, UNITS)


# States from batch to batch.


@pytest.mark.parametrize("initial_state", ["zeros", "learned"])
@each_cell
def test_a_sequence_may_be_cut_in_batches(kind, initial_state):
    whole = recurrent(kind, return_sequences=True, initial_state=initial_state)
    stateful = again(whole, return_sequences=True, initial_state=initial_state, stateful=True)
    stateful.set_weights(whole.get_weights())
    x = inputs()
    for mask in (None, MASK):
        # Where it begins with masked steps a part cannot repeat the output of the part before it.
        whole.zero_output_for_mask = stateful.zero_output_for_mask = True
        parts = [slice(0, 2), slice(2, 3), slice(3, TIME)]
        outputs = [
            stateful(x[:, part], mask=None if mask is None else mask[:, part]) for part in parts
        ]
        assert_close(np.concatenate(outputs, axis=1), whole(x, mask=mask))
        stateful.reset_state()


def test_a_smaller_batch_continues_the_first_sequences():
    whole = recurrent(return_sequences=True)
    stateful = again(whole, return_sequences=True, stateful=True)
    x, expected = inputs(), np.asarray(whole(inputs()))
    stateful(x[:, :2])
    assert_close(stateful(x[:2, 2:4]), expected[:2, 2:4])
    # The third row waited meanwhile.
    rest = np.concatenate([x[:2, 4:], x[2:, 2:4]])
    assert_close(stateful(rest), np.concatenate([expected[:2, 4:], expected[2:, 2:4]]))


@pytest.mark.parametrize(
    ("kind", "initial_state"),
    [
        pytest.param("lstm", "zeros", marks=pytest.mark.slow),
        ("lstm", "learned"),
        ("stack", "zeros"),
        pytest.param("stack", "learned", marks=pytest.mark.slow),
    ],
)
def test_fit_and_predict_take_a_smaller_last_batch(kind, initial_state):
    layer = recurrent(kind, stateful=True, initial_state=initial_state)
    model = keras.Sequential(
        [keras.Input(batch_shape=(BATCH, None, FEATURES)), layer, keras.layers.Dense(1)]
    )
    x, before = inputs(2 * BATCH + 2, TIME, FEATURES), model.get_weights()
    model.compile("sgd", "mse")
    model.fit(x, x[:, 0, :1], batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    # Learned states learn from the first batch, though all later ones go on from stored states.
    for weight, old in zip(model.get_weights(), before, strict=True):
        assert np.any(weight != old)
    layer.reset_state()
    predicted = model.predict(x, batch_size=BATCH, verbose=0)
    layer.reset_state()
    for start in range(0, len(x), BATCH):
        rows = slice(start, start + BATCH)
        assert_close(model(x[rows]), predicted[rows])


def test_fit_takes_stateful_batches_of_any_size_and_length():
    layer = recurrent(stateful=True)
    model = keras.Sequential([keras.Input(batch_shape=(BATCH, None, FEATURES)), layer])
    model.compile("sgd", "mse")
    parts = [inputs(batch, time, FEATURES) for batch, time in ((3, 4), (2, 5), (3, 0), (1, 1))]
    signature = tf.TensorSpec((None, None, FEATURES)), tf.TensorSpec((None, UNITS))
    data = tf.data.Dataset.from_generator(
        lambda: ((x, np.zeros((len(x), UNITS))) for x in parts), output_signature=signature
    )
    data = data.apply(tf.data.experimental.assert_cardinality(len(parts)))
    losses = [model.fit(data, shuffle=False, verbose=0).history["loss"][0] for _ in range(2)]
    assert np.isfinite(losses).all()
    layer.reset_state()
    expected = [model(x) for x in parts]
    layer.reset_state()
    predicted = model.predict(data.map(lambda x, _: x), verbose=0)
    assert_close(predicted, np.concatenate(expected))


def test_an_exported_stateful_model_goes_on(tmp_path):
    layer = recurrent(stateful=True, initial_state="learned")
    model = keras.Sequential([keras.Input(batch_shape=(BATCH, None, FEATURES)), layer])
    model.export(str(tmp_path / "exported"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    for part in (inputs()[:, :2], inputs()[:, 2:]):
        assert_close(loaded.serve(part), model(part))


def test_reset_state_takes_states():
    layer = recurrent(stateful=True)
    start = states(layer)
    layer(inputs())
    layer.reset_state(states=start)
    assert_equal([state.value for state in layer.states], start)
    assert_close(layer(inputs()), again(layer)(inputs(), initial_state=start))
    layer.reset_state()
    assert not any(np.any(state) for state in flat(layer.states))
    layer.reset_states()  # The older name.


def test_an_initial_state_that_is_given_goes_before_the_stored_one():
    layer = recurrent(stateful=True)
    start = states(layer)
    layer(inputs())
    assert_close(layer(inputs(), initial_state=start), again(layer)(inputs(), initial_state=start))


def test_a_stateful_bidirectional_layer():
    both = keras.layers.Bidirectional(LSTM(UNITS, stateful=True, return_sequences=True))
    forward, backward = both.forward_layer, both.backward_layer
    first, second = both(inputs()), both(inputs())
    assert np.any(np.abs(first - second) > 1e-3)
    both.reset_state()
    assert_close(both(inputs()), first)
    both.reset_state()
    assert_close(forward(inputs()), first[..., :UNITS])
    assert_close(np.flip(backward(inputs()), axis=1), first[..., UNITS:])


def test_states_are_no_weights():
    """A model trained on batches of three must load into one for batches of one."""
    layer, single = (
        recurrent(stateful=True, initial_state="learned"),
        Recurrent(cells.LSTMCell(UNITS)),
    )
    layer(inputs())
    assert len(layer.weights) == 5
    assert len(layer.variables) == len(layer.weights) + 3 + 1  # Two states, a flag, a seed.
    single.build((1, None, FEATURES))
    single.set_weights(layer.get_weights()[-3:])


# Learned initial states.


@pytest.mark.parametrize("kind", [pytest.param("lstm", marks=pytest.mark.slow), "stack"])
def test_learned_initial_states_learn(kind):
    keras.utils.set_random_seed(1)
    layer = Recurrent(CELLS[kind](), initial_state="learned")
    model = keras.Sequential([keras.Input((None, FEATURES)), layer, keras.layers.Dense(1)])
    assert len(layer.learned_states) == len(keras.tree.flatten(layer.state_size))
    assert not any(np.any(state) for state in flat(layer.learned_states))  # They start as zeros.
    x = inputs()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x) ** 2)
    for gradient in tape.gradient(loss, [state.value for state in layer.learned_states]):
        assert np.any(gradient)
    # With one step of nothing the output can be learned from the initial states only.
    nothing, wanted = np.zeros((BATCH, 1, FEATURES)), np.full((BATCH, 1), 0.5)
    for weight in layer.cell.trainable_weights:
        weight.assign(0.5 * np.ones(weight.shape))
    layer.cell.trainable = model.layers[-1].trainable = False
    model.compile(keras.optimizers.Adam(0.1), "mse")
    losses = model.fit(nothing, wanted, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


def test_learned_initial_states_learn_where_a_sequence_starts():
    layer = recurrent(initial_state="learned", stateful=True)

    def learns():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(inputs()) ** 2)
        weights = [state.value for state in layer.learned_states]
        return bool(np.any(tape.gradient(loss, weights, unconnected_gradients="zero")))

    assert [learns(), learns()] == [True, False]
    layer.reset_state()
    assert [learns(), learns()] == [True, False]
    layer.reset_state(states(layer))
    assert not learns()


@each_cell
def test_learned_initial_states_are_those_that_are_given(kind):
    layer = recurrent(kind, initial_state="learned", return_state=True)
    start = [np.broadcast_to(state, (BATCH, len(state))) for state in flat(layer.learned_states)]
    assert all(np.ptp(state) > 0 for state in start)
    expected = again(layer, return_state=True)(inputs(), initial_state=start)
    assert_close(layer(inputs()), expected)
    _, *untouched = flat(layer(inputs(), mask=np.zeros_like(MASK)))
    assert_equal(untouched, start)


def test_learned_initial_states_are_saved(tmp_path):
    both = keras.layers.Bidirectional(recurrent("stack", initial_state="learned"))
    stateful = LSTM(4, initial_state="learned", stateful=True)
    x = keras.Input(batch_shape=(BATCH, TIME, FEATURES))
    model = keras.Model(x, [both(x), stateful(x)])
    randomise(model)
    expected = model(inputs())
    model.save(tmp_path / "model.keras")
    assert_equal(keras.models.load_model(tmp_path / "model.keras")(inputs()), expected)


# Dropout.


@pytest.mark.parametrize("kind", ["gru", pytest.param("stack", marks=pytest.mark.slow), "foreign"])
def test_dropout_in_training_only(kind):
    layer = Recurrent(CELLS[kind](dropout=0.5, recurrent_dropout=0.5))
    model = keras.Sequential([keras.Input((TIME, FEATURES)), layer, keras.layers.Dense(1)])
    x = inputs(16, TIME, FEATURES)
    quiet = model(x)
    assert_equal(model.predict_on_batch(x), model.predict_on_batch(x))
    assert np.any(model(x, training=True) != model(x, training=True))
    assert_equal(model(x), quiet)
    before = model.get_weights()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(x, x[:, -1, :1], epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert all(np.any(one != other) for one, other in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5)], ids=["dropout", "recurrent"])
def test_the_same_is_dropped_at_every_step_and_something_else_in_every_batch(rates):
    # With the identity for all weights the outputs tell what was dropped.
    rate, recurrent_rate = rates
    own = cells.SimpleRNNCell(
        UNITS, None, use_bias=False, dropout=rate, recurrent_dropout=recurrent_rate
    )
    layer = Recurrent(own, return_sequences=True)
    x = np.ones((BATCH, 3, UNITS), "float32")
    layer.build(x.shape)
    for weight in layer.trainable_weights:
        weight.assign(np.eye(UNITS))
    outputs = np.stack([layer(x, training=True) for _ in range(8)])
    assert np.any(outputs[0] != outputs[1])
    # Kept, an input or state counts double, 1 / (1 - 0.5), at each of the three steps.
    sums = {(2, 4, 6), (0, 0, 0)} if rate else {(1, 3, 7), (1, 1, 1)}
    assert {tuple(steps) for steps in np.moveaxis(outputs, 2, -1).reshape(-1, 3)} == sums


# Other cells.


def test_a_keras_cell_gives_what_keras_gives():
    own = keras.layers.LSTMCell(UNITS)
    arguments = {"return_sequences": True, "return_state": True}
    layer = Recurrent(own, **arguments)
    start = states(layer)
    expected = keras.layers.RNN(own, **arguments)(inputs(), initial_state=start, mask=MASK)
    assert_close(layer(inputs(), initial_state=start, mask=MASK), expected)


def test_a_cell_without_training_or_dropout_of_its_own():
    @keras.saving.register_keras_serializable("tests")
    class Sum(keras.layers.Layer):
        state_size = FEATURES

        def call(self, x, states):
            return x + states[0], x + states[0]  # One state, and not in a list.

    layer = Recurrent(Sum(), return_sequences=True)
    assert_close(layer(inputs()), np.cumsum(inputs(), axis=1), 1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert_close(again(inputs()), np.cumsum(inputs(), axis=1), 1e-5)


@pytest.mark.parametrize(
    "policies", itertools.permutations(["float32", "mixed_float16", "float64"], 2)
)
def test_a_cell_of_another_precision_than_the_layer(policies):
    policy, cell_policy = policies
    own = cells.LSTMCell(UNITS, dtype=cell_policy, dropout=0.5, recurrent_dropout=0.5)
    layer = Recurrent(own, dtype=policy)
    assert_equal(layer(inputs()), keras.layers.RNN(own, dtype=policy)(inputs()))
    for training in (False, True):
        outputs = layer(inputs(), training=training)
        assert outputs.dtype == keras.DTypePolicy(policy).compute_dtype


@pytest.mark.parametrize("mask", [None, MASK], ids=["", "masked"])
def test_a_list_of_one_cell_is_that_cell(mask):
    own = cells.LSTMCell(UNITS)
    assert_equal(
        Recurrent([own], return_state=True)(inputs(), mask=mask),
        Recurrent(own, return_state=True)(inputs(), mask=mask),
    )


def test_a_stack_of_all_cells():
    stack = [cell(name, 2 + number) for number, name in enumerate(NAMES)]
    layer = kerasrnn.layers.Recurrent(stack, return_state=True)
    output, *final = layer(inputs(), mask=MASK)
    assert [len(keras.tree.flatten(state)) for state in final] == [len(c.states) for c in stack]
    assert output.shape == (BATCH, stack[-1].units)


def test_gru_and_lstm_are_layers_of_their_own():
    assert type(LSTM(3).cell) is cells.LSTMCell
    assert type(GRU(3).cell) is cells.GRUCell
    assert isinstance(LSTM(3), Recurrent)


def test_a_call_of_the_bare_cell_leaves_no_mask_for_the_layer():
    one = cells.LSTMCell(4, dropout=0.5, recurrent_dropout=0.5, seed=1)
    own = kerasrnn.layers.Recurrent(one)
    own(inputs(2, 7, 5), training=True)
    # The mask of two sequences would not fit three.
    one(inputs(2, 7, 5)[:, 0], [np.zeros((2, 4), "float32")] * 2, training=True)
    own(inputs(3, 7, 5), training=True)
    # And the cell is out of training again: the same twice.
    assert_equal(one.project(inputs(3, 7, 5)), one.project(inputs(3, 7, 5)))
