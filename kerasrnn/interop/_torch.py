"""The weights of `torch.nn.RNN`, `torch.nn.LSTM` and `torch.nn.GRU`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from kerasrnn import cells, layers
from kerasrnn.interop._columns import assign, regate, weights_of
from kerasrnn.layers._library import FORMS

PLAIN = {"layer_norm": False, "zoneout": 0.0}
GATED = {**PLAIN, "activation": "tanh", "recurrent_activation": "sigmoid"}


class Mode(NamedTuple):
    """What one of PyTorch's modes is here: the layer, what its cell must be, PyTorch's gates."""

    layer_class: Any
    arguments: dict[str, Any]
    gates: tuple[str, ...]


MODES = {
    "RNN_TANH": Mode(layers.SimpleRNN, {**PLAIN, "activation": "tanh"}, ("candidate",)),
    "RNN_RELU": Mode(layers.SimpleRNN, {**PLAIN, "activation": "relu"}, ("candidate",)),
    "LSTM": Mode(layers.LSTM, GATED, FORMS[cells.LSTMCell].gates),
    "GRU": Mode(layers.GRU, {**GATED, "reset_after": True}, FORMS[cells.GRUCell].gates),
}
CLASSES = {mode.layer_class.cell_class for mode in MODES.values()}

# Our names and PyTorch's. Only the GRU has the second bias here; elsewhere the two are added.
NAMES = {
    "kernel": "weight_ih",
    "recurrent_kernel": "weight_hh",
    "bias": "bias_ih",
    "recurrent_bias": "bias_hh",
}


class Stack(NamedTuple):
    """What PyTorch calls a module of `num_layers` layers, by its arguments."""

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool

    def features(self, level: int) -> int:
        """The features that a level reads."""
        return self.hidden_size * (1 + self.bidirectional) if level else self.input_size

    def suffixes(self, level: int) -> list[str]:
        """What follows the names of a level's weights, forward and, if there is one, backward."""
        return [f"_l{level}", f"_l{level}_reverse"][: 1 + self.bidirectional]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all weights by their names."""
        rows = len(MODES[self.mode].gates) * self.hidden_size
        found: dict[str, tuple[int, ...]] = {}
        for level in range(self.num_layers):
            for suffix in self.suffixes(level):
                found["weight_ih" + suffix] = (rows, self.features(level))
                found["weight_hh" + suffix] = (rows, self.hidden_size)
                biases = ("bias_ih", "bias_hh") if self.bias else ()
                found |= {bias + suffix: (rows,) for bias in biases}
        return found


def from_torch(
    source: Any,
    into: Any = None,
    *,
    prefix: str = "",
    nonlinearity: str | None = None,
    dtype: Any = None,
) -> Any:
    """Layers with the weights of a `torch.nn.RNN`, `torch.nn.LSTM` or `torch.nn.GRU`.

    They give the same outputs, batch first: `(batch, time, features)` goes in, `(batch, time, units)` comes
    out, or `2 * units` where the module is bidirectional. The two biases of an LSTM or an RNN are added
    to one. PyTorch need not be installed where `source` is a mapping of arrays.

    Args:
        source: A module, one that holds it among others, or its state dict: a mapping of names to
            tensors or arrays.
        into: Layers whose weights are to be set, from the lowest to the highest, a list or a
            `keras.Sequential`, with `keras.layers.Bidirectional` around them where the module is
            bidirectional. Dropout may lie between them. By default new layers are made.
        prefix: What comes before the names of the module's weights, such as `"encoder"`, where
            `source` holds more than one module.
        nonlinearity: Of a `torch.nn.RNN`, `"tanh"` or `"relu"`. A module says it itself; of a state dict,
            which does not, the default is `"tanh"`.
        dtype: The dtype (or dtype policy) of new layers.

    Returns:
        `into`, or a built `keras.Sequential` of `kerasrnn.layers`, with `return_sequences=True` and
        a module's dropout between them.

    Raises:
        ValueError: If names are missing or unknown, shapes do not fit, `into` is another network, or
            the module has a projection (`proj_size`), which no cell here has; the message says which.

    Example:

    >>> import numpy as np, kerasrnn
    >>> names = {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "bias_ih_l0": (16,), "bias_hh_l0": (16,)}
    >>> state = {name: np.ones(shape, "float32") for name, shape in names.items()}
    >>> lstm = kerasrnn.interop.from_torch(state)
    >>> lstm.layers[0].units, lstm(np.ones((2, 5, 3), "float32")).shape == (2, 5, 4)
    (4, True)
    """
    is_module = hasattr(source, "state_dict")
    everything = source.state_dict() if is_module else source
    if not isinstance(everything, Mapping):
        raise ValueError(
            "`source` must be a PyTorch module or a mapping of names to arrays, "
            f"got {type(source).__name__}."
        )
    prefix = prefix if prefix.endswith(".") or not prefix else prefix + "."
    state = _chosen(everything, prefix)
    module = source.get_submodule(prefix[:-1]) if is_module else None
    of_module = getattr(module, "nonlinearity", "tanh")
    stack = _read(state, of_module if nonlinearity is None else nonlinearity)
    if into is None:
        into = _new(stack, float(getattr(module, "dropout", 0.0)), dtype)
    levels = _levels("into", into)
    for number, level in enumerate(levels):
        for layer in level:
            if not layer.built:
                layer.build((None, None, stack.features(number)))
    if (found := _described("into", levels)) != stack:
        raise ValueError(f"`into` is a {found}, and the weights are of a {stack}.")
    gates = MODES[stack.mode].gates
    for number, level in enumerate(levels):
        for layer, suffix in zip(level, stack.suffixes(number), strict=True):
            assign(layer.cell, _ours(state, suffix, gates, layer.cell))
    return into


def to_torch(layers: Any, *, as_module: bool = False) -> Any:
    """The weights of layers as the state dict of a `torch.nn.RNN`, `torch.nn.LSTM` or `torch.nn.GRU`.

    Args:
        layers: One of `kerasrnn.layers.SimpleRNN`, `LSTM` and `GRU` (with `reset_after=True`), or several
            that lie upon each other, a list or a `keras.Sequential`, all alike, with
            `keras.layers.Bidirectional` around each or none. Dropout between them is left out.
        as_module: Whether to return a PyTorch module, with `batch_first=True`. It needs PyTorch.

    Returns:
        NumPy arrays by PyTorch's names, or the module. Of the two biases that PyTorch has, the second is
        zero where there is one here.

    Raises:
        ValueError: If PyTorch has no such module: another cell, other activations, zoneout, layer
            normalisation, learned initial states, `go_backwards`, layers that are not alike.
        ImportError: If a module is wanted and PyTorch is not installed.

    Example:

    >>> import kerasrnn
    >>> layer = kerasrnn.layers.GRU(4, reset_after=True)
    >>> layer.build((None, None, 3))
    >>> for name, array in kerasrnn.interop.to_torch(layer).items():
    ...     print(name, array.shape)
    weight_ih_l0 (12, 3)
    weight_hh_l0 (12, 4)
    bias_ih_l0 (12,)
    bias_hh_l0 (12,)
    """
    levels = _levels("layers", layers)
    stack = _described("layers", levels)
    gates = MODES[stack.mode].gates
    state: dict[str, np.ndarray] = {}
    for number, level in enumerate(levels):
        for layer, suffix in zip(level, stack.suffixes(number), strict=True):
            state |= _theirs(layer.cell, suffix, gates)
    return _module(stack, state) if as_module else state


# From the names to the stack.


def _chosen(everything: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with the prefix, without it."""
    names = [name for name in everything if name.startswith(prefix)]
    if prefix + "weight_ih_l0" not in names or prefix + "weight_hh_l0" not in names:
        end = "weight_ih_l0"
        prefixes = [name.removesuffix(end) for name in everything if name.endswith(end)]
        hint = (
            f"Names that end so have `prefix` {' or '.join(map(repr, prefixes))}."
            if prefixes
            else f"It must be a torch.nn.RNN, LSTM or GRU; got {', '.join(everything) or 'nothing'}."
        )
        raise ValueError(f"`source` has no {prefix}weight_ih_l0 and {prefix}weight_hh_l0. {hint}")
    return {name.removeprefix(prefix): _array(everything[name]) for name in names}


