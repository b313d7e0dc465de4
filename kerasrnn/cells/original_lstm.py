"""The LSTM as it was first published."""

from __future__ import annotations

from typing import Any

import keras
from keras import activations, ops

from kerasrnn.cells._base import Step, Tensor
from kerasrnn.cells._kinds import MemoryCell
from kerasrnn.cells._registry import cell


@keras.saving.register_keras_serializable("kerasrnn")
def input_squashing(x: Tensor) -> Tensor:
    """The logistic function stretched to [-2, 2], the paper's g."""
    return 4 * ops.sigmoid(x) - 2


@keras.saving.register_keras_serializable("kerasrnn")
def output_squashing(x: Tensor) -> Tensor:
    """The logistic function stretched to [-1, 1], the paper's h."""
    return 2 * ops.sigmoid(x) - 1


@cell(paper="https://doi.org/10.1162/neco.1997.9.8.1735", alias="LSTM1997")
class OriginalLSTMCell(MemoryCell):
    r"""Original LSTM: a memory cell that never forgets (Hochreiter & Schmidhuber 1997).

        i = sigmoid(x W_i + h_prev U_i + b_i)
        g = 4 sigmoid(x W_g + h_prev U_g + b_g) - 2
        c = c_prev + i * g
        o = sigmoid(x W_o + h_prev U_o + b_o)
        h = o * (2 sigmoid(c) - 1)

    Gates (columns): input, candidate, output. States: hidden, cell. The paper's blocks of several cells
    that share their gates are not offered, nor are connections from gates to gates; and its gradient, cut
    off at the gates, is the full one here.

    Args:
        units: Positive integer, the size of the states and of the output.
        activation: The squashing of the candidate g, by default the paper's, to [-2, 2].
        recurrent_activation: The squashing of the gates i and o.
        output_activation: The squashing of the memory cell on its way out, by default to [-1, 1].
        unit_forget_bias: Without effect, as there is no forget gate.
        **kwargs: See `kerasrnn.cells.Cell`.

    Example:

    >>> import kerasrnn
    >>> kerasrnn.cells.get("LSTM1997", 4).gates
    ('input', 'candidate', 'output')
    """

    gates = ("input", "candidate", "output")

    def __init__(
        self,
        units: int,
        activation: Any = input_squashing,
        *args: Any,
        output_activation: Any = output_squashing,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, *args, **kwargs)
        self.output_activation = activations.get(output_activation)

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        h, c = states
        i, g, o = self.split(x + self.recur(h))
        i, g, o = self.recurrent_activation(i), self.candidate(g), self.recurrent_activation(o)
        c = c + i * g
        h = o * self.output_activation(c)
        return Step(h, (h, c), {"input": i, "candidate": g, "output": o})
