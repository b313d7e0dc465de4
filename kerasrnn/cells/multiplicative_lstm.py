"""The multiplicative LSTM."""

from __future__ import annotations

from kerasrnn.cells._base import Step, Tensor
from kerasrnn.cells._kinds import MemoryCell
from kerasrnn.cells._registry import cell


@cell(paper="https://arxiv.org/abs/1609.07959", alias="mLSTM")
class MultiplicativeLSTMCell(MemoryCell):
    r"""Multiplicative LSTM: every input has a transition of its own (Krause et al. 2016).

        m = (x W_m) * (h_prev U_m)
        i, f, g, o, c, h: as the LSTM's, with m in the place of h_prev

    Gates (columns): input, forget, candidate, output, multiplicative, of which the last has no bias.
    States: hidden, cell.

    Args:
        units, **kwargs: See `kerasrnn.cells.LSTMCell`.

    Example:

    >>> import kerasrnn
    >>> kerasrnn.cells.get("mLSTM", 4).bias_gates
    ('input', 'forget', 'candidate', 'output')
    """

    gates = ("input", "forget", "candidate", "output", "multiplicative")
    bias_gates = gates[:4]
    valves = ("input", "forget", "output")

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        h, c = states
        m = self.columns(x, "multiplicative") * self.recur(h, "multiplicative")
        i, f, g, o = self.split(self.columns(x, *self.gates[:4]) + self.recur(m, *self.gates[:4]))
        i, f, o = (self.recurrent_activation(gate) for gate in (i, f, o))
        g = self.candidate(g)
        c = f * c + i * g
        h = o * self.activation(c)
        gates = {"input": i, "forget": f, "candidate": g, "output": o, "multiplicative": m}
        return Step(h, (h, c), gates)
