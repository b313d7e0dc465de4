"""The benchmarks measure what they say; not how fast it is, for that is no matter for a test."""

import itertools
import json

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

import kerasrnn
from benchmarks import _measure, cells, crf, layers
from benchmarks.layers import Options, Workload


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(layers.WORKLOADS, "N", Workload(3, 4, 2, 5))


def test_medians_are_of_interleaved_rounds():
    calls = []
    steps = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    medians, first = _measure.interleaved(steps, 3, "test")
    assert calls == ["a", "a", "b", "b", *"ababab"]
    assert set(medians) == set(first) == {"a", "b"} and min(medians.values()) > 0


def test_every_contender_runs_and_the_ratios_are_quotients(tiny, tmp_path, capsys):
    options = Options(workloads=("N",), rounds=2, out=str(tmp_path))
    layers.main(options)
    said = capsys.readouterr().out
    result = json.loads((tmp_path / "layers.json").read_text("utf-8"))
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
    made, missing = layers.contenders(options)
    assert result["not installed"] == missing
    for way in ("training", "forward"):
        found = result["results"][way]["N"]
        wanted = {n for n in made if way == "forward" or not n.startswith("onnx")}
        times = found["milliseconds"]
        assert set(times) == wanted and min(times.values()) > 0
        peer = min(times["keras.layers.LSTM"], times["keras.layers.LSTM, jit"])
        ratio = found["ratios"]["PeepholeLSTM"]["keras"]
        assert ratio == pytest.approx(times["kerasrnn.layers.PeepholeLSTM"] / peer, rel=0.01)
        assert f"{way}, milliseconds" in said
    assert f"keras {keras.__version__}" in said


