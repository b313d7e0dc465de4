"""The task: train, evaluate, score, generate, each in one function."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasrnn import datasets
from kerasrnn.applications._data import TFDS_NAME, held_out, three_parts
from kerasrnn.applications._runs import RunFolder, load_model, save_model
from kerasrnn.applications._training import averaged, check_settings, cosine, fit, settled
from kerasrnn.applications.language_model.config import LanguageModelConfig, PlainDataConfig
from kerasrnn.applications.language_model.data import Encoder, Tokens, Windows, count_tokens
from kerasrnn.applications.language_model.model import LanguageModel, Score
from kerasrnn.applications.text import BOUNDARIES, UNKNOWN
from kerasrnn.datasets import PlainText
from kerasrnn.metrics import BitsPerCharacter, Perplexity
from kerasrnn.optimizers import AveragedSGD, NonMonotonicAveraging

# How far a lane reads what stands before its part, so that what is measured hardly depends on their number.
CONTEXT = 500

EXAMPLES = (
    "The clouds are in the sky.",
    "Clouds the in are sky the.",
    "Teh cluods aer in teh sky.",
)


class Corpus:
    """The three parts of a text, counted: to learn from, to choose the epoch by, and to measure on."""

    def __init__(self, parts: list[PlainText], level: str, separate: bool) -> None:
        self.train, self.validation, self.test = parts
        counted = [count_tokens(part, level, separate) for part in parts]
        self.counts: Counter[str] = counted[0][0]
        self._digests = [digest for _, digest in counted]

    def digest(self) -> str:
        """What tells this corpus, cut as it is, from every other."""
        return hashlib.sha256(json.dumps(self._digests).encode()).hexdigest()


def read_parts(config: PlainDataConfig) -> dict[str, PlainText]:
    """The parts that a data set comes with: `"train"`, and perhaps `"validation"` and `"test"`.

    Raises:
        FileNotFoundError: If it is not there; the message says how to get it.
        ValueError: If it is not text.
    """
    names = config.dataset
    given = {
        part: datasets.plain_text(files)
        for part in ("validation", "test")
        if (files := getattr(config, part, ()))
    }
    if names == ("python",):
        return datasets.python_source() | given
    if len(names) == 1 and not Path(names[0]).exists() and TFDS_NAME.fullmatch(names[0]):
        return datasets.tfds_plain_text(names[0], config.data_dir) | given
    return {"train": datasets.plain_text(names)} | given


def load_corpus(config: LanguageModelConfig) -> Corpus:
    """Find the text that the configuration names, cut off what is held out, and count the tokens.

    Raises:
        FileNotFoundError: If it is not there; the message says how to get it.
        ValueError: If it is not text in UTF-8, or too short.
    """
    name = " ".join(config.dataset)
    parts = three_parts(read_parts(config), config, name, "text")
    return Corpus(parts, config.level, config.separate)


def learn_vocabulary(counts: Counter[str], config: LanguageModelConfig) -> list[str]:
    """The tokens to know, most frequent first, the boundary among them.

    Raises:
        ValueError: If the text has no two of them.
    """
    boundary = BOUNDARIES[config.level]
    found = [
        token
        for token, count in counts.most_common(config.vocabulary_size)
        if count >= config.least_count and token not in (UNKNOWN, boundary)
    ]
    if not found:
        raise ValueError(
            f"The data set {' '.join(config.dataset)!r} has a vocabulary of {len(counts)}: {list(counts)[:3]}. "
            "There is nothing to predict with fewer than two tokens; `least_count` and `vocabulary_size` "
            "say which are known."
        )
    place = len([token for token in found if counts[token] >= counts[boundary]])
    return [*found[:place], boundary, *found[place:]]


def train(config: LanguageModelConfig) -> dict[str, Any]:
    """Train a model, measure it and write everything into the run's folder.

    Args:
        config: All settings.

    Returns:
        What `metrics.json` holds: `test_perplexity`, `test_cross_entropy` in nats per token, for
        characters `test_bits_per_character`, `train_seconds`, `parameters`, `epochs`, `best_epoch`, the
        sizes of the parts and the `config`.

    Raises:
        FileExistsError: If the folder holds another run.
        FileNotFoundError: If the text is not there.
        ValueError: If a setting is wrong; the message names it.
    """
    folder = RunFolder(config.out)
    config = folder.check(config)
    _check(config)
    keras.utils.set_random_seed(config.seed)
    corpus = load_corpus(config)
    vocabulary = learn_vocabulary(corpus.counts, config)
    model = build(config, vocabulary)
    folder.start(config, data=corpus.digest())
    encoder = Encoder(model.tokens, config.level, config.separate)
    tokens = [
        Tokens.of(part, encoder, folder.path)
        for part in (corpus.train, corpus.validation, corpus.test)
    ]
    rows = Windows(
        tokens[0],
        config.batch_size,
        config.window,
        reset=config.reset,
        random_lengths=config.random_windows,
    )
    validation, test = (
        Windows(part, config.batch_size, config.window, reset=config.reset, context=CONTEXT)
        for part in tokens[1:]
    )
    updates = rows.count(config.batch_size)
    plan = settled(config, updates, epochs=3)
    compile_model(model, plan, updates)
    sizes = [len(part.numbers) for part in tokens]
    print(
        f"{config.cell}: {model.count_params():,} parameters, {len(model.tokens):,} {config.level}s; "
        f"{sizes[0]:,} to train on, {sizes[1]:,} to validate, {sizes[2]:,} to test; "
        f"{plan.epochs} epochs of {updates} updates",
        flush=True,
    )
    monitor = f"val_{_metric(config.level).name}"
    callbacks = _callbacks(plan, folder, monitor)
    best = fit(
        model, plan, folder, rows, validation.batches(), monitor, callbacks=callbacks
    )
    scores = model.evaluate(test.batches(), return_dict=True)
    save_model(model, folder.path)
    folder.draw_history()
    measured = {
        **{f"test_{name}": value for name, value in _figures(scores).items()},
        "train_seconds": round(sum(row["seconds"] for row in folder.history), 1),
        "parameters": model.count_params(),
        "epochs": len(folder.history),
        "best_epoch": best,
        "tokens": dict(zip(("train", "validation", "test"), sizes, strict=True)),
        "predictions": rows.predictions,
    }
    return folder.write_metrics(measured, plan)


def _check(config: LanguageModelConfig) -> None:
    """Refuse the numbers that nothing further on refuses by name."""
    check_settings(config, "window", "least_count", "vocabulary_size", "decay_after")
    if not 0 < config.decay <= 1:
        raise ValueError(f"`decay` must be more than 0 and at most 1, got {config.decay!r}.")
    if config.weight_decay < 0:
        raise ValueError(f"`weight_decay` must not be negative, got {config.weight_decay!r}.")
    if config.optimizer == "nt_asgd" and config.schedule == "cosine":
        raise ValueError(
            '`optimizer` "nt_asgd" averages the weights of a learning rate that does not fall to nothing: '
            '`schedule` must be another than "cosine", as "constant".'
        )


def build(config: LanguageModelConfig, vocabulary: list[str]) -> LanguageModel:
    """The untrained model that the configuration describes."""
    return LanguageModel(
        vocabulary,
        level=config.level,
        separate=config.separate,
        cell=config.cell,
        units=config.units,
        num_layers=config.num_layers,
        embedding_dim=config.embedding_dim,
        tied=config.tied,
        embedding_dropout=config.embedding_dropout,
        input_dropout=config.input_dropout,
        dropout=config.dropout,
        output_dropout=config.output_dropout,
        recurrent_dropout=config.recurrent_dropout,
        recurrent_dropout_form=config.recurrent_dropout_form,
        activation_regularization=config.activation_regularization,
        temporal_regularization=config.temporal_regularization,
        sampled=config.sampled,
        seed=config.seed,
        dtype=config.precision,
    )


def compile_model(model: Any, plan: LanguageModelConfig, updates: int) -> None:
    """Give the model its optimizer, loss and metric. `plan.epochs` is known."""
    model.compile(
        _optimizer(plan, updates),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        weighted_metrics=[_metric(plan.level)],
    )


def _metric(level: str) -> Any:
    """What a language model is measured by."""
    return Perplexity() if level == "word" else BitsPerCharacter()


def _optimizer(plan: LanguageModelConfig, updates: int) -> Any:
    """The optimizer, for so many updates in an epoch."""
    rate: Any = _learning_rate(plan, updates)
    options: dict[str, Any] = {
        "global_clipnorm": plan.clip_norm,
        "weight_decay": plan.weight_decay or None,
    }
    if plan.optimizer == "nt_asgd":
        return AveragedSGD(rate, **options)
    kind = keras.optimizers.Adam if plan.optimizer == "adam" else keras.optimizers.SGD
    return kind(rate, **options, **averaged(plan, updates * (plan.epochs or 1)))


def _learning_rate(plan: LanguageModelConfig, updates: int) -> Any:
    """A number, or how it falls from update to update."""
    epochs = plan.epochs or 1
    if plan.schedule == "cosine":
        return cosine(plan, updates * epochs)
    if plan.schedule == "steps":
        ends = range(min(plan.decay_after, epochs), epochs)
        rates = [plan.learning_rate * plan.decay**number for number in range(len(ends) + 1)]
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            [end * updates for end in ends], rates
        )
    return plan.learning_rate


def _callbacks(plan: LanguageModelConfig, folder: RunFolder, monitor: str) -> list[Any]:
    """What depends on the validation of the epochs, those before an interruption too."""
    history = [row[monitor] for row in folder.history]
    chosen: list[Any] = []
    if plan.schedule == "plateau":
        chosen.append(_Plateau(monitor, plan.decay, history))
    if plan.optimizer == "nt_asgd":
        chosen.append(NonMonotonicAveraging(monitor, history=history))
    return chosen


class _Plateau(keras.callbacks.Callback):
    """Lowers the learning rate after each epoch that was no better than the best before it.

    Keras's own forgets the epochs of before an interruption.
    """

    def __init__(self, monitor: str, factor: float, history: list[float]) -> None:
        super().__init__()
        self.monitor = monitor
        self.factor = factor
        self.history = list(history)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        value = (logs or {})[self.monitor]
        if self.history and value >= min(self.history):
            rate = self.model.optimizer.learning_rate
            rate.assign(rate * self.factor)
        self.history.append(value)


def load(run: str | Path) -> LanguageModel:
    """Load the model of a run's folder, or a `.keras` file. Nothing in it is executed."""
    return load_model(run, LanguageModel)


