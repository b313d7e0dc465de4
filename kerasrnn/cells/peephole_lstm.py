"""The LSTM with peephole connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kerasrnn.cells._base import Step, Tensor
from kerasrnn.cells._kinds import PeepholeCell
from kerasrnn.cells._registry import cell

PEEPHOLES = ("input", "forget", "output")


@cell(paper="https://www.jmlr.org/papers/v3/gers02a.html")
class PeepholeLSTMCell(PeepholeCell):
    r"""LSTM whose gates also read the memory cell (Gers, Schraudolph & Schmidhuber 2002).

        i = sigmoid(x W_i + h_prev U_i + p_i * c_prev + b_i)
        f = sigmoid(x W_f + h_prev U_f + p_f * c_prev + b_f)
        g = tanh(x W_g + h_prev U_g + b_g)
        c = f * c_prev + i * g
        o = sigmoid(x W_o + h_prev U_o + p_o * c + b_o)
        h = o * tanh(c)

    Gates (columns): input, forget, candidate, output. States: hidden, cell. `peephole_kernel` is
    `(3, units)`: input, forget, output; the rows of peepholes that are left out are absent.

    Args:
        units: Positive integer, the size of the states and of the output.
        activation: The squashing of the candidate g and of the memory cell on its way out.
        recurrent_activation: The squashing of the gates i, f and o.
        peepholes: The gates that read the memory cell, any of `"input"`, `"forget"`, `"output"`.
        peephole_initializer, peephole_regularizer, peephole_constraint: For `peephole_kernel`.
        unit_forget_bias: Whether the forget gate's bias starts one higher.
        **kwargs: See `kerasrnn.cells.Cell`.

    Raises:
        ValueError: If `peepholes` names a gate that cannot have one.

    Example:

    >>> import keras, kerasrnn
    >>> cell = kerasrnn.cells.PeepholeLSTMCell(4, peepholes=("forget", "output"))
    >>> keras.layers.RNN(cell)(keras.ops.ones((2, 5, 3))).shape == (2, 4)
    True
    >>> tuple(cell.peephole_kernel.shape)
    (2, 4)
    """

    gates = ("input", "forget", "candidate", "output")

    def __init__(
        self, units: int, *args: Any, peepholes: Sequence[str] = PEEPHOLES, **kwargs: Any
    ) -> None:
        super().__init__(units, *args, **kwargs)
        if not isinstance(peepholes, (str, list, tuple, set)):
            raise ValueError(f"`peepholes` must be a list of gates, got {peepholes!r}.")
        chosen = (peepholes,) if isinstance(peepholes, str) else tuple(peepholes)
        if unknown := [gate for gate in chosen if gate not in PEEPHOLES]:
            raise ValueError(
                f"`peepholes` may name {', '.join(map(repr, PEEPHOLES))}; got unknown {unknown!r}."
            )
        self.peepholes = tuple(gate for gate in PEEPHOLES if gate in chosen)

    @property
    def peephole_gates(self) -> tuple[str, ...]:
        return self.peepholes

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        h, c = states
        i, f, g, o = self.split(x + self.recur(h))
        i = self.recurrent_activation(self.peep("input", i, c))
        f = self.recurrent_activation(self.peep("forget", f, c))
        g = self.candidate(g)
        c = f * c + i * g
        o = self.recurrent_activation(self.peep("output", o, c))
        h = o * self.activation(c)
        return Step(h, (h, c), {"input": i, "forget": f, "candidate": g, "output": o})
