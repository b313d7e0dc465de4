"""From a data set's name to batches of word numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from kerasrnn import datasets
from kerasrnn.applications._data import TFDS_NAME, LengthBatches, three_parts
from kerasrnn.applications._pipeline import in_advance
from kerasrnn.applications.sentiment.config import DataConfig, SentimentConfig
from kerasrnn.applications.sentiment.model import SentimentClassifier
from kerasrnn.datasets import LabelledTexts


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
    parts = read_parts(config)
    if len(parts["train"].label_names) < 2:
        raise ValueError(
            f"The data set {config.dataset!r} must have at least two labels, got "
            f"{parts['train'].label_names}."
        )
    return Corpus(*three_parts(parts, config, config.dataset, "text"))


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


class Encoded(LengthBatches):
    """A part of a corpus as word numbers, made once and kept in memory.

    Its batches are `(ids, labels)`: int64 `(batch, time)` padded with 0, and float32
    `(batch, labels)`, one-hot.

    Args:
        part: The texts and labels.
        model: The model whose vocabulary numbers the words.
    """

    def __init__(self, part: LabelledTexts, model: SentimentClassifier) -> None:
        texts = tf.data.Dataset.from_tensor_slices(list(part.texts)).batch(256)
        numbered = texts.map(model.ragged_ids, num_parallel_calls=tf.data.AUTOTUNE)
        self.ids = tf.concat(list(in_advance(numbered)), axis=0)
        self.labels = tf.one_hot(part.labels, len(part.label_names))
        super().__init__(self.ids.row_lengths().numpy())

    def read(self, numbers: tf.Tensor, time: Any) -> tuple[tf.Tensor, tf.Tensor]:
        ids = tf.gather(self.ids, numbers).to_tensor(shape=tf.stack([-1, time]))
        return ids, tf.gather(self.labels, numbers)
