"""Penalties on what layers give out."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Tensor = Any


@keras.saving.register_keras_serializable("kerasrnn")
class ActivationRegularization(keras.layers.Layer):
    """Gives its input back, and in training adds to the loss what it is large and what it changes.

        activation * mean(x[t]^2) + temporal * mean((x[t + 1] - x[t])^2)

    The means are over sequences, steps and features. With a mask, a step that does not count is left
    out, and of a pair both must count. Merity et al. (2017, https://arxiv.org/abs/1708.01009) take
    the first on what comes out of the last layer's dropout and the second on what goes into it, so
    use two of these layers, one on each side of the dropout.

    Args:
        activation: How much the size counts; Merity et al. have 2.
        temporal: How much the change from step to step counts; Merity et al. have 1.
        **kwargs: `name` and `dtype`, as every Keras layer has.

    Call arguments:
        sequences: `(batch, time, features)`.
        mask: Boolean `(batch, time)`.
        training: Whether to add to the loss.

    Returns:
        The sequences, unchanged. The penalty is in the layer's `losses`, at least in float32.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.ActivationRegularization(activation=2.0, temporal=1.0)
    >>> x = keras.ops.convert_to_tensor([[[1.0], [3.0]]])
    >>> bool((layer(x, training=True) == x).numpy().all())
    True
    >>> [float(loss) for loss in layer.losses]  # 2 * (1 + 9) / 2 + 1 * (3 - 1)^2
    [14.0]
    """

    def __init__(self, activation: float = 0.0, temporal: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in (("activation", activation), ("temporal", temporal)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"`{name}` must be a number of at least 0, got {value!r}.")
        self.activation = activation
        self.temporal = temporal
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True
        self.built = True

    def call(self, sequences: Tensor, mask: Tensor | None = None, training: bool = False) -> Tensor:
        if training and (self.activation or self.temporal):
            self.add_loss(self._penalty(sequences, mask))
        return sequences

    def _penalty(self, sequences: Tensor, mask: Tensor | None) -> Tensor:
        # In 16 bits neither squares nor sums over many steps are safe.
        x = ops.cast(sequences, keras.backend.result_type(sequences.dtype, "float32"))
        valid = ops.ones_like(x[..., 0], dtype="bool") if mask is None else ops.cast(mask, "bool")
        penalty = ops.zeros((), dtype=x.dtype)
        if self.activation:
            penalty += self.activation * _mean_square(x, valid)
        if self.temporal:
            both = ops.logical_and(valid[:, 1:], valid[:, :-1])
            penalty += self.temporal * _mean_square(x[:, 1:] - x[:, :-1], both)
        return penalty

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "activation": self.activation,
            "temporal": self.temporal,
        }


def _mean_square(x: Tensor, valid: Tensor) -> Tensor:
    """The mean of the squares at the valid steps, 0 if there is none."""
    # Chosen before they are squared: the gradient of a step that does not count is 0, whatever it is.
    squares = ops.square(ops.where(valid[..., None], x, 0))
    steps = ops.sum(ops.cast(valid, x.dtype))
    return ops.sum(ops.mean(squares, axis=-1)) / ops.maximum(steps, 1)
