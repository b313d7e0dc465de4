"""Weights from elsewhere give the same numbers here, and go back as they came."""

import itertools
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerasrnn
from kerasrnn.interop import from_addons, from_keras, from_torch, to_keras, to_torch

LSTM, GRU, RNN = kerasrnn.layers.LSTM, kerasrnn.layers.GRU, kerasrnn.layers.SimpleRNN
Both = keras.layers.Bidirectional

BATCH, TIME, FEATURES, UNITS = 2, 5, 3, 4
MODULES = ["RNN", "RNN, relu", "LSTM", "GRU"]
on_tensorflow = keras.backend.backend() == "tensorflow"
# Keras computes in float64 on TensorFlow only.
DTYPE, TOLERANCE = ("float64", 1e-12) if on_tensorflow else ("float32", 1e-6)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is missing: install the extra `backends`")


def inputs(dtype=DTYPE, time=TIME):
    return np.random.default_rng(1).normal(size=(BATCH, time, FEATURES)).astype(dtype)


def arrays_of(module):
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}


def torch_module(torch, name, dtype=DTYPE, **options):
    torch.manual_seed(7)
    kind, _, nonlinearity = name.partition(", ")
    options |= {"nonlinearity": nonlinearity} if nonlinearity else {}
    module = getattr(torch.nn, kind)(FEATURES, UNITS, batch_first=True, **options)
    return module.to(getattr(torch, dtype)).eval()


def randomise(layer):
    random = np.random.default_rng(3)
    for weight in layer.weights:
        weight.assign(random.normal(size=weight.shape) / 2)


