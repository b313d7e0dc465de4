"""The one time loop: a kernel over a whole sequence, forward and backward.

What makes it fast, in the order of its effect (benchmarks/ measures it):

- The way back is written by hand. Its loop does only what one step needs of the next; the gradients of
  the weights are single products after the loop, and memory holds what the way back reads and no more.
- XLA compiles the loop, and only the loop: in the large products around it TensorFlow's own are faster.
- The batch is cut into as many shards as there are cores, and each is a loop of its own. One step is too
  small a piece of work to be shared by cores.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from kerasrnn.fast._kernel import Kernel, Tensor, Weights

try:  # XLA's own slices write a step into a buffer in its place; TensorFlow has no public name for them.
    from tensorflow.compiler.tf2xla.ops import gen_xla_ops as xla
except ImportError:  # Then the loop runs as an ordinary graph.
    xla = None


class Result(NamedTuple):
    """What a sequence gives.

    Attributes:
        outputs: `(batch, time, units)`: the first state after every step, or nothing.
        states: The states after the last step, `(batch, units)` each.
    """

    outputs: Tensor | None
    states: list[Tensor]


def run(
    kernel: Kernel,
    inputs: Tensor,
    states: Sequence[Tensor],
    *,
    input_kernel: Tensor,
    bias: Tensor | None,
    recurrent_kernel: Tensor,
    others: dict[str, Tensor] | None = None,
    recurrent_mask: Tensor | None = None,
    mask: Tensor | None = None,
    all_outputs: bool = True,
    keep: bool = True,
    compiled: bool = True,
) -> Result:
    """Run a kernel over whole sequences. Differentiable, once.

    Args:
        kernel: The arithmetic of a step.
        inputs: `(batch, time, features)`, in the dtype of the products.
        states: The states before the first step, `(batch, units)` each, in the dtype of the gates.
        input_kernel: `(features, columns)`.
        bias: `(columns,)`, or nothing.
        recurrent_kernel: `(units, columns)`.
        others: Further weights, by name, as the kernel wants them.
        recurrent_mask: The recurrent dropout's mask, `(batch, units)`.
        mask: Boolean `(batch, time)`: the steps that count. Others leave the states as they are.
        all_outputs: Whether the outputs of all steps are wanted.
        keep: Whether to keep what the way back reads. Without, a gradient computes it anew: right for
            inference, of which nobody wants a gradient as a rule.
        compiled: Whether to let XLA compile the loop and to cut the batch into shards.

    Returns:
        The outputs and the final states, in the dtype of the gates.
    """
    others = others or {}
    names, wide = tuple(others), states[0].dtype
    compiled = compiled and xla is not None
    shards = _shards(inputs.shape[0]) if compiled else 1
    units, columns = recurrent_kernel.shape
    kind = (kernel, names, recurrent_mask is not None)
    passes = _passes(*kind, compiled, units, columns)
    time, any_length = tf.shape(inputs)[1], inputs.shape[1] is None
    if any_length:
        if not compiled and mask is None:  # The step that is added to none must not count.
            mask = tf.ones(tf.shape(inputs)[:2], tf.bool)
        inputs, mask = _padded(inputs, mask)
    # An ordinary graph reads every step that it has room for, so every one must be written.
    start, stop = _limits(mask, time) if compiled else (tf.constant(0), tf.shape(inputs)[1])
    rows = () if recurrent_mask is None else (recurrent_mask,)
    steps = () if mask is None else (mask,)
    use_bias = bias is not None

    def cut(tensors: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """The shards: for each, its part of every tensor."""
        tensors = list(tensors)
        if shards == 1:
            return [tuple(tensors)]
        size = tf.shape(inputs)[0] // shards
        sizes = tf.concat([tf.fill([shards - 1], size), [-1]], axis=0)
        static = inputs.shape[0]
        if static is not None:
            sizes = [static // shards] * (shards - 1) + [static - static // shards * (shards - 1)]
        return list(zip(*[tf.split(t, sizes, axis=0, num=shards) for t in tensors], strict=True))

    def joined(values: Sequence[Tensor]) -> Tensor:
        return values[0] if shards == 1 else tf.concat(values, axis=0)

    def project(x: Tensor, kernel: Tensor, *bias: Tensor) -> Tensor:
        x, rows, time = _flat(x), tf.shape(x)[0], tf.shape(x)[1]
        z = tf.matmul(x, kernel)
        z = tf.nn.bias_add(z, bias[0]) if bias else z
        return tf.reshape(z, tf.stack([rows, time, kernel.shape[1]]))

    @tf.custom_gradient
    def sequence(*arguments: Tensor) -> Any:
        given = iter(arguments)
        inputs, input_kernel, recurrent_kernel = (next(given) for _ in range(3))
        bias = (next(given),) if use_bias else ()
        other = [next(given) for _ in names]
        states = tuple(given)

        def forward(keep: bool) -> list[Forward]:
            return [
                passes.forward(
                    project(x, input_kernel, *bias),
                    part[: kernel.states],
                    part[kernel.states :],
                    recurrent_kernel,
                    other,
                    start,
                    stop,
                    keep=keep,
                    outputs=all_outputs,
                )
                for x, *part in cut([inputs, *states, *rows, *steps])
            ]

        def results(done: list[Forward]) -> list[Tensor]:
            finals = [joined([d.finals[n] for d in done]) for n in range(kernel.states)]
            outputs = [joined([d.sequences[0] for d in done])] if all_outputs else []
            return [*outputs, *finals]

        def uncompiled() -> list[Tensor]:
            some = tf.maximum(
                time, 1
            )  # XLA, if it compiles all around this, does so for no steps too.
            done = _passes(*kind, False, units, columns).forward(
                project(inputs[:, :some], input_kernel, *bias),
                states,
                (*rows, *(step[:, :some] for step in steps)),
                recurrent_kernel,
                other,
                tf.constant(0),
                some,
                keep=False,
                outputs=all_outputs,
            )
            beyond = [[0, 0], [0, tf.shape(inputs)[1] - some], [0, 0]]
            outputs = [tf.pad(done.sequences[0], beyond)] if all_outputs else []
            return [*outputs, *done.finals]

        done = forward(keep=True) if keep else []
        if keep:
            values = results(done)
        elif compiled and any_length:
            # Of no known length, and not for training: few steps are run sooner than compiled.
            count = tf.shape(inputs)[0] * time
            few = tf.logical_and(count > 0, count < WORTH_COMPILING)
            values = tf.cond(few, uncompiled, lambda: results(forward(keep=False)))
        else:
            values = results(forward(keep=False))

        def gradient(*upstream: Tensor) -> list[Tensor]:
            kept = done or forward(keep=True)
            parts = []
            for d, (x, *part) in zip(
                kept, cut([inputs, *states, *rows, *steps, *upstream]), strict=True
            ):
                own, d_up = part[: -len(upstream)], part[-len(upstream) :]
                back = passes.backward(
                    d.saved,
                    d.sequences,
                    own[: kernel.states],
                    own[kernel.states :],
                    recurrent_kernel,
                    other,
                    tuple(d_up[-kernel.states :]),
                    d_up[0] if all_outputs else None,
                    start,
                    stop,
                )
                columns = back.dx.shape[-1]
                dx = tf.reshape(back.dx, [-1, columns])
                kept_rows = tuple(_flat(k) for k in back.kept)
                d_recurrent, d_others = kernel.weight_gradients(dx, kept_rows, back.sums)
                narrow = tf.cast(dx, input_kernel.dtype)
                parts.append(
                    [
                        tf.reshape(tf.matmul(narrow, input_kernel, transpose_b=True), tf.shape(x)),
                        *back.states,
                        tf.matmul(_flat(x), narrow, transpose_a=True),
                        tf.cast(d_recurrent, recurrent_kernel.dtype),
                        *([tf.cast(tf.reduce_sum(dx, axis=0), bias[0].dtype)] if bias else []),
                        *[tf.cast(d_others[name], wide) for name in names],
                    ]
                )
            together = list(zip(*parts, strict=True))
            split = 1 + kernel.states
            d_inputs, *d_states = (joined(values) for values in together[:split])
            return [d_inputs, *(tf.add_n(values) for values in together[split:]), *d_states]

        return tuple(values), gradient

    weights = [input_kernel, recurrent_kernel, *([bias] if use_bias else []), *others.values()]
    # A variable that is handed on as itself would have to be a keyword of the gradient.
    arguments = [tf.convert_to_tensor(value) for value in (inputs, *weights, *states)]
    results = sequence(*arguments)
    finals = list(results) if isinstance(results, (list, tuple)) else [results]
    if not all_outputs:
        return Result(None, finals)
    outputs = finals.pop(0)
    return Result(outputs[:, :time] if any_length else outputs, finals)


# Steps in a batch, all sequences taken together.
WORTH_COMPILING = 4096


def _flat(x: Tensor) -> Tensor:
    """`(batch, time, size)` as the rows of one matrix."""
    return tf.reshape(x, [-1, x.shape[-1]])


def _shards(batch: int | None) -> int:
    """Into how many loops to cut a batch: one for each core, but none of them empty."""
    if tf.config.list_physical_devices("GPU"):
        return 1
    return max(1, min(_cores(), batch if batch is not None else _cores()))


@functools.cache
def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limits(mask: Tensor | None, time: Tensor) -> tuple[Tensor, Tensor]:
    """The first step that counts in any row, and the one after the last: int32 scalars."""
    if mask is None:
        return tf.constant(0), time
    anywhere, steps = tf.cast(tf.reduce_any(mask, axis=0), tf.int32), tf.range(tf.shape(mask)[1])
    stop = tf.reduce_max(anywhere * (steps + 1))
    return tf.minimum(time - tf.reduce_max(anywhere * (time - steps)), stop), stop


def _padded(inputs: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Lengths that are known only when they come, rounded up: XLA compiles for each length anew.

    There are four lengths between a power of two and the next, so that no more than a fifth of a
    buffer is padding. The loop stops before it.
    """
    time = tf.shape(inputs)[1]
    exponent = tf.math.floor(tf.math.log(tf.cast(tf.maximum(time, 1), tf.float32) - 0.5) / _LOG_2)
    grain = tf.cast(tf.maximum(2.0 ** (exponent - 2), 1.0), tf.int32)
    missing = tf.maximum(-(-time // grain) * grain, 1) - time
    # TensorFlow hands the tensor itself on, not a copy, where nothing is missing.
    inputs = tf.pad(inputs, [[0, 0], [0, missing], [0, 0]])
    return inputs, None if mask is None else tf.pad(mask, [[0, 0], [0, missing]])


_LOG_2 = 0.6931472


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
    """Sequences `(batch, time, size)` in XLA: a step is read from and written to its place in them."""

    @staticmethod
    def new(like: Tensor, size: int, dtype: Any) -> Tensor:
        batch, time = tf.unstack(tf.shape(like)[:2])
        return tf.zeros(tf.stack([batch, time, size]), dtype)

    @staticmethod
    def row(x: Tensor, t: Tensor) -> Tensor:
        sizes = tf.stack([tf.shape(x)[0], 1, x.shape[2]])
        row = xla.xla_dynamic_slice(x, tf.stack([0, t, 0]), sizes)
        return tf.reshape(row, tf.stack([tf.shape(x)[0], x.shape[2]]))

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
    def row(x: Tensor, t: Tensor) -> Tensor:
        return x[:, t]

    @staticmethod
    def write(x: Any, t: Tensor, row: Tensor) -> Any:
        return x.write(t, row)

    @staticmethod
    def read(x: Any, size: int) -> Tensor:
        return tf.ensure_shape(tf.transpose(x.stack(), [1, 0, 2]), [None, None, size])


@functools.cache
def _passes(
    kernel: Kernel, names: tuple[str, ...], dropout: bool, compiled: bool, units: int, columns: int
) -> Passes:
    """Traced once for each kernel, size and kind of call, and compiled once for each shape."""
    store: Any = _Buffers if compiled else _Arrays

    def weights(recurrent_kernel: Tensor, others: list[Tensor], rows: Sequence[Tensor]) -> Weights:
        mask = rows[0] if dropout else None
        recurrent_kernel = tf.ensure_shape(recurrent_kernel, [units, columns])
        return Weights(recurrent_kernel, dict(zip(names, others, strict=True)), mask)

    def valid(rows: Sequence[Tensor], t: Tensor) -> Tensor | None:
        """The mask's column for a step, `(batch, 1)`, if there is a mask."""
        left = rows[1:] if dropout else rows
        return store.row(left[0][..., None], t) if left else None

    def forward(
        x: Tensor,
        states: tuple[Tensor, ...],
        rows: tuple[Tensor, ...],
        recurrent_kernel: Tensor,
        others: list[Tensor],
        start: Tensor,
        stop: Tensor,
        keep: bool,
        outputs: bool,
    ) -> Forward:
        w = weights(recurrent_kernel, others, rows)
        (x,), states = _sized(columns, x), _sized(units, *states)
        dtype = states[0].dtype
        sizes = [units] * (kernel.states if keep else int(outputs))
        sizes += [kernel.saved * units] if keep else []

        def body(t: Tensor, states: Any, *sequences: Any) -> Any:
            new, saved = kernel.forward(tf.cast(store.row(x, t), dtype), states, w)
            here = valid(rows, t)
            if here is not None:
                new = tuple(tf.where(here, n, s) for n, s in zip(new, states, strict=True))
            values = (*new, saved) if keep else new
            # Without `keep` there is a sequence of the first state, or none.
            written = [store.write(*s) for s in zip(sequences, _same(t), values, strict=False)]
            return t + 1, new, *written

        empty = [store.new(x, size, dtype) for size in sizes]
        _, finals, *sequences = tf.while_loop(lambda t, *_: t < stop, body, (start, states, *empty))
        read = [store.read(s, size) for s, size in zip(sequences, sizes, strict=True)]
        saved = read.pop() if keep else None
        return Forward(finals, tuple(read), saved)

    def backward(
        saved: Tensor,
        sequences: tuple[Tensor, ...],
        states: tuple[Tensor, ...],
        rows: tuple[Tensor, ...],
        recurrent_kernel: Tensor,
        others: list[Tensor],
        d_finals: tuple[Tensor, ...],
        d_outputs: Tensor | None,
        start: Tensor,
        stop: Tensor,
    ) -> Backward:
        w = weights(recurrent_kernel, others, rows)
        (saved,) = _sized(kernel.saved * units, saved)
        sequences, states, d_finals = (_sized(units, *s) for s in (sequences, states, d_finals))
        if d_outputs is not None:
            (d_outputs,) = _sized(units, d_outputs)
        dtype = d_finals[0].dtype
        sizes = [columns, *(size * units for size in kernel.kept)]

        def body(t: Tensor, d_states: Any, sums: Any, *written: Any) -> Any:
            first, previous = tf.equal(t, start), tf.maximum(t - 1, 0)
            before = tuple(
                tf.where(first, initial, store.row(s, previous))
                for initial, s in zip(states, sequences, strict=True)
            )
            after = tuple(store.row(s, t) for s in sequences)
            if d_outputs is not None:
                d_states = (d_states[0] + store.row(d_outputs, t), *d_states[1:])
            here = valid(rows, t)
            own = d_states
            if here is not None:
                own = tuple(tf.where(here, d, tf.zeros_like(d)) for d in d_states)
            back = kernel.backward(store.row(saved, t), before, after, own, w)
            d_before = back.states
            if here is not None:
                d_before = tuple(
                    b + tf.where(here, tf.zeros_like(d), d)
                    for b, d in zip(d_before, d_states, strict=True)
                )
            sums = tuple(s + value for s, value in zip(sums, back.sums, strict=True))
            values = (back.dx, *back.kept)
            new = [store.write(*s) for s in zip(written, _same(t), values, strict=False)]
            return t - 1, d_before, sums, *new

        batch = tf.shape(d_finals[0])[0]
        sums = tuple(tf.zeros(tf.stack([batch, size * units]), dtype) for size in kernel.sums)
        empty = [store.new(saved, size, dtype) for size in sizes]
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


def _sized(size: int, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors, whose last dimension a trace for all shapes has forgotten."""
    return tuple(tf.ensure_shape(x, [None] * (x.shape.rank - 1) + [size]) for x in tensors)
