"""The simple recurrent network."""

from __future__ import annotations

from kerasrnn.cells._base import Cell, Step, Tensor
from kerasrnn.cells._registry import cell


@cell(paper="https://doi.org/10.1207/s15516709cog1402_1")
class SimpleRNNCell(Cell):
    r"""Simple RNN: the state is a squashed mix of the input and the last state (Elman 1990).

        h = tanh(x W + h_prev U + b)

    Gates (columns): candidate. States: hidden.

    Args:
        units: Positive integer, the size of the state and of the output.
        activation: The squashing of the state.
        **kwargs: See `kerasrnn.cells.Cell`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = keras.layers.RNN(kerasrnn.cells.SimpleRNNCell(4))
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 4)
    True
    """

    gates = ("candidate",)

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        (h,) = states
        h = self.candidate(x + self.recur(h))
        return Step(h, (h,), {"candidate": h})
