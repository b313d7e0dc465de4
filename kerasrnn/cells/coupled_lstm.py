"""The LSTM with coupled forget and input gates."""

from __future__ import annotations

from typing import Any

from kerasrnn.cells._base import Step, Tensor
from kerasrnn.cells._kinds import PeepholeCell
from kerasrnn.cells._registry import cell


@cell(paper="https://arxiv.org/abs/1503.04069")
class CoupledLSTMCell(PeepholeCell):
    r"""LSTM that writes exactly as much as it forgets: input = 1 - forget (Greff et al. 2015).

        f = sigmoid(x W_f + h_prev U_f + b_f  [+ p_f * c_prev])
        g = tanh(x W_g + h_prev U_g + b_g)
        c = f * c_prev + (1 - f) * g
        o = sigmoid(x W_o + h_prev U_o + b_o  [+ p_o * c])
        h = o * tanh(c)

    Gates (columns): forget, candidate, output; the input gate is reported too. States: hidden,
    cell. With a quarter fewer weights than the LSTM it does as well on most tasks. Here the forget gate is
    learned; Greff et al. learn the input gate, f = 1 - i (CIFG), which is `InputCoupledLSTMCell`.

    Args:
        units: Positive integer, the size of the states and of the output.
        activation: The squashing of the candidate g and of the memory cell on its way out.
        recurrent_activation: The squashing of the gates f and o.
        use_peephole: Whether f and o read the memory cell, through `peephole_kernel`
            `(2, units)`: forget, output.
        peephole_initializer, peephole_regularizer, peephole_constraint: For `peephole_kernel`.
        unit_forget_bias: Whether the forget gate's bias starts one higher.
        **kwargs: See `kerasrnn.cells.Cell`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = keras.layers.RNN(kerasrnn.cells.CoupledLSTMCell(4), return_sequences=True)
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 5, 4)
    True
    """

    gates = ("forget", "candidate", "output")
    derived_gates = ("input",)

    def __init__(self, units: int, *args: Any, use_peephole: bool = False, **kwargs: Any) -> None:
        super().__init__(units, *args, **kwargs)
        self.use_peephole = use_peephole

    @property
    def peephole_gates(self) -> tuple[str, ...]:
        return ("forget", "output") if self.use_peephole else ()

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        h, c = states
        f, g, o = self.split(x + self.recur(h))
        f, g = self.recurrent_activation(self.peep("forget", f, c)), self.candidate(g)
        i = 1 - f
        c = f * c + i * g
        o = self.recurrent_activation(self.peep("output", o, c))
        h = o * self.activation(c)
        return Step(h, (h, c), {"input": i, "forget": f, "candidate": g, "output": o})
