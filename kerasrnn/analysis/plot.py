"""Pictures of what a network does: its gates over a text, its memory, its saturation, its gradients.

Each function returns a `matplotlib.figure.Figure` and shows nothing: `plot.gates(trace).savefig("a.png")`.
In a notebook the last value of a cell is shown once matplotlib is set up there, by `%matplotlib inline`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kerasrnn.analysis._diagram import cell_diagram
from kerasrnn.analysis._drawing import (
    DASHES,
    LINES,
    MARGIN,
    NORMAL,
    SIGNED,
    SMALL,
    figure,
    heat_map,
    ink,
    limit,
    number_steps,
    panel_height,
    panel_width,
    text_width,
    visible,
    words_height,
)
from kerasrnn.analysis._measures import HIGH, LOW, belt, is_valve
from kerasrnn.analysis._measures import saturation as _saturation
from kerasrnn.analysis._trace import LayerTrace, Trace
from kerasrnn.analysis._words import word_scores

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
        tokens: The words below the steps: one for each step, or one for each step that the mask lets
            count, of which then only those are shown. Where they are too many, some are left out.
        names: The gates to show, by default all.
        sequence: Which sequence of the batch.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no such gate or sequence, or the number of tokens does not fit.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.LSTM(4)
    >>> layer.build((None, None, 3))
    >>> trace = kerasrnn.trace(layer, keras.ops.ones((1, 3, 3)))
    >>> len(kerasrnn.plot.gates(trace, ["a", "dull", "film"], names=["forget"]).axes)  # and its colour bar
    2
    """
    layer = _one(trace)
    steps = _steps(layer, sequence, tokens)
    chosen = list(layer.gates) if names is None else list(names)
    if unknown := [name for name in chosen if name not in layer.gates]:
        known = ", ".join(map(repr, layer.gates))
        raise ValueError(f"`names` may hold {known}; got unknown {unknown!r}.")
    panels = []
    for name in chosen:
        valve = is_valve(name, layer.gates[name])
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

    Args:
        trace, tokens, sequence: As in `gates`.
        state: The name of the state, by default `"cell"` or, without one, the first.
        unit: One unit, drawn in bars: what was kept, and on top, or below, what was written. By default all
            units, as three heat maps of which the third is the sum of the others.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no such state, unit or sequence, or the number of tokens does not fit.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.LSTM(4)
    >>> layer.build((None, None, 3))
    >>> trace = kerasrnn.trace(layer, keras.ops.ones((1, 3, 3)))
    >>> kerasrnn.plot.states(trace, unit=2).axes[0].get_ylabel()
    'cell, unit 2'
    """
    layer = _one(trace)
    steps = _steps(layer, sequence, tokens)
    if state is None:
        state = "cell" if "cell" in layer.states else next(iter(layer.states))
    found = belt(layer, state)
    kept, written, after = (part[sequence, steps].astype("float32") for part in found[:3])
    title = f"{layer.name}: {layer.cell}"
    if unit is None:
        panels = [
            (f"kept: {found.how}", kept, False),
            ("+ written", written, False),
            (f"= {state}", after, False),
        ]
        most = limit(np.stack([kept, written, after]))
        return _heat_maps(title, panels, most, tokens, steps)
    if not 0 <= unit < after.shape[1]:
        raise ValueError(f"`unit` must be from 0 to {after.shape[1] - 1}, got {unit!r}.")
    return _belt_of_one_unit(
        title, found.how, f"{state}, unit {unit}", kept[:, unit], written[:, unit], tokens, steps
    )


def _belt_of_one_unit(
    title: str,
    how: str,
    label: str,
    kept: np.ndarray,
    written: np.ndarray,
    tokens: Sequence[str] | None,
    steps: np.ndarray,
) -> Figure:
    width = panel_width(len(steps))
    made = figure(width + MARGIN, 2.8 + words_height(tokens), title)
    axes = made.add_subplot()
    places, few = np.arange(len(steps)), len(steps) <= 80
    axes.bar(places, kept, 0.8 if few else 1.0, color="0.72", label=f"kept: {how}")
    for way, colour, hatch, name in (
        (written >= 0, LINES[4], "", "written, positive"),
        (written < 0, LINES[1], "////", "written, negative"),
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
    columns = 4 if width > 6 else 2
    made.legend(loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False)
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
        ValueError: If there is not one value for each character or word.

    Example:

    >>> import kerasrnn
    >>> figure = kerasrnn.plot.unit_over_text([0.1, 0.9, -0.5], ["a", "wonderful", "film"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['a', 'wonderful', 'film']
    """
    values = np.asarray(values, "float32")
    if values.shape != (len(text),):
        raise ValueError(
            f"`values` must hold a number for each of the {len(text)} characters or words of `text`, "
            f"got the shape {values.shape}."
        )
    pieces, lines, columns = _laid_out(text, width)
    # All text stands on a grid of characters of one width.
    across, up = text_width("m" * 100, NORMAL, "monospace") / 100 * 1.04, NORMAL * 1.7 / 72
    left, below, above = 0.15, 0.55, 0.4
    wide, high = max(columns * across + 2 * left, 4.0), lines * up + below + above
    made = Figure((wide, high))
    axes = made.add_axes(
        (left / wide, below / high, columns * across / wide, lines * up / high),
        xlim=(0, columns),
        ylim=(lines, 0),
    )
    axes.set_axis_off()
    made.text(left / wide, 1 - 0.28 / high, title, fontsize=10, parse_math=False)
    most = limit(values)
    scale = Normalize(-most, most)
    grid = np.full((lines, columns), np.nan, "float32")
    for piece, number, line, column in pieces:
        grid[line, column : column + len(piece)] = values[number]
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
        extent=(0, columns, lines, 0),
        aspect="auto",
        interpolation="nearest",
    )
    bar_axes = made.add_axes((left / wide, 0.32 / high, 1.6 / wide, 0.1 / high))
    bar = made.colorbar(image, cax=bar_axes, orientation="horizontal")
    bar.set_ticks([-most, 0, most], labels=[f"{x:.3g}" for x in (-most, 0, most)], fontsize=SMALL)
    made.text(1.95 / wide, 0.32 / high, "value of the unit", fontsize=SMALL)
    return made


