"""The parallel scan of linear recurrences against the loop."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import cells
from kerasrnn.layers import Recurrent
from kerasrnn.layers._scan import linear_scan
from tests.layers._helpers import assert_close, randomise

FEATURES = UNITS = 4
LINEAR = [
    name for name in cells.names() if issubclass(cells.info(name).cell_class, cells.LinearCell)
]
# One block, blocks with and without a rest, blocks of blocks.
LENGTHS = [1, 2, 15, 16, 33, 48, 250, 600]
# Float64 sums of hundreds of numbers, in another order.
ATOL = 1e-9


def data(time, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(3, time, FEATURES))
    start = random.normal(size=(3, UNITS))
    return x, random.random((3, time)) < 0.6, start


def pair(name, **arguments):
    """The same cell by the scan and by the loop."""
    cell = cells.get(name, UNITS, dtype="float64")
    both = [
        Recurrent(cell, True, True, implementation=way, dtype="float64", **arguments)
        for way in ("fused", "loop")
    ]
    both[0].build((None, None, FEATURES))
    randomise(cell)
    return both


@pytest.mark.parametrize("time", LENGTHS)
def test_the_scan_is_the_recurrence(time):
    random = np.random.default_rng(time)
    keep, write = random.uniform(0, 1, (2, 2, time, 3))
    c, expected = np.zeros((2, 3)), []
    for t in range(time):
        c = keep[:, t] * c + write[:, t]
        expected.append(c)
    actual = linear_scan(tf.constant(keep), tf.constant(write))
    np.testing.assert_allclose(actual, np.stack(expected, axis=1), rtol=1e-12)


@pytest.mark.parametrize("dynamic", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", LINEAR)
def test_the_scan_equals_the_loop_with_its_gradients(name, dynamic):
    lengths = [1, 300] if dynamic else [7, 300]
    ways = [(False, False, False), (True, False, True), (False, True, True)]
    for time, (go_backwards, zero_output, masked) in itertools.product(lengths, ways):
        x, mask, start = data(time)
        results = []
        for layer in pair(name, go_backwards=go_backwards, zero_output_for_mask=zero_output):
            sources = [weight.value for weight in layer.trainable_weights]

            def run(x, mask, start, layer=layer, sources=sources, masked=masked):
                with tf.GradientTape() as tape:
                    tape.watch([x, start])
                    given = mask if masked else None
                    outputs = layer(x, mask=given, initial_state=[start])
                    loss = sum(tf.reduce_sum(tf.sin(output)) for output in outputs)
                return outputs, tape.gradient(loss, [x, start, *sources])

            shapes = [(None, None, FEATURES), (None, None), (None, UNITS)]
            if not dynamic:
                shapes = [x.shape, mask.shape, start.shape]
            types = [tf.float64, tf.bool, tf.float64]
            signature = [tf.TensorSpec(*pair) for pair in zip(shapes, types, strict=True)]
            results.append(tf.function(run, input_signature=signature)(x, mask, start))
        (outputs, gradients), (expected, expected_gradients) = results
        assert_close(outputs, expected, ATOL, f"{time} {go_backwards} {zero_output} {masked}")
        assert_close(gradients, expected_gradients, ATOL)


@pytest.mark.parametrize("name", LINEAR)
def test_xla_compiles_the_scan(name):
    layer, loop = pair(name)
    x, mask, start = data(50)
    compiled = tf.function(layer, jit_compile=True)
    assert_close(
        compiled(x, mask=mask, initial_state=[start]),
        loop(x, mask=mask, initial_state=[start]),
        ATOL,
    )


def test_zoneout_and_a_written_out_loop_have_no_scan():
    """The scan knows no zoneout; the layer must not quietly do without it."""
    x, _, _ = data(20)
    cell = cells.SRUCell(UNITS, zoneout=0.5, dtype="float64")
    layer = Recurrent(cell, dtype="float64", return_sequences=True)
    assert np.any(layer(x) != layer(x, training=True))
    plain, unrolled = (Recurrent(cells.SRUCell(UNITS), unroll=unroll) for unroll in (False, True))
    for one in (plain, unrolled):
        one.build(x.shape)
        randomise(one)
    assert_close(plain(x), unrolled(x), 1e-5)
