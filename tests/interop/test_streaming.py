"""Models step by step against the same models on whole sequences."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops, tree

from kerasrnn import cells, layers
from kerasrnn.interop import Streaming, to_streaming
from tests.cells._helpers import MASKS, NAMES
from tests.interop._helpers import Leaky
from tests.layers._helpers import FEATURES, TIME, UNITS, inputs, layer, randomise

tf = pytest.importorskip("tensorflow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("models are traced with TensorFlow", allow_module_level=True)

ATOL = 1e-5
EVERY_MASK = MASKS["every kind of mask"]


def masked(mask=EVERY_MASK):
    """Sequences that a Masking layer reads this mask from."""
    return inputs(*mask.shape, FEATURES) * mask[..., None].astype("float32")


def read(stream, x):
    """What a stream gives at each step of `x`, `(batch, time, ...)`, and the last states."""
    states, given = stream.initial_state(len(x)), []
    for t in range(x.shape[1]):
        output, states = stream.step(x[:, t], states)
        given.append([ops.convert_to_numpy(each) for each in tree.flatten(output)])
    return [np.stack(steps, axis=1) for steps in zip(*given, strict=True)], states


def assert_same(model, x, atol=ATOL):
    """Each output at each step is that of the whole; one for a sequence is that of the sequence so far."""
    randomise(model)
    outputs, _ = read(Streaming(model), x)
    whole = tree.flatten(model(x))
    for steps, expected, symbol in zip(outputs, whole, model.outputs, strict=True):
        if symbol.shape[1] is None:
            np.testing.assert_allclose(steps, expected, rtol=0, atol=atol, err_msg=symbol.name)
        else:
            np.testing.assert_allclose(steps[:, -1], expected, rtol=0, atol=atol)


# Cells.


def test_every_cell():
    """In one model, with padding on both sides, holes, and a sequence of nothing."""
    x = keras.Input((None, FEATURES))
    read = keras.layers.Masking()(x)
    model = keras.Model(x, [layer(name, return_sequences=True)(read) for name in NAMES])
    assert len(model.outputs) == len(NAMES) > 25
    assert_same(model, masked())


@pytest.mark.slow
@pytest.mark.parametrize("masking", [True, False])
def test_every_cell_with_every_option(masking):
    x = keras.Input((None, FEATURES))
    read = keras.layers.Masking()(x) if masking else x
    options = {"layer_norm": True, "zoneout": 0.1, "dropout": 0.5, "initial_state": "learned"}
    outputs = [
        layer(name, return_sequences=every, zero_output_for_mask=not every, **options)(read)
        for name in NAMES
        for every in (True, False)
    ]
    assert_same(keras.Model(x, outputs), masked())


def test_cells_of_others_and_stacks_of_cells():
    x = keras.Input((None, FEATURES))
    read = keras.layers.Masking()(x)
    stack = [cells.GRUCell(3), keras.layers.LSTMCell(4)]
    outputs = [
        keras.layers.RNN(Leaky(), return_sequences=True)(x),
        *layers.Recurrent(stack, return_sequences=True, return_state=True)(read),
        *(keras.layers.LSTM(3, return_sequences=True)(read), keras.layers.GRU(3)(read)),
    ]
    assert_same(keras.Model(x, outputs), masked())


# Models.


def tagger():
    """Words, their padding masked: the state stands still there, and the output is repeated."""
    k = keras.layers
    words, marks = (keras.Input((None,), dtype="int32", name=name) for name in ("words", "marks"))
    x = k.Embedding(10, FEATURES, mask_zero=True)(layers.WordDropout(0.1)(words))
    # Keras 3.10 itself cannot concatenate where masks have no known length.
    join = k.Add() if keras.__version__.startswith("3.10.") else k.Concatenate()
    x = layers.LockedDropout(0.2)(join([x, k.Embedding(3, FEATURES, mask_zero=True)(marks)]))
    first = layers.PeepholeLSTM(
        UNITS, return_sequences=True, initial_state="learned", name="first"
    )(x)
    x = k.Add()([k.LayerNormalization()(k.BatchNormalization()(first)), first])
    x = k.TimeDistributed(k.Dense(UNITS, activation="gelu"))(k.Dropout(0.1)(x))
    top = layers.ClockworkRNN(UNITS, return_sequences=True, periods=(1, 2, 3, 4, 5), name="top")(x)
    last = k.GRU(3, name="last")(k.Add()([top, x]))
    tags = k.Dense(4, activation="softmax", name="tags")(top + ops.tanh(x))
    # What comes after the last recurrent layer sees no sequence, and may be anything.
    verdict = k.Dense(1, name="verdict")(k.Flatten()(k.Reshape((3, 1))(last)))
    return keras.Model({"words": words, "marks": marks}, {"tags": tags, "verdict": verdict})


WORDS = np.random.default_rng(0).integers(1, 10, EVERY_MASK.shape).astype("int32") * EVERY_MASK
BATCHES = {"words": WORDS, "marks": WORDS % 3}


def steps(batch):
    return [{name: x[:, t] for name, x in batch.items()} for t in range(WORDS.shape[1])]


def test_words_and_the_common_layers():
    model = tagger()
    randomise(model)
    stream = Streaming(model)
    states, given = stream.initial_state(len(WORDS)), []
    before = [np.array(value) for value in model.weights]
    for step in steps(BATCHES):
        output, states = stream.step(step, states)
        given.append(output)
    expected = model(BATCHES)
    tags = np.stack([output["tags"] for output in given], axis=1)
    np.testing.assert_allclose(tags, expected["tags"], rtol=0, atol=ATOL)
    np.testing.assert_allclose(given[-1]["verdict"], expected["verdict"], rtol=0, atol=ATOL)
    # The verdict after three steps is that on three steps.
    so_far = model({name: x[:, :3] for name, x in BATCHES.items()})
    np.testing.assert_allclose(given[2]["verdict"], so_far["verdict"], rtol=0, atol=ATOL)
    assert "inner_loop" not in vars(model.get_layer("first"))
    for value, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_a_masked_step_leaves_the_states_alone():
    model = tagger()
    randomise(model)
    stream = Streaming(model)
    start = stream.initial_state(2)
    words = {"words": np.array([4, 5], "int32"), "marks": np.array([0, 1], "int32")}
    _, states = stream.step(words, start)
    words["words"] = np.array([0, 6], "int32")
    _, later = stream.step(words, states)
    names = {"first": ("hidden", "cell"), "top": ("hidden", "phase"), "last": ("state_0",)}
    assert {*states} == {f"{n}_{s}" for n, own in names.items() for s in (*own, "output")}
    for name in states:
        np.testing.assert_array_equal(later[name][0], states[name][0], err_msg=name)
    assert any((later[name][1] != states[name][1]).numpy().any() for name in states)


def test_a_stream_that_begins_anew():
    """The reset of one row: its row of `initial_state`, while the others go on."""
    model = keras.Sequential(
        [keras.Input((None, FEATURES)), layers.LSTM(3, initial_state="learned")]
    )
    randomise(model)
    stream, x = Streaming(model), inputs(2, TIME, FEATURES)
    start = states = stream.initial_state(2)
    for t in range(TIME):
        if t == 2:
            states = {n: tf.where([[False], [True]], start[n], s) for n, s in states.items()}
        output, states = stream.step(x[:, t], states)
    np.testing.assert_allclose(output[:1], model(x[:1]), rtol=0, atol=ATOL)
    np.testing.assert_allclose(output[1:], model(x[1:, 2:]), rtol=0, atol=ATOL)


def test_layers_upon_layers_a_layer_used_twice_and_a_decoder():
    x = keras.Input((None, FEATURES))
    lstm = layers.LSTM(FEATURES, return_sequences=True, return_state=True, name="lstm")
    first, *_ = lstm(x)
    second, h, _ = lstm(first)
    y = keras.Input((None, FEATURES))
    inner = keras.Model(y, layers.GRU(3, return_sequences=True)(y))
    # What decodes the last state runs from its beginning at every step.
    decoded = layers.MGU(2, return_sequences=True)(keras.layers.RepeatVector(3)(h))
    model = keras.Model(x, [inner(second), h, decoded])
    assert [*Streaming(model).states][:4] == [
        *("lstm_hidden", "lstm_cell", "lstm_hidden_1", "lstm_cell_1")
    ]
    assert_same(model, inputs())


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_other_precisions(policy):
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            layers.PeepholeLSTM(4, return_sequences=True, dtype=policy),
            keras.layers.Dense(2, dtype="float32"),
        ]
    )
    wide = "float64" if policy == "float64" else "float32"
    assert {spec.dtype.name for spec in Streaming(model).states.values()} == {wide}
    assert_same(model, inputs(), {"mixed_bfloat16": 5e-2, "mixed_float16": 5e-3}.get(policy, ATOL))


# Files.


def test_a_saved_model(tmp_path):
    model = tagger()
    randomise(model)
    path = to_streaming(model, tmp_path / "new" / "model")
    assert [file.name for file in path.parent.iterdir()] == ["model"]
    loaded = tf.saved_model.load(path)
    served = loaded.signatures
    assert {*served} >= {"step", "initial_state"}
    for signature in ("step", "initial_state"):  # no hidden variables
        kinds = {op.type for op in served[signature].graph.get_operations()}
        assert not {kind for kind in kinds if "Assign" in kind or kind.endswith("While")}
    for batch in (BATCHES, {name: x[:2] for name, x in BATCHES.items()}):
        states = served["initial_state"](batch=tf.constant(len(batch["words"])))
        for step in steps(batch):
            given = {name: tf.constant(x) for name, x in step.items()}
            answer = served["step"](**given, **states)
            states = {name: answer.pop(name) for name in states}
        assert {*answer} == {"tags", "verdict"}
        expected = model(batch)
        np.testing.assert_allclose(answer["tags"], expected["tags"][:, -1], rtol=0, atol=ATOL)
        np.testing.assert_allclose(answer["verdict"], expected["verdict"], rtol=0, atol=ATOL)
    with says(FileExistsError, "`filepath` is there already"):
        to_streaming(model, path)


SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
folder, x, out = sys.argv[1:]
served, x = tf.saved_model.load(folder).signatures, np.load(x)
states, outputs = served["initial_state"](batch=tf.constant(len(x))), {}
for t in range(x.shape[1]):
    answer = served["step"](x=tf.constant(x[:, t]), **states)
    states = {name: answer.pop(name) for name in states}
    for name, output in answer.items():
        outputs.setdefault(name, []).append(output)
np.savez(out, **{name: np.stack(steps, axis=1) for name, steps in outputs.items()})
assert "kerasrnn" not in sys.modules
"""