def _laid_out(
    text: str | Sequence[str], width: int
) -> tuple[list[tuple[str, int, int, int]], int, int]:
    """Where the text stands: pieces with the number of their step, line and column; lines, columns."""
    if width < 1:
        raise ValueError(f"`width` must be a positive integer, got {width!r}.")
    pieces, line, column, widest = [], 0, 0, 1
    for number, word in enumerate(text):
        left, ahead = visible(word), 0
        # A line is broken before a word that does not fit.
        if not isinstance(text, str):
            ahead = min(len(left), width)
        elif not word.isspace() and (number == 0 or text[number - 1].isspace()):
            ahead = len(text[number : number + width + 1].split(maxsplit=1)[0])
        if column and ahead <= width < column + ahead:
            line, column = line + 1, 0
        while left:  # A word that is longer than a line goes on in the next.
            if column >= width:
                line, column = line + 1, 0
            piece, left = left[: width - column], left[width - column :]
            pieces.append((piece, number, line, column))
            column += len(piece)
            widest = max(widest, column)
        if not isinstance(text, str):
            column += 1
        elif word == "\n":
            line, column = line + 1, 0
    return pieces, max((line for *_, line, _ in pieces), default=0) + 1, widest


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
    layer = _one(trace)
    found = _saturation(layer)
    columns = min(len(found), 4)
    rows = math.ceil(len(found) / columns)
    made = figure(max(2.0 * columns + 0.6, 4.0), 2.1 * rows + 0.7, f"{layer.name}: {layer.cell}")
    for number, (name, (closed, opened)) in enumerate(found.items()):
        axes = made.add_subplot(rows, columns, number + 1, aspect="equal")
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
    gradient is zero, which has no place on a logarithmic axis.

    Args:
        norms: What `kerasrnn.analysis.gradient_norms` gave, by the name of each network: `(batch, time)` or
            `(time,)`, with the loss after the last step. Turn round (`[:, ::-1]`) what went backwards.

    Returns:
        The figure.

    Raises:
        ValueError: If there are none, or one is of another shape.

    Example:

    >>> import kerasrnn
    >>> kerasrnn.plot.gradient_norms({"halves": [0.25, 0.5, 1.0]}).axes[0].get_yscale()
    'log'
    """
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
            label=name,
            marker="." if longest == 1 else "",
        )
    axes.set_yscale("log")
    axes.set_xlim(longest + 0.5, 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.set_xlabel("steps before the loss", fontsize=SMALL)
    axes.set_ylabel("norm of the gradient at the state", fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    made.legend(loc="outside right center", fontsize=SMALL, frameon=False)
    return made


def _one(trace: Trace | LayerTrace) -> LayerTrace:
    """The one layer of a trace."""
    if isinstance(trace, LayerTrace):
        return trace
    if not isinstance(trace, Trace):
        raise TypeError(f"`trace` must be what `kerasrnn.trace` gave, got {trace!r}.")
    if len(trace) > 1:
        raise ValueError(
            f"The trace has the layers {', '.join(map(repr, trace))}: take one, "
            f"`trace[{next(iter(trace))!r}]`."
        )
    return next(iter(trace.values()))


def _steps(layer: LayerTrace, sequence: int, tokens: Sequence[str] | None) -> np.ndarray:
    """The steps to show of a sequence."""
    batch, time = layer.output.shape[:2]
    if not -batch <= sequence < batch:
        raise ValueError(f"`sequence` must be less than the batch of {batch}, got {sequence!r}.")
    if isinstance(tokens, str):
        raise ValueError(f"`tokens` must be a list of words, got the one string {tokens!r}.")
    if tokens is None or len(tokens) == time:
        return np.arange(time)
    counting = np.arange(time) if layer.mask is None else np.flatnonzero(layer.mask[sequence])
    if len(tokens) != len(counting) or not len(tokens):
        masked = f", or of the {len(counting)} that count" if layer.mask is not None else ""
        raise ValueError(
            f"`tokens` must hold a word for each of {time} steps{masked}; got {len(tokens)}."
        )
    return counting


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
        heat_map(axes, values, valve=valve, most=most, height=height)
        axes.set_title(name, loc="left", fontsize=NORMAL)
        axes.tick_params(axis="x", length=0 if axes is not all_axes[-1] else 2)
    number_steps(all_axes[-1], tokens, steps, width - 0.2)
    return made
