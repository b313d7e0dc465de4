"""The applications' default models through `model.fit`, input pipeline included.

python -m benchmarks.fit --help
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tyro

import kerasrnn
from benchmarks._measure import in_words, interleaved, table, where_it_ran, write
from kerasrnn.applications.sentiment import task
from kerasrnn.applications.sentiment.config import SentimentConfig
from kerasrnn.applications.sentiment.data import Encoded, load_corpus
from kerasrnn.applications.sentiment.model import SentimentClassifier
from kerasrnn.applications.text import learn_vocabulary


@dataclass(frozen=True)
class Options:
    """Measure how many texts a second the default models train on."""

    dataset: str = "imdb_reviews"
    """What the sentiment model reads: as `kerasrnn train sentiment --dataset` takes it."""
    data_dir: str | None = None
    """A TFDS folder that holds the data set already."""
    batches: int = 40
    """The batches of one measurement, the same for all."""
    rounds: int = 5
    """How often each contender has its turn; the medians are reported."""
    out: str = "runs/benchmarks"
    """The folder for fit.json."""


def models(config: SentimentConfig, vocabulary: list[str], labels: Any) -> dict[str, Any]:
    """The default model, and the same with other recurrent layers."""

    def model(cell: str, layer: Callable[[int], Any] | None = None) -> Any:
        class Contender(SentimentClassifier):
            def _recurrent_layer(self, cell: str, units: int, *rest: Any, **options: Any) -> Any:
                if layer:
                    return layer(units)
                return super()._recurrent_layer(cell, units, *rest, **options)

        with mock.patch.object(task, "SentimentClassifier", Contender):
            made = task.build(dataclasses.replace(config, cell=cell), vocabulary, labels)
        task.compile_model(made, dataclasses.replace(config, epochs=6), updates=1000)
        return made

    def pair(make: Callable[..., Any]) -> Callable[[int], Any]:
        """Both directions of a layer that the default model does not have, with its options."""

        def layer(units: int) -> Any:
            options = {"return_sequences": True, "return_state": True, "zero_output_for_mask": True}
            back = make(units, **options, go_backwards=True)
            return keras.layers.Bidirectional(make(units, **options), backward_layer=back)

        return layer

    loop = functools.partial(kerasrnn.layers.GRU, implementation="loop")
    return {
        "kerasrnn GRU (the default)": model("gru"),
        "kerasrnn LSTM": model("lstm"),
        "kerasrnn PeepholeLSTM": model("peephole_lstm"),
        "kerasrnn CoupledLSTM": model("coupled_lstm"),
        "kerasrnn GRU, implementation='loop'": model("gru", pair(loop)),
        "keras GRU": model("gru", pair(keras.layers.GRU)),
        "keras LSTM": model("lstm", pair(keras.layers.LSTM)),
    }


def main(options: Options) -> None:
    """Measure, print and write fit.json."""
    config = SentimentConfig(dataset=options.dataset, data_dir=options.data_dir)
    corpus = load_corpus(config)
    vocabulary = learn_vocabulary(corpus.train.texts, config.vocabulary_size)
    contenders = models(config, vocabulary, corpus.train.label_names)
    rows = Encoded(corpus.train, next(iter(contenders.values())))
    batches = rows.training_batches(config.batch_size, config.seed, 0, 1)
    chosen = batches.take(options.batches)
    texts = sum(len(labels) for _, labels in chosen)

    def step(model: Any) -> Callable[[], object]:
        def fit() -> None:
            # From the text numbers on: gathered, padded, batched, prefetched anew in every round.
            model.fit(chosen, epochs=1, shuffle=False, verbose=0)

        return fit

    steps = {name: step(model) for name, model in contenders.items()}
    medians, first = interleaved(steps, options.rounds, "sentiment")
    peer = medians["keras LSTM"]
    result: dict[str, Any] = {
        "where": where_it_ran(),
        "rounds": options.rounds,
        "sentiment": {
            "texts": texts,
            "mean words": float(np.mean(rows.lengths)),
            "texts per second": {n: round(texts / s, 1) for n, s in medians.items()},
            "to keras LSTM": {n: round(peer / s, 3) for n, s in medians.items()},
            "first call, seconds": {n: round(s, 1) for n, s in first.items()},
        },
    }
    path = write(options.out, "fit", result)
    lines = [["sentiment", "texts per second", "to keras LSTM", "first round, s"]]
    lines += [
        [n, f"{texts / s:.0f}", f"{peer / s:.2f}", f"{first[n]:.0f}"] for n, s in medians.items()
    ]
    print(table(lines))
    where = in_words(result["where"])
    print(f"\nmedians of {options.rounds} interleaved rounds of {options.batches} batches; {where}")
    print(f"written to {path}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks.fit: error: {error}")