def _array(value: Any) -> np.ndarray:
    """A tensor or an array in float64, which holds every number of the smaller dtypes."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, dtype="float64")


def _read(state: Mapping[str, np.ndarray], nonlinearity: str) -> Stack:
    """The stack whose weights these are, all of them and no others."""
    if any(name.startswith("weight_hr_l") for name in state):
        raise ValueError(
            "`source` is an LSTM with a projection (`proj_size`, the weights weight_hr_l...), which no "
            "cell here has."
        )
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f'`nonlinearity` must be "tanh" or "relu", got {nonlinearity!r}.')
    by_gates = {
        1: f"RNN_{nonlinearity.upper()}",
        **{len(MODES[name].gates): name for name in ("GRU", "LSTM")},
    }
    outer, inner = state["weight_ih_l0"], state["weight_hh_l0"]
    rows, units = inner.shape if inner.ndim == 2 else (0, 0)
    gates = rows // max(units, 1)
    if outer.ndim != 2 or rows % max(units, 1) or gates not in by_gates:
        raise ValueError(
            "`weight_hh_l0` must have the shape (gates * units, units), with 1, 3 or 4 gates, and "
            f"`weight_ih_l0` (gates * units, features); got {inner.shape} and {outer.shape}."
        )
    stack = Stack(
        mode=by_gates[gates],
        input_size=outer.shape[1],
        hidden_size=units,
        num_layers=sum(name.startswith("weight_ih_l") and name[11:].isdigit() for name in state),
        bias="bias_ih_l0" in state,
        bidirectional="weight_ih_l0_reverse" in state,
    )
    wanted = stack.shapes()
    for what, names in (
        ("misses", [name for name in wanted if name not in state]),
        ("has the unknown", [name for name in state if name not in wanted]),
    ):
        if names:
            raise ValueError(f"`source`, a {stack}, {what} {', '.join(names)}.")
    for name, shape in wanted.items():
        if state[name].shape != shape:
            raise ValueError(
                f"`{name}` of a {stack} must have the shape {shape}, got {state[name].shape}."
            )
    return stack


# From the stack to layers, and from layers to the stack.


def _new(stack: Stack, dropout: float, dtype: Any) -> keras.Sequential:
    """New layers for a stack."""
    layer_class, arguments, _ = MODES[stack.mode]
    stacked: list[Any] = []
    for level in range(stack.num_layers):
        if level and dropout:
            stacked.append(keras.layers.Dropout(dropout, dtype=dtype))
        layer = layer_class(
            stack.hidden_size, use_bias=stack.bias, return_sequences=True, dtype=dtype, **arguments
        )
        if stack.bidirectional:
            layer = keras.layers.Bidirectional(layer, dtype=dtype)
        stacked.append(layer)
    start = keras.Input((None, stack.input_size), dtype=stacked[0].compute_dtype)
    return keras.Sequential([start, *stacked])


def _levels(argument: str, given: Any) -> list[list[Any]]:
    """The recurrent layers from the lowest to the highest, each with its backward one if there is one."""
    if isinstance(given, keras.Sequential):
        given = given.layers
    levels = []
    for layer in given if isinstance(given, (list, tuple)) else [given]:
        if isinstance(layer, keras.layers.RNN):
            levels.append([layer])
        elif isinstance(layer, keras.layers.Bidirectional) and layer.merge_mode == "concat":
            levels.append([layer.forward_layer, layer.backward_layer])
        elif not isinstance(layer, keras.layers.Dropout):
            raise ValueError(
                f"`{argument}` must be recurrent layers, a list of them or a keras.Sequential, with "
                f'`Bidirectional(..., merge_mode="concat")` around each or none; got {layer!r}.'
            )
    if not levels:
        raise ValueError(f"`{argument}` holds no recurrent layer, got {given!r}.")
    return levels


def _described(argument: str, levels: list[list[Any]]) -> Stack:
    """The stack that the layers are, if PyTorch has such a one."""
    rows = []
    for level in levels:
        for backward, layer in enumerate(level):
            mode = _mode(layer, bool(backward))
            if not layer.built:
                raise ValueError(
                    f"The layer {layer.name!r} of `{argument}` has no weights yet: build it or call it."
                )
            features = layer.cell.kernel.shape[0]
            rows.append((mode, features, layer.cell.units, layer.cell.use_bias))
    mode, features, units, bias = rows[0]
    stack = Stack(mode, features, units, len(levels), bias, len(levels[0]) == 2)
    alike = [
        (mode, stack.features(number), units, bias)
        for number in range(len(levels))
        for _ in stack.suffixes(number)
    ]
    if rows != alike:
        raise ValueError(
            f"`{argument}` must be alike in all levels and directions, as PyTorch's are; got, as (mode, "
            f"features, units, bias), {', '.join(map(str, rows))}."
        )
    return stack


def _mode(layer: Any, backward: bool) -> str:
    """Which of PyTorch's modes a layer is."""
    cell: Any = getattr(layer, "cell", None)
    if type(cell) not in CLASSES:
        raise ValueError(
            f"PyTorch has no layer like {layer.name!r}, of a {type(cell).__name__}: it has those of "
            "SimpleRNNCell, LSTMCell and GRUCell of kerasrnn.cells. `from_keras` makes them from "
            "keras.layers.SimpleRNN, LSTM and GRU."
        )
    around = {
        "go_backwards": (layer.go_backwards, backward),
        "initial_state": (getattr(layer, "initial_state", "zeros"), "zeros"),
    }
    config, obstacles = cell.get_config(), {}
    for name, mode in MODES.items():
        if mode.layer_class.cell_class is type(cell):
            pairs = {key: (config[key], value) for key, value in mode.arguments.items()} | around
            obstacles[name] = [
                f"{key}={has!r}" for key, (has, needs) in pairs.items() if has != needs
            ]
    nearest = min(obstacles, key=lambda name: len(obstacles[name]))
    if wrong := obstacles[nearest]:
        raise ValueError(f"PyTorch has no layer like {layer.name!r}, with {', '.join(wrong)}.")
    return nearest


