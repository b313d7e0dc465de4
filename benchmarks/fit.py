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
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tyro

import kerasrnn
from benchmarks._measure import in_words, interleaved, where_it_ran, write
from kerasrnn._tables import table
from kerasrnn.applications import language_model, sentiment, sequence_labeling
from kerasrnn.applications.language_model import config as language_config
from kerasrnn.applications.language_model import data as language_data
from kerasrnn.applications.language_model import task as language_task
from kerasrnn.applications.sentiment import config as sentiment_config
from kerasrnn.applications.sentiment import data as sentiment_data
from kerasrnn.applications.sentiment import task as sentiment_task
from kerasrnn.applications.sequence_labeling import config as labeling_config
from kerasrnn.applications.sequence_labeling import data as labeling_data
from kerasrnn.applications.sequence_labeling import task as labeling_task
from kerasrnn.applications.text import learn_vocabulary

Application = Literal["sentiment", "sequence-labeling", "language-model"]


@dataclass(frozen=True)
class Options:
    """Measure how many texts, or tokens, a second the default models train on."""

    applications: tuple[Application, ...] = ("sentiment", "sequence-labeling", "language-model")
    """Which to measure."""
    dataset: str = "imdb_reviews"
    """What the sentiment model reads: as `kerasrnn train sentiment --dataset` takes it."""
    tagged: str = "conll2003"
    """What the sequence labeler reads: as `kerasrnn train sequence-labeling --dataset` takes it."""
    text: str = "python"
    """What the language model reads: as `kerasrnn train language-model --dataset` takes it."""
    data_dir: str | None = None
    """A TFDS folder that holds the data sets already."""
    batches: int = 40
    """The batches of one measurement, the same for all."""
    rounds: int = 5
    """How often each contender has its turn; the medians are reported."""
    out: str = "runs/benchmarks"
    """The folder for fit.json and fit.png."""


class Case(NamedTuple):
    """One application: what is trained on, and how a model of it is made."""

    unit: str  # what is counted
    default: str  # the default cell
    build: Callable[[str], Any]  # a compiled model with this cell
    module: Any  # where the model looks up `recurrent_layer`
    batches: Callable[[Any], Any]  # from a model to the batches of an epoch
    count: Callable[[Any], int]  # the units in a batch


def sentiment_case(options: Options) -> Case:
    """The sentiment model: reviews are counted."""
    config = sentiment_config.SentimentConfig(
        dataset=options.dataset, data_dir=options.data_dir, epochs=6
    )
    corpus = sentiment_data.load_corpus(config)
    vocabulary = learn_vocabulary(corpus.train.texts, config.vocabulary_size)

    def build(cell: str) -> Any:
        chosen = dataclasses.replace(config, cell=cell)
        made = sentiment_task.build(chosen, vocabulary, corpus.train.label_names)
        sentiment_task.compile_model(made, chosen, updates=1000)
        return made

    def batches(model: Any) -> Any:
        rows = sentiment_data.Encoded(corpus.train, model)
        return rows.training_batches(config.batch_size, config.seed, 0, 1)

    def count(batch: Any) -> int:
        return len(batch[1])

    return Case("texts", config.cell, build, sentiment.model, batches, count)


def labeling_case(options: Options) -> Case:
    """The sequence labeler: tokens are counted, without the padding."""
    config = labeling_config.SequenceLabelingConfig(
        dataset=(options.tagged,), data_dir=options.data_dir, epochs=14
    )
    corpus = labeling_data.load_corpus(config)

    def build(cell: str) -> Any:
        chosen = dataclasses.replace(config, cell=cell)
        made = labeling_task.build(chosen, corpus)
        labeling_task.compile_model(made, chosen, updates=1000)
        return made

    def batches(model: Any) -> Any:
        rows = labeling_data.Encoded(corpus.train, model)
        return rows.training_batches(config.batch_size, config.seed, 0, 1)

    def count(batch: Any) -> int:
        return int(np.sum(batch[1] >= 0))

    return Case("tokens", config.cell, build, sequence_labeling.model, batches, count)


def language_case(options: Options) -> Case:
    """The language model of characters: those that are predicted are counted."""
    config = language_config.LanguageModelConfig(
        dataset=(options.text,), data_dir=options.data_dir, epochs=3
    )
    corpus = language_task.load_corpus(config)
    vocabulary = language_task.learn_vocabulary(corpus.counts, config)

    def build(cell: str) -> Any:
        chosen = dataclasses.replace(config, cell=cell)
        made = language_task.build(chosen, vocabulary)
        language_task.compile_model(made, chosen, updates=1000)
        return made

    def batches(model: Any) -> Any:
        encoder = language_data.Encoder(model.tokens, config.level)
        tokens = language_data.Tokens.of(corpus.train, encoder)
        rows = language_data.Windows(tokens, config.batch_size, config.window)
        return rows.training_batches(config.batch_size, config.seed, 0, 1)

    def count(batch: Any) -> int:
        return int(np.sum(batch[2]))

    return Case("tokens", config.cell, build, language_model.model, batches, count)


