"""`kerasrnn explain`: the scores are what they are said to be, and what people see shows them."""

import io
import json
import math
import re
import sys
import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import cli
from kerasrnn.analysis._drawing import SIGNED
from kerasrnn.analysis._words import word_scores
from kerasrnn.applications.sentiment import explain as explaining
from kerasrnn.applications.sentiment.explain import Explanation, data, explain, picture, view
from kerasrnn.layers import SequencePooling
from tests.analysis.test_plot import assert_legible
from tests.applications.test_sentiment_model import WORDS, classifier

METHODS = ("integrated_gradients", "occlusion")
TEXT = "The film was not dull, and a GREAT xyzzy."
TOKENS = ("the", "film", "was", "not", "dull", ",", "and", "a", "great", "xyzzy", ".")
ALL = SequencePooling.MODES

each_method = pytest.mark.parametrize("method", METHODS)


def log_odds(model, texts: list[str], label: str) -> np.ndarray:
    """By way of the probabilities."""
    p = np.asarray(model(tf.constant(texts)), "float64")[:, model.labels.index(label)]
    return np.log(p) - np.log1p(-p)


# The scores.


@pytest.mark.parametrize("labels", [("bad", "good"), ("bad", "so so", "good")])
def test_occlusion_is_the_difference_that_a_hidden_word_makes(labels):
    model = classifier(labels=labels, num_layers=2)
    hidden = [[*TOKENS[:n], "plugh", *TOKENS[n + 1 :]] for n in range(len(TOKENS))]
    for label in labels:
        found = explain(model, TEXT, "occlusion", label=label)
        whole, *others = log_odds(model, [TEXT, *map(" ".join, hidden)], label)
        assert found.log_odds == pytest.approx(whole, abs=1e-5)
        np.testing.assert_allclose(found.scores, whole - others, rtol=0, atol=1e-5)
        assert max(map(abs, found.scores)) > 0.05


@pytest.mark.parametrize("reading", [("last",), ("mean",), ("max",), ("attention",)])
def test_integrated_gradients_add_up_to_the_difference(reading):
    """Completeness (Sundararajan et al. 2017, proposition 1)."""
    model = classifier(reading=reading)
    found = explain(model, TEXT, label="positive")
    text, baseline = log_odds(model, [TEXT, "plugh " * len(TOKENS)], "positive")
    moved = text - baseline
    assert abs(moved) > 0.05
    # The largest of all has kinks on the line.
    assert sum(found.scores) == pytest.approx(moved, abs=2e-2 if reading == ("max",) else 2e-3)
    assert found.gap == pytest.approx(sum(found.scores) - moved, abs=1e-5)
    # The fewer steps, the less it fits; the number says so.
    assert abs(explain(model, TEXT, steps=1, label="positive").gap) > 2 * abs(found.gap)


def test_integrated_gradients_are_each_words_share_in_what_happens_on_the_line():
    """Against the differences that small changes of one word's vector make at the points of the line."""
    model, steps, small = classifier(), 3, 1e-2
    ids = model.word_ids(tf.constant([TEXT]))
    start, end = (model.embedding(x).numpy() for x in (tf.ones_like(ids), ids))
    moves = np.eye(len(TOKENS), dtype="float32")[..., None] * (end - start) * small
    points = [start + (number + 0.5) / steps * (end - start) for number in range(steps)]
    rows = np.concatenate([point + sign * moves for point in points for sign in (1, -1)])
    read, _ = model.read_vectors(tf.constant(rows), tf.ones(rows.shape[:2], "bool"))
    values = np.asarray(model.verdict(read), "float64").reshape(steps, 2, len(TOKENS), 2)
    odds = np.log(values[..., 1] / values[..., 0])
    expected = ((odds[:, 0] - odds[:, 1]) / (2 * small)).mean(axis=0)
    found = explain(model, TEXT, steps=steps, label="positive")
    np.testing.assert_allclose(found.scores, expected, rtol=0, atol=2e-4)
    assert np.abs(expected).max() > 0.05


@each_method
def test_what_an_explanation_holds(method):
    model = classifier(dropout=0.5, embedding_dropout=0.5, word_dropout=0.5, reading=("max",))
    found = explain(model, TEXT, method)
    verdict, nothing = model.classify([TEXT, "plugh " * len(TOKENS)])
    assert found == explain(model, TEXT, method)
    assert found.tokens == TOKENS
    assert found.known == tuple(token != "xyzzy" for token in TOKENS)
    assert found.scores[TOKENS.index("xyzzy")] == pytest.approx(0, abs=1e-6)
    assert (found.label, found.method) == (verdict.label, method)
    assert found.confidence == pytest.approx(verdict.confidence, abs=1e-6)
    assert found.baseline_confidence == pytest.approx(
        nothing.probabilities[verdict.label], abs=1e-6
    )
    assert (found.gap is None) == (method == "occlusion")
    assert found.attention is None and not found.unread


