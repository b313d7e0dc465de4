"""A cell's own diagram, drawn from what it declares: gates, states, and what reaches what."""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

import keras
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from kerasrnn.analysis._drawing import NORMAL, SMALL, text_width
from kerasrnn.cells import Cell


class Row(NamedTuple):
    """A line of the diagram.

    Attributes:
        name: The gate.
        style: `"gate"`, `"derived"`, or `"share"`: a share of the input that is no gate.
        reads: How each source reaches it: `"weights"`, `"own"` (each unit its own) or `"raw"`.
    """

    name: str
    style: str
    reads: dict[str, str]


def cell_diagram(cell: Cell) -> Figure:
    """The cell's diagram, drawn from its declaration: its gates, its states, and what reaches which gate.

    A wire comes down from each source: the input, the states of the step before, the bias. A dot is where a
    gate reads it. What `step` makes of the gates goes back into the states, whose wires go on below.

    Args:
        cell: A cell of `kerasrnn.cells`, built or not.

    Returns:
        The figure.

    Raises:
        TypeError: If it is no such cell.

    Example:

    >>> import kerasrnn
    >>> figure = kerasrnn.plot.cell_diagram(kerasrnn.cells.PeepholeLSTMCell(8))
    >>> "peephole_kernel" in " ".join(text.get_text() for text in figure.axes[0].texts)
    False
    """
    if not isinstance(cell, Cell):
        raise TypeError(f"`cell` must be a cell of kerasrnn.cells, got {cell!r}.")
    weights = {weight.name: tuple(weight.shape) for weight in _built(cell).weights}
    rows = _rows(cell, weights)
    sources = ["inputs", *cell.states, *(["bias"] if cell.use_bias else [])]

    # All in inches.
    gap, line = 0.22, 0.4
    widths = [text_width(name, NORMAL) + 0.2 for name in sources]
    places = [sum(widths[:n]) + n * gap + 0.2 + widths[n] / 2 for n in range(len(sources))]
    at = dict(zip(sources, places, strict=True))
    box_left = places[-1] + widths[-1] / 2 + 0.25
    box_width = max(text_width(row.name, NORMAL) for row in rows) + 0.3
    step_left = box_left + box_width + 0.35
    output_left = step_left + 0.5 + 0.35
    width = max(output_left + text_width("output", NORMAL) + 0.4, 4.6)

    notes = textwrap.wrap(_legend(rows), int(width * 14))
    if further := _further(cell, weights):
        notes += textwrap.wrap(f"Further weights, not drawn: {further}.", int(width * 14))
    title = textwrap.wrap(
        (type(cell).__doc__ or type(cell).__name__).partition("\n")[0], int(width * 11)
    )
    below = 0.2 + 0.17 * len(notes)
    height = 0.25 + 0.2 * len(title) + 0.55 + line * len(rows) + 0.75 + below

    made = Figure((width, height))
    axes = made.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    for number, text in enumerate(title):
        axes.text(0.2, height - 0.27 - 0.2 * number, text, fontsize=NORMAL + 1, parse_math=False)
    for number, text in enumerate(reversed(notes)):
        axes.text(0.2, 0.15 + 0.17 * number, text, fontsize=SMALL, color="0.25", parse_math=False)
    top = height - 0.25 - 0.2 * len(title) - 0.25  # The middle of the sources' boxes.
    levels = [top - 0.5 - line * number for number in range(len(rows))]
    bottom, join = (
        below + 0.2,
        below + 0.55,
    )  # The new states' boxes, and the line that leads there.

    def box(x: float, y: float, wide: float, high: float, style: str) -> None:
        face, edge, dash = STYLES[style]
        axes.add_patch(
            FancyBboxPatch(
                (x, y - high / 2),
                wide,
                high,
                boxstyle="round,pad=0,rounding_size=0.06",
                facecolor=face,
                edgecolor=edge,
                linestyle=dash,
                zorder=3,
            )
        )

    def wire(*points: tuple[float, float], heavy: bool = False) -> None:
        x, y = zip(*points, strict=True)
        axes.plot(
            x, y, color="0.25", linewidth=2.2 if heavy else 1.0, zorder=1, solid_joinstyle="miter"
        )

    def label(x: float, y: float, text: str, **options: Any) -> None:
        options = {"ha": "center", "va": "center", "fontsize": NORMAL, "zorder": 4, **options}
        axes.text(x, y, text, **options)

    for name, wide in zip(sources, widths, strict=True):
        x, state = at[name], name in cell.states
        ends = [level for level, row in zip(levels, rows, strict=True) if name in row.reads]
        if state or ends:
            wire((x, top), (x, bottom if state else min(ends)), heavy=state)
        style = "state" if state else "source"
        box(x - wide / 2, top, wide, 0.26, style)
        label(x, top, name)
        if state:
            box(x - wide / 2, bottom, wide, 0.26, style)
            label(x, bottom, name)
            axes.plot([x], [join], "s", color="0.25", markersize=5, zorder=2)
    for level, row in zip(levels, rows, strict=True):
        if row.reads:
            wire((min(at[name] for name in row.reads), level), (box_left, level))
        for name, how in row.reads.items():
            marker, face = MARKERS[how]
            axes.plot(
                [at[name]],
                [level],
                marker,
                markersize=6.5,
                color="0.1",
                markerfacecolor=face,
                zorder=5,
            )
        box(box_left, level, box_width, 0.28, row.style)
        label(box_left + box_width / 2, level, row.name)
        wire((box_left + box_width, level), (step_left, level))
    middle = (levels[0] + levels[-1]) / 2
    tall = max(levels[0] - levels[-1] + 0.28, 0.5)
    box(step_left, middle, 0.5, tall, "source")
    label(step_left + 0.25, middle, "step")
    wire((step_left + 0.25, middle - tall / 2), (step_left + 0.25, join))
    wire((step_left + 0.25, join), (min(at[state] for state in cell.states), join))
    wire((step_left + 0.5, middle), (output_left, middle))
    axes.plot([output_left], [middle], ">", color="0.25", markersize=5)
    label(output_left + 0.1, middle, "output", ha="left")
    return made


