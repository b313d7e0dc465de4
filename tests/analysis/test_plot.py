"""Every picture shows what it says, in colours that all can read, and no text lies on another."""

import importlib
import math

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import rgb_to_hsv
from matplotlib.figure import Figure
from matplotlib.text import Text

import kerasrnn
from kerasrnn import plot
from kerasrnn._tables import columns
from kerasrnn.analysis import LayerTrace, _drawing
from tests.cells._helpers import CASES

GATES = {
    "lstm": ("input", "forget", "candidate", "output"),
    "gru": ("update", "reset", "candidate"),
}


def made_up(units, time, kind="lstm", batch=2, mask=None):
    """A trace of numbers that no cell computed, to be drawn."""
    random = np.random.default_rng(0)
    gates = {name: random.uniform(0, 1, (batch, time, units)) for name in GATES[kind]}
    gates["candidate"] = 2 * gates["candidate"] - 1
    state = random.normal(0, 1.5, (batch, time, units))
    for gate in gates.values():
        if mask is not None:
            gate[~mask] = np.nan
    valves = tuple(name for name in gates if name != "candidate")
    start = {"cell": state[:, 0]}
    states = {"cell": state}
    return LayerTrace("model/a layer", "ACell", gates, states, state, start, mask, False, valves)


def assert_legible(figure):
    """All text that is drawn is within the figure, and none lies on another; gives the texts."""
    assert isinstance(figure, Figure)
    canvas, written = FigureCanvasAgg(figure), []
    with pytest.MonkeyPatch.context() as patch:
        draw = Text.draw
        patch.setattr(
            Text, "draw", lambda text, renderer: (written.append(text), draw(text, renderer))
        )
        canvas.draw()
    renderer = canvas.get_renderer()
    drawn = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in written
        if text.get_visible() and text.get_text().strip()
    ]
    for text, box in drawn:
        assert box.x0 >= -1 and box.y0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, text
    low, high = (np.array([getattr(box, end) for _, box in drawn]) for end in ("min", "max"))
    for number, (text, box) in enumerate(drawn):
        over = np.minimum(box.max, high[:number]) - np.maximum(box.min, low[:number])
        # A line's box has room for letters that it need not have.
        on = (over[:, 0] > 1) & (over[:, 1] > 2)
        assert not on.any(), (text, drawn[int(on.argmax())][0])
    return [text for text, _ in drawn]


TOKENS = [
    "I",
    "expected",
    "to",
    "love",
    "it,",
    "$5",
    "a\nb",
    "antidisestablishmentarianism",
    "",
    "W" * 60,
]


def words(time):
    return [TOKENS[n % len(TOKENS)] for n in range(time)]


SIZES = [(1, 1), (1, 5), (512, 5), (12, 30), (512, 500)]


@pytest.mark.parametrize("with_words", [False, True])
@pytest.mark.parametrize(("units", "time"), SIZES)
def test_gates_of_any_size(units, time, with_words):
    tokens = words(time) if with_words else None
    texts = assert_legible(plot.gates(made_up(units, time), tokens, names=["forget", "candidate"]))
    assert {"forget", "candidate", "unit", "opening", "value"} <= set(texts)
    assert ("token" if tokens else "time step") in texts


def test_the_colours_are_the_numbers():
    seen = made_up(3, 4)
    figure = plot.gates(seen, sequence=1)
    images = [axes.images[0] for axes in figure.axes if axes.get_title("left")]
    for image, (name, values) in zip(images, seen.gates.items(), strict=True):
        np.testing.assert_allclose(image.get_array(), values[1].T, rtol=1e-6)
        assert image.get_clim() == ((-1, 1) if name == "candidate" else (0, 1))
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown == [f"{number:.2f}" for number in seen.gates["input"][1].ravel()]


