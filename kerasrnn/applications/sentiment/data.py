"""From a data set's name to batches of word numbers."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kerasrnn import datasets
from kerasrnn.applications.sentiment.config import DataConfig, SentimentConfig
from kerasrnn.applications.sentiment.model import SentimentClassifier
from kerasrnn.datasets import LabelledTexts

# `set`, `set/configuration` or `set:version`.
TFDS_NAME = re.compile(r"[a-z]\w*(/[\w.+-]+)?(:[\d.*]+)?")


class Corpus(NamedTuple):
    """The three parts: to learn from, to choose the epoch by, and to measure on."""

    train: LabelledTexts
    validation: LabelledTexts
    test: LabelledTexts

    def digest(self) -> str:
        """What tells this corpus, cut as it is, from every other."""
        digest = hashlib.sha256()
        for part in self:
            content = json.dumps([list(part.texts), part.labels.tolist(), part.label_names])
            digest.update(content.encode())
        return digest.hexdigest()


def load_corpus(config: SentimentConfig) -> Corpus:
    """Read the data set that the configuration names, and cut off what is held out.

    Raises:
        FileNotFoundError: If it is not there; the message says how to get it.
        ValueError: If it is not a data set of labelled texts.
    """
    for name in ("test_fraction", "validation_fraction"):
        fraction = getattr(config, name)
        if fraction is not None and not 0 < fraction < 1:
            raise ValueError(f"`{name}` must lie between 0 and 1, got {fraction!r}.")
    parts = read_parts(config)
    rest = parts["train"]
    if len(rest.label_names) < 2:
        raise ValueError(
            f"The data set {config.dataset!r} must have at least two labels, got {rest.label_names}."
        )
    test = parts.get("test")
    if test is None:
        test, rest = rest.split(config.test_fraction, config.seed)
    validation, train = parts.get("validation"), rest
    if validation is None:
        fraction = config.validation_fraction or min(0.1, 1000 / len(rest))
        validation, train = rest.split(fraction, config.seed)
    for part, name in ((train, "training"), (validation, "validation"), (test, "test")):
        if not len(part):
            raise ValueError(
                f"The data set {config.dataset!r} is too small: no text is left for {name}."
            )
    return Corpus(train, validation, test)


def read_parts(config: DataConfig) -> dict[str, LabelledTexts]:
    """The parts that a data set comes with: `"train"`, and perhaps `"validation"` and `"test"`.

    Raises:
        FileNotFoundError: If it is not there; the message says how to get it.
        ValueError: If it is not a data set of labelled texts.
    """
    name = config.dataset or ""
    path = Path(name)
    if name == "reviews":
        return datasets.reviews()
    if path.suffix.lower() in (".csv", ".tsv"):
        return {"train": datasets.text_table(path, config.text_column, config.label_column)}
    if name and path.is_dir():
        return datasets.text_folder(path)
    if not TFDS_NAME.fullmatch(name):
        raise FileNotFoundError(
            f"`dataset` is {name!r}: neither a folder that is there, nor a .csv or .tsv file, nor "
            "the name of a TensorFlow data set, such as imdb_reviews."
        )
    return datasets.tfds_texts(name, config.data_dir)


class Encoded:
    """A part of a corpus as word numbers, made once and kept in memory.

    Its batches are `(ids, labels)`: int64 `(batch, time)` padded with 0, and float32
    `(batch, labels)`, one-hot. A data set of them knows its length. Texts of like length go together,
    and `time` is one of few values, as the layers are compiled for each: there are at most eight
    shapes, in all epochs together.

    Args:
        part: The texts and labels.
        model: The model whose vocabulary numbers the words.
    """

    def __init__(self, part: LabelledTexts, model: SentimentClassifier) -> None:
        texts = tf.data.Dataset.from_tensor_slices(list(part.texts)).batch(256)
        numbered = texts.map(model.ragged_ids, num_parallel_calls=tf.data.AUTOTUNE)
        self.ids = tf.concat(list(numbered), axis=0)
        self.labels = tf.one_hot(part.labels, len(part.label_names))
        self.lengths = self.ids.row_lengths().numpy()
        # One shape is left for the batch that is not full.
        sevenths = np.quantile(self.lengths, np.arange(1, 8) / 7, method="higher")
        self.times = np.unique(np.maximum(sevenths, 1))

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """All texts once, from the shortest to the longest."""
        order = tf.constant(np.argsort(self.lengths, kind="stable"))
        return self._batches(order, 0, batch_size).prefetch(tf.data.AUTOTUNE)

    def training_batches(
        self, batch_size: int, seed: int, first: int, last: int
    ) -> tf.data.Dataset:
        """The batches of the epochs from `first` up to `last`, each in an order of its own.

        The order is a function of the seed and the epoch's number, so that a run that goes on in a
        new process sees the same batches as one that was never stopped.
        """
        whole = len(self.lengths) // batch_size

        def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
            # Sorted by a length that is off by up to a fifth, so that no text has the same company.
            off, batch_seed, rest = tf.unstack(
                tf.random.experimental.stateless_split([seed, epoch], num=3)
            )
            factor = tf.random.stateless_uniform([len(self.lengths)], off, 0.8, 1.2)
            order = tf.argsort(tf.cast(self.lengths + 1, tf.float32) * factor)
            where = tf.random.stateless_uniform([], rest, 0, whole + 1, tf.int32)
            return self._batches(order, where, batch_size, batch_seed)

        epochs = tf.data.Dataset.range(first, last).flat_map(epoch_batches)
        steps = -(-len(self.lengths) // batch_size) * (last - first)
        known = epochs.apply(tf.data.experimental.assert_cardinality(steps))
        return known.prefetch(tf.data.AUTOTUNE)

    def _batches(
        self, order: tf.Tensor, where: Any, batch_size: int, seed: Any = None
    ) -> tf.data.Dataset:
        """Cut an order into batches and, with a seed, shuffle these.

        Args:
            order: The numbers of the texts.
            where: How many full batches come before the rest that fills none.
            batch_size: Texts in a batch.
            seed: For the shuffling.
        """
        whole, rest = divmod(len(self.lengths), batch_size)
        start = where * batch_size
        full = tf.concat([order[:start], order[start + rest :]], axis=0)
        full = tf.reshape(full, [whole, batch_size])
        if seed is not None:
            full = tf.random.experimental.stateless_shuffle(full, seed)
        batches = tf.data.Dataset.from_tensor_slices(full)
        batches = batches.map(self._read, num_parallel_calls=tf.data.AUTOTUNE)
        if rest:
            # Of one shape in every epoch, wherever it is cut out.
            last = tf.data.Dataset.from_tensors(order[start : start + rest])
            batches = batches.concatenate(last.map(lambda n: self._read(n, self.times[-1])))
        return batches

    def _read(self, numbers: tf.Tensor, time: int | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        ids = tf.gather(self.ids, numbers).to_tensor()
        longest = tf.shape(ids, tf.int64)[1]
        if time is None:
            time = tf.gather(self.times, tf.searchsorted(self.times, longest[None])[0])
        return tf.pad(ids, [[0, 0], [0, time - longest]]), tf.gather(self.labels, numbers)
