"""What every export does with a model: it looks at it, and traces it with parts of it replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any

import keras

from kerasrnn import layers

# The layers whose loops over time are known: those of all layers that do not override them.
_LOOPS = (
    *(keras.layers.RNN, keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN),
    layers.Recurrent,
)


def check_model(model: Any, export: str) -> None:
    """Refuse what is no model that can be traced.

    Args:
        model: What should be one.
        export: The name of the function that was asked to export it.

    Raises:
        ValueError: If it is not functional or Sequential, or not built, or the backend is another.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"`{export}` traces models with TensorFlow, and Keras's backend is "
            f"{keras.backend.backend()!r}: save the model and load it with KERAS_BACKEND=tensorflow."
        )
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            f"`model` must be a functional or Sequential Keras model that is built, got {model!r}."
        )


def why_not_loop(layer: Any) -> str | None:
    """Why an export cannot put something else in the place of a recurrent layer's loop over time."""
    for method in ("call", "inner_loop"):
        if not any(getattr(type(layer), method) is getattr(known, method) for known in _LOOPS):
            return (
                f"it has a `{method}` of its own, and what that does to the sequence is not known: put "
                "what is special about the layer into its cell, or into another layer before or behind "
                "it; or export the model up to there, `keras.Model(model.inputs, what_the_layer_reads)`"
            )
    shapes = [tuple(x.shape) for x in keras.tree.flatten(layer.get_initial_state(1))]
    if any(len(shape) != 2 for shape in shapes):
        return (
            f"the states of its cell have the shapes {shapes} for one sequence, and not (1, size): let "
            "the cell flatten its states"
        )
    return None


@contextlib.contextmanager
def replaced(methods: Iterable[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    """Within, these layers have other methods.

    Args:
        methods: Layers, names of methods, and what is in their places.
    """
    methods = list(methods)
    for layer, name, function in methods:
        # Past Keras, which would take a function in an attribute for a thing to track.
        object.__setattr__(layer, name, function)
    try:
        yield
    finally:
        for layer, name, _ in methods:
            object.__delattr__(layer, name)


def unique(names: Sequence[str], taken: Container[str]) -> list[str]:
    """The names, with a number where one is there already: a layer may have several outputs."""
    found: list[str] = []
    for name in names:
        free, number = name, 0
        while free in found or free in taken:
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found


def output_names(model: Any, taken: Container[str]) -> list[str]:
    """The names of a model's outputs, none of which is taken."""
    is_stack = isinstance(model, keras.Sequential)
    return unique([model.layers[-1].name] if is_stack else model.output_names, taken)


def in_its_form(model: Any, tensors: Sequence[Any]) -> Any:
    """The inputs, one after the other, as the model takes them."""
    if isinstance(model, keras.Sequential):
        return tensors[0]
    return keras.tree.pack_sequence_as(model.input, list(tensors))
