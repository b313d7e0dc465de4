"""The constant error carousel, the LSTM's heart without its gates."""

from __future__ import annotations

from typing import Any

from kerasrnn.cells._base import Tensor
from kerasrnn.cells._kinds import LinearCell
from kerasrnn.cells._registry import cell


@cell(paper="https://doi.org/10.1162/neco.1997.9.8.1735", alias="CEC")
class ConstantErrorCarouselCell(LinearCell):
    r"""Constant error carousel: a linear unit that feeds itself by 1 (Hochreiter & Schmidhuber 1997).

        g = x W + b
        h = h_prev + g

    Gates (columns): candidate. States: hidden. There is no recurrent kernel. An error flows back through
    any number of steps and stays as it is, which is why the LSTM is built around this unit; alone it
    stores all that comes, for there is no gate to keep anything out. All steps run at once.

    Args:
        units: Positive integer, the size of the state and of the output.
        activation: The squashing of the candidate g, by default none.
        recurrent_activation: Without effect, as there are no gates.
        **kwargs: See `kerasrnn.cells.Cell`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.ConstantErrorCarousel(4, return_sequences=True)
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 5, 4)
    True
    """

    gates = ("candidate",)
    recurrent_gates = ()

    def __init__(self, units: int, activation: Any = "linear", *args: Any, **kwargs: Any) -> None:
        super().__init__(units, activation, *args, **kwargs)

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        g = self.candidate(x)
        return 1.0, g, {"candidate": g}

    def read(self, x: Tensor, c: Tensor, gates: dict[str, Tensor]) -> Tensor:
        return c