def test_another_label_of_two_is_moved_the_other_way():
    model = classifier()
    one, other = (explain(model, TEXT, label=label) for label in model.labels)
    np.testing.assert_allclose(one.scores, np.negative(other.scores), rtol=0, atol=1e-5)


def test_a_sure_model_still_has_scores():
    """Where the probability is 1 in float32, its log-odds are finite."""
    model = classifier()
    model.verdict.kernel.assign(model.verdict.kernel * 200)
    found = explain(model, TEXT, "occlusion")
    assert found.confidence == 1.0 and np.isfinite([*found.scores, found.log_odds]).all()
    assert max(map(abs, found.scores)) > 1


@each_method
def test_many_words_go_in_batches(method, monkeypatch):
    model, text = classifier(), "the film was not great " * 3
    whole = explain(model, text, method, steps=20)
    monkeypatch.setattr(explaining, "ROWS", 7)
    parted = explain(model, text, method, steps=20)
    np.testing.assert_allclose(whole.scores, parted.scores, rtol=0, atol=1e-5)


def test_of_a_long_text_the_words_that_are_read():
    model = classifier(max_length=8)
    found = explain(model, " ".join([*WORDS, *WORDS]), "occlusion")
    assert found.tokens == (*WORDS[:2], *WORDS[-6:])
    assert found.unread == range(2, 14)
    shown = view(found)
    assert re.search(r"the +film +\(12 words not read\) +dull", shown)
    assert len(found.scores) == 8


@each_method
@pytest.mark.parametrize("text", ["", " \n ", "<br />"])
def test_a_text_without_words(method, text):
    model = classifier(reading=ALL)
    found = explain(model, text, method)
    assert (found.tokens, found.scores, found.attention) == ((), (), ())
    assert found.log_odds == found.baseline_log_odds
    assert view(found).endswith("The text has no words: this is what the model says of nothing.")
    with pytest.raises(ValueError, match="at least for one"):
        picture(found)


def test_mixed_precision():
    whole, half = (
        explain(classifier(dtype=dtype), TEXT, label="positive", steps=8)
        for dtype in ("float32", "mixed_float16")
    )
    np.testing.assert_allclose(half.scores, whole.scores, rtol=0, atol=0.03)


def test_what_cannot_be_explained():
    model = classifier()
    for arguments, message in (
        ((keras.Sequential(), TEXT), "`explain` is for sentiment models, got a Sequential"),
        ((model, [TEXT]), "`text` must be a string"),
        ((model, TEXT, "lime"), r"`method` must be one of .*, got 'lime'"),
    ):
        with pytest.raises(ValueError, match=message):
            explain(*arguments)
    with pytest.raises(ValueError, match=r"`label` must be one of .*, got 'so so'"):
        explain(model, TEXT, label="so so")
    with pytest.raises(ValueError, match="`steps` must be a positive integer, got 0"):
        explain(model, TEXT, steps=0)


# Attention.


def test_attention_is_what_the_reading_weighs_the_words_by():
    model = classifier(reading=("max", "attention"), num_layers=2)
    found = explain(model, TEXT, "occlusion")
    ids = model.word_ids(tf.constant([TEXT]))
    read, outputs = model.read_vectors(model.embedding(ids), ids > 0)
    assert sum(found.attention) == pytest.approx(1, abs=1e-6)
    assert np.ptp(found.attention) > 0.01
    expected = np.asarray(outputs)[0].T @ found.attention
    np.testing.assert_allclose(np.asarray(read)[0, -len(expected) :], expected, rtol=0, atol=1e-6)


def test_the_weights_of_a_pooling():
    x, mask = np.ones((2, 4, 3), "float32"), np.array([[True, False, True, True], [False] * 4])
    weights = SequencePooling("mean").step_weights(x, mask)
    np.testing.assert_allclose(weights, [[1 / 3, 0, 1 / 3, 1 / 3], [0] * 4], rtol=1e-6)
    with pytest.raises(ValueError, match="not max"):
        SequencePooling("max").step_weights(x, mask)


# What people see.


