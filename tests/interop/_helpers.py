"""What the tests of exports share."""

import keras
from keras import ops

from tests.layers._helpers import FEATURES


class Leaky(keras.layers.Layer):
    """A cell that is not of this package."""

    state_size = output_size = FEATURES

    def call(self, inputs, states):
        (h,) = states
        h = 0.9 * h + ops.tanh(inputs)
        return ops.square(h), [h]
