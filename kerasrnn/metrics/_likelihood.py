"""How well a model expects the tokens that come."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import keras
from keras import ops

from kerasrnn import _keras
from kerasrnn.metrics._steps import step_weights, without_last_axis

Tensor = Any


# What a tensor of logits bears if its cross-entropy is known already.
NATS = "_nats"
# With fewer classes TensorFlow's own operation is as fast.
WORTH_COMPILING = 1000


def cross_entropy(y_true: Tensor, logits: Tensor) -> Tensor | None:
    """The cross-entropy of each step, `(batch, time)`, with its gradient, by XLA; the metrics find it too.

    With many classes the passes over the logits are much of the time, and XLA needs fewer of them than
    TensorFlow's operation. Where it must not or need not be compiled there is nothing.

    Args:
        y_true: Numbers `(batch, time)` or `(batch, time, 1)`. The cross-entropy of one for which there is
            no class is NaN.
        logits: float32 `(batch, time, classes)`.
    """
    worth = logits.dtype == "float32" and (logits.shape[-1] or 0) >= WORTH_COMPILING
    if not worth or len(logits.shape) != 3 or not _keras.may_compile():
        return None
    from kerasrnn import fast

    time = ops.shape(logits)[1]
    given = [logits, ops.cast(without_last_axis(y_true), "int32")]
    rows, targets = fast.padded(given) if logits.shape[1] is None else given
    rows = ops.reshape(rows, (-1, logits.shape[-1]))
    nats = fast.cross_entropy(rows, ops.reshape(targets, (-1,)))
    nats = ops.reshape(nats, ops.shape(targets))[:, :time]
    _keras.set_note(logits, NATS, nats)
    return nats


class _Likelihood(keras.metrics.Metric):
    """The mean cross-entropy over all steps of all batches; a subclass says in which unit."""

    default_name: ClassVar[str]

    def __init__(
        self,
        name: str | None = None,
        from_logits: bool = True,
        ignore_class: int | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name or self.default_name, dtype=dtype)
        self.from_logits = from_logits
        self.ignore_class = ignore_class
        # The nats and the steps. Not in the metric's dtype: 16 bits cannot count so far.
        self.sums = self.add_variable((2,), "zeros", dtype="float32", name="sums")
        # What the sums had to round off.
        self.rests = self.add_variable((2,), "zeros", dtype="float32", name="rests")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> None:
        """Count one batch.

        Args:
            y_true: The numbers of the right tokens, `(batch, time)` or `(batch, time, 1)`.
            y_pred: Logits, or probabilities with `from_logits=False`, `(batch, time, classes)`.
            sample_weight: `(batch, time)`, `(batch, time, 1)`, `(batch, 1)` or `(batch,)`. It is
                multiplied by the mask of `y_pred`.

        Raises:
            ValueError: If `y_true` or `y_pred` has another shape.
        """
        mask, nats = (_keras.get_note(y_pred, name) for name in ("_keras_mask", NATS))
        # In the steps and dtypes of `SparseCategoricalCrossentropy`. TensorFlow sees that both want
        # the same, and computes it once; with a large vocabulary that is much of the time.
        dtype = keras.config.floatx()
        y_true = without_last_axis(ops.convert_to_tensor(y_true, dtype=dtype))
        y_pred = ops.convert_to_tensor(y_pred, dtype=dtype)
        true_shape, shape = tuple(y_true.shape), tuple(y_pred.shape)
        if len(true_shape) != 2 or len(shape) != 3:
            raise ValueError(
                "`y_true` must be the numbers of the tokens, (batch, time), and `y_pred` a score for "
                f"each class, (batch, time, classes); got the shapes {true_shape} and {shape}."
            )
        if nats is None or not self.from_logits or self.ignore_class is not None:
            nats = keras.losses.sparse_categorical_crossentropy(
                y_true, y_pred, from_logits=self.from_logits, ignore_class=self.ignore_class
            )
        counts = ops.ones_like(y_true, dtype="bool")
        if self.ignore_class is not None:
            counts = y_true != self.ignore_class
        weights = step_weights(counts, mask, sample_weight)
        # A step that does not count may hold anything, infinity too.
        nats = ops.where(weights != 0, weights * ops.cast(nats, "float32"), 0.0)
        self._add(ops.stack([ops.sum(nats), ops.sum(weights)]))

    def _add(self, batch: Tensor) -> None:
        """Add to the sums and keep what is lost on the way (Knuth's two-sum), in any order of sizes."""
        before = ops.convert_to_tensor(self.sums)
        after = before + batch
        added = after - before
        lost = (before - (after - added)) + (batch - added)
        self.sums.assign(after)
        self.rests.assign_add(lost)

    def mean(self) -> Tensor:
        """The mean cross-entropy in nats; 0 if no step has counted."""
        nats, steps = ops.unstack(self.sums + self.rests)
        return ops.divide_no_nan(nats, steps)

    def get_config(self) -> dict[str, Any]:
        own = {"from_logits": self.from_logits, "ignore_class": self.ignore_class}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("kerasrnn")
class Perplexity(_Likelihood):
    """Among how many equally likely tokens the model hesitates: exp of the mean cross-entropy.

    The mean is over all steps of all batches, each weighed by its sample weight and the mask. Take
    it for `weighted_metrics` of `compile` where there are sample weights: Keras gives them to no other
    metric. The sums keep their digits over more than 1e8 steps, in float32 and on every backend.

    Beside `keras.losses.SparseCategoricalCrossentropy` with the same `from_logits` and `ignore_class`
    it costs next to nothing, as TensorFlow computes the cross-entropy once for both.

    Args:
        name: The name of the metric.
        from_logits: Whether the predictions are logits. Otherwise they are probabilities.
        ignore_class: A number, such as -1. Steps whose target it is do not count, as in Keras's loss.
            Without it every target must be the number of a class.
        dtype: As every Keras metric has.

    Example:

    >>> import numpy as np, kerasrnn.metrics
    >>> perplexity = kerasrnn.metrics.Perplexity()
    >>> perplexity.update_state([[1, 2, 0]], np.zeros((1, 3, 8)), sample_weight=[[1, 1, 0]])
    >>> round(float(perplexity.result()), 4)
    8.0
    """

    default_name = "perplexity"

    def result(self) -> Tensor:
        return ops.exp(self.mean())


@keras.saving.register_keras_serializable("kerasrnn")
class BitsPerCharacter(_Likelihood):
    """The mean cross-entropy in bits. Each step counts as a character, or whatever the tokens are.

    See `Perplexity` for the arguments and for what counts.

    Example:

    >>> import numpy as np, kerasrnn.metrics
    >>> bits = kerasrnn.metrics.BitsPerCharacter()
    >>> bits.update_state([[1, 2, 0]], np.zeros((1, 3, 8)))
    >>> round(float(bits.result()), 4)
    3.0
    """

    default_name = "bits_per_character"

    def result(self) -> Tensor:
        return self.mean() / math.log(2)
