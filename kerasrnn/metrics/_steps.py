"""Which steps of a batch count, and how much."""

from __future__ import annotations

from typing import Any

from keras import ops

Tensor = Any


def without_last_axis(x: Tensor) -> Tensor:
    """`(batch, time, 1)` as `(batch, time)`; anything else as it is."""
    x = ops.convert_to_tensor(x)
    return ops.squeeze(x, -1) if len(x.shape) == 3 and x.shape[-1] == 1 else x


def step_weights(counts: Tensor, *factors: Tensor | None) -> Tensor:
    """The weight of each step, float32 `(batch, time)`.

    Args:
        counts: Boolean `(batch, time)`: whether a step counts at all.
        factors: What the weights are multiplied by: the mask, the sample weights. `(batch, time)`,
            `(batch, time, 1)`, `(batch, 1)` or `(batch,)`, or None for nothing.
    """
    weights = ops.cast(counts, "float32")
    for given in factors:
        if given is not None:
            given = ops.cast(without_last_axis(given), "float32")
            weights = weights * (given[:, None] if len(given.shape) == 1 else given)
    return weights
