"""Formal languages: the embedded Reber grammar, a^n b^n, a^n b^n c^n and Dyck words.

One symbol of a string is shown at a time, and the target is the set of those that may come next. A
language is given by a table: for each state that a reader of the string may be in, that set.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kerasrnn.datasets._problems import Dataset, dataset, drawn, integer

_OVER = -1  # The symbol and the state of the padding.

_REBER_SYMBOLS = "BTPSXVE"
# Reber's grammar: for each state the symbols that may come, and the state that each leads to.
_REBER = ("B1", "T2 P3", "S2 X4", "T3 V5", "X3 S6", "P4 V6", "E7")


def embedded_reber(*, max_length: int = 40, examples: int = 10_000, seed: int = 0) -> Dataset:
    """The embedded Reber grammar: tell which symbols may follow.

    Hochreiter & Schmidhuber 1997, experiment 1 (https://doi.org/10.1162/neco.1997.9.8.1735). A
    string is B, then T or P, then a string of Reber's grammar, then the same T or P again, then E.
    Where two symbols may follow, each comes with the chance 1/2. Only who remembers the second
    symbol knows the last but one: who does not is right there in 1 of 2 cases.

    Args:
        max_length: The symbols of the longest string, at least 9, which is the shortest. One that
            gets longer is drawn anew; by default 1 in 18,000 does.
        examples: How many there are, at least 0.
        seed: The same seed gives the same examples. At least 0.

    Returns:
        A `tf.data.Dataset` of `(inputs, targets, sample_weights)`, with `steps = max_length - 1`:
        float32 `(steps, 7)`, one-hot over `BTPSXVE`, the string without its last E; float32
        `(steps, 7)`, 1 for each symbol that may come next and else 0, for binary cross-entropy; and
        float32 `(steps,)`, 1 in the string and 0 in the padding.

    Raises:
        ValueError: If an argument is not an integer, or is too small.

    Example:

    >>> import kerasrnn
    >>> data = kerasrnn.datasets.embedded_reber(examples=100, seed=1)
    >>> inputs, targets, weights = next(data.as_numpy_iterator())
    >>> inputs.shape, targets.shape, weights.shape
    ((39, 7), (39, 7), (39,))
    >>> ["".join(symbol for symbol, may in zip("BTPSXVE", row) if may) for row in targets[:3]]
    ['TP', 'B', 'TP']
    """
    steps = integer("max_length", max_length, 9) - 1
    examples, random = drawn(examples, seed)
    # A state with one arc has it twice, so that a coin chooses the arc in every state.
    arcs = [arc if len(arc) == 2 else 2 * arc for arc in _embedded_reber_arcs()]
    symbol_of, state_after = np.moveaxis(np.array(arcs), 2, 0)
    allowed = np.zeros((len(arcs), len(_REBER_SYMBOLS)), np.float32)
    allowed[np.arange(len(arcs))[:, None], symbol_of] = 1.0

    last = len(arcs) - 1  # After it E ends the string.
    symbols = np.empty((0, steps), np.int32)
    states = symbols
    while len(symbols) < examples:
        coins = random.integers(0, 2, (examples, steps))
        some_symbols = np.full((examples, steps), _OVER, np.int32)
        some_states = some_symbols.copy()
        state = np.zeros(examples, np.int32)
        for step, coin in enumerate(coins.T):
            goes_on = state != last
            some_symbols[goes_on, step] = symbol_of[state, coin][goes_on]
            state[goes_on] = state_after[state, coin][goes_on]
            some_states[goes_on, step] = state[goes_on]
        symbols = np.concatenate([symbols, some_symbols[state == last]])
        states = np.concatenate([states, some_states[state == last]])
    return _next_symbols(symbols[:examples], states[:examples], allowed)


def _embedded_reber_arcs() -> list[list[tuple[int, int]]]:
    """For each state its arcs: the number of a symbol, and of the state after it."""
    number = {symbol: place for place, symbol in enumerate(_REBER_SYMBOLS)}
    inner = [[(number[arc[0]], int(arc[1:])) for arc in state.split()] for state in _REBER]
    size = len(inner) + 1  # A grammar within, and the state that waits for its T or P.
    last = 2 + 2 * size
    arcs = [[(number["B"], 1)], [(number["T"], 2), (number["P"], 2 + size)]]
    for name, start in (("T", 2), ("P", 2 + size)):
        arcs += [[(symbol, start + after) for symbol, after in state] for state in inner]
        arcs.append([(number[name], last)])
    return [*arcs, [(number["E"], last)]]


def anbn(*, min_n: int = 1, max_n: int = 10, examples: int = 10_000, seed: int = 0) -> Dataset:
    """The context-free language a^n b^n: tell which symbols may follow.

    Gers & Schmidhuber 2001 (https://doi.org/10.1109/72.963769). S starts a string and T ends it.
    After S may come a or T, after an a again a or b; then the count decides: n times b, then T. Who
    does not count cannot know when T comes. Test with greater n than in training.

    Args:
        min_n: The least n, at least 1. Each n is as likely as any other.
        max_n: The greatest n, at least `min_n`. The targets do not know of it.
        examples: How many there are, at least 0.
        seed: The same seed gives the same examples. At least 0.

    Returns:
        A `tf.data.Dataset` of `(inputs, targets, sample_weights)`, with `steps = 2 * max_n + 1`:
        float32 `(steps, 3)`, one-hot over `abS`; float32 `(steps, 3)`, 1 for each of `abT` that
        may come next and else 0, for binary cross-entropy; and float32 `(steps,)`, 1 in the string
        and 0 in the padding.

    Raises:
        ValueError: If an argument is not an integer, or not an allowed one.

    Example:

    >>> import kerasrnn
    >>> data = kerasrnn.datasets.anbn(min_n=2, max_n=2, examples=1)
    >>> inputs, targets, weights = next(data.as_numpy_iterator())
    >>> "".join("abS"[number] for number in inputs.argmax(axis=1))
    'Saabb'
    >>> ["".join(symbol for symbol, may in zip("abT", row) if may) for row in targets]
    ['aT', 'ab', 'ab', 'b', 'T']
    """
    return _counted(2, min_n, max_n, examples, seed)


def anbncn(*, min_n: int = 1, max_n: int = 10, examples: int = 10_000, seed: int = 0) -> Dataset:
    """The context-sensitive language a^n b^n c^n: tell which symbols may follow.

    Gers & Schmidhuber 2001 (https://doi.org/10.1109/72.963769). S starts a string and T ends it.
    After S may come a or T, after an a again a or b; then the count decides: n times b, n times c,
    then T. Who does not count cannot know when c and T come. Test with greater n than in training.

    Args:
        min_n: The least n, at least 1. Each n is as likely as any other.
        max_n: The greatest n, at least `min_n`. The targets do not know of it.
        examples: How many there are, at least 0.
        seed: The same seed gives the same examples. At least 0.

    Returns:
        A `tf.data.Dataset` of `(inputs, targets, sample_weights)`, with `steps = 3 * max_n + 1`:
        float32 `(steps, 4)`, one-hot over `abcS`; float32 `(steps, 4)`, 1 for each of `abcT` that
        may come next and else 0, for binary cross-entropy; and float32 `(steps,)`, 1 in the string
        and 0 in the padding.

    Raises:
        ValueError: If an argument is not an integer, or not an allowed one.

    Example:

    >>> import kerasrnn
    >>> data = kerasrnn.datasets.anbncn(min_n=2, max_n=2, examples=1)
    >>> inputs, targets, weights = next(data.as_numpy_iterator())
    >>> "".join("abcS"[number] for number in inputs.argmax(axis=1))
    'Saabbcc'
    >>> ["".join(symbol for symbol, may in zip("abcT", row) if may) for row in targets]
    ['aT', 'ab', 'ab', 'b', 'c', 'c', 'T']
    """
    return _counted(3, min_n, max_n, examples, seed)


def _counted(letters: int, min_n: int, max_n: int, examples: int, seed: int) -> Dataset:
    """Each letter n times, one letter after the other."""
    least = integer("min_n", min_n, 1)
    most = integer("max_n", max_n, least)
    examples, random = drawn(examples, seed)
    n = random.integers(least, most + 1, (examples, 1), np.int32)
    step = np.arange(letters * most + 1, dtype=np.int32)
    edge = letters  # S in the inputs, T in the targets.
    symbols = np.where(step == 0, edge, (step - 1) // n)
    # At the start, within the first letter, and then by the one symbol that may follow.
    states = np.where(step == 0, 0, np.where(step <= n, 1, 1 + step // n))
    after = step > letters * n
    symbols[after] = states[after] = _OVER
    only = np.eye(letters + 1, dtype=np.float32)
    allowed = np.stack([only[0] + only[edge], only[0] + only[1], *only[1:]])
    return _next_symbols(symbols, states, allowed)


def dyck(
    *,
    kinds: int = 2,
    depth: int = 3,
    min_length: int = 2,
    max_length: int = 40,
    examples: int = 10_000,
    seed: int = 0,
) -> Dataset:
    """The Dyck language of bounded depth: tell which brackets may follow.

    The language Dyck-(k, m) of Hewitt et al. 2020 (https://arxiv.org/abs/2010.07515): well-nested
    words of k kinds of brackets, of which at most m are open at any time. S starts a word and T
    ends it. The target is the set of what may come next, as in Suzgun et al. 2019
    (https://arxiv.org/abs/1911.03329): any opening bracket unless the depth is reached, the
    closing one of the kind opened last, and T if none is open. Here each even length is as likely
    as any other, and within a length so is each word.

    Who knows that a bracket closes and guesses its kind is right in 1 of `kinds` cases.

    Args:
        kinds: The kinds of brackets, at least 1.
        depth: The most brackets that may be open at once, at least 1.
        min_length: The brackets of the shortest word, even, at least 2.
        max_length: The brackets of the longest word, even, at least `min_length`. The targets do
            not know of it.
        examples: How many there are, at least 0.
        seed: The same seed gives the same examples. At least 0.

    Returns:
        A `tf.data.Dataset` of `(inputs, targets, sample_weights)`, with `steps = max_length + 1`
        and `symbols = 2 * kinds + 1`: float32 `(steps, symbols)`, one-hot over the opening
        brackets, the closing ones in the same order, and S; float32 `(steps, symbols)`, 1 for each
        bracket, and T in the place of S, that may come next and else 0, for binary cross-entropy;
        and float32 `(steps,)`, 1 in the word and 0 in the padding.

    Raises:
        ValueError: If an argument is not an integer, or not an allowed one.

    Example:

    >>> import kerasrnn
    >>> data = kerasrnn.datasets.dyck(kinds=1, depth=1, min_length=4, max_length=4, examples=1)
    >>> inputs, targets, weights = next(data.as_numpy_iterator())
    >>> "".join("()S"[number] for number in inputs.argmax(axis=1))
    'S()()'
    >>> ["".join(symbol for symbol, may in zip("()T", row) if may) for row in targets]
    ['(T', ')', '(T', ')', '(T']
    """
    kinds, depth = integer("kinds", kinds, 1), integer("depth", depth, 1)
    least = integer("min_length", min_length, 2)
    most = integer("max_length", max_length, least)
    for name, value in (("min_length", least), ("max_length", most)):
        if value % 2:
            raise ValueError(f"`{name}` must be even, as every bracket is closed; got {value}.")
    examples, random = drawn(examples, seed)
    lengths = 2 * random.integers(least // 2, most // 2 + 1, examples)
    opens = _opening_chances(most, depth)

    edge = 2 * kinds  # S in the inputs, T in the targets.
    symbols = np.full((examples, most + 1), _OVER, np.int32)
    states = symbols.copy()
    symbols[:, 0], states[:, 0] = edge, 0
    # The kinds that are open, by the depth at which they were opened; depth 0 is the ground.
    stack = np.zeros((examples, depth + 1), np.int32)
    level = np.zeros(examples, np.int32)
    rows = np.arange(examples)
    for step in range(1, most + 1):
        rows = rows[lengths[rows] >= step]
        here = level[rows]
        up = random.random(len(rows)) < opens[lengths[rows] - step + 1, here]
        drawn_kinds = random.integers(0, kinds, len(rows))
        symbols[rows, step] = np.where(up, drawn_kinds, kinds + stack[rows, here])
        stack[rows[up], here[up] + 1] = drawn_kinds[up]
        level[rows] = here = here + np.where(up, 1, -1)
        # On the ground; below the full depth, or at it, by the kind opened last.
        inside = 1 + stack[rows, here] + np.where(here == depth, kinds, 0)
        states[rows, step] = np.where(here == 0, 0, inside)

    only = np.eye(edge + 1, dtype=np.float32)
    opening, closing = only[:kinds].sum(axis=0), only[kinds:edge]
    allowed = np.concatenate([[opening + only[edge]], opening + closing, closing])
    return _next_symbols(symbols, states, allowed)


def _opening_chances(length: int, depth: int) -> np.ndarray:
    """The chance that a bracket opens, `[brackets left, depth]`, if all words are equally likely.

    It is the share of the words that open here among all that can still be closed in time. The rows
    of the counts are scaled, as the counts themselves outgrow a float; only ratios are needed.
    """
    chances = np.zeros((length + 1, depth + 1))
    ways = np.zeros(depth + 1)
    ways[0] = 1.0
    for left in range(1, length + 1):
        up, down = np.append(ways[1:], 0.0), np.insert(ways[:-1], 0, 0.0)
        ways = up + down
        np.divide(up, ways, out=chances[left], where=ways > 0)
        ways /= ways.max()
    return chances


def _next_symbols(symbols: np.ndarray, states: np.ndarray, allowed: np.ndarray) -> Dataset:
    """Strings with the set of the symbols that may follow, `allowed[state]`, at each step."""
    import tensorflow as tf

    def finish(symbol: Any, state: Any) -> tuple[Any, Any, Any]:
        # The padding has no symbol and no state: its vectors are all zeros.
        following = tf.one_hot(state, len(allowed)) @ allowed
        inside = tf.cast(symbol != _OVER, tf.float32)
        return tf.one_hot(symbol, allowed.shape[1]), following, inside

    return dataset(symbols, states, finish=finish)