def evaluate(
    run: str | Path,
    data: PlainDataConfig = PlainDataConfig(),  # noqa: B008
    show_progress: bool = True,
    model: LanguageModel | None = None,
) -> dict[str, Any]:
    """Measure a trained model on text that it has not seen, the state carried through all of it.

    Args:
        run: The folder of a training run, or a `.keras` file.
        data: What to measure on: the test part of a data set, or all of one that has none. By
            default what the run itself held out.
        show_progress: Whether to print a progress bar to standard output.
        model: The run's model, if it is loaded already.

    Returns:
        `perplexity`, `cross_entropy` in nats per token, for characters `bits_per_character`; `tokens`, how
        many were predicted, and `unknown`, the share of those that the model does not know.
        `dataset` and `part` say what they were measured on.
    """
    model = model or load(run)
    part, dataset, test = held_out(run, data, LanguageModelConfig, load_corpus, read_parts)
    encoder = Encoder(model.tokens, model.level, model.separate)
    tokens = Tokens.of(test, encoder)
    reset = Path(run).is_dir() and RunFolder(run).saved_config()["reset"]
    windows = Windows(tokens, 16, 100, reset=reset, context=CONTEXT)
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[_metric(model.level)],
    )
    verbose = "auto" if show_progress else 0
    scores = model.evaluate(windows.batches(), return_dict=True, verbose=verbose)
    return {
        **_figures(scores),
        "tokens": windows.predictions,
        "unknown": float(np.mean(tokens.numbers == 0)),
        "dataset": " ".join(dataset),
        "part": part,
    }


