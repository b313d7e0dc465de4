"""Recurrent cells: one time step each, for `keras.layers.RNN` and for `kerasrnn.layers`."""

from kerasrnn.cells._base import Cell, GatedCell, MemoryCell, PeepholeCell, Step
from kerasrnn.cells._registry import CellInfo, cell, get, info, names
from kerasrnn.cells.coupled_lstm import CoupledLSTMCell
from kerasrnn.cells.gru import GRUCell
from kerasrnn.cells.lstm import LSTMCell
from kerasrnn.cells.peephole_lstm import PeepholeLSTMCell
from kerasrnn.cells.simple_rnn import SimpleRNNCell

__all__ = [
    "Cell",
    "CellInfo",
    "CoupledLSTMCell",
    "GRUCell",
    "GatedCell",
    "LSTMCell",
    "MemoryCell",
    "PeepholeCell",
    "PeepholeLSTMCell",
    "SimpleRNNCell",
    "Step",
    "cell",
    "get",
    "info",
    "names",
]
