"""What the tests of the layers share: the layer of each cell, random weights, comparisons."""

from typing import Any

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import cells
from tests.cells._helpers import NAMES, make, needs, starting_states

BATCH, TIME, FEATURES, UNITS = 3, 6, 4, 5

each_layer = pytest.mark.parametrize("name", NAMES)
# What takes long: the layers from which the others follow, and all of them when `-m slow` asks.
few_layers = pytest.mark.parametrize(
    "name",
    [
        n if n in ("peephole_lstm", "gru") else pytest.param(n, marks=pytest.mark.slow)
        for n in NAMES
    ],
)

# Two ways through the same float32 operations, whose sums may be taken in another order.
ATOL = 1e-6


def layer_class(name: str) -> Any:
    return getattr(kerasrnn.layers, cells.info(name).layer_name)


def layer(name: str, units: int = UNITS, **arguments: Any) -> Any:
    return layer_class(name)(units, **{**needs(name, units), **arguments})


def cell(name: str, units: int = UNITS, **arguments: Any) -> cells.Cell:
    return make(name, units, **arguments)


def randomise(thing: Any, seed: int = 0) -> None:
    """Draw every weight anew, also those that start as zeros: biases, peepholes, initial states."""
    random = np.random.default_rng(seed)
    for weight in thing.trainable_weights:
        weight.assign(random.normal(0.0, 0.5, weight.shape))


def inputs(*shape: int, seed: int = 1) -> np.ndarray:
    """Random numbers, `(batch, time, features)` unless told otherwise."""
    random = np.random.default_rng(seed)
    return random.normal(size=shape or (BATCH, TIME, FEATURES)).astype("float32")


def states(layer: Any, batch: int = BATCH, seed: int = 2) -> list[np.ndarray]:
    """Random initial states for a layer, in one flat list."""
    cell = layer.cell
    if not isinstance(cell, cells.Cell):
        sizes = keras.tree.flatten(layer.state_size)
        return [inputs(batch, size, seed=seed + number) for number, size in enumerate(sizes)]
    name = next(n for n in cells.names() if cells.info(n).cell_class is type(cell))
    options = {key: getattr(cell, key) for key in OPTIONS if hasattr(cell, key)}
    start = starting_states(name, np.random.default_rng(seed), batch, cell.units, options)
    return [state.astype("float32") for state in start]


# What decides on the number and the kind of a cell's states.
OPTIONS = ("periods", "depth", "dimensions")


# Of three sequences with six steps: one with padding on the left, one with holes, one of nothing.
MASK = np.array([[0, 0, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]], bool)


def flat(outputs: Any) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(outputs)]


def assert_close(actual: Any, expected: Any, atol: float = ATOL, what: str = "") -> None:
    for one, other in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol, err_msg=what)


def assert_equal(actual: Any, expected: Any) -> None:
    """To the last bit."""
    for one, other in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_array_equal(one, other)
