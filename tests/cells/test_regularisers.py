"""Zoneout, the forms of recurrent dropout and layer normalisation, which every cell has from the base."""

import json

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import cells
from tests.cells import references
from tests.cells._helpers import (
    CASES,
    DTYPES,
    FEATURES,
    NAMES,
    UNITS,
    assert_close,
    make,
    numpy64,
    randomise,
    sequences,
    tensors,
)

DTYPE = DTYPES[0]
each_name = pytest.mark.parametrize("name", NAMES)
CASE = {name: next(case for case in CASES if case.name == name) for name in NAMES}
QUICK = ("lstm", "sru")
# The cells with a recurrent product.
RECURRENT = [name for name in NAMES if "recurrent_kernel" in CASE[name].layout().weights]


def kind(state: str) -> str | None:
    """Which zoneout a state has, by what the papers call it."""
    words = state.split("_")
    return "hidden" if "hidden" in words else "cell" if "cell" in words else None


# Zoneout.


@each_name
def test_zoneout_at_inference_is_the_expectation(name):
    case, rates = CASE[name], {"hidden": 0.25, "cell": 0.5}
    states = case.layout().states
    rates = {key: rate for key, rate in rates.items() if key in map(kind, states)}
    cell = case.cell(dtype=DTYPE, zoneout=rates)
    layer = kerasrnn.layers.Recurrent(cell, return_sequences=True, return_state=True, dtype=DTYPE)
    x, start = case.sequences()
    layer.build(x.shape)
    weights = randomise(cell)
    shares = [rates.get(kind(state), 0.0) for state in states]

    def mixed_step(x, old, weights):
        outputs, new, gates = case.run(x[:, None], old, weights)
        mixed = [z * o + (1 - z) * n for z, o, n in zip(shares, old, new, strict=True)]
        # What is given out is the state as it was mixed, where the output is a state.
        same = [m for m, n in zip(mixed, new, strict=True) if np.array_equal(n, outputs[:, 0])]
        gates = {key: value[:, 0] for key, value in gates.items()}
        return (same[0] if same else outputs[:, 0]), tuple(mixed), gates

    expected, final, _ = references.run(mixed_step, x, start, weights)
    inputs, *given = tensors((x, *start), DTYPE)
    actual = layer(inputs, initial_state=given)
    for one, other in zip(actual, (expected, *final), strict=True):
        assert_close(one, other, DTYPE)


@each_name
def test_zoneout_in_training_keeps_or_renews_each_unit(name):
    rate, batch = 0.4, 200
    cell, plain = (make(name, zoneout=zoneout, dtype=DTYPE) for zoneout in (rate, 0.0))
    x, start = sequences(cell)
    x, start = np.repeat(x[:1], batch, axis=0), [np.repeat(s[:1], batch, axis=0) for s in start]
    for one in (cell, plain):
        one.build((None, x.shape[-1]))
        randomise(one)
    inputs, *old = tensors((x[:, 0], *start), DTYPE)
    _, new = plain(inputs, old)
    _, mixed = cell(inputs, old, training=True)
    for state, o, n, m in zip(cell.states, *map(list, (old, new, mixed)), strict=True):
        o, n, m = (numpy64(each) for each in (o, n, m))
        if kind(state) is None:
            np.testing.assert_array_equal(m, n)
            continue
        kept, renewed = np.isclose(m, o, 0, 1e-6), np.isclose(m, n, 0, 1e-6)
        assert (kept | renewed).all()
        # A unit that would not have moved in any case is left out of the count.
        moves = ~np.isclose(o, n, 0, 1e-4)
        assert abs((kept & moves).sum() / moves.sum() - rate) < 0.08