@pytest.mark.parametrize("units", [100, 512])
def test_no_unit_is_too_thin_to_be_seen(units):
    """Each of them is lit for four steps, alone."""
    figures = []
    for lit in (0.0, 1.0):
        seen = made_up(units, 4 * units, batch=1)
        seen.gates["forget"][...] = lit * np.repeat(np.eye(units), 4, axis=0)
        figures.append(plot.gates(seen, names=["forget"]))
    dark, light = (pixels(figure) for figure in figures)
    box = figures[0].axes[0].get_window_extent()
    # But for the outermost, on which the frame lies.
    left, right = int(box.x0) + 8, int(box.x1) - 8
    changed = np.abs(light - dark).sum(axis=(0, 2))[left:right]
    assert len(changed) > units and changed.min() > 100


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).astype(int)


def test_numbers_stand_in_their_squares_where_they_fit():
    for units, time, numbers in ((1, 5, 5), (1, 24, 0), (4, 6, 24)):
        figure = plot.gates(made_up(units, time), names=["forget"])
        assert_legible(figure)
        assert len(figure.axes[0].texts) == numbers
    large = made_up(1, 5)
    large.states["cell"][...] *= 1e9
    assert_legible(plot.states(large))
    assert_legible(plot.states(large, unit=0))


def test_only_the_steps_that_count_may_have_words():
    mask = np.array([[True] * 5, [False, True, True, False, True]])
    seen = made_up(2, 5, mask=mask)
    figure = plot.gates(seen, ["a", "dull", "film"], sequence=1)
    image = figure.axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), seen.gates["input"][1][mask[1]].T, rtol=1e-6)
    labels = [label.get_text() for label in figure.axes[3].get_xticklabels()]
    assert labels == ["a", "dull", "film"]
    # Without words all are shown, and nothing is drawn over the hatches of those that do not count.
    whole = plot.gates(seen, sequence=1).axes[0]
    assert np.ma.getmaskarray(np.ma.masked_invalid(whole.images[0].get_array()))[:, [0, 3]].all()
    assert whole.patch.get_hatch()


@pytest.mark.parametrize(("units", "time"), [(1, 5), (512, 500)])
def test_states_of_any_size(units, time):
    assert_legible(plot.states(made_up(units, time), words(time)))
    assert_legible(plot.states(made_up(units, time)))


@pytest.mark.parametrize(("time", "with_words"), [(1, False), (5, True), (30, True), (500, False)])
def test_the_belt_of_one_unit_over_any_time(time, with_words):
    assert_legible(plot.states(made_up(2, time), words(time) if with_words else None, unit=1))


def test_the_belt_is_kept_and_written():
    layer = kerasrnn.layers.LSTM(3)
    layer.build((None, None, 2))
    seen = kerasrnn.trace(layer, np.random.default_rng(0).normal(size=(1, 6, 2)))[layer.name]
    found = kerasrnn.analysis.belt(seen, "cell")
    maps = [axes.images[0].get_array() for axes in plot.states(seen).axes if axes.get_title("left")]
    for shown, part in zip(maps, found[:3], strict=True):
        np.testing.assert_allclose(shown, part[0].T, rtol=1e-6)
    axes = plot.states(seen, unit=1).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), found.state[0, :, 1], rtol=1e-6)
    heights = [bar.get_height() for bar in axes.containers[0]]
    np.testing.assert_allclose(heights, found.kept[0, :, 1], rtol=1e-6)
    # What no rule explains.
    panels = plot.states(made_up(1, 3, "gru")).axes
    assert [axes.get_title("left") for axes in panels[:3]] == ["before", "+ change", "= cell"]
    texts = assert_legible(plot.states(made_up(1, 3, "gru"), unit=0))
    assert "before" in texts and not {text for text in texts if "kept" in text or "writ" in text}


