"""The benchmarks measure what they say; not how fast it is, for that is no matter for a test."""

import json

import keras
import pytest

from benchmarks import _measure, layers
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
