"""The layer of every registered cell in everything that Keras does with layers."""

import functools
import inspect
import itertools
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerasrnn
from kerasrnn import cells
from tests.cells._helpers import CASES, FOUNDATION, NAMES
from tests.layers._helpers import (
    BATCH,
    FEATURES,
    MASK,
    TIME,
    UNITS,
    assert_close,
    assert_equal,
    cell,
    each_layer,
    few_layers,
    inputs,
    layer,
    layer_class,
    randomise,
    states,
)

# Half precision: float16 keeps 11 bits, bfloat16 8, and the errors of a few steps add up.
HALF = {"mixed_float16": ("float16", 1e-2), "mixed_bfloat16": ("bfloat16", 5e-2)}
# Float32 against a float64 reference, over a few steps.
REFERENCE_ATOL = 1e-5
# A few steps of training, compiled by XLA and not: the losses are about one.
LOSS_ATOL = 1e-4

RNN, Recurrent = keras.layers.RNN, kerasrnn.layers.Recurrent


# In Keras's layers, and equal to them.


@each_layer
def test_the_layer_the_recurrent_and_keras_rnn_are_one(name):
    own = layer(name, return_sequences=True, return_state=True)
    x = inputs()
    own.build(x.shape)
    randomise(own)
    arguments = {"initial_state": states(own), "mask": MASK}
    expected = own(x, **arguments)
    for wrapper in (Recurrent, RNN):
        other = wrapper(own.cell, return_sequences=True, return_state=True)
        assert_close(other(x, **arguments), expected, what=wrapper.__name__)


@each_layer
def test_stacked_cells_equal_layers_one_upon_the_other(name):
    stack, x = [cell(name, 5), cell(name, 3)], inputs()
    together = Recurrent(stack)
    together.build(x.shape)
    randomise(together)
    lower = Recurrent(stack[0], return_sequences=True, zero_output_for_mask=True)
    upper = Recurrent(stack[1])
    expected = upper(lower(x, mask=MASK), mask=MASK)
    assert_close(together(x, mask=MASK), expected)
    assert_close(RNN(stack)(x, mask=MASK), expected)


@pytest.mark.parametrize(
    "wrapper", [None, *(pytest.param(w, marks=pytest.mark.slow) for w in (RNN, Recurrent))]
)
@each_layer
def test_bidirectional_runs_forward_and_backward(name, wrapper):
    arguments = {"return_sequences": True, "return_state": True}
    one_way = wrapper(cell(name), **arguments) if wrapper else layer(name, **arguments)
    both, x = keras.layers.Bidirectional(one_way), inputs()
    both.build(x.shape)
    randomise(both)
    output, *final = both(x, mask=MASK)
    # By hand, with nothing that runs backwards: the sequence itself is turned round.
    by_hand = {"zero_output_for_mask": True, **arguments}
    forward, *forward_states = Recurrent(both.forward_layer.cell, **by_hand)(x, mask=MASK)
    turned = Recurrent(both.backward_layer.cell, **by_hand)
    backward, *backward_states = turned(x[:, ::-1], mask=MASK[:, ::-1])
    assert_close(output[..., :UNITS], forward)
    assert_close(output[..., UNITS:], np.flip(backward, axis=1))
    assert_close(final, [*forward_states, *backward_states])


@each_layer
def test_time_distributed_sequential_and_subclassed_models(name):
    own, x = layer(name), inputs()
    expected = own(x)
    sequential = keras.Sequential([keras.Input((None, FEATURES)), own])

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.own = own

        def call(self, x, training=None):
            return self.own(x, training=training)

    assert_close(sequential(x), expected)
    assert_close(Subclassed()(x), expected)
    many = np.stack([x, -x], axis=1)
    each = keras.layers.TimeDistributed(own)(many)
    assert_close(each, np.stack([own(x), own(-x)], axis=1))


# Models of many parts.


