"""From a data set's name to batches of word, character and label numbers."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kerasrnn import datasets, tagging
from kerasrnn.applications._data import TFDS_NAME, LengthBatches, three_parts
from kerasrnn.applications._pipeline import in_advance
from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig, TagDataConfig
from kerasrnn.applications.sequence_labeling.model import SequenceLabeler
from kerasrnn.applications.text import fold_words
from kerasrnn.datasets import TaggedSentences

Parts = dict[str, TaggedSentences]


class Corpus(NamedTuple):
    """The three parts: to learn from, to choose the epoch by, and to measure on."""

    train: TaggedSentences
    validation: TaggedSentences
    test: TaggedSentences

    def label_names(self) -> tuple[str, ...]:
        """The labels of all parts. Those that training never sees are told in a warning."""
        names = dict.fromkeys(self.train.label_names)
        learned = {label for row in self.train.labels for label in row}
        for name in ("validation", "test"):
            strange = warn_of_strange(getattr(self, name), learned, f"the {name} part")
            names |= dict.fromkeys(strange)
        return tuple(names)

    def digest(self) -> str:
        """What tells this corpus, cut as it is, from every other."""
        digest = hashlib.sha256()
        for part in self:
            digest.update(json.dumps([list(part.tokens), list(part.labels)]).encode())
        return digest.hexdigest()


def load_corpus(config: SequenceLabelingConfig) -> Corpus:
    """Read the data set that the configuration names, and cut off what is held out.

    Raises:
        FileNotFoundError: If it is not there; the message says how to get it.
        ValueError: If it is not a data set of tagged sentences.
    """
    parts = read_parts(config)
    scheme = config.scheme or scheme_of(parts["train"])
    if scheme:
        parts = {name: in_scheme(part, scheme) for name, part in parts.items()}
    corpus = Corpus(*three_parts(parts, config, " ".join(config.dataset), "sentence"))
    names = corpus.label_names()
    if len(names) < 2:
        raise ValueError(
            f"The data set {config.dataset!r} must have at least two labels, got {names}."
        )
    return corpus


def read_parts(config: TagDataConfig) -> Parts:
    """The parts that a data set comes with: `"train"`, and perhaps `"validation"` and `"test"`.

    Raises:
        FileNotFoundError: If it is not there; the message says how to get it.
        ValueError: If it is not a data set of tagged sentences.
    """
    names = config.dataset
    if names == ("sentences",):
        return datasets.sentences(config.label or "entity")  # type: ignore[arg-type]
    if not 1 <= len(names) <= 3:
        raise ValueError(
            f"`dataset` must be a name, or up to three files, to train, to validate and to measure on; "
            f"got {len(names)}{': ' if names else ''}{', '.join(names)}."
        )
    path = Path(names[0])
    # The end of a file's name has letters, that of a data set's version figures.
    is_file = path.exists() or path.suffix[1:].isalpha()
    if len(names) == 1 and not is_file and TFDS_NAME.fullmatch(names[0]):
        return datasets.tfds_tags(names[0], config.data_dir, config.label)
    files = [_read_file(Path(name), config) for name in names]
    parts = ("train", "test") if len(files) == 2 else ("train", "validation", "test")
    return dict(zip(parts, files, strict=False))


def _read_file(path: Path, config: TagDataConfig) -> TaggedSentences:
    if path.suffix.lower() == ".conllu":
        return datasets.conllu_file(path, config.label or "upos")  # type: ignore[arg-type]
    if config.label:
        raise ValueError(
            f"`label` is {config.label!r}, but {path} is a file of columns: `label_column` says where its "
            "labels are."
        )
    return datasets.conll_file(
        path,
        config.token_column,
        config.label_column,
        config.source_scheme,
        on_fault=config.on_fault,
    )


def warn_of_strange(part: TaggedSentences, known: Collection[str], name: str) -> list[str]:
    """The labels of a part that training did not have, of which a warning tells where they stand.

    Raises:
        ValueError: If it did not have a single one of them.
    """
    places: dict[str, int] = {}
    for number, row in enumerate(part.labels):
        for label in row:
            if label not in known and label not in part.ignored:
                places.setdefault(label, number)
    if places and not set(part.label_names) & set(known):
        raise ValueError(
            f"Training had none of the labels of this data set: {', '.join(places)}. It had "
            f"{', '.join(sorted(known))}. `label` and `label_column` choose among several."
        )
    for label, number in places.items():
        warnings.warn(
            f"Training never saw the label {label!r}, so it will not be given; sentence {number} of "
            f"{name} is the first that has it, and counts.",
            stacklevel=3,
        )
    return list(places)


def scheme_of(part: TaggedSentences) -> str | None:
    """The scheme of the labels, or nothing if they are of none."""
    return tagging.guess_scheme(part.labels)


def in_scheme(part: TaggedSentences, scheme: str) -> TaggedSentences:
    """The same spans, in another scheme.

    Raises:
        ValueError: If the labels are of none.
    """
    source = scheme_of(part)
    if source == scheme or all(label == "O" for row in part.labels for label in row):
        return part
    if source is None:
        raise ValueError(
            f"`scheme` is {scheme!r}, but the labels are of no scheme: {', '.join(part.label_names[:5])}."
        )
    labels = [tuple(tagging.convert(row, source, scheme)) for row in part.labels]
    return TaggedSentences.of(part.tokens, labels, documents=part.documents)


class Words(NamedTuple):
    """What a training set knows, the most frequent first.

    Attributes:
        folded: The words, in the form that the model knows them by.
        written: How each is written most often.
        characters: The characters.
    """

    folded: list[str]
    written: list[str]
    characters: list[str]


def learn_words(part: TaggedSentences, least_count: int) -> Words:
    """The words and the characters of a training set.

    Raises:
        ValueError: If no word occurs as often as `least_count`.
    """
    counts = Counter(token for sentence in part.tokens for token in sentence)
    folded = [word.decode() for word in fold_words(tf.constant(list(counts))).numpy()]
    words: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    written: dict[str, str] = {}
    for token, form in zip(counts, folded, strict=True):
        words[form] += counts[token]
        if counts[token] > counts[written.get(form, "")]:
            written[form] = token
        for character in token:
            characters[character] += counts[token]
    # `most_common` keeps the order of the text where counts are equal: the same in every process.
    known = [word for word, count in words.most_common() if count >= least_count]
    if not known:
        raise ValueError(
            f"`least_count` is {least_count}, but no word is in the training set more than "
            f"{max(words.values())} times."
        )
    return Words(
        known,
        [written[word] for word in known],
        [character for character, _ in characters.most_common()],
    )


def cut(part: TaggedSentences, length: int, scheme: str | None) -> TaggedSentences:
    """The sentences, those that are longer than `length` in pieces: a batch is as long as its longest.

    Nothing is left out. An entity over a cut becomes two.
    """
    if max(map(len, part.tokens)) <= length:
        return part
    tokens, labels = [], []
    for sentence, row in zip(part.tokens, part.labels, strict=True):
        for start in range(0, len(sentence), length):
            piece = row[start : start + length]
            tokens.append(sentence[start : start + length])
            labels.append(tagging.repair(piece, scheme) if scheme else piece)
    return TaggedSentences.of(tokens, labels, part.label_names, part.ignored)


class Encoded(LengthBatches):
    """A part of a corpus as numbers, made once and kept in memory.

    Its batches are `(numbers, tags)`: int32 `(batch, time, 1 + max_word_length)`, padded with 0, as the
    model's `token_numbers` makes them, and int32 `(batch, time)`, -1 where nothing is to be learned: at
    padding and ignored labels.

    Args:
        part: The sentences and labels.
        model: The model whose vocabulary numbers the words.
        max_length: The number of tokens from which on a sentence is cut into pieces.
    """

    def __init__(
        self, part: TaggedSentences, model: SequenceLabeler, max_length: int = 400
    ) -> None:
        part = cut(part, max_length, model.scheme)
        tokens = [token for sentence in part.tokens for token in sentence]
        # Each token's numbers once, in a table whose row 0 is padding.
        rows = {form: number for number, form in enumerate(dict.fromkeys(tokens), start=1)}
        places = np.array([rows[token] for token in tokens], np.int32)
        forms = tf.data.Dataset.from_tensor_slices(list(rows)).batch(4096)
        padding = tf.zeros((1, 1 + model.max_word_length), tf.int32)
        chunks = in_advance(forms.map(model.token_numbers))
        self.table = tf.concat([padding, *chunks], axis=0)
        numbers = {label: number for number, label in enumerate(model.labels)}
        tags = [numbers.get(label, -1) for sentence in part.labels for label in sentence]
        lengths = np.array([len(sentence) for sentence in part.tokens], np.int64)
        self.places = tf.RaggedTensor.from_row_lengths(places, lengths)
        self.tags = tf.RaggedTensor.from_row_lengths(np.array(tags, np.int32), lengths)
        super().__init__(lengths)

    def read(self, numbers: tf.Tensor, time: Any) -> tuple[tf.Tensor, tf.Tensor]:
        shape = tf.stack([-1, time])
        places = tf.gather(self.places, numbers).to_tensor(0, shape=shape)
        tags = tf.gather(self.tags, numbers).to_tensor(-1, shape=shape)
        return tf.gather(self.table, places), tags
