"""Recurrent layers over whole sequences: one for each registered cell, and `Recurrent` for any."""

from kerasrnn import cells
from kerasrnn.layers._dropout import WordDropout
from kerasrnn.layers._pooling import SequencePooling
from kerasrnn.layers._recurrent import CellLayer, Recurrent, layer_for

SimpleRNN = layer_for(cells.SimpleRNNCell)
LSTM = layer_for(cells.LSTMCell)
PeepholeLSTM = layer_for(cells.PeepholeLSTMCell)
CoupledLSTM = layer_for(cells.CoupledLSTMCell)
GRU = layer_for(cells.GRUCell)

__all__ = [
    "GRU",
    "LSTM",
    "CellLayer",
    "CoupledLSTM",
    "PeepholeLSTM",
    "Recurrent",
    "SequencePooling",
    "SimpleRNN",
    "WordDropout",
]
