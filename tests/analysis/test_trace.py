"""A trace holds what the cell computed, to the last bit, and leaves no trace."""

import copy
import gc
import threading
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerasrnn
from kerasrnn import cells, layers
from kerasrnn.analysis import _trace
from tests.cells._helpers import CASES, FOUNDATION, NAMES
from tests.layers._helpers import (
    BATCH,
    FEATURES,
    MASK,
    TIME,
    assert_close,
    assert_equal,
    cell,
    inputs,
    layer,
    randomise,
    states,
)

FIRST = {case.name: case for case in reversed(CASES) if case.use_bias}.values()
# Each cell once; with all its options when `-m slow` asks.
each_case = pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=() if c in FIRST else pytest.mark.slow, id=str(c)) for c in CASES],
)


def by_hand(cell, x, start, mask=None, go_backwards=False):
    """The gates, the states and the output of every step, from calls of the cell in a Python loop."""
    now, x = [keras.ops.convert_to_tensor(state) for state in start], keras.ops.convert_to_tensor(x)
    batch, time = x.shape[:2]
    mask = np.ones((batch, time), bool) if mask is None else mask
    output = np.zeros((batch, cell.units), "float32")
    gates, found, outputs = [None] * time, [None] * time, [None] * time
    for t in reversed(range(time)) if go_backwards else range(time):
        counts = mask[:, t, None]
        step = cell.checked_step(cell.project(x[:, t]), tuple(now))
        given, after = step.output, step.states
        if t == 0:  # What a call gives; it need not be asked at every step.
            assert_equal(cell(x[:, t], now), (given, list(after)))
        now = [keras.ops.where(counts, new, old) for new, old in zip(after, now, strict=True)]
        output = np.where(counts, given, output)
        gates[t] = {name: np.where(counts, gate, np.nan) for name, gate in step.gates.items()}
        found[t], outputs[t] = dict(zip(cell.states, map(np.array, now), strict=True)), output
    joined = [
        {n: np.stack([s[n] for s in steps], axis=1) for n in steps[0]} for steps in (gates, found)
    ]
    return *joined, np.stack(outputs, axis=1)


def assert_trace(seen, expected):
    gates, found, output = expected
    assert list(seen.states) == list(found)
    assert set(seen.gates) == set(gates)
    for name, array in gates.items():
        np.testing.assert_array_equal(seen.gates[name], array, err_msg=name)
    for name, array in found.items():
        np.testing.assert_array_equal(seen.states[name], array, err_msg=name)
    np.testing.assert_array_equal(seen.output, output)
    assert {a.dtype for a in (*seen.gates.values(), *seen.states.values(), seen.output)} == {
        np.dtype("float32")
    }


# Values.


@each_case
def test_a_trace_is_a_step_by_step_run_to_the_last_bit(case):
    own = case.cell()
    x, start = keras.tree.map_structure(np.float32, case.sequences(time=3))
    recurrent = layers.Recurrent(own, return_sequences=True)
    recurrent.build(x.shape)
    randomise(recurrent)
    seen = kerasrnn.trace(recurrent, x, initial_state=start)[recurrent.name]
    assert_trace(seen, by_hand(own, x, start))
    assert_close(recurrent(x, initial_state=start), seen.output, atol=1e-5)
    assert_equal([seen.initial_states[name] for name in own.states], start)


@pytest.mark.parametrize(
    ("name", "go_backwards"),
    [("lstm", False), *((name, True) for name in FOUNDATION)]
    + [pytest.param(n, False, marks=pytest.mark.slow) for n in NAMES if n != "lstm"],
)
def test_masked_steps_repeat_the_states_and_have_no_gates(name, go_backwards):
    own = layer(name, return_sequences=True, go_backwards=go_backwards)
    x = inputs()
    own.build(x.shape)
    randomise(own)
    start = states(own)
    seen = kerasrnn.trace(own, x, MASK, start)[own.name]
    assert_trace(seen, by_hand(own.cell, x, start, MASK, go_backwards))
    outputs = np.array(own(x, initial_state=start, mask=MASK))
    assert_close(outputs[:, ::-1] if go_backwards else outputs, seen.output)
    assert_equal(seen.mask, MASK)
    assert seen.go_backwards == go_backwards


def test_zeros_for_masked_outputs_as_the_layer_gives_them():
    own, x = layer("gru", return_sequences=True, zero_output_for_mask=True), inputs()
    expected = own(x, mask=MASK)
    seen = kerasrnn.trace(own, x, MASK)[own.name]
    assert_close(seen.output, expected)
    assert not seen.output[~MASK].any() and seen.states["hidden"][0, 5].any()


