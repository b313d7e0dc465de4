"""What holds on every backend. `test_backends.py` runs this file once for each.

By hand: `KERAS_BACKEND=jax pytest -n 0 tests/layers/backend_checks.py`.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kerasrnn import cells, layers
from kerasrnn.layers import _library
from tests.cells._helpers import CASES, FOUNDATION, NAMES
from tests.layers import _crf_reference
from tests.layers._helpers import (
    BATCH,
    FEATURES,
    MASK,
    TIME,
    UNITS,
    assert_close,
    assert_equal,
    flat,
    inputs,
    layer,
    randomise,
    states,
)

# Float32 against a float64 reference, over a few steps.
REFERENCE_ATOL = 1e-5
BACKEND = keras.backend.backend()
# With a mask and initial states, which is where the backends differ.
WAYS = [
    {},
    {"go_backwards": True},
    {"go_backwards": True, "zero_output_for_mask": True},
    {"go_backwards": True, "zero_output_for_mask": True, "unroll": True},
]


def test_the_backend_is_the_one_that_was_asked_for():
    assert os.environ.get("KERAS_BACKEND", BACKEND) == BACKEND


def test_importing_the_package_loads_no_other_framework():
    script = (
        "import keras, sys; was = set(sys.modules); import kerasrnn; print(*set(sys.modules) - was)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not {"tensorflow", "torch", "jax"} & set(done.stdout.split())


# One way for some of the foundation and another. All else waits for `-m slow`.
QUICK = ("peephole_lstm", "gru", "sru")
some_layers = pytest.mark.parametrize("name", QUICK)
VALUES = [
    pytest.param(
        name,
        flags,
        id=f"{name}-{flags}",
        marks=() if flags == WAYS[2] and name in QUICK else pytest.mark.slow,
    )
    for name in NAMES
    for flags in (WAYS if name in FOUNDATION else WAYS[2:3])
]


@pytest.mark.parametrize(("name", "flags"), VALUES)
def test_values_equal_the_reference(name, flags):
    case = next(case for case in CASES if case.name == name)
    own = layer(name, return_sequences=True, return_state=True, **{**case.options, **flags})
    own.build((BATCH, TIME, FEATURES))
    randomise(own)
    weights = {weight.name: flat(weight.value)[0].astype("float64") for weight in own.weights}
    x, start = inputs(), states(own)
    flags = {flag: value for flag, value in flags.items() if flag != "unroll"}
    initial = tuple(state.astype("float64") for state in start)
    outputs, final, _ = case.run(x.astype("float64"), initial, weights, MASK, **flags)
    given = own(x, mask=MASK, initial_state=start)
    assert_close(given, (outputs, *final), REFERENCE_ATOL)
    if not flags:
        outputs, final, _ = case.run(x.astype("float64"), initial, weights)
        assert_close(own(x, initial_state=start), (outputs, *final), REFERENCE_ATOL)


@pytest.mark.parametrize(
    "name", [n if n == "gru" else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_training_lowers_the_loss_and_the_model_loads_to_the_last_bit(name, tmp_path):
    x = inputs(16, TIME, FEATURES)
    y = np.cumsum(x, axis=1)[..., :1]
    own = layer(name, 8, return_sequences=True, initial_state="learned")
    model = keras.Sequential(
        [keras.Input((TIME, FEATURES)), keras.layers.Masking(), own, keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=BACKEND != "torch")
    losses = model.fit(x, y, batch_size=8, epochs=6, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0], losses
    assert all(np.any(state) for state in flat(own.learned_states))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))


def stack(**arguments):
    return [cells.LSTMCell(3, **arguments), cells.GRUCell(UNITS, **arguments)]


@pytest.mark.parametrize(
    "initial_state", [pytest.param("zeros", marks=pytest.mark.slow), "learned"]
)
def test_stateful_batches_continue(initial_state):
    arguments = {"initial_state": initial_state, "return_sequences": True}
    whole = keras.Sequential(
        [keras.Input((None, FEATURES)), layers.Recurrent(stack(), **arguments)]
    )
    own = layers.Recurrent(stack(), stateful=True, **arguments)
    model = keras.Sequential([keras.Input(batch_shape=(BATCH, None, FEATURES)), own])
    randomise(whole)
    model.set_weights(whole.get_weights())
    x, expected = inputs(), whole.predict_on_batch(inputs())
    parts = [model.predict_on_batch(part) for part in (x[:, :2], x[:, 2:])]
    assert_close(np.concatenate(parts, axis=1), expected)
    own.reset_state()
    model.predict_on_batch(x[:, :2])
    assert_close(model.predict_on_batch(x[:2, 2:]), expected[:2, 2:])
    own.reset_state()
    before = model.get_weights()
    x = inputs(2 * BATCH + 1, TIME, FEATURES)  # The last batch is a smaller one.
    model.compile("sgd", "mse")
    model.fit(x, x @ np.ones((FEATURES, UNITS)), batch_size=BATCH, shuffle=False, verbose=0)
    for weight, old in zip(model.get_weights(), before, strict=True):
        assert np.any(weight != old)
    assert all(np.any(state) for state in flat([state.value for state in own.states[0]]))


@pytest.mark.parametrize(
    "kind", [*(pytest.param(k, marks=pytest.mark.slow) for k in ("own", "foreign")), "stack"]
)
def test_dropout(kind):
    rates = {"dropout": 0.5, "recurrent_dropout": 0.5}
    cell = {
        "own": lambda: cells.GRUCell(UNITS, **rates),
        "foreign": lambda: keras.layers.LSTMCell(UNITS, **rates),
        "stack": lambda: stack(**rates),
    }[kind]()
    layer = layers.Recurrent(cell)
    model = keras.Sequential([keras.Input((TIME, FEATURES)), layer, keras.layers.Dense(1)])
    x = inputs()
    quiet = flat(model(x))
    assert np.any(flat(model(x, training=True))[0] != flat(model(x, training=True))[0])
    assert_equal(model(x), quiet)
    model.compile("sgd", "mse")
    model.fit(x, x[:, 0, :1], epochs=2, verbose=0)
    assert_equal(model.predict_on_batch(x), model.predict_on_batch(x))


@pytest.mark.parametrize(
    "form", ["state", *(pytest.param(f, marks=pytest.mark.slow) for f in ("candidate", "weights"))]
)
def test_the_forms_of_dropout_and_zoneout(form):
    rates = {"recurrent_dropout": 0.5, "recurrent_dropout_form": form, "zoneout": 0.3}
    own = layers.PeepholeLSTM(UNITS, layer_norm=True, seed=2, **rates)
    model = keras.Sequential([keras.Input((TIME, FEATURES)), own, keras.layers.Dense(1)])
    x = inputs()
    assert np.any(flat(model(x, training=True))[0] != flat(model(x, training=True))[0])
    model.compile("sgd", "mse")
    model.fit(x, x[:, 0, :1], epochs=2, verbose=0)
    assert_equal(model.predict_on_batch(x), model.predict_on_batch(x))


@pytest.mark.parametrize("time", [*(pytest.param(t, marks=pytest.mark.slow) for t in (1, 7)), 70])
def test_the_scan_equals_the_loop(time):
    x, mask = inputs(2, time, FEATURES), inputs(2, time, seed=3) > 0
    scan = layers.SRU(FEATURES, return_sequences=True, return_state=True, implementation="fused")
    scan.build(x.shape)
    randomise(scan)
    loop = layers.Recurrent(scan.cell, True, True, implementation="loop")
    for given in (None, mask):
        assert_close(scan(x, mask=given), loop(x, mask=given), REFERENCE_ATOL)


LIBRARY = {
    "lstm": ("lstm", {}),
    "without bias": ("lstm", {"use_bias": False}),
    "coupled lstm": ("coupled_lstm", {}),
    "a state that only training drops": ("coupled_lstm", {"recurrent_dropout": 0.5}),
    "gru": ("gru", {"reset_after": True}),
    "simple rnn": ("simple_rnn", {}),
}
on_torch = pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's own recurrences")


@pytest.fixture
def library_calls(monkeypatch):
    """One for each time that a library runs a sequence."""
    calls, whole = [], _library.run
    monkeypatch.setattr(_library, "run", lambda *given: calls.append(1) or whole(*given))
    return calls


@on_torch
@pytest.mark.parametrize("case", LIBRARY)
@pytest.mark.parametrize("mask", ["none", "padded", "holes"])
def test_pytorchs_own_recurrence_equals_the_loop_with_its_gradients(case, mask, library_calls):
    import torch

    padded = np.array([TIME, 2, 0])[:, None] > np.arange(TIME)
    given = {"none": None, "padded": padded, "holes": MASK}[mask]
    for way in WAYS[:3]:
        found, (name, options) = [], LIBRARY[case]
        for implementation in ("auto", "loop"):
            own = layer(
                name,
                return_sequences=True,
                return_state=True,
                implementation=implementation,
                **options,
                **way,
            )
            own.build((None, None, FEATURES))
            randomise(own)
            x = torch.tensor(inputs(), requires_grad=True)
            results = own(x, mask=given, initial_state=states(own))
            sum(torch.sin(result).sum() for result in results).backward()
            gradients = [weight.value.grad for weight in own.trainable_weights]
            found.append([*results, x.grad, *gradients])
        assert_close(*found, 1e-5)
    assert len(library_calls) == 3


@on_torch
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "mixed_bfloat16"])
def test_pytorchs_own_recurrence_in_other_precisions(dtype, library_calls):
    options = {"return_sequences": True, "recurrent_initializer": "glorot_uniform"}
    own = layers.LSTM(UNITS, dtype=dtype, **options)
    loop = layers.LSTM(UNITS, dtype=dtype, implementation="loop", **options)
    own.build((None, None, FEATURES))
    loop.build((None, None, FEATURES))
    loop.set_weights(own.get_weights())
    for mask in (None, np.tril(np.ones((BATCH, TIME), bool))):
        found, expected = (
            keras.ops.cast(one(inputs(), mask=mask), "float32") for one in (own, loop)
        )
        assert_close(found, expected, 1e-6 if dtype == "float64" else 0.02)
    assert len(library_calls) == 2


def test_no_steps_and_no_sequences():
    own = layers.LSTM(UNITS, return_sequences=True, return_state=True)
    own.build((None, None, FEATURES))
    start = states(own)
    outputs, *final = own(inputs(BATCH, 0, FEATURES), initial_state=start)
    assert tuple(outputs.shape) == (BATCH, 0, UNITS)
    assert_equal(final, start)
    assert tuple(own(inputs(0, TIME, FEATURES))[0].shape) == (0, TIME, UNITS)


def test_a_keras_cell_with_a_mask_and_an_initial_state():
    """JAX's loop in Keras lets the initial state out; `Recurrent` gives zeros there too."""
    own = layers.Recurrent(keras.layers.LSTMCell(UNITS), return_sequences=True)
    (outputs,) = flat(own(inputs(), mask=MASK, initial_state=states(own)))
    assert not outputs[0, :2].any()
    assert not outputs[2].any()
    assert outputs[MASK].all()


