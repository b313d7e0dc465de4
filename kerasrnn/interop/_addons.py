"""The weights of TensorFlow Addons' `PeepholeLSTMCell`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasrnn import layers
from kerasrnn.interop._columns import assign

PEEPHOLES = tuple(f"{gate}_gate_peephole_weights" for gate in ("input", "forget", "output"))
ROLES = ("kernel", "recurrent_kernel", "bias", *PEEPHOLES)

# In Keras 2 the hard sigmoid is x / 5 + 1 / 2 between 0 and 1, in Keras 3 x / 6 + 1 / 2.
HARD_SIGMOID_SCALE = 6 / 5


def from_addons(
    source: Any, *, prefix: str = "", recurrent_activation: Any = "sigmoid", **arguments: Any
) -> Any:
    """A `kerasrnn.layers.PeepholeLSTM` with the weights of TensorFlow Addons' `PeepholeLSTMCell`.

    Its gates are in our order and its output gate reads the new cell, as here; `peephole_kernel` is
    its three vectors, one upon the other. TensorFlow Addons need not be installed.

    Args:
        source: A TensorFlow checkpoint's path, or a mapping of names to arrays, such as
            `{weight.name: weight.numpy() for weight in cell.weights}`. The last part of a name counts;
            `:0` and what checkpoints put behind it do not. What else there is is left alone.
        prefix: The name of the cell, or the first parts of it, where `source` holds several:
            `"rnn/peephole_lstm_cell"` is not `"rnn/peephole_lstm_cell_1"`.
        recurrent_activation: The cell's: `"sigmoid"` is the default there as well. `"hard_sigmoid"` is
            taken as that of Keras 2, x / 5 + 1 / 2, with which the cell was trained. Keras 3 has
            x / 6 + 1 / 2, so the weights of the gates become 6 / 5 of what they were: the same outputs.
        **arguments: Further arguments of the layer, such as `return_sequences`; `activation` if the
            cell's is not tanh.

    Returns:
        The layer, built.

    Raises:
        FileNotFoundError: If there is no checkpoint at the path.
        ValueError: If there is no such cell, several, or one with a weight missing or of a wrong shape.

    Example:

    >>> import numpy as np, kerasrnn
    >>> shapes = {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}
    >>> shapes |= {f"{gate}_gate_peephole_weights": (4,) for gate in ("input", "forget", "output")}
    >>> arrays = {f"rnn/peephole_lstm_cell/{name}:0": np.ones(shape) for name, shape in shapes.items()}
    >>> layer = kerasrnn.interop.from_addons(arrays, return_sequences=True)
    >>> layer(np.ones((2, 5, 3), "float32")).shape == (2, 5, 4)
    True
    """
    found = _only_cell(_arrays(source), prefix)
    units, features = _sizes(found)
    layer = layers.PeepholeLSTM(
        units,
        recurrent_activation=recurrent_activation,
        use_bias="bias" in found,
        **arguments,
    )
    layer.build((None, None, features))
    weights = {name: found[name] for name in ROLES if name in found and name not in PEEPHOLES}
    weights["peephole_kernel"] = np.stack([found[name] for name in PEEPHOLES])
    if recurrent_activation == "hard_sigmoid":
        scales = [1.0 if gate == "candidate" else HARD_SIGMOID_SCALE for gate in layer.cell.gates]
        columns = np.repeat(scales, units)
        weights = {
            name: weight * (HARD_SIGMOID_SCALE if name == "peephole_kernel" else columns)
            for name, weight in weights.items()
        }
    assign(layer.cell, weights)
    return layer


def _arrays(source: Any) -> dict[str, Any]:
    if isinstance(source, Mapping):
        return dict(source)
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(
            "`source` must be the path of a checkpoint or a mapping of names to arrays, "
            f"got {type(source).__name__}."
        )
    import tensorflow as tf

    path = os.fspath(source)
    try:
        reader = tf.train.load_checkpoint(path)
    except (tf.errors.NotFoundError, ValueError) as error:  # No file, or a folder without any.
        raise FileNotFoundError(
            f"`source` must be the path of a checkpoint, without `.index` or `.data-...`, got {path!r}: "
            f"{error}"
        ) from None
    # The strings in it, such as the graph of its objects, are no weights.
    dtypes = reader.get_variable_to_dtype_map()
    return {name: reader.get_tensor(name) for name, dtype in dtypes.items() if dtype.is_floating}


def _only_cell(arrays: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    """The weights, by their roles, of the only cell with peepholes under the prefix."""
    cells: dict[str, dict[str, np.ndarray]] = {}
    beginning = prefix and prefix.rstrip("/") + "/"
    for name, array in arrays.items():
        plain = name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE").removesuffix(":0")
        cell, _, role = plain.rpartition("/")
        if role in ROLES and f"{cell}/".startswith(beginning):
            cells.setdefault(cell, {})[role] = np.asarray(array, dtype="float64")
    cells = {name: cell for name, cell in cells.items() if not cell.keys().isdisjoint(PEEPHOLES)}
    if len(cells) != 1:
        several = f"{len(cells)} of them: {', '.join(map(repr, sorted(cells)))}. Choose by `prefix`"
        raise ValueError(
            "`source` must hold the weights of one PeepholeLSTMCell, kernel, recurrent_kernel, bias, "
            f"{', '.join(PEEPHOLES)}, under prefix={prefix!r}; got "
            f"{several if cells else ', '.join(arrays) or 'nothing'}."
        )
    (found,) = cells.values()
    return found


def _sizes(found: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Units and features, if all weights are there and agree on them."""
    if missing := [name for name in ROLES if name not in found and name != "bias"]:
        raise ValueError(f"`source` misses {', '.join(missing)} of its PeepholeLSTMCell.")
    units, kernel = found[PEEPHOLES[0]].size, found["kernel"]
    if kernel.ndim != 2:
        raise ValueError(
            f"`kernel` must have the shape (features, {4 * units}) in a PeepholeLSTMCell of {units} "
            f"units, got {kernel.shape}."
        )
    features = kernel.shape[0]
    shapes = {
        "kernel": (features, 4 * units),
        "recurrent_kernel": (units, 4 * units),
        "bias": (4 * units,),
        **dict.fromkeys(PEEPHOLES, (units,)),
    }
    for name, array in found.items():
        if array.shape != shapes[name]:
            raise ValueError(
                f"`{name}` must have the shape {shapes[name]} in a PeepholeLSTMCell of {units} units, "
                f"got {array.shape}."
            )
    return units, features
