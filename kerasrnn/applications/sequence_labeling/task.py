"""The task: train, evaluate, predict and export, each in one function."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kerasrnn import datasets, metrics, tagging
from kerasrnn._tables import table
from kerasrnn.applications._data import held_out
from kerasrnn.applications._reports import confusion_table
from kerasrnn.applications._runs import RunFolder, load_model, save_model
from kerasrnn.applications._strategy import Team, sequences
from kerasrnn.applications._training import check_settings, fit, optimizer, settled
from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig, TagDataConfig
from kerasrnn.applications.sequence_labeling.data import (
    Corpus,
    Encoded,
    in_scheme,
    learn_words,
    load_corpus,
    read_parts,
    scheme_of,
    warn_of_strange,
)
from kerasrnn.applications.sequence_labeling.model import Labelled, SequenceLabeler
from kerasrnn.datasets import TaggedSentences
from kerasrnn.layers import CRF

EXAMPLES = (
    "Anna Berg moved from Oslo to New York .",
    "The letter from Leeds came on Friday , and nobody at the United Nations had read it .",
)


def train(config: SequenceLabelingConfig) -> dict[str, Any]:
    """Train a model, measure it and write everything into the run's folder.

    Args:
        config: All settings.

    Returns:
        What `metrics.json` holds: `test` and `validation`, each what `scores` gives, `train_seconds`,
        `parameters`, `epochs`, `best_epoch`, the sizes of the parts and the `config`.
        Nothing in a worker that is not the chief.

    Raises:
        ConnectionError: If another worker cannot be reached, or is lost.
        FileExistsError: If the folder holds another run.
        FileNotFoundError: If the data set is not there.
        ValueError: If a setting is wrong; the message names it.
    """
    team = Team.of(config.strategy)
    folder = RunFolder(config.out, team.chief)
    config = folder.check(config)
    check_settings(config, "least_count")
    team.meet(config.worker_timeout)
    keras.utils.set_random_seed(config.seed)
    corpus = load_corpus(config)
    model = build(config, corpus)
    rows = Encoded(corpus.train, model)
    updates = rows.count(config.batch_size)
    plan = settled(config, updates, epochs=14)
    compile_model(model, plan, updates)
    folder.start(config, data=corpus.digest(), agree=team.agree)
    validation = Encoded(corpus.validation, model).batches(config.batch_size)
    words = len(model.get_config()["vocabulary"])
    print(
        f"{config.cell}: {model.count_params():,} parameters, {words:,} words, {len(model.labels)} labels"
        f"{f' ({model.scheme})' if model.scheme else ''}; {len(corpus.train):,} sentences to train on, "
        f"{len(corpus.validation):,} to validate, {len(corpus.test):,} to test; {plan.epochs} epochs of "
        f"{updates} updates",
        flush=True,
    )
    monitor = "val_entity_f1" if model.scheme else "val_token_accuracy"
    counted = sequences if config.decoder == "crf" else _labelled
    best = fit(
        model, plan, folder, rows, validation, monitor, "highest", team=team, counted=counted
    )
    if not team.chief:
        return {}
    save_model(model, folder.path)
    folder.draw_history()
    measured = {
        "test": scores(model, corpus.test),
        "validation": scores(model, corpus.validation),
        "train_seconds": round(sum(row["seconds"] for row in folder.history), 1),
        "parameters": model.count_params(),
        "epochs": len(folder.history),
        "best_epoch": best,
        "sentences": {name: len(part) for name, part in corpus._asdict().items()},
    }
    return folder.write_metrics(measured, plan)


def build(config: SequenceLabelingConfig, corpus: Corpus) -> SequenceLabeler:
    """The untrained model that the configuration describes, for the words of a corpus."""
    words = learn_words(corpus.train, config.least_count)
    model = SequenceLabeler(
        words.folded,
        words.characters,
        corpus.label_names(),
        scheme=scheme_of(corpus.train),
        cell=config.cell,
        units=config.units,
        num_layers=config.num_layers,
        bidirectional=config.bidirectional,
        embedding_dim=config.embedding_dim,
        character_reading=config.character_reading,
        character_dim=config.character_dim,
        character_units=config.character_units,
        decoder=config.decoder,
        word_dropout=config.word_dropout,
        type_dropout=config.type_dropout,
        embedding_dropout=config.embedding_dropout,
        recurrent_dropout=config.recurrent_dropout,
        dropout=config.dropout,
        max_word_length=config.max_word_length,
        seed=config.seed,
        dtype=config.precision,
    )
    if config.word_vectors:
        size = config.embedding_dim
        both = [*words.folded, *words.written]
        read = datasets.word_vectors(config.word_vectors, both, size=size)
        count = len(words.folded)
        found = read.found[:count] | read.found[count:]
        vectors = np.where(read.found[:count, None], read.vectors[:count], read.vectors[count:])
        model.set_word_vectors(vectors, found)
        print(f"{found.sum():,} of {count:,} words have a vector in {config.word_vectors}")
    return model


def compile_model(model: SequenceLabeler, plan: SequenceLabelingConfig, updates: int) -> None:
    """Give the model its optimizer, loss and metrics. `plan.epochs` is known."""
    loss: Any = CRF.loss
    if plan.decoder == "softmax":
        loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    measured: list[Any] = [metrics.TokenAccuracy()]
    if model.scheme:
        measured.append(metrics.EntityF1(model.labels, model.scheme))
    adam = optimizer(plan, updates * (plan.epochs or 1))
    model.compile(adam, loss, metrics=measured, jit_compile=plan.jit_compile)


def _labelled(tags: Any, weights: Any) -> Any:
    """What the mean of the softmax's loss divides by: the tokens with a label."""
    return tf.math.count_nonzero(tags >= 0, dtype=tf.float32)


