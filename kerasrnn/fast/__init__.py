"""Whole sequences at once, fast: hand-written passes forward and backward, on plain TensorFlow tensors.

A cell's kernel holds the arithmetic of one step, in both directions; `_sequence.py` and `_loop.py` hold
the one time loop that all kernels share. A cell without a kernel of its own has the generic one, which
takes the gradients of its `step` from TensorFlow.
"""

from kerasrnn.fast import cudnn, gru, lstm, simple_rnn
from kerasrnn.fast._compiled import padded, values
from kerasrnn.fast._cross_entropy import cross_entropy
from kerasrnn.fast._generic import GenericKernel
from kerasrnn.fast._kernel import Back, Kernel, Weights, kernel, kernel_for
from kerasrnn.fast._sequence import run

__all__ = [
    "Back",
    "GenericKernel",
    "Kernel",
    "Weights",
    "cross_entropy",
    "cudnn",
    "gru",
    "kernel",
    "kernel_for",
    "lstm",
    "padded",
    "run",
    "simple_rnn",
    "values",
]
