"""Weights from elsewhere, and back: PyTorch, Keras's own layers, TensorFlow Addons; and models to ONNX, or
to SavedModels that read one step at a time.

What comes gives the same outputs here; what cannot is refused. `docs/interop.md` has the orders of the
gates and the biases.
"""

from kerasrnn.interop._addons import from_addons
from kerasrnn.interop._keras_layers import from_keras, to_keras
from kerasrnn.interop._onnx import to_onnx
from kerasrnn.interop._streaming import Streaming, to_streaming
from kerasrnn.interop._torch import from_torch, to_torch

__all__ = [
    "Streaming",
    "from_addons",
    "from_keras",
    "from_torch",
    "to_keras",
    "to_onnx",
    "to_streaming",
    "to_torch",
]