def scores(
    model: SequenceLabeler, part: TaggedSentences, show_progress: bool = False
) -> dict[str, Any]:
    """How good the labels are that a model gives to sentences.

    Returns:
        `token_accuracy` over the tokens whose label is not ignored, `tokens` and `sentences`. Where the
        labels are of a scheme also `entity_f1`, `entity_precision`, `entity_recall`, over exact spans
        and types. `labels`: for each type of entity, or else for each label, `precision`, `recall`, `f1`
        and `support`. `confusion`: for each true label, how many tokens got which label.
    """
    given: list[Labelled] = []
    order = range(0, len(part), _BATCH)
    for start in tqdm(order, desc="labeling", disable=None if show_progress else True, leave=False):
        given += model.label(part.tokens[start : start + _BATCH])
    pairs = [
        (true, label)
        for row, labelled in zip(part.labels, given, strict=True)
        for true, label in zip(row, labelled.labels, strict=True)
        if true not in part.ignored
    ]
    table = Counter(pairs)
    names = [*model.labels, *sorted({true for true, _ in pairs} - set(model.labels))]
    confusion = {true: {label: table[true, label] for label in model.labels} for true in names}
    right = Counter(true for true, label in pairs if true == label)
    actual, predicted = Counter(true for true, _ in pairs), Counter(label for _, label in pairs)
    measured: dict[str, Any] = {
        "token_accuracy": sum(right.values()) / max(1, len(pairs)),
        "tokens": len(pairs),
        "sentences": len(part),
    }
    if model.scheme:
        right, actual, predicted = Counter(), Counter(), Counter()
        for row, labelled in zip(part.labels, given, strict=True):
            true, found = (set(tagging.spans(r, model.scheme)) for r in (row, labelled.labels))
            actual.update(span.type for span in true)
            predicted.update(span.type for span in found)
            right.update(span.type for span in true & found)
        whole = _figures(right.total(), predicted.total(), actual.total())
        measured |= {f"entity_{name}": whole[name] for name in ("f1", "precision", "recall")}
    measured["labels"] = {
        name: _figures(right[name], predicted[name], actual[name])
        for name in sorted({*actual, *predicted})
    }
    return measured | {"confusion": confusion}