@pytest.mark.parametrize("go_backwards", [False, True])
def test_long_sequences_go_in_parts(monkeypatch, go_backwards):
    own, x = layer("peephole_lstm", go_backwards=go_backwards), inputs(2, 9, FEATURES)
    own.build(x.shape)
    randomise(own)
    whole = kerasrnn.trace(own, x)[own.name]
    monkeypatch.setattr(_trace, "LEAST_STEPS", 4)
    monkeypatch.setattr(_trace, "MOST_NUMBERS", 0)
    parts = kerasrnn.trace(own, x)[own.name]
    assert_trace(parts, (whole.gates, whole.states, whole.output))


def test_the_parts_are_as_long_as_their_numbers_are_few():
    small, large = cells.LSTMCell(8), cells.LSTMCell(512)
    assert _trace._at_once([small], 1) == 2**20 // (7 * 8)
    assert _trace._at_once([small, keras.layers.LSTMCell(8)], 10) == 2**20 // (10 * 8 * (7 + 3))
    assert _trace._at_once([large], 128) == 64


def test_what_a_step_found():
    own, x = layer("gru"), inputs()
    own.build(x.shape)
    for backwards in (False, True):
        own.go_backwards = backwards
        seen = kerasrnn.trace(own, x, initial_state=states(own))[own.name]
        found, after = seen.previous("hidden"), seen.states["hidden"]
        start, ends, rest = (
            (-1, slice(0, -1), slice(1, None))
            if backwards
            else (
                0,
                slice(1, None),
                slice(0, -1),
            )
        )
        assert_equal(found[:, start], seen.initial_states["hidden"])
        assert_equal(found[:, ends], after[:, rest])


def test_the_weights_of_the_moment_count():
    """What was compiled for the first trace reads them anew."""
    own, x = layer("lstm"), inputs()
    own.build(x.shape)
    kerasrnn.trace(own, x)
    randomise(own, seed=5)
    start = own.get_initial_state(BATCH)
    assert_trace(kerasrnn.trace(own, x)[own.name], by_hand(own.cell, x, start))


def test_half_precision():
    own, x = layer("lstm", dtype="mixed_bfloat16"), inputs()
    own.build(x.shape)
    seen = kerasrnn.trace(own, x)[own.name]
    assert seen.gates["forget"].dtype == "bfloat16"
    assert_close(seen.output[:, -1].astype("float32"), np.float32(own(x)), atol=2e-2)


# Where the layers are.


def test_in_both_directions_and_one_upon_the_other():
    model = keras.Sequential(
        [
            keras.layers.Input((TIME, FEATURES)),
            keras.layers.Masking(),
            keras.layers.Bidirectional(layers.PeepholeLSTM(3, return_sequences=True), name="both"),
            keras.layers.RNN(
                [cells.GRUCell(4), keras.layers.LSTMCell(3), cells.MGUCell(2)], name="stack"
            ),
            keras.layers.Dense(1),
        ]
    )
    randomise(model)
    x = inputs()
    x[~MASK] = 0
    seen = kerasrnn.trace(model, x)
    assert list(seen) == ["both/forward", "both/backward", "stack/0", "stack/2"]
    assert {key: layer.cell for key, layer in seen.items()} == {
        "both/forward": "PeepholeLSTMCell",
        "both/backward": "PeepholeLSTMCell",
        "stack/0": "GRUCell",
        "stack/2": "MGUCell",
    }
    assert all((layer.mask == MASK).all() for layer in seen.values())
    both, stack = model.layers[1:3]
    for way in ("forward", "backward"):
        own = getattr(both, f"{way}_layer").cell
        gates, found, output = by_hand(
            own, x, own.get_initial_state(BATCH), MASK, go_backwards=way == "backward"
        )
        # Keras has the outputs of masked steps be zeros in both directions.
        expected = gates, found, np.where(MASK[..., None], output, 0)
        assert_trace(seen[f"both/{way}"], expected)
    between = np.concatenate([seen["both/forward"].output, seen["both/backward"].output], axis=-1)
    lowest = stack.cell.cells[0]
    expected = by_hand(lowest, between, lowest.get_initial_state(BATCH), MASK)
    assert_trace(seen["stack/0"], expected)
    assert_close(stack(between, mask=MASK), seen["stack/2"].output[:, -1])


def test_nested_and_shared_layers_have_names_of_their_own():
    shared = layers.GRU(3, name="gru")
    inner_input = keras.Input((None, FEATURES))
    inner = keras.Model(inner_input, shared(inner_input), name="encoder")
    first, second = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    joined = keras.layers.Concatenate()(
        [inner(first), inner(second), layers.GRU(3, name="gru")(first)]
    )
    model = keras.Model([first, second], joined)
    x = [inputs(), inputs(seed=4)]
    seen = kerasrnn.trace(model, x)
    assert set(seen) == {"encoder/gru", "encoder/gru (2)", "gru"}
    assert_equal(seen["encoder/gru (2)"].output, kerasrnn.trace(shared, x[1])["gru"].output)


