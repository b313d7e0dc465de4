"""All steps of a linear recurrence at once: c = keep * c_prev + write, by a parallel scan."""

from __future__ import annotations

from typing import Any

from keras import ops

from kerasrnn import cells

Tensor = Any


def scanned(
    cell: cells.LinearCell,
    x: Tensor,
    state: Tensor,
    mask: Tensor | None,
    *,
    go_backwards: bool,
    zero_output_for_mask: bool,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """What `_keras.rnn` does, by a scan: the last output, all outputs and the final state.

    Args:
        cell: The cell, whose inputs `x` are projected.
        x: `(batch, time, columns)`, of at least one step.
        state: `(batch, units)`.
        mask: Boolean `(batch, time)`, or nothing.
        go_backwards, zero_output_for_mask: As in `_keras.rnn`.
    """
    if go_backwards:
        x = ops.flip(x, axis=1)
        mask = None if mask is None else ops.flip(mask, axis=1)
    keep, write, gates = cell.coefficients(x)
    keep = ops.zeros_like(write) + keep
    if mask is not None:
        counts = mask[..., None]
        keep, write = ops.where(counts, keep, 1), ops.where(counts, write, 0)
    # The state before the first step is one more thing that the first step writes.
    first = keep[:, :1] * state[:, None] + write[:, :1]
    states = linear_scan(keep, ops.concatenate([first, write[:, 1:]], axis=1))
    outputs = cell.read(x, states, gates)
    if mask is not None:
        outputs = _masked(outputs, mask, zero_output_for_mask)
    return outputs[:, -1], outputs, [states[:, -1]]


def linear_scan(keep: Tensor, write: Tensor) -> Tensor:
    """c[t] = keep[t] * c[t - 1] + write[t] along axis 1, from c[-1] = 0.

    Blocks of steps run side by side, each from 0; then a scan over the blocks' ends, shorter by the
    length of a block, says from where each should have started (Blelloch 1990,
    https://www.cs.cmu.edu/~guyb/papers/Ble93.pdf). Each number is read a few times, and no more than
    `BLOCK` products stand in a row, for each power of `BLOCK` in the length.
    """
    time = write.shape[1]
    if time is not None and time <= 2 * BLOCK:
        _, states = _one_by_one(keep, write)
        return ops.stack(states, axis=1)
    units, steps = write.shape[2], ops.shape(write)[1]
    missing = -steps % BLOCK
    blocks = (ops.shape(write)[0], (steps + missing) // BLOCK, BLOCK, units)
    keep, write = (
        ops.reshape(ops.pad(x, [[0, 0], [0, missing], [0, 0]]), blocks) for x in (keep, write)
    )
    # Within the blocks, which lie along axis 1: `reach` is what is left of a block's start.
    reach, local = _one_by_one(keep, write, axis=2)
    ends = _of_any_length if time is None else linear_scan
    carried = ends(reach[-1], local[-1])
    start = ops.pad(carried[:, :-1], [[0, 0], [1, 0], [0, 0]])
    states = ops.stack(local, axis=2) + ops.stack(reach, axis=2) * start[:, :, None]
    return ops.reshape(states, (blocks[0], -1, units))[:, :steps]


BLOCK = 16


def _one_by_one(keep: Tensor, write: Tensor, axis: int = 1) -> tuple[list[Tensor], list[Tensor]]:
    """The products of `keep` up to each step, and the states, by plain steps."""
    kept, written = (list(ops.unstack(x, axis=axis)) for x in (keep, write))
    reach, states = kept[:1], written[:1]
    for factor, term in zip(kept[1:], written[1:], strict=True):
        reach.append(factor * reach[-1])
        states.append(factor * states[-1] + term)
    return reach, states


def _of_any_length(keep: Tensor, write: Tensor) -> Tensor:
    """A scan over a time that is known only when it comes, which happens on TensorFlow alone.

    In the pass of the stride s every step takes in the one that lies s before it, and with it the 2 s
    steps before (Hillis & Steele 1986, https://doi.org/10.1145/7902.7903).
    """
    import tensorflow as tf

    def scan(keep: Tensor, write: Tensor) -> Tensor:
        steps = tf.range(tf.shape(write)[1])[None, :, None]

        def advance(stride: Tensor, keep: Tensor, write: Tensor) -> Any:
            reaches = steps >= stride
            before = tf.where(reaches, tf.roll(write, stride, axis=1), 0)
            factor = tf.where(reaches, tf.roll(keep, stride, axis=1), 1)
            return stride * 2, keep * factor, write + keep * before

        return tf.while_loop(
            lambda stride, *_: stride < tf.shape(write)[1], advance, (tf.constant(1), keep, write)
        )[2]

    @tf.custom_gradient
    def scanned(keep: Tensor, write: Tensor) -> Any:
        states = scan(keep, write)

        def gradient(d_states: Tensor) -> tuple[Tensor, Tensor]:
            # The way back is a scan too, from the last step to the first.
            later = tf.pad(keep[:, 1:], [[0, 0], [0, 1], [0, 0]])
            d_write = scan(later[:, ::-1], d_states[:, ::-1])[:, ::-1]
            before = tf.pad(states[:, :-1], [[0, 0], [1, 0], [0, 0]])
            return d_write * before, d_write

        return states, gradient

    return scanned(keep, write)


def _masked(outputs: Tensor, mask: Tensor, zero_output_for_mask: bool) -> Tensor:
    """A masked step gives zeros, or repeats the output before it, which is a recurrence too."""
    counts = mask[..., None]
    outputs = ops.where(counts, outputs, 0)
    if zero_output_for_mask:
        return outputs
    keep = ops.cast(ops.logical_not(counts), outputs.dtype)
    return linear_scan(ops.zeros_like(outputs) + keep, outputs)