# Sentences that are sorted by length and labelled together.
_BATCH = 1024


def _figures(right: int, predicted: int, actual: int) -> dict[str, float]:
    return {
        "precision": right / predicted if predicted else 0.0,
        "recall": right / actual if actual else 0.0,
        "f1": 2 * right / (predicted + actual) if predicted + actual else 0.0,
        "support": actual,
    }


def load(run: str | Path) -> SequenceLabeler:
    """Load the model of a run's folder, or a `.keras` file. Nothing in it is executed."""
    return load_model(run, SequenceLabeler)


def evaluate(
    run: str | Path,
    data: TagDataConfig = TagDataConfig(),  # noqa: B008
    show_progress: bool = True,
    model: SequenceLabeler | None = None,
) -> dict[str, Any]:
    """Measure a trained model on sentences that it has not seen.

    Args:
        run: The folder of a training run, or a `.keras` file.
        data: What to measure on: the test part of a data set, or all of one that has none. By
            default what the run itself held out.
        show_progress: Whether to show a progress bar where someone is watching.
        model: The run's model, if it is loaded already.

    Returns:
        What `scores` gives; `dataset` and `part` say what was measured on.
    """
    model = model or load(run)
    part, dataset, test = held_out(run, data, SequenceLabelingConfig, load_corpus, read_parts)
    if model.scheme:
        test = in_scheme(test, model.scheme)
    warn_of_strange(test, model.labels, " ".join(dataset))
    measured = scores(model, test, show_progress)
    return {**measured, "dataset": " ".join(dataset), "part": part}


def report(measured: dict[str, Any]) -> str:
    """What `evaluate` gives, as text: the scores, a table of the labels and the confusion table."""
    part = "the test part" if measured["part"] == "test" else "all"
    head = f"token accuracy {measured['token_accuracy']:.4f}"
    kind = "label"
    if "entity_f1" in measured:
        kind = "entity"
        head = (
            f"entity F1 {measured['entity_f1']:.4f} (precision {measured['entity_precision']:.4f}, "
            f"recall {measured['entity_recall']:.4f}), {head}"
        )
    rows = [(kind, "precision", "recall", "F1", "support")]
    for name, figures in measured["labels"].items():
        values = [f"{figures[key]:.4f}" for key in ("precision", "recall", "f1")]
        rows.append((name, *values, f"{figures['support']:,}"))
    return "\n".join(
        [
            f"{head}; {measured['tokens']:,} tokens in {measured['sentences']:,} sentences "
            f"({part} of {measured['dataset']})",
            "",
            table(rows),
            "",
            confusion_table(measured["confusion"], "true \\ given"),
        ]
    )


def predict(
    model: SequenceLabeler, texts: Iterable[str], batch_size: int = 64
) -> Iterator[Labelled]:
    """The labels of plain texts, sentence by sentence, as the texts come.

    Sentences and tokens are made by `kerasrnn.datasets.split_sentences` and `tokenize`.
    """
    rows = (
        datasets.tokenize(sentence) for text in texts for sentence in datasets.split_sentences(text)
    )
    while batch := list(islice(rows, batch_size)):
        yield from model.label(batch)


def summary(metrics: dict[str, Any]) -> str:
    """What came out of `train`, in a line."""
    test = metrics["test"]
    name = "entity_f1" if "entity_f1" in test else "token_accuracy"
    shown = "entity F1" if name == "entity_f1" else "token accuracy"
    return (
        f"test {shown} {test[name]:.4f} (validation {metrics['validation'][name]:.4f}) on "
        f"{test['sentences']:,} held-out sentences"
    )


