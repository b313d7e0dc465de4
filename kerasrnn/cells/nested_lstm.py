"""The nested LSTM."""

from __future__ import annotations

from typing import Any

from keras import activations, ops

from kerasrnn.cells._base import Step, Tensor
from kerasrnn.cells._kinds import MemoryCell
from kerasrnn.cells._registry import cell

OUTER = ("input", "forget", "candidate", "output")
INNER = tuple(f"inner_{gate}" for gate in OUTER)


@cell(paper="https://arxiv.org/abs/1801.10308", alias="NLSTM")
class NestedLSTMCell(MemoryCell):
    r"""Nested LSTM: the memory cell of an LSTM is an LSTM itself (Moniz & Krueger 2017).

        i, f, o = sigmoid(x W + h_prev U + b)
        g = x W_g + h_prev U_g + b_g
        c, m = the output and the memory of an LSTM with input i * g, state f * c_prev and memory m_prev
        h = o * tanh(c)

    Gates (columns): input, forget, candidate, output; the inner LSTM's, as inner_input, have the weights
    `inner_kernel` and `inner_recurrent_kernel`, and the second half of `bias`. States: hidden, cell,
    inner_cell. The inner memory lasts longer than the outer one: long-term memory in two tiers.

    Args:
        units: Positive integer, the size of the states and of the output.
        activation: The squashing of the inner candidate and of both memories on their way out.
        recurrent_activation: The squashing of the gates.
        outer_activation: The squashing of the outer candidate g, by default none; some programs take tanh.
        unit_forget_bias: Whether both forget gates' biases start one higher.
        **kwargs: See `kerasrnn.cells.Cell`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = keras.layers.RNN(kerasrnn.cells.NestedLSTMCell(4))
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 4)
    True
    """

    states = ("hidden", "cell", "inner_cell")
    gates = OUTER + INNER
    input_gates = recurrent_gates = OUTER
    recurrent_kernels = ("recurrent_kernel", "inner_recurrent_kernel")

    def __init__(
        self, units: int, *args: Any, outer_activation: Any = "linear", **kwargs: Any
    ) -> None:
        super().__init__(units, *args, **kwargs)
        self.outer_activation = activations.get(outer_activation)

    def build_extra(self) -> None:
        shape = (self.units, len(INNER) * self.units)
        self.inner_kernel = self.add_kernel("inner_kernel", shape, "kernel")
        self.inner_recurrent_kernel = self.add_kernel("inner_recurrent_kernel", shape, "recurrent")

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        h, c, m = states
        i, f, g, o = self.split(x + self.recur(h))
        i, f, o = (self.recurrent_activation(gate) for gate in (i, f, o))
        g = self.dropped(self.outer_activation(g))
        inner = ops.matmul(i * g, self.inner_kernel)
        inner = inner + ops.matmul(f * c, self.recurrent_weights("inner_recurrent_kernel"))
        if self.bias is not None:
            inner = inner + self.biases(*INNER)
        *gates, n, p = self.split(inner)
        j, k, p = (self.recurrent_activation(gate) for gate in (*gates, p))
        n = self.candidate(n)
        m = k * m + j * n
        c = p * self.activation(m)
        h = o * self.activation(c)
        return Step(h, (h, c, m), dict(zip(self.gates, (i, f, g, o, j, k, n, p), strict=True)))
