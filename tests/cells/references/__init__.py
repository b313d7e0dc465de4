"""Float64 NumPy references of the recurrent cells, written from their papers.

Each module defines `layout(features, units, **options)`, which returns the `Layout` by which users
convert weights, and one `step(x, states, weights, **options)` that returns
`(output, new_states, gates)`:

- x is (batch, features), each state (batch, size), all float64, in the order of the layout.
- weights maps the weight's name to its array; without "bias" there is no bias.
- gates maps the gate's name to its activation, (batch, units).

The vectors are rows, so a gate reads x @ kernel + h @ recurrent_kernel + bias, and the weights of
several gates lie side by side as blocks of `units` columns, in the order that the module states.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Layout(NamedTuple):
    """The states and weights of a cell, by name and in the public order.

    states maps each state to its size, weights each weight to its shape. columns maps each weight
    that is a row of blocks of `units` columns to the names of its blocks.
    """

    states: dict[str, int]
    weights: dict[str, tuple[int, ...]]
    columns: dict[str, tuple[str, ...]]

    @classmethod
    def of(
        cls,
        units: int,
        states: Sequence[str],
        blocked: Mapping[str, tuple[int | None, Sequence[str]]],
        **others: tuple[int, ...],
    ) -> "Layout":
        """The layout of states of `units` each, with the weights of `blocked`, then the others.

        blocked gives a weight's rows (None: it is a vector) and the names of its blocks, others
        the shape of each weight that has no blocks.
        """
        shapes = {
            name: (len(names) * units,) if rows is None else (rows, len(names) * units)
            for name, (rows, names) in blocked.items()
        }
        columns = {name: tuple(names) for name, (_, names) in blocked.items()}
        return cls(dict.fromkeys(states, units), {**shapes, **others}, columns)


def blocks(array: np.ndarray | None, names: Sequence[str]) -> dict[str, Any]:
    """Cut the columns of an array into equal blocks; those of no array are zero."""
    if array is None:
        return dict.fromkeys(names, 0.0)
    return dict(zip(names, np.split(array, len(names), axis=-1), strict=True))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # 1 / (1 + exp(-x)) written as exp(-log(1 + exp(-x))): logaddexp overflows for no x and, unlike
    # the form with tanh, this keeps its relative precision for very negative x.
    result: np.ndarray = np.exp(-np.logaddexp(0.0, -x))
    return result


def run(
    step: Callable[..., tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]],
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: Mapping[str, np.ndarray],
    mask: np.ndarray | None = None,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
    **options: Any,
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """Run `step` over x (batch, time, features), with the semantics of a Keras RNN layer.

    go_backwards reverses x and the mask in time first; outputs and gates come in the order in
    which the steps were processed, not turned back. Where mask (batch, time) is False, the step
    keeps the states and repeats the previous output, which is zeros before the first valid step
    whatever the initial states are; with zero_output_for_mask it writes zeros instead. The gates
    of a masked step are zeros.

    Returns the outputs (batch, time, units), the final states and the gates, each
    (batch, time, units).
    """
    if mask is None:
        mask = np.ones(x.shape[:2], dtype=bool)
    if go_backwards:
        x, mask = x[:, ::-1], mask[:, ::-1]
    all_outputs: list[np.ndarray] = []
    all_gates: list[dict[str, np.ndarray]] = []
    for t in range(x.shape[1]):
        valid = mask[:, t, np.newaxis].astype(bool)
        output, new_states, gates = step(x[:, t], states, weights, **options)
        if zero_output_for_mask or not all_outputs:
            fallback = np.zeros_like(output)
        else:
            fallback = all_outputs[-1]
        all_outputs.append(np.where(valid, output, fallback))
        all_gates.append({name: np.where(valid, gate, 0.0) for name, gate in gates.items()})
        states = tuple(
            np.where(valid, new, old) for new, old in zip(new_states, states, strict=True)
        )
    stacked = {name: np.stack([g[name] for g in all_gates], axis=1) for name in all_gates[0]}
    return np.stack(all_outputs, axis=1), states, stacked


def numerical_gradients(
    loss: Callable[[dict[str, np.ndarray]], float],
    arrays: Mapping[str, np.ndarray],
    epsilon: float = 1e-5,
) -> dict[str, np.ndarray]:
    """Central differences of the scalar loss(arrays), for each element of each array.

    The arrays given are not written to: loss sees float64 copies.
    """
    moved = {name: np.array(value, dtype=np.float64) for name, value in arrays.items()}
    gradients = {name: np.zeros_like(value) for name, value in moved.items()}
    for name, value in moved.items():
        for index in np.ndindex(value.shape):
            original = value[index]
            value[index] = original + epsilon
            above = float(loss(moved))
            value[index] = original - epsilon
            below = float(loss(moved))
            value[index] = original
            gradients[name][index] = (above - below) / (2.0 * epsilon)
    return gradients
