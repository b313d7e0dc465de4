"""How good the labels are that a model gives to the steps of sequences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kerasrnn import _keras, tagging
from kerasrnn.metrics._steps import step_weights, without_last_axis

Tensor = Any


class _TagMetric(keras.metrics.Metric):
    """Counts over all steps of all batches; a subclass says what is counted, in `count`."""

    def __init__(self, counts: int, name: str, dtype: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        # Not in the metric's dtype: in 16 bits one cannot count the steps of an epoch.
        self.counts = self.add_variable((counts,), "zeros", dtype="float32", name="counts")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> None:
        """Count one batch.

        Args:
            y_true: The numbers of the right labels, `(batch, time)` or `(batch, time, 1)`.
            y_pred: The numbers of the predicted labels, `(batch, time)`, or a score for each label,
                `(batch, time, labels)`, of which the highest wins.
            sample_weight: `(batch, time)`, `(batch, time, 1)`, `(batch, 1)` or `(batch,)`. It is
                multiplied by the mask of `y_pred`.

        Raises:
            ValueError: If `y_true` or `y_pred` has another shape.
        """
        mask = _keras.get_note(y_pred, "_keras_mask")
        y_true, y_pred = without_last_axis(y_true), ops.convert_to_tensor(y_pred)
        true_shape, shape = tuple(y_true.shape), tuple(y_pred.shape)
        if len(true_shape) != 2:
            raise ValueError(
                "`y_true` must be the numbers of the labels, (batch, time) or (batch, time, 1); "
                f"got the shape {true_shape}."
            )
        if len(shape) not in (2, 3) or any(
            None not in sizes and len({*sizes}) > 1
            for sizes in zip(true_shape, shape[:2], strict=True)
        ):
            raise ValueError(
                "`y_pred` must be the numbers of the labels, (batch, time), or scores, (batch, time, "
                f"labels), for the steps of `y_true`, {true_shape}; got the shape {shape}."
            )
        if len(shape) == 3:
            self.check_scores(shape[-1])
            y_pred = ops.argmax(y_pred, axis=-1)
        y_true, y_pred = ops.cast(y_true, "int32"), ops.cast(y_pred, "int32")
        # `CRF.loss` leaves out steps whose tag is negative, and so does what measures.
        weights = step_weights(y_true >= 0, mask, sample_weight)
        self.counts.assign_add(ops.stack(self.count(y_true, y_pred, weights)))

    def check_scores(self, labels: int | None) -> None:
        """Refuse scores for a wrong number of labels, where the right one is known."""

    def count(self, true: Tensor, predicted: Tensor, weights: Tensor) -> list[Tensor]:
        """What a batch adds to each of the counts, from three `(batch, time)`."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("kerasrnn")
