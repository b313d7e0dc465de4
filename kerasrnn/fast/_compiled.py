"""Any function of sequences to one number each, compiled by XLA together with its gradient.

And what keeps all that is compiled for sequences few: lengths that are rounded up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Tensor = Any


def values(
    function: Callable[..., Tensor], floats: Sequence[Tensor], others: Sequence[Tensor]
) -> Tensor:
    """`function(*floats, *others)`, float `(batch,)`, and its gradient in the same go.

    Args:
        function: Of tensors alone, and of each row by itself; it is compiled once for each shape.
        floats: Tensors `(batch, ...)`, of which there are gradients. What all rows share is
            repeated for each, and the repetition's gradient is the sum.
        others: Tensors of which there are none.
    """
    both = _both(function)

    @tf.custom_gradient
    def rows(*floats: Tensor) -> Any:
        found, gradients = both(floats, tuple(others))

        def gradient(upstream: Tensor) -> list[Tensor]:
            return [
                g
                * tf.reshape(upstream, tf.concat([tf.shape(upstream), [1] * (g.shape.rank - 1)], 0))
                for g in gradients
            ]

        return found, gradient

    return rows(*floats)


def padded(sequences: Sequence[Tensor]) -> list[Tensor]:
    """Lengths that are known only when they come, rounded up: XLA compiles for each length anew.

    There are four lengths between a power of two and the next, so that no more than a fifth of a
    buffer is padding, of zeros. Who calls this sees to it that it does not count.

    Args:
        sequences: Tensors `(batch, time, ...)`, of one length.
    """
    time = tf.shape(sequences[0])[1]
    exponent = tf.math.floor(tf.math.log(tf.cast(tf.maximum(time, 1), tf.float32) - 0.5) / _LOG_2)
    grain = tf.cast(tf.maximum(2.0 ** (exponent - 2), 1.0), tf.int32)
    missing = tf.maximum(-(-time // grain) * grain, 1) - time
    # TensorFlow hands the tensor itself on, not a copy, where nothing is missing.
    return [tf.pad(x, [[0, 0], [0, missing], *[[0, 0]] * (x.shape.rank - 2)]) for x in sequences]


_LOG_2 = 0.6931472


@functools.cache
def _both(function: Callable[..., Tensor]) -> Any:
    @tf.function(autograph=False, jit_compile=True)
    def both(floats: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(floats)
            found = function(*floats, *others)
        return found, tape.gradient(found, floats)

    return both
