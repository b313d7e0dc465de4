"""The benchmarks measure what they say; not how fast it is, for that is no matter for a test."""

import importlib.util
import itertools
import json
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

import kerasrnn
from benchmarks import _measure, cells, classics, crf, fit, language_model, layers, memory
from benchmarks.layers import Options, Workload
from tests.applications._helpers import write_names, write_texts


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
    options = Options(workloads=("N",), layers=("PeepholeLSTM", "GRU"), rounds=2, out=str(tmp_path))
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
        loop = "keras.layers.RNN(PeepholeLSTMCell)"
        loops = min(times[loop], times[f"{loop}, jit"])
        ratios, mine = found["ratios"]["PeepholeLSTM"], times["kerasrnn.layers.PeepholeLSTM"]
        assert ratios["keras"] == pytest.approx(mine / peer, rel=0.01)
        assert ratios["RNN(cell)"] == pytest.approx(mine / loops, rel=0.01)
        assert f"{way}, milliseconds" in said
    assert f"keras {keras.__version__}" in said


def test_two_directions_are_held_against_one(tiny, tmp_path, capsys):
    options = Options(
        workloads=("N",),
        layers=("GRU",),
        peers=("torch", "onnxruntime", "bound"),
        directions=2,
        rounds=1,
        out=str(tmp_path),
    )
    layers.main(options)
    result = json.loads((tmp_path / "layers.json").read_text("utf-8"))
    found = result["results"]["forward"]["N"]
    times = found["milliseconds"]
    ratio = times["kerasrnn.layers.GRU"] / times["kerasrnn.layers.GRU, one direction"]
    assert found["ratios"]["GRU"]["one direction"] == pytest.approx(ratio, rel=0.01)
    assert "torch.nn.GRU" in times and not any(n.startswith(("onnx", "matrix")) for n in times)
    said = capsys.readouterr().out
    assert "GRU to one direction" in said and "forward, first call, seconds" in said


def test_steps_and_memory_are_measured_too(tiny, tmp_path, monkeypatch, capsys):
    """In both directions, beside one: every contender has its figures."""
    monkeypatch.setitem(layers.WORKLOADS, "S", Workload(3, 4, 2, 5))
    monkeypatch.setattr(layers, "TIMES", (2, 3))

    def here(command, **options):  # in place of a process of its own
        assert command[1:4] == ["-m", "benchmarks.layers", "--peak"]
        return subprocess.CompletedProcess(command, 0, f"noise\n{layers.peak(*command[4:])}\n")

    monkeypatch.setattr(subprocess, "run", here)
    options = Options(
        workloads=("N",),
        layers=("SimpleRNN",),
        peers=(),
        directions=2,
        rounds=1,
        scaling=True,
        memory=True,
        out=str(tmp_path),
    )
    layers.main(options)
    result = json.loads((tmp_path / "layers.json").read_text("utf-8"))
    name = "kerasrnn.layers.SimpleRNN"
    assert set(result["scaling"][name]) == {"2", "3"}
    assert set(result["peak memory of training, MB"]["N"]) == {name, f"{name}, one direction"}
    assert "peak memory of training, MB" in capsys.readouterr().out


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


# The language model.


def small_language_model(tmp_path, **options):
    sizes = {"units": 4, "num_layers": 1, "batch": 2, "window": 3, "tokens": 9, "batches": 2}
    sizes |= {"character_units": 4, "characters": 5, "length": 3, "rounds": 1}
    return language_model.Options(**{**sizes, "out": str(tmp_path), **options})


