"""JANET, the LSTM with nothing but its forget gate."""

from __future__ import annotations

from typing import Any

from kerasrnn.cells._base import Step, Tensor, real_number
from kerasrnn.cells._kinds import MemoryCell
from kerasrnn.cells._registry import cell


@cell(paper="https://arxiv.org/abs/1804.04849")
class JANETCell(MemoryCell):
    r"""JANET: "just another network", an LSTM of a forget gate alone (van der Westhuizen & Lasenby 2018).

        s = x W_f + h_prev U_f + b_f
        n = tanh(x W_n + h_prev U_n + b_n)
        h = sigmoid(s) * h_prev + (1 - sigmoid(s - beta)) * n

    Gates (columns): forget, candidate; the input's share 1 - sigmoid(s - beta) is reported too.
    States: hidden.

    Args:
        units: Positive integer, the size of the state and of the output.
        activation: The squashing of the candidate n.
        recurrent_activation: The squashing of the gate.
        beta: How much more is written than forgotten; with 0 as much is.
        unit_forget_bias: Whether the forget gate's bias starts one higher.
        **kwargs: See `kerasrnn.cells.Cell`.

    Example:

    >>> import kerasrnn
    >>> kerasrnn.cells.JANETCell(4, beta=0).states
    ('hidden',)
    """

    states = ("hidden",)
    gates = ("forget", "candidate")
    derived_gates = ("input",)

    def __init__(self, units: int, *args: Any, beta: float = 1.0, **kwargs: Any) -> None:
        super().__init__(units, *args, **kwargs)
        self.beta = real_number("beta", beta)

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        (h,) = states
        s, n = self.split(x + self.recur(h))
        f, i = self.recurrent_activation(s), 1 - self.recurrent_activation(s - self.beta)
        n = self.candidate(n)
        h = f * h + i * n
        return Step(h, (h,), {"input": i, "forget": f, "candidate": n})