@pytest.mark.filterwarnings("ignore:Glyph")  # Not every machine has a font for Japanese.
@pytest.mark.parametrize(
    "text",
    [
        "short",
        "One unit follows the brackets (as it should)\nand " * 12,
        "x" * 300,
        "日本語の文章を読む、一つの単位。" * 4,
        ["日本語", "の", "文章", "mixed", "e\u0301t\u00e9"] * 6,
        TOKENS,
        TOKENS * 50,
    ],
    ids=len,
)
def test_a_unit_over_any_text(text):
    values = np.tanh(np.random.default_rng(0).normal(size=len(text)))
    figure = plot.unit_over_text(values, text, width=40)
    assert_legible(figure)
    shown = "".join(piece.get_text() for piece in figure.axes[0].texts)
    assert shown == "".join(text).replace("\n", "↵")
    grid = figure.axes[0].images[0].get_array()
    assert grid.shape[1] <= 40
    pieces = [word.replace("\n", "↵") for word in text]
    expected = np.repeat(values.astype("float32"), [columns(piece) for piece in pieces])
    np.testing.assert_array_equal(grid[np.isfinite(grid)], expected)


def test_titles_and_numbers_of_any_length_fit():
    for title, most in (("x" * 100, 1e6), ("W" * 100, -1.23e-9), ("short", 1.23e9)):
        assert_legible(plot.unit_over_text([most, -most], "ab", title=title))
        assert_legible(plot.word_scores(["a", "b"], [most, -most], title=title))


def test_a_line_has_room_for_one_wide_sign_at_least():
    figure = plot.unit_over_text([1, 2, 3], "語ab", width=1)
    assert [text.get_text() for text in figure.axes[0].texts] == ["語", "a", "b"]
    assert figure.axes[0].images[0].get_array().shape == (3, 2)


def test_lines_of_a_text_end_between_words():
    text = "a line ends where a word ends if it can"
    figure = plot.unit_over_text(np.zeros(len(text)), text, width=12)
    lines = {}
    for piece in figure.axes[0].texts:
        line = int(piece.get_position()[1])
        lines[line] = lines.get(line, "") + piece.get_text()
    assert [line.strip() for line in lines.values()] == [
        "a line ends",
        "where a word",
        "ends if it",
        "can",
    ]


@pytest.mark.parametrize("units", [1, 512])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_saturation_is_a_point_for_each_unit(units, kind):
    seen = made_up(units, 50, kind)
    figure = plot.saturation(seen)
    assert_legible(figure)
    found = kerasrnn.analysis.saturation(seen)
    for axes, (name, gate) in zip(figure.axes, found.items(), strict=True):
        assert axes.get_title("left") == name
        np.testing.assert_array_equal(axes.collections[0].get_offsets(), np.stack([*gate], axis=1))


@pytest.mark.parametrize(("networks", "time"), [(1, 1), (1, 5), (6, 500), (29, 50)])
def test_gradients_of_any_number_of_networks(networks, time):
    falls = 0.9 ** np.arange(time)[::-1]
    norms = {f"a network of name {n}": np.stack([falls, falls * (n + 1)]) for n in range(networks)}
    figure = plot.gradient_norms(norms)
    texts = assert_legible(figure)
    assert set(norms) <= set(texts)
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), falls)
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    looks = {
        (line.get_color(), line._dash_pattern[1] and tuple(line._dash_pattern[1]))
        for line in axes.lines
    }
    assert len(looks) == min(networks, 28)


def test_a_network_without_any_gradient_says_so():
    texts = assert_legible(plot.gradient_norms({"dead": np.zeros(5)}))
    assert "dead: zero" in texts


def test_the_labels_of_an_axis_are_of_one_size():
    """Also where the axis spans less than a factor of ten."""
    axes = plot.gradient_norms({"one": [0.3, 0.5, 0.9]}).axes[0]
    FigureCanvasAgg(axes.figure).draw()
    labels = axes.get_yticklabels(which="both")
    assert {label.get_fontsize() for label in labels if label.get_text()} == {_drawing.SMALL}


def test_a_gradient_of_zero_ends_the_line():
    line = plot.gradient_norms({"one": [0.0, 0.5, 1.0]}).axes[0].lines[0]
    np.testing.assert_array_equal(line.get_ydata(), [np.nan, 0.5, 1.0])