def test_language_models_learn_and_generate_side_by_side(tmp_path, monkeypatch, capsys):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "torch" else there(n))
    monkeypatch.setattr(language_model, "GRAPHS", {"": False})
    language_model.main(small_language_model(tmp_path, cells=("gru",), outputs=("tied",)))
    said = capsys.readouterr().out
    result = json.loads((tmp_path / "language_model.json").read_text("utf-8"))
    assert result["not installed"] == ["torch"] and "not installed, left out: torch" in said
    found = result["training"]["tied"]
    rates = found["tokens per second"]
    assert list(rates) == ["kerasrnn gru", "keras.layers.LSTM"] and min(rates.values()) > 0
    assert found["tokens"] == 2 * 2 * 3
    ratio = rates["kerasrnn gru"] / rates["keras.layers.LSTM"]
    assert found["to"]["kerasrnn gru"] == {"Keras": pytest.approx(ratio, rel=0.01)}
    assert result["generation"]["tokens"] == 3
    assert list(result["generation"]["tokens per second"]) == ["kerasrnn gru"]
    assert "training, tied" in said and "generation" in said


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_the_language_models_of_all_frameworks_are_the_same(tmp_path, tied):
    """With the same weights they have the same loss."""
    options = small_language_model(tmp_path, batches=1)
    vocabulary, text = language_model.read(options)
    batches = language_model.Windows(text, options.batch, options.window).batches()
    ours = language_model.own(options, vocabulary, "lstm", tied)
    theirs = language_model.keras_model(options, options.tokens, tied, jit=False)
    values = {weight.path.split("/")[-1]: weight.numpy() for weight in ours.trainable_weights[:4]}
    head = {weight.name: weight.numpy() for weight in ours.head.weights}
    for weight, value in zip(theirs.trainable_weights, ours.trainable_weights, strict=True):
        weight.assign(value)
    loss = ours.evaluate(batches, verbose=0)[0]
    ids = batches.map(lambda inputs, targets, weights: (inputs["ids"], targets, weights))
    assert theirs.evaluate(ids, verbose=0)[0] == pytest.approx(loss, rel=1e-5)
    torch = pytest.importorskip("torch")
    peer = language_model.TorchModel(options.tokens, options.units, tied=tied)
    table = values["embeddings"] if tied else head["table"]
    zeros = np.zeros_like(values["bias"])
    copied = [values["embeddings"], values["kernel"].T, values["recurrent_kernel"].T]
    copied += [values["bias"], zeros, *(() if tied else (table,)), head["bias"]]
    with torch.no_grad():
        for weight, value in zip(peer.parts.parameters(), copied, strict=True):
            weight.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    step = peer.training(batches)
    assert step() == pytest.approx(loss, rel=1e-5)
    assert step() < loss
    assert all(0 <= token < options.tokens for token in peer.generate(5))