def test_a_model_of_strings():
    model = kerasrnn.applications.SentimentClassifier(
        ["a", "great", "dull", "film"], units=3, embedding_dim=2, num_layers=2, seed=1
    )
    seen = kerasrnn.trace(model, ["a great film", "dull"])
    assert [name.split("/")[-1] for name in seen] == ["forward", "backward"] * 2
    first = next(iter(seen.values()))
    assert_equal(first.mask, np.array([[True] * 3, [True, False, False]]))
    assert np.isnan(first.gates["update"][1, 1:]).all() and first.gates["update"].shape == (2, 3, 3)


def test_numbers_and_strings_in_lists():
    own, x = layers.GRU(2), inputs()
    own.build(x.shape)
    seen, listed = (kerasrnn.trace(own, given)[own.name] for given in (x, x.tolist()))
    assert_equal(listed.output, seen.output)
    labeler = kerasrnn.applications.SequenceLabeler(
        ["ada", "sleeps"], ["a"], ["NOUN", "VERB"], units=2, embedding_dim=2
    )
    seen = next(iter(kerasrnn.trace(labeler, [["Ada", "sleeps"], ["Ada", ""]]).values()))
    assert_equal(seen.mask, np.array([[True, True], [True, False]]))
    model = kerasrnn.applications.LanguageModel(
        ["a", "b"], level="character", units=2, embedding_dim=2
    )
    seen = next(iter(kerasrnn.trace(model, [model.numbers("abba")]).values()))
    assert seen.output.shape[:2] == (1, 4)


def test_a_subclassed_model_with_lists_of_layers():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.all = [layers.GRU(2, return_sequences=True, name="one"), layers.GRU(2, name="one")]

        def call(self, x):
            return self.all[1](self.all[0](x))

    model = Model()
    model(inputs())
    assert list(kerasrnn.trace(model, inputs())) == ["one", "one (2)"]


def test_layers_of_one_name_one_of_which_is_called_again():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.all = [layers.GRU(4, return_sequences=True, name="one") for _ in range(2)]

        def call(self, x):
            first, second = self.all
            return second(first(first(x)))

    model = Model()
    model(inputs(2, 5, 4))
    seen = kerasrnn.trace(model, inputs(2, 5, 4))
    assert list(seen) == ["one", "one (3)", "one (2)"]
    first, second = model.all
    assert_equal(seen["one (3)"].output, kerasrnn.trace(first, seen["one"].output)["one"].output)
    assert_equal(
        seen["one (2)"].output, kerasrnn.trace(second, seen["one (3)"].output)["one"].output
    )


# Nothing stays.


def test_nothing_in_the_model_changes():
    @keras.saving.register_keras_serializable("tests")
    class Counting(keras.layers.Layer):
        def build(self, shape):
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            self.calls.assign_add(1)
            return x

    own = layers.LSTM(
        4,
        stateful=True,
        dropout=0.5,
        recurrent_dropout=0.5,
        zoneout=0.1,
        seed=1,
        initial_state="learned",
    )
    theirs = keras.layers.RNN(cells.LSTMCell(4, dropout=0.5, seed=2), stateful=True)
    for recurrent in (own, theirs):
        model = keras.Sequential(
            [
                keras.Input(batch_shape=(BATCH, TIME, FEATURES)),
                Counting(),
                keras.layers.Dropout(0.5),
                recurrent,
            ]
        )
        model(inputs())
        kept = [np.array(variable) for variable in model.variables]
        seen = kerasrnn.trace(model, inputs())[recurrent.name]
        assert_equal([np.array(variable) for variable in model.variables], kept)
        assert "inner_loop" not in vars(recurrent)
        assert_equal(
            list(seen.initial_states.values()),
            [np.array(x) for x in keras.tree.flatten(recurrent.states)],
        )
        copy.deepcopy(model)


def test_a_call_that_fails_leaves_nothing_behind():
    class Fails(keras.layers.Layer):
        def call(self, x):
            raise RuntimeError("no")

    own, model = layers.GRU(2), keras.Sequential([layers.GRU(2)])
    own.build((None, None, FEATURES))

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.own, self.fails = own, Fails()
            self.built = True

        def call(self, x):
            return self.fails(self.own(x))

    options = tf.config.optimizer.get_experimental_options()
    with pytest.raises(RuntimeError, match="no"):
        kerasrnn.trace(Model(), inputs())
    assert "inner_loop" not in vars(own)
    model(inputs())
    kerasrnn.trace(model, inputs())
    after = tf.config.optimizer.get_experimental_options()
    assert after.get("disable_meta_optimizer", False) == options.get(
        "disable_meta_optimizer", False
    )


