"""Reading a sequence of outputs as one vector."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

Tensor = Any


@keras.saving.register_keras_serializable("kerasrnn")
class SequencePooling(keras.layers.Layer):
    """Reads a sequence as one vector, through the steps that the mask leaves.

    Args:
        mode: `"mean"` or `"max"` over the steps, or `"attention"`: a mean whose weights are learned,
            `softmax(tanh(x W + b) v)` over the steps (Yang et al. 2016,
            https://aclanthology.org/N16-1174).
        seed: Seed of the weights that the attention starts with.
        **kwargs: `name`, `dtype` and `trainable`, as every Keras layer has.

    Call arguments:
        sequences: `(batch, time, features)`.
        mask: Boolean `(batch, time)`.

    Returns:
        `(batch, features)`, in the compute dtype. Zeros for a row without a single valid step.

    Example:

    >>> import keras, kerasrnn
    >>> x = keras.ops.convert_to_tensor([[[1.0], [3.0], [9.0]]])
    >>> mask = keras.ops.convert_to_tensor([[True, True, False]])
    >>> kerasrnn.layers.SequencePooling("mean")(x, mask=mask).numpy().tolist()
    [[2.0]]
    """

    MODES: ClassVar[tuple[str, ...]] = ("mean", "max", "attention")

    def __init__(self, mode: str = "mean", seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if mode not in self.MODES:
            raise ValueError(f"`mode` must be one of {', '.join(self.MODES)}; got {mode!r}.")
        self.mode = mode
        self.seed = seed
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if self.mode == "attention":
            size = input_shape[-1]
            first, second = (
                (None, None)
                if self.seed is None
                else np.random.SeedSequence(self.seed).generate_state(2).tolist()
            )
            glorot = keras.initializers.GlorotUniform
            self.kernel = self.add_weight((size, size), initializer=glorot(first), name="kernel")
            self.bias = self.add_weight((size,), initializer="zeros", name="bias")
            self.query = self.add_weight((size, 1), initializer=glorot(second), name="query")
        self.built = True

    def call(self, sequences: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.mode == "max":
            valid = self._valid(sequences, mask)
            lowest = ops.where(valid, sequences, float("-inf"))
            # With a least value also a batch or a sequence of length 0 has a maximum.
            largest = ops.max(lowest, axis=1, initial=float("-inf"))
            zeros = ops.zeros_like(ops.sum(sequences, axis=1))
            return ops.where(ops.any(valid, axis=1), largest, zeros)
        weights = self.step_weights(sequences, mask)[..., None]
        read = ops.sum(weights * ops.cast(sequences, weights.dtype), axis=1)
        return ops.cast(read, sequences.dtype)

    def step_weights(self, sequences: Tensor, mask: Tensor | None = None) -> Tensor:
        """The weight of each step in the mean, `(batch, time)`; they add up to 1, and masked ones are 0.

        Args:
            sequences: `(batch, time, features)`.
            mask: Boolean `(batch, time)`.

        Raises:
            ValueError: If the mode is `"max"`, which has no weights.
        """
        if self.mode == "max":
            raise ValueError("`step_weights` is for the modes mean and attention, not max.")
        valid = self._valid(sequences, mask)
        # At least in float32: in 16 bits neither scores nor sums over many steps are safe.
        wide = keras.backend.result_type(sequences.dtype, "float32")
        weights = ops.cast(valid, wide)
        if self.mode == "attention":
            scores = ops.matmul(
                ops.tanh(ops.matmul(sequences, self.kernel) + self.bias), self.query
            )
            # From the largest score down, so that no weight overflows.
            scores = ops.where(valid, ops.cast(scores, wide), -1e9)
            largest = ops.max(scores, axis=1, keepdims=True, initial=-1e9)
            weights = weights * ops.exp(scores - largest)
        weights = weights / ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1e-7)
        return weights[..., 0]

    def _valid(self, sequences: Tensor, mask: Tensor | None) -> Tensor:
        """Which steps count, boolean `(batch, time, 1)`."""
        valid = ops.ones_like(sequences[..., :1], dtype="bool")
        return valid if mask is None else ops.logical_and(valid, ops.cast(mask, "bool")[..., None])

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> None:
        """One vector has no steps to mask."""
        return

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mode": self.mode, "seed": self.seed}
