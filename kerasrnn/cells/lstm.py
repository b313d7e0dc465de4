"""The long short-term memory with a forget gate."""

from __future__ import annotations

from kerasrnn.cells._base import Step, Tensor
from kerasrnn.cells._kinds import MemoryCell
from kerasrnn.cells._registry import cell


@cell(paper="https://doi.org/10.1162/089976600300015015")
class LSTMCell(MemoryCell):
    r"""LSTM: a memory cell that is written, kept and read through gates (Gers et al. 2000).

        i = sigmoid(x W_i + h_prev U_i + b_i)
        f = sigmoid(x W_f + h_prev U_f + b_f)
        g = tanh(x W_g + h_prev U_g + b_g)
        c = f * c_prev + i * g
        o = sigmoid(x W_o + h_prev U_o + b_o)
        h = o * tanh(c)

    Gates (columns): input, forget, candidate, output. States: hidden, cell. The weights of
    `keras.layers.LSTM` load unchanged.

    Args:
        units: Positive integer, the size of the states and of the output.
        activation: The squashing of the candidate g and of the memory cell on its way out.
        recurrent_activation: The squashing of the gates i, f and o.
        unit_forget_bias: Whether the forget gate's bias starts one higher.
        **kwargs: See `kerasrnn.cells.Cell`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = keras.layers.RNN(kerasrnn.cells.LSTMCell(4), return_state=True)
    >>> output, h, c = layer(keras.ops.ones((2, 5, 3)))
    >>> output.shape == h.shape == c.shape == (2, 4)
    True
    """

    gates = ("input", "forget", "candidate", "output")

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        h, c = states
        i, f, g, o = self.split(x + self.recur(h))
        i, f, g = self.recurrent_activation(i), self.recurrent_activation(f), self.candidate(g)
        c = f * c + i * g
        o = self.recurrent_activation(o)
        h = o * self.activation(c)
        return Step(h, (h, c), {"input": i, "forget": f, "candidate": g, "output": o})
