"""The independently recurrent network."""

from __future__ import annotations

from typing import Any

from keras import initializers

from kerasrnn.cells._base import Cell, Step, Tensor
from kerasrnn.cells._registry import cell


@cell(paper="https://arxiv.org/abs/1803.04831")
class IndRNNCell(Cell):
    r"""IndRNN: a simple RNN whose units each see their own past only (Li et al. 2018).

        h = relu(x W + u * h_prev + b)

    Gates (columns): candidate. States: hidden. `recurrent_kernel` is a vector `(units,)`. What a unit
    remembers over T steps scales by u to the power of T: keep |u| below 2 ** (1 / T), for example by
    `recurrent_constraint=keras.constraints.MinMaxNorm(0, 1, 1, axis=[])`.

    Args:
        units: Positive integer, the size of the state and of the output.
        activation: The squashing of the state, by default relu.
        recurrent_initializer: How u starts, by default uniformly between 0 and 1.
        layer_norm: Whether to normalise the input's share; there is no recurrent product.
        **kwargs: See `kerasrnn.cells.Cell`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = keras.layers.RNN([kerasrnn.cells.IndRNNCell(4), kerasrnn.cells.IndRNNCell(4)])
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 4)
    True
    """

    gates = ("candidate",)
    recurrent_gates = ()

    def __init__(
        self,
        units: int,
        activation: Any = "relu",
        *,
        recurrent_initializer: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        start = recurrent_initializer or initializers.RandomUniform(0.0, 1.0, seed=seed)
        super().__init__(units, activation, recurrent_initializer=start, seed=seed, **kwargs)

    def build_extra(self) -> None:
        self.recurrent_kernel = self.add_kernel("recurrent_kernel", (self.units,), "recurrent")

    def recur(self, h: Tensor, *gates: str) -> Tensor:
        mask = self.recurrent_mask(h)
        return self.recurrent_weights() * (h if mask is None else h * mask)

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        h = self.candidate(x + self.recur(states[0]))
        return Step(h, (h,), {"candidate": h})
