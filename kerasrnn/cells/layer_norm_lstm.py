"""The LSTM with layer normalisation."""

from __future__ import annotations

from typing import Any

from keras import ops

from kerasrnn.cells._base import Step, Tensor, normalise
from kerasrnn.cells._kinds import MemoryCell
from kerasrnn.cells._registry import cell


@cell(paper="https://arxiv.org/abs/1607.06450")
class LayerNormLSTMCell(MemoryCell):
    r"""Layer-norm LSTM: what enters the gates, and the memory that is read, is normalised (Ba et al. 2016).

        i, f, g, o = N(x W) * a + N(h_prev U) * a' + b        then sigmoid, and tanh for g
        c = f * c_prev + i * g
        h = o * tanh(N(c) * a_c + b_c)

    N shifts and scales a row, over all its columns, to the mean 0 and the variance 1. The memory cell
    itself, as it is carried, is not normalised. Gates (columns): input, forget, candidate, output.
    States: hidden, cell. Gains a: `input_gain`, `recurrent_gain`, `cell_gain`; `cell_shift` is b_c.

    Args:
        layer_norm: Whether to normalise the two products too, and not only the memory cell.
        units, **kwargs: See `kerasrnn.cells.LSTMCell`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.LayerNormLSTM(4)
    >>> small = layer(keras.ops.ones((2, 5, 3)))
    >>> large = layer(keras.ops.ones((2, 5, 3)) * 1000)  # The scale of the input hardly matters.
    >>> float(keras.ops.max(keras.ops.abs(small - large))) < 0.01
    True
    """

    gates = ("input", "forget", "candidate", "output")

    def __init__(self, units: int, *args: Any, layer_norm: bool = True, **kwargs: Any) -> None:
        super().__init__(units, *args, layer_norm=layer_norm, **kwargs)

    def build_extra(self) -> None:
        self.cell_gain = self.add_weight((self.units,), "ones", name="cell_gain")
        self.cell_shift = self.add_weight((self.units,), "zeros", name="cell_shift")

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        h, c = states
        i, f, g, o = self.split(x + self.recur(h))
        i, f, o = (self.recurrent_activation(gate) for gate in (i, f, o))
        g = self.candidate(g)
        c = f * c + i * g
        gain, shift = (ops.cast(w, c.dtype) for w in (self.cell_gain, self.cell_shift))
        h = o * self.activation(normalise(c) * gain + shift)
        return Step(h, (h, c), {"input": i, "forget": f, "candidate": g, "output": o})
