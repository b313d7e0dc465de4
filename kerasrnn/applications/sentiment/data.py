"""From a data set's name to batches of word numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kerasrnn import datasets
from kerasrnn.applications.sentiment.config import DataConfig, SentimentConfig
from kerasrnn.applications.sentiment.model import SentimentClassifier
from kerasrnn.applications.text import at_least_one_step
from kerasrnn.datasets import LabelledTexts

# `set`, `set/configuration` or `set:version`.
TFDS_NAME = re.compile(r"[a-z]\w*(/[\w.+-]+)?(:[\d.*]+)?")


class Corpus(NamedTuple):
    """The three parts: to learn from, to choose the epoch by, and to measure on."""

    train: LabelledTexts
    validation: LabelledTexts
    test: LabelledTexts


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
    `(batch, labels)`, one-hot. A data set of them knows its length.

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

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """All texts once, in batches of like length."""
        return self._batches(batch_size, tf.data.Dataset.range(1), lambda _: self._numbers())

    def training_batches(
        self, batch_size: int, seed: int, first: int, last: int
    ) -> tf.data.Dataset:
        """The batches of the epochs from `first` up to `last`, each in an order of its own.

        The order is a function of the seed and the epoch's number, so that a run that goes on in a
        new process sees the same batches as one that was never stopped.
        """

        def order(epoch: tf.Tensor) -> tf.Tensor:
            return tf.random.experimental.stateless_shuffle(self._numbers(), seed=[seed, epoch])

        return self._batches(batch_size, tf.data.Dataset.range(first, last), order)

    def _numbers(self) -> tf.Tensor:
        return tf.range(len(self.lengths), dtype=tf.int64)

    def _batches(self, batch_size: int, epochs: tf.data.Dataset, order: Any) -> tf.data.Dataset:
        # The longest text of a batch must not be many times the shortest, or most of the batch is
        # padding: eight buckets, of as many texts each.
        octiles = np.quantile(self.lengths, np.arange(1, 8) / 8)
        boundaries = sorted({int(length) + 1 for length in octiles})
        counts = np.bincount(np.searchsorted(boundaries, self.lengths, side="right"))

        def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
            return (
                tf.data.Dataset.from_tensor_slices(order(epoch))
                .map(lambda number: (self.ids[number], self.labels[number]))
                .bucket_by_sequence_length(
                    lambda ids, label: tf.size(ids),
                    boundaries,
                    [batch_size] * (len(boundaries) + 1),
                )
                .map(lambda ids, label: (at_least_one_step(ids), label))
            )

        batches = epochs.flat_map(epoch_batches).prefetch(tf.data.AUTOTUNE)
        steps = sum(math.ceil(count / batch_size) for count in counts) * len(epochs)
        return batches.apply(tf.data.experimental.assert_cardinality(steps))