CASES: dict[str, Callable[[Options], Case]] = {
    "sentiment": sentiment_case,
    "sequence-labeling": labeling_case,
    "language-model": language_case,
}


def contenders(case: Case) -> dict[str, Any]:
    """The default model, and the same with other recurrent layers."""

    def with_layer(cell: str, make: Callable[..., Any]) -> Any:
        """The default model with a layer that its own settings do not offer."""

        def layer(
            cell: str, units: int, *, bidirectional: bool, seed: int, dtype: Any, **options: Any
        ) -> Any:
            options = {"return_sequences": True, "dtype": dtype, **options}
            forward = make(units, **options)
            if not bidirectional:
                return forward
            back = make(units, **options, go_backwards=True)
            return keras.layers.Bidirectional(forward, backward_layer=back)

        with mock.patch.object(case.module, "recurrent_layer", layer):
            return case.build(cell)

    ours = {"gru": "GRU", "lstm": "LSTM"}[case.default]
    loop = functools.partial(getattr(kerasrnn.layers, ours), implementation="loop")
    cells = {"gru": "GRU", "lstm": "LSTM", "peephole_lstm": "PeepholeLSTM"}
    cells |= {"coupled_lstm": "CoupledLSTM"}
    return {
        **{
            f"kerasrnn {name}{' (the default)' if cell == case.default else ''}": case.build(cell)
            for cell, name in cells.items()
        },
        f"kerasrnn {ours}, implementation='loop'": with_layer(case.default, loop),
        "keras GRU": with_layer("gru", functools.partial(keras_layer, keras.layers.GRU)),
        "keras LSTM": with_layer("lstm", functools.partial(keras_layer, keras.layers.LSTM)),
    }


def keras_layer(
    kind: Any, units: int, *, recurrent_dropout_form: str = "state", **options: Any
) -> Any:
    """A layer of Keras's that the models take for one of ours. It drops the state in one form only."""
    layer = kind(units, **options)
    # What the language model asks a cell: which states it has, and of what sizes.
    sizes = keras.tree.flatten(layer.cell.state_size)
    layer.cell.states = layer.cell.state_sizes = dict(enumerate(sizes))
    return layer


def measure(name: str, options: Options) -> dict[str, Any]:
    """Measure one application, and print its table."""
    case = CASES[name](options)
    models = contenders(case)
    chosen = case.batches(next(iter(models.values()))).take(options.batches)
    count = sum(case.count(batch) for batch in chosen.as_numpy_iterator())

    def step(model: Any) -> Callable[[], object]:
        def fit() -> None:
            # From the numbers on: gathered, padded, batched, prefetched anew in every round.
            model.fit(chosen, epochs=1, shuffle=False, verbose=0)

        return fit

    steps = {contender: step(model) for contender, model in models.items()}
    medians, first = interleaved(steps, options.rounds, name)
    peer = medians["keras LSTM"]
    lines = [[name, f"{case.unit} per second", "to keras LSTM", "first round, s"]]
    lines += [
        [n, f"{count / s:.0f}", f"{peer / s:.2f}", f"{first[n]:.0f}"] for n, s in medians.items()
    ]
    print(f"{table(lines)}\n")
    return {
        case.unit: count,
        f"{case.unit} per second": {n: round(count / s, 1) for n, s in medians.items()},
        "to keras LSTM": {n: round(peer / s, 3) for n, s in medians.items()},
        "first call, seconds": {n: round(s, 1) for n, s in first.items()},
    }


def draw(results: dict[str, Any], path: Path) -> None:
    """Bars: the speed of each contender as a multiple of that with Keras's LSTM, for each application."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8 * len(results), 2.8), layout="constrained")
    for axes, (name, result) in zip(
        figure.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True
    ):
        ratios = dict(reversed(result["to keras LSTM"].items()))
        colours = ["0.7" if n.startswith("keras ") else "C0" for n in ratios]
        bars = axes.barh(list(ratios), list(ratios.values()), color=colours)
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=2)
        axes.axvline(1, color="0.3", lw=0.8)
        axes.tick_params(labelsize=7)
        axes.set_title(name, fontsize=9)
        axes.margins(x=0.12)
    figure.supxlabel("texts or tokens a second, keras LSTM = 1", fontsize=8)
    figure.savefig(path, dpi=150)


def main(options: Options) -> None:
    """Measure, print, and write fit.json and fit.png."""
    results: dict[str, Any] = {name: measure(name, options) for name in options.applications}
    where = where_it_ran()
    path = write(options.out, "fit", {"where": where, "rounds": options.rounds, **results})
    draw(results, path.with_suffix(".png"))
    print(
        f"medians of {options.rounds} interleaved rounds of {options.batches} batches; "
        f"{in_words(where)}\nwritten to {path} and {path.with_suffix('.png')}"
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks.fit: error: {error}")
