"""The kernel of any cell: its own `step`, forward, and once more with TensorFlow's gradients, backward."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from kerasrnn._keras import AutocastScope
from kerasrnn.cells import Cell, ImpureStepError
from kerasrnn.fast._kernel import Back, Kernel, Tensor, Weights


class GenericKernel(Kernel):
    """Runs a cell's `step` on its projected input. The step must be a function: the way back runs it anew.

    Nothing but the input and the states is kept for the way back, which computes each step anew. The first
    state of the kernel is the step's output, which the cell need not have among its own.
    """

    parts = ()
    lasting = False

    def __init__(self, cell: Cell, columns: int, training: bool) -> None:
        self.cell = cell
        self.columns = columns
        self.training = training
        self.states = 1 + len(cell.states)
        self.variables = {str(number): weight for number, weight in enumerate(cell.weights)}
        self.weights = self._read_by_step()

    def state_sizes(self, units: int) -> tuple[int, ...]:
        return (units, *self.cell.state_sizes.values())

    def saved_sizes(self, units: int) -> tuple[int, ...]:
        return self.input_sizes(self.columns, units)

    def sum_shapes(self, batch: Tensor, units: int) -> list[Any]:
        return [weight.shape for weight in self.weights.values()]

    def forward(
        self, x: tuple[Tensor, ...], states: tuple[Tensor, ...], w: Weights
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return self.step(tf.concat(x, axis=1), states[1:], w.others, w.mask), x

    def backward(
        self,
        saved: tuple[Tensor, ...],
        before: tuple[Tensor, ...],
        after: tuple[Tensor, ...],
        d_after: tuple[Tensor, ...],
        w: Weights,
    ) -> Back:
        x = tf.concat(saved, axis=1)
        sources = [x, *before[1:], *(w.others[name] for name in self.weights)]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            results = self.step(x, before[1:], w.others, w.mask)
        dx, *rest = tape.gradient(
            results, sources, d_after, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        d_states, sums = rest[: self.states - 1], rest[self.states - 1 :]
        return Back(dx, (tf.zeros_like(before[0]), *d_states), (), tuple(sums))

    def weight_gradients(
        self, dx: Tensor, h: Tensor | None, kept: tuple[Tensor, ...], sums: tuple[Tensor, ...]
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        return None, dict(zip(self.weights, sums, strict=True))

    def step(
        self, x: Tensor, states: tuple[Tensor, ...], weights: dict[str, Tensor], mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The cell's output and new states, by these weights in the place of its variables."""
        cell, dtype = self.cell, self.cell.compute_dtype
        values = [(self.variables[name], value) for name, value in weights.items()]
        before = cell._recurrent_dropout_mask, cell.in_training
        # Dropped weights come dropped already.
        cell._recurrent_dropout_mask = tf.ones((), dtype) if mask is None else mask
        cell.set_training(self.training)
        try:
            # On the way back no call of a layer is around this.
            scope = keras.StatelessScope(state_mapping=values)
            before_step = dict(scope.state_mapping)
            with AutocastScope(dtype), scope:
                step = cell.advance(x, tuple(states))
            after_step = scope.state_mapping
            if any(after_step[key] is not before_step.get(key) for key in after_step):
                raise ImpureStepError(f"{type(cell).__name__}.step changes a variable")
        finally:
            cell._recurrent_dropout_mask = before[0]
            cell.set_training(before[1])
        return tuple(tf.convert_to_tensor(value, dtype) for value in (step.output, *step.states))

    def _read_by_step(self) -> dict[str, Any]:
        """The weights that `step` reads: those of the projection have done their part."""
        cell, dtype, place = self.cell, self.cell.compute_dtype, tf.compat.v1.placeholder
        try:
            with tf.Graph().as_default():
                values = {name: place(v.dtype, v.shape) for name, v in self.variables.items()}
                states = [place(dtype, (None, size)) for size in cell.state_sizes.values()]
                results = self.step(place(dtype, (None, self.columns)), tuple(states), values, None)
                gradients = tf.gradients(results, list(values.values()))
        except ImpureStepError:
            raise
        except Exception as error:
            # Whatever is wrong with the step itself, the loop will say it better.
            raise ImpureStepError(f"{type(cell).__name__}.step cannot be traced") from error
        read = [gradient is not None for gradient in gradients]
        return {
            name: v for (name, v), reads in zip(self.variables.items(), read, strict=True) if reads
        }
