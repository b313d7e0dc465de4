"""cuDNN, by TensorFlow's own operation. It runs on NVIDIA's GPUs alone, and XLA does not compile it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any


def whole_sequence(
    mode: str, x: Tensor, states: list[Tensor], weights: Tensor, lengths: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """The outputs `(batch, time, units)`, zeros beyond the lengths, and the final states.

    Args:
        mode: `"lstm"`, `"gru"` or `"rnn_tanh"`.
        x: `(batch, time, features)`.
        states: `(batch, units)` each.
        weights: All of them in one row, gate by gate: of the input, of the state, and two biases.
        lengths: How many steps of each sequence count, at least 1, `(batch,)` int32; all, if this is none.
    """
    dtype, shape = x.dtype, states[0].shape
    # In bfloat16 TensorFlow casts to float32 as well, and its way back has been wrong.
    wide = tf.float32 if dtype == tf.bfloat16 else dtype
    batch, time = tf.unstack(tf.shape(x)[:2])
    rows, steps = tf.maximum(batch, 1), tf.maximum(time, 1)
    lengths = tf.fill([batch], steps) if lengths is None else lengths
    # cuDNN wants a sequence and a step at least. Where nothing is missing, nothing is copied.
    lengths = tf.pad(lengths, [[0, rows - batch]], constant_values=1)
    x = tf.pad(tf.cast(x, wide), [[0, rows - batch], [0, steps - time], [0, 0]])
    start = [tf.pad(tf.cast(s, wide), [[0, rows - batch], [0, 0]])[:, None] for s in states]
    outputs, h, c, *_ = tf.raw_ops.CudnnRNNV3(
        input=x,
        input_h=start[0],
        input_c=start[1] if len(start) > 1 else tf.zeros((), wide),
        params=tf.cast(weights, wide),
        sequence_lengths=lengths,
        rnn_mode=mode,
        is_training=True,  # Without, there would be no gradient; Keras has it so too.
        time_major=False,
    )
    outputs = tf.cast(outputs[:batch, :time], dtype)
    final = []
    for after, before in zip((h, c), states, strict=False):  # A second is there for an LSTM alone.
        after = tf.cast(after[:batch, 0], dtype)
        final.append(tf.ensure_shape(tf.where(time > 0, after, before), shape))
    return tf.ensure_shape(outputs, (shape[0], None, shape[1])), final


def picked(x: Tensor, steps: Tensor) -> Tensor:
    """Of each sequence, `(batch, time, size)`, the steps whose numbers are given, `(batch, time)`."""
    return tf.gather(x, steps, batch_dims=1)
