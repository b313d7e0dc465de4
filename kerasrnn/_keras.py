"""The one door to Keras's private modules: what a recurrent package needs and Keras does not export.

Everything else in the package uses Keras's public names, so that a new Keras release can break
this file only.
"""

# `DropoutRNNCell`: `keras.layers.RNN` draws one dropout mask per sequence for its subclasses only.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

# `rnn`: the time loop of each backend (`tf.while_loop`, `jax.lax.scan`, a Python loop in PyTorch).
from keras.src.backend import rnn

__all__ = ["DropoutRNNCell", "rnn"]
