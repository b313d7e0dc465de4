"""Models in ONNX Runtime against the same models in Keras."""

import json
import re

import keras
import numpy as np
import pytest
from keras import ops

import kerasrnn
from benchmarks import onnx as benchmark
from kerasrnn import cells, layers
from kerasrnn.interop import to_onnx, to_streaming
from tests.cells._helpers import MASKS, NAMES
from tests.interop._helpers import Leaky
from tests.layers._helpers import BATCH, FEATURES, TIME, UNITS, inputs, layer, randomise

onnx = pytest.importorskip("onnx", reason="ONNX is missing: install the extra `test`")
runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is missing: install `test`")
if keras.backend.backend() != "tensorflow":
    pytest.skip("models are traced with TensorFlow", allow_module_level=True)

ATOL = 1e-5


def kinds(proto):
    """How often the file has each operator."""
    found = [node.op_type for node in proto.graph.node]
    return {kind: found.count(kind) for kind in found}


def exported(model, tmp_path):
    """The file's content, and what runs it: a function from inputs by their names to all outputs."""
    randomise(model)
    proto = onnx.load(to_onnx(model, tmp_path / "model.onnx"))
    session = runtime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return proto, lambda given: session.run(None, given)


def assert_same(model, run, *given):
    """Both give the same, of each of the inputs."""
    names = [x.name for x in model.inputs]
    for arrays in given:
        arrays = arrays if isinstance(arrays, (list, tuple)) else [arrays]
        expected = keras.tree.flatten(model(arrays if len(arrays) > 1 else arrays[0]))
        actual = run(dict(zip(names, arrays, strict=True)))
        for one, other, name in zip(actual, expected, model.output_names, strict=True):
            other = ops.convert_to_numpy(other)
            assert one.shape == other.shape and one.dtype == other.dtype, name
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=ATOL, err_msg=name)


def masked(mask, features=FEATURES):
    """Sequences that a Masking layer reads this mask from."""
    return inputs(*mask.shape, features) * mask[..., None].astype("float32")


EVERY_MASK = MASKS["every kind of mask"]
# Another batch, another length; the last has no step that is masked.
BATCHES = [masked(EVERY_MASK), masked(MASKS["right padding"][:2, :4]), inputs(1, 9, FEATURES)]


def in_all_ways(make, masking=True):
    """A model that runs a layer with every option that a layer has."""
    x = keras.Input((None, FEATURES), name="x")
    read = keras.layers.Masking()(x) if masking else x
    options = [
        {"return_sequences": True, "return_state": True},
        {"return_sequences": True, "go_backwards": True},
        {"return_sequences": True, "go_backwards": True, "zero_output_for_mask": True},
        {"zero_output_for_mask": True},
        {"go_backwards": True, "return_state": True},
    ]
    return keras.Model(x, [make(**option)(read) for option in options])


NATIVE = {
    "SimpleRNN": (layers.SimpleRNN, {"activation": "relu"}, "RNN"),
    "LSTM": (layers.LSTM, {}, "LSTM"),
    "LSTM, others": (
        layers.LSTM,
        {"activation": "relu", "recurrent_activation": "tanh", "use_bias": False},
        "LSTM",
    ),
    "LSTM, learned": (layers.LSTM, {"initial_state": "learned"}, "LSTM"),
    "PeepholeLSTM": (layers.PeepholeLSTM, {}, "LSTM"),
    "PeepholeLSTM, two": (layers.PeepholeLSTM, {"peepholes": ("forget", "output")}, "LSTM"),
    "PeepholeLSTM, none": (layers.PeepholeLSTM, {"peepholes": ()}, "LSTM"),
    "CoupledLSTM": (layers.CoupledLSTM, {}, "LSTM"),
    "CoupledLSTM, peephole": (layers.CoupledLSTM, {"use_peephole": True}, "LSTM"),
    "GRU": (layers.GRU, {}, "GRU"),
    "GRU, reset_after": (layers.GRU, {"reset_after": True}, "GRU"),
    "GRU, without a bias": (layers.GRU, {"reset_after": True, "use_bias": False}, "GRU"),
    "Keras's SimpleRNN": (keras.layers.SimpleRNN, {}, "RNN"),
    "Keras's LSTM": (keras.layers.LSTM, {}, "LSTM"),
    "Keras's GRU": (keras.layers.GRU, {}, "GRU"),
    "Keras's GRU, tanh": (
        keras.layers.GRU,
        {"reset_after": False, "recurrent_activation": "tanh"},
        "GRU",
    ),
}


