"""The LSTM, with any peepholes or none, and the LSTM with coupled gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerasrnn import cells
from kerasrnn.fast._kernel import Back, Kernel, Tensor, Weights, kernel, sigmoid


@dataclass(frozen=True)
class _MemoryKernel(Kernel):
    """What both kinds share: two states, and the peepholes.

    Attributes:
        peepholes: The gates that have one, in the order of the rows of `peephole_kernel`.
    """

    peepholes: tuple[str, ...] = ()
    states = 2

    @property
    def sums(self) -> tuple[int, ...]:
        return (1,) * len(self.peepholes)

    def peep(self, gate: str, c: Tensor, w: Weights) -> Tensor | float:
        """What the gate's peephole, if it has one, makes of `c`, or of a gradient on its way back."""
        if gate not in self.peepholes:
            return 0.0
        return w.others["peephole_kernel"][self.peepholes.index(gate)] * c

    def weight_gradients(
        self, dx: Tensor, h: Tensor | None, kept: tuple[Tensor, ...], sums: tuple[Tensor, ...]
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        recurrent, others = super().weight_gradients(dx, h, kept, sums)
        if self.peepholes:
            others["peephole_kernel"] = tf.stack([tf.reduce_sum(s, axis=0) for s in sums])
        return recurrent, others


@dataclass(frozen=True)
class LSTMKernel(_MemoryKernel):
    """Columns: input, forget, candidate, output."""

    saved = 4
    parts = (4,)

    def forward(
        self, x: tuple[Tensor, ...], states: tuple[Tensor, ...], w: Weights
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        h, c = states
        i, f, g, o = w.added(x, h)
        i = sigmoid(i + self.peep("input", c, w))
        f = sigmoid(f + self.peep("forget", c, w))
        g = tf.tanh(g)
        c = f * c + i * g
        o = sigmoid(o + self.peep("output", c, w))
        return (o * tf.tanh(c), c), (i, f, g, o)

    def backward(
        self,
        saved: tuple[Tensor, ...],
        before: tuple[Tensor, ...],
        after: tuple[Tensor, ...],
        d_after: tuple[Tensor, ...],
        w: Weights,
    ) -> Back:
        i, f, g, o = saved
        (_, c_before), (_, c), (dh, dc) = before, after, d_after
        squashed = tf.tanh(c)
        do = dh * squashed * o * (1 - o)
        dc = dc + dh * o * (1 - squashed * squashed) + self.peep("output", do, w)
        di = dc * g * i * (1 - i)
        df = dc * c_before * f * (1 - f)
        dg = dc * i * (1 - g * g)
        d = tf.concat([di, df, dg, do], axis=1)
        dc = dc * f + self.peep("input", di, w) + self.peep("forget", df, w)
        seen = {"input": di * c_before, "forget": df * c_before, "output": do * c}
        sums = tuple(seen[gate] for gate in self.peepholes)
        return Back(d, (w.recur_back(d), dc), (), sums)


@dataclass(frozen=True)
class CoupledLSTMKernel(_MemoryKernel):
    """Columns: forget, candidate, output. The input gate is what the forget gate leaves."""

    saved = 3
    parts = (3,)

    def forward(
        self, x: tuple[Tensor, ...], states: tuple[Tensor, ...], w: Weights
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        h, c = states
        f, g, o = w.added(x, h)
        f = sigmoid(f + self.peep("forget", c, w))
        g = tf.tanh(g)
        c = f * c + (1 - f) * g
        o = sigmoid(o + self.peep("output", c, w))
        return (o * tf.tanh(c), c), (f, g, o)

    def backward(
        self,
        saved: tuple[Tensor, ...],
        before: tuple[Tensor, ...],
        after: tuple[Tensor, ...],
        d_after: tuple[Tensor, ...],
        w: Weights,
    ) -> Back:
        f, g, o = saved
        (_, c_before), (_, c), (dh, dc) = before, after, d_after
        squashed = tf.tanh(c)
        do = dh * squashed * o * (1 - o)
        dc = dc + dh * o * (1 - squashed * squashed) + self.peep("output", do, w)
        df = dc * (c_before - g) * f * (1 - f)
        dg = dc * (1 - f) * (1 - g * g)
        d = tf.concat([df, dg, do], axis=1)
        dc = dc * f + self.peep("forget", df, w)
        seen = {"forget": df * c_before, "output": do * c}
        sums = tuple(seen[gate] for gate in self.peepholes)
        return Back(d, (w.recur_back(d), dc), (), sums)


@kernel(cells.LSTMCell)
def _lstm(cell: Any) -> tuple[Kernel, dict[str, Tensor]]:
    return LSTMKernel(), {}


@kernel(cells.PeepholeLSTMCell)
def _peephole_lstm(cell: Any) -> tuple[Kernel, dict[str, Tensor]]:
    return LSTMKernel(cell.peephole_gates), _peepholes(cell)


@kernel(cells.CoupledLSTMCell)
def _coupled_lstm(cell: Any) -> tuple[Kernel, dict[str, Tensor]]:
    return CoupledLSTMKernel(cell.peephole_gates), _peepholes(cell)


def _peepholes(cell: Any) -> dict[str, Tensor]:
    return {"peephole_kernel": cell.peephole_kernel} if cell.peephole_gates else {}
