"""What the pictures share: figures, colours, the measuring of text, and ticks that never collide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator

# Both grow steadily in lightness, so they can be read without colours, and by the colour-blind. The
# second is grey in its middle: zero, between blue and yellow.
VALVE, SIGNED = matplotlib.colormaps["viridis"], matplotlib.colormaps["cividis"]

# Okabe & Ito's colours without their yellow, which is too light for a line on white.
LINES = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1.5, 1, 1.5)))

SMALL, NORMAL = 8.0, 9.0  # Points.


def figure(width: float, height: float, title: str = "") -> Figure:
    """An empty figure of a size in inches, with room made for all that will be in it."""
    made = Figure((width, height), layout="constrained")
    if title:
        made.suptitle(fitted(title, width - 0.3, 10.0), fontsize=10, parse_math=False)
    return made


def text_width(text: str, size: float = SMALL, family: str = "sans-serif") -> float:
    """The width of a text in inches."""
    font = FontProperties(family=family, size=size)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def visible(text: str) -> str:
    """The text with signs for the characters that would break its line."""
    return text.translate({10: "↵", 13: "↵", 9: "→", 0: "␀"})


def shortened(text: str, most: int) -> str:
    """The text, cut if it has more characters than these."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def fitted(text: str, room: float, size: float = SMALL) -> str:
    """The text, cut to fit into a room in inches."""
    # On the screen letters stand on whole pixels, which makes a text a tenth longer at the most.
    width = text_width(text, size) * 1.1
    return shortened(text, int(len(text) * min(1.0, room / width))) if width else text


def strings(name: str, given: Sequence[str]) -> list[str]:
    """What was given as a list, if it holds strings alone."""
    if isinstance(given, (str, bytes)):
        raise ValueError(f"`{name}` must be a list of strings, got the one {given!r}.")
    words = list(given)
    if wrong := [word for word in words if not isinstance(word, str)]:
        raise ValueError(f"`{name}` must hold strings, got {wrong[0]!r}.")
    return words


def ink(colour: Any) -> str:
    """Black or white, whichever can be read on a colour."""
    red, green, blue = colour[:3]
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45 else "white"


def limit(values: np.ndarray) -> float:
    """Up to where a scale of values of both signs has to reach: at least to 1."""
    seen = np.abs(values[np.isfinite(values)])
    return max(1.0, float(seen.max())) if seen.size else 1.0


def number_steps(
    axes: Any, words: Sequence[str] | None, steps: Sequence[int] | np.ndarray, width: float
) -> None:
    """Name the steps below the axes: by tokens, as many as have room, or else by numbers.

    Args:
        axes: Whose x axis has the steps at 0, 1, 2, ...
        words: A token for each step, or None.
        steps: The number of each step, if there are no tokens.
        width: Of the axes, in inches.
    """
    if words is None:
        axes.set_xlabel("time step", fontsize=SMALL)
        chosen = MaxNLocator(nbins=max(1, min(10, int(width / 0.4))), integer=True)
        places = [
            int(x) for x in chosen.tick_values(0, max(len(steps) - 1, 1)) if 0 <= x < len(steps)
        ]
        axes.set_xticks(places, [str(steps[place]) for place in places], fontsize=SMALL)
        return
    axes.set_xlabel("token", fontsize=SMALL)
    labels = _labels(words)
    room = width / max(len(words), 1)
    if max(map(text_width, labels), default=0) + 0.06 <= room:
        every, turned = 1, 0
    else:
        every, turned = max(1, math.ceil(SMALL * 1.3 / 72 / room)), 90
    places = list(range(0, len(labels), every))
    axes.set_xticks(
        places, [labels[p] for p in places], rotation=turned, fontsize=SMALL, parse_math=False
    )


def words_height(words: Sequence[str] | None) -> float:
    """The inches that words may take below an axis, or numbers if there are none."""
    return max((text_width(label) for label in _labels(words or ())), default=0.2)


def _labels(words: Sequence[str]) -> list[str]:
    return [shortened(visible(word), LONGEST) for word in words]


LONGEST = 20  # Characters of a word below an axis.


def heat_map(
    axes: Any, values: np.ndarray, *, valve: bool, most: float, width: float, height: float
) -> None:
    """Draw `(time, units)` as colours, with a bar that explains them; hatched where there is no number.

    Args:
        axes: Where to draw.
        values: The numbers.
        valve: Whether they lie between 0 and 1, or around 0.
        most: The end of the scale.
        width, height: Of the axes, in inches.
    """
    scale = Normalize(0 if valve else -most, 1 if valve else most)
    colours = VALVE if valve else SIGNED
    axes.patch.set(facecolor="white", edgecolor="0.75", hatch="////")
    # Where units are more than pixels, each still has its share in the colours.
    image = axes.imshow(
        values.T, cmap=colours, norm=scale, aspect="auto", interpolation="antialiased", zorder=1
    )
    axes.set_ylabel("unit", fontsize=SMALL)
    units = values.shape[1]
    ticks = MaxNLocator(nbins=max(1, int(height / 0.22)), integer=True, min_n_ticks=1)
    axes.set_yticks([y for y in ticks.tick_values(0, max(units - 1, 1)) if 0 <= y < units])
    axes.tick_params(labelsize=SMALL)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.015, fraction=0.04, aspect=height / 0.1)
    ends = [0, 1] if valve else [-most, most] if height < 0.6 else [-most, 0, most]
    bar.set_ticks(ends, labels=[f"{end:.3g}" for end in ends], fontsize=SMALL)
    bar.set_label("opening" if valve else "value", fontsize=SMALL)
    if values.size > FEW:
        return
    texts = {at: f"{values[at]:z.2f}" for at in np.ndindex(values.shape) if np.isfinite(values[at])}
    if max(map(text_width, texts.values()), default=0) + 0.06 <= width / len(values):
        for at, text in texts.items():
            colour = ink(colours(scale(values[at])))
            axes.text(*at, text, color=colour, ha="center", va="center", fontsize=SMALL)


FEW = 24  # So many numbers are written into their squares.


def panel_height(units: int, steps: int) -> float:
    """Of a heat map, in inches."""
    height = min(max(0.09 * units, 0.5), 1.5)
    return max(height, 0.2 * units) if units * steps <= FEW else height


def panel_width(steps: int) -> float:
    """Of a heat map, in inches: wide enough for a word below each step, as long as that can be."""
    return min(max(0.17 * steps, 3.4), 12.0)


MARGIN = 1.4  # Inches beside a heat map, for its names and its bar.