# What follows from the others is done when `-m slow` asks for it.
QUICK = (
    "SimpleRNN",
    "LSTM, others",
    "LSTM, learned",
    "PeepholeLSTM",
    "CoupledLSTM, peephole",
    "GRU",
)
QUICK = (*QUICK, "GRU, reset_after", "Keras's GRU", "nested_lstm", "clockwork_rnn", "lstm")


def each(names):
    marked = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in names]
    return pytest.mark.parametrize("name", marked)


@each(NATIVE)
def test_what_onnx_has_is_one_of_its_operators(name, tmp_path):
    layer_class, arguments, kind = NATIVE[name]
    model = in_all_ways(lambda **options: layer_class(UNITS, **arguments, **options))
    proto, run = exported(model, tmp_path)
    assert kinds(proto)[kind] == 5 and "Scan" not in kinds(proto)
    peepholes = any(len(node.input) == 8 for node in proto.graph.node if node.op_type == kind)
    assert peepholes == (name in ("PeepholeLSTM", "PeepholeLSTM, two", "CoupledLSTM, peephole"))
    assert_same(model, run, BATCHES[0])


def test_without_a_mask_an_operator_gets_no_lengths(tmp_path):
    model = in_all_ways(lambda **options: layers.PeepholeLSTM(UNITS, **options), masking=False)
    proto, run = exported(model, tmp_path)
    lengths = {node.input[4] for node in proto.graph.node if node.op_type == "LSTM"}
    assert lengths == {""}
    assert "TopK" not in kinds(proto)
    assert_same(model, run, BATCHES[0])


# The step of any other cell: one with several states, one that counts, a linear one, one of layers within a
# step; and cells that ONNX would have but for an option.
SCANNED = {
    **{name: {} for name in ("nested_lstm", "clockwork_rnn", "sru", "depth_gated_lstm")},
    "lstm": {"layer_norm": True, "zoneout": 0.1},
    "gru": {"recurrent_activation": "hard_sigmoid"},
    "coupled_lstm": {"recurrent_activation": "tanh"},
}


def scanned(name, arguments, tmp_path):
    model = in_all_ways(lambda **options: layer(name, **arguments, **options))
    proto, run = exported(model, tmp_path)
    assert kinds(proto)["Scan"] == 5 and not {"LSTM", "GRU", "RNN"} & {*kinds(proto)}
    assert_same(model, run, BATCHES[0])


@each(SCANNED)
def test_any_other_cell_is_a_scan(name, tmp_path):
    scanned(name, SCANNED[name], tmp_path)


@pytest.mark.slow
def test_every_cell(tmp_path):
    """In one model: as they are, and with what only a scan has."""
    x = keras.Input((None, FEATURES), name="x")
    read = keras.layers.Masking()(x)
    outputs = [
        layer(name, layer_norm=other, return_sequences=True, go_backwards=other)(read)
        for name in NAMES
        for other in (False, True)
    ]
    model = keras.Model(x, outputs)
    assert_same(model, exported(model, tmp_path)[1], BATCHES[0])


def test_cells_of_others_and_stacks_of_cells(tmp_path):
    x = keras.Input((None, FEATURES), name="x")
    stack = [cells.GRUCell(3), keras.layers.LSTMCell(4)]
    outputs = [
        keras.layers.RNN(Leaky(), return_sequences=True)(x),
        *layers.Recurrent(stack, return_state=True, go_backwards=True)(keras.layers.Masking()(x)),
    ]
    model = keras.Model(x, outputs)
    assert_same(model, exported(model, tmp_path)[1], *BATCHES)


def test_a_crf_gives_the_same_tags(tmp_path):
    """With every kind of mask and without; with forbidden transitions; and where scores are equal."""
    x = keras.Input((None, FEATURES), name="x")
    labels = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    options = {"labels": labels, "scheme": "BIO"}
    read = layers.GRU(5, return_sequences=True)(keras.layers.Masking()(x))
    outputs = [layers.CRF(5, **options)(read), layers.CRF(2)(x)]
    model = keras.Model(x, [*outputs, layers.CRF(5, use_kernel=False)(ops.sign(read))])
    proto, run = exported(model, tmp_path)
    assert kinds(proto)["Scan"] == 6
    found = set()
    for batch in (*BATCHES, 3 * inputs(16, 9, FEATURES)):
        given = run({"x": batch})
        for tags, expected in zip(given, model(batch), strict=True):
            np.testing.assert_array_equal(tags, expected)
            assert tags.dtype == "int32"
        found |= {*given[0].ravel()}
    assert len(found) > 2