# Face, edge and dash of the boxes; marker and face of the dots.
STYLES = {
    "source": ("0.93", "0.4", "-"),
    "state": ("#CFE3F3", "#0072B2", "-"),
    "gate": ("#FBE3B5", "#B37400", "-"),
    "derived": ("white", "#B37400", "--"),
    "share": ("white", "0.4", "-"),
}
MARKERS = {"weights": ("o", "0.1"), "own": ("D", "white"), "raw": ("o", "white")}


def _rows(cell: Cell, weights: dict[str, tuple[int, ...]]) -> list[Row]:
    """What is drawn as a line: the shares of the input that are no gates, the gates, and what follows."""
    raw = getattr(cell, "raw", None) if not getattr(cell, "project_input", True) else None
    peepholes = getattr(cell, "peephole_gates", ())
    shares = [name for name in cell.blocks if name not in cell.gates]
    # One weight for each unit, as in IndRNN: every gate is reached by it.
    alone = len(weights.get("recurrent_kernel", ())) == 1
    rows = []
    for name in (*shares, *cell.gates):
        plain, _, level = name.rpartition("_")
        known = {name, plain} if level.isdigit() else {name}  # Tied columns go without the number.

        def of_level(kind: str, level: str = level) -> str:
            own = f"{kind}_{level}"
            return own if own in cell.states else kind if kind in cell.states else cell.states[0]

        reads = {}
        if known & {*cell.input_gates}:
            reads["inputs"] = "weights"
        if raw in known:
            reads["inputs"] = "raw"
        if known & {*cell.recurrent_gates} and name not in shares:
            reads[of_level("hidden")] = "weights"
        if alone:
            reads[cell.states[0]] = "own"
        if name in peepholes:
            reads[of_level("cell")] = "own"
        if cell.use_bias and known & {*cell.bias_gates}:
            reads["bias"] = "weights"
        rows.append(Row(name, "share" if name in shares else "gate", reads))
    return rows + [Row(name, "derived", {}) for name in cell.derived_gates]


def _legend(rows: list[Row]) -> str:
    """What the marks mean that are there."""
    marks = {how for row in rows for how in row.reads.values()}
    styles = {row.style for row in rows}
    said = [
        ("● by weights", "weights" in marks),
        ("◇ by one weight for each unit, its own", "own" in marks),
        ("○ as it is", "raw" in marks),
        ("dashed: follows from the other gates", "derived" in styles),
        ("white: a share of the input that is no gate", "share" in styles),
    ]
    return "   ".join(text for text, there in said if there)


def _further(cell: Cell, weights: dict[str, tuple[int, ...]]) -> str:
    """The names of the weights that no dot stands for."""
    drawn = {"kernel", "recurrent_kernel", "bias", "peephole_kernel"}
    return ", ".join(name for name in weights if name not in drawn)


def _built(cell: Cell) -> Cell:
    """The cell or, if it has no weights yet, one like it that has."""
    if cell.built:
        return cell
    copy: Any = type(cell).from_config(cell.get_config())
    with keras.device("cpu:0"):
        copy.build((None, cell.units))
    return copy
