"""What the models are made of: recurrent layers of any cell, seeds, and checks of their arguments."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kerasrnn import cells
from kerasrnn.layers import Recurrent


def recurrent_layer(
    cell: str,
    units: int,
    *,
    bidirectional: bool,
    seed: int,
    dtype: Any,
    recurrent_dropout: float = 0.0,
    recurrent_dropout_form: str = "state",
    return_sequences: bool = True,
    **options: Any,
) -> Any:
    """A layer of any registered cell, in one direction or both.

    Args:
        cell: The registered name of the cell.
        units: The units in each direction.
        bidirectional: Whether to read backwards too.
        seed: Of the weights and dropouts.
        dtype: The dtype policy.
        recurrent_dropout, recurrent_dropout_form: The cell's.
        return_sequences: Whether to give the outputs at all steps.
        **options: Further arguments of `Recurrent`.
    """
    parameters = cells.info(cell).cell_class.parameters()

    def direction(number: int) -> Recurrent:
        # A seed for each, or both directions would start as the same network.
        own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        extra: dict[str, Any] = {}
        if parameters["recurrent_initializer"].default == "orthogonal":
            extra["recurrent_initializer"] = keras.initializers.Orthogonal(seed=own)
        if "project_input" in parameters:  # The words' vectors are of another size.
            extra["project_input"] = True
        one = cells.get(
            cell,
            units,
            recurrent_dropout=recurrent_dropout,
            recurrent_dropout_form=recurrent_dropout_form,
            seed=own,
            kernel_initializer=keras.initializers.GlorotUniform(seed=own),
            dtype=dtype,
            **extra,
        )
        return Recurrent(
            one,
            return_sequences=return_sequences,
            go_backwards=bool(number),
            dtype=dtype,
            **options,
        )

    if not bidirectional:
        return direction(0)
    return keras.layers.Bidirectional(direction(0), backward_layer=direction(1), dtype=dtype)


def seeds(seed: int | None, count: int) -> Iterator[int]:
    """Seeds for the parts of a model: each draws from a stream of its own, none the same as another.

    Without a seed of its own the model follows `keras.utils.set_random_seed`, as Keras's do.

    Raises:
        ValueError: If the seed is not a whole number.
    """
    if seed is not None and (not isinstance(seed, (int, np.integer)) or seed < 0):
        raise ValueError(f"`seed` must be a whole number, at least 0, or None; got {seed!r}.")
    root = np.random.SeedSequence(random.getrandbits(32) if seed is None else seed)
    return iter(root.generate_state(count).tolist())


def check_counts(**values: Any) -> None:
    """Refuse what is not a positive integer, by name."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")


def check_rates(**values: Any) -> None:
    """Refuse what is not a fraction below 1, by name."""
    for name, rate in values.items():
        if not 0 <= rate < 1:
            raise ValueError(f"`{name}` must be at least 0 and less than 1, got {rate!r}.")


def check_texts(texts: Sequence[str]) -> None:
    """Refuse one string where a list of them is meant, and what is no string."""
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"`texts` must be a list of strings, got the one string {texts[:80]!r}.")
    if wrong := [text for text in texts if not isinstance(text, (str, bytes))]:
        raise ValueError(f"`texts` must be a list of strings, got {wrong[0]!r} in it.")


def check_names(least: int, **values: Sequence[str]) -> None:
    """Refuse one string where several names are meant, fewer than `least`, and repetitions."""
    for name, given in values.items():
        if isinstance(given, str):
            raise ValueError(f"`{name}` must be a list of words, got the one string {given!r}.")
        if len(given) < least:
            raise ValueError(f"`{name}` must hold at least {least} names, got {list(given)!r}.")
        repeated = [word for word, count in Counter(given).items() if count > 1]
        if repeated:
            raise ValueError(f"`{name}` must all be different, but {repeated[0]!r} is there twice.")
