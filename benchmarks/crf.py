"""A tagger with a conditional random field beside the same one with a softmax.

python -m benchmarks.crf --help
"""

from __future__ import annotations

import os
import sys
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

# What stands on top, and how Keras runs its graph.
HEADS, GRAPHS = ("CRF", "softmax"), {"jit_compile=False": False, "jit_compile=True": True}
Contender = tuple[str, str]


@dataclass(frozen=True)
class Options:
    """Measure how much longer a step of training and of decoding takes with a CRF."""

    batch: int = 32
    """Sentences in a batch."""
    time: int = 50
    """Words in a sentence."""
    tags: int = 17
    """Tags to choose from."""
    units: int = 100
    """Units of each direction, and the size of the embedding."""
    cell: str = "peephole_lstm"
    """The recurrent cell, by its name in the register."""
    words: int = 5000
    """Words in the vocabulary."""
    rounds: int = 40
    """How often each contender has its turn; the medians are reported."""
    out: str = "runs/benchmarks"
    """The folder for crf.json."""


def models(options: Options) -> dict[Contender, Any]:
    """The taggers, compiled: all layers but the last are alike."""
    made = {}
    for graph, jit_compile in GRAPHS.items():
        for head in HEADS:
            cell = kerasrnn.cells.get(options.cell, options.units)
            layers = [
                keras.Input((options.time,), dtype="int32"),
                keras.layers.Embedding(options.words, options.units, mask_zero=True),
                keras.layers.Bidirectional(kerasrnn.layers.Recurrent(cell, return_sequences=True)),
            ]
            last: Any
            loss: Any
            if head == "CRF":
                last, loss = kerasrnn.layers.CRF(options.tags), kerasrnn.layers.CRF.loss
            else:
                last = keras.layers.Dense(options.tags, activation="softmax")
                loss = "sparse_categorical_crossentropy"
            model = keras.Sequential([*layers, last])
            model.compile("adam", loss, jit_compile=jit_compile)
            made[head, graph] = model
    return made


def steps(models: dict[Contender, Any], options: Options) -> dict[str, dict[Contender, Any]]:
    """What is measured: a step of training, and one from words to tags. Without padding."""
    random = np.random.default_rng(0)
    words = random.integers(1, options.words, (options.batch, options.time)).astype("int32")
    tags = random.integers(0, options.tags, words.shape).astype("int32")

    def training(head: str, model: Any) -> Callable[[], object]:
        return lambda: model.train_on_batch(words, tags)

    def decoding(head: str, model: Any) -> Callable[[], object]:
        if head == "CRF":
            return lambda: model.predict_on_batch(words)
        return lambda: model.predict_on_batch(words).argmax(axis=-1)

    return {
        title: {(head, graph): step(head, model) for (head, graph), model in models.items()}
        for title, step in {"training": training, "decoding": decoding}.items()
    }


def main(options: Options) -> None:
    """Measure, print and write crf.json."""
    where = where_it_ran()
    result: dict[str, Any] = {"where": where, "options": vars(options)}
    for title, contenders in steps(models(options), options).items():
        medians, first = interleaved(contenders, options.rounds, title)
        result[title] = {}
        lines = [[title, *(f"{head}, ms" for head in HEADS), "ratio", "first call of the CRF, s"]]
        for graph in GRAPHS:
            crf, softmax = (1000 * medians[head, graph] for head in HEADS)
            result[title][graph] = {
                "milliseconds": {"CRF": round(crf, 3), "softmax": round(softmax, 3)},
                "ratio": round(crf / softmax, 3),
                "first call, seconds": {head: round(first[head, graph], 2) for head in HEADS},
            }
            compiling = first["CRF", graph]
            lines.append(
                [graph, f"{crf:.1f}", f"{softmax:.1f}", f"{crf / softmax:.2f}", f"{compiling:.1f}"]
            )
        print(table(lines), end="\n\n")
    path = write(options.out, "crf", result)
    shape = f"{options.batch} sentences of {options.time} words, {options.tags} tags"
    print(f"{shape}, {options.cell} 2 x {options.units}; medians of {options.rounds} interleaved")
    print(f"rounds; {in_words(where)}\nwritten to {path}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks.crf: error: {error}")
