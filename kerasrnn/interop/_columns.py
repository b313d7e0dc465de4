"""Weights by their names, and their columns in the orders of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np


def regate(weight: np.ndarray, have: Sequence[str], want: Sequence[str]) -> np.ndarray:
    """The columns of a weight in another order of the gates.

    A gate with a sign, as in `"-update"`, is one minus what the gate is on the other side. Since
    sigmoid(-x) = 1 - sigmoid(x), its columns are negated on the way, in both directions.
    """
    blocks = dict(zip(have, np.split(weight, len(have), axis=-1), strict=True))
    blocks |= {_opposite(gate): -block for gate, block in blocks.items()}
    return np.concatenate([blocks[gate] for gate in want], axis=-1)


def _opposite(gate: str) -> str:
    return gate[1:] if gate.startswith("-") else "-" + gate


def weights_of(cell: Any) -> dict[str, np.ndarray]:
    """The weights of a cell by their names: kernel, recurrent_kernel, bias and others."""
    return {weight.name: keras.ops.convert_to_numpy(weight) for weight in cell.weights}


def assign(cell: Any, weights: Mapping[str, np.ndarray]) -> None:
    """Set all weights of a cell by their names."""
    for weight in cell.weights:
        weight.assign(weights[weight.name])