def assert_close(actual, expected, tolerance=TOLERANCE):
    for one, other in zip(actual, expected, strict=True):
        one, other = keras.ops.convert_to_numpy(one), np.asarray(other)
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def assert_equal(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


# PyTorch.


@pytest.mark.parametrize(
    ("depth", "bidirectional", "bias"),
    [
        (1, False, False),
        (2, True, True),
        *(
            pytest.param(*others, marks=pytest.mark.slow)
            for others in itertools.product([1, 2], [False, True], [False, True])
            if others not in [(1, False, False), (2, True, True)]
        ),
    ],
)
@pytest.mark.parametrize("name", MODULES)
def test_torch_gives_the_same_outputs_and_final_states(torch, name, depth, bidirectional, bias):
    """Into layers that show their states; the new ones of `from_torch` are tested below."""
    module = torch_module(torch, name, num_layers=depth, bidirectional=bidirectional, bias=bias)
    layer_class = {"LSTM": LSTM, "GRU": GRU}.get(name, RNN)
    options = {"reset_after": True} if name == "GRU" else {}
    options |= {"activation": "relu"} if name == "RNN, relu" else {}
    stacked = []
    for _ in range(depth):
        layer = layer_class(
            UNITS, use_bias=bias, return_sequences=True, return_state=True, dtype=DTYPE, **options
        )
        if bidirectional:
            layer = Both(layer, dtype=DTYPE)
        stacked.append(layer)
    assert from_torch(module, into=stacked) is stacked

    y, final = inputs(), []
    for layer in stacked:
        y, *states = layer(y)
        final.append(states)
    with torch.no_grad():
        expected, states = module(torch.from_numpy(inputs()))
    states = states if isinstance(states, tuple) else (states,)
    assert_close([y], [expected])
    # PyTorch has one array for each kind of state, over levels and directions; Keras one list a level.
    ours = [states for level in final for states in np.split(np.stack(level), 1 + bidirectional)]
    assert_close(np.stack(ours, axis=1), states)

    back = to_torch(stacked)
    shapes = {key: array.shape for key, array in arrays_of(module).items()}
    assert {key: array.shape for key, array in back.items()} == shapes
    one_bias = bias and name != "GRU"  # PyTorch's two are added.
    if not one_bias:
        assert_equal(back, arrays_of(module))


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_new_layers_in_float32(torch, name):
    module = torch_module(torch, name, "float32", bidirectional=True)
    model = from_torch(module)
    assert isinstance(model, keras.Sequential)
    assert [type(layer) for layer in model.layers] == [Both]
    assert model.input_shape == (None, None, FEATURES)
    x = inputs("float32")
    returned = to_torch(model, as_module=True)
    with torch.no_grad():
        expected, _ = module(torch.from_numpy(x))
        back, _ = returned(torch.from_numpy(x))
    assert_close([model(x), back], [expected, expected], 1e-6)
    weights = to_torch(model)
    assert_equal(arrays_of(returned), weights)
    assert_equal(to_torch(from_torch(weights, into=model)), weights)


def test_a_module_within_a_module_with_its_dropout(torch):
    whole = torch.nn.ModuleDict(
        {
            "encoder": torch_module(torch, "RNN, relu", num_layers=2, dropout=0.25),
            "head": torch.nn.Linear(UNITS, 2),
        }
    )
    model = from_torch(whole, prefix="encoder", dtype=DTYPE)
    assert [type(layer).__name__ for layer in model.layers] == ["SimpleRNN", "Dropout", "SimpleRNN"]
    assert model.layers[1].rate == 0.25
    with torch.no_grad():
        expected, _ = whole["encoder"](torch.from_numpy(inputs()))
    assert_close([model(inputs())], [expected])
    weights = to_torch(model)
    again = from_torch(arrays_of(whole), model, prefix="encoder.", nonlinearity="relu")
    assert_equal(to_torch(again), weights)


def test_torch_bfloat16_loads(torch):
    module = torch_module(torch, "GRU", "bfloat16")
    expected = {name: tensor.float().numpy() for name, tensor in module.state_dict().items()}
    assert_equal(to_torch(from_torch(module, GRU(UNITS, reset_after=True))), expected)


def state(rows=4, depth=1, directions=1, **more):
    """A state dict of arrays, as PyTorch names them."""
    random, found = np.random.default_rng(5), {}
    for level in range(depth):
        for end in ["", "_reverse"][:directions]:
            features = UNITS * directions if level else FEATURES
            suffix = f"_l{level}{end}"
            for name, shape in {
                "weight_ih": (rows * UNITS, features),
                "weight_hh": (rows * UNITS, UNITS),
                "bias_ih": (rows * UNITS,),
                "bias_hh": (rows * UNITS,),
            }.items():
                found[name + suffix] = random.normal(size=shape).astype("float32")
    return found | more


def without(names, **more):
    return {name: array for name, array in state(**more).items() if name not in names}


@pytest.mark.parametrize(
    ("source", "options", "parts"),
    [
        ([1], {}, ["`source`", "list"]),
        ({}, {}, ["`source`", "nothing"]),
        ({"dense.kernel": 0}, {}, ["torch.nn.RNN", "dense.kernel"]),
        ({f"encoder.{k}": v for k, v in state().items()}, {}, ["weight_ih_l0", "'encoder.'"]),
        (state(), {"prefix": "decoder"}, ["decoder.weight_ih_l0", "`prefix` ''"]),
        (without(["bias_hh_l1"], depth=2), {}, ["misses bias_hh_l1"]),
        (without(["weight_hh_l0_reverse"], directions=2), {}, ["misses weight_hh_l0_reverse"]),
        (state(head=np.ones(2)), {}, ["unknown head"]),
        (state(weight_hr_l0=np.ones((2, UNITS))), {}, ["proj_size", "weight_hr_l"]),
        (state(rows=2), {}, ["weight_hh_l0", "(8, 4)"]),
        (state(weight_hh_l0=np.ones(4)), {}, ["weight_hh_l0", "(4,)"]),
        (state(depth=2, weight_ih_l1=np.ones((16, 5))), {}, ["weight_ih_l1", "(16, 4)", "(16, 5)"]),
        (state(), {"nonlinearity": "sigmoid"}, ["`nonlinearity`", "'sigmoid'"]),
    ],
)
def test_what_is_no_module_of_torch_is_refused(source, options, parts):
    with pytest.raises(ValueError) as raised:
        from_torch(source, **options)
    for part in parts:
        assert part in str(raised.value)


def built(layer, features=FEATURES):
    layer.build((None, None, features))
    return layer


@pytest.mark.parametrize(
    ("into", "parts"),
    [
        (lambda: LSTM(5), ["`into`", "hidden_size=5", "hidden_size=4"]),
        (lambda: built(LSTM(4), features=2), ["input_size=2", "input_size=3"]),
        (lambda: GRU(4, reset_after=True), ["mode='GRU'", "mode='LSTM'"]),
        (lambda: LSTM(4, use_bias=False), ["bias=False", "bias=True"]),
        (lambda: Both(LSTM(4)), ["bidirectional=True", "bidirectional=False"]),
        (lambda: [LSTM(4, return_sequences=True), LSTM(4)], ["num_layers=2", "num_layers=1"]),
        (lambda: keras.layers.Dense(4), ["`into`", "Dense"]),
        (list, ["`into`", "no recurrent layer"]),
    ],
)
def test_layers_of_another_make_are_refused(into, parts):
    layers = into()
    with pytest.raises(ValueError) as raised:
        from_torch(state(), into=layers)
    for part in parts:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("layers", "parts"),
    [
        (lambda: built(kerasrnn.layers.PeepholeLSTM(4)), ["PyTorch has no", "PeepholeLSTMCell"]),
        (lambda: built(keras.layers.LSTM(4)), ["PyTorch has no", "`from_keras`"]),
        (lambda: built(GRU(4)), ["reset_after=False"]),
        (lambda: built(RNN(4, activation="sigmoid")), ["activation='sigmoid'"]),
        (lambda: built(LSTM(4, recurrent_activation="hard_sigmoid")), ["'hard_sigmoid'"]),
        (lambda: built(LSTM(4, zoneout=0.1)), ["zoneout=0.1"]),
        (lambda: built(LSTM(4, layer_norm=True)), ["layer_norm=True"]),
        (lambda: built(LSTM(4, initial_state="learned")), ["initial_state='learned'"]),
        (lambda: built(LSTM(4, go_backwards=True)), ["go_backwards=True"]),
        (lambda: built(RNN(4, go_backwards=True)), ["with go_backwards=True."]),
        (lambda: built(Both(LSTM(4), merge_mode="sum")), ["merge_mode", "Bidirectional"]),
        (lambda: LSTM(4, name="new"), ["'new'", "no weights yet"]),
        (lambda: [built(LSTM(4)), built(LSTM(5), 4)], ["alike", "('LSTM', 4, 5, True)"]),
        (lambda: [built(LSTM(4)), built(LSTM(4), 5)], ["alike", "('LSTM', 5, 4, True)"]),
        (lambda: [built(LSTM(4)), built(Both(LSTM(4)), 4)], ["alike"]),
    ],
)
def test_what_torch_does_not_have_is_refused(layers, parts):
    with pytest.raises(ValueError) as raised:
        to_torch(layers())
    for part in parts:
        assert part in str(raised.value)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras itself runs on PyTorch")