@pytest.mark.slow
def test_every_cell_in_a_process_that_has_tensorflow_alone(tmp_path):
    x = keras.Input((None, FEATURES), name="x")
    read = keras.layers.Masking()(x)
    model = keras.Model(x, [layer(name, return_sequences=True)(read) for name in NAMES])
    randomise(model)
    folder = to_streaming(model, tmp_path / "model")
    np.save(tmp_path / "x.npy", masked())
    words = [str(folder), str(tmp_path / "x.npy"), str(tmp_path / "out.npz")]
    subprocess.run([sys.executable, "-P", "-c", SCRIPT, *words], cwd=tmp_path, check=True)
    with np.load(tmp_path / "out.npz") as found:
        for name, expected in zip(model.output_names, model(masked()), strict=True):
            np.testing.assert_allclose(found[name], expected, rtol=0, atol=ATOL, err_msg=name)


# What goes wrong.


@pytest.mark.parametrize(
    ("states", "received"),
    [
        ({}, "{}"),
        (None, "NoneType"),
        ({"read_hidden": np.zeros((2, 4))}, "{'read_hidden': (2, 4)}"),
        ({"read_hidden": np.zeros((1, 3))}, "{'read_hidden': (1, 3)}"),
        ({"read_hidden": np.zeros(3)}, "{'read_hidden': (3,)}"),
    ],
)
def test_states_of_something_else(states, received):
    stream = Streaming(
        keras.Sequential([keras.Input((None, FEATURES)), layers.GRU(3, name="read")])
    )
    wanted = "{'read_hidden': (2, 3)}"
    with says(ValueError, "`states`", "`initial_state(batch)`", wanted, f"got {received}"):
        stream.step(np.zeros((2, FEATURES)), states)