def test_language_models_read_a_file_as_far_as_they_need_it(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(20 * "a b\nc\n", "utf-8")  # 100 tokens, the line ends among them
    options = small_language_model(tmp_path, file=str(path), tokens=3, sampled=2)
    vocabulary, text = language_model.read(options)
    assert language_model.own(options, vocabulary, "gru", tied=True).sampled == 2
    assert vocabulary == ["<eos>", "a", "b"] and len(text.numbers) == 2 * (2 * 3 + 1)
    assert text.numbers[:5].tolist() == [2, 3, 1, 0, 1]
    for batches, window, count in ((99, 3, 2 * (16 * 3 + 1)), (1, 49, 2 * 50)):
        given = {"file": str(path), "batches": batches, "window": window}
        _, text = language_model.read(small_language_model(tmp_path, **given))
        assert len(text.numbers) == count
    with pytest.raises(ValueError, match=r"`file` must hold at least 102 words.* has 100\."):
        language_model.read(small_language_model(tmp_path, file=str(path), window=50))


def test_a_layer_of_keras_takes_its_place_in_the_language_model(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(300 * "to be or not to be\n", "utf-8")
    case = fit.language_case(fit.Options(text=str(path)))
    models = fit.contenders(case)
    ours, theirs = models["kerasrnn LSTM (the default)"], models["keras LSTM"]
    assert isinstance(theirs.recurrent[0], keras.layers.LSTM)
    assert isinstance(models["keras GRU"].recurrent[0], keras.layers.GRU)
    theirs.set_weights(ours.get_weights())
    batches = list(case.batches(ours).as_numpy_iterator())
    # All of the text but what is held out, and the first token of each lane.
    assert sum(map(case.count, batches)) == pytest.approx(0.95**2 * 300 * 19 - 32, rel=0.01)
    for inputs, *_ in batches[:2]:
        np.testing.assert_allclose(theirs(inputs), ours(inputs), atol=1e-5)


@pytest.mark.slow
def test_the_default_models_are_timed_through_fit(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text(300 * "to be or not to be\n", "utf-8")
    sizes = {"batches": 2, "rounds": 1, "out": str(tmp_path)}
    files = {
        "dataset": str(write_texts(tmp_path / "texts.csv", count=320)),
        "tagged": str(write_names(tmp_path / "names.conll", count=320)),
        "text": str(text),
    }
    fit.main(fit.Options(**files, **sizes))
    results = json.loads((tmp_path / "fit.json").read_text("utf-8"))
    defaults = {"sentiment": "GRU", "sequence-labeling": "LSTM", "language-model": "LSTM"}
    for name, default in defaults.items():
        unit = "texts" if name == "sentiment" else "tokens"
        result = results[name]
        speeds, ratios = result[f"{unit} per second"], result["to keras LSTM"]
        assert {f"kerasrnn {default} (the default)", "kerasrnn PeepholeLSTM", "keras GRU"} < {
            *speeds
        }
        assert len(speeds) == 7 and ratios.keys() == speeds.keys() and result[unit] > 0
        for contender, speed in speeds.items():
            assert ratios[contender] == pytest.approx(
                speed / speeds["keras LSTM"], abs=0.002, rel=0.01
            )
    printed = capsys.readouterr().out
    assert all(f"{name} " in printed for name in defaults) and "written to" in printed


def test_the_picture_of_fit_has_a_bar_for_each_contender(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: drawn.append(self) or save(self, *a, **k)
    )
    ratios = {"kerasrnn LSTM (the default)": 1.5, "keras GRU": 0.9, "keras LSTM": 1.0}
    results = {name: {"to keras LSTM": ratios} for name in ("sentiment", "language-model")}
    fit.draw(results, tmp_path / "fit.png")
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == list(results)
    for axes in figure.axes:
        assert [bar.get_width() for bar in axes.patches] == list(ratios.values())[::-1]
        assert [label.get_text() for label in axes.get_yticklabels()] == list(ratios)[::-1]


def test_memory_is_measured_stage_by_stage(tmp_path, monkeypatch, capsys):
    read = []

    def here(command, **options):  # in place of a process of its own
        given = json.loads(command[-1])
        read.append(Path(given["text"]).read_bytes())
        return subprocess.CompletedProcess(command, 0, json.dumps(memory.measure(**given)))

    monkeypatch.setattr(subprocess, "run", here)
    sizes = {"size": 100_000, "vocabulary_size": 9, "batches": 1}
    memory.main(memory.Options(levels=("word",), **sizes, out=str(tmp_path)))
    (text,) = read
    assert 100_000 <= len(text) < 110_000 and text.decode().count("# 1\n") == 1
    result = json.loads((tmp_path / "memory.json").read_text("utf-8"))["word"]
    stages = ["start", "counting", "encoding", "training", "measuring", "reading an epoch"]
    assert list(result["stages"]) == stages
    peaks = [stage["peak, MB"] for stage in result["stages"].values()]
    assert peaks == sorted(peaks) and peaks[0] > 50
    assert result["known"] == 10
    assert result["tokens"] == pytest.approx(len(text.split()) + text.count(b"\n"), abs=3)
    assert [path.name for path in tmp_path.iterdir()] == ["memory.json"]
    assert "peak so far, MB" in capsys.readouterr().out


def test_a_text_that_the_disk_has_no_room_for(tmp_path):
    with pytest.raises(ValueError, match=r"`size` 900,.* needs 2,700,.* choose a smaller"):
        memory.main(memory.Options(size=9 * 10**17, out=str(tmp_path)))


# The classic effects.


def classic(tmp_path, **options):
    sizes = {"delay_units": 2, "beat_units": 2, "adding_units": 2, "test_examples": 20}
    budgets = {"spike_batches": 2, "adding_batches": 2, "check_every": 1}
    lengths = {"delay_lengths": (11,), "beat_lengths": (3,), "adding_lengths": (4, 5)}
    return classics.Options(**{**sizes, **budgets, **lengths, "out": str(tmp_path), **options})


def test_classics_go_on_where_they_stopped(tmp_path, monkeypatch, capsys):
    asked = []

    def learn(name, problem, sizes, seed):
        if len(asked) == 6:
            raise KeyboardInterrupt
        asked.append((name, sizes["length"], seed))
        return {"error": 0.25, "right": 0.5, **LEARNED}

    monkeypatch.setattr(cells, "learn", learn)
    monkeypatch.setattr(cells, "_clear", lambda: None)  # There is nothing to let go of.
    with pytest.raises(KeyboardInterrupt):
        classics.main(classic(tmp_path, adding_cells=("simple_rnn", "gru")))
    spikes = [(name, length, 1) for length in (11, 3) for name in ("lstm", "peephole_lstm")]
    assert asked == [*spikes, ("simple_rnn", 4, 1), ("gru", 4, 1)]
    monkeypatch.setattr(cells, "learn", lambda *given: {"error": 0.5, "right": 1.0, **LEARNED})
    classics.main(classic(tmp_path, adding_cells=("simple_rnn", "gru"), seeds=(1, 2)))
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))["results"]
    # What was there has stayed: 6 of the 8 networks of the first seed.
    assert [one["error"] for one in results] == 6 * [0.25] + 10 * [0.5]
    said = capsys.readouterr().out
    assert said.startswith((tmp_path / "results.txt").read_text("utf-8"))
    (row,) = (line for line in said.splitlines() if line.split()[:2] == ["gru", "5"])
    assert "0.5000" in row and "never, never" in row
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_classics_of_another_machine_are_kept(tmp_path, monkeypatch):
    _measure.write(tmp_path, "results", {"where": {"cores": 0}, "results": []})
    with pytest.raises(ValueError, match=r"of another machine or other versions \(cores 0\)"):
        classics.main(classic(tmp_path))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": (0, 1)}, r"`seeds` must be greater than 0, got \(0, 1\)"),
        ({"spike_batches": 3, "check_every": 2}, "`spike_batches` must be a multiple of .*got 3"),
        ({"delay_lengths": (10,)}, "`delay_lengths` must be greater than 10, got 10"),
        ({"spike_cells": ("lsmt",)}, "Unknown cell: .*'lstm'"),
    ],
)
def test_classics_with_options_that_cannot_be(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        classics.main(classic(tmp_path, **wrong))


def test_spikes_are_judged_by_the_step():
    data = classics.PROBLEMS["spike_delays"].data(30, 200, 1).batch(200)
    _, targets, weights = next(data.as_numpy_iterator())
    # A step is a tenth of the range. Off by less than half of one is right, where it counts.
    for off, right in ((0.0, 1), (0.04, 1), (-0.06, 0)):
        noise = np.where(weights[..., None] > 0, targets + off, 9)
        found = classics.judge_delays(targets, weights, noise)
        assert found == {"error": pytest.approx(off**2, abs=1e-6), "right": right}
    same = classics.judge_delays(targets, weights, np.full_like(targets, 0.5))
    assert same["error"] == pytest.approx(classics.chance("spike_delays", 30), rel=0.1)

    data = classics.PROBLEMS["timed_spikes"].data(4, 10, 1).batch(10)
    _, targets, weights = next(data.as_numpy_iterator())
    assert classics.judge_spikes(targets, weights, targets) == {"error": 0, "right": 1}
    late = targets.copy()
    late[0] = np.roll(late[0], 1, axis=0)
    assert classics.judge_spikes(targets, weights, late)["right"] == 0.9
    same = classics.judge_spikes(targets, weights, np.full_like(targets, 1 / 4))
    assert same["error"] == pytest.approx(classics.chance("timed_spikes", 4))


def learned(tmp_path, **options):
    """The results of a run, by problem and cell, with the seeds in order."""
    classics.main(classics.Options(out=str(tmp_path), **options))
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))["results"]
    found = {}
    for one in results:
        found.setdefault((one["settings"]["problem"], one["settings"]["cell"]), []).append(one)
    return found


