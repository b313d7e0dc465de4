"""Cells against those of torchrecurrent, values and gradients. Without that package the tests skip."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import cells
from tests.cells._helpers import FEATURES, UNITS, Case, numpy64, randomise

torch = pytest.importorskip("torch", reason="PyTorch is missing: install the extra `backends`")
torchrecurrent = pytest.importorskip(
    "torchrecurrent", reason="torchrecurrent is missing: install the extra `backends`"
)
if keras.backend.backend() != "tensorflow":
    pytest.skip("needs tf.GradientTape", allow_module_level=True)
import tensorflow as tf  # noqa: E402

# Float64 sums over six steps, in another order.
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}


def theirs(name, weight, cell):
    """Our weight in the layout of theirs, by the name that it has there."""
    if name == "peephole_kernel":
        return {"weight_ph": weight.reshape(-1)}
    if isinstance(cell, cells.IndRNNCell) and name == "recurrent_kernel":
        return {"vector_u": weight}
    if isinstance(cell, cells.MultiplicativeLSTMCell):
        blocks = np.split(weight, weight.shape[-1] // UNITS, axis=-1)
        if name == "kernel":  # Theirs begin with the multiplicative one.
            return {"weight_ih": np.concatenate([blocks[4], *blocks[:4]], axis=-1).T}
        if name == "recurrent_kernel":
            return {"weight_hh": blocks[4].T, "weight_mh": np.concatenate(blocks[:4], axis=-1).T}
        return {"bias_mh": weight}
    if isinstance(cell, cells.MUT1Cell) and name == "bias":
        # The candidate's bias lies outside the inner tanh: with the state's product, not the input's.
        z, r, n = np.split(weight, 3)
        return {"bias_ih": np.concatenate([z, r, 0 * n]), "bias_hh": np.concatenate([0 * r, n])}
    return {
        {"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias_ih"}[name]: weight.T
    }


# Theirs, and the options with which ours is the same cell.
CELLS = {
    "mgu": ("MGUCell", {}, {}),
    "janet": ("JANETCell", {"beta": 1.0}, {"beta": 1.0}),
    "ind_rnn": ("IndRNNCell", {"activation": "tanh"}, {}),
    "multiplicative_lstm": ("MultiplicativeLSTMCell", {}, {}),
    "peephole_lstm": ("PeepholeLSTMCell", {}, {}),
    "mut1": ("MUT1Cell", {"project_input": True}, {}),
    "mut2": ("MUT2Cell", {"project_input": True}, {}),
    "mut3": ("MUT3Cell", {}, {}),
    "original_lstm": (
        "OriginalLSTMCell",
        {"activation": "tanh", "output_activation": "tanh"},
        {},
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_equals_torchrecurrent_with_its_gradients(name):
    """Where torchrecurrent departs from the papers:

    - MUT1 and MUT2 map the input by a matrix where the paper adds it as it is: `project_input=True`.
    - OriginalLSTM squashes by tanh where the paper stretches the logistic function to [-2, 2] and to
      [-1, 1].
    - MUT1 has its candidate's bias twice, within the inner tanh, where the paper has none, and outside.
    - JANET carries its one state twice, and learns beta.
    - It calls MUT3 what has tanh of the state in the update gate, as the paper does; its documentation
      shows the equations of MUT2 there.
    """
    their_name, options, their_options = CELLS[name]
    cell = cells.get(name, UNITS, dtype="float64", **options)
    layer = kerasrnn.layers.Recurrent(cell, True, True, dtype="float64")
    x, start = Case(name).sequences()
    if name == "janet":  # Theirs carries the one state twice.
        start = start[:1]
    layer.build(x.shape)
    weights = randomise(cell)
    random = np.random.default_rng(3)
    shares = [
        random.normal(size=(*x.shape[:2], UNITS)),
        *(random.normal(size=s.shape) for s in start),
    ]

    module = getattr(torchrecurrent, their_name)(FEATURES, UNITS, **their_options).double()
    loaded = {}
    for weight_name, weight in weights.items():
        loaded |= theirs(weight_name, weight, cell)
    parameters = dict(module.named_parameters())
    parameters.pop("beta", None)  # A constant, which it happens to learn.
    assert set(loaded) <= set(parameters)
    with torch.no_grad():
        for parameter_name, parameter in parameters.items():
            value = loaded.get(parameter_name, np.zeros(tuple(parameter.shape)))
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)).reshape(parameter.shape))
    given = [torch.tensor(array, requires_grad=True) for array in (x, *start)]
    state, outputs = given[1:], []
    for t in range(x.shape[1]):
        several = (
            tuple(state) if len(state) > 1 else (state[0],) * 2 if name == "janet" else state[0]
        )
        done = module(given[0][:, t], several)
        state = list(done) if isinstance(done, tuple) else [done]
        state = state[: len(start)]
        outputs.append(state[0])
    parts = [torch.stack(outputs, dim=1), *state]
    sum((p * torch.from_numpy(s)).sum() for p, s in zip(parts, shares, strict=True)).backward()

    inputs, *states = [tf.constant(array) for array in (x, *start)]
    with tf.GradientTape() as tape:
        tape.watch([inputs, *states])
        ours = layer(inputs, initial_state=states)
        loss = sum(tf.reduce_sum(part * share) for part, share in zip(ours, shares, strict=True))
    trained = {weight.name: weight.value for weight in cell.trainable_weights}
    of_weights, of_given = tape.gradient(loss, (trained, [inputs, *states]))
    for one, other in zip(ours, parts, strict=True):
        np.testing.assert_allclose(numpy64(one), other.detach().numpy(), **TOLERANCE)
    for one, other in zip(of_given, given, strict=True):
        np.testing.assert_allclose(numpy64(one), other.grad.numpy(), **TOLERANCE)
    for weight_name, gradient in of_weights.items():
        for their_weight, expected in theirs(weight_name, numpy64(gradient), cell).items():
            actual = parameters[their_weight].grad.numpy().reshape(expected.shape)
            if name == "mut1" and weight_name == "bias":
                # What is no bias of ours has a gradient there too.
                kept = slice(0, 2 * UNITS) if their_weight == "bias_ih" else slice(UNITS, None)
                actual, expected = actual[kept], expected[kept]
            np.testing.assert_allclose(expected, actual, err_msg=weight_name, **TOLERANCE)