@some_layers
def test_mixed_precision(name):
    own = layer(name, dtype="mixed_float16", return_state=True)
    outputs = own(inputs(), mask=MASK)
    assert {keras.backend.standardize_dtype(output.dtype) for output in outputs} == {"float16"}
    assert all(np.isfinite(output).all() for output in flat(outputs))


def test_a_crf_equals_the_enumeration():
    tags = 3
    crf = layers.CRF(tags, use_kernel=False)
    crf.build((BATCH, TIME, tags))
    randomise(crf)
    potentials, y = inputs(BATCH, TIME, tags), inputs(BATCH, TIME, seed=4).argsort(axis=1) % tags
    scores = _crf_reference.Scores(potentials, *(flat(w.value)[0] for w in crf.weights), MASK)
    best, shares = np.zeros((BATCH, TIME), int), np.zeros((BATCH, TIME, tags))
    losses = np.zeros(BATCH)
    for index in range(2):  # The last sequence has no steps.
        row, valid = _crf_reference.row(scores, index), MASK[index]
        best[index, valid], shares[index, valid] = row.best, row.marginals
        losses[index] = row.loss(y[index, valid])
    predicted = crf(potentials, mask=MASK)
    assert_equal(predicted, best)
    assert_close(crf(potentials, mask=MASK, marginals=True), shares, REFERENCE_ATOL)
    assert_close(layers.CRFLoss(reduction=None)(y, predicted), losses, REFERENCE_ATOL)
    marked = crf(potentials)
    assert_close(
        layers.CRFLoss(reduction=None)(np.where(MASK, y, -1), marked), losses, REFERENCE_ATOL
    )


def test_a_crf_trains_decodes_and_loads(tmp_path):
    """The first word tells all tags, which go round and round."""
    first = np.arange(12)[:, None] % 3
    y = (first + np.arange(TIME)) % 3
    x = np.where(np.arange(TIME) == 0, first + 1, 4)
    x[::2, 4:] = 0
    model = keras.Sequential(
        [keras.Input((TIME,)), keras.layers.Embedding(5, 4, mask_zero=True), layers.CRF(3)]
    )
    model.compile(keras.optimizers.Adam(0.2), layers.CRF.loss, jit_compile=BACKEND != "torch")
    weights = np.where(np.arange(12) == 0, 0.0, 1.0)
    found = model.fit(x, y, sample_weight=weights, batch_size=6, epochs=20, verbose=0).history
    assert found["loss"][-1] < 0.1 * found["loss"][0]
    assert_equal(model.predict(x, verbose=0), np.where(x > 0, y, 0))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))
    assert np.isfinite(loaded.evaluate(x, y, verbose=0))
