"""Weights by their names, and their columns in the orders of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerasrnn.layers._library import regated


def regate(weight: np.ndarray, have: Sequence[str], want: Sequence[str]) -> np.ndarray:
    """The columns of a weight in another order of the gates, whose signs `layers._library.Form` tells."""
    return np.concatenate(regated(weight, have, want), axis=-1)


def weights_of(cell: Any) -> dict[str, np.ndarray]:
    """The weights of a cell by their names: kernel, recurrent_kernel, bias and others."""
    return {weight.name: keras.ops.convert_to_numpy(weight) for weight in cell.weights}


def assign(cell: Any, weights: Mapping[str, np.ndarray]) -> None:
    """Set all weights of a cell by their names."""
    for weight in cell.weights:
        weight.assign(weights[weight.name])
