"""Problems of memory: adding, copying, temporal order and parity; and what all problems share."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

Dataset = Any


def adding(*, length: int = 100, examples: int = 10_000, seed: int = 0) -> Dataset:
    """The adding problem: the sum of the two marked numbers of a long sequence.

    Hochreiter & Schmidhuber 1997, experiment 4 (https://doi.org/10.1162/neco.1997.9.8.1735), in the
    form of Arjovsky et al. 2016 (https://arxiv.org/abs/1511.06464): numbers from 0 to 1, sequences
    of one length, one mark in the first half and one in the second, and the sum itself as the
    target.

    Always saying 1 has the mean squared error 1/6 = 0.167.

    Args:
        length: The steps of each sequence, at least 2.
        examples: How many there are, at least 0.
        seed: The same seed gives the same examples. At least 0.

    Returns:
        A `tf.data.Dataset` of `(inputs, targets)`: float32 `(length, 2)`, a number and its mark, 1
        or 0, at each step; and float32 `(1,)`, for mean squared error.

    Raises:
        ValueError: If an argument is not an integer, or is too small.

    Example:

    >>> import kerasrnn
    >>> data = kerasrnn.datasets.adding(length=50, examples=100, seed=1)
    >>> for inputs, targets in data.batch(20).take(1).as_numpy_iterator():
    ...     print(inputs.shape, targets.shape)
    ...     numbers, marks = inputs[0].T
    ...     print(marks.sum(), abs(numbers @ marks - targets[0, 0]) < 1e-6)
    (20, 50, 2) (20, 1)
    2.0 True
    """
    length = integer("length", length, 2)
    examples, random = drawn(examples, seed)
    numbers = random.random((examples, length), np.float32)
    half = length // 2
    marked = random.integers([0, half], [half, length], (examples, 2))
    marks = np.zeros_like(numbers)
    np.put_along_axis(marks, marked, 1.0, axis=1)
    sums = np.take_along_axis(numbers, marked, axis=1).sum(axis=1, keepdims=True)
    return dataset(np.stack([numbers, marks], axis=2), sums)


def copy_memory(
    *, delay: int = 100, items: int = 10, alphabet: int = 8, examples: int = 10_000, seed: int = 0
) -> Dataset:
    """The copy memory problem: say again, after a long delay, the symbols seen at the beginning.

    The long time lags of Hochreiter & Schmidhuber 1997 (https://doi.org/10.1162/neco.1997.9.8.1735)
    in the form of Arjovsky et al. 2016 (https://arxiv.org/abs/1511.06464): `items` symbols,
    `delay - 1` blanks, the signal to begin, and blanks for as long as the answer takes. The targets
    are blanks, and in the last `items` steps the symbols in their order.

    Saying blanks and guessing the symbols at the end has the cross-entropy
    `items * log(alphabet) / (delay + 2 * items)`: 0.173 by default.

    Args:
        delay: The steps from the last symbol to the signal, at least 1.
        items: The symbols to remember, at least 1.
        alphabet: How many different symbols there are, at least 1.
        examples: How many there are, at least 0.
        seed: The same seed gives the same examples. At least 0.

    Returns:
        A `tf.data.Dataset` of `(inputs, targets)`, with `steps = delay + 2 * items`: float32
        `(steps, alphabet + 2)`, one-hot, the symbols first, then the blank (number `alphabet`) and
        the signal (`alphabet + 1`); and int32 `(steps,)`, the number of a symbol or of the blank at
        each step, for sparse categorical cross-entropy with `alphabet + 1` classes or more.

    Raises:
        ValueError: If an argument is not an integer, or is too small.

    Example:

    >>> import kerasrnn
    >>> data = kerasrnn.datasets.copy_memory(delay=3, items=2, alphabet=1, examples=1)
    >>> inputs, targets = next(data.as_numpy_iterator())
    >>> inputs.argmax(axis=1).tolist()
    [0, 0, 1, 1, 2, 1, 1]
    >>> targets.tolist()
    [1, 1, 1, 1, 1, 0, 0]
    """
    delay, items = integer("delay", delay, 1), integer("items", items, 1)
    alphabet = integer("alphabet", alphabet, 1)
    examples, random = drawn(examples, seed)
    blank, signal = alphabet, alphabet + 1
    seen = np.full((examples, delay + 2 * items), blank, np.int32)
    targets = seen.copy()
    seen[:, :items] = targets[:, -items:] = random.integers(0, alphabet, (examples, items))
    seen[:, items + delay - 1] = signal
    return dataset(seen, targets, finish=one_hot_inputs(alphabet + 2))


# Where the marks of the temporal order problem may stand, in hundredths of the sequence.
_PLACES = {2: ((10, 20), (50, 60)), 3: ((10, 20), (33, 43), (66, 76))}


def temporal_order(
    *, length: int = 100, marks: int = 2, examples: int = 10_000, seed: int = 0
) -> Dataset:
    """The temporal order problem: tell the order of a few X and Y, far apart among distractors.

    Hochreiter & Schmidhuber 1997, experiments 6a (two marks) and 6b (three)
    (https://doi.org/10.1162/neco.1997.9.8.1735). A sequence starts with E, ends with B and is
    otherwise of a, b, c, d at random, but for the marks, each X or Y. They stand, in hundredths of
    the sequence, at 10 to 20 and 50 to 60; or, three of them, at 10 to 20, 33 to 43 and 66 to 76.
    Here all sequences have one length; in the paper it varies by a tenth.

    Guessing is right in 1 of `2 ** marks` cases; its cross-entropy is `marks * log(2)`.

    Args:
        length: The steps of each sequence, at least 10.
        marks: 2 or 3.
        examples: How many there are, at least 0.
        seed: The same seed gives the same examples. At least 0.

    Returns:
        A `tf.data.Dataset` of `(inputs, targets)`: float32 `(length, 8)`, one-hot over `abcdXYEB`;
        and int32 `()`, the class, for sparse categorical cross-entropy. The class is the marks read
        as a binary number, X as 0 and Y as 1: XX, XY, YX, YY are 0, 1, 2, 3.

    Raises:
        ValueError: If an argument is not an integer, or not an allowed one.

    Example:

    >>> import kerasrnn
    >>> data = kerasrnn.datasets.temporal_order(length=20, examples=100, seed=1)
    >>> inputs, target = next(data.as_numpy_iterator())
    >>> text = "".join("abcdXYEB"[number] for number in inputs.argmax(axis=1))
    >>> marks = [symbol for symbol in text if symbol in "XY"]
    >>> text[0], text[-1], ["XX", "XY", "YX", "YY"][target] == "".join(marks)
    ('E', 'B', True)
    """
    length = integer("length", length, 10)
    marks = integer("marks", marks, 2, 3)
    examples, random = drawn(examples, seed)
    symbols = random.integers(0, 4, (examples, length), np.int32)
    symbols[:, 0], symbols[:, -1] = 6, 7
    kinds = random.integers(0, 2, (examples, marks), np.int32)
    for number, (low, high) in enumerate(_PLACES[marks]):
        place = random.integers(low * length // 100, high * length // 100, examples)
        symbols[np.arange(examples), place] = 4 + kinds[:, number]
    classes = kinds @ (2 ** np.arange(marks - 1, -1, -1, dtype=np.int32))
    return dataset(symbols, classes, finish=one_hot_inputs(8))


def parity(*, length: int = 50, examples: int = 10_000, seed: int = 0) -> Dataset:
    """The parity problem: tell whether the number of ones in a sequence of bits is odd.

    An old problem for recurrent networks, taken up by Hochreiter & Schmidhuber 1996
    (https://papers.nips.cc/paper/1215-lstm-can-solve-hard-long-time-lag-problems). No part of the
    sequence, however large, tells anything of the answer.

    Guessing is right in 1 of 2 cases; always saying 0.5 has the binary cross-entropy
    `log(2) = 0.693`.

    Args:
        length: The steps of each sequence, at least 1.
        examples: How many there are, at least 0.
        seed: The same seed gives the same examples. At least 0.

    Returns:
        A `tf.data.Dataset` of `(inputs, targets)`: float32 `(length, 1)`, each 0 or 1; and float32
        `(1,)`, 1 if the ones are odd in number and else 0, for binary cross-entropy.

    Raises:
        ValueError: If an argument is not an integer, or is too small.

    Example:

    >>> import kerasrnn
    >>> data = kerasrnn.datasets.parity(length=20, examples=100, seed=1)
    >>> all(bits.sum() % 2 == odd for bits, odd in data.as_numpy_iterator())
    True
    """
    length = integer("length", length, 1)
    examples, random = drawn(examples, seed)
    bits = random.integers(0, 2, (examples, length, 1)).astype(np.float32)
    return dataset(bits, bits.sum(axis=1) % 2)


# What all problems share.


def integer(name: str, value: Any, least: int, most: float = math.inf) -> int:
    """The argument `name` as an integer within its bounds, or a clear word on what it must be."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        bounds = f"at least {least}" if most == math.inf else f"from {least} to {most}"
        raise ValueError(f"`{name}` must be an integer, {bounds}; got {value!r}.")
    return number


def drawn(examples: int, seed: int) -> tuple[int, np.random.Generator]:
    """How many examples there are to draw, and what draws them."""
    generator = np.random.default_rng(integer("seed", seed, 0))
    return integer("examples", examples, 0), generator


def dataset(*arrays: np.ndarray, finish: Callable[..., Any] | None = None) -> Dataset:
    """The rows of the arrays, one at a time; `finish` makes an example of one row of each."""
    import tensorflow as tf

    # In main memory even where there is a GPU, whose memory is for the model.
    with tf.device("CPU:0"):
        rows = tf.data.Dataset.from_tensor_slices(arrays)
        return rows.map(finish) if finish else rows


def one_hot_inputs(size: int) -> Callable[[Any, Any], Any]:
    """A way to finish `(symbols, targets)`: late, as one-hot vectors are `size` times as large."""
    import tensorflow as tf

    return lambda symbols, targets: (tf.one_hot(symbols, size), targets)
