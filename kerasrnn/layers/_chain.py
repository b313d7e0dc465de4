"""The arithmetic of a linear chain of tags: likelihood, marginals and the best path, in `keras.ops`.

A chain scores a path of tags by the potential of each step's tag, by the transition between each two,
and by how well a tag starts and ends a path. A masked step is as if it were not there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops

from kerasrnn import _keras

Tensor = Any


class Chain(NamedTuple):
    """The scores of all paths of a batch, of one float dtype.

    Attributes:
        potentials: `(batch, time, tags)`, how well each tag suits each step.
        transitions: `(tags, tags)` or, one for each row, `(batch, tags, tags)`: from a tag to a tag.
        start: `(tags,)` or `(batch, tags)`, for the first tag of a path.
        end: The same for the last one.
        mask: Boolean `(batch, time)`, the steps that count.
    """

    potentials: Tensor
    transitions: Tensor
    start: Tensor
    end: Tensor
    mask: Tensor


def negative_log_likelihood(chain: Chain, tags: Tensor) -> Tensor:
    """`log Z - score(tags)`, float `(batch,)`; 0 for a row without a step (Lafferty et al. 2001).

    Args:
        chain: All scores.
        tags: int32 `(batch, time)`. What stands at masked steps is not read. A tag that there is not
            makes its row NaN.
    """
    steps = _Steps(chain.mask)
    number = chain.potentials.shape[-1]
    tags = ops.where(chain.mask, tags, 0)
    here = ops.one_hot(tags, number, dtype=chain.potentials.dtype)
    before = ops.take_along_axis(tags, steps.previous, axis=1)
    before = ops.one_hot(before, number, dtype=chain.potentials.dtype)
    entering = ops.where(
        steps.first[..., None], chain.start[..., None, :], ops.matmul(before, chain.transitions)
    )
    scores = ops.sum((chain.potentials + entering) * here, axis=-1)
    scores = ops.where((tags >= 0) & (tags < number), scores, float("nan"))
    at_end = ops.where(steps.last[..., None], here * chain.end[..., None, :], 0.0)
    totals, log_end = _forward(chain, steps.first)
    # A sum over the steps' own shares, each a small number: of the difference of two large totals
    # a long sequence would leave but a few digits. `_forward` says why there is no gradient.
    shares = ops.stop_gradient(_highest(totals)) - scores - ops.sum(at_end, axis=-1)
    return ops.sum(ops.where(chain.mask, shares, 0.0), axis=1) + ops.where(steps.any, log_end, 0.0)


def marginals(chain: Chain) -> Tensor:
    """The probability of each tag at each step, over all paths: `(batch, time, tags)`.

    0 at masked steps. From a pass forward and a pass backward (Rabiner 1989).
    """
    steps = _Steps(chain.mask)
    forward, _ = _forward(chain, steps.first)
    backward, _ = _forward(
        Chain(
            ops.flip(chain.potentials, axis=1),
            ops.swapaxes(chain.transitions, -1, -2),
            chain.end,
            chain.start,
            ops.flip(chain.mask, axis=1),
        ),
        ops.flip(steps.last, axis=1),
    )
    # Both hold the step's own potential, and a constant that the softmax does away with.
    totals = forward + ops.flip(backward, axis=1) - chain.potentials
    return ops.where(chain.mask[..., None], ops.softmax(totals, axis=-1), 0.0)


def best_path(chain: Chain) -> Tensor:
    """The path with the highest score, int32 `(batch, time)`; 0 at masked steps (Viterbi 1967).

    Among paths of the same score the one whose last tag has the lowest number, then the one whose
    last but one has it, and so on.
    """
    steps = _Steps(chain.mask)

    def step(x: Tensor, states: Any) -> tuple[Tensor, list[Tensor]]:
        (best,) = states
        potentials, is_first = x[:, :-1], x[:, -1:] > 0
        paths = best[:, :, None] + chain.transitions
        total = potentials + ops.where(is_first, chain.start, _highest(paths, axis=1))
        origins = ops.cast(ops.argmax(paths, axis=1), total.dtype)
        return origins, [total - _highest(total)[:, None]]

    origins, best = _run(step, *_inputs(chain, steps.first), chain.mask)
    final = ops.argmax(best + chain.end, axis=-1, keepdims=True)

    def back(origins: Tensor, states: Any) -> tuple[Tensor, list[Tensor]]:
        (tag,) = states
        before = ops.take_along_axis(origins, ops.cast(tag, "int32"), axis=1)
        return tag, [before]

    final = ops.cast(final, origins.dtype)
    tags, _ = _run(back, origins, final, chain.mask, go_backwards=True)
    tags = ops.cast(ops.flip(tags, axis=1)[..., 0], "int32")
    return ops.where(chain.mask, tags, 0)


def _forward(chain: Chain, first: Tensor) -> tuple[Tensor, Tensor]:
    """The log-scores of all partial paths, by the tag they end in, and what the end adds.

    Each step begins anew from scores whose highest is 0, so that none overflows: log Z is the sum of
    the steps' highest scores and of the end's share. In its gradient the former cancel out.

    Returns:
        `(batch, time, tags)`, and float `(batch,)`.
    """

    def step(x: Tensor, states: Any) -> tuple[Tensor, list[Tensor]]:
        (before,) = states
        potentials, is_first = x[:, :-1], x[:, -1:] > 0
        entering = ops.logsumexp(before[:, :, None] + chain.transitions, axis=1)
        total = potentials + ops.where(is_first, chain.start, entering)
        return total, [total - ops.stop_gradient(_highest(total))[:, None]]

    totals, final = _run(step, *_inputs(chain, first), chain.mask)
    return totals, ops.logsumexp(final + chain.end, axis=-1)


def _highest(scores: Tensor, axis: int = -1) -> Tensor:
    """The maximum over the tags; there may be no rows and no steps, for which Keras wants `initial`."""
    return ops.max(scores, axis=axis, initial=float("-inf"))


def _inputs(chain: Chain, first: Tensor) -> tuple[Tensor, Tensor]:
    """What a loop over the chain reads, the potentials and whether a step is the first, and its state."""
    is_first = ops.cast(first, chain.potentials.dtype)[..., None]
    inputs = ops.concatenate([chain.potentials, is_first], axis=-1)
    return inputs, ops.zeros_like(ops.sum(chain.potentials, axis=1))


def _run(
    step: Any, inputs: Tensor, state: Tensor, mask: Tensor, go_backwards: bool = False
) -> tuple[Tensor, Tensor]:
    """The outputs of all steps, each as large as the state, and the last state."""
    if inputs.shape[1] == 0:  # Keras's loops look at the first step.
        return inputs[..., : state.shape[-1]], state
    _, outputs, (final,) = _keras.rnn(step, inputs, [state], mask=mask, go_backwards=go_backwards)
    return outputs, final


class _Steps:
    """Which steps of a mask of any shape follow on which.

    Attributes:
        first: Boolean `(batch, time)`, the first step that counts.
        last: Boolean `(batch, time)`, the last one.
        previous: int32 `(batch, time)`, of a step that counts, the number of the one before, if any.
        any: Boolean `(batch,)`, whether there is any.
    """

    def __init__(self, mask: Tensor) -> None:
        count = ops.cumsum(ops.cast(mask, "int32"), axis=1)
        total = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
        self.first = ops.logical_and(mask, count == 1)
        self.last = ops.logical_and(mask, count == total)
        self.any = total[:, 0] > 0
        # The numbers of the steps that count, in their order, before those of the others.
        number = ops.arange(ops.shape(mask)[1], dtype="int32")
        order = ops.argsort(ops.where(mask, number, number + ops.shape(mask)[1]), axis=1)
        self.previous = ops.take_along_axis(order, ops.maximum(count - 2, 0), axis=1)
