"""The task: train, evaluate, predict and export, each in one function."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasrnn.applications._data import held_out
from kerasrnn.applications._reports import confusion_table
from kerasrnn.applications._runs import RunFolder, load_model, save_model
from kerasrnn.applications._strategy import Team
from kerasrnn.applications._training import check_settings, fit, optimizer, settled
from kerasrnn.applications.sentiment.config import DataConfig, SentimentConfig
from kerasrnn.applications.sentiment.data import Encoded, load_corpus, read_parts
from kerasrnn.applications.sentiment.model import SentimentClassifier, Verdict
from kerasrnn.applications.text import learn_vocabulary

# The loss proper. What is trained on, with smoothed labels, also punishes a model that is sure and right.
MONITOR = "val_cross_entropy"

EXAMPLES = (
    "I loved every minute of it, what a wonderful surprise.",
    "Dull, predictable and far too long. A waste of an evening.",
    "I expected to love it, but the ending ruined everything.",
)


def train(config: SentimentConfig) -> dict[str, Any]:
    """Train a model, measure it and write everything into the run's folder.

    Args:
        config: All settings.

    Returns:
        What `metrics.json` holds: `test_accuracy`, `test_loss`, `train_seconds`, `parameters`,
        `epochs`, `best_epoch`, the sizes of the parts and the `config`. Nothing in a worker that is not
        the chief.

    Raises:
        ConnectionError: If another worker cannot be reached, or is lost.
        FileExistsError: If the folder holds another run.
        FileNotFoundError: If the data set is not there.
        ValueError: If a setting is wrong; the message names it.
    """
    team = Team.of(config.strategy)
    folder = RunFolder(config.out, team.chief)
    config = folder.check(config)
    _check(config)
    team.meet(config.worker_timeout)
    keras.utils.set_random_seed(config.seed)
    corpus = load_corpus(config)
    vocabulary = learn_vocabulary(corpus.train.texts, config.vocabulary_size)
    model = build(config, vocabulary, corpus.train.label_names)
    rows = Encoded(corpus.train, model)
    updates = rows.count(config.batch_size)
    plan = settled(config, updates, epochs=6)
    compile_model(model, plan, updates)
    folder.start(config, data=corpus.digest(), agree=team.agree)
    validation = Encoded(corpus.validation, model).batches(config.batch_size)
    print(
        f"{config.cell}: {model.count_params():,} parameters, {len(vocabulary):,} words; "
        f"{len(corpus.train):,} texts to train on, {len(corpus.validation):,} to validate, "
        f"{len(corpus.test):,} to test; {plan.epochs} epochs of {updates} updates",
        flush=True,
    )
    best = fit(model, plan, folder, rows, validation, MONITOR, team=team)
    if not team.chief:
        return {}
    test = Encoded(corpus.test, model).batches(config.batch_size)
    scores = model.evaluate(test, return_dict=True)
    save_model(model, folder.path)
    folder.draw_history()
    measured = {
        "test_accuracy": scores["accuracy"],
        "test_loss": scores["cross_entropy"],
        "train_seconds": round(sum(row["seconds"] for row in folder.history), 1),
        "parameters": model.count_params(),
        "epochs": len(folder.history),
        "best_epoch": best,
        "texts": {name: len(part) for name, part in corpus._asdict().items()},
    }
    return folder.write_metrics(measured, plan)


def _check(config: SentimentConfig) -> None:
    """Refuse the numbers that nothing further on refuses by name."""
    check_settings(config, "vocabulary_size")
    if not 0 <= config.label_smoothing < 1:
        raise ValueError(
            f"`label_smoothing` must be at least 0 and less than 1, got {config.label_smoothing!r}."
        )


def build(
    config: SentimentConfig, vocabulary: Sequence[str], labels: Sequence[str]
) -> SentimentClassifier:
    """The untrained model that the configuration describes."""
    return SentimentClassifier(
        vocabulary,
        labels=labels,
        cell=config.cell,
        units=config.units,
        num_layers=config.num_layers,
        bidirectional=config.bidirectional,
        embedding_dim=config.embedding_dim,
        reading=config.reading,
        word_dropout=config.word_dropout,
        type_dropout=config.type_dropout,
        embedding_dropout=config.embedding_dropout,
        recurrent_dropout=config.recurrent_dropout,
        dropout=config.dropout,
        max_length=config.max_length,
        seed=config.seed,
        dtype=config.precision,
    )


def compile_model(model: Any, plan: SentimentConfig, updates: int) -> None:
    """Give the model its optimizer, loss and metric. `plan.epochs` is known."""
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=plan.label_smoothing)
    # The loss proper, without the smoothing, is a metric beside it.
    plain = keras.metrics.CategoricalCrossentropy(name="cross_entropy")
    adam = optimizer(plan, updates * (plan.epochs or 1))
    model.compile(adam, loss, metrics=["accuracy", plain], jit_compile=plan.jit_compile)


def load(run: str | Path) -> SentimentClassifier:
    """Load the model of a run's folder, or a `.keras` file. Nothing in it is executed."""
    return load_model(run, SentimentClassifier)