FIRST = {case.name: case for case in reversed(CASES)}.values()


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=() if c in FIRST else pytest.mark.slow, id=str(c)) for c in CASES],
)
def test_the_diagram_of_every_cell(case):
    cell = case.cell()
    figure = plot.cell_diagram(cell)
    texts = assert_legible(figure)
    assert not cell.built
    assert {*cell.gates, *cell.derived_gates, *cell.states, "inputs", "output"} <= set(texts)
    assert ("bias" in texts) == case.use_bias


def dots(cell):
    """Which sources have a dot in the line of which gate."""
    axes = plot.cell_diagram(cell).axes[0]
    places = {
        (round(x, 3), round(y, 3)): text.get_text()
        for text in axes.texts
        for x, y in [text.get_position()]
    }
    columns, rows = {}, {}
    for (x, y), name in places.items():
        rows[y] = name if name in (*cell.gates, *cell.blocks) else rows.get(y)
        columns.setdefault(x, name)
    found = {}
    for line in axes.lines:
        x, y = round(line.get_xdata()[0], 3), round(line.get_ydata()[0], 3)
        if line.get_marker() in ("o", "D"):
            mark = {"D": "own", "o": "weights" if line.get_markerfacecolor() != "white" else "raw"}
            found.setdefault(rows[y], {})[columns[x]] = mark[line.get_marker()]
    return found


def test_the_diagram_says_what_reaches_what():
    every = {"inputs": "weights", "hidden": "weights", "bias": "weights"}
    assert dots(kerasrnn.cells.PeepholeLSTMCell(4, peepholes=("output",))) == {
        "input": every,
        "forget": every,
        "candidate": every,
        "output": {**every, "cell": "own"},
    }
    assert dots(kerasrnn.cells.MUT1Cell(4)) == {
        "update": {"inputs": "weights", "bias": "weights"},
        "reset": every,
        "candidate": {**every, "inputs": "raw"},
    }
    # No bias, no wire of it.
    assert dots(kerasrnn.cells.IndRNNCell(4, use_bias=False)) == {
        "candidate": {"inputs": "weights", "hidden": "own"}
    }
    deep = dots(kerasrnn.cells.DepthGatedLSTMCell(4))
    assert deep["input_0"] == {
        "inputs": "weights",
        "hidden_0": "weights",
        "cell_0": "own",
        "bias": "weights",
    }
    assert deep["output_1"] == {"hidden_1": "weights", "cell_1": "own", "bias": "weights"}
    assert deep["depth_1"] == {"bias": "weights"}


# Colours.


# What those see who lack one of the three kinds of cones (Machado et al. 2009, full severity).
SIGHT = {
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    "all": np.eye(3),
}


