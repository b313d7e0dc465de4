"""A model in ONNX Runtime beside the same model as a SavedModel, both on the processor.

python -m benchmarks.onnx --help
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import tyro

import kerasrnn
from benchmarks._measure import in_words, interleaved, where_it_ran, write
from kerasrnn._tables import table

CONTENDERS = ("SavedModel", "ONNX Runtime")
# Sequences in a batch, steps, units: one sentence, a batch of them, long ones, a wide network.
SIZES = ((1, 20, 64), (32, 50, 100), (16, 400, 128), (32, 50, 512))
# How far the two may be from each other: two float32 implementations.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Options:
    """Measure how long a tagger takes from words to tags: embedding, recurrent layer, softmax."""

    cells: tuple[str, ...] = ("lstm", "peephole_lstm", "coupled_lstm", "gru", "mgu")
    """The recurrent cells, by their names in the register."""
    sizes: tuple[tuple[int, int, int], ...] = SIZES
    """Sequences in a batch, steps and units, for each measurement."""
    bidirectional: bool = True
    """Whether the layer reads in both directions."""
    words: int = 5000
    """Words in the vocabulary."""
    tags: int = 17
    """Tags to choose from."""
    threads: int = 0
    """Threads for each contender; 0 for as many as there are cores."""
    rounds: int = 30
    """How often each contender has its turn; the medians are reported."""
    out: str = "runs/benchmarks"
    """The folder for onnx.json."""


def tagger(cell: str, units: int, options: Options) -> Any:
    """The model, for any batch and any length."""
    read: Any = kerasrnn.layers.Recurrent(
        kerasrnn.cells.get(cell, units), return_sequences=True, name="read"
    )
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="words"),
            keras.layers.Embedding(options.words, units, mask_zero=True),
            keras.layers.Bidirectional(read) if options.bidirectional else read,
            keras.layers.Dense(options.tags, activation="softmax", name="tags"),
        ]
    )


def contenders(model: Any, folder: Path, threads: int) -> dict[str, Callable[[Any], np.ndarray]]:
    """Both forms of the model, from files: functions from words to the probabilities of the tags."""
    import onnxruntime

    model.export(str(folder / "saved"), verbose=False)
    saved = tf.saved_model.load(str(folder / "saved"))
    how = onnxruntime.SessionOptions()
    how.intra_op_num_threads, how.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(
        kerasrnn.interop.to_onnx(model, folder / "model.onnx"), how, ["CPUExecutionProvider"]
    )
    return {
        "SavedModel": lambda words: saved.serve(words).numpy(),
        "ONNX Runtime": lambda words: session.run(None, {"words": words})[0],
    }


def batch(sequences: int, time: int, options: Options) -> np.ndarray:
    """Words in sentences of different lengths, the longest one first, with zeros behind their ends."""
    random = np.random.default_rng(0)
    words = random.integers(1, options.words, (sequences, time)).astype("int32")
    lengths = np.sort(random.integers(time // 4, time, sequences, endpoint=True))[::-1]
    lengths[0] = time
    return words * (np.arange(time) < lengths[:, None])


def main(options: Options) -> None:
    """Measure, print and write onnx.json."""
    where = where_it_ran()
    threads = options.threads or where["cores"]
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    result: dict[str, Any] = {"where": where, "options": vars(options), "results": {}}
    lines = [["cell", "batch, steps, units", *(f"{name}, ms" for name in CONTENDERS), "ratio"]]
    for cell in options.cells:
        result["results"][cell] = {}
        for sequences, time, units in options.sizes:
            size, words = f"{sequences}, {time}, {units}", batch(sequences, time, options)
            with tempfile.TemporaryDirectory() as folder:
                run = contenders(tagger(cell, units, options), Path(folder), threads)
                steps = {name: lambda one=one, words=words: one(words) for name, one in run.items()}
                first, second = (step() for step in steps.values())
                if (apart := float(np.abs(first - second).max())) > TOLERANCE:
                    raise ValueError(f"the two give other numbers with {cell} of {size}: {apart}")
                medians, _ = interleaved(steps, options.rounds, f"{cell}, {size}")
            saved, onnx = (1000 * medians[name] for name in CONTENDERS)
            ratio = round(saved / onnx, 3)
            result["results"][cell][size] = {
                "milliseconds": {"SavedModel": round(saved, 3), "ONNX Runtime": round(onnx, 3)},
                "ratio": ratio,
                "largest difference": apart,
            }
            lines.append([cell, size, f"{saved:.2f}", f"{onnx:.2f}", f"{ratio:.2f}"])
    print(table(lines), end="\n\n")
    path = write(options.out, "onnx", result)
    direction = "both directions" if options.bidirectional else "one direction"
    print(f"words to tags, {direction}, {threads} threads each; a ratio above 1: ONNX is faster")
    print(f"medians of {options.rounds} interleaved rounds; {in_words(where)}\nwritten to {path}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks.onnx: error: {error}")
