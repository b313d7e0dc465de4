"""What it costs to see every gate: `kerasrnn.trace` beside a plain forward pass of the same layer.

python -m benchmarks.trace --help
"""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tyro

import kerasrnn
from benchmarks._measure import in_words, interleaved, where_it_ran, write
from kerasrnn._tables import table
from kerasrnn.analysis import Trace

SIZES = (
    (32, 100, 128, 128),
    (64, 400, 64, 64),
    (1, 20, 64, 64),
    (4, 1000, 16, 16),
    (1, 4000, 8, 8),
)


@dataclass(frozen=True)
class Options:
    """Measure what a trace costs, as a multiple of `layer(inputs)`, and what memory it takes."""

    cells: tuple[str, ...] = ("simple_rnn", "lstm", "peephole_lstm", "coupled_lstm", "gru", "mgu")
    """Registered names of cells."""
    sizes: tuple[tuple[int, int, int, int], ...] = SIZES
    """Batch, time, features and units of each measurement."""
    rounds: int = 9
    """How often each contender has its turn; the medians are reported."""
    out: str = "runs/benchmarks"
    """The folder for trace.json."""


def held(trace: Trace) -> int:
    """The bytes of a trace's arrays."""
    layer = trace[next(iter(trace))]
    arrays = [*layer.gates.values(), *layer.states.values(), *layer.initial_states.values()]
    return sum(array.nbytes for array in (*arrays, layer.output))


def memory(layer: Any, inputs: Any) -> tuple[int, int]:
    """What a trace holds by the sizes of its arrays, and by what NumPy and Python have allocated."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    found = kerasrnn.trace(layer, inputs)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held(found), after - before


def main(options: Options) -> None:
    """Measure, print and write trace.json."""
    result: dict[str, Any] = {"where": where_it_ran(), "rounds": options.rounds, "results": []}
    head = "cell  batch, time, features, units  layer, ms  trace, ms  ratio  first, s  arrays, MB  held, MB"
    lines = [head.split("  ")]
    for size in options.sizes:
        batch, time, features, units = size
        inputs = np.random.default_rng(0).normal(size=(batch, time, features)).astype("float32")
        layers, steps = {}, {}
        for name in options.cells:
            cell = kerasrnn.cells.get(name, units)
            layer = layers[name] = kerasrnn.layers.Recurrent(cell, return_sequences=True)
            layer.build(inputs.shape)
            steps[name, "layer"] = _plain(layer, inputs)
            steps[name, "trace"] = _traced(layer, inputs)
        medians, first = interleaved(steps, options.rounds, f"{size}")
        for name, layer in layers.items():
            plain, traced = medians[name, "layer"], medians[name, "trace"]
            arrays, allocated = memory(layer, inputs)
            row = {
                "cell": name,
                "size": size,
                "layer, ms": plain * 1e3,
                "trace, ms": traced * 1e3,
                "ratio": traced / plain,
                "first trace, s": first[name, "trace"],
                "arrays, bytes": arrays,
                "held, bytes": allocated,
            }
            result["results"].append(row)
            numbers = [f"{row['layer, ms']:.1f}", f"{row['trace, ms']:.1f}", f"{row['ratio']:.2f}"]
            megabytes = [f"{count / 1e6:.2f}" for count in (arrays, allocated)]
            shape = ", ".join(map(str, size))
            lines.append([name, shape, *numbers, f"{row['first trace, s']:.2f}", *megabytes])
    path = write(options.out, "trace", result)
    print(table(lines))
    where = in_words(result["where"])
    print(f"\nmedians of {options.rounds} interleaved rounds; {where}\nwritten to {path}")


def _plain(layer: Any, inputs: Any) -> Callable[[], object]:
    return lambda: keras.ops.convert_to_numpy(layer(inputs))


def _traced(layer: Any, inputs: Any) -> Callable[[], object]:
    return lambda: kerasrnn.trace(layer, inputs)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks.trace: error: {error}")
