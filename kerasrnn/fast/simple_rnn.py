"""The simple recurrent network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerasrnn import cells
from kerasrnn.fast._kernel import Back, Kernel, Tensor, Weights, kernel


@dataclass(frozen=True)
class SimpleRNNKernel(Kernel):
    """Columns: candidate."""

    states = 1
    saved = 0
    parts = (1,)

    def forward(
        self, x: tuple[Tensor, ...], states: tuple[Tensor, ...], w: Weights
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        h = tf.tanh(x[0] + w.recur(states[0]))
        return (h,), ()  # The state after the step is all that the way back needs.

    def backward(
        self,
        saved: tuple[Tensor, ...],
        before: tuple[Tensor, ...],
        after: tuple[Tensor, ...],
        d_after: tuple[Tensor, ...],
        w: Weights,
    ) -> Back:
        d = d_after[0] * (1 - after[0] * after[0])
        return Back(d, (w.recur_back(d),))


@kernel(cells.SimpleRNNCell)
def _simple_rnn(cell: Any) -> tuple[Kernel, dict[str, Tensor]]:
    return SimpleRNNKernel(), {}