def test_other_threads_call_the_layer_as_ever():
    own, x = layers.GRU(2, return_sequences=True), inputs()
    expected = own(x)
    found = []

    class Asks(keras.layers.Layer):
        def call(self, x):
            thread = threading.Thread(target=lambda: found.append(own(x)))
            thread.start()
            thread.join()
            return own(x)

    asks = Asks()
    asks.own = own
    asks.built = True
    seen = kerasrnn.trace(asks, x)
    assert len(seen) == 1 and len(found) == 1
    assert_close(found[0], expected)


def test_what_was_compiled_goes_with_the_layer():
    own = layers.GRU(2)
    own(inputs())
    kerasrnn.trace(own, inputs())
    gone = weakref.ref(own.cell)
    assert own.cell in _trace._COMPILED
    del own
    gc.collect()
    assert gone() is None


def test_in_memory_a_trace_is_its_arrays():
    own, x = layers.LSTM(32), inputs(4, 200, FEATURES)
    own.build(x.shape)
    seen = kerasrnn.trace(own, x)[own.name]
    arrays = [
        *seen.gates.values(),
        *seen.states.values(),
        *seen.initial_states.values(),
        seen.output,
    ]
    assert all(array.base is None or array.base.nbytes == array.nbytes for array in arrays)
    assert sum(array.nbytes for array in arrays) == 4 * 4 * 32 * (7 * 200 + 2)


# What is said.


def test_what_a_trace_looks_like():
    model = keras.Sequential(
        [keras.Input((5, 3)), layers.GRU(2, name="one", return_sequences=True)]
    )
    model.add(layers.SimpleRNN(2, name="two", go_backwards=True))
    seen = kerasrnn.trace(model, np.zeros((1, 5, 3)))
    assert repr(seen["two"]).splitlines() == [
        "two: SimpleRNNCell, 1 x 5 steps of 2 units, backwards",
        "  gate    candidate  (1, 5, 2)",
        "  state   hidden     (1, 5, 2)",
        "  output             (1, 5, 2)",
    ]
    assert repr(seen) == f"{seen['one']!r}\n{seen['two']!r}"
    with pytest.raises(KeyError, match="no layer 'three'; it has 'one', 'two'"):
        seen["three"]


def test_what_cannot_be_traced():
    x = inputs()
    with pytest.raises(
        TypeError, match="`model_or_layer` must be a Keras layer or model, got 'lstm'"
    ):
        kerasrnn.trace("lstm", x)
    with pytest.raises(ValueError, match=r"`kerasrnn\.layers\.Recurrent\(cell\)`"):
        kerasrnn.trace(cell("gru"), x)
    with pytest.raises(ValueError, match="is not built"):
        kerasrnn.trace(layers.GRU(2), x)
    dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="only")])
    with pytest.raises(ValueError, match=r"its layers are: only \(Dense\)"):
        kerasrnn.trace(dense, x)
    theirs = keras.Sequential([keras.Input((TIME, FEATURES)), keras.layers.LSTM(2, name="old")])
    with pytest.raises(
        ValueError,
        match=r"old \(LSTM\).*In the place of one of Keras's put that of kerasrnn.layers",
    ):
        kerasrnn.trace(theirs, x)
    own = layers.GRU(2)
    own.build(x.shape)
    with pytest.raises(ValueError, match="expected ndim=3, found ndim=2"):
        kerasrnn.trace(own, x[0])
    with pytest.raises(ValueError, match="`mask` of the layer"):
        kerasrnn.trace(own, x, MASK[:, :2])
    with pytest.raises(ValueError, match="`inputs` must be a batch"):
        kerasrnn.trace(own, "a film")
    data = tf.data.Dataset.from_tensors(x)
    with pytest.raises(
        TypeError, match=r"`inputs` must be one batch, got .*`next\(iter\(dataset\)\)`"
    ):
        kerasrnn.trace(own, data)
    assert_equal(kerasrnn.trace(own, next(iter(data)))[own.name].mask, None)
    with pytest.raises(ValueError, match="ran a step: the sequences are empty"):
        kerasrnn.trace(own, x[:, :0])
    with pytest.raises(ValueError, match="`inputs` must be numbers or strings, got the symbolic"):
        kerasrnn.trace(own, keras.Input((TIME, FEATURES)))

    class Compiled(keras.Model):
        def build(self, shape):
            self.own = own

        @tf.function
        def call(self, x):
            return self.own(x)

    model = Compiled()
    model.build(x.shape)
    with pytest.raises(
        ValueError, match=r"in a compiled `tf\.function`, where there are no numbers"
    ):
        kerasrnn.trace(model, x)
    model(x)
    with pytest.raises(ValueError, match=r"or only in a compiled `tf\.function`"):
        kerasrnn.trace(model, x)