def test_both_directions_are_one_operator(tmp_path):
    x = keras.Input((None, FEATURES), name="x")
    read = keras.layers.Masking()(x)

    def both(make, mode="concat", **options):
        return keras.layers.Bidirectional(make(UNITS, **options), mode)

    outputs = [
        both(layers.PeepholeLSTM, return_sequences=True, return_state=True)(read),
        both(layers.CoupledLSTM, "sum", use_peephole=True)(read),
        both(layers.GRU, "mul", return_sequences=True, zero_output_for_mask=True)(read),
        keras.layers.Bidirectional(
            keras.layers.GRU(UNITS, return_sequences=True, go_backwards=True),
            "ave",
            backward_layer=keras.layers.GRU(UNITS, return_sequences=True),
        )(read),
        both(keras.layers.LSTM)(x),
        both(layers.LSTM, None, return_sequences=True)(x),
        both(layers.MGU, return_sequences=True)(read),
        keras.layers.Bidirectional(
            layers.LSTM(2), backward_layer=layers.LSTM(3, go_backwards=True)
        )(read),
    ]
    model = keras.Model(x, outputs)
    proto, run = exported(model, tmp_path)
    directions = [
        attribute.s.decode()
        for node in proto.graph.node
        for attribute in node.attribute
        if attribute.name == "direction"
    ]
    assert sorted(directions) == ["bidirectional"] * 6 + ["forward", "reverse"]
    assert_same(model, run, BATCHES[0])


def test_given_states_layers_upon_layers_and_a_layer_used_twice(tmp_path):
    x = keras.Input((None, FEATURES), name="x")
    h, c = keras.Input((UNITS,), name="h"), keras.Input((UNITS,), name="c")
    lstm = layers.PeepholeLSTM(UNITS, return_sequences=True, return_state=True, name="lstm")
    first, *state = lstm(keras.layers.Masking()(x), initial_state=[h, c])
    second, *state = lstm(ops.flip(x, axis=1), initial_state=state)
    third = layers.MGU(UNITS, name="top")(first, initial_state=state[0])
    inner = keras.Model(x, keras.layers.Bidirectional(layers.GRU(2))(x), name="inner")
    model = keras.Model({"x": x, "c": c, "h": h}, [first, second, third, *state, inner(x)])
    proto, run = exported(model, tmp_path)
    names = [each.name for each in proto.graph.output]
    assert names == ["lstm", "lstm_1", "top", "lstm_2", "lstm_3", "inner"]
    random = np.random.default_rng(0)
    given = {"x": BATCHES[0]}
    given |= {name: random.normal(size=(len(BATCHES[0]), UNITS)).astype("float32") for name in "ch"}
    for one, other in zip(run(given), model(given), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=ATOL)


def test_words_and_the_common_layers(tmp_path):
    words = keras.Input((None,), dtype="int32", name="words")
    k = keras.layers
    x = k.Embedding(10, FEATURES, mask_zero=True)(words)
    x = layers.WordDropout(0.1)(x)
    x = k.TimeDistributed(k.Dense(UNITS, activation="gelu"))(x)
    x = layers.LockedDropout(0.2)(k.Dropout(0.1)(x))
    x = k.BatchNormalization()(k.LayerNormalization()(x))
    vectors = [
        k.GlobalMaxPooling1D()(x),
        k.GlobalAveragePooling1D()(x),
        *(layers.SequencePooling(mode)(x) for mode in layers.SequencePooling.MODES),
    ]
    joined = k.Concatenate()([vectors[0], k.Add()(vectors[1:3]), k.Multiply()(vectors[3:])])
    outputs = [
        k.Dense(3, activation="softmax")(x),
        k.Reshape((-1, 1))(k.ReLU()(x)),
        k.Flatten()(k.RepeatVector(3)(joined)),
        k.Dense(2, activation="sigmoid")(k.Activation("elu")(joined)),
        k.Softmax()(k.LeakyReLU()(k.Dense(2)(joined))),
    ]
    model = keras.Model(words, outputs)
    _, run = exported(model, tmp_path)
    words = np.random.default_rng(0).integers(1, 10, EVERY_MASK.shape).astype("int32") * EVERY_MASK
    assert_same(
        model, run, words[:4], words[:2, :3]
    )  # Keras's mean of nothing at all is no number.