def says(error, *parts):
    return pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, parts)))


FROM_THE_END = "begins with the last step"
OTHERS = "may look at other steps too"
TOGETHER = "puts together what belongs to several steps"
K = keras.layers


class Custom(keras.layers.Dense):
    pass


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: K.Bidirectional(layers.LSTM(2), name="bad"), FROM_THE_END),
        (lambda: layers.GRU(2, go_backwards=True, name="bad"), FROM_THE_END),
        (lambda: K.GlobalMaxPooling1D(name="bad"), OTHERS),
        (lambda: K.Conv1D(2, 3, padding="causal", name="bad"), OTHERS),
        (lambda: layers.SequencePooling("mean", name="bad"), OTHERS),
        (lambda: layers.CRF(2, name="bad"), OTHERS),
        (lambda: K.Lambda(lambda x: x, name="bad"), "`keras.layers.TimeDistributed`"),
        (lambda: Custom(2, name="bad"), "`keras.layers.TimeDistributed`"),
        (lambda: K.Softmax(axis=1, name="bad"), TOGETHER),
        (lambda: K.Concatenate(axis=1, name="bad"), TOGETHER),
    ],
)
def test_what_is_no_matter_of_a_step(make, reason):
    x = keras.Input((None, FEATURES))
    read, bad = layers.LSTM(3, return_sequences=True)(x), make()
    model = keras.Model(x, bad([read, read] if isinstance(bad, K.Concatenate) else read))
    with says(ValueError, f"'bad' ({type(bad).__name__})", "cannot be read step by step", reason):
        Streaming(model)


