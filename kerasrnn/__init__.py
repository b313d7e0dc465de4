"""KerasRNN: the recurrent networks that Keras 3 does not have."""

from kerasrnn import cells, layers
__version__ = "0.1.0"