def made_up(words: int, attention: bool = True, unread: range = range(0), **fields) -> Explanation:
    """An explanation of numbers that no model computed."""
    random = np.random.default_rng(0)
    some = ["i", "expected", "to", "love", "it", ",", "$5", "antidisestablishmentarianism", "café"]
    scores = random.normal(0, 0.5, words).tolist()
    return Explanation(
        **{
            "label": "negative",
            "method": "integrated_gradients",
            "baseline": "from every word unknown to the text",
            "tokens": tuple(some[number % len(some)] for number in range(words)),
            "known": tuple(number % 4 != 3 for number in range(words)),
            "scores": tuple(scores),
            "attention": tuple(random.dirichlet(np.ones(words)).tolist()) if attention else None,
            "unread": unread,
            "log_odds": 1.0,
            "baseline_log_odds": 1.0 - sum(scores),
            **fields,
        }
    )


def test_the_words_stand_in_their_order_each_above_its_score():
    found = made_up(9)
    head, *_, columns, strongest = view(found, width=200).split("\n\n")
    assert head.startswith("negative 73.1%\n")
    assert "integrated gradients" in head and "add up to the difference" in head
    assert "[word]: the model does not know it" in head
    words, scores, weights = (re.split(r"  +", line) for line in columns.splitlines())
    assert words == [t if k else f"[{t}]" for t, k in zip(found.tokens, found.known, strict=True)]
    assert scores == [f"{score:+.2f}" for score in found.scores]
    assert weights == [f"{weight:.1%}" for weight in found.attention]
    listed = [re.fullmatch(r"(\S+)  ([+-]+) +(\S+)", line) for line in strongest.splitlines()]
    sizes = [abs(float(row[1])) for row in listed]
    assert len(sizes) == 8 and sizes == sorted(sizes, reverse=True)
    assert all(row[1][0] == row[2][0] and len(set(row[2])) == 1 for row in listed)
    assert {len(row[2]) for row in listed} <= set(range(1, 25)) and len(listed[0][2]) == 24


def test_the_strongest_are_listed_also_where_words_are_not_read():
    found = made_up(40, unread=range(10, 400))
    strongest = view(found).split("\n\n")[-1].splitlines()
    best = sorted(map(abs, found.scores), reverse=True)[: len(strongest)]
    assert [abs(float(line.split()[0])) for line in strongest] == pytest.approx(best, abs=0.006)


@pytest.mark.parametrize("width", [10, 40, 100])
def test_no_line_of_words_is_longer_than_the_terminal(width):
    found = made_up(60, tokens=("word",) * 59 + ("素敵",))
    plain, coloured = view(found, width), view(found, width, colour=True)
    lines = [line for block in plain.split("\n\n")[1:-1] for line in block.splitlines()]
    assert len(lines) >= 3 * 60 * 8 / width * 0.9
    assert max(map(len, lines)) <= width
    assert "\x1b" not in plain
    # The colours change nothing else.
    assert [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", coloured).splitlines()] == [
        line.rstrip() for line in plain.splitlines()
    ]
    assert {"\x1b[1;97;44m", "\x1b[30;43m"} <= set(re.findall(r"\x1b\[[\d;]+m", coloured))


def test_wide_signs_take_two_columns_and_control_signs_none_of_the_terminals_commands():
    found = made_up(3, False, tokens=("素敵", "e\u0301t", "\x1b[2J"), known=(True,) * 3)
    words, scores = view(found).split("\n\n")[1].splitlines()
    assert words == unicodedata.normalize("NFD", "素敵   ét     ") + "\ufffd[2J"
    assert re.fullmatch(r"[+-]\d.\d\d  [+-]\d.\d\d  [+-]\d.\d\d", scores)


def test_words_that_move_nothing():
    found = made_up(2, False, scores=(0.0, -0.001))
    assert view(found).endswith("\ni      expected\n+0.00  +0.00")  # and no list of strong ones
    assert_legible(picture(found))


@pytest.mark.parametrize(
    ("words", "attention"),
    [(1, False), (5, True), (400, False), pytest.param(400, True, marks=pytest.mark.slow)],
)
def test_the_picture_of_any_text(words, attention):
    found = made_up(words, attention, unread=range(100, 900) if words == 400 else range(0))
    figure = picture(found)
    texts = assert_legible(figure)
    assert "negative 73.1%" in texts
    assert ("(800 words not read)" in texts) == (words == 400)
    for score in found.scores:
        assert f"{score:+z.2f}" in texts  # the signs, for those who see no colours
    assert sum(text.endswith("%") and text[0].isdigit() for text in texts) == words * attention
    wide, high = figure.get_size_inches()
    assert wide <= 8 and high < 2.5 + 0.08 * words


def test_the_colours_are_the_scores():
    figure = word_scores(["a", "b", "c", "d"], [-1.0, 0.0, 1.0, math.nan])
    colours = [box.get_facecolor() for box in figure.axes[0].patches]
    np.testing.assert_allclose(colours[:3], [SIGNED(0.0), SIGNED(0.5), SIGNED(1.0)], atol=0.01)
    lightness = [np.dot(colour[:3], (0.2126, 0.7152, 0.0722)) for colour in colours]
    assert lightness == sorted(lightness) and lightness[-1] == pytest.approx(1)