class TokenAccuracy(_TagMetric):
    """The share of the steps that get the right label.

    All steps of all batches weigh the same. In Keras's accuracy a step of a long batch weighs less.

    Args:
        name: The name of the metric.
        ignore: The number of a label. Steps whose right label it is do not count.
        dtype: As every Keras metric has.

    Example:

    >>> import kerasrnn.metrics
    >>> accuracy = kerasrnn.metrics.TokenAccuracy(ignore=0)
    >>> accuracy.update_state([[1, 2, 0, 1]], [[1, 1, 1, 1]], sample_weight=[[1, 1, 1, 0]])
    >>> float(accuracy.result())
    0.5
    """

    def __init__(
        self, name: str = "token_accuracy", ignore: int | None = None, dtype: Any = None
    ) -> None:
        super().__init__(2, name, dtype)
        self.ignore = ignore

    def count(self, true: Tensor, predicted: Tensor, weights: Tensor) -> list[Tensor]:
        if self.ignore is not None:
            weights = ops.where(true == self.ignore, 0.0, weights)
        return [ops.sum(ops.where(true == predicted, weights, 0.0)), ops.sum(weights)]

    def result(self) -> Tensor:
        return ops.divide_no_nan(self.counts[0], self.counts[1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ignore": self.ignore}


class _EntityMetric(_TagMetric):
    """Counts the right, the predicted and the true entities."""

    default_name: ClassVar[str]

    def __init__(
        self,
        label_names: Sequence[str],
        scheme: str = "BIO",
        entity_type: str | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(3, name or self.default_name, dtype)
        if isinstance(label_names, str):
            raise ValueError(
                f"`label_names` must be a list of labels, not one string; got {label_names!r}."
            )
        self.label_names = list(label_names)
        self.scheme = scheme
        self.entity_type = entity_type
        # Two neighbours alone tell whether an entity begins or ends between them. So all pairs are
        # read beforehand. The last name is what surrounds a sequence.
        names = [*self.label_names, "O"]
        pairs = [tagging.spans(pair, scheme) for pair in itertools.product(names, names)]
        types = sorted({span.type for found in pairs for span in found})
        if entity_type is not None and entity_type not in types:
            raise ValueError(
                f"`entity_type` must be a type in `label_names`, one of {', '.join(types)}; "
                f"got {entity_type!r}."
            )
        # The type's number, from 1, of what begins between the two, or 0; and whether one ends.
        self._begins = np.zeros(len(pairs), "int32")
        self._ends = np.zeros(len(pairs), "int32")
        for pair, found in enumerate(pairs):
            for span in found:
                if span.start == 1 and entity_type in (None, span.type):
                    self._begins[pair] = 1 + types.index(span.type)
                if span.stop == 1:
                    self._ends[pair] = 1

    def check_scores(self, labels: int | None) -> None:
        if labels not in (None, len(self.label_names)):
            raise ValueError(
                f"`y_pred` has scores for {labels} labels, but there are {len(self.label_names)} "
                "`label_names`."
            )

    def count(self, true: Tensor, predicted: Tensor, weights: Tensor) -> list[Tensor]:
        valid = weights > 0
        outside = len(self.label_names)
        error = self._error("y_true", true, valid) + self._error("y_pred", predicted, valid)
        begins, ends = [], []
        for labels in _pack(valid, [true, predicted], outside):
            labels = ops.pad(labels, [[0, 0], [1, 1]], constant_values=outside)
            # A label out of range must not look up what is not there.
            labels = ops.clip(labels, 0, outside)
            pairs = labels[:, :-1] * (outside + 1) + labels[:, 1:]
            begins.append(ops.take(self._begins, pairs))
            ends.append(ops.take(self._ends, pairs))
        # An entity is right if both sequences begin it and both end it, and nothing begins or ends
        # in either of them in between.
        happens = (begins[0] > 0) | (begins[1] > 0) | (ends[0] > 0) | (ends[1] > 0)
        both_begin = ops.where(begins[0] == begins[1], begins[0], 0)
        both_begin, both_end = _pack(happens, [both_begin, ends[0] * ends[1]], 0)
        right = (both_begin[:, :-1] > 0) & (both_end[:, 1:] > 0)
        return [
            error + ops.sum(ops.cast(found, "float32"))
            for found in (right, begins[1] > 0, begins[0] > 0)
        ]

    def _error(self, name: str, labels: Tensor, valid: Tensor) -> Tensor:
        """Zero, or NaN if a label is out of range in a graph. Elsewhere it is refused."""
        wrong = valid & ((labels < 0) | (labels >= len(self.label_names)))
        any_wrong = ops.any(wrong)
        try:
            refused = bool(any_wrong)
        except TypeError:  # In a graph the values are not known yet.
            refused = False
        if refused:
            label = ops.convert_to_numpy(labels)[ops.convert_to_numpy(wrong)][0]
            raise ValueError(
                f"`{name}` holds the label {label}, but the `label_names` are numbered from 0 to "
                f"{len(self.label_names) - 1}. Give padding a mask or the sample weight 0."
            )
        return ops.where(any_wrong, float("nan"), 0.0)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "label_names": list(self.label_names),
            "scheme": self.scheme,
            "entity_type": self.entity_type,
        }


@keras.saving.register_keras_serializable("kerasrnn")
class EntityPrecision(_EntityMetric):
    """The share of the predicted entities that are right. See `EntityF1` for the arguments.

    Example:

    >>> import kerasrnn.metrics
    >>> precision = kerasrnn.metrics.EntityPrecision(["O", "B-PER", "I-PER"])
    >>> precision.update_state([[1, 2, 0, 1]], [[1, 2, 1, 1]])
    >>> round(float(precision.result()), 3)
    0.667
    """

    default_name = "entity_precision"

    def result(self) -> Tensor:
        return ops.divide_no_nan(self.counts[0], self.counts[1])


@keras.saving.register_keras_serializable("kerasrnn")
class EntityRecall(_EntityMetric):
    """The share of the true entities that are found. See `EntityF1` for the arguments.

    Example:

    >>> import kerasrnn.metrics
    >>> recall = kerasrnn.metrics.EntityRecall(["O", "B-PER", "I-PER"])
    >>> recall.update_state([[1, 2, 0, 1]], [[1, 2, 0, 0]])
    >>> float(recall.result())
    0.5
    """

    default_name = "entity_recall"

    def result(self) -> Tensor:
        return ops.divide_no_nan(self.counts[0], self.counts[2])


@keras.saving.register_keras_serializable("kerasrnn")
class EntityF1(_EntityMetric):
    """The harmonic mean of the precision and the recall of entities, as in the CoNLL shared tasks.

    A predicted entity is right if its first step, its last step and its type are. Entities are
    counted over all types together (micro average). The labels are read as `kerasrnn.tagging.spans`
    reads them, ill-formed ones too. Steps that are masked, or have the sample weight 0, are skipped
    as if they were not there; other weights make no difference. With no entity at all the result is 0.

    A label out of range raises a ValueError. In a graph, where that cannot be, the result is NaN.
    What the skipped steps hold does not matter.

    Args:
        label_names: The labels, by their numbers.
        scheme: Their scheme, see `kerasrnn.tagging`.
        entity_type: The one type that counts, such as `"PER"`. By default all.
        name: The name of the metric.
        dtype: As every Keras metric has.

    Raises:
        ValueError: If `label_names` is a string, if there is no such scheme, if it does not have one
            of the labels, or if no label has the `entity_type`.

    Example:

    >>> import kerasrnn.metrics
    >>> f1 = kerasrnn.metrics.EntityF1(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
    >>> f1.update_state([[1, 2, 0, 3, 4]], [[1, 2, 0, 3, 0]])
    >>> float(f1.result())
    0.5
    """

    default_name = "entity_f1"

    def result(self) -> Tensor:
        right, predicted, true = self.counts[0], self.counts[1], self.counts[2]
        return ops.divide_no_nan(2 * right, predicted + true)


def _pack(keep: Tensor, rows: Sequence[Tensor], fill: int) -> list[Tensor]:
    """Move what `keep` leaves of each row to its beginning, in order, and fill up behind it.

    All are `(batch, time)`.
    """
    time = ops.shape(keep)[1]
    steps = ops.arange(time, dtype="int32")
    # No two numbers are equal, so that it does not matter whether the sorting is stable.
    order = ops.argsort(ops.where(keep, steps, steps + time), axis=1)
    kept = ops.take_along_axis(keep, order, axis=1)
    return [ops.where(kept, ops.take_along_axis(row, order, axis=1), fill) for row in rows]
