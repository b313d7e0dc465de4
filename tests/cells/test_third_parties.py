"""The cells against Keras, PyTorch and ONNX Runtime, given the same weights."""

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import cells
from tests.cells._helpers import (
    FEATURES,
    MASKS,
    TIME,
    UNITS,
    randomise,
    sequences,
    skip_where_keras_differs,
)

# Three float32 implementations, each with its own order of summation.
RTOL, ATOL = 1e-5, 1e-6
# Gradients sum over steps and sequences, so they are larger and lose a little more.
GRADIENT_RTOL, GRADIENT_ATOL = 1e-5, 1e-5

LENGTHS = MASKS["right padding"].sum(axis=1)


def ours(cell, **options):
    """A layer that gives outputs and states, and its weights by name."""
    layer = kerasrnn.layers.Recurrent(cell, return_sequences=True, return_state=True, **options)
    layer.build((None, TIME, FEATURES))
    return layer, {name: w.astype("float32") for name, w in randomise(cell).items()}


def data(cell):
    x, states = sequences(cell)
    return x.astype("float32"), [state.astype("float32") for state in states]


def assert_same(actual, expected, rtol=RTOL, atol=ATOL):
    for one, other in zip(actual, expected, strict=True):
        one, other = (keras.ops.convert_to_numpy(each) for each in (one, other))
        np.testing.assert_allclose(one, other, rtol, atol)


def regate(cell, weight, *wanted):
    """The weight's columns in another order of the gates; "-gate" negates those of a gate."""
    blocks = dict(zip(cell.gates, np.split(weight, len(cell.gates), axis=-1), strict=True))
    signed = [-blocks[gate[1:]] if gate[0] == "-" else blocks[gate] for gate in wanted]
    return np.concatenate(signed, axis=-1)


# Keras.

