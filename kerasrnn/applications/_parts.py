"""What the models are made of: recurrent layers of any cell, seeds, and checks of their arguments."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from numbers import Real
from typing import Any

import keras
import numpy as np

from kerasrnn import cells
from kerasrnn.applications.text import LEVELS
from kerasrnn.layers import Recurrent

# What no token of a level has in it: white space is what parts words, and Keras's table of strings reads
# no further than a zero character.
NO_TOKEN = {"word": re.compile(r"[ \t-\r\0]"), "character": re.compile(r"\0")}


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
    check_seed(seed)
    root = np.random.SeedSequence(random.getrandbits(32) if seed is None else seed)
    return iter(root.generate_state(count).tolist())


def check_counts(least: int = 1, /, **values: Any) -> None:
    """Refuse what is not a whole number of at least `least`, by name."""
    for name, value in values.items():
        if not _is_whole(value, least):
            kind = "a positive integer" if least == 1 else f"a whole number, at least {least}"
            raise ValueError(f"`{name}` must be {kind}, got {value!r}.")


def check_seed(seed: Any) -> None:
    """Refuse what is neither None nor a whole number that a seed can be."""
    if seed is not None and not _is_whole(seed, 0):
        raise ValueError(f"`seed` must be a whole number, at least 0, or None; got {seed!r}.")


def _is_whole(value: Any, least: int) -> bool:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and value >= least


def check_numbers(**values: Any) -> None:
    """Refuse what is not a finite number of at least 0, by name."""
    for name, value in values.items():
        if not (isinstance(value, Real) and 0 <= float(value) < math.inf):
            raise ValueError(f"`{name}` must be a number of at least 0, got {value!r}.")


def check_rates(**values: Any) -> None:
    """Refuse what is not a fraction below 1, by name."""
    for name, rate in values.items():
        if not (isinstance(rate, Real) and 0 <= float(rate) < 1):
            raise ValueError(f"`{name}` must be at least 0 and less than 1, got {rate!r}.")


def check_texts(texts: Iterable[Any]) -> list[Any]:
    """The texts as a list. Refuse one string where several are meant, and what is no string of Unicode."""
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"`texts` must be a list of strings, got the one string {texts[:80]!r}.")
    texts = list(texts)
    if wrong := [text for text in texts if not isinstance(text, (str, bytes))]:
        raise ValueError(f"`texts` must be a list of strings, got {wrong[0]!r} in it.")
    for text in texts:
        if isinstance(text, str):
            check_unicode(texts=text)
    return texts


def check_unicode(**texts: str) -> None:
    """Refuse a string with half a character (a lone surrogate) in it, by name."""
    for name, text in texts.items():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"`{name}` has half a character, {text[error.start]!r}, at place {error.start}, which "
                "UTF-8 cannot write: leave it out, or put another in its place."
            ) from None


def check_tokens(vocabulary: Sequence[str], level: str) -> None:
    """Refuse an unknown level, and tokens that no text of that level can have."""
    if level not in LEVELS:
        raise ValueError(f"`level` must be one of {LEVELS}, got {level!r}.")
    for token in vocabulary:
        if not isinstance(token, str) or not token:
            raise ValueError(f"`vocabulary` must hold strings that are not empty, got {token!r}.")
        if level == "character" and len(token) != 1:
            raise ValueError(
                f"`vocabulary` must hold single characters at the level of characters, got {token!r}."
            )
        if NO_TOKEN[level].search(token):
            raise ValueError(
                f"`vocabulary` holds {token!r}: white space parts words, and the zero character can be in "
                "no token. Leave it out."
            )


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