def _figures(scores: dict[str, float]) -> dict[str, float]:
    """One measurement in the units that people use: `perplexity` per token, nats, and bits."""
    if "perplexity" in scores:
        perplexity = scores["perplexity"]
        return {"perplexity": perplexity, "cross_entropy": math.log(perplexity)}
    bits = scores["bits_per_character"]
    nats = bits * math.log(2)
    return {"perplexity": math.exp(nats), "cross_entropy": nats, "bits_per_character": bits}


def report(measured: dict[str, Any]) -> str:
    """What `evaluate` gives, as text."""
    part = "the test part" if measured["part"] == "test" else "all"
    unknown = f", {measured['unknown']:.2%} of them unknown" if measured["unknown"] else ""
    return f"{_in_words(measured)}\n{measured['tokens']:,} tokens{unknown} ({part} of {measured['dataset']})"


def _in_words(figures: dict[str, float], prefix: str = "") -> str:
    """The figures of `_figures` in a line."""
    nats = f"{figures[f'{prefix}cross_entropy']:.4f} nats"
    if f"{prefix}bits_per_character" in figures:
        return f"{figures[f'{prefix}bits_per_character']:.4f} bits per character ({nats})"
    return f"perplexity {figures[f'{prefix}perplexity']:.2f} per word ({nats})"


def summary(metrics: dict[str, Any]) -> str:
    """What came out of `train`, in a line."""
    return f"test: {_in_words(metrics, 'test_')} on {metrics['tokens']['test']:,} held-out tokens"


def score(
    model: LanguageModel, texts: Iterable[str], batch_size: int = 64
) -> Iterator[tuple[str, Score]]:
    """Each text with its score, as the texts come."""
    texts = iter(texts)
    while batch := list(islice(texts, batch_size)):
        yield from zip(batch, model.score(batch), strict=True)