@pytest.mark.parametrize(
    "wrapper",
    [pytest.param(keras.layers.RNN, marks=pytest.mark.slow), kerasrnn.layers.Recurrent],
)
def test_zoneout_draws_anew_in_every_step_and_call(wrapper):
    cell = cells.LSTMCell(50, zoneout={"hidden": 0.5}, seed=3)
    model = keras.Sequential([keras.Input((6, FEATURES)), wrapper(cell, return_sequences=True)])
    x = np.random.default_rng(0).normal(size=(2, 6, FEATURES)).astype("float32")
    first, second = (numpy64(model(x, training=True)) for _ in range(2))
    assert np.any(first != second)
    kept = first[:, 1:] == first[:, :-1]  # A hidden unit that is kept gives out the same again.
    assert 0.35 < kept.mean() < 0.65
    assert len({row.tobytes() for row in kept.reshape(-1, 50)}) == 10
    model.compile("sgd", "mse", jit_compile=True)
    model.fit(x, np.zeros((2, 6, 50)), epochs=2, verbose=0)
    np.testing.assert_array_equal(model.predict_on_batch(x), model.predict_on_batch(x))


# Recurrent dropout.


@each_name
def test_dropout_of_the_candidate(name):
    """Some candidates are zero, the others larger: the same ones in every step of a sequence."""
    options = {"recurrent_dropout": 0.5, "recurrent_dropout_form": "candidate"}
    cell, plain = make(name, seed=1, dtype=DTYPE, **options), make(name, dtype=DTYPE)
    x, start = sequences(cell)
    for one in (cell, plain):
        one.build((None, x.shape[-1]))
        randomise(one)
    inputs, *states = tensors((x, *start), DTYPE)
    cell.set_training(True)
    masks = []
    for t in range(2):
        gates = cell.step(cell.project(inputs[:, t]), tuple(states)).gates
        expected = plain.step(plain.project(inputs[:, t]), tuple(states)).gates
        # The first that is met: what comes after it in a stack sees another input.
        gate = next(gate for gate in gates if "candidate" in gate)
        offered = np.where(numpy64(expected[gate]) == 0, np.nan, numpy64(expected[gate]))
        masks.append(np.round(numpy64(gates[gate]) / offered, 4))
    known = ~np.isnan(masks).any(axis=0)  # relu offers zeros.
    np.testing.assert_array_equal(masks[0][known], masks[1][known])
    assert set(np.unique(masks[0][known])) == {0.0, 2.0}


# What else multiplies states of the step before.
FURTHER = {
    "nested_lstm": ("inner_recurrent_kernel",),
    "full_gate_recurrence_lstm": ("gate_kernel",),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_dropout_of_the_weights(name):
    options = {"recurrent_dropout": 0.5, "recurrent_dropout_form": "weights"}
    cell, twin = (make(name, seed=5, dtype=DTYPE, **options) for _ in range(2))
    layer = kerasrnn.layers.Recurrent(cell, return_sequences=True, dtype=DTYPE)
    x, start = sequences(cell)
    layer.build(x.shape)
    twin.build((None, x.shape[-1]))
    weights = randomise(cell)
    inputs, *states = tensors((x, *start), DTYPE)
    actual = layer(inputs, initial_state=states, training=True)
    mask = numpy64(twin.get_recurrent_dropout_mask(states[0])).ravel()
    assert set(np.unique(mask)) == {0.0, 2.0}
    for one in ("recurrent_kernel", *FURTHER.get(name, ())):
        here, mask = np.split(mask, [weights[one].size])
        weights[one] = here.reshape(weights[one].shape) * weights[one]
    assert not mask.size
    assert_close(actual, CASE[name].run(x, start, weights)[0], DTYPE)
    assert np.any(numpy64(actual) != numpy64(layer(inputs, initial_state=states)))


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(RECURRENT)))
@pytest.mark.parametrize("form", ["state", "weights"])
def test_a_cell_without_a_recurrent_product_has_none_to_drop(name, form):
    cell = make(name, recurrent_dropout=0.5, recurrent_dropout_form=form)
    with pytest.raises(ValueError, match=r"`recurrent_dropout`.*no recurrent product"):
        cell.build((None, FEATURES))