def test_what_reads_the_whole_for_a_step():
    x = keras.Input((None, FEATURES))
    read, h, _ = layers.LSTM(FEATURES, return_sequences=True, return_state=True)(x)
    attended = K.Attention(name="bad")([read, read])
    # Steps that know the end of the sequence: at an earlier step that is another.
    summary = K.Multiply(name="bad")([read, K.Reshape((1, FEATURES))(h)])
    for output, reason in ((attended, OTHERS), (summary, TOGETHER), (read[:, ::-1], "'get_item")):
        with says(ValueError, reason):
            Streaming(keras.Model(x, output))


def test_a_layer_in_an_inner_model():
    x = keras.Input((None, FEATURES))
    inner = keras.Model(
        x, K.GlobalMaxPooling1D(name="bad")(layers.LSTM(3, return_sequences=True)(x))
    )
    with says(ValueError, "'bad' (GlobalMaxPooling1D)", OTHERS):
        Streaming(keras.Sequential([keras.Input((None, FEATURES)), inner]))


def test_states_from_elsewhere():
    x, h = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    end = layers.GRU(3)(h)
    model = keras.Model([x, h], layers.GRU(3, name="bad")(x, initial_state=end))
    with says(ValueError, "'bad' (GRU)", "initial states come from elsewhere"):
        Streaming(model)
    x = keras.Input(batch_shape=(2, None, FEATURES))
    with says(ValueError, "'bad' (GRU)", "`stateful=False`"):
        Streaming(keras.Model(x, layers.GRU(3, stateful=True, name="bad")(x)))


@pytest.mark.parametrize("shape", [(TIME, FEATURES), (FEATURES,)])
def test_inputs_that_are_no_sequences_of_any_length(shape):
    x = keras.Input(shape, name="x")
    read = layers.LSTM(3)(x) if len(shape) == 2 else K.Dense(3)(x)
    with says(ValueError, "'x'", "`keras.Input((None, ...))`"):
        Streaming(keras.Model(x, read))


@pytest.mark.parametrize("thing", [None, layers.LSTM(3), keras.Sequential([layers.LSTM(3)])])
def test_no_model(thing):
    with says(ValueError, "`model` must be a functional or Sequential Keras model that is built"):
        Streaming(thing)