def test_long_titles_words_and_notes_are_cut_and_no_formulas():
    assert_legible(
        word_scores(["$x^2$", "W" * 300], [0.1, 0.2], title="T" * 300, notes=["n" * 900])
    )


@pytest.mark.parametrize(
    ("words", "scores", "weights", "name"),
    [([], [], None, "scores"), (["a"], [1, 2], None, "scores"), (["a"], [1], [1, 2], "weights")],
)
def test_a_picture_of_numbers_that_do_not_fit(words, scores, weights, name):
    with pytest.raises(ValueError, match=f"`{name}` must hold a number for each"):
        word_scores(words, scores, weights)


# The command.


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of a run, as far as the command reads it."""
    folder = tmp_path_factory.mktemp("explained")
    classifier(reading=("max", "attention")).save(folder / "model.keras")
    return folder


@pytest.fixture
def run(monkeypatch, capsys):
    def run_command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kerasrnn", "explain", *map(str, words)])
        capsys.readouterr()
        status: object = 0
        try:
            cli.main()
        except SystemExit as error:
            status = error.code or 0
        return status, *capsys.readouterr()

    return run_command


def is_png(path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_the_command_shows_and_draws(run, place):
    status, output, errors = run(place, TEXT)
    found = explain(keras.models.load_model(place / "model.keras"), TEXT)
    file = place / "explain.png"
    assert (status, errors) == (0, "")
    assert output == f"{view(found)}\n\npicture: {file}\n"
    assert is_png(file)
    assert sorted(path.name for path in place.iterdir()) == ["explain.png", "model.keras"]
    file.unlink()


def test_without_matplotlib_the_command_shows_and_does_not_draw(run, place, no_matplotlib):
    status, output, errors = run(place, TEXT)
    assert (status, errors) == (0, "")
    assert output.endswith(
        '\n\nno picture: pictures need matplotlib: pip install "kerasrnn[plot]"\n'
    )
    assert "dull" in output and [path.name for path in place.iterdir()] == ["model.keras"]
    status, output, errors = run(place, TEXT, "--json")
    assert (status, json.loads(output)["text"]) == (0, TEXT)
    assert errors == 'no picture: pictures need matplotlib: pip install "kerasrnn[plot]"\n'


def test_the_command_gives_json(run, place, tmp_path):
    flags = ("--method", "occlusion", "--label", "negative", "--json", "--out", tmp_path / "a.png")
    status, output, _ = run(place / "model.keras", TEXT, *flags)
    shown = json.loads(output)
    found = explain(
        keras.models.load_model(place / "model.keras"), TEXT, "occlusion", label="negative"
    )
    assert (status, output.count("\n"), shown.pop("text")) == (0, 1, TEXT)
    assert shown == data(found)
    assert [row["token"] for row in shown["tokens"]] == list(TOKENS)
    assert is_png(tmp_path / "a.png")


def test_the_command_on_signs_that_no_font_has_and_on_no_words(run, place, tmp_path):
    status, _, errors = run(place, "🫠 一 great", "--out", tmp_path / "a.png")
    assert (status, errors) == (0, "")
    status, output, errors = run(place, " ", "--out", tmp_path / "b.png")
    assert (status, errors) == (0, "") and "The text has no words" in output
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_command_colours_a_terminal_only(run, place, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def shown() -> str:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", Terminal())
            run(place, TEXT, "--method", "occlusion", "--out", tmp_path / "a.png")
            return sys.stdout.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in shown()


def test_what_the_command_refuses(run, place, tmp_path):
    (tmp_path / "pictures.png").mkdir()
    (tmp_path / "pictures.png" / "one").write_text("kept")
    for flags, message in (
        (("--out", tmp_path / "pictures.png"), "`out` must be a file that ends in .png"),
        (("--out", tmp_path / "a.keras"), "`out` must be a file that ends in .png"),
        (("--label", "so so"), "`label` must be one of"),
        (("--steps", 0), "`steps` must be a positive integer"),
    ):
        status, output, errors = run(place, TEXT, *flags)
        assert (status, output) == (2, "") and message in errors and "Traceback" not in errors
    status, _, errors = run(tmp_path, TEXT)
    assert status == 2 and "no trained model" in errors
    status, _, errors = run(place, "\udcff")
    assert status == 2 and "not UTF-8" in errors
    assert (tmp_path / "pictures.png" / "one").read_text() == "kept"
