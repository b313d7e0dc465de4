"""Averaged SGD, against NumPy, and the moment when its averaging begins."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from kerasrnn.optimizers import AveragedSGD, NonMonotonicAveraging

ROOT = Path(__file__).parents[1]
BACKEND = keras.backend.backend()
tensorflow_only = pytest.mark.skipif(BACKEND != "tensorflow", reason="it is about TensorFlow")


def steps(optimizer, variables, gradients):
    """Make a step for each of the gradients; the values after each."""
    iterates = []
    for gradient in gradients:
        given = [ops.broadcast_to(gradient * (i + 1), v.shape) for i, v in enumerate(variables)]
        optimizer.apply(given, variables)
        iterates.append(values(variables))
    return iterates


def values(variables):
    return [ops.convert_to_numpy(variable).copy() for variable in variables]


def weights(*shapes):
    generator = np.random.default_rng(0)
    return [keras.Variable(generator.normal(size=shape).astype("float32")) for shape in shapes]


def gradients(count, seed=1):
    return np.random.default_rng(seed).normal(size=(count, 3)).astype("float32")


def assert_all_close(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def means(iterates):
    return [np.mean(values, axis=0, dtype="float64") for values in zip(*iterates, strict=True)]


ARGUMENTS = [{}, {"momentum": 0.9, "nesterov": True}, {"clipnorm": 0.25, "weight_decay": 0.01}]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_the_weights_are_those_of_sgd_and_the_averages_their_mean(arguments):
    ours, theirs = weights((3,), (2, 3)), weights((3,), (2, 3))
    optimizer, sgd = AveragedSGD(0.5, **arguments), keras.optimizers.SGD(0.5, **arguments)
    optimizer.build(ours)
    plain = steps(sgd, theirs, gradients(9))
    assert_all_close(steps(optimizer, ours, gradients(9)[:4])[-1], plain[3])
    assert not optimizer.has_averages
    optimizer.start_averaging()
    assert not optimizer.has_averages
    steps(optimizer, ours, gradients(9)[4:6])
    optimizer.start_averaging()  # It has begun already.
    steps(optimizer, ours, gradients(9)[6:])
    assert optimizer.has_averages
    assert_all_close(values(ours), plain[-1])
    assert_all_close(values(optimizer.averages), means(plain[4:]))


def test_swapping_goes_forth_and_back():
    variables = weights((3,), (2, 3))
    optimizer = AveragedSGD(0.5)
    optimizer.build(variables)
    optimizer.swap(variables)  # There is nothing to swap.
    optimizer.start_averaging()
    before = values(variables)
    optimizer.swap(variables)
    assert not optimizer.is_swapped
    assert_all_close(values(variables), before)
    iterates = steps(optimizer, variables, gradients(5))
    optimizer.swap(variables)
    assert optimizer.is_swapped
    assert_all_close(values(variables), means(iterates))
    optimizer.swap(variables)
    assert not optimizer.is_swapped
    assert_all_close(values(variables), iterates[-1])
    more = steps(optimizer, variables, gradients(2, seed=2))
    assert_all_close(values(optimizer.averages), means(iterates + more))


@pytest.mark.parametrize("swapped", [False, True])
def test_in_the_end_the_averages_are_in_the_weights(swapped):
    variables = weights((3,))
    optimizer = AveragedSGD(0.5)
    optimizer.build(variables)
    last = steps(optimizer, variables, gradients(2))[-1]
    optimizer.finalize_variable_values(variables)
    assert_all_close(values(variables), last)
    optimizer.start_averaging()
    iterates = steps(optimizer, variables, gradients(5))
    if swapped:
        optimizer.swap(variables)
    optimizer.finalize_variable_values(variables)
    assert not optimizer.is_swapped
    assert_all_close(values(variables), means(iterates))


def test_accumulated_gradients_make_one_step():
    variables = weights((3,))
    optimizer = AveragedSGD(0.5, gradient_accumulation_steps=3)
    optimizer.build(variables)
    steps(optimizer, variables, gradients(6))
    optimizer.start_averaging()
    iterates = steps(optimizer, variables, gradients(10))
    assert_all_close(values(optimizer.averages), means([iterates[i] for i in (2, 5, 8)]))


def test_averages_are_saved(tmp_path):
    """In the middle of a fit, so to say, and with the averages in the place of the weights."""
    x, y = data()
    for swapped in (False, True):
        model = regression(AveragedSGD(0.1))
        model.fit(x, y, verbose=0)
        model.optimizer.start_averaging()
        for _ in range(3):
            model.train_on_batch(x, y)
        if swapped:
            model.optimizer.swap(model.trainable_variables)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert isinstance(loaded.optimizer, AveragedSGD)
        assert loaded.optimizer.is_swapped == swapped
        for one in (model, loaded):
            if swapped:
                one.optimizer.swap(one.trainable_variables)
            one.train_on_batch(x, y)
            one.optimizer.finalize_variable_values(one.trainable_variables)
        assert_all_close(loaded.get_weights(), model.get_weights())


def test_the_weights_themselves_are_no_variables_of_the_optimizer():
    """Else they would be saved twice, and JAX would not take them."""
    variables = weights((3,), (2, 3))
    optimizer = AveragedSGD(0.5)
    optimizer.build(variables)
    assert not {id(v) for v in optimizer.variables} & {id(v) for v in variables}
    assert (
        len(optimizer.variables) == 6
    )  # The count, the rate, the moment, the place, two averages.
    optimizer.apply([], variables)
    assert int(optimizer.iterations) == 0


@tensorflow_only
@pytest.mark.parametrize("arguments", [{}, {"clipnorm": 0.25}])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_sparse_gradients(arguments, jit_compile):
    """Those of an embedding, in a compiled step: all rows are averaged, also those left alone."""
    import tensorflow as tf

    variable = keras.Variable(np.arange(12, dtype="float32").reshape(6, 2))
    optimizer = AveragedSGD(0.5, **arguments)
    optimizer.build([variable])
    optimizer.start_averaging()

    @tf.function(jit_compile=jit_compile)
    def step(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.gather(variable.value, ids)))
        (gradient,) = tape.gradient(loss, [variable.value])
        assert isinstance(gradient, tf.IndexedSlices)
        optimizer.apply([gradient], [variable])

    iterates = []
    for ids in ([0, 2], [2, 5], [0, 0]):
        step(tf.constant(ids))
        iterates.append(values([variable]))
    assert_all_close(values(optimizer.averages), means(iterates))
    np.testing.assert_array_equal(iterates[-1][0][1], [2, 3])


# In `fit`.


def data():
    generator = np.random.default_rng(3)
    x = generator.normal(size=(12, 3)).astype("float32")
    return x, x @ np.array([[1.0], [-2.0], [0.5]], "float32")


def regression(optimizer, **compiled):
    dense = keras.layers.Dense(1, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((3,)), dense])
    model.compile(optimizer, "mse", **compiled)
    return model


class Iterates(keras.callbacks.Callback):
    """The weights after each step, and those that validation sees."""

    def __init__(self):
        super().__init__()
        self.iterates, self.measured, self.fail_in = [], [], None

    def on_train_batch_end(self, batch, logs=None):
        if BACKEND == "jax":
            self.model.jax_state_sync()
        self.iterates.append(values(self.model.trainable_variables))

    def on_test_batch_end(self, batch, logs=None):
        self.measured.append(values(self.model.trainable_variables))
        if len(self.measured) == self.fail_in:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        self.after = values(self.model.trainable_variables)


@pytest.mark.parametrize(
    ("jit_compile", "policy"),
    [
        (True, "float32"),
        (False, "mixed_float16"),
        pytest.param(False, "float32", marks=pytest.mark.slow),
        pytest.param(True, "mixed_float16", marks=pytest.mark.slow),
    ],
)
def test_fit_validates_and_ends_with_the_averages(jit_compile, policy):
    jit_compile = jit_compile and BACKEND != "torch"
    x, y = data()
    optimizer = AveragedSGD(0.05, clipnorm=0.25)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model, seen = regression(optimizer, jit_compile=jit_compile), Iterates()
    # Worse than the best of what is older: the averaging begins after the first epoch.
    averaging = NonMonotonicAveraging(patience=1, history=[0.0, 1.0])
    arguments = {"validation_data": (x, y), "batch_size": 4, "epochs": 3, "verbose": 0}
    history = model.fit(x, y, callbacks=[averaging, seen], **arguments).history
    assert averaging.history[2:] == history["val_loss"]
    assert len(seen.iterates) == 9
    assert_all_close(seen.measured[0], seen.iterates[2])
    assert_all_close(seen.measured[3], means(seen.iterates[3:6]))
    assert_all_close(seen.measured[6], means(seen.iterates[3:]))
    assert_all_close(seen.after, seen.iterates[-1])  # Between the epochs the weights are back.
    assert_all_close(values(model.trainable_variables), means(seen.iterates[3:]))
    found = model.evaluate(x, y, verbose=0, callbacks=[averaging])
    assert found == pytest.approx(history["val_loss"][-1], rel=1e-5)


def test_the_moment_is_that_of_the_paper():
    """The rule, written out, on a row of values."""
    seen = [9.0, 8.0, 7.0, 7.5, 7.2, 7.1, 6.9, 7.3, 7.4, 7.0, 8.0, 6.0]
    for patience in (0, 1, 2, 3, 5, 20):
        first = next(
            (t for t in range(len(seen)) if t > patience and seen[t] > min(seen[: t - patience])),
            None,
        )
        for known in (0, 4):  # A run that goes on after four epochs.
            model = regression(AveragedSGD(0.1))
            averaging = NonMonotonicAveraging("loss", patience, seen[:known])
            averaging.set_model(model)
            averaging.on_train_begin()
            begun = []
            for t in range(known, len(seen)):
                averaging.on_epoch_end(t, {"loss": seen[t]})
                if int(model.optimizer.averaging_from) >= 0:
                    begun.append(t)
            assert averaging.history == seen
            if first is None or first >= known:
                assert begun[:1] == ([] if first is None else [first])


def test_a_validation_that_is_broken_off_leaves_nothing_behind():
    x, y = data()
    model, seen = regression(AveragedSGD(0.05)), Iterates()
    averaging = NonMonotonicAveraging(patience=0, history=[0.0])
    arguments = {"validation_data": (x, y), "batch_size": 4, "verbose": 0}
    seen.fail_in = 5
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, callbacks=[averaging, seen], epochs=3, **arguments)
    assert len(seen.iterates) == 6
    # What is there are the averages, wherever Keras broke off; and training goes on as it should.
    average = means(seen.iterates[3:])
    assert_all_close(values(model.trainable_variables), average)
    start = average if BACKEND == "jax" else seen.iterates[-1]  # Keras on JAX finishes `fit`.
    before = seen.iterates[3:]
    seen = Iterates()
    fresh = NonMonotonicAveraging(history=averaging.history)
    model.fit(x, y, callbacks=[fresh, seen], shuffle=False, **arguments)
    twin = regression(keras.optimizers.SGD(0.05))
    twin.set_weights(start)
    twin.train_on_batch(x[:4], y[:4])
    assert_all_close(seen.iterates[0], values(twin.trainable_variables))
    assert_all_close(values(model.trainable_variables), means(before + seen.iterates))


def test_what_cannot_be_is_refused():
    x, y = data()
    with pytest.raises(TypeError, match=r"`kerasrnn.optimizers.AveragedSGD`; got a Adam"):
        regression("adam").fit(x, y, callbacks=[NonMonotonicAveraging()], verbose=0)
    with pytest.raises(ValueError, match=r"`monitor`.*got 'val_loss', and there are loss\."):
        regression(AveragedSGD()).fit(x, y, callbacks=[NonMonotonicAveraging()], verbose=0)
    with pytest.raises(ValueError, match="`use_ema` must be False"):
        AveragedSGD(0.1, use_ema=True)
    for patience in (-1, 2.5, None):
        with pytest.raises(ValueError, match="`patience` must be a number of epochs, 0 or more"):
            NonMonotonicAveraging(patience=patience)


# Other backends.


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_everything_holds_on(backend):
    """The tests of this file, of the dropouts and of the likelihood, in a process of their own."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: `pip install kerasrnn[backends]`")
    files = ["tests/test_optimizers.py", "tests/test_likelihood_metrics.py"]
    files.append("tests/layers/test_dropouts.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--tb=short", *files],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
