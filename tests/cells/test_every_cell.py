"""Every registered cell against its NumPy reference, and what all of them have in common."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import cells
from tests.cells import references
from tests.cells._helpers import (
    CASES,
    DTYPES,
    FEATURES,
    FOUNDATION,
    MASKS,
    NAMES,
    UNITS,
    VARIANTS,
    WRAPPERS,
    assert_close,
    each,
    make,
    numpy64,
    randomise,
    sequences,
    skip_where_keras_differs,
    tensors,
)

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_name = pytest.mark.parametrize("name", NAMES)
each_wrapper = pytest.mark.parametrize("wrapper", WRAPPERS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="needs tf.GradientTape and true float64"
)

# Central differences of a float64 loss are good to about nine digits.
GRADIENT_RTOL, GRADIENT_ATOL = 1e-6, 1e-9
# Half of what float16 resolves between 1 and 2 is 5e-4; a few roundings add up.
HALF_ATOL = 1e-2


def test_the_variants_name_every_option():
    # What changes no equation, or is not an option of the reference.
    shared = {*cells.PeepholeCell.parameters(), "periods", "output_activation", "transform_bias"}
    for name in NAMES:
        options = set(cells.info(name).cell_class.parameters()) - shared
        assert options == {o for variant in VARIANTS.get(name, []) for o in variant}, name


# Values.


@each_dtype
@each_case
def test_a_step_equals_the_reference(case, dtype):
    cell = case.cell(dtype=dtype)
    x, states = case.sequences()
    cell.build((None, x.shape[-1]))
    weights = randomise(cell)
    outputs, final, gates = case.run(x, states, weights)
    projected = cell.project(*tensors([x], dtype))
    current = tuple(tensors(states, dtype))
    for t in range(x.shape[1]):
        done = cell.checked_step(projected[:, t], current)
        called, next_states = cell(*tensors([x[:, t]], dtype), list(current))
        assert_close(done.output, outputs[:, t], dtype, "output")
        assert_close(called, outputs[:, t], dtype, "output of call")
        assert set(done.gates) == set(gates)
        for gate in gates:
            assert_close(done.gates[gate], gates[gate][:, t], dtype, gate)
        for one, other in zip(next_states, done.states, strict=True):
            assert_close(one, numpy64(other), dtype, "states of call")
        current = done.states
    for name, actual, expected in zip(cell.states, current, final, strict=True):
        assert_close(actual, expected, dtype, name)


@each(
    ("dtype", DTYPES, DTYPES[:1]),
    ("wrapper", list(WRAPPERS), ["Recurrent"]),
    ("mask", list(MASKS), ["every kind of mask"]),
)
def test_a_sequence_equals_the_reference(case, dtype, wrapper, mask):
    if wrapper == "keras.RNN":
        skip_where_keras_differs(MASKS[mask])
    for go_backwards in (False, True):
        for zero_output in (False, True) if mask == "every kind of mask" else (False,):
            options = {"go_backwards": go_backwards, "zero_output_for_mask": zero_output}
            cell = case.cell(dtype=dtype)
            layer = WRAPPERS[wrapper](
                cell, return_sequences=True, return_state=True, dtype=dtype, **options
            )
            x, states = case.sequences()
            layer.build(x.shape)
            weights = randomise(cell)
            (inputs,) = tensors([x], dtype)
            actual = layer(inputs, initial_state=tensors(states, dtype), mask=MASKS[mask])
            outputs, final, _ = case.run(x, states, weights, MASKS[mask], **options)
            for what, one, other in zip(
                ("outputs", *cell.states), actual, (outputs, *final), strict=True
            ):
                assert_close(one, other, dtype, f"{what} with {options}")


@each_wrapper
@each_name
def test_half_precision_keeps_the_weights_whole(name, wrapper):
    case = next(case for case in CASES if case.name == name)
    cell = case.cell(dtype="mixed_float16")
    layer = WRAPPERS[wrapper](cell, return_state=True, dtype="mixed_float16")
    x, _ = case.sequences()
    layer.build(x.shape)
    weights = randomise(cell)
    assert {weight.dtype for weight in cell.trainable_weights} == {"float32"}
    zeros = tuple(numpy64(state) for state in cell.get_initial_state(len(x)))
    outputs, final, _ = case.run(x, zeros, weights)
    for actual, expected in zip(layer(x), (outputs[:, -1], *final), strict=True):
        assert keras.backend.standardize_dtype(actual.dtype) == "float16"
        np.testing.assert_allclose(numpy64(actual), expected, rtol=0, atol=HALF_ATOL)


# Gradients.


@on_tensorflow
@each(
    ("way", ["plain", "masked", "masked backwards"], ["masked"]),
    ("wrapper", list(WRAPPERS), ["Recurrent"]),
    without_bias=False,
)
def test_gradients_equal_central_differences(case, way, wrapper):
    masked, go_backwards = way != "plain", way == "masked backwards"
    # The steps 1 to 4 of every kind of mask: padding, holes and nothing at all.
    mask = MASKS["every kind of mask"][:, 1:5] if masked else None
    cell = case.cell(units=3, dtype="float64")
    x, states = case.sequences(3, time=4, features=2)
    cell.build((None, x.shape[-1]))
    start = dict(zip(cell.states, states, strict=True))
    counters = {name: start.pop(name) for name in cell.counters}  # Whole numbers have no gradient.
    arrays = {**randomise(cell), "inputs": x, **start}
    # Every output and every final state counts, each with a weight of its own.
    random = np.random.default_rng(2)
    shares = [random.normal(size=(5, 4, 3)), *(random.normal(size=state.shape) for state in states)]
    for name in counters:
        shares[1 + cell.states.index(name)] *= 0

    def reference(given):
        start = tuple({**given, **counters}[name] for name in cell.states)
        outputs, final, _ = case.run(given["inputs"], start, given, mask, go_backwards)
        return sum(
            (part * share).sum() for part, share in zip((outputs, *final), shares, strict=True)
        )

    expected = references.numerical_gradients(reference, arrays)
    layer = WRAPPERS[wrapper](
        cell,
        return_sequences=True,
        return_state=True,
        go_backwards=go_backwards,
        dtype="float64",
    )
    inputs, *start = tensors((x, *states), "float64")
    with tf.GradientTape() as tape:
        tape.watch([inputs, *start])
        parts = layer(inputs, initial_state=start, mask=mask)
        loss = sum(tf.reduce_sum(p * share) for p, share in zip(parts, shares, strict=True))
    weights = {weight.name: weight.value for weight in cell.trainable_weights}
    states_by_name = dict(zip(cell.states, start, strict=True))
    sources = {**weights, "inputs": inputs, **states_by_name}
    zeros = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(loss, sources, unconnected_gradients=zeros)
    assert set(gradients) == set(expected) | set(counters)
    for name in counters:
        assert not np.any(gradients.pop(name))
    for name, gradient in gradients.items():
        np.testing.assert_allclose(
            gradient, expected[name], GRADIENT_RTOL, GRADIENT_ATOL, err_msg=name
        )


# Dropout.


def run_with_dropout(case, x, states, weights, input_mask=None, state_mask=None):
    """The reference with each sequence's dropped units as zeroed rows of the two kernels.

    One mask for all gates and steps is the same as scaling the rows of the kernels, which needs no
    second version of the equations. The masks differ between sequences, so these run one by one.
    """
    rows = []
    for row in range(len(x)):
        own, inputs = dict(weights), x[row : row + 1]
        if input_mask is not None and case.options.get("project_input") is False:
            inputs = inputs * input_mask[row]  # The input enters as it is, too.
        elif input_mask is not None:
            own["kernel"] = input_mask[row][:, None] * weights["kernel"]
        if state_mask is not None:
            kernel = weights["recurrent_kernel"]
            own["recurrent_kernel"] = (state_mask[row] * kernel.T).T
        start = tuple(state[row : row + 1] for state in states)
        rows.append(case.run(inputs, start, own)[0])
    return np.concatenate(rows)


def drawn_masks(cell, x, states, dtype):
    """The masks that a cell draws for its next sequence."""
    inputs, state = tensors([x[:, 0], states[0]], dtype)
    masks = cell.get_dropout_mask(inputs), cell.get_recurrent_dropout_mask(state)
    cell.reset_dropout_mask()
    cell.reset_recurrent_dropout_mask()
    return [None if mask is None else numpy64(mask) for mask in masks]


RATES = [{"dropout": 0.5}, {"recurrent_dropout": 0.4}, {"dropout": 0.4, "recurrent_dropout": 0.5}]


@each(("rates", RATES, RATES[2:]), ("wrapper", list(WRAPPERS), ["Recurrent"]), without_bias=False)
def test_dropout_is_one_mask_for_all_gates_and_steps(case, wrapper, rates):
    dtype = DTYPES[0]
    if "recurrent_kernel" not in case.layout().weights:
        if "dropout" not in rates:
            pytest.skip("no recurrent product")
        rates = {"dropout": 0.5}
    cell, twin = (case.cell(dtype=dtype, seed=7, **rates) for _ in range(2))
    layer = WRAPPERS[wrapper](cell, return_sequences=True, dtype=dtype)
    x, states = case.sequences()
    layer.build(x.shape)
    weights = randomise(cell)
    inputs, *start = tensors((x, *states), dtype)
    seen = []
    for _ in range(2):  # Each call draws anew.
        actual = layer(inputs, initial_state=start, training=True)
        masks = drawn_masks(twin, x, states, dtype)
        for rate, mask in zip(("dropout", "recurrent_dropout"), masks, strict=True):
            assert (mask is None) == (rate not in rates)
            if mask is not None:
                kept = 1 / (1 - rates[rate])
                assert set(np.round(np.unique(mask), 6)) == {0.0, round(kept, 6)}
        assert_close(actual, run_with_dropout(case, x, states, weights, *masks), dtype)
        seen.append(numpy64(actual))
    assert np.abs(seen[0] - seen[1]).max() > 0.01
    for training in (False, None):  # Nothing is dropped at inference, before or after training.
        actual = layer(inputs, initial_state=start, training=training)
        assert_close(actual, case.run(x, states, weights)[0], dtype)


@pytest.mark.parametrize(
    "wrapper",
    [w if w == "Recurrent" else pytest.param(w, marks=pytest.mark.slow) for w in WRAPPERS],
)
@each_name
def test_the_seed_decides_what_is_dropped(name, wrapper):
    recurrent = {"recurrent_dropout": 0.3, "recurrent_dropout_form": "candidate", "zoneout": 0.3}

    def trained_outputs(seed):
        cell = make(name, dropout=0.3, seed=seed, **recurrent)
        layer = WRAPPERS[wrapper](cell, return_sequences=True)
        x, _ = sequences(cell)
        layer.build(x.shape)
        randomise(cell)
        return [numpy64(layer(x, training=True)) for _ in range(2)]

    first, again, other = trained_outputs(1), trained_outputs(1), trained_outputs(2)
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.subtract(first, other)).max() > 0.01


# Weights.

# Which of the constructor's `<role>_initializer`, `_regularizer`, `_constraint` serve a weight.
ROLES = {
    "kernel": "kernel",
    "recurrent_kernel": "recurrent",
    "bias": "bias",
    "recurrent_bias": "bias",
    "peephole_kernel": "peephole",
    "gate_kernel": "recurrent",
    "depth_peephole_kernel": "peephole",
    "inner_kernel": "kernel",
    "inner_recurrent_kernel": "recurrent",
}
# Along depth the grid's weights are as those along time; elsewhere what comes from below is an input.
DEPTH_ROLES = {"grid_lstm": "recurrent", "depth_gated_lstm": "kernel"}


def roles(case):
    """The role of every weight that has one: gains and shifts start as they must."""
    all_roles = {**ROLES, "depth_kernel": DEPTH_ROLES.get(case.name)}
    return {name: all_roles[name] for name in case.layout().weights if name in all_roles}


@each_case
def test_weights_and_states_have_their_names_and_shapes(case):
    cell, layout = case.cell(), case.layout()
    cell.build((None, case.features()))
    assert {w.name: tuple(w.shape) for w in cell.trainable_weights} == layout.weights
    assert cell.state_sizes == layout.states
    assert cell.states == tuple(layout.states)
    initial = cell.get_initial_state(3)
    for state, size in zip(initial, layout.states.values(), strict=True):
        np.testing.assert_array_equal(numpy64(state), np.zeros((3, size)))
    # One state may come bare, as in Keras, and then goes bare.
    if len(initial) == 1:
        _, state = cell(keras.ops.ones((3, case.features())), initial[0])
        assert state.shape == (3, UNITS)


@each_case
def test_the_columns_are_in_the_public_order(case):
    """The values show that the columns are those of the reference; here, that they have its names."""
    cell, columns = case.cell(), case.layout().columns
    cell.build((None, case.features()))
    named = {"kernel": cell.input_gates, "recurrent_kernel": cell.recurrent_gates}
    named["bias"] = cell.bias_gates if case.use_bias else ()
    for weight, gates in named.items():
        if gates:
            assert columns[weight] == gates


@pytest.mark.parametrize("name", FOUNDATION)
def test_columns_belong_to_their_gates(name):
    for case in (case for case in CASES if case.name == name):
        cell = case.cell()
        cell.build((None, FEATURES))
        ones, zeros = keras.ops.ones((1, UNITS)), keras.ops.zeros((1, UNITS))
        for weight in cell.trainable_weights:
            if weight.name == "peephole_kernel":
                continue  # Its rows are held to the reference.
            for number, chosen in enumerate(cell.gates):
                # One block of columns drives its gate fully open; the others rest in the middle.
                for other in cell.trainable_weights:
                    other.assign(np.zeros(other.shape))
                value = np.zeros(weight.shape)
                value[..., number * UNITS : (number + 1) * UNITS] = 100.0
                weight.assign(value)
                x = cell.project(keras.ops.ones((1, FEATURES)))
                gates = cell.checked_step(x, (ones, *[zeros] * (len(cell.states) - 1))).gates
                for gate in cell.gates:
                    middle = 0.0 if gate == "candidate" else 0.5
                    expected = 1.0 if gate == chosen else middle
                    np.testing.assert_allclose(numpy64(gates[gate]), expected, err_msg=weight.name)


@each_case
def test_initializers_regularizers_and_constraints_reach_their_weights(case):
    role_of = roles(case)
    values = {role: 0.1 * (number + 1) for number, role in enumerate(sorted(set(role_of.values())))}
    given = {
        role: (
            keras.initializers.Constant(value),
            keras.regularizers.L2(value),
            keras.constraints.MaxNorm(value),
        )
        for role, value in values.items()
    }
    arguments = {}
    for role, (initializer, regularizer, constraint) in given.items():
        arguments[f"{role}_initializer"] = initializer
        arguments[f"{role}_regularizer"] = regularizer
        arguments[f"{role}_constraint"] = constraint
    if "unit_forget_bias" in case.cell_class.parameters():
        arguments["unit_forget_bias"] = False
    if "transform_bias" in case.cell_class.parameters():
        arguments["transform_bias"] = 0.0
    for wrapper in WRAPPERS.values():
        cell = case.cell(**arguments)
        layer = wrapper(cell)
        layer.build((None, 2, case.features()))
        penalty = 0.0
        for weight in cell.trainable_weights:
            if weight.name not in role_of:
                continue
            role = role_of[weight.name]
            if (case.name, role) == ("clockwork_rnn", "recurrent"):
                # What a group does not read is zero.
                weight.assign(np.full(weight.shape, values[role]))
            np.testing.assert_allclose(numpy64(weight), values[role], rtol=1e-6)
            assert weight.regularizer is given[role][1]
            assert weight.constraint is given[role][2]
            penalty += values[role] ** 3 * np.prod(weight.shape)
        layer(np.ones((1, 2, case.features())))
        np.testing.assert_allclose(sum(float(loss) for loss in layer.losses), penalty, rtol=1e-5)


@pytest.mark.parametrize("unit_forget_bias", [True, False])
@each_name
def test_the_forget_gate_starts_open(name, unit_forget_bias):
    cell_class = cells.info(name).cell_class
    has_one = "unit_forget_bias" in cell_class.parameters()
    assert has_one == issubclass(cell_class, cells.MemoryCell)
    options = {"unit_forget_bias": unit_forget_bias} if has_one else {}
    for start in (0.0, 0.5):
        cell = make(name, bias_initializer=keras.initializers.Constant(start), **options)
        cell.build((None, FEATURES))
        by_gate = np.split(numpy64(cell.bias), len(cell.bias_gates))
        for gate, bias in zip(cell.bias_gates, by_gate, strict=True):
            opened = float(has_one and unit_forget_bias and "forget" in gate.split("_"))
            if name == "input_coupled_lstm":  # f = 1 - i, so the input gate starts shut.
                opened = -float(unit_forget_bias) * (gate == "input")
            if gate.startswith("transform"):
                opened = -2.0
            assert (bias == start + opened).all()


@each_case
def test_the_given_activations_are_the_ones_at_work(case):
    arguments = {"activation": lambda x: keras.ops.full_like(x, 0.5)}
    if "recurrent_activation" in case.cell_class.parameters():
        arguments["recurrent_activation"] = lambda x: keras.ops.full_like(x, 0.25)
    cell = case.cell(**arguments)
    x, states = case.sequences()
    cell.build((None, x.shape[-1]))
    done = cell.checked_step(
        cell.project(x[:, 0].astype("float32")), tuple(tensors(states, "float32"))
    )
    for gate, value in done.gates.items():
        expected = 0.5 if "candidate" in gate else 0.75 if gate in cell.derived_gates else 0.25
        if (case.name, gate) not in NOT_SQUASHED:
            np.testing.assert_array_equal(numpy64(value), expected, err_msg=gate)
    if case.name in FOUNDATION and isinstance(cell, cells.MemoryCell):
        np.testing.assert_array_equal(numpy64(done.output), 0.25 * 0.5)


NOT_SQUASHED = {
    ("no_input_activation_lstm", "candidate"),
    ("nested_lstm", "candidate"),  # It has an activation of its own.
    ("multiplicative_lstm", "multiplicative"),
    ("sru", "candidate"),
}


# Configuration.

NON_DEFAULT = {
    "units": 3,
    "activation": keras.activations.softsign,
    "recurrent_activation": keras.activations.hard_sigmoid,
    "use_bias": False,
    "dropout": 0.25,
    "recurrent_dropout": 0.5,
    "seed": 11,
    "unit_forget_bias": False,
    "peepholes": ("forget", "output"),
    "use_peephole": True,
    "reset_after": True,
    "recurrent_dropout_form": "candidate",
    "zoneout": {"cell": 0.25},
    "layer_norm": True,
    "depth": 3,
    "coupled": True,
    "periods": (1, 3, 2),
    "project_input": True,
    "dimensions": 1,
    "tied": True,
    "depth_priority": True,
    "beta": 0.5,
    "transform_bias": -1.0,
    "output_activation": keras.activations.softsign,
    "outer_activation": keras.activations.softsign,
    **{
        f"{role}_{kind}": value
        for number, role in enumerate(("kernel", "recurrent", "bias", "peephole"), start=1)
        for kind, value in {
            "initializer": keras.initializers.RandomNormal(stddev=0.1 * number, seed=number),
            "regularizer": keras.regularizers.L1L2(l1=0.1 * number, l2=0.01),
            "constraint": keras.constraints.MaxNorm(number),
        }.items()
    },
}


def described(value):
    """An argument in a form that can be compared."""
    return (type(value), value.get_config()) if hasattr(value, "get_config") else value


@pytest.mark.parametrize("through", ["get_config", "keras.saving"])
@each_name
def test_every_argument_survives_the_configuration(name, through):
    cell_class = cells.info(name).cell_class
    arguments = {argument: NON_DEFAULT[argument] for argument in cell_class.parameters()}
    if name == "layer_norm_lstm":
        arguments["layer_norm"] = False
    cell = cell_class(**arguments, name="mine", dtype="mixed_bfloat16", trainable=False)
    if through == "get_config":
        restored = cell_class.from_config(json.loads(json.dumps(cell.get_config())))
    else:
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(cell)))
        restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is cell_class
    for argument, value in arguments.items():
        assert described(value) != cell_class.parameters()[argument].default, argument
        assert described(getattr(restored, argument)) == described(value), argument
    assert (restored.name, restored.dtype_policy.name, restored.trainable) == (
        "mine",
        "mixed_bfloat16",
        False,
    )
    assert restored.get_config() == cell.get_config()


@each_name
def test_no_activation_is_the_identity_and_survives_too(name):
    cell = make(name, 3, activation=None)
    restored = type(cell).from_config(cell.get_config())
    assert restored.activation is cell.activation is keras.activations.linear


@each_case
def test_a_saved_model_computes_the_same(case, tmp_path):
    cell = case.cell()
    model = keras.Sequential([keras.Input((None, case.features())), keras.layers.RNN(cell)])
    randomise(cell)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = case.sequences()[0].astype("float32")
    np.testing.assert_array_equal(numpy64(loaded(x)), numpy64(model(x)))


def test_a_subclass_keeps_its_own_arguments_and_those_of_its_bases():
    class LeakyGRUCell(cells.GRUCell):
        def __init__(self, units, *args, leak=0.1, **kwargs):
            super().__init__(units, *args, **kwargs)
            self.leak = leak

    cell = LeakyGRUCell(3, "relu", leak=0.2, reset_after=True, dropout=0.5)
    restored = LeakyGRUCell.from_config(cell.get_config())
    assert (restored.units, restored.leak, restored.reset_after, restored.dropout) == (
        3,
        0.2,
        True,
        0.5,
    )
    assert restored.activation is keras.activations.relu