def lightness(colours, sight):
    """CIE L*, from 0 to 100, as it is seen."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(SIGHT[sight]).T, 0, 1)
    luminance = seen @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("colours", [_drawing.VALVE, _drawing.SIGNED], ids=["valve", "signed"])
def test_the_scales_grow_lighter_from_end_to_end(colours, sight):
    """So they can be read in grey, and whichever colours one sees."""
    values = lightness(colours(np.linspace(0, 1, 33))[:, :3], sight)
    assert (np.diff(values) > 0).all()
    assert values[-1] - values[0] > 60


def test_zero_is_grey():
    _, saturation, _ = rgb_to_hsv(_drawing.SIGNED(0.5)[:3])
    assert saturation < 0.1
    assert rgb_to_hsv(_drawing.SIGNED(0.0)[:3])[1] > 0.9


@pytest.mark.parametrize("scale", [_drawing.VALVE, _drawing.SIGNED], ids=["valve", "signed"])
def test_text_can_be_read_on_every_colour(scale):
    for colour in scale(np.linspace(0, 1, 65)):
        here = lightness(colour[:3], "all")
        text = {"black": 0.0, "white": 100.0}[_drawing.ink(colour)]
        assert abs(here - text) > 40


# What is said, and what is not done.


def test_pictures_leave_pyplot_alone(monkeypatch):
    monkeypatch.setattr(matplotlib, "use", lambda *_: pytest.fail("a backend was chosen"))
    plot.gates(made_up(2, 3)).savefig("/dev/null", format="png")


def test_what_cannot_be_drawn():
    seen = made_up(2, 3)
    with pytest.raises(TypeError, match=r"`trace` must be what `kerasrnn\.trace` gave"):
        plot.gates({"lstm": seen})
    both = kerasrnn.analysis.Trace([seen, made_up(1, 1)])
    assert len(both) == 1
    other = LayerTrace("other", *[getattr(seen, f) for f in list(seen.__dataclass_fields__)[1:]])
    with pytest.raises(ValueError, match=r"take one, `trace\['model/a layer'\]`"):
        plot.gates(kerasrnn.analysis.Trace([seen, other]))
    with pytest.raises(ValueError, match=r"`names` may hold .*got unknown \['update'\]"):
        plot.gates(seen, names=["forget", "update"])
    for names in ([], ()):
        with pytest.raises(ValueError, match="`names` must hold one gate at least"):
            plot.gates(seen, names=names)
    with pytest.raises(ValueError, match="`names` must be a list of strings, got the one 'forget'"):
        plot.gates(seen, names="forget")
    for sequence in (2, -3, 0.5, "1", None):
        with pytest.raises(ValueError, match="`sequence` must be an integer from -2 to 1, got"):
            plot.states(seen, sequence=sequence)
    for tokens in ([1, 2, 3], [b"a", b"b", b"c"], np.arange(3)):
        with pytest.raises(ValueError, match="`tokens` must hold strings, got"):
            plot.gates(seen, tokens)
        with pytest.raises(ValueError, match="`text` must hold strings, got"):
            plot.unit_over_text([1, 2, 3], tokens)
        with pytest.raises(ValueError, match="`words` must hold strings, got"):
            plot.word_scores(tokens, [1, 2, 3])
    with pytest.raises(ValueError, match="`tokens` must hold a word for each of 3 steps; got 2"):
        plot.gates(seen, ["a", "b"])
    with pytest.raises(ValueError, match="`tokens` must be a list of strings"):
        plot.gates(seen, "abc")
    for unit in (2, -1, 1.5, "1"):
        with pytest.raises(ValueError, match="`unit` must be an integer from 0 to 1, got"):
            plot.states(seen, unit=unit)
    with pytest.raises(ValueError, match="a number for each of the 2 characters or words"):
        plot.unit_over_text([0.1], "ab")
    for width in (0, 1.5, "1"):
        with pytest.raises(ValueError, match="`width` must be a positive integer, got"):
            plot.unit_over_text([0.1], "a", width=width)
    with pytest.raises(TypeError, match=r"`norms` must be a dictionary.*got \[1\.0\]"):
        plot.gradient_norms([1.0])
    for values in ([0.5, math.nan], [1.0, -1.0]):
        with pytest.raises(ValueError, match=r"`norms\['a'\]` must hold norms: at least 0"):
            plot.gradient_norms({"a": values})
    with pytest.raises(ValueError, match="`norms` must hold at least one network"):
        plot.gradient_norms({})
    with pytest.raises(ValueError, match=r"`norms\['a'\]` must have the shape \(batch, time\)"):
        plot.gradient_norms({"a": np.zeros((1, 2, 3))})
    with pytest.raises(TypeError, match=r"`cell` must be a cell of kerasrnn\.cells"):
        plot.cell_diagram("lstm")


def test_without_matplotlib_it_is_said_what_to_install(no_matplotlib):
    with pytest.raises(
        ImportError, match=r'pictures need matplotlib: pip install "kerasrnn\[plot\]"'
    ):
        importlib.import_module("kerasrnn.analysis.plot")
    with pytest.raises(ImportError, match="pictures need matplotlib"):
        _ = kerasrnn.plot
