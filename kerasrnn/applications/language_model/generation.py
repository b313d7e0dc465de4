"""From a model to text: drawing it, searching for the likeliest, and how probable a given one is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kerasrnn.applications._parts import (
    check_counts,
    check_numbers,
    check_seed,
    check_texts,
    check_unicode,
)

Tensor = Any
Array = Any

# The most steps that are read at a time, and the most logits: memory holds no more, however long a text.
STEPS, LOGITS = 256, 2**23

# Of more nats than this the exponential, the perplexity, is no finite number.
MOST_NATS = 709.0
NO_PROBABILITIES = (
    "The model gives no probabilities: its weights are not numbers, or far too large (the training "
    "diverged?)."
)

# The marks that text written by people has at the word before, and at the word behind.
CLOSING, OPENING = frozenset(",.;:!?')]}"), frozenset("([{")


class Beam(NamedTuple):
    """A continuation that a beam search has found.

    Attributes:
        text: The continuation, without the prompt.
        log_probability: The natural logarithm of its probability after the prompt.
        tokens: The number of its tokens.
    """

    text: str
    log_probability: float
    tokens: int


class Score(NamedTuple):
    """How probable a text is.

    Attributes:
        log_probability: The natural logarithm of the probability of all its tokens.
        tokens: How many they are, the end of the line included.
        unknown: How many of them the model does not know. A misspelt word is one unknown word like any
            other, and often a likely one: compare texts that have as many.
        perplexity: `exp(-log_probability / tokens)`: among how many equally probable tokens the model
            might as well have chosen at each.
    """

    log_probability: float
    tokens: int
    unknown: int
    perplexity: float


def stream(
    model: Any,
    prompt: str,
    length: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    stop_at_boundary: bool,
) -> Iterator[str]:
    """Draw the continuation of a prompt; see `LanguageModel.generate`."""
    check_counts(0, length=length)
    check_numbers(temperature=temperature)
    if top_k is not None:
        check_counts(top_k=top_k)
    if top_p is not None and not (isinstance(top_p, Real) and 0 < top_p <= 1):
        raise ValueError(f"`top_p` must be more than 0 and at most 1, got {top_p!r}.")
    check_seed(seed)
    numbers, before = _begin(model, prompt)

    def drawn() -> Iterator[int]:
        random, given, states = np.random.default_rng(seed), [numbers], None
        for _ in range(length):
            (scores,), states = _next(model, given, states)
            chosen = random.choice(len(scores), p=chances(scores, temperature, top_k, top_p))
            given = [[chosen]]
            if stop_at_boundary and chosen == numbers[0]:
                return
            yield chosen

    return pieces(model, drawn(), before)


def chances(
    scores: Array, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Array:
    """By what probabilities to draw, `(tokens,)`, from log-probabilities, `(tokens,)`.

    Args:
        scores: The log-probabilities, float64; minus infinity for what is never drawn.
        temperature: By what they are divided; 0 leaves the likeliest alone, the first of several.
        top_k: How many of the likeliest to leave.
        top_p: What probability those that are left must have together, among those of `top_k`.

    Example:

    >>> import numpy as np
    >>> from kerasrnn.applications.language_model.generation import chances
    >>> scores = np.log([0.1, 0.5, 0.3, 0.1])
    >>> chances(scores, top_k=2).round(3)
    array([0.   , 0.625, 0.375, 0.   ])
    >>> chances(scores, temperature=0.5, top_p=0.7).round(3)
    array([0.   , 0.735, 0.265, 0.   ])
    """
    best = int(np.argmax(scores))
    if not temperature:
        return np.eye(1, len(scores), best)[0]
    with np.errstate(over="ignore"):  # What is infinitely less likely is not drawn.
        found = np.exp((scores - scores[best]) / temperature)
    if top_k is not None or top_p is not None:
        order = np.argsort(-found, kind="stable")
        found[order[top_k or len(found) :]] = 0
        if top_p is not None:
            ranked = found[order] / found.sum()
            before = np.cumsum(ranked) - ranked
            found[order[before >= top_p]] = 0
    return found / found.sum()


def beam_search(
    model: Any,
    prompt: str,
    length: int,
    width: int,
    length_normalization: float,
    stop_at_boundary: bool,
) -> list[Beam]:
    """Search for the likeliest continuations of a prompt; see `LanguageModel.beam_search`."""
    check_counts(0, length=length)
    check_counts(width=width)
    check_numbers(length_normalization=length_normalization)
    numbers, before = _begin(model, prompt)
    boundary = numbers[0]

    def worth(total: float, tokens: int) -> float:
        return total / max(1, tokens) ** length_normalization

    def best(found: list[tuple[float, list[int]]]) -> list[tuple[float, list[int]]]:
        return sorted(found, key=lambda one: worth(one[0], len(one[1])), reverse=True)[:width]

    live: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    given, states = [numbers], None
    for _ in range(length):
        scores, states = _next(model, given, states)
        scores += [[total] for total, _ in live]
        if stop_at_boundary:
            ends = [[*row, boundary] for _, row in live]
            ended = best([*ended, *zip(scores[:, boundary].tolist(), ends, strict=True)])
            scores[:, boundary] = -math.inf
        order = np.argsort(-scores, axis=None, kind="stable")[:width]
        order = order[scores.flat[order] > -math.inf]
        parents, tokens = np.unravel_index(order, scores.shape)
        live = [
            (float(scores[parent, token]), [*live[parent][1], int(token)])
            for parent, token in zip(parents, tokens, strict=True)
        ]
        # The best that one can come to is to lose nothing more.
        hope = max((worth(total, length) for total, _ in live), default=-math.inf)
        if not live or (len(ended) == width and hope <= worth(ended[-1][0], len(ended[-1][1]))):
            break
        given, states = tokens[:, None], [tf.gather(state, parents) for state in states]
    return [
        Beam("".join(pieces(model, row, before)), total, len(row))
        for total, row in best([*ended, *live])
    ]


def score(model: Any, texts: Iterable[str], batch_size: int) -> list[Score]:
    """How probable texts are; see `LanguageModel.score`."""
    texts = check_texts(texts)
    check_counts(batch_size=batch_size)
    found: dict[int, Score] = {}
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        answer = model.cross_entropies(tf.constant([texts[number] for number in numbers]))
        rows = zip(numbers, *(part.numpy().tolist() for part in answer), strict=True)
        for number, nats, count, unknown in rows:
            if not nats / count < MOST_NATS:
                raise ValueError(NO_PROBABILITIES)
            found[number] = Score(-nats, count, unknown, math.exp(nats / count))
    return [found[number] for number in range(len(texts))]


def cross_entropies(model: Any, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """In a graph: the sum of the cross-entropies of texts as lines, and how many tokens they have.

    Args:
        model: The model.
        texts: Strings `(batch,)`.

    Returns:
        Nats, float64 `(batch,)`; the numbers of the tokens and of the unknown ones, int32 `(batch,)`.
    """
    rows = model.token_rows(texts)
    boundary = tf.fill([tf.shape(texts)[0], 1], model.tokens.index(model.boundary))
    ends = rows[:, -1:].to_tensor(-1, shape=[None, 1])
    rows = tf.concat([rows, tf.ragged.boolean_mask(boundary, ends != boundary)], axis=1)
    counts, targets = tf.cast(rows.row_lengths(), tf.int32), rows.to_tensor()
    ids = tf.concat([boundary, targets[:, :-1]], axis=1)
    batch, time = tf.unstack(tf.shape(targets))
    most = tf.clip_by_value(LOGITS // len(model.tokens) // tf.maximum(batch, 1), 1, STEPS)

    def read(start: Tensor, nats: Tensor, states: list[Tensor]) -> tuple[Any, ...]:
        stop = tf.minimum(start + most, time)
        logits, states = model.advance(ids[:, start:stop], states)
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(targets[:, start:stop], logits)
        each = tf.where(tf.range(start, stop) < counts[:, None], each, 0.0)
        return stop, nats + tf.reduce_sum(tf.cast(each, tf.float64), axis=1), states

    nats, states = tf.zeros([batch], tf.float64), model.initial_states(batch)
    _, nats, _ = tf.while_loop(lambda start, *_: start < time, read, (0, nats, states))
    return nats, counts, tf.reduce_sum(tf.cast(rows == 0, tf.int32), axis=1)


def pieces(model: Any, numbers: Iterable[int], before: str) -> Iterator[str]:
    """The pieces of text that tokens are, joined as `LanguageModel.text` says.

    Args:
        model: The model.
        numbers: The tokens.
        before: The token before them, the boundary where they need no space before them.
    """
    for number in numbers:
        token = model.tokens[number]
        if model.level == "character":
            yield token
            continue
        close = model.boundary in (token, before)
        if model.separate:
            close = close or token in CLOSING or before in OPENING
        yield ("" if close else " ") + ("\n" if token == model.boundary else token)
        before = token


def _begin(model: Any, prompt: str) -> tuple[list[int], str]:
    """The numbers of a prompt, from the boundary on, and what `pieces` has before it goes on."""
    if not isinstance(prompt, str):
        raise ValueError(f"`prompt` must be a string, got {prompt!r}.")
    check_unicode(prompt=prompt)
    numbers = model.numbers(prompt)
    if model.level == "character" and 0 in numbers:
        place = numbers.index(0)
        raise ValueError(
            f"`prompt` has the character {prompt[place]!r} at place {place}, which the model does not "
            "know: leave it out, or put another in its place. `model.tokens` are those that it knows."
        )
    boundary = model.tokens.index(model.boundary)
    needs_space = prompt and not prompt[-1].isspace()
    before = model.tokens[numbers[-1]] if numbers and needs_space else model.boundary
    return [boundary, *numbers], before


def _next(model: Any, ids: Any, states: list[Tensor] | None) -> tuple[Array, list[Tensor]]:
    """Log-probabilities of what comes after `ids`, float64 `(batch, tokens)`, and the new states.

    The unknown token, which is no text, has minus infinity.
    """
    ids = np.asarray(ids, np.int32)
    states = model.initial_states(len(ids)) if states is None else states
    for start in range(0, ids.shape[1], STEPS):
        found, states = model.next_token(ids[:, start : start + STEPS], states)
    scores = found.numpy().astype(np.float64)
    if np.isnan(scores).any():
        raise ValueError(NO_PROBABILITIES)
    scores[:, 0] = -math.inf
    return scores, states