def evaluate(
    run: str | Path,
    data: DataConfig = DataConfig(),  # noqa: B008
    show_progress: bool = True,
    model: SentimentClassifier | None = None,
) -> dict[str, Any]:
    """Measure a trained model on texts that it has not seen.

    Args:
        run: The folder of a training run, or a `.keras` file.
        data: What to measure on: the test part of a data set, or all of one that has none. By
            default what the run itself held out.
        show_progress: Whether to print a progress bar to standard output.
        model: The run's model, if it is loaded already.

    Returns:
        `accuracy`, `loss`, `texts` and the `confusion` table: for each true label, how many texts
        got which label. `dataset` and `part` say what they were measured on.
    """
    model = model or load(run)
    part, dataset, test = held_out(run, data, SentimentConfig, load_corpus, read_parts)
    if set(test.label_names) - set(model.labels):
        raise ValueError(
            f"The data set {dataset!r} has the labels {test.label_names}, the model {model.labels}."
        )
    numbers = np.array([model.labels.index(name) for name in test.label_names], np.int32)
    test = dataclasses.replace(test, labels=numbers[test.labels], label_names=model.labels)
    batches = Encoded(test, model).batches(64)
    probabilities = model.predict(batches, verbose="auto" if show_progress else 0)
    true = np.concatenate([labels for _, labels in batches.as_numpy_iterator()]).argmax(-1)
    table = np.zeros((len(model.labels),) * 2, int)
    np.add.at(table, (true, probabilities.argmax(-1)), 1)
    chosen = np.take_along_axis(probabilities, true[:, None], -1)
    return {
        "accuracy": float(table.trace() / table.sum()),
        "loss": float(-np.log(np.maximum(chosen, 1e-7)).mean()),
        "texts": len(test),
        "dataset": dataset,
        "part": part,
        "confusion": {
            label: dict(zip(model.labels, row.tolist(), strict=True))
            for label, row in zip(model.labels, table, strict=True)
        },
    }


def report(measured: dict[str, Any]) -> str:
    """What `evaluate` gives, as text: the scores and the confusion table."""
    part = "the test part" if measured["part"] == "test" else "all"
    head = f"accuracy {measured['accuracy']:.4f}, loss {measured['loss']:.4f}"
    rows = confusion_table(measured["confusion"], "true \\ verdict")
    return f"{head}, {measured['texts']:,} texts ({part} of {measured['dataset']})\n{rows}"


def summary(metrics: dict[str, Any]) -> str:
    """What came out of `train`, in a line."""
    return f"test accuracy {metrics['test_accuracy']:.4f} on {metrics['texts']['test']:,} held-out texts"


def answers(
    model: SentimentClassifier, texts: Iterable[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The verdict on each text, as a line to read and as data, as the texts come."""
    for text, verdict in predict(model, texts):
        line = f"{verdict.label:>10} {verdict.confidence:6.1%}  {text}"
        yield line, {"text": text, **verdict._asdict()}


def predict(
    model: SentimentClassifier, texts: Iterable[str], batch_size: int = 64
) -> Iterator[tuple[str, Verdict]]:
    """Each text with its verdict, as the texts come."""
    texts = iter(texts)
    while batch := list(islice(texts, batch_size)):
        yield from zip(batch, model.classify(batch), strict=True)
