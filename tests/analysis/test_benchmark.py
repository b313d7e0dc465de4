"""The benchmark of the trace measures what it says; not how fast it is: that is no matter for a test."""

import json

import pytest

from benchmarks import trace


def test_the_benchmark_of_the_trace(tmp_path, capsys):
    trace.main(trace.Options(cells=("gru",), sizes=((2, 3, 4, 5),), rounds=1, out=str(tmp_path)))
    (row,) = json.loads((tmp_path / "trace.json").read_text("utf-8"))["results"]
    assert row["ratio"] == pytest.approx(row["trace, ms"] / row["layer, ms"])
    # Three gates, a state and the output at each of three steps, and the initial state.
    assert row["arrays, bytes"] == 4 * 2 * 5 * (5 * 3 + 1) <= row["held, bytes"]
    assert "gru" in capsys.readouterr().out
