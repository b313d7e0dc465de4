"""The weights and options of `keras.layers.SimpleRNN`, `LSTM` and `GRU`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from kerasrnn import layers
from kerasrnn.interop._columns import assign, regate, weights_of

OURS = {
    keras.layers.SimpleRNN: layers.SimpleRNN,
    keras.layers.LSTM: layers.LSTM,
    keras.layers.GRU: layers.GRU,
}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}

Translation = Callable[[Any, Any], dict[str, np.ndarray]]


def from_keras(layer: Any) -> Any:
    """One of `kerasrnn.layers` that does what a `keras.layers.SimpleRNN`, `LSTM` or `GRU` does.

    It has the same name, options and weights. A stateful layer begins with its states at zero.

    Args:
        layer: The layer, built, or `keras.layers.Bidirectional` around it.

    Returns:
        The layer, built, within `keras.layers.Bidirectional` if it was.

    Raises:
        ValueError: If it is another kind of layer, or has no weights yet.

    Example:

    >>> import keras, kerasrnn
    >>> x = keras.ops.ones((2, 5, 3))
    >>> theirs = keras.layers.LSTM(4)
    >>> expected = theirs(x)
    >>> ours = kerasrnn.interop.from_keras(theirs)
    >>> type(ours) is kerasrnn.layers.LSTM, bool(keras.ops.all(abs(ours(x) - expected) < 1e-6))
    (True, True)
    """
    return _converted(layer, OURS, _ours)


def to_keras(layer: Any) -> Any:
    """The `keras.layers.SimpleRNN`, `LSTM` or `GRU` that does what one of `kerasrnn.layers` does.

    Args:
        layer: The layer, built, or `keras.layers.Bidirectional` around it.

    Returns:
        The layer, built, within `keras.layers.Bidirectional` if it was.

    Raises:
        ValueError: If it is another kind of layer, has no weights yet, or uses what Keras's layers do
            not have, such as zoneout; the message names it.

    Example:

    >>> import kerasrnn
    >>> ours = kerasrnn.layers.GRU(4)
    >>> ours.build((None, None, 3))
    >>> theirs = kerasrnn.interop.to_keras(ours)
    >>> theirs.reset_after, [weight.name for weight in theirs.weights]
    (False, ['kernel', 'recurrent_kernel', 'bias'])
    """
    return _converted(layer, THEIRS, _theirs)


def _converted(layer: Any, twins: Mapping[Any, Any], translated: Translation) -> Any:
    if isinstance(layer, keras.layers.Bidirectional):
        old = [layer.forward_layer, layer.backward_layer]
        forward, backward = (_twin(one, twins) for one in old)
        converted = keras.layers.Bidirectional(
            forward,
            layer.merge_mode,
            backward_layer=backward,
            name=layer.name,
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
        new = [converted.forward_layer, converted.backward_layer]
    else:
        old, converted = [layer], _twin(layer, twins)
        new = [converted]
    # The states of a stateful layer are as many as the sequences of a batch.
    batch = keras.tree.flatten(old[0].states)[0].shape[0] if old[0].stateful else None
    converted.build((batch, None, old[0].cell.kernel.shape[0]))
    for from_layer, to_layer in zip(old, new, strict=True):
        assign(to_layer.cell, translated(from_layer.cell, to_layer.cell))
    return converted


def _twin(layer: Any, twins: Mapping[Any, Any]) -> Any:
    """The other side's layer with the same options, without weights."""
    if type(layer) not in twins:
        kinds = ", ".join(
            f"{one.__module__.partition('.')[0]}.layers.{one.__name__}" for one in twins
        )
        raise ValueError(
            f"`layer` must be one of {kinds}, or Bidirectional around one; got {layer!r}."
        )
    if not layer.built:
        raise ValueError(f"`layer` {layer.name!r} has no weights yet: build it or call it.")
    twin_class = twins[type(layer)]
    config, plain = layer.get_config(), type(layer)(layer.units).get_config()
    # How it is computed is each side's own business.
    config.pop("implementation", None)
    known = {*twin_class(layer.units).get_config(), "activity_regularizer"}
    if lost := [key for key in config if key not in known and config[key] != plain.get(key)]:
        options = ", ".join(f"{key}={config[key]!r}" for key in lost)
        raise ValueError(
            f"A keras.layers.{twin_class.__name__} has no {options}, as `layer` {layer.name!r} has."
        )
    return twin_class.from_config({key: value for key, value in config.items() if key in known})


# The weights of one cell.


def _keras_gates(cell: Any) -> tuple[str, ...]:
    """The order in Keras. Only the GRU has an update gate, which keeps the old state where it is 1."""
    return tuple("-update" if gate == "update" else gate for gate in cell.gates)


def _ours(theirs: Any, ours: Any) -> dict[str, np.ndarray]:
    have, want = _keras_gates(ours), ours.gates
    weights = {name: regate(weight, have, want) for name, weight in weights_of(theirs).items()}
    if "bias" in weights and weights["bias"].ndim == 2:
        weights["bias"], weights["recurrent_bias"] = weights["bias"]
    return weights


def _theirs(ours: Any, _: Any) -> dict[str, np.ndarray]:
    have, want = ours.gates, _keras_gates(ours)
    weights = {name: regate(weight, have, want) for name, weight in weights_of(ours).items()}
    if "recurrent_bias" in weights:
        weights["bias"] = np.stack([weights["bias"], weights["recurrent_bias"]])
    return weights