KERAS_CELLS = {
    "SimpleRNN": (cells.SimpleRNNCell, {}, ("candidate",)),
    "LSTM": (cells.LSTMCell, {}, ("input", "forget", "candidate", "output")),
    "GRU": (cells.GRUCell, {"reset_after": False}, ("-update", "reset", "candidate")),
    "GRU, reset after": (cells.GRUCell, {"reset_after": True}, ("-update", "reset", "candidate")),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("name", KERAS_CELLS)
def test_equals_keras(name, use_bias, mask):
    skip_where_keras_differs(MASKS[mask])
    cell_class, arguments, gates = KERAS_CELLS[name]
    arguments = {**arguments, "use_bias": use_bias}
    for go_backwards in (False, True):
        cell = cell_class(UNITS, **arguments)
        layer, weights = ours(cell, go_backwards=go_backwards)
        theirs = getattr(keras.layers, name.partition(",")[0])(
            UNITS, **arguments, return_sequences=True, return_state=True, go_backwards=go_backwards
        )
        theirs.build((None, TIME, FEATURES))
        converted = [regate(cell, weight, *gates) for weight in weights.values()]
        if "recurrent_bias" in weights:
            converted = [*converted[:2], np.stack(converted[2:])]  # (2, 3 units): input's, state's
        theirs.set_weights(converted)
        x, states = data(cell)
        given = {"initial_state": states, "mask": MASKS[mask]}
        assert_same(layer(x, **given), theirs(x, **given))


# PyTorch.

TORCH_CELLS = {
    "RNN": (cells.SimpleRNNCell, {}, ("candidate",)),
    "LSTM": (cells.LSTMCell, {}, ("input", "forget", "candidate", "output")),
    "LSTM, by Greff's name": (
        cells.NoPeepholeLSTMCell,
        {},
        ("input", "forget", "candidate", "output"),
    ),
    "GRU": (cells.GRUCell, {"reset_after": True}, ("reset", "-update", "candidate")),
}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs tf.GradientTape")
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("name", TORCH_CELLS)
def test_equals_torch_with_its_gradients(name, use_bias):
    torch = pytest.importorskip("torch", reason="PyTorch is missing: install the extra `backends`")
    import tensorflow as tf

    cell_class, arguments, gates = TORCH_CELLS[name]
    cell = cell_class(UNITS, **arguments, use_bias=use_bias)
    layer, weights = ours(cell)
    x, states = data(cell)
    random = np.random.default_rng(3)
    shares = [
        random.normal(size=(*x.shape[:2], UNITS)),
        *(random.normal(size=s.shape) for s in states),
    ]
    shares = [share.astype("float32") for share in shares]

    def torchs(values):
        """Our weights, or their gradients, under PyTorch's names and in its layout."""
        to = {"kernel": "weight_ih_l0", "recurrent_kernel": "weight_hh_l0", "bias": "bias_ih_l0"}
        to["recurrent_bias"] = "bias_hh_l0"
        return {to[name]: regate(cell, np.array(w), *gates).T.copy() for name, w in values.items()}

    module = getattr(torch.nn, name.partition(",")[0])(
        FEATURES, UNITS, batch_first=True, bias=use_bias
    )
    loaded = torchs(weights)
    if use_bias and "bias_hh_l0" not in loaded:  # PyTorch always has two; one of ours is enough.
        loaded["bias_hh_l0"] = np.zeros_like(loaded["bias_ih_l0"])
    module.load_state_dict({key: torch.from_numpy(value) for key, value in loaded.items()})
    given = [torch.tensor(array, requires_grad=True) for array in (x, *states)]
    start = [state[None] for state in given[1:]]
    outputs, final = module(given[0], tuple(start) if len(start) > 1 else start[0])
    theirs = [outputs, *(state[0] for state in (final if isinstance(final, tuple) else (final,)))]
    sum(
        (part * torch.from_numpy(share)).sum() for part, share in zip(theirs, shares, strict=True)
    ).backward()

    inputs, *start = [tf.constant(array) for array in (x, *states)]
    with tf.GradientTape() as tape:
        tape.watch([inputs, *start])
        parts = layer(inputs, initial_state=start)
        loss = sum(tf.reduce_sum(part * share) for part, share in zip(parts, shares, strict=True))
    trained = {weight.name: weight.value for weight in cell.trainable_weights}
    of_weights, of_given = tape.gradient(loss, (trained, [inputs, *start]))

    assert_same(parts, [part.detach().numpy() for part in theirs])
    tolerances = (GRADIENT_RTOL, GRADIENT_ATOL)
    assert_same(of_given, [array.grad.numpy() for array in given], *tolerances)
    for key, gradient in torchs(of_weights).items():
        assert_same([gradient], [getattr(module, key).grad.numpy()], *tolerances)


# ONNX Runtime.

# The operator, its attributes, and its gates in our names: W, R and B in the first order, P in the
# second. With `input_forget` ONNX learns the input gate and has forget = 1 - input, hence the sign;
# its forget blocks must be there but are not read, so that others fill their places.
LSTM_GATES = (("input", "output", "forget", "candidate"), ("input", "output", "forget"))
COUPLED_GATES = (("-forget", "output", "output", "candidate"), ("-forget", "output", "output"))
GRU_GATES = (("-update", "reset", "candidate"), ())
ONNX_CELLS = {
    "simple_rnn": ("RNN", {}, (("candidate",), ())),
    "lstm": ("LSTM", {}, LSTM_GATES),
    "gru": ("GRU", {"linear_before_reset": 0}, GRU_GATES),
    "gru, reset_after": ("GRU", {"linear_before_reset": 1}, GRU_GATES),
    "peephole_lstm": ("LSTM", {}, LSTM_GATES),
    "coupled_lstm": ("LSTM", {"input_forget": 1}, COUPLED_GATES),
    "coupled_lstm, use_peephole": ("LSTM", {"input_forget": 1}, COUPLED_GATES),
}


def onnx_outputs(operator, attributes, inputs):
    """Run one ONNX operator; the inputs, by name, are in the operator's order."""
    onnx = pytest.importorskip("onnx", reason="ONNX is missing: install the extra `test`")
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is missing: install `test`")
    helper = onnx.helper
    outputs = ["Y", "Y_h", *(["Y_c"] if operator == "LSTM" else [])]
    types = {"float32": onnx.TensorProto.FLOAT, "int32": onnx.TensorProto.INT32}
    graph = helper.make_graph(
        [helper.make_node(operator, list(inputs), outputs, hidden_size=UNITS, **attributes)],
        "one_operator",
        [
            helper.make_tensor_value_info(name, types[str(array.dtype)], array.shape)
            for name, array in inputs.items()
        ],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
    )
    # Versions that the oldest supported runtime reads.
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 14)])
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(outputs, inputs)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("name", ONNX_CELLS)
def test_equals_onnx_runtime(name, use_bias):
    operator, attributes, (gates, peephole_gates) = ONNX_CELLS[name]
    cell_name, _, option = name.partition(", ")
    options = {option: True} if option else {}
    cell = cells.get(cell_name, UNITS, use_bias=use_bias, **options)
    layer, weights = ours(cell, zero_output_for_mask=True)
    x, states = data(cell)

    def in_onnx_order(weight):
        return regate(cell, weight, *gates).T[None]

    nothing = np.zeros(len(cell.gates) * UNITS, "float32")
    biases = [weights.get(role, nothing) for role in ("bias", "recurrent_bias")]
    inputs = {
        "X": x.swapaxes(0, 1),
        "W": in_onnx_order(weights["kernel"]),
        "R": in_onnx_order(weights["recurrent_kernel"]),
        "B": np.concatenate([in_onnx_order(bias) for bias in biases], axis=1),
        "sequence_lens": LENGTHS.astype("int32"),
        "initial_h": states[0][None],
    }
    if operator == "LSTM":
        inputs["initial_c"] = states[1][None]
        seen = weights.get("peephole_kernel", ())
        rows = dict(zip(cell.peephole_gates, seen, strict=True)) if len(seen) else {}
        zero = np.zeros(UNITS, "float32")
        peepholes = np.concatenate([rows.get(gate, zero) for gate in cell.gates])
        inputs["P"] = regate(cell, peepholes, *peephole_gates)[None]
    outputs, *final = onnx_outputs(operator, attributes, inputs)
    expected = [outputs[:, 0].swapaxes(0, 1), *(state[0] for state in final)]
    actual = layer(x, initial_state=states, mask=MASKS["right padding"])
    assert_same(actual, expected)