def test_a_gated_cell_adds_where_a_plain_one_does_not(tmp_path):
    """The quick form: 30 steps, one seed."""
    found = learned(
        tmp_path,
        problems=("adding",),
        adding_cells=("simple_rnn", "gru"),
        adding_lengths=(30,),
        adding_units=16,
        adding_batches=400,
    )
    plain, gated = (found["adding", name][0]["error"] for name in ("simple_rnn", "gru"))
    assert gated < 0.04 < 0.12 < plain


@pytest.mark.slow
def test_gated_cells_add_over_200_steps_and_a_plain_one_does_not(tmp_path):
    found = learned(tmp_path, problems=("adding",))
    assert all(
        found["adding", name][0]["error"] < 0.02 for name in ("gru", "lstm", "peephole_lstm")
    )
    assert found["adding", "simple_rnn"][0]["error"] > 0.15


@pytest.mark.slow
def test_with_peepholes_more_networks_learn_to_keep_time(tmp_path):
    found = learned(tmp_path, problems=("timed_spikes",), seeds=tuple(range(1, 11)))
    plain, peepholes = (
        sum(one["right"] == 1 for one in found["timed_spikes", name])
        for name in ("lstm", "peephole_lstm")
    )
    assert peepholes > plain


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"delay_lengths": (12,), "delay_units": 4, "spike_batches": 600}, 0.85),
        pytest.param({}, 0.98, marks=pytest.mark.slow),
    ],
    ids=["quick", "whole"],
)
def test_time_is_measured_with_and_without_peepholes(tmp_path, options, least):
    found = learned(tmp_path, problems=("spike_delays",), **options)
    assert [name for _, name in found] == ["lstm", "peephole_lstm"]
    assert all(seeds[0]["right"] > least for seeds in found.values())
