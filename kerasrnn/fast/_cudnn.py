"""cuDNN, by TensorFlow's own operation. It runs on NVIDIA's GPUs alone, and XLA does not compile it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any


def cudnn(
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
    batch, time = tf.unstack(tf.shape(x)[:2])
    several = [state[:, None] for state in states]  # A dimension for the layers.
    outputs, h, c, *_ = tf.raw_ops.CudnnRNNV3(
        input=x,
        input_h=several[0],
        input_c=several[1] if len(several) > 1 else tf.zeros((), x.dtype),
        params=weights,
        sequence_lengths=tf.fill([batch], time) if lengths is None else lengths,
        rnn_mode=mode,
        is_training=True,  # Without, there would be no gradient; Keras has it so too.
        time_major=False,
    )
    outputs = tf.ensure_shape(outputs, (*x.shape[:2], states[0].shape[1]))
    # Of one state alone there is no second to be had.
    final = [state[:, 0] for state in (h, c)[: len(states)]]
    shape = states[0].shape
    return outputs, [tf.ensure_shape(state, shape) for state in final]