def answers(model: SequenceLabeler, texts: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The labels of each sentence, as a line to read and as data, as the texts come."""
    for text in texts:
        for labelled in predict(model, [text]):
            data: dict[str, Any] = labelled._asdict()
            if model.scheme:
                spans = tagging.spans(labelled.labels, model.scheme)
                data["entities"] = [
                    {**span._asdict(), "text": " ".join(labelled.tokens[span.start : span.stop])}
                    for span in spans
                ]
            yield in_line(labelled, model.scheme), data


def in_line(labelled: Labelled, scheme: str | None) -> str:
    """A labelled sentence on a line: `[PER Anna Berg] sings .`, or `Anna/PROPN sings/VERB ./PUNCT`."""
    if scheme is None:
        pairs = zip(labelled.tokens, labelled.labels, strict=True)
        return " ".join(f"{token}/{label}" for token, label in pairs)
    words = list(labelled.tokens)
    for span in tagging.spans(labelled.labels, scheme):
        words[span.start] = f"[{span.type} {words[span.start]}"
        words[span.stop - 1] += "]"
    return " ".join(words)


def label_rows(
    model: SequenceLabeler, lines: Iterable[str], token_column: int = 0, batch_size: int = 64
) -> Iterator[str]:
    """The lines of a CoNLL file, each row of a token with its label as one more column.

    Blank lines, lines of `-DOCSTART-`, comments (lines with `#` before a sentence's first token that
    have not as many columns as the first row) and CoNLL-U's rows of ranges and empty nodes stay as
    they are.

    Args:
        model: The model.
        lines: The lines, without their ends.
        token_column: The column of the tokens, from 0, or from the end with -1.
        batch_size: Sentences to label at a time.

    Raises:
        ValueError: If a row has no token in that column, or not as many columns as the first. The message
            has the number of the line.
    """
    sentences = _sentences(lines, token_column)
    while batch := list(islice(sentences, batch_size)):
        rows = [[token for _, token in sentence if token] for sentence in batch]
        for sentence, labelled in zip(batch, model.label(rows), strict=True):
            labels = iter(labelled.labels)
            for line, token in sentence:
                yield line + ("\t" if "\t" in line else " ") + next(labels) if token else line


_DOCUMENT = "-DOCSTART-"


def _sentences(lines: Iterable[str], token_column: int) -> Iterator[list[tuple[str, str | None]]]:
    """The lines of each sentence, up to the one that ends it, each with its token if it has one."""
    lines = iter(lines)
    head: list[str] = []  # up to the first row, which tells what the comments before it are
    for line in lines:
        head.append(line)
        if line.strip(" \t") and not line.startswith(("#", _DOCUMENT)):
            break
    width = len(_cells(head[-1])) if head else 0
    found: list[tuple[str, str | None]] = []
    inside = False
    for number, line in enumerate(chain(head, lines), start=1):
        cells = _cells(line)
        if not line.strip(" \t") or line.startswith(_DOCUMENT):
            found.append((line, None))
            if inside:
                yield found
                found, inside = [], False
        elif (not inside and line.startswith("#") and len(cells) != width) or (
            token_column % width and re.fullmatch(r"\d+[-.]\d+", cells[0])
        ):
            found.append((line, None))
        elif len(cells) != width:
            raise ValueError(
                f"Line {number} has {len(cells)} columns, and the first row {width}: {line[:80]!r}."
            )
        elif not -width <= token_column < width or not cells[token_column]:
            raise ValueError(
                f"Line {number} has no token in column {token_column}, named by `token_column`: "
                f"{line[:80]!r}."
            )
        else:
            inside = True
            found.append((line, cells[token_column]))
    if found:
        yield found


def _cells(line: str) -> list[str]:
    """The columns of a row. As for `conll_file`, a space that does not break is part of a token."""
    if "\t" in line:
        return [cell.strip(" ") for cell in line.split("\t")]
    return re.split(" +", line.strip(" "))
