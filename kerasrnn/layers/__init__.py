"""Recurrent layers over whole sequences: one for each registered cell, and `Recurrent` for any."""

from kerasrnn import cells
from kerasrnn.layers._activity import ActivationRegularization
from kerasrnn.layers._crf import CRF, CRFLoss
from kerasrnn.layers._dropout import EmbeddingDropout, LockedDropout, WordDropout
from kerasrnn.layers._pooling import SequencePooling
from kerasrnn.layers._recurrent import CellLayer, Recurrent, layer_for

SimpleRNN = layer_for(cells.SimpleRNNCell)
LSTM = layer_for(cells.LSTMCell)
PeepholeLSTM = layer_for(cells.PeepholeLSTMCell)
CoupledLSTM = layer_for(cells.CoupledLSTMCell)
GRU = layer_for(cells.GRUCell)
NoInputGateLSTM = layer_for(cells.NoInputGateLSTMCell)
NoForgetGateLSTM = layer_for(cells.NoForgetGateLSTMCell)
NoOutputGateLSTM = layer_for(cells.NoOutputGateLSTMCell)
NoInputActivationLSTM = layer_for(cells.NoInputActivationLSTMCell)
NoOutputActivationLSTM = layer_for(cells.NoOutputActivationLSTMCell)
InputCoupledLSTM = layer_for(cells.InputCoupledLSTMCell)
NoPeepholeLSTM = layer_for(cells.NoPeepholeLSTMCell)
FullGateRecurrenceLSTM = layer_for(cells.FullGateRecurrenceLSTMCell)
OriginalLSTM = layer_for(cells.OriginalLSTMCell)
ConstantErrorCarousel = layer_for(cells.ConstantErrorCarouselCell)
DepthGatedLSTM = layer_for(cells.DepthGatedLSTMCell)
ClockworkRNN = layer_for(cells.ClockworkRNNCell)
MUT1 = layer_for(cells.MUT1Cell)
MUT2 = layer_for(cells.MUT2Cell)
MUT3 = layer_for(cells.MUT3Cell)
GridLSTM = layer_for(cells.GridLSTMCell)
LayerNormLSTM = layer_for(cells.LayerNormLSTMCell)
MultiplicativeLSTM = layer_for(cells.MultiplicativeLSTMCell)
MGU = layer_for(cells.MGUCell)
JANET = layer_for(cells.JANETCell)
IndRNN = layer_for(cells.IndRNNCell)
SRU = layer_for(cells.SRUCell)
NestedLSTM = layer_for(cells.NestedLSTMCell)
RecurrentHighway = layer_for(cells.RecurrentHighwayCell)

__all__ = [
    "ActivationRegularization",
    "CRF",
    "CRFLoss",
    "CellLayer",
    "ClockworkRNN",
    "ConstantErrorCarousel",
    "CoupledLSTM",
    "DepthGatedLSTM",
    "EmbeddingDropout",
    "FullGateRecurrenceLSTM",
    "GRU",
    "GridLSTM",
    "IndRNN",
    "InputCoupledLSTM",
    "JANET",
    "LSTM",
    "LayerNormLSTM",
    "LockedDropout",
    "MGU",
    "MUT1",
    "MUT2",
    "MUT3",
    "MultiplicativeLSTM",
    "NestedLSTM",
    "NoForgetGateLSTM",
    "NoInputActivationLSTM",
    "NoInputGateLSTM",
    "NoOutputActivationLSTM",
    "NoOutputGateLSTM",
    "NoPeepholeLSTM",
    "OriginalLSTM",
    "PeepholeLSTM",
    "Recurrent",
    "RecurrentHighway",
    "SRU",
    "SequencePooling",
    "SimpleRNN",
    "WordDropout",
]
