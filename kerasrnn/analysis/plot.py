"""Pictures of what a network does: its gates over a text, its memory, its saturation, its gradients.

They are drawn by matplotlib: `pip install "kerasrnn[plot]"`.

Each function returns a `matplotlib.figure.Figure` and shows nothing: `plot.gates(trace).savefig("a.png")`.
In a notebook the last value of a cell is shown once matplotlib is set up there, by `%matplotlib inline`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

try:
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError('pictures need matplotlib: pip install "kerasrnn[plot]"') from error

from kerasrnn._tables import columns
from kerasrnn.analysis._diagram import cell_diagram
from kerasrnn.analysis._drawing import (
    DASHES,
    LINES,
    MARGIN,
    NORMAL,
    SIGNED,
    SMALL,
    figure,
    fitted,
    heat_map,
    ink,
    limit,
    number_steps,
    panel_height,
    panel_width,
    strings,
    text_width,
    visible,
    words_height,
)
from kerasrnn.analysis._measures import HIGH, LOW, belt, is_valve
from kerasrnn.analysis._measures import saturation as _saturation
from kerasrnn.analysis._trace import LayerTrace, Trace, one_layer
from kerasrnn.analysis._words import word_scores
from kerasrnn.cells._base import positive_integer

__all__ = [
    "cell_diagram",
    "gates",
    "gradient_norms",
    "saturation",
    "states",
    "unit_over_text",
    "word_scores",
]


def gates(
    trace: Trace | LayerTrace,
    tokens: Sequence[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    sequence: int = 0,
) -> Figure:
    """Every gate of a layer over time, a heat map each: units from top to bottom, steps from left to right.

    Dark is closed and light is open; of a candidate, which has a sign, blue is negative and yellow is
    positive. A step that the mask leaves out is hatched.

    Args:
        trace: The trace of a layer, or of a model that has one recurrent layer.
        tokens: The words, or letters, below the steps: one for each step, or one for each step that the
            mask lets count, of which then only those are shown. Where they are too many, some are left out.
        names: The gates to show, by default all.
        sequence: Which sequence of the batch.

    Returns:
        The figure.

    Raises:
        TypeError: If it is no trace.
        ValueError: If there is no such gate or sequence, or the tokens are no strings, or not as many as
            the steps.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.LSTM(4)
    >>> layer.build((None, None, 3))
    >>> trace = kerasrnn.trace(layer, keras.ops.ones((1, 3, 3)))
    >>> len(kerasrnn.plot.gates(trace, ["a", "dull", "film"], names=["forget"]).axes)  # and its colour bar
    2
    """
    layer = one_layer("trace", trace)
    sequence, tokens, steps = _steps(layer, sequence, tokens)
    chosen = list(layer.gates) if names is None else strings("names", names)
    if not chosen:
        raise ValueError("`names` must hold one gate at least, got none.")
    if unknown := [name for name in chosen if name not in layer.gates]:
        known = ", ".join(map(repr, layer.gates))
        raise ValueError(f"`names` may hold {known}; got unknown {unknown!r}.")
    panels = []
    for name in chosen:
        valve = is_valve(layer, name)
        panels.append((name, layer.gates[name][sequence, steps].astype("float32"), valve))
    most = limit(np.concatenate([v.ravel() for _, v, valve in panels if not valve] or [np.ones(1)]))
    return _heat_maps(f"{layer.name}: {layer.cell}", panels, most, tokens, steps)


def states(
    trace: Trace | LayerTrace,
    tokens: Sequence[str] | None = None,
    *,
    state: str | None = None,
    unit: int | None = None,
    sequence: int = 0,
) -> Figure:
    """The memory as a conveyor belt: at each step, what it kept, what was written to it, and what it holds.

    If nobody knows what was kept (see `kerasrnn.analysis.belt`), it is the memory before, and the change.

    Args:
        trace, tokens, sequence: As in `gates`.
        state: The name of the state, by default `"cell"` or, without one, the first.
        unit: One unit, drawn in bars: what was kept, and on top, or below, what was written. By default all
            units, as three heat maps of which the third is the sum of the others.

    Returns:
        The figure.

    Raises:
        TypeError: If it is no trace.
        ValueError: If there is no such state, unit or sequence, or the tokens do not fit, as in `gates`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.LSTM(4)
    >>> layer.build((None, None, 3))
    >>> trace = kerasrnn.trace(layer, keras.ops.ones((1, 3, 3)))
    >>> kerasrnn.plot.states(trace, unit=2).axes[0].get_ylabel()
    'cell, unit 2'
    """
    layer = one_layer("trace", trace)
    sequence, tokens, steps = _steps(layer, sequence, tokens)
    if state is None:
        state = "cell" if "cell" in layer.states else next(iter(layer.states))
    found = belt(layer, state)
    kept, written, after = (part[sequence, steps].astype("float32") for part in found[:3])
    title = f"{layer.name}: {layer.cell}"
    first, second = (f"kept: {found.how}", "written") if found.how else ("before", "change")
    if unit is None:
        panels = [
            (first, kept, False),
            (f"+ {second}", written, False),
            (f"= {state}", after, False),
        ]
        most = limit(np.stack([kept, written, after]))
        return _heat_maps(title, panels, most, tokens, steps)
    unit = _integer("unit", unit, 0, after.shape[1] - 1)
    parts = {first: kept[:, unit], second: written[:, unit]}
    return _belt_of_one_unit(title, parts, f"{state}, unit {unit}", tokens, steps)


def _belt_of_one_unit(
    title: str,
    parts: Mapping[str, np.ndarray],
    label: str,
    tokens: Sequence[str] | None,
    steps: np.ndarray,
) -> Figure:
    """In bars: two parts by their names, the second upon the first."""
    (first, kept), (second, written) = parts.items()
    width = panel_width(len(steps))
    made = figure(width + MARGIN, 2.8 + words_height(tokens), title)
    axes = made.add_subplot()
    places, few = np.arange(len(steps)), len(steps) <= 80
    axes.bar(places, kept, 0.8 if few else 1.0, color="0.72", label=first)
    for way, colour, hatch, name in (
        (written >= 0, LINES[4], "", f"{second}, positive"),
        (written < 0, LINES[1], "////", f"{second}, negative"),
    ):
        if way.any():
            axes.bar(
                places[way],
                written[way],
                0.4 if few else 1.0,
                kept[way],
                color=colour,
                edgecolor="white" if hatch else colour,
                linewidth=0,
                hatch=hatch,
                label=name,
            )
    line: dict[str, Any] = {"color": "black", "linewidth": 1.2, "marker": "o" if few else None}
    axes.plot(places, kept + written, markersize=3, label="what it then holds", **line)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlim(-0.6, len(steps) - 0.4)
    axes.set_ylabel(label, fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    number_steps(axes, tokens, steps, width - 0.2)
    across = 4 if width > 6 else 2
    made.legend(loc="outside lower center", ncols=across, fontsize=SMALL, frameon=False)
    return made


def unit_over_text(
    values: Any,
    text: str | Sequence[str],
    *,
    width: int = 64,
    title: str = "one unit over the text",
) -> Figure:
    """One unit, coloured over the text that it reads (as in Karpathy 2015).

    Blue is negative, grey is zero and yellow is positive. A value that is not a number has no colour.
    From https://karpathy.github.io/2015/05/21/rnn-effectiveness/.

    Args:
        values: `(time,)`, such as `numpy.tanh(trace["lstm"].states["cell"][0, :, 7])`.
        text: A string, if each step is a character, or a list of words.
        width: The number of characters in a line.
        title: Of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there is not one value for each character or word, or a word is no string.

    Example:

    >>> import kerasrnn
    >>> figure = kerasrnn.plot.unit_over_text([0.1, 0.9, -0.5], ["a", "wonderful", "film"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['a', 'wonderful', 'film']
    """
    values, width = np.asarray(values, "float32"), positive_integer("width", width)
    text = text if isinstance(text, str) else strings("text", text)
    if values.shape != (len(text),):
        raise ValueError(
            f"`values` must hold a number for each of the {len(text)} characters or words of `text`, "
            f"got the shape {values.shape}."
        )
    pieces, lines, longest = _laid_out(text, width)
    # All text stands on a grid of characters of one width.
    across, up = text_width("m" * 100, NORMAL, "monospace") / 100 * 1.04, NORMAL * 1.7 / 72
    left, below, above = 0.15, 0.55, 0.4
    wide, high = max(longest * across + 2 * left, 4.0), lines * up + below + above
    made = Figure((wide, high))
    axes = made.add_axes(
        (left / wide, below / high, longest * across / wide, lines * up / high),
        xlim=(0, longest),
        ylim=(lines, 0),
    )
    axes.set_axis_off()
    head = fitted(title, wide - 2 * left, 10.0)
    made.text(left / wide, 1 - 0.28 / high, head, fontsize=10, parse_math=False)
    most = limit(values)
    scale = Normalize(-most, most)
    grid = np.full((lines, longest), np.nan, "float32")
    for piece, number, line, column in pieces:
        grid[line, column : column + _room(piece)] = values[number]
        known = np.isfinite(values[number])
        axes.text(
            column,
            line + 0.5,
            piece,
            color=ink(SIGNED(scale(values[number]))) if known else "black",
            family="monospace",
            fontsize=NORMAL,
            va="center_baseline",
            parse_math=False,
        )
    image = axes.imshow(
        grid,
        cmap=SIGNED,
        norm=scale,
        extent=(0, longest, lines, 0),
        aspect="auto",
        interpolation="nearest",
    )
    bar_axes = made.add_axes(((left + 0.2) / wide, 0.32 / high, 1.6 / wide, 0.1 / high))
    bar = made.colorbar(image, cax=bar_axes, orientation="horizontal")
    bar.set_ticks([-most, 0, most], labels=[f"{x:.3g}" for x in (-most, 0, most)], fontsize=SMALL)
    made.text(2.3 / wide, 0.32 / high, "value of the unit", fontsize=SMALL)
    return made


def _laid_out(
    text: str | Sequence[str], width: int
) -> tuple[list[tuple[str, int, int, int]], int, int]:
    """Where the text stands: pieces with the number of their step, line and column; lines, columns."""
    pieces, line, column, widest = [], 0, 0, 1
    for number, word in enumerate(text):
        left, ahead = visible(word), 0
        # A line is broken before a word that does not fit.
        if not isinstance(text, str):
            ahead = min(columns(left), width)
        elif not word.isspace() and (number == 0 or text[number - 1].isspace()):
            ahead = columns(text[number : number + width + 1].split(maxsplit=1)[0])
        if column and ahead <= width < column + ahead:
            line, column = line + 1, 0
        while left:  # A word that is longer than a line goes on in the next.
            if column and column + _room(left[0]) > width:
                line, column = line + 1, 0
            most = 1
            while most < len(left) and column + _room(left[: most + 1]) <= width:
                most += 1
            piece, left = left[:most], left[most:]
            pieces.append((piece, number, line, column))
            column += _room(piece)
            widest = max(widest, column)
        if not isinstance(text, str):
            column += 1
        elif word == "\n":
            line, column = line + 1, 0
    return pieces, max((line for *_, line, _ in pieces), default=0) + 1, widest


def _room(piece: str) -> int:
    """The columns of a piece of text: one at least, as a mark that is a step of its own is to be seen."""
    return max(columns(piece), 1)


def saturation(trace: Trace | LayerTrace) -> Figure:
    """How often each gate is all but closed and all but open, a point for each unit (Karpathy et al. 2015).

    To the right are units that are closed most of the time, at the top those that are open; near the lower
    left corner the gate is never at an end. `kerasrnn.analysis.saturation` gives the numbers. Paper:
    https://arxiv.org/abs/1506.02078.

    Args:
        trace: The trace of a layer, or of a model that has one recurrent layer, over many sequences.

    Returns:
        The figure.

    Raises:
        ValueError: If the cell has no gates between 0 and 1.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.GRU(4)
    >>> layer.build((None, None, 3))
    >>> figure = kerasrnn.plot.saturation(kerasrnn.trace(layer, keras.ops.ones((1, 3, 3))))
    >>> [axes.get_title("left") for axes in figure.axes]
    ['update', 'reset']
    """
    layer = one_layer("trace", trace)
    found = _saturation(layer)
    across = min(len(found), 4)
    rows = math.ceil(len(found) / across)
    made = figure(max(2.0 * across + 0.6, 4.0), 2.1 * rows + 0.7, f"{layer.name}: {layer.cell}")
    for number, (name, (closed, opened)) in enumerate(found.items()):
        axes = made.add_subplot(rows, across, number + 1, aspect="equal")
        axes.plot([0, 1], [1, 0], color="0.6", linewidth=0.8, linestyle="--")
        alpha = 0.8 if len(closed) <= 32 else 0.35
        axes.scatter(
            closed, opened, 18, LINES[4], alpha=alpha, linewidths=0, clip_on=False, zorder=3
        )
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=SMALL)
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=SMALL)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(name, loc="left", fontsize=NORMAL)
    made.supxlabel(f"fraction of steps under {LOW}: closed", fontsize=SMALL)
    made.supylabel(f"fraction over {HIGH}: open", fontsize=SMALL)
    return made


def gradient_norms(norms: Mapping[str, Any]) -> Figure:
    """How fast gradients vanish, or explode, on their way back through time: one line for each network.

    The line is the median over the sequences, with the middle half of them around it. It ends where the
    gradient is zero, which has no place on a logarithmic axis; where it is nothing else, the name says so.

    Args:
        norms: What `kerasrnn.analysis.gradient_norms` gave, by the name of each network: `(batch, time)` or
            `(time,)`, with the loss after the last step. Turn round (`[:, ::-1]`) what went backwards.

    Returns:
        The figure.

    Raises:
        TypeError: If it is no mapping.
        ValueError: If there are none, one is of another shape, or is NaN or negative.

    Example:

    >>> import kerasrnn
    >>> kerasrnn.plot.gradient_norms({"halves": [0.25, 0.5, 1.0]}).axes[0].get_yscale()
    'log'
    """
    if not isinstance(norms, Mapping):
        raise TypeError(
            f"`norms` must be a dictionary, norms by the network's name, got {norms!r}."
        )
    if not norms:
        raise ValueError("`norms` must hold at least one network, got none.")
    made = figure(6.6, max(3.4, 0.2 * len(norms) + 0.8))
    axes = made.add_subplot()
    longest = 1
    for number, (name, given) in enumerate(norms.items()):
        values = np.atleast_2d(np.asarray(given, "float64"))
        if values.ndim != 2 or not values.size:
            raise ValueError(
                f"`norms[{name!r}]` must have the shape (batch, time), got {np.shape(given)}."
            )
        if not (values >= 0).all():
            raise ValueError(f"`norms[{name!r}]` must hold norms: at least 0, and none NaN.")
        longest = max(longest, values.shape[1])
        before = np.arange(values.shape[1], 0, -1)
        low, middle, high = np.percentile(values, (25, 50, 75), axis=0)
        low, middle, high = (np.where(x > 0, x, np.nan) for x in (low, middle, high))
        colour, dash = LINES[number % len(LINES)], DASHES[number % len(DASHES)]
        axes.fill_between(before, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            before,
            middle,
            color=colour,
            linestyle=dash,
            label=name if values.any() else f"{name}: zero",
            marker="." if longest == 1 else "",
        )
    axes.set_yscale("log")
    axes.set_xlim(longest + 0.5, 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.set_xlabel("steps before the loss", fontsize=SMALL)
    axes.set_ylabel("norm of the gradient at the state", fontsize=SMALL)
    axes.tick_params(which="both", labelsize=SMALL)
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    made.legend(loc="outside right center", fontsize=SMALL, frameon=False)
    return made


def _steps(
    layer: LayerTrace, sequence: Any, tokens: Sequence[str] | None
) -> tuple[int, list[str] | None, np.ndarray]:
    """The number of the sequence, its tokens, and its steps that are to be shown."""
    batch, time = layer.output.shape[:2]
    sequence = _integer("sequence", sequence, -batch, batch - 1)
    if tokens is None:
        return sequence, None, np.arange(time)
    tokens = strings("tokens", tokens)
    if len(tokens) == time:
        return sequence, tokens, np.arange(time)
    counting = np.arange(time) if layer.mask is None else np.flatnonzero(layer.mask[sequence])
    if len(tokens) != len(counting) or not tokens:
        masked = f", or of the {len(counting)} that count" if layer.mask is not None else ""
        raise ValueError(
            f"`tokens` must hold a word for each of {time} steps{masked}; got {len(tokens)}."
        )
    return sequence, tokens, counting


def _integer(name: str, value: Any, least: int, most: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = most + 1
    if not least <= number <= most:
        raise ValueError(f"`{name}` must be an integer from {least} to {most}, got {value!r}.")
    return number


def _heat_maps(
    title: str,
    panels: Sequence[tuple[str, np.ndarray, bool]],
    most: float,
    tokens: Sequence[str] | None,
    steps: np.ndarray,
) -> Figure:
    """One heat map below the other: a title, the values `(time, units)`, and whether it is a valve."""
    width, height = panel_width(len(steps)), panel_height(panels[0][1].shape[1], len(steps))
    made = figure(width + MARGIN, len(panels) * (height + 0.32) + words_height(tokens) + 0.7, title)
    all_axes = made.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values, valve) in zip(all_axes, panels, strict=True):
        heat_map(axes, values, valve=valve, most=most, width=width - 0.2, height=height)
        axes.set_title(name, loc="left", fontsize=NORMAL)
        axes.tick_params(axis="x", length=0 if axes is not all_axes[-1] else 2)
    number_steps(all_axes[-1], tokens, steps, width - 0.2)
    return made
