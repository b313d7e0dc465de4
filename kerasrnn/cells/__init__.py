"""Recurrent cells: one time step each, for `keras.layers.RNN` and for `kerasrnn.layers`."""

from kerasrnn.cells._base import Cell, ImpureStepError, Step
from kerasrnn.cells._kinds import (
    DeepCell,
    GatedCell,
    LinearCell,
    MemoryCell,
    PeepholeCell,
    RawInputCell,
)
from kerasrnn.cells._registry import CellInfo, cell, get, info, names
from kerasrnn.cells.clockwork_rnn import ClockworkRNNCell
from kerasrnn.cells.constant_error_carousel import ConstantErrorCarouselCell
from kerasrnn.cells.coupled_lstm import CoupledLSTMCell
from kerasrnn.cells.depth_gated_lstm import DepthGatedLSTMCell
from kerasrnn.cells.greff import (
    FullGateRecurrenceLSTMCell,
    InputCoupledLSTMCell,
    NoForgetGateLSTMCell,
    NoInputActivationLSTMCell,
    NoInputGateLSTMCell,
    NoOutputActivationLSTMCell,
    NoOutputGateLSTMCell,
    NoPeepholeLSTMCell,
)
from kerasrnn.cells.grid_lstm import GridLSTMCell
from kerasrnn.cells.gru import GRUCell
from kerasrnn.cells.ind_rnn import IndRNNCell
from kerasrnn.cells.janet import JANETCell
from kerasrnn.cells.layer_norm_lstm import LayerNormLSTMCell
from kerasrnn.cells.lstm import LSTMCell
from kerasrnn.cells.mgu import MGUCell
from kerasrnn.cells.multiplicative_lstm import MultiplicativeLSTMCell
from kerasrnn.cells.mut import MUT1Cell, MUT2Cell, MUT3Cell
from kerasrnn.cells.nested_lstm import NestedLSTMCell
from kerasrnn.cells.original_lstm import OriginalLSTMCell
from kerasrnn.cells.peephole_lstm import PeepholeLSTMCell
from kerasrnn.cells.recurrent_highway import RecurrentHighwayCell
from kerasrnn.cells.simple_rnn import SimpleRNNCell
from kerasrnn.cells.sru import SRUCell

__all__ = [
    "Cell",
    "CellInfo",
    "ClockworkRNNCell",
    "ConstantErrorCarouselCell",
    "CoupledLSTMCell",
    "DeepCell",
    "DepthGatedLSTMCell",
    "FullGateRecurrenceLSTMCell",
    "GRUCell",
    "GatedCell",
    "GridLSTMCell",
    "ImpureStepError",
    "IndRNNCell",
    "InputCoupledLSTMCell",
    "JANETCell",
    "LSTMCell",
    "LayerNormLSTMCell",
    "LinearCell",
    "MGUCell",
    "MUT1Cell",
    "MUT2Cell",
    "MUT3Cell",
    "MemoryCell",
    "MultiplicativeLSTMCell",
    "NestedLSTMCell",
    "NoForgetGateLSTMCell",
    "NoInputActivationLSTMCell",
    "NoInputGateLSTMCell",
    "NoOutputActivationLSTMCell",
    "NoOutputGateLSTMCell",
    "NoPeepholeLSTMCell",
    "OriginalLSTMCell",
    "PeepholeCell",
    "PeepholeLSTMCell",
    "RawInputCell",
    "RecurrentHighwayCell",
    "SRUCell",
    "SimpleRNNCell",
    "Step",
    "cell",
    "get",
    "info",
    "names",
]
