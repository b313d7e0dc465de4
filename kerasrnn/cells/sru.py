"""The simple recurrent unit."""

from __future__ import annotations

from kerasrnn.cells._base import Tensor
from kerasrnn.cells._kinds import LinearCell, RawInputCell
from kerasrnn.cells._registry import cell


@cell(paper="https://arxiv.org/abs/1709.02755v1")
class SRUCell(RawInputCell, LinearCell):
    r"""Simple recurrent unit: gates that read the input alone, so all steps run at once (Lei et al. 2017).

        n = x W_n
        f = sigmoid(x W_f + b_f)
        r = sigmoid(x W_r + b_r)
        c = f * c_prev + (1 - f) * n
        h = r * tanh(c) + (1 - r) * x

    Gates: candidate, forget, reset, of which the first has no bias. States: cell. There is no recurrent
    kernel. With `project_input=True` it is x W_x in the last line, and `kernel` has a fourth column,
    highway.

    Args:
        units: Positive integer, the size of the state; the number of features must be the same.
        activation: The squashing of the memory cell on its way out.
        recurrent_activation: The squashing of the gates f and r.
        project_input: Whether a learned map stands before x in the last line.
        **kwargs: See `kerasrnn.cells.Cell`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.SRU(4, project_input=True, return_sequences=True)
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 5, 4)
    True
    """

    states = ("cell",)
    gates = ("candidate", "forget", "reset")
    blocks = (*gates, "highway")
    raw = "highway"
    bias_gates = gates[1:]
    recurrent_gates = ()

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        n, f, r, _ = self.split(x)
        f, r = self.recurrent_activation(f), self.recurrent_activation(r)
        n = self.dropped(n)
        return f, (1 - f) * n, {"candidate": n, "forget": f, "reset": r}

    def read(self, x: Tensor, c: Tensor, gates: dict[str, Tensor]) -> Tensor:
        r = gates["reset"]
        return r * self.activation(c) + (1 - r) * self.columns(x, "highway", of=self.blocks)
