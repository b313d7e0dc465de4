"""The one time loop, forward and backward: compiled by XLA, or as an ordinary graph."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from kerasrnn import _keras
from kerasrnn.fast._kernel import Kernel, Tensor, Weights

xla = _keras.xla_operations()


class Forward(NamedTuple):
    """What the way forward leaves behind, of one shard."""

    finals: tuple[Tensor, ...]
    sequences: tuple[Tensor, ...]
    saved: Tensor | None


class Backward(NamedTuple):
    """What the way back gives, of one shard."""

    dx: Tensor
    states: tuple[Tensor, ...]
    kept: tuple[Tensor, ...]
    sums: tuple[Tensor, ...]


class Passes(NamedTuple):
    """Both ways of one kernel, compiled or not."""

    forward: Callable[..., Forward]
    backward: Callable[..., Backward]


class _Buffers:
    """Sequences `(batch, time, size)` in XLA: a step is read from and written to its place in them.

    Each piece of a step is read by itself. Of a row that is read as a whole and then cut up XLA makes a
    function that reads anew, for every number, where the row begins; and no vector code.
    """

    @staticmethod
    def new(like: Tensor, size: int, dtype: Any) -> Tensor:
        batch, time = tf.unstack(tf.shape(like)[:2])
        return tf.zeros(tf.stack([batch, time, size]), dtype)

    @staticmethod
    def pieces(x: Tensor, t: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
        batch = tf.shape(x)[0]

        def piece(start: int, size: int) -> Tensor:
            row = xla.xla_dynamic_slice(x, tf.stack([0, t, start]), tf.stack([batch, 1, size]))
            return tf.reshape(row, tf.stack([batch, size]))

        return tuple(map(piece, itertools.accumulate(sizes, initial=0), sizes))

    @staticmethod
    def write(x: Tensor, t: Tensor, row: Tensor) -> Tensor:
        return xla.xla_dynamic_update_slice(x, row[:, None], tf.stack([0, t, 0]))

    @staticmethod
    def read(x: Tensor, size: int) -> Tensor:
        return tf.ensure_shape(x, [None, None, size])


class _Arrays:
    """The same in an ordinary graph."""

    @staticmethod
    def new(like: Tensor, size: int, dtype: Any) -> Any:
        return tf.TensorArray(dtype, size=tf.shape(like)[1], element_shape=[None, size])

    @staticmethod
    def pieces(x: Tensor, t: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
        return tuple(tf.split(x[:, t], sizes, axis=1)) if len(sizes) > 1 else (x[:, t],)

    @staticmethod
    def write(x: Any, t: Tensor, row: Tensor) -> Any:
        return x.write(t, row)

    @staticmethod
    def read(x: Any, size: int) -> Tensor:
        return tf.ensure_shape(tf.transpose(x.stack(), [1, 0, 2]), [None, None, size])


@functools.cache
def passes(
    kernel: Kernel, names: tuple[str, ...], dropout: bool, compiled: bool, units: int, columns: int
) -> Passes:
    """Traced once for each kernel, size and kind of call, and compiled once for each shape."""
    store: Any = _Buffers if compiled else _Arrays

    state_sizes, saved_sizes = kernel.state_sizes(units), kernel.saved_sizes(units)
    input_sizes = kernel.input_sizes(columns, units)

    def row(x: Tensor, t: Tensor) -> Tensor:
        return store.pieces(x, t, [x.shape[2]])[0]

    def weights(
        recurrent_kernel: Tensor | None, others: list[Tensor], rows: Sequence[Tensor]
    ) -> Weights:
        parts: list[Tensor] = []
        if recurrent_kernel is not None:
            recurrent_kernel = tf.ensure_shape(recurrent_kernel, [units, columns])
            parts = tf.split(recurrent_kernel, [gates * units for gates in kernel.parts], axis=1)
        mask = rows[0] if dropout else None
        return Weights(tuple(parts), dict(zip(names, others, strict=True)), mask)

    def valid(rows: Sequence[Tensor], t: Tensor) -> Tensor | None:
        """The mask's column for a step, `(batch, 1)`, if there is a mask."""
        left = rows[1:] if dropout else rows
        return row(left[0][..., None], t) if left else None

    def forward(
        x: Tensor,
        bias: Tensor | None,
        states: tuple[Tensor, ...],
        rows: tuple[Tensor, ...],
        recurrent_kernel: Tensor | None,
        others: list[Tensor],
        start: Tensor,
        stop: Tensor,
        keep: bool,
        outputs: bool,
    ) -> Forward:
        w = weights(recurrent_kernel, others, rows)
        (x,), states = _sized([columns], x), _sized(state_sizes, *states)
        dtype = states[0].dtype
        sizes = [*state_sizes] if keep else [units] * int(outputs)
        sizes += [sum(saved_sizes)] if keep and saved_sizes else []
        biases = None if bias is None else tf.split(bias, input_sizes)

        def body(t: Tensor, states: Any, *sequences: Any) -> Any:
            gates = store.pieces(x, t, input_sizes)
            gates = gates if biases is None else map(tf.add, gates, biases)
            new, saved = kernel.forward(tuple(tf.cast(g, dtype) for g in gates), states, w)
            here = valid(rows, t)
            if here is not None:
                new = tuple(tf.where(here, n, s) for n, s in zip(new, states, strict=True))
            new = _shaped(new, states)
            values = (*new, tf.concat(saved, axis=1)) if keep and saved else new
            # Without `keep` there is a sequence of the first state, or none.
            written = [store.write(*s) for s in zip(sequences, _same(t), values, strict=False)]
            return t + 1, new, *written

        empty = [store.new(x, size, dtype) for size in sizes]
        _, finals, *sequences = tf.while_loop(lambda t, *_: t < stop, body, (start, states, *empty))
        read = [store.read(s, size) for s, size in zip(sequences, sizes, strict=True)]
        saved = read.pop() if keep and saved_sizes else None
        return Forward(finals, tuple(read), saved)

    def backward(
        saved: Tensor | None,
        sequences: tuple[Tensor, ...],
        states: tuple[Tensor, ...],
        rows: tuple[Tensor, ...],
        recurrent_kernel: Tensor | None,
        others: list[Tensor],
        d_finals: tuple[Tensor, ...],
        d_outputs: Tensor | None,
        start: Tensor,
        stop: Tensor,
    ) -> Backward:
        w = weights(recurrent_kernel, others, rows)
        if saved is not None:
            (saved,) = _sized([sum(saved_sizes)], saved)
        sequences, states, d_finals = (
            _sized(state_sizes, *s) for s in (sequences, states, d_finals)
        )
        if d_outputs is not None:
            (d_outputs,) = _sized([units], d_outputs)
        dtype = d_finals[0].dtype
        sizes = [columns, *(size * units for size in kernel.kept)]

        def body(t: Tensor, d_states: Any, sums: Any, *written: Any) -> Any:
            first, previous = tf.equal(t, start), tf.maximum(t - 1, 0)
            before = tuple(
                tf.where(first, initial, row(s, previous))
                for initial, s in zip(states, sequences, strict=True)
            )
            after = tuple(row(s, t) for s in sequences)
            if d_outputs is not None:
                d_states = (d_states[0] + row(d_outputs, t), *d_states[1:])
            here = valid(rows, t)
            own = d_states
            if here is not None:
                own = tuple(tf.where(here, d, tf.zeros_like(d)) for d in d_states)
            pieces = () if saved is None else store.pieces(saved, t, saved_sizes)
            back = kernel.backward(pieces, before, after, own, w)
            d_before = back.states
            if here is not None:
                d_before = tuple(
                    b + tf.where(here, tf.zeros_like(d), d)
                    for b, d in zip(d_before, d_states, strict=True)
                )
            sums = tuple(s + tf.cast(v, s.dtype) for s, v in zip(sums, back.sums, strict=True))
            values = (back.dx, *back.kept)
            new = [store.write(*s) for s in zip(written, _same(t), values, strict=False)]
            return t - 1, _shaped(d_before, d_finals), sums, *new

        batch = tf.shape(d_finals[0])[0]
        sums = tuple(
            tf.zeros(shape, SUM_DTYPE.get(dtype, dtype))
            for shape in kernel.sum_shapes(batch, units)
        )
        empty = [store.new(sequences[0], size, dtype) for size in sizes]
        _, d_states, sums, *written = tf.while_loop(
            lambda t, *_: t >= start, body, (stop - 1, d_finals, sums, *empty)
        )
        dx, *kept = (store.read(s, size) for s, size in zip(written, sizes, strict=True))
        return Backward(dx, d_states, tuple(kept), sums)

    # One trace for all lengths; XLA compiles for each in any case.
    function = functools.partial(
        tf.function, autograph=False, jit_compile=compiled or None, reduce_retracing=not compiled
    )
    return Passes(function(forward), function(backward))


_same = itertools.repeat


# Hundreds of steps are summed up, which the half precisions cannot.
SUM_DTYPE = {tf.float16: tf.float32, tf.bfloat16: tf.float32}


def _sized(sizes: Sequence[int], *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors, whose last dimensions a trace for all shapes has forgotten."""
    return tuple(
        tf.ensure_shape(x, [None] * (x.shape.rank - 1) + [size])
        for x, size in zip(tensors, sizes, strict=True)
    )


def _shaped(tensors: Sequence[Tensor], like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The tensors with the shapes of others: a trace may know a batch of these, and of the inputs not."""
    return tuple(tf.ensure_shape(x, one.shape) for x, one in zip(tensors, like, strict=True))