def test_arrays_need_no_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    into = kerasrnn.layers.LSTM(UNITS)
    back = to_torch(from_torch(state(), into=into))
    assert_equal({"weight_ih_l0": back["weight_ih_l0"]}, {"weight_ih_l0": state()["weight_ih_l0"]})
    assert "torch" not in sys.modules


# Keras.

KERAS = {
    "SimpleRNN": {},
    "LSTM": {},
    "GRU": {"reset_after": True},
    "GRU, reset before": {"reset_after": False},
}


def around(layer, both_ways):
    return Both(layer, merge_mode="sum", name="both") if both_ways else layer


@pytest.mark.parametrize(
    ("both_ways", "use_bias"),
    [(False, True), (True, False), pytest.param(True, True, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("name", KERAS)
def test_keras_both_ways(name, use_bias, both_ways):
    options = {"return_sequences": True, "return_state": True, "use_bias": use_bias, "dtype": DTYPE}
    options |= {"name": "mine", "dropout": 0.25, "kernel_regularizer": "l2", **KERAS[name]}
    theirs = around(getattr(keras.layers, name.partition(",")[0])(UNITS, **options), both_ways)
    built(theirs)
    randomise(theirs)
    ours = from_keras(theirs)
    back = to_keras(ours)
    x = inputs(time=2)
    assert_close(ours(x), theirs(x))
    assert (type(back), back.name) == (type(theirs), theirs.name) and ours.name == theirs.name
    for one, other in zip(back.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    config = theirs.get_config()
    if not both_ways:
        assert type(ours) is getattr(kerasrnn.layers, type(theirs).__name__)
        assert ours.get_config().items() >= {k: config[k] for k in options if k != "dtype"}.items()
    assert back.get_config() == config


def test_a_stateful_layer_of_keras():
    theirs = keras.layers.LSTM(UNITS, stateful=True, dtype=DTYPE)
    theirs.build((BATCH, None, FEATURES))
    ours = from_keras(theirs)
    for _ in range(2):
        assert_close([ours(inputs())], [theirs(inputs())])
    assert to_keras(ours).states[0].shape == (BATCH, UNITS)


@pytest.mark.parametrize(
    ("convert", "layer", "parts"),
    [
        (from_keras, lambda: built(LSTM(4)), ["must be one of", "keras.layers.LSTM"]),
        (from_keras, lambda: keras.layers.Dense(4), ["keras.layers.GRU", "Dense"]),
        (from_keras, lambda: keras.layers.GRU(4, name="new"), ["'new'", "no weights yet"]),
        (to_keras, lambda: built(kerasrnn.layers.PeepholeLSTM(4)), ["PeepholeLSTM", "layers.GRU"]),
        (
            to_keras,
            lambda: built(LSTM(4, zoneout=0.1)),
            ["keras.layers.LSTM has no", "zoneout=0.1"],
        ),
        (to_keras, lambda: built(Both(GRU(4, layer_norm=True))), ["layer_norm=True"]),
        (to_keras, lambda: built(RNN(4, initial_state="learned")), ["initial_state='learned'"]),
        (
            to_keras,
            lambda: built(LSTM(4, recurrent_dropout=0.1, recurrent_dropout_form="weights")),
            ["recurrent_dropout_form='weights'"],
        ),
    ],
)
def test_what_keras_does_not_have_is_refused(convert, layer, parts):
    with pytest.raises(ValueError) as raised:
        convert(layer())
    for part in parts:
        assert part in str(raised.value)


# TensorFlow Addons.


def addons_weights(use_bias=True):
    """The weights of its PeepholeLSTMCell, in its layout: the blocks are i, f, c, o."""
    random = np.random.default_rng(9)
    shapes = {"kernel": (FEATURES, 4 * UNITS), "recurrent_kernel": (UNITS, 4 * UNITS)}
    shapes |= {"bias": (4 * UNITS,)} if use_bias else {}
    shapes |= {f"{gate}_gate_peephole_weights": (UNITS,) for gate in ("input", "forget", "output")}
    return {name: random.normal(size=shape) for name, shape in shapes.items()}


def addons_outputs(x, weights, sigma):
    """What the cell computes, written out from its documented equations."""
    p = {gate: weights[f"{gate}_gate_peephole_weights"] for gate in ("input", "forget", "output")}
    h = c = np.zeros((BATCH, UNITS))
    outputs = []
    for step in range(x.shape[1]):
        total = x[:, step] @ weights["kernel"] + h @ weights["recurrent_kernel"]
        z_i, z_f, z_c, z_o = np.split(total + weights.get("bias", 0.0), 4, axis=1)
        i, f = sigma(z_i + p["input"] * c), sigma(z_f + p["forget"] * c)
        c = f * c + i * np.tanh(z_c)
        h = sigma(z_o + p["output"] * c) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, axis=1)


SIGMOIDS = {
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "hard_sigmoid": lambda z: np.clip(0.2 * z + 0.5, 0, 1),  # as Keras 2 has it
}


# The last outputs of the case below, recorded from these equations, so that both cannot change together.
ADDONS_LAST = {
    "sigmoid": [
        [0.451922454, -0.038716437, 0.055271411, -0.061944347],
        [0.288427766, -0.055807889, 0.041327740, -0.077471644],
    ],
    "hard_sigmoid": [
        [0.376942228, -0.012974779, 0.0, -0.053561179],
        [0.300218965, -0.058201121, 0.0, -0.056063191],
    ],
}


@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("sigmoid", SIGMOIDS)
def test_addons_gives_the_same_outputs(sigmoid, use_bias):
    weights = addons_weights(use_bias)
    source = {f"rnn/peephole_lstm_cell/{name}:0": array for name, array in weights.items()}
    source |= {"dense/kernel:0": np.ones((UNITS, 2)), "dense/bias:0": np.ones(2)}
    layer = from_addons(source, recurrent_activation=sigmoid, return_sequences=True, dtype=DTYPE)
    assert type(layer) is kerasrnn.layers.PeepholeLSTM
    expected = addons_outputs(inputs(), weights, SIGMOIDS[sigmoid])
    assert_close([layer(inputs())], [expected])
    if use_bias:
        assert_close(expected[:, -1], ADDONS_LAST[sigmoid], 1e-6)


def test_addons_own_numbers():
    """What the test of its cell, in TensorFlow Addons, expects of one step from zero states."""
    weights = {"kernel": np.ones((4, 20)), "recurrent_kernel": np.zeros((5, 20))}
    weights |= {"bias": np.repeat([0.0, 1.0, 0.0, 0.0], 5)}  # `unit_forget_bias`
    weights |= {f"{g}_gate_peephole_weights": np.ones(5) for g in ("input", "forget", "output")}
    x = np.eye(5, 4)[1:, None]  # one_hot([1, 2, 3, 4], 4): of 4 there is none
    output = from_addons(weights, dtype=DTYPE)(x.astype(DTYPE))
    assert_close([output], [np.repeat([[0.417551]] * 3 + [[0.0]], 5, axis=1)], 1e-6)


@pytest.mark.parametrize("begins", ["rnn/peephole_lstm_cell", "rnn/peephole_lstm_cell/"])
def test_a_prefix_is_of_whole_parts(begins):
    cells = {"": addons_weights(), "_1": addons_weights(use_bias=False)}
    source = {
        f"rnn/peephole_lstm_cell{number}/{name}:0": array
        for number, weights in cells.items()
        for name, array in weights.items()
    }
    assert from_addons(source, prefix=begins).cell.use_bias
    assert not from_addons(source, prefix="rnn/peephole_lstm_cell_1").cell.use_bias
    with pytest.raises(ValueError, match="2 of them"):
        from_addons(source, prefix="rnn")


def test_no_checkpoint(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"`source`.*checkpoint"):
            from_addons(path)


def test_a_checkpoint_with_two_cells(tmp_path):
    def module(weights):
        found = tf.Module()
        for name, array in weights.items():
            setattr(found, name, tf.Variable(array))
        return found

    weights = addons_weights()
    model = tf.Module()
    model.first = module({name: array + 1 for name, array in weights.items()})
    model.second, model.head = module(weights), module({"kernel": np.ones((UNITS, 2))})
    path = tf.train.Checkpoint(model=model, step=tf.Variable(3)).save(str(tmp_path / "ckpt"))
    with pytest.raises(ValueError, match=r"2 of them: 'model/first', 'model/second'.*`prefix`"):
        from_addons(path)
    layer = from_addons(path, prefix="model/second", dtype="float64")
    for name in ("kernel", "recurrent_kernel", "bias"):
        np.testing.assert_array_equal(getattr(layer.cell, name), weights[name])
    rows = [weights[f"{gate}_gate_peephole_weights"] for gate in ("input", "forget", "output")]
    np.testing.assert_array_equal(layer.cell.peephole_kernel, np.stack(rows))


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        (3, ["`source`", "int"]),
        ({}, ["PeepholeLSTMCell", "nothing"]),
        ({"lstm/kernel:0": np.ones((3, 16))}, ["one PeepholeLSTMCell", "lstm/kernel:0"]),
        ({"input_gate_peephole_weights": np.ones(4)}, ["misses kernel, recurrent_kernel"]),
        (addons_weights() | {"kernel": np.ones((3, 12))}, ["`kernel`", "(3, 16)", "(3, 12)"]),
        (addons_weights() | {"bias": np.ones(12)}, ["`bias`", "(16,)", "(12,)"]),
        (addons_weights() | {"kernel": np.float64(1)}, ["`kernel`", "(features, 16)", "got ()"]),
    ],
)
def test_what_is_no_cell_of_addons_is_refused(source, parts):
    with pytest.raises(ValueError) as raised:
        from_addons(source)
    for part in parts:
        assert part in str(raised.value)
