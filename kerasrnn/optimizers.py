"""Stochastic gradient descent whose weights are averaged, and when to begin with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

Tensor = Any


@keras.saving.register_keras_serializable("kerasrnn")
class AveragedSGD(keras.optimizers.SGD):
    """SGD that, from a moment on, averages the weights over its steps (Polyak & Juditsky 1992).

    Training goes on with the weights themselves. Beside each lies the plain mean of the values that it
    had after each step since `start_averaging`; at the end of `fit` it takes their place. See
    https://doi.org/10.1137/0330046. When it is best to begin, `NonMonotonicAveraging` finds out.

    The averages and the moment are among the optimizer's variables, so they are saved with them.
    They take as much memory as the weights.

    Args:
        *args, **kwargs: See `keras.optimizers.SGD`; without `use_ema`, which is another average.

    Raises:
        ValueError: If `use_ema` is set.

    Example:

    >>> import keras, kerasrnn
    >>> weight = keras.Variable([0.0])
    >>> optimizer = kerasrnn.optimizers.AveragedSGD(1.0)
    >>> optimizer.build([weight])
    >>> optimizer.start_averaging()
    >>> for _ in range(3):
    ...     optimizer.apply([keras.ops.convert_to_tensor([-1.0])], [weight])
    >>> optimizer.swap([weight])
    >>> weight.numpy().tolist()  # the mean of 1, 2 and 3
    [2.0]
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.use_ema:
            raise ValueError(
                "`use_ema` must be False: this optimizer has an average of its own, and one of the two "
                "would overwrite the other in the weights."
            )
        before = keras.initializers.Constant(-1)
        # The number of steps before the averaging, or -1 as long as it has not begun.
        self.averaging_from = self.add_variable((), before, dtype="int", name="averaging_from")
        # Whether averages and weights have changed places. A model that is saved meanwhile knows it.
        self._swapped = self.add_variable((), "zeros", dtype="int", name="swapped")
        self.averages: list[Any] = []

    def build(self, variables: Sequence[Any]) -> None:
        if not self.built:
            super().build(variables)
            self.averages = self.add_optimizer_variables(variables, "average")

    def start_averaging(self) -> None:
        """Average from the next step on. Nothing changes if that has begun already."""
        if int(self.averaging_from) < 0:
            self.averaging_from.assign(ops.copy(self.iterations))

    def apply(self, grads: Sequence[Tensor], trainable_variables: Any = None) -> None:
        before = ops.copy(self.iterations)
        super().apply(grads, trainable_variables)
        # While gradients are accumulated, the weights stay as they are, and so does the count.
        count = self.iterations - self.averaging_from
        counts = (self.averaging_from >= 0) & (self.iterations > before)
        for variable, average in self._pairs(self._trainable_variables):
            old = ops.convert_to_tensor(average)
            moved = old + (variable - old) / ops.cast(ops.maximum(count, 1), average.dtype)
            self.assign(average, ops.where(counts, moved, old))

    @property
    def has_averages(self) -> bool:
        """Whether a step has been averaged yet."""
        return 0 <= int(self.averaging_from) < int(self.iterations)

    @property
    def is_swapped(self) -> bool:
        """Whether the averages are where the weights belong."""
        return bool(int(self._swapped))

    def swap(self, variables: Sequence[Any]) -> None:
        """Exchange weights and averages, to measure with the averages, and to go back.

        Swap back before the training goes on. Nothing happens as long as there are no averages.

        Args:
            variables: The weights, the model's `trainable_variables`.
        """
        if self.has_averages:
            for variable, average in self._pairs(variables):
                value = ops.copy(variable)
                variable.assign(average)
                average.assign(value)
            self._swapped.assign(1 - self._swapped)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Leave the averages in the weights, if there are any. Keras calls it at the end of `fit`.

        Args:
            var_list: The weights, the model's `trainable_variables`.
        """
        super().finalize_variable_values(var_list)
        if self.is_swapped:
            self.swap(var_list)
        if self.has_averages:
            for variable, average in self._pairs(var_list):
                # A copy: in JAX no two variables may share their memory.
                variable.assign(ops.copy(average))

    def _pairs(self, variables: Sequence[Any]) -> list[tuple[Any, Any]]:
        """Each of the weights that gradients change, with its average."""
        averages = [self.averages[self._get_variable_index(variable)] for variable in variables]
        pairs = zip(variables, averages, strict=True)
        return [(variable, average) for variable, average in pairs if average is not None]


class NonMonotonicAveraging(keras.callbacks.Callback):
    """Begins to average when validation stops getting better: NT-ASGD (Merity et al. 2017).

    At the end of an epoch the averaging begins, for good, if the monitored value is worse than the
    best of those that are older than the last `patience` ones; see https://arxiv.org/abs/1708.02182.
    From then on `fit` validates with the averages, and they are the model's weights at its end.
    Should a validation be broken off, the averages stay in the weights; the next `fit` with such a
    callback trains on with the weights themselves.

    Args:
        monitor: What to look at in the logs of an epoch. Lower is better.
        patience: How many values before the present one are not compared with.
        history: The values of earlier epochs, oldest first, of a run that goes on.

    Raises:
        TypeError: When training begins, if the model's optimizer is no `AveragedSGD`.
        ValueError: If `patience` is no number of epochs; at the end of an epoch, if its logs do not
            have the monitored value.

    Example:

    >>> import keras, kerasrnn, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(kerasrnn.optimizers.AveragedSGD(1.0, clipnorm=0.25), "mse")
    >>> averaging = kerasrnn.optimizers.NonMonotonicAveraging("loss", patience=0, history=[0.0])
    >>> _ = model.fit(np.ones((8, 1)), np.arange(8), epochs=2, callbacks=[averaging], verbose=0)
    >>> model.optimizer.has_averages
    True
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 5, history: Sequence[float] = ()
    ) -> None:
        super().__init__()
        if not isinstance(patience, int) or patience < 0:
            raise ValueError(f"`patience` must be a number of epochs, 0 or more; got {patience!r}.")
        self.monitor = monitor
        self.patience = patience
        self.history = [float(value) for value in history]
        self._fitting = False

    @property
    def optimizer(self) -> AveragedSGD:
        """The model's optimizer, without what scales the loss in mixed precision."""
        found = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        if not isinstance(found, AveragedSGD):
            raise TypeError(
                "`NonMonotonicAveraging` needs a model compiled with a "
                f"`kerasrnn.optimizers.AveragedSGD`; got a {type(found).__name__}."
            )
        return found

    def on_train_begin(self, logs: Any = None) -> None:
        self._measure_averages(False)  # Should a validation have been broken off.
        self._fitting = True

    def on_train_end(self, logs: Any = None) -> None:
        self._fitting = False

    def on_test_begin(self, logs: Any = None) -> None:
        if self._fitting:
            self._measure_averages(True)

    def on_test_end(self, logs: Any = None) -> None:
        if self._fitting:
            self._measure_averages(False)

    def _measure_averages(self, wanted: bool) -> None:
        if self.optimizer.is_swapped != wanted:
            self.optimizer.swap(self.model.trainable_variables)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        if self.monitor not in logs:
            raise ValueError(
                f"`monitor` must be in the logs of every epoch; got {self.monitor!r}, and there are "
                f"{', '.join(logs)}. A name with `val_` needs `validation_data` in `fit`."
            )
        value = float(logs[self.monitor])
        older = self.history[: max(0, len(self.history) - self.patience)]
        if older and value > min(older):
            self.optimizer.start_averaging()
        self.history.append(value)