def test_operations_upon_tensors(tmp_path):
    x, n = keras.Input((6, FEATURES), name="x"), keras.Input((3,), dtype="int32", name="n")
    first, second, *_ = ops.split(x, 3, axis=1)
    outputs = [
        *(x, x[:, -1], x[..., 0], x[:, 1:-1:2, None, 1:], x[:, ::-1], x[:, 4:1:-2, -1]),
        *(ops.stack([first, second], axis=-2), *ops.unstack(second, axis=1)),
        *ops.split(x, [1, 4], axis=1),
        *(ops.pad(x, [[0, 0], [2, 1], [0, 3]]), ops.tile(x, [1, 2, 1]), ops.repeat(x, 2, axis=2)),
        *(ops.cumsum(x, axis=1), ops.flip(x, axis=-1), ops.transpose(x, (0, 2, 1))),
        *(ops.where(x > 0, x, ops.zeros_like(x)), ops.ones_like(n), ops.cast(x * 9, "int32")),
        *(ops.sum(x, axis=(1, 2)), ops.prod(x, axis=1), ops.min(x, axis=-1, keepdims=True)),
        *(ops.all(x > -2, axis=1), ops.any(n != 3, axis=1), ops.logical_not(n <= 2)),
        *(ops.rsqrt(x * x + 1), ops.erf(x), ops.relu6(x * 9), ops.log_softmax(x), ops.silu(x)),
        *(ops.softplus(x), ops.softsign(x), ops.selu(x), ops.sign(x), ops.floor(x), ops.exp(x)),
        *(ops.matmul(x, ops.transpose(x, (0, 2, 1))), ops.einsum("btf,bsf->bts", x, x)),
        *(
            ops.take(x, [2, 0], axis=1),
            ops.maximum(n, 3),
            ops.hard_sigmoid(x),
            ops.squeeze(first[:, :1], 1),
        ),
    ]
    model = keras.Model([x, n], outputs)
    _, run = exported(model, tmp_path)
    numbers = np.arange(3 * BATCH, dtype="int32").reshape(BATCH, 3) % 5
    assert_same(model, run, [inputs(BATCH, TIME, FEATURES), numbers])


def small():
    return keras.Sequential(
        [keras.Input((None, FEATURES), name="x"), layers.MGU(2), keras.layers.Dense(1, name="out")]
    )


def test_a_sequential_model_and_dynamic_dimensions(tmp_path):
    model = small()
    proto, run = exported(model, tmp_path)
    (given,), (result,) = proto.graph.input, proto.graph.output
    sizes = [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
    assert (given.name, sizes) == ("x", ["batch", "x_1", FEATURES])
    sizes = [d.dim_param or d.dim_value for d in result.type.tensor_type.shape.dim]
    assert (result.name, sizes) == ("out", ["batch", 1])
    for batch in BATCHES:
        np.testing.assert_allclose(run({"x": batch})[0], model(batch), rtol=0, atol=ATOL)


def test_the_model_is_as_it_was(tmp_path):
    model = small()
    before, x = model(BATCHES[0]), BATCHES[0]
    to_onnx(model, tmp_path / "new" / "model.onnx")
    assert "inner_loop" not in vars(model.layers[0])
    np.testing.assert_array_equal(model(x), before)


# What goes wrong.


def says(error, *parts):
    return pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, parts)))


def test_a_layer_that_is_not_known(tmp_path):
    x = keras.Input((None, FEATURES))
    read = layers.LSTM(3, return_sequences=True)(x)
    model = keras.Model(x, keras.layers.Conv1D(2, 3, name="convolving")(read))
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    with says(
        ValueError,
        "'convolving' (Conv1D)",
        "Conv2D",
        "has no counterpart",
        "Export the model up to",
    ):
        to_onnx(model, path)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
    assert "inner_loop" not in vars(model.layers[1])


def test_a_cell_that_is_not_known(tmp_path):
    class SortingCell(cells.SimpleRNNCell):
        def step(self, x, states):
            done = super().step(x, states)
            return done._replace(output=ops.sort(done.output))

    x = keras.Input((None, FEATURES))
    model = keras.Model(x, layers.Recurrent(SortingCell(3), name="sorting")(x))
    with says(ValueError, "'sorting' (Recurrent)", "TopKV2", "in the step of its cell SortingCell"):
        to_onnx(model, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("name", "dtype", "vocabulary"),
    [("StringLookup", "string", ["a", "b"]), ("IntegerLookup", "int64", [3, 5])],
)
def test_a_table_of_words(name, dtype, vocabulary, tmp_path):
    x = keras.Input((None,), dtype=dtype)
    numbers = getattr(keras.layers, name)(vocabulary=vocabulary, name="table")(x)
    model = keras.Model(x, layers.GRU(2)(keras.layers.Embedding(4, 3)(numbers)))
    with says(ValueError, f"'table' ({name})", "LookupTableFindV2", "Export the model up to"):
        to_onnx(model, tmp_path / "model.onnx")


