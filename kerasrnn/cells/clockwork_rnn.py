"""The clockwork RNN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from keras import ops

from kerasrnn.cells._base import Cell, Step, Tensor, positive_integer
from kerasrnn.cells._registry import cell


@cell(paper="https://arxiv.org/abs/1402.3511", alias="CWRNN")
class ClockworkRNNCell(Cell):
    r"""Clockwork RNN: groups of units that tick at periods of their own (Koutnik et al. 2014).

        n = tanh(x W + h_prev U + b)        U: a group reads those of its own and of longer periods
        h = n in the groups with t mod T = 0, h_prev in the others

    Gates (columns): candidate. States: hidden, phase. `phase` is t mod T of every group, so all groups
    tick at the first step, and a masked step stops the clocks. The entries of U by which a group would
    read those of shorter periods are zero and stay so.

    Args:
        units: Positive integer, the size of the state, a multiple of the number of groups.
        activation: The squashing of the state.
        periods: The groups' periods in steps, positive integers, each once.
        **kwargs: See `kerasrnn.cells.Cell`.

    Raises:
        ValueError: If `periods` are none, repeated, not positive, too long to be counted in the compute
            dtype, or do not divide `units`.

    Example:

    >>> import keras, kerasrnn
    >>> cell = kerasrnn.cells.ClockworkRNNCell(6, periods=(1, 4, 16))
    >>> keras.layers.RNN(cell)(keras.ops.ones((2, 5, 3))).shape == (2, 6)
    True
    """

    states = ("hidden", "phase")
    gates = ("candidate",)
    counters = ("phase",)

    def __init__(
        self, units: int, *args: Any, periods: Sequence[int] = (1, 2, 4, 8), **kwargs: Any
    ) -> None:
        super().__init__(units, *args, **kwargs)
        ordered = isinstance(periods, Iterable) and not isinstance(periods, (str, Set, Mapping))
        given = tuple(periods) if ordered else ()
        self.periods = tuple(positive_integer("periods", period) for period in given)
        if not given or len(set(self.periods)) < len(given):
            raise ValueError(
                f"`periods` must be one or more integers, none of them twice, got {periods!r}."
            )
        if self.units % len(self.periods):
            raise ValueError(
                f"`units` must be a multiple of the number of `periods`, got units={units} and "
                f"{len(self.periods)} periods {self.periods}."
            )
        self.group_of_unit = np.repeat(
            np.arange(len(self.periods)), self.units // len(self.periods)
        )
        # A float counts up to here by ones, and then sticks.
        most = {"float16": 2**11, "bfloat16": 2**8}.get(self.compute_dtype, 2**24)
        if max(self.periods) > most:
            raise ValueError(
                f"`periods` may be at most {most} in {self.compute_dtype}, got {max(self.periods)}."
            )

    @property
    def state_sizes(self) -> dict[str, int]:
        return {"hidden": self.units, "phase": len(self.periods)}

    @property
    def reads(self) -> np.ndarray:
        """Which entries of `recurrent_kernel` count, 1 or 0: a unit's row for all that read it."""
        of_unit = np.asarray(self.periods)[self.group_of_unit]
        return (of_unit[:, None] >= of_unit).astype("float32")

    def add_kernel(self, name: str, shape: Any, like: str, initializer: Any = None) -> Any:
        def masked(shape: Any, dtype: Any = None) -> Tensor:
            return self.recurrent_initializer(shape, dtype=dtype) * ops.cast(self.reads, dtype)

        start = masked if name == "recurrent_kernel" else initializer
        return super().add_kernel(name, shape, like, start)

    def recurrent_weights(self, name: str = "recurrent_kernel") -> Tensor:
        kernel = super().recurrent_weights(name)
        return kernel * ops.cast(self.reads, kernel.dtype)

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        h, phase = states
        n = self.candidate(x + self.recur(h))
        ticks = ops.take(phase, self.group_of_unit, axis=-1) == 0
        h = ops.where(ticks, n, h)
        later = phase + 1
        phase = ops.where(later >= ops.cast(self.periods, later.dtype), 0, later)
        return Step(h, (h, ops.cast(phase, h.dtype)), {"candidate": n})
