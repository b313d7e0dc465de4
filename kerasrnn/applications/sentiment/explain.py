"""Which words moved a verdict, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import tensorflow as tf

from kerasrnn._tables import columns
from kerasrnn.applications._parts import check_counts
from kerasrnn.applications.sentiment.model import SentimentClassifier
from kerasrnn.applications.text import separate_words

Tensor = Any
Method = Literal["integrated_gradients", "occlusion"]

UNKNOWN = 1  # The number of the unknown word.
ROWS = 64  # So many texts go through the network at a time.
BASELINES = {
    "integrated_gradients": "from every word unknown to the text",
    "occlusion": "each word unknown in turn",
}


class Explanation(NamedTuple):
    """How much each word moved the log-odds of a label, log(p / (1 - p)).

    Log-odds add up where probabilities cannot: from whatever they are, +0.7 doubles the odds and -0.7
    halves them.

    Attributes:
        label: The label that is explained.
        method: `"integrated_gradients"` or `"occlusion"`.
        baseline: What the text is compared with, in words.
        tokens: The words that the model reads, as it parts them.
        known: Whether the model knows each word. One that it does not know cannot score.
        scores: How much each word moved the log-odds of the label.
        attention: The weight of the reading at each word, if the model reads by attention.
        unread: The places, in the whole text, of the words that are not read; empty if all are.
        log_odds: Of the label.
        baseline_log_odds: Of the label, with every word unknown.
    """

    label: str
    method: str
    baseline: str
    tokens: tuple[str, ...]
    known: tuple[bool, ...]
    scores: tuple[float, ...]
    attention: tuple[float, ...] | None
    unread: range
    log_odds: float
    baseline_log_odds: float

    @property
    def confidence(self) -> float:
        """The probability of the label."""
        return _probability(self.log_odds)

    @property
    def baseline_confidence(self) -> float:
        """The probability of the label, with every word unknown."""
        return _probability(self.baseline_log_odds)

    @property
    def gap(self) -> float | None:
        """What the scores of integrated gradients add up to, less what they should: the text's log-odds
        less the baseline's. The scores of occlusion need not add up to anything.
        """
        if self.method == "occlusion":
            return None
        return math.fsum(self.scores) - (self.log_odds - self.baseline_log_odds)


def explain(
    model: SentimentClassifier,
    text: str,
    method: Method = "integrated_gradients",
    *,
    steps: int = 64,
    label: str | None = None,
) -> Explanation:
    """Which words of a text moved the model's verdict, and by how much.

    - `"integrated_gradients"` goes in a straight line from a text of unknown words to the text, in the
      space of the words' vectors, and adds up each word's share in what happens on the way: the scores
      add up to the difference (Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365).
    - `"occlusion"` hides each word in turn, as the unknown word, and takes the difference that it makes
      (Zeiler & Fergus 2014, https://arxiv.org/abs/1311.2901; Li et al. 2016,
      https://arxiv.org/abs/1612.08220).

    The unknown word is what training hides words as, so the model knows what to make of it.

    Args:
        model: A trained model.
        text: Any string.
        method: How to find the scores.
        steps: At how many points of the line the gradients are taken.
        label: The label to explain, by default the likeliest.

    Raises:
        ValueError: If the model is of another kind, or an argument is wrong; the message names it.

    Example:

    >>> import kerasrnn
    >>> from kerasrnn.applications.sentiment.explain import explain
    >>> model = kerasrnn.applications.SentimentClassifier(
    ...     vocabulary=["a", "great", "dull", "film"], units=4, embedding_dim=4)
    >>> found = explain(model, "A great movie!", "occlusion", label="positive")
    >>> found.tokens, found.known
    (('a', 'great', 'movie', '!'), (True, True, False, False))
    """
    if not isinstance(model, SentimentClassifier):
        raise ValueError(f"`explain` is for sentiment models, got a {type(model).__name__}.")
    if not isinstance(text, str):
        raise ValueError(f"`text` must be a string, got {text!r}.")
    if method not in get_args(Method):
        raise ValueError(f"`method` must be one of {get_args(Method)}, got {method!r}.")
    if label is not None and label not in model.labels:
        raise ValueError(f"`label` must be one of {model.labels}, got {label!r}.")
    check_counts(steps=steps)

    words = tf.strings.split(separate_words(tf.constant([text])))
    tokens = tuple(word.decode() for word in model.part_read(words)[0].numpy())
    start, left_out = model.max_length // 4, words[0].shape[0] - len(tokens)

    ids = model.word_ids(tf.constant([text]))
    unknown = tf.minimum(ids, UNKNOWN)  # Padding stays.
    logits = _logits(model, tf.concat([ids, unknown], axis=0))
    number = int(tf.argmax(logits[0])) if label is None else model.labels.index(label)
    log_odds, of_baseline = _log_odds(logits, number).numpy().tolist()
    if method == "occlusion":
        scores = log_odds - _occluded(model, ids, unknown, number)
    else:
        scores = _integrated_gradients(model, ids, unknown, number, steps)
    return Explanation(
        label=model.labels[number],
        method=method,
        baseline=BASELINES[method],
        tokens=tokens,
        known=tuple((ids[0, : len(tokens)] != UNKNOWN).numpy().tolist()),
        scores=tuple(scores[: len(tokens)].tolist()),
        attention=_attention(model, ids, len(tokens)),
        unread=range(start, start + left_out),
        log_odds=log_odds,
        baseline_log_odds=of_baseline,
    )


def _probability(log_odds: float) -> float:
    return (1 + math.tanh(log_odds / 2)) / 2


def _logits(model: SentimentClassifier, ids: Tensor) -> Tensor:
    return _logits_of_vectors(model, model.embedding(ids), ids > 0)


def _logits_of_vectors(model: SentimentClassifier, vectors: Tensor, mask: Tensor) -> Tensor:
    """What the softmax makes the probabilities of: it loses the digits of those near 0 and 1."""
    read, _ = model.read_vectors(vectors, mask)
    return tf.matmul(tf.cast(read, "float32"), model.verdict.kernel) + model.verdict.bias


def _log_odds(logits: Tensor, label: int) -> Tensor:
    """Of the label against all others, `(batch,)`."""
    others = tf.concat([logits[:, :label], logits[:, label + 1 :]], axis=1)
    return logits[:, label] - tf.reduce_logsumexp(others, axis=1)


def _occluded(model: SentimentClassifier, ids: Tensor, unknown: Tensor, label: int) -> np.ndarray:
    """The log-odds of the text `(1, time)` with each word in turn unknown, float32 `(time,)`."""
    rows = tf.linalg.set_diag(tf.repeat(ids, ids.shape[1], axis=0), unknown[0])
    found = [_log_odds(_logits(model, rows[at]), label) for at in _batches(ids.shape[1])]
    return tf.concat(found, axis=0).numpy()


def _integrated_gradients(
    model: SentimentClassifier, ids: Tensor, unknown: Tensor, label: int, steps: int
) -> np.ndarray:
    """The scores of the words of a text `(1, time)`, float32 `(time,)`."""
    # In float32 whatever the model computes in: the points lie close to each other.
    start, end = (tf.cast(model.embedding(x), "float32") for x in (unknown, ids))
    # The middles of equal pieces. Better rules are for smooth functions, which "max" is not.
    points = (tf.range(steps, dtype="float32")[:, None, None] + 0.5) / steps
    total = tf.zeros_like(start)
    for at in _batches(steps):
        vectors = start + points[at] * (end - start)
        mask = tf.repeat(ids > 0, len(vectors), axis=0)
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            logits = _logits_of_vectors(model, tf.cast(vectors, model.compute_dtype), mask)
            log_odds = _log_odds(logits, label)
        total += tf.reduce_sum(tape.gradient(log_odds, vectors), axis=0)
    return tf.reduce_sum((end - start) * total / steps, axis=(0, 2)).numpy()


def _batches(rows: int) -> Iterator[slice]:
    return (slice(first, first + ROWS) for first in range(0, rows, ROWS))


def _attention(model: SentimentClassifier, ids: Tensor, words: int) -> tuple[float, ...] | None:
    for pooling in model.pooling:
        if pooling.mode == "attention":
            _, outputs = model.read_vectors(model.embedding(ids), ids > 0)
            weights = pooling.step_weights(outputs, ids > 0)
            return tuple(weights[0, :words].numpy().tolist())
    return None


# What people see.


def data(found: Explanation) -> dict[str, Any]:
    """An explanation as JSON has it."""
    attention = found.attention or [None] * len(found.tokens)
    rows = zip(found.tokens, found.known, found.scores, attention, strict=True)
    return {
        "label": found.label,
        "confidence": found.confidence,
        "log_odds": found.log_odds,
        "method": found.method,
        "baseline": found.baseline,
        "baseline_confidence": found.baseline_confidence,
        "baseline_log_odds": found.baseline_log_odds,
        "gap": found.gap,
        "unread": [found.unread.start, found.unread.stop] if found.unread else None,
        "tokens": [
            dict(zip(("token", "known", "score", "attention"), row, strict=True)) for row in rows
        ],
    }


def picture(found: Explanation) -> Any:
    """An explanation as a `matplotlib.figure.Figure`: a word's colour and number are its score.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the text has no words.
    """
    from kerasrnn.analysis.plot import word_scores

    words, scores, weights = zip(*_shown(found), strict=True) if found.tokens else ((), (), ())
    title, *notes = _notes(found)
    attention = None if found.attention is None else weights
    return word_scores(words, scores, attention, title=title, notes=notes)


def view(found: Explanation, width: int = 80, colour: bool = False) -> str:
    """An explanation as text: the words in their order with their scores, and the strongest of them.

    Args:
        found: The explanation.
        width: Of a line, in characters.
        colour: Whether to colour the strong words, by the codes that terminals know.
    """
    lines = _notes(found)
    if not found.tokens:
        return f"{lines[0]}\nThe text has no words: this is what the model says of nothing."
    most = max(map(abs, found.scores)) or 1.0
    line, used = [""] * (2 + (found.attention is not None)), 0
    for word, score, weight in _shown(found):
        cells = [_printable(word), _signed(score), _percent(weight)][: len(line)]
        room = max(map(columns, cells))
        if used and used + room > width:
            lines += ["", *map(str.rstrip, line)]
            line, used = [""] * len(line), 0
        padding = [" " * (room - columns(cell) + 2) for cell in cells]
        if colour:
            cells[:2] = (_coloured(cell, score / most) for cell in cells[:2])
        line = [a + b + c for a, b, c in zip(line, cells, padding, strict=True)]
        used += room + 2
    lines += ["", *map(str.rstrip, line), ""]
    strong = [row for row in _shown(found) if abs(row.score) >= LEAST]
    strong.sort(key=lambda row: abs(row.score), reverse=True)
    for word, score, _ in strong[:STRONGEST]:
        bar = ("+" if score > 0 else "-") * max(1, round(abs(score) / most * BAR))
        text = f"{_signed(score)}  {bar:<{BAR}}  {_printable(word)}"
        lines.append(_coloured(text, score / most) if colour else text)
    return "\n".join(lines).rstrip()


STRONGEST = 8  # So many words are listed,
LEAST = 0.005  # if their scores are not 0 in the digits that are shown,
BAR = 24  # with a bar of so many characters at the most.


class _Shown(NamedTuple):
    word: str
    score: float
    weight: float


def _shown(found: Explanation) -> list[_Shown]:
    """The words as people see them: unknown ones in brackets, and a note in the place of unread ones."""
    words = [
        token if known else f"[{token}]"
        for token, known in zip(found.tokens, found.known, strict=True)
    ]
    weights = found.attention or [math.nan] * len(words)
    rows = [_Shown(*row) for row in zip(words, found.scores, weights, strict=True)]
    if found.unread:
        note = f"({len(found.unread):,} words not read)"
        rows.insert(found.unread.start, _Shown(note, math.nan, math.nan))
    return rows


def _notes(found: Explanation) -> list[str]:
    """What must be known to read the scores, a line each."""
    lines = [
        f"{found.label} {found.confidence:.1%}",
        f"how far each word moves the log-odds of {found.label}; +0.7 doubles the odds",
        f"by {found.method.replace('_', ' ')}: {found.baseline}",
        f"with every word unknown: {found.label} {found.baseline_confidence:.1%}",
    ]
    if found.gap is not None:
        total = math.fsum(found.scores)
        lines.append(
            f"the scores add up to the difference, {total:+z.3f}, but for {abs(found.gap):.4f}"
        )
    if found.attention is not None:
        lines.append("below the scores: the attention to each word, in percent of all")
    if not all(found.known):
        lines.append("[word]: the model does not know it, so it moves nothing by itself")
    return lines


def _signed(score: float) -> str:
    return f"{score:+z.2f}" if math.isfinite(score) else ""


def _percent(weight: float) -> str:
    return f"{weight:.1%}" if math.isfinite(weight) else ""


def _printable(word: str) -> str:
    """Without the characters that would move a terminal's cursor or change its colours."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in word)


def _coloured(text: str, share: float) -> str:
    """Blue below zero, yellow above it: the ground of strong words, the letters of weaker ones."""
    if not abs(share) >= 0.15:
        return text
    strong = ("1;97;44", "30;43") if abs(share) >= 0.5 else ("34", "33")
    return f"\x1b[{strong[share > 0]}m{text}\x1b[0m"
