"""The minimal gated unit."""

from __future__ import annotations

from kerasrnn.cells._base import Step, Tensor
from kerasrnn.cells._kinds import GatedCell
from kerasrnn.cells._registry import cell


@cell(paper="https://arxiv.org/abs/1603.09420")
class MGUCell(GatedCell):
    r"""Minimal gated unit: a GRU whose one gate both resets and updates (Zhou et al. 2016).

        f = sigmoid(x W_f + h_prev U_f + b_f)
        n = tanh(x W_n + (f * h_prev) U_n + b_n)
        h = (1 - f) * h_prev + f * n

    Gates (columns): forget, candidate. States: hidden. Open (f = 1) the gate takes the candidate, so it
    is called after the paper and works as the GRU's update gate does.

    Args:
        units: Positive integer, the size of the state and of the output.
        activation: The squashing of the candidate n.
        recurrent_activation: The squashing of the gate f.
        **kwargs: See `kerasrnn.cells.Cell`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = keras.layers.RNN(kerasrnn.cells.MGUCell(4))
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 4)
    True
    """

    gates = ("forget", "candidate")

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        (h,) = states
        f, n = self.split(x)
        f = self.recurrent_activation(f + self.recur(h, "forget"))
        n = self.candidate(n + self.recur(f * h, "candidate"))
        h = (1 - f) * h + f * n
        return Step(h, (h,), {"forget": f, "candidate": n})