# The weights of one cell.


def _ours(
    state: Mapping[str, np.ndarray], suffix: str, gates: tuple[str, ...], cell: Any
) -> dict[str, np.ndarray]:
    weights = {
        role: regate(state[name + suffix].T, gates, cell.gates)
        for role, name in NAMES.items()
        if name + suffix in state
    }
    if "bias" in weights and getattr(cell, "recurrent_bias", None) is None:
        weights["bias"] = weights["bias"] + weights["recurrent_bias"]
    return weights


def _theirs(cell: Any, suffix: str, gates: tuple[str, ...]) -> dict[str, np.ndarray]:
    weights = weights_of(cell)
    if "bias" in weights:
        weights.setdefault("recurrent_bias", np.zeros_like(weights["bias"]))
    return {
        name + suffix: np.ascontiguousarray(regate(weights[role], cell.gates, gates).T)
        for role, name in NAMES.items()
        if role in weights
    }


def _module(stack: Stack, state: Mapping[str, np.ndarray]) -> Any:
    import torch

    arguments = {key: value for key, value in stack._asdict().items() if key != "mode"}
    name, _, nonlinearity = stack.mode.partition("_")
    if nonlinearity:
        arguments["nonlinearity"] = nonlinearity.lower()
    tensors = {key: torch.from_numpy(array) for key, array in state.items()}
    dtype = tensors["weight_ih_l0"].dtype
    module = getattr(torch.nn, name)(**arguments, batch_first=True, dtype=dtype)
    module.load_state_dict(tensors)
    return module