def test_what_is_not_installed_is_left_out_and_named(tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(layers, "_installed", lambda module: False)
    options = Options(
        workloads=("N",),
        layers=("GRU",),
        peers=("torch", "onnxruntime"),
        rounds=1,
        out=str(tmp_path),
    )
    layers.main(options)
    assert "not installed, left out: torch, onnxruntime" in capsys.readouterr().out


def test_a_layer_that_is_not_there(tmp_path):
    with pytest.raises(SystemExit, match=r"`layers` must name layers of this package: .*'Conv1D'"):
        layers.main(Options(layers=("Conv1D",), out=str(tmp_path)))


def small(tmp_path, **options):
    sizes = {"units": 4, "batch": 3, "time": 4, "features": 2, "rounds": 1, "check_every": 2}
    budgets = {"adding_length": 6, "adding_batches": 4, "reber_length": 9, "reber_batches": 2}
    chosen = {"cells": ("simple_rnn", "mut2"), "seeds": (1,), "out": str(tmp_path)}
    return cells.Options(**{**sizes, **budgets, "test_examples": 50, **chosen, **options})


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder of a run of `small` that the tests read and never change."""
    folder = tmp_path_factory.mktemp("cells")
    cells.main(small(folder, skip_learning=True))
    cells.main(small(folder, cells=("simple_rnn",)))
    return folder


def test_every_figure_of_a_cell_is_there(measured):
    result = json.loads((measured / "results.json").read_text("utf-8"))
    assert (measured / "results.png").read_bytes().startswith(b"\x89PNG")
    for name in ("simple_rnn", "mut2"):
        found = result["speed"][name]
        built = cells.layer(name, 4)
        built.build((None, None, 2))
        assert found["parameters"] == built.count_params()
        for way in ("forward", "training"):
            times, peers = (
                found[way][key] for key in ("milliseconds", "milliseconds of keras.layers.LSTM")
            )
            assert times[found[way]["run by"]] == min(times.values()) > 0
            assert set(peers) == {"loop", "loop, jit"}
            ratio = min(times.values()) / min(peers.values())
            assert found[way]["to keras.layers.LSTM"] == pytest.approx(ratio, rel=0.01)
    assert result["adding"]["simple_rnn"]["1"]["error"] > 0
    learned = result["embedded_reber"]["simple_rnn"]["1"]
    assert 0 <= learned["strings"] <= 1 and 0 <= learned["last but one"] <= 1
    assert set(result["speed"]["simple_rnn"]["training"]["milliseconds"]) == {"own kernel"}
    assert set(result["speed"]["mut2"]["forward"]["milliseconds"]) == {"loop", "loop, jit"}
    text = (measured / "results.txt").read_text("utf-8")
    assert all(word in text for word in ("parameters", "adding", "embedded_reber", "simple_rnn"))


def test_a_run_goes_on_where_it_stopped(measured, tmp_path, monkeypatch, capsys):
    whole = json.loads((measured / "results.json").read_text("utf-8"))
    part = {**whole, "speed": {"mut2": whole["speed"]["mut2"]}, "embedded_reber": {}}
    _measure.write(tmp_path, "results", part)
    asked = []

    def measure(names, options):
        asked.append(names)
        return {name: whole["speed"][name] for name in names}

    def learn(name, problem, sizes, seed):
        if len(asked) == 4:
            raise KeyboardInterrupt
        asked.append((name, problem.loss[:6], seed))
        return {"error": 0.5, "strings": 0.5, "last but one": 0.5, **LEARNED}

    monkeypatch.setattr(cells, "measure", measure)
    monkeypatch.setattr(cells, "learn", learn)
    with pytest.raises(KeyboardInterrupt):
        cells.main(small(tmp_path, seeds=(1, 2)))
    seed_1 = [("mut2", "mean_s", 1), ("simple_rnn", "binary", 1), ("mut2", "binary", 1)]
    assert asked == [["simple_rnn"], *seed_1]
    found = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert found["speed"] == whole["speed"]
    assert found["adding"]["simple_rnn"] == whole["adding"]["simple_rnn"]
    assert all(set(found[part]) == {"simple_rnn", "mut2"} for part in cells.PROBLEMS)
    cells.main(small(tmp_path, seeds=(1,)))  # All there: nothing more is asked.
    assert len(asked) == 4 and "mut2" in capsys.readouterr().out


LEARNED = {"batches to the goal": None, "milliseconds per batch": 1.0, "seconds of training": 1.0}


def test_results_of_other_settings_are_kept(measured):
    with pytest.raises(
        ValueError, match=r"holds results of other settings \(speed: time was 4, now 5"
    ):
        cells.main(small(measured, time=5))


def test_parts_can_be_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cells, "measure", lambda *given: pytest.fail("measured"))
    monkeypatch.setattr(cells, "learn", lambda name, *given: {"error": None, **LEARNED})
    cells.main(small(tmp_path, skip_speed=True, problems=("adding",), cells=("CIFG",)))
    said = capsys.readouterr().out
    assert "input_coupled_lstm" in said and "parameters" not in said and "inf" in said
    assert "embedded_reber" not in said and not (tmp_path / "results.png").exists()


def test_a_string_is_right_if_all_its_steps_are():
    data = kerasrnn.datasets.embedded_reber(max_length=20, examples=100, seed=1).batch(100)
    _, targets, weights = next(data.as_numpy_iterator())
    assert cells.judge_strings(targets, weights, targets) == {"strings": 1, "last but one": 1}
    noise = np.where(weights[..., None] == 0, 1, targets)  # the padding is no matter
    noise[0, 0] = 1
    assert cells.judge_strings(targets, weights, noise) == {"strings": 0.99, "last but one": 1}
    # Who forgets the second symbol is right by chance only in the last place but one.
    T, P = "BTPSXVE".index("T"), "BTPSXVE".index("P")
    forgets = targets.copy()
    place = np.arange(100), weights.sum(axis=1).astype(int) - 2
    assert (targets[place].sum(axis=1) == 1).all() and (targets[place][:, [T, P]].sum(1) == 1).all()
    forgets[place] = np.eye(7)[T] * 0.51 + np.eye(7)[P] * 0.49
    found = cells.judge_strings(targets, weights, forgets)
    assert found["last but one"] == targets[place][:, T].mean() == found["strings"]


def test_no_label_lies_on_another():
    axes = Figure().subplots()
    points = [(name, 1 + 0.02 * n, 300) for n, name in enumerate(kerasrnn.cells.names())]
    axes.scatter(*zip(*[point[1:] for point in points], strict=True), label="all")
    axes.legend()
    axes.figure.draw_without_rendering()
    boxes = cells.place_labels(axes, points)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    edge = axes.get_window_extent()
    assert all(edge.contains(*box.min) and edge.contains(*box.max) for box in boxes)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cells": ("lsmt",)}, "Unknown cell: .*'lstm'"),
        ({"seeds": (0,)}, r"`seeds` must be greater than 0, got \(0,\)"),
        ({"rounds": 0}, "`rounds` must be at least 1, got 0"),
        ({"reber_batches": 5}, "`reber_batches` must be a multiple of `check_every`, 2; got 5"),
    ],
)
def test_cells_with_options_that_cannot_be(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        cells.main(small(tmp_path, **wrong))


def test_a_crf_beside_a_softmax(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(crf, "GRAPHS", {"jit_compile=False": False})
    sizes = {"batch": 3, "time": 4, "tags": 3, "units": 4, "words": 9}
    crf.main(crf.Options(**sizes, rounds=2, out=str(tmp_path)))
    result, said = json.loads((tmp_path / "crf.json").read_text("utf-8")), capsys.readouterr().out
    for way in ("training", "decoding"):
        found = result[way]["jit_compile=False"]
        times = found["milliseconds"]
        assert set(times) == {"CRF", "softmax"} and min(times.values()) > 0
        assert found["ratio"] == pytest.approx(times["CRF"] / times["softmax"], rel=0.01)
        assert way in said
    assert result["options"]["tags"] == 3 and "3 sentences of 4 words, 3 tags" in said


def test_both_taggers_learn_and_only_their_last_layers_differ():
    made = crf.models(crf.Options(time=4, tags=3, units=4, words=9))
    assert set(made) == {(head, graph) for head in crf.HEADS for graph in crf.GRAPHS}
    shapes = [
        [weight.shape for layer in m.layers[:-1] for weight in layer.weights] for m in made.values()
    ]
    assert all(shape == shapes[0] for shape in shapes)
    assert {m.jit_compile for m in made.values()} == {True, False}
