"""The gated recurrent unit."""

from __future__ import annotations

from typing import Any

from kerasrnn.cells._base import Step, Tensor
from kerasrnn.cells._kinds import GatedCell
from kerasrnn.cells._registry import cell


@cell(paper="https://arxiv.org/abs/1406.1078")
class GRUCell(GatedCell):
    r"""GRU: one state, renewed where the update gate opens (Cho et al. 2014; Chung et al. 2014).

        z = sigmoid(x W_z + h_prev U_z + b_z)
        r = sigmoid(x W_r + h_prev U_r + b_r)
        n = tanh(x W_n + (r * h_prev) U_n + b_n)
        h = (1 - z) * h_prev + z * n

    and with `reset_after=True`, the form that cuDNN computes, with `recurrent_bias` d:

        z = sigmoid(x W_z + h_prev U_z + b_z + d_z)
        r = sigmoid(x W_r + h_prev U_r + b_r + d_r)
        n = tanh(x W_n + r * (h_prev U_n + d_n) + b_n)

    Gates (columns): update, reset, candidate. States: hidden. Here z = 1 takes the candidate, as
    Chung et al. write it (https://arxiv.org/abs/1412.3555). Cho et al., Keras and PyTorch call z
    what is 1 - z here: negate the columns and biases of their update gate and their weights load.

    Args:
        units: Positive integer, the size of the state and of the output.
        activation: The squashing of the candidate n.
        recurrent_activation: The squashing of the gates z and r.
        reset_after: Whether the reset gate acts after the recurrent product, as in cuDNN, rather
            than before it, as in the papers.
        **kwargs: See `kerasrnn.cells.Cell`. What is said of `bias` there (initializer, regularizer,
            constraint) holds for `recurrent_bias` too.

    Example:

    >>> import keras, kerasrnn
    >>> layer = keras.layers.RNN([kerasrnn.cells.GRUCell(8), kerasrnn.cells.GRUCell(4)])
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 4)
    True
    """

    gates = ("update", "reset", "candidate")

    def __init__(self, units: int, *args: Any, reset_after: bool = False, **kwargs: Any) -> None:
        super().__init__(units, *args, **kwargs)
        self.reset_after = reset_after

    def build_extra(self) -> None:
        self.recurrent_bias = None
        if self.reset_after and self.use_bias:
            columns = len(self.gates) * self.units
            self.recurrent_bias = self.add_kernel("recurrent_bias", (columns,), "bias")

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        (h,) = states
        x_zr, x_n = self.columns(x, "update", "reset"), self.columns(x, "candidate")
        if self.reset_after:
            u = self.recur(h)
            if self.recurrent_bias is not None:
                u = u + self.recurrent_bias
            u_zr, u_n = self.columns(u, "update", "reset"), self.columns(u, "candidate")
            z, r = self.split(self.recurrent_activation(x_zr + u_zr))
            n = self.candidate(x_n + r * u_n)
        else:
            u_zr = self.recur(h, "update", "reset")
            z, r = self.split(self.recurrent_activation(x_zr + u_zr))
            n = self.candidate(x_n + self.recur(r * h, "candidate"))
        h = (1 - z) * h + z * n
        return Step(h, (h,), {"update": z, "reset": r, "candidate": n})
