"""The picture of words that have scores, and weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kerasrnn.analysis._drawing import (
    NORMAL,
    SIGNED,
    SMALL,
    fitted,
    ink,
    shortened,
    strings,
    text_width,
    visible,
)

WEIGHTS = matplotlib.colormaps["Greys"]
LONGEST = 40  # Characters of a word.

# Inches.
MOST_WIDE, LEAST_WIDE, EDGE = 8.0, 6.6, 0.15
ABOVE, BAR, NOTE = 0.45, 0.5, 0.17  # The title, the bar of the colours, and a line of notes.
SCORED, WEIGHED, BETWEEN = 0.38, 0.18, 0.1  # The boxes of a line of words.


def word_scores(
    words: Sequence[str],
    scores: Any,
    weights: Any = None,
    *,
    title: str = "scores of the words",
    notes: Sequence[str] = (),
) -> Figure:
    """A text with a score below each word, and coloured by it: blue is negative, yellow is positive.

    Args:
        words: The words, in their order.
        scores: `(words,)`. What is not a number has no colour and is not written.
        weights: `(words,)`, such as those of an attention: a second row, darker where they are larger.
        title: Of the figure.
        notes: Lines below, that tell what the scores are.

    Returns:
        The figure, as high as the text is long.

    Raises:
        ValueError: If there is no word, or one is no string, or there is not one score, or weight, for
            each.

    Example:

    >>> from kerasrnn.analysis._words import word_scores
    >>> figure = word_scores(["not", "bad"], [0.5, -0.25])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['not', '+0.50', 'bad', '-0.25']
    """
    words, weighed = strings("words", words), weights is not None
    scores = np.asarray(scores, "float64")
    weights = np.asarray(weights, "float64") if weighed else np.full(scores.shape, np.nan)
    for name, given in (("scores", scores), ("weights", weights)):
        if given.shape != (len(words),) or not words:
            raise ValueError(
                f"`{name}` must hold a number for each of the words, at least for one; got the shape "
                f"{given.shape} for {len(words)} words."
            )
    names = [shortened(visible(word), LONGEST) for word in words]
    below = [_written(score, "+z.2f") for score in scores]
    shares = [_written(weight, ".1%") for weight in weights]
    widths = [
        0.1 + max(text_width(name, NORMAL), *map(text_width, numbers))
        for name, *numbers in zip(names, below, shares, strict=True)
    ]
    places, lines, reach = _laid_out(widths)
    line = SCORED + WEIGHED * weighed + BETWEEN
    foot = BAR + NOTE * len(notes) + 0.1
    wide, high = max(reach + 2 * EDGE, LEAST_WIDE), ABOVE + lines * line + foot
    made = Figure((wide, high))
    axes = made.add_axes((0, 0, 1, 1), xlim=(-EDGE, wide - EDGE), ylim=(high - ABOVE, -ABOVE))
    axes.set_axis_off()
    most, heaviest = (_largest(values) for values in (scores, weights))
    scale = Normalize(-most, most)
    for number, (x, row) in enumerate(places):
        corner, width = (x, row * line), widths[number]
        colour = SIGNED(scale(scores[number])) if below[number] else (1.0, 1.0, 1.0)
        _box(axes, corner, width, SCORED, colour, [names[number], below[number]])
        if weighed and shares[number]:
            # At most a medium grey: the scores are what matters.
            grey = WEIGHTS(0.5 * weights[number] / heaviest)
            _box(axes, (x, row * line + SCORED), width, WEIGHED, grey, [shares[number]])

    def place(x: float, y: float) -> tuple[float, float]:
        """Of inches from the lower left corner."""
        return x / wide, y / high

    room = wide - 2 * EDGE
    made.text(*place(EDGE, high - 0.28), fitted(title, room, 10.0), fontsize=10, parse_math=False)
    bar_axes = made.add_axes((*place(EDGE + 0.15, foot - 0.2), *place(1.6, 0.1)))
    bar = made.colorbar(ScalarMappable(scale, SIGNED), cax=bar_axes, orientation="horizontal")
    bar.set_ticks([-most, 0, most], labels=[f"{-most:+.3g}", "0", f"{most:+.3g}"], fontsize=SMALL)
    made.text(*place(EDGE + 2.1, foot - 0.2), "score", fontsize=SMALL)
    for number, note in enumerate(notes):
        where = place(EDGE, foot - BAR - NOTE * (number + 0.6))
        made.text(*where, fitted(note, room), fontsize=SMALL, parse_math=False)
    return made


def _laid_out(widths: Sequence[float]) -> tuple[list[tuple[float, int]], int, float]:
    """Boxes in lines: where each begins and in which line; the number of lines, and how far they reach."""
    places, line, x, reach = [], 0, 0.0, 0.0
    for width in widths:
        if x and x + width > MOST_WIDE - 2 * EDGE:
            line, x = line + 1, 0.0
        places.append((x, line))
        reach = max(reach, x + width)
        x += width + 0.04
    return places, line + 1, reach


def _box(
    axes: Any,
    corner: tuple[float, float],
    width: float,
    height: float,
    colour: Any,
    texts: Sequence[str],
) -> None:
    """A coloured box with a text, or one above the other."""
    axes.add_patch(
        Rectangle(corner, width, height, facecolor=colour, edgecolor="0.6", linewidth=0.4)
    )
    texts = [text for text in texts if text]
    for number, text in enumerate(texts):
        axes.text(
            corner[0] + width / 2,
            corner[1] + height * (number + 0.5) / len(texts),
            text,
            color=ink(colour),
            fontsize=NORMAL if height == SCORED and not number else SMALL,
            ha="center",
            va="center_baseline",
            parse_math=False,
        )


def _written(number: float, form: str) -> str:
    return format(number, form) if np.isfinite(number) else ""


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0)) or 1.0
