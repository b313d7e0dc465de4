"""A kernel over a whole sequence, with the gradient that belongs to it.

What makes it fast:

- The way back is written by hand. Its loop does only what one step needs of the next; the gradients of
  the weights are single products after the loop, and memory holds what the way back reads and no more.
- XLA compiles the loop, and only the loop: in the large products around it TensorFlow's own are faster.
- The batch is cut into as many shards as there are cores, and each is a loop of its own. One step is too
  small a piece of work to be shared by cores.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from kerasrnn.fast import _loop
from kerasrnn.fast._compiled import padded
from kerasrnn.fast._kernel import Kernel, Tensor
from kerasrnn.fast._loop import Forward


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
    input_kernel: Tensor | None = None,
    bias: Tensor | None = None,
    recurrent_kernel: Tensor | None = None,
    others: dict[str, Tensor] | None = None,
    recurrent_mask: Tensor | None = None,
    mask: Tensor | None = None,
    all_outputs: bool = True,
    keep: bool = True,
    compiled: bool = True,
    beside: int = 1,
) -> Result:
    """Run a kernel over whole sequences. Differentiable, once.

    Args:
        kernel: The arithmetic of a step.
        inputs: `(batch, time, features)`, in the dtype of the products.
        states: The states before the first step, `(batch, units)` each, in the dtype of the gates.
        input_kernel: `(features, columns)`; nothing for inputs that are projected already.
        bias: `(columns,)`, or nothing.
        recurrent_kernel: `(units, columns)`, if the kernel has `parts`.
        others: Further weights, by name, as the kernel wants them.
        recurrent_mask: The recurrent dropout's mask, `(batch, units)`.
        mask: Boolean `(batch, time)`: the steps that count. Others leave the states as they are.
        all_outputs: Whether the outputs of all steps are wanted.
        keep: Whether to keep what the way back reads. Without, a gradient computes it anew: right for
            inference, of which nobody wants a gradient as a rule.
        compiled: Whether to let XLA compile the loop, and to cut the batch into shards. See
            `_keras.may_compile`.
        beside: How many sequences run side by side, such as the two directions: they share the cores.

    Returns:
        The outputs and the final states, in the dtype of the gates.
    """
    others = others or {}
    names = tuple(others)
    compiled = compiled and _loop.xla is not None
    shards = _shards(inputs.shape[0], beside) if compiled else 1
    units = states[0].shape[1]
    columns = (inputs if input_kernel is None else input_kernel).shape[-1]
    kind = (kernel, names, recurrent_mask is not None)
    passes = _loop.passes if kernel.lasting else _loop.passes.__wrapped__
    ways = passes(*kind, compiled, units, columns)
    time, any_length = tf.shape(inputs)[1], inputs.shape[1] is None
    if any_length:
        if not compiled and mask is None:  # The step that is added to none must not count.
            mask = tf.ones(tf.shape(inputs)[:2], tf.bool)
        inputs, *rest = padded([inputs] if mask is None else [inputs, mask])
        mask = rest[0] if rest else None
    # An ordinary graph reads every step that it has room for, so every one must be written.
    start, stop = _limits(mask, time) if compiled else (tf.constant(0), tf.shape(inputs)[1])
    rows = () if recurrent_mask is None else (recurrent_mask,)
    steps = () if mask is None else (mask,)
    weights = {"input": input_kernel, "recurrent": recurrent_kernel, "bias": bias}
    present = [name for name, weight in weights.items() if weight is not None]

    places = _places(tf.shape(inputs)[0] if inputs.shape[0] is None else inputs.shape[0], shards)

    def cut(tensors: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """The shards: for each, its rows of every tensor."""
        if shards == 1:
            return [tuple(tensors)]
        *places_before, last = places
        parts = [tuple(x[place.start : place.stop] for x in tensors) for place in places_before]
        # To its end, so that rows too many, of states or masks, are no less of an error than elsewhere.
        return [*parts, tuple(x[last.start :] for x in tensors)]

    def joined(values: Sequence[Tensor]) -> Tensor:
        """Each row of every shard once."""
        if shards == 1:
            return values[0]
        return tf.concat([x[p.first - p.start :] for x, p in zip(values, places, strict=True)], 0)

    def cut_once(gradients: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """The gradients of what `joined` gave: zero for a row that is another shard's."""
        if shards == 1:
            return [tuple(gradients)]
        return [
            tuple(
                # TensorFlow hands the tensor itself on where there is none.
                tf.pad(
                    d[p.first : p.stop], [[p.first - p.start, 0], *[[0, 0]] * (d.shape.rank - 1)]
                )
                for d in gradients
            )
            for p in places
        ]

    def project(x: Tensor, kernel: Tensor | None) -> Tensor:
        if kernel is None:
            return x
        x, rows, time = _flat(x), tf.shape(x)[0], tf.shape(x)[1]
        return tf.reshape(tf.matmul(x, kernel), tf.stack([rows, time, kernel.shape[1]]))

    @tf.custom_gradient
    def sequence(*arguments: Tensor) -> Any:
        # Whoever has several tapes on would otherwise have the loop itself differentiated.
        given = map(tf.stop_gradient, arguments) if compiled else iter(arguments)
        inputs = next(given)
        own_weights = {name: next(given) for name in present}
        input_kernel, recurrent_kernel, bias = (own_weights.get(name) for name in weights)
        other = [next(given) for _ in names]
        states = tuple(given)

        def forward(keep: bool) -> list[Forward]:
            return [
                ways.forward(
                    project(x, input_kernel),
                    bias,
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
            # XLA, if it compiles all around this, compiles it for no steps too.
            some = tf.maximum(time, 1)
            done = passes(*kind, False, units, columns).forward(
                project(inputs[:, :some], input_kernel),
                bias,
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
            given = cut([inputs, *states, *rows, *steps])
            # What was gathered from has a gradient of another kind, and of no known shape.
            d_values = [
                tf.ensure_shape(tf.convert_to_tensor(d), value.shape)
                for d, value in zip(upstream, values, strict=True)
            ]
            for d, (x, *own), d_up in zip(kept, given, cut_once(d_values), strict=True):
                back = ways.backward(
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
                # The products are those of the compute dtype.
                d_x = dx = tf.cast(_flat(back.dx), x.dtype)
                h = None
                if recurrent_kernel is not None:
                    h = _before(d.sequences[0], own[0], start if steps else None)
                    h = tf.cast(_flat(h if not rows else h * own[kernel.states][:, None]), x.dtype)
                kept_rows = tuple(tf.cast(_flat(k), x.dtype) for k in back.kept)
                d_recurrent, d_others = kernel.weight_gradients(dx, h, kept_rows, back.sums)
                gradients: dict[str, Tensor] = {}
                if input_kernel is not None:
                    d_x = tf.matmul(dx, input_kernel, transpose_b=True)
                    gradients["input"] = tf.matmul(_flat(x), dx, transpose_a=True)
                if recurrent_kernel is not None:
                    gradients["recurrent"] = d_recurrent
                if bias is not None:
                    # Half precision cannot sum up thousands of rows.
                    gradients["bias"] = tf.cast(tf.reduce_sum(_flat(back.dx), axis=0), bias.dtype)
                parts.append(
                    [
                        tf.reshape(d_x, tf.shape(x)),
                        *back.states,
                        *[gradients[name] for name in present],
                        *[
                            tf.cast(d_others[name], weight.dtype)
                            for name, weight in zip(names, other, strict=True)
                        ],
                    ]
                )
            together = list(zip(*parts, strict=True))
            split = 1 + kernel.states
            d_inputs, *d_states = (joined(values) for values in together[:split])
            found = [d_inputs, *(tf.add_n(values) for values in together[split:]), *d_states]
            if not compiled:
                return found
            return [tf.raw_ops.PreventGradient(input=each, message=ONCE) for each in found]

        return tuple(values), gradient

    given_weights = [*(weights[name] for name in present), *others.values()]
    # A variable that is handed on as itself would have to be a keyword of the gradient.
    arguments = [tf.convert_to_tensor(value) for value in (inputs, *given_weights, *states)]
    results = sequence(*arguments)
    finals = list(results) if isinstance(results, (list, tuple)) else [results]
    if not all_outputs:
        return Result(None, finals)
    outputs = finals.pop(0)
    return Result(outputs[:, :time] if any_length else outputs, finals)


ONCE = (
    "a compiled kernel has no gradient of its gradient. For that the layer wants "
    '`implementation="loop"`'
)

# Steps in a batch, all sequences taken together.
WORTH_COMPILING = 4096


def _before(states: Tensor, initial: Tensor, start: Tensor | None) -> Tensor:
    """The state before each step, `(batch, time, units)`, from those after.

    Args:
        states: `(batch, time, units)`. Before `start` nothing was written.
        initial: The state before the first step, `(batch, units)`.
        start: The first step, if it need not be the first of all. What is before it does not matter.
    """
    time, initial = tf.shape(states)[1], initial[:, None]
    before = tf.concat([initial, states[:, :-1]], axis=1)[:, :time]
    # No shape may depend on `start`, as XLA may compile this too.
    return (
        before if start is None else tf.where((tf.range(time) == start)[:, None], initial, before)
    )


def _flat(x: Tensor) -> Tensor:
    """`(batch, time, size)` as the rows of one matrix."""
    return tf.reshape(x, [-1, x.shape[-1]])


class _Place(NamedTuple):
    """The rows of a shard, from `start` to `stop`; those before `first` are another shard's."""

    start: Any
    first: Any
    stop: Any


def _places(batch: Any, shards: int) -> list[_Place]:
    """Shards of one shape, for which XLA compiles once: the last ones share rows with those before."""
    known = isinstance(batch, int)
    least: Any = min if known else tf.minimum
    size = -(-batch // shards)
    stops = [least((number + 1) * size, batch) for number in range(shards)]
    firsts = [least(number * size, batch) for number in range(shards)]
    return [_Place(stop - size, first, stop) for first, stop in zip(firsts, stops, strict=True)]


def _shards(batch: int | None, beside: int) -> int:
    """Into how many loops to cut a batch: one for each core, as long as each has a few rows."""
    if tf.config.get_visible_devices("GPU"):
        return 1
    most = max(1, min(_cores(), MOST_SHARDS) // beside)
    return most if batch is None else max(1, min(most, batch // FEWEST_ROWS))


# A product with fewer rows takes hardly less time; and who has many cores has other work for them.
FEWEST_ROWS, MOST_SHARDS = 8, 8


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