class Doubling(keras.layers.LSTM):
    def inner_loop(self, *args, **kwargs):
        last, every, states = super().inner_loop(*args, **kwargs)
        return 2 * last, 2 * every, states


class Flipping(layers.GRU):
    def call(self, sequences, initial_state=None, mask=None, training=False):
        return super().call(ops.flip(sequences, axis=1), initial_state, mask, training)


class Wide(keras.layers.Layer):
    """A cell whose state is a matrix for each sequence."""

    state_size, output_size = (2, 3), 3

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, 2, 3))]

    def call(self, x, states):
        return ops.sum(states[0], axis=1) + x, [states[0] + x[:, None]]


@pytest.mark.parametrize("export", [to_onnx, to_streaming])
@pytest.mark.parametrize(
    ("shape", "make", "reason"),
    [
        ((None, 3), lambda: Doubling(3, name="own"), "`inner_loop` of its own"),
        ((None, 3), lambda: Flipping(3, name="own"), "`call` of its own"),
        ((None, 5, 5, 1), lambda: keras.layers.ConvLSTM2D(2, 3, name="own"), "`call` of its own"),
        ((None, 3), lambda: keras.layers.RNN(Wide(), name="own"), "the shapes [(1, 2, 3)]"),
    ],
)
def test_a_loop_that_is_not_known(export, shape, make, reason, tmp_path):
    x, layer = keras.Input(shape), make()
    model = keras.Model(x, layer(x))
    with says(ValueError, f"'own' ({type(layer).__name__})", reason):
        export(model, tmp_path / "model")


def test_a_layer_that_is_derived_without_another_loop(tmp_path):
    class Named(layers.LSTM):
        pass

    x = keras.Input((None, FEATURES), name="x")
    model = keras.Model(x, Named(2)(x))
    assert_same(model, exported(model, tmp_path)[1], BATCHES[2])


def test_an_operation_outside_of_all_layers(tmp_path):
    x = keras.Input((FEATURES,))
    with says(ValueError, "an operation outside of its layers", "TopKV2"):
        to_onnx(keras.Model(x, ops.sort(x)), tmp_path / "model.onnx")


def test_what_only_the_data_decide(tmp_path):
    x = keras.Input((None, FEATURES))
    last = keras.layers.Lambda(lambda x: x[:, ops.shape(x)[1] - 1], (FEATURES,), name="last")
    model = keras.Model(x, last(x))
    with says(ValueError, "'last' (Lambda)", "StridedSlice", "only the data decide"):
        to_onnx(model, tmp_path / "model.onnx")


def test_states_that_last_from_call_to_call(tmp_path):
    x = keras.Input(batch_shape=(2, None, FEATURES))
    model = keras.Model(x, layers.GRU(3, stateful=True, name="lasting")(x))
    with says(ValueError, "the stateful layer 'lasting'", "`initial_state`"):
        to_onnx(model, tmp_path / "model.onnx")


def test_another_precision(tmp_path):
    x = keras.Input((None, FEATURES))
    model = keras.Model(x, layers.GRU(3, dtype="mixed_bfloat16", name="short")(x))
    with says(ValueError, "'short'", "bfloat16", "float32 only"):
        to_onnx(model, tmp_path / "model.onnx")


@pytest.mark.parametrize("thing", [None, layers.LSTM(3), keras.Sequential([layers.LSTM(3)])])
def test_no_model(thing, tmp_path):
    with says(ValueError, "`model` must be a functional or Sequential Keras model that is built"):
        to_onnx(thing, tmp_path / "model.onnx")


def test_without_onnx(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with says(ImportError, "pip install kerasrnn[onnx]"):
        kerasrnn.interop.to_onnx(small(), tmp_path / "model.onnx")


# The benchmark.


def test_the_benchmark_compares_like_with_like(monkeypatch, tmp_path, capsys):
    for what in ("intra", "inter"):  # TensorFlow is at work already.
        name = f"set_{what}_op_parallelism_threads"
        monkeypatch.setattr(benchmark.tf.config.threading, name, lambda threads: None)
    options = {"cells": ("lstm",), "sizes": ((2, 5, 3),), "words": 9, "tags": 2, "threads": 1}
    benchmark.main(benchmark.Options(**options, rounds=2, out=str(tmp_path)))
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "onnx.json").read_text("utf-8"))["results"]["lstm"]["2, 5, 3"]
    saved, onnx_runtime = (found["milliseconds"][name] for name in benchmark.CONTENDERS)
    assert found["ratio"] == pytest.approx(saved / onnx_runtime, rel=0.05)
    assert f"{found['ratio']:.2f}" in said and "1 threads each" in said