@functools.cache
def encoder_decoder(name: str) -> keras.Model:
    """A model that passes states as Keras tensors, and has most of what a recurrent layer can do."""
    source = keras.Input((None, FEATURES), name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    encoder = layer(name, return_state=True, initial_state="learned")
    _, *final = encoder(source)
    embedded = keras.layers.Embedding(7, 4, mask_zero=True)(target)
    decoder = layer(name, return_sequences=True, recurrent_regularizer="l2")
    decoded = decoder(embedded, initial_state=final)
    stacked = Recurrent([cell(name, 3), cell(name, 4)], return_sequences=True, go_backwards=True)
    both = keras.layers.Bidirectional(layer(name, 3, return_sequences=True), merge_mode="sum")
    output = keras.layers.Dense(2)(both(stacked(decoded)))
    model = keras.Model({"source": source, "target": target}, output)
    randomise(model)
    return model


def examples(batch: int = BATCH, time: int = TIME) -> dict[str, np.ndarray]:
    target = np.random.default_rng(3).integers(1, 7, (batch, time), dtype="int32")
    target[1:, time // 2 :] = 0
    return {"source": inputs(batch, time + 1, FEATURES), "target": target}


@few_layers
def test_a_saved_model_loads_to_the_last_bit(name, tmp_path):
    model, data = encoder_decoder(name), examples()
    expected = model.predict_on_batch(data)
    assert np.ptp(expected) > 0
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_equal(loaded.predict_on_batch(data), expected)
    # The file holds the weights by the layers' paths, so they load into a new model as well.
    clone = keras.models.clone_model(model)
    model.save_weights(tmp_path / "model.weights.h5")
    clone.load_weights(tmp_path / "model.weights.h5")
    assert_equal(clone.predict_on_batch(data), expected)
    assert clone.get_config() == model.get_config()


@few_layers
def test_an_exported_model_takes_any_batch_and_any_length(name, tmp_path):
    model = encoder_decoder(name)
    model.export(str(tmp_path / "exported"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    for batch, time in ((BATCH, TIME), (1, 2), (5, 9)):
        data = examples(batch, time)
        tensors = {key: tf.constant(value) for key, value in data.items()}
        assert_close(loaded.serve(tensors), model(data))


ELSEWHERE = """
import sys

import numpy as np

sys.modules["kerasrnn"] = None  # Whoever imports it gets an ImportError.
import tensorflow as tf

with np.load(sys.argv[2]) as files:
    x, expected = tf.constant(files["x"]), files["expected"]
loaded = tf.saved_model.load(sys.argv[1])
np.testing.assert_allclose(loaded.serve(x), expected, rtol=0, atol=1e-6)
"""


@pytest.mark.slow  # The quick form are the SavedModels of the applications, in processes of their own.
def test_an_exported_model_needs_no_kerasrnn(tmp_path):
    x = keras.Input((None, FEATURES))
    outputs = [layer(name, go_backwards=number % 2 == 1)(x) for number, name in enumerate(NAMES)]
    model = keras.Model(x, keras.layers.Concatenate()(outputs))
    randomise(model)
    model.export(str(tmp_path / "exported"), verbose=False)
    np.savez(tmp_path / "arrays.npz", x=inputs(), expected=model(inputs()))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "exported"), tmp_path / "arrays.npz"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# One with a kernel of its own and one with the generic one; the others when `-m slow` asks.
COMPILED = ("peephole_lstm", "mgu")


@pytest.mark.parametrize(
    "name", [n if n in COMPILED else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_training_lowers_the_loss_with_and_without_xla(name):
    x = inputs(32, TIME, FEATURES)
    y = np.cumsum(x, axis=1)[..., :1]
    model = keras.Sequential(
        [
            keras.Input((TIME, FEATURES)),
            layer(name, 8, return_sequences=True),
            keras.layers.Dense(1),
        ]
    )
    start = model.get_weights()
    losses = []
    # By XLA, which is the harder way; for the foundation without it, too.
    for jit_compile in (True, False) if name in FOUNDATION else (True,):
        model.set_weights(start)
        model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=jit_compile)
        history = model.fit(x, y, batch_size=16, epochs=6, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
        assert losses[-1][-1] < 0.8 * losses[-1][0], losses[-1]
    np.testing.assert_allclose(losses[0], losses[-1], rtol=0, atol=LOSS_ATOL)


# Precision.


@pytest.mark.parametrize("policy", HALF)
@each_layer
def test_mixed_precision(name, policy):
    dtype, atol = HALF[policy]
    arguments = {"return_sequences": True, "return_state": True, "initial_state": "learned"}
    half, whole, x = layer(name, dtype=policy, **arguments), layer(name, **arguments), inputs()
    for one in (half, whole):
        one.build(x.shape)
        randomise(one)
    assert {weight.dtype for weight in half.weights} == {"float32"}
    with tf.GradientTape() as tape:
        outputs = half(x, mask=MASK)
        loss = sum(tf.reduce_sum(tf.cast(output, "float32")) for output in outputs)
    assert {output.dtype.name for output in outputs} == {dtype}
    outputs = [tf.cast(output, "float32") for output in outputs]
    assert_close(outputs, whole(x, mask=MASK), atol)
    for gradient in tape.gradient(loss, [weight.value for weight in half.trainable_weights]):
        assert np.isfinite(gradient).all()


# Arguments and configuration.


@each_layer
def test_the_arguments_are_those_of_keras_layers(name):
    gated = issubclass(cells.info(name).cell_class, cells.GatedCell)
    by_position = ("relu", "hard_sigmoid") if gated else ("relu",)
    own = layer_class(name)(8, *by_position, name="own", trainable=False, seed=3)
    assert own.units == own.cell.units == 8
    assert own.activation is keras.activations.relu
    assert own.name == "own"
    assert not own.trainable
    if gated:
        assert own.recurrent_activation is keras.activations.hard_sigmoid
    for argument in own.cell.parameters():
        assert getattr(own, argument) is getattr(own.cell, argument), argument
    shown = set(inspect.signature(layer_class(name)).parameters)
    assert shown >= {*own.cell.parameters(), "return_sequences", "stateful", "initial_state"}


@each_layer
def test_the_configuration_makes_the_same_layer_again(name):
    own = layer(
        name,
        return_sequences=True,
        go_backwards=True,
        initial_state="learned",
        activation="relu",
        kernel_initializer=keras.initializers.RandomNormal(0.1, seed=1),
        recurrent_regularizer=keras.regularizers.L2(0.25),
        bias_constraint=keras.constraints.MaxNorm(2),
        activity_regularizer=keras.regularizers.L1(0.5),
        dropout=0.25,
        recurrent_dropout=0.5,
        dtype="mixed_bfloat16",
        seed=7,
    )
    config = own.get_config()
    json.dumps(config)
    for again in (
        type(own).from_config(config),
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(own)),
    ):
        assert type(again) is type(own)
        assert again.get_config() == config
        assert again.cell.dtype_policy.name == "mixed_bfloat16"


# The complete cross product, against the references.


@pytest.mark.slow
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_way_to_run_equals_the_reference(case, masked, unroll):
    own = case.cell(UNITS)
    own.build((BATCH, FEATURES))
    randomise(own)
    weights = {weight.name: weight.numpy().astype("float64") for weight in own.weights}
    x, mask = inputs(), MASK if masked else None
    for go_backwards, zero_output_for_mask, start in itertools.product([False, True], repeat=3):
        flags = {"go_backwards": go_backwards, "zero_output_for_mask": zero_output_for_mask}
        wrapped = Recurrent(own, True, True, unroll=unroll, **flags)
        initial = [(start * state).astype("float64") for state in states(wrapped)]
        outputs, final, _ = case.run(x.astype("float64"), tuple(initial), weights, mask, **flags)
        arguments = {"mask": mask, "initial_state": initial if start else None}
        assert_close(wrapped(x, **arguments), (outputs, *final), REFERENCE_ATOL, str(flags))
    # XLA takes seconds, so it compiles the last of them only, with all flags set.
    compiled = tf.function(wrapped, jit_compile=True)
    assert_close(compiled(x, **arguments), (outputs, *final), REFERENCE_ATOL)