# Layer normalisation.


def normalised(rows):
    centred = rows - rows.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)


@each_name
def test_layer_normalisation_of_both_products(name):
    cell = make(name, layer_norm=True, dtype=DTYPE, use_bias=False)
    x, start = sequences(cell)
    cell.build((None, x.shape[-1]))
    assert {weight.name for weight in cell.weights} >= {"kernel", "input_gain"}
    np.testing.assert_array_equal(numpy64(cell.input_gain), 1.0)
    weights = randomise(cell)
    inputs, h = tensors((x, start[0]), DTYPE)
    product = x @ weights["kernel"]
    assert_close(cell.input_share(inputs), normalised(product) * weights["input_gain"], DTYPE)
    gates = cell.recurrent_gates
    if not gates:
        assert "recurrent_gain" not in weights
        return
    kernel = numpy64(cell.recurrent_weights())
    expected = normalised(start[0] @ kernel) * weights["recurrent_gain"]
    assert_close(cell.recur(h), expected, DTYPE)
    # A part is normalised over its own columns.
    one = slice(UNITS, 2 * UNITS) if len(gates) > 1 else slice(0, UNITS)
    gate = gates[1] if len(gates) > 1 else gates[0]
    expected = normalised(start[0] @ kernel[:, one]) * weights["recurrent_gain"][one]
    assert_close(cell.recur(h, gate), expected, DTYPE)


# All at once, in everything that a layer does.


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES],
)
def test_a_model_with_all_of_them_trains_and_is_saved(name, tmp_path):
    options = {"recurrent_dropout": 0.2, "recurrent_dropout_form": "candidate", "dropout": 0.1}
    cell = make(name, layer_norm=True, zoneout=0.1, **options)
    x, _ = sequences(cell)
    layer = kerasrnn.layers.Recurrent(cell, initial_state="learned")
    model = keras.Sequential([keras.Input(x.shape[1:]), layer, keras.layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=False)
    before = model.get_weights()
    model.fit(x, x[:, 0, :1], epochs=1, verbose=0)
    moved = [np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert sum(moved) >= len(moved) - 1  # Perhaps a state that no step reads.
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))


# Bad input.


@pytest.mark.parametrize("rate", [-0.1, 1.0, "much", None, True], ids=repr)
def test_zoneout_must_be_a_fraction(rate):
    with pytest.raises(ValueError, match=r"`zoneout` must be a fraction.*got"):
        cells.LSTMCell(UNITS, zoneout=rate)
    with pytest.raises(ValueError, match=r'`zoneout\["cell"\]` must be a fraction.*got'):
        cells.LSTMCell(UNITS, zoneout={"hidden": 0.1, "cell": rate})


def test_zoneout_is_kept_as_plain_numbers():
    cell = cells.LSTMCell(UNITS, zoneout={"cell": np.float32(0.25)})
    assert cell.get_config()["zoneout"] == {"cell": 0.25}
    json.dumps(cell.get_config())


@pytest.mark.parametrize("kind", ["hiden", "phase", None, 1], ids=repr)
def test_what_zoneout_does_not_know_is_named(kind):
    with pytest.raises(ValueError, match=rf"may name the states 'hidden'; got unknown \['{kind}'"):
        cells.ClockworkRNNCell(4, zoneout={kind: 0.1}).build((None, FEATURES))


def test_zoneout_names_the_states_that_there_are():
    with pytest.raises(ValueError, match=r"`zoneout` of GRUCell may name .*'hidden'.*'cell'"):
        cells.GRUCell(UNITS, zoneout={"cell": 0.5}).build((None, FEATURES))


def test_an_unknown_form_of_dropout_is_named():
    with pytest.raises(ValueError, match=r"`recurrent_dropout_form`.*'candidate'.*'gates'"):
        cells.GRUCell(UNITS, recurrent_dropout=0.1, recurrent_dropout_form="gates")
