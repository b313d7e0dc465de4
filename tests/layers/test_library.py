"""cuDNN in the place of a kernel: what it is given, and when. No machine of the tests has it.

So its operation is replaced by its equations, written here from cuDNN's documentation of
`cudnnRNNMode_t` and of the order of its weights; and that order is held against Keras's own packing.
What the graph with the real operation looks like is tested too; only its running is not.
PyTorch's recurrences, which take the same weights, run for real in `backend_checks.py`.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow.rnn import _standardize_cudnn_weights

from kerasrnn import _keras, interop, layers
from kerasrnn.layers import _library
from tests.layers._helpers import FEATURES, UNITS, assert_close, inputs, randomise, states

BATCH, TIME = 5, 9
PADDED = np.array([9, 5, 1, 0, 3])[:, None] > np.arange(TIME)
HOLES = np.random.default_rng(0).random((BATCH, TIME)) > 0.4
MASKS = {"none": None, "padded": PADDED, "padded left": PADDED[:, ::-1], "holes": HOLES}
CASES = {
    "lstm": (layers.LSTM, {}),
    "lstm without bias": (layers.LSTM, {"use_bias": False}),
    "peephole lstm without peepholes": (layers.PeepholeLSTM, {"peepholes": ()}),
    "coupled lstm": (layers.CoupledLSTM, {}),
    "gru": (layers.GRU, {"reset_after": True}),
    "gru without bias": (layers.GRU, {"reset_after": True, "use_bias": False}),
    "simple rnn": (layers.SimpleRNN, {}),
}
WAYS = [
    {"go_backwards": backwards, "zero_output_for_mask": zeros}
    for backwards in (False, True)
    for zeros in (False, True)
]
CALLS = []


def cudnn_rnn(
    input,  # noqa: A002
    input_h,
    input_c,
    params,
    sequence_lengths,
    rnn_mode,
    is_training,
    time_major,
):
    """`tf.raw_ops.CudnnRNNV3` of one layer and one direction, batch first."""
    CALLS.append(rnn_mode)
    assert is_training and not time_major
    x, h, lengths = input, input_h[:, 0], sequence_lengths
    units, features = h.shape[1], x.shape[2]
    gates = {"lstm": 4, "gru": 3, "rnn_tanh": 1}[rnn_mode]
    sizes = [units * features] * gates + [units * units] * gates + [units] * 2 * gates
    parts = tf.split(params, sizes)
    w = [tf.reshape(part, (units, features)) for part in parts[:gates]]
    r = [tf.reshape(part, (units, units)) for part in parts[gates : 2 * gates]]
    b, rb = parts[2 * gates : 3 * gates], parts[3 * gates :]
    c = input_c[:, 0] if rnn_mode == "lstm" else tf.zeros_like(h)
    tf.debugging.assert_positive(lengths, "cuDNN refuses a sequence without a step")

    def step(before, now):
        (_, h, c), (x, t) = before, now
        u = [x @ tf.transpose(w[n]) + b[n] for n in range(gates)]
        v = [h @ tf.transpose(r[n]) + rb[n] for n in range(gates)]
        new_c = c
        if rnn_mode == "lstm":
            i, f, n, o = map(tf.add, u, v)
            new_c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(n)
            new = tf.sigmoid(o) * tf.tanh(new_c)
        elif rnn_mode == "gru":
            reset, update = tf.sigmoid(u[0] + v[0]), tf.sigmoid(u[1] + v[1])
            new = (1 - update) * tf.tanh(u[2] + reset * v[2]) + update * h
        else:
            new = tf.tanh(u[0] + v[0])
        valid = (t < lengths)[:, None]
        output = tf.where(valid, new, tf.zeros_like(new))
        return output, tf.where(valid, new, h), tf.where(valid, new_c, c)

    steps = tf.transpose(x, [1, 0, 2]), tf.range(tf.shape(x)[1])
    outputs, h, c = tf.scan(step, steps, (h, h, c))
    final = h[-1][:, None], c[-1][:, None] if rnn_mode == "lstm" else input_c
    return tf.transpose(outputs, [1, 0, 2]), *final, None, None


@pytest.fixture
def gpu(monkeypatch):
    """A machine that seems to have cuDNN."""
    monkeypatch.setattr(_keras, "has_cudnn", lambda: True)
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", cudnn_rnn)
    CALLS.clear()


def pair(name, **options):
    """The same layer as cuDNN and as the loop of Keras runs it."""
    layer_class, own = CASES[name]
    options = {"return_sequences": True, "return_state": True, **own, **options}
    both = [layer_class(UNITS, implementation=way, **options) for way in ("auto", "loop")]
    for one in both:
        one.build((None, None, FEATURES))
    randomise(both[0])
    both[1].set_weights(both[0].get_weights())
    return both


QUICK = ("coupled lstm", "gru")
some_cases = pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)


@pytest.mark.parametrize("mask", MASKS)
@some_cases
def test_it_equals_the_loop_with_its_gradients(name, mask, gpu):
    x, given, ways = tf.constant(inputs(BATCH, TIME, FEATURES)), MASKS[mask], WAYS
    if mask == "none":
        ways = [way for way in WAYS if not way["zero_output_for_mask"]]
    for way in ways:
        found = []
        for own in pair(name, **way):
            start = states(own, BATCH)
            with tf.GradientTape() as tape:
                tape.watch(x)
                results = own(x, mask=given, initial_state=start)
                total = sum(tf.reduce_sum(tf.sin(result)) for result in results)
            found.append([*results, *tape.gradient(total, [x, *own.trainable_variables])])
        assert_close(found[0][:3], found[1][:3], 2e-6)  # They are as large as 4.
        assert_close(*found, 1e-5)
    assert len(CALLS) == len(ways)


@pytest.mark.parametrize("all_outputs", [True, False])
def test_in_a_graph_of_any_shape_with_its_gradients(all_outputs, gpu):
    """As `fit` calls it; no sequence and no step among the shapes."""
    own, loop = pair("coupled lstm", return_sequences=all_outputs)
    signature = [tf.TensorSpec((None, None, FEATURES)), tf.TensorSpec((None, None), "bool")]

    def both_ways(layer, x, mask):
        with tf.GradientTape() as tape:
            results = layer(x, mask=mask, training=True)
            total = sum(tf.reduce_sum(tf.sin(result)) for result in results)
        return [*results, *tape.gradient(total, layer.trainable_variables)]

    call = tf.function(lambda x, mask: both_ways(own, x, mask), input_signature=signature)
    for shape in ((2, 3), (0, TIME), (2, 0), (1, 1)):
        x, mask = inputs(*shape, FEATURES), np.ones(shape, bool)
        for _ in range(2):
            if all(shape):
                assert_close(call(x, mask), both_ways(loop, x, mask), 1e-5)
            else:
                assert not any(np.any(result) for result in call(x, mask))
            mask[:, :1] = False  # A hole; and of one step, a row without any.
    assert CALLS == ["lstm"]


def test_xla_is_given_the_kernel(gpu):
    own, loop = pair("gru")
    x = inputs(BATCH, TIME, FEATURES)
    compiled = tf.function(own, jit_compile=True)
    assert_close(compiled(x, mask=HOLES), loop(x, mask=HOLES), 2e-6)
    assert not CALLS
    own(x)
    assert CALLS


def test_a_gpu_that_is_hidden_has_no_cudnn(monkeypatch):
    shown = []
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: shown)
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: {"is_cuda_build": True})
    assert not _keras.has_cudnn()
    shown.append("GPU")
    assert _keras.has_cudnn()


def test_tensorflow_takes_what_its_operation_is_given(monkeypatch):
    """The real one, in a graph that is not run, with its gradient."""
    monkeypatch.setattr(_keras, "has_cudnn", lambda: True)
    for name, (layer_class, options) in CASES.items():
        own = layer_class(UNITS, return_sequences=True, return_state=True, **options)
        own.build((None, None, FEATURES))
        signature = [tf.TensorSpec((BATCH, None, FEATURES)), tf.TensorSpec((BATCH, None), "bool")]

        @tf.function(input_signature=signature)
        def both_ways(x, mask, own=own):
            outputs, *_ = own(x, mask=mask)
            return outputs, tf.gradients(outputs, x)[0]

        graph = both_ways.get_concrete_function().graph
        operations = {operation.type for operation in graph.get_operations()}
        assert {"CudnnRNNV3", "CudnnRNNBackpropV3"} <= operations, name
        shapes = [tuple(output.shape) for output in graph.outputs]
        assert shapes == [(BATCH, None, UNITS), (BATCH, None, FEATURES)]


@pytest.mark.parametrize(
    ("theirs", "order"), [(keras.layers.LSTM, (0, 1, 2, 3)), (keras.layers.GRU, (1, 0, 2))]
)
def test_the_weights_lie_as_keras_packs_them(theirs, order):
    keras_layer = theirs(UNITS)
    keras_layer.build((None, None, FEATURES))
    randomise(keras_layer)
    cell, gates = keras_layer.cell, len(order)
    blocks = [tf.split(w.value, gates, axis=1) for w in (cell.kernel, cell.recurrent_kernel)]
    biases = tf.split(tf.reshape(cell.bias.value, (-1,)), len(cell.bias.shape) * gates)
    biases = [*biases, *map(tf.zeros_like, biases)][: 2 * gates]
    expected = _standardize_cudnn_weights(
        [block[n] for block in blocks for n in order],
        [biases[n + second] for second in (0, gates) for n in order],
        tf.constant([-1]),
        transpose_weights=True,
    )
    ours = interop.from_keras(keras_layer).cell
    packed = _library._flat_weights(ours, _library.form_of(ours, training=True), "float32")
    np.testing.assert_array_equal(packed, expected)


def test_what_cudnn_does_not_know_is_left_to_the_kernels(gpu):
    x = inputs(BATCH, TIME, FEATURES)
    for one in (
        layers.PeepholeLSTM(UNITS),
        layers.CoupledLSTM(UNITS, use_peephole=True),
        layers.GRU(UNITS),
        layers.LSTM(UNITS, activation="relu"),
        layers.LSTM(UNITS, layer_norm=True),
        layers.LSTM(UNITS, implementation="fused"),
        layers.LSTM(UNITS, implementation="loop"),
        layers.LSTM(UNITS, unroll=True),
    ):
        one(x, training=True)
        assert one.supports_jit and not CALLS
    for form in ("state", "candidate"):  # Nothing is dropped outside training.
        own = layers.LSTM(UNITS, recurrent_dropout=0.5, recurrent_dropout_form=form)
        own(x, training=True)
        assert not CALLS
        own(x)
        assert CALLS.pop() == "lstm" and not own.supports_jit
    for options in (
        {"dropout": 0.5},
        {"recurrent_dropout": 0.5, "recurrent_dropout_form": "weights"},
    ):
        own = layers.LSTM(UNITS, **options)
        assert not own.supports_jit
        assert np.any(own(x, training=True) != own(x, training=True))
        assert CALLS == ["lstm"] * 2
        CALLS.clear()


def test_a_saved_model_has_no_operation_that_needs_a_gpu(gpu, tmp_path):
    model = keras.Sequential([keras.Input((None, FEATURES)), layers.LSTM(UNITS)])
    x = inputs(BATCH, TIME, FEATURES)
    expected = model(x)
    assert CALLS
    CALLS.clear()
    model.export(tmp_path / "model", verbose=False)
    assert not CALLS
    loaded = tf.saved_model.load(tmp_path / "model")
    assert_close(loaded.serve(x), expected, 1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "mixed_float16"])
def test_precisions(dtype, gpu):
    options = {"return_sequences": True, "recurrent_initializer": "glorot_uniform"}
    own = layers.LSTM(UNITS, dtype=dtype, **options)
    x = inputs(BATCH, TIME, FEATURES)
    found = own(x)
    assert CALLS and found.dtype == own.compute_dtype
    loop = layers.LSTM(UNITS, implementation="loop", dtype="float32", **options)
    loop.build(x.shape)
    loop.set_weights(own.get_weights())
    rtol = 1e-6 if dtype == "float64" else 0.02
    np.testing.assert_allclose(tf.cast(found, "float32"), loop(x), rtol=0, atol=rtol)
