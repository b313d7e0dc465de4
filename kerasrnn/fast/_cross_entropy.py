"""The cross-entropy over many classes, in as few passes over the logits as there can be.

What a language model with a large vocabulary computes besides its products. The exponentials are taken
once, on the way forward, and kept: the gradient is a multiple of them.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any


@tf.custom_gradient
def cross_entropy(logits: Tensor, targets: Tensor) -> Any:
    """The cross-entropy of each row, `(rows,)`; compiled by XLA once for each shape.

    Args:
        logits: `(rows, classes)`.
        targets: The number of the right class of each row, `(rows,)` int32. NaN where there is no such
            class, and no gradient.
    """
    nats, exponentials, total = _forward(logits, targets)
    return nats, lambda upstream: (_backward(exponentials, total, targets, upstream), None)


@tf.function(autograph=False, jit_compile=True)
def _forward(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    largest = tf.reduce_max(logits, axis=1, keepdims=True)
    exponentials = tf.exp(logits - largest)
    total = tf.reduce_sum(exponentials, axis=1)
    is_class = (targets >= 0) & (targets < logits.shape[1])
    right = tf.gather(logits, tf.where(is_class, targets, 0), batch_dims=1)
    nats = tf.math.log(total) + largest[:, 0] - right
    return tf.where(is_class, nats, float("nan")), exponentials, total


@tf.function(autograph=False, jit_compile=True)
def _backward(exponentials: Tensor, total: Tensor, targets: Tensor, upstream: Tensor) -> Tensor:
    classes = exponentials.shape[1]
    upstream = tf.where((targets >= 0) & (targets < classes), upstream, 0.0)[:, None]
    right = tf.range(classes)[None] == targets[:, None]
    return exponentials * (upstream / total[:, None]) - tf.where(right, upstream, 0.0)
