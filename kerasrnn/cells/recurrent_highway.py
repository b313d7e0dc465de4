"""The recurrent highway network."""

from __future__ import annotations

from typing import Any

from kerasrnn.cells._base import Step, Tensor, real_number
from kerasrnn.cells._kinds import DeepCell
from kerasrnn.cells._registry import cell


@cell(paper="https://arxiv.org/abs/1607.03474", alias="RHN")
class RecurrentHighwayCell(DeepCell):
    r"""Recurrent highway network: a deep network of gated layers in every step (Zilly et al. 2016).

    From s = h_prev, in layer l (the input enters the first layer alone):

        n = tanh(x W_n + s U_n + b_n)
        t = sigmoid(x W_t + s U_t + b_t)
        s = t * n + (1 - t) * s

    and h is the last s. Gates (columns) of layer l: candidate_l, transform_l. States: hidden.

    Args:
        units: Positive integer, the size of the state and of the output.
        activation: The squashing of the candidates.
        recurrent_activation: The squashing of the transform gates.
        depth: Positive integer, the number of layers within a step.
        transform_bias: What is added to the transform gates' initial bias; negative, so that the state
            lasts from the start.
        **kwargs: See `kerasrnn.cells.Cell`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = keras.layers.RNN(kerasrnn.cells.RecurrentHighwayCell(4, depth=3))
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 4)
    True
    """

    def __init__(self, units: int, *args: Any, transform_bias: float = -2.0, **kwargs: Any) -> None:
        super().__init__(units, *args, **kwargs)
        self.transform_bias = real_number("transform_bias", transform_bias)

    @property
    def gates(self) -> tuple[str, ...]:
        return self.at_every_level("candidate", "transform")

    @property
    def input_gates(self) -> tuple[str, ...]:
        return self.gates[:2]

    @property
    def bias_offsets(self) -> dict[str, float]:
        return {gate: self.transform_bias for gate in self.gates if gate.startswith("transform")}

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        (s,) = states
        gates: dict[str, Any] = {}
        for level in range(self.depth):
            names = self.gates[2 * level : 2 * level + 2]
            z = self.recur(s, *names)
            if level == 0:
                z = z + x
            elif self.bias is not None:
                z = z + self.biases(*names)
            n, t = self.split(z)
            n, t = self.candidate(n), self.recurrent_activation(t)
            s = t * n + (1 - t) * s
            gates |= dict(zip(names, (n, t), strict=True))
        return Step(s, (s,), gates)
