"""Sentences with a label for each token, and the sets of them among TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasrnn.datasets._tfds import open_builder, shown

# What Universal Dependencies write where nothing is specified.
UNSPECIFIED = "_"


@dataclass(frozen=True)
class TaggedSentences:
    """Sentences, each with one label for each of its tokens. `TaggedSentences.of` makes them.

    Attributes:
        tokens: The tokens of each sentence; no sentence is empty.
        labels: Their labels, as names.
        label_names: The names of the labels that can be learned; the place in it is a label's number.
        ignored: Labels that neither train nor count, such as `"_"` in Universal Dependencies. They
            are not in `label_names`.
        documents: The number of each sentence's document. Where nothing tells, every sentence is a
            document of its own.

    Raises:
        ValueError: If a sentence is empty, has not as many labels as tokens, or has a label that is
            in neither `label_names` nor `ignored`. The message has the sentence's index.
    """

    tokens: Sequence[tuple[str, ...]]
    labels: Sequence[tuple[str, ...]]
    label_names: tuple[str, ...]
    ignored: frozenset[str]
    documents: Sequence[int]

    def __post_init__(self) -> None:
        if not len(self.tokens) == len(self.labels) == len(self.documents):
            raise ValueError(
                f"There are {len(self.tokens)} sentences, labels for {len(self.labels)} and documents "
                f"for {len(self.documents)}; there must be as many of each."
            )
        known = self.ignored.union(self.label_names)
        for index, (tokens, labels) in enumerate(zip(self.tokens, self.labels, strict=True)):
            if not tokens or len(tokens) != len(labels):
                raise ValueError(
                    f"Sentence {index} has {len(tokens)} tokens and {len(labels)} labels; it must "
                    f"have one label for each token, and a token at least: {' '.join(tokens)[:80]!r}"
                )
            if not all(tokens):
                raise ValueError(f"Sentence {index} has an empty token: {tokens!r}.")
            if not known.issuperset(labels):
                strange = next(label for label in labels if label not in known)
                raise ValueError(
                    f"Sentence {index} has the label {strange!r}, not one of "
                    f"{', '.join([*self.label_names, *sorted(self.ignored)])}."
                )

    @classmethod
    def of(
        cls,
        tokens: Iterable[Sequence[str]],
        labels: Iterable[Sequence[str]],
        label_names: Iterable[str] | None = None,
        ignored: Iterable[str] = (),
        documents: Sequence[int] | None = None,
    ) -> TaggedSentences:
        """Make the data set of tokens and labels.

        Args:
            tokens: The tokens of each sentence.
            labels: The labels of each sentence, as names.
            label_names: By default the labels that occur, sorted, with `"O"` first, without `ignored`.
            ignored: Labels that neither train nor count.
            documents: The number of each sentence's document, by default another for each.

        Example:

        >>> from kerasrnn.datasets import TaggedSentences
        >>> data = TaggedSentences.of([["Anna", "ran"], ["Go"]], [["B-PER", "O"], ["O"]])
        >>> len(data), data.label_names, data.tokens[1]
        (2, ('O', 'B-PER'), ('Go',))
        """
        token_rows, label_rows = ([tuple(row) for row in rows] for rows in (tokens, labels))
        ignored = frozenset(ignored)
        if label_names is None:
            found = {label for row in label_rows for label in row} - ignored
            label_names = sorted(found, key=lambda name: (name != "O", name))
        if documents is None:
            documents = range(len(token_rows))
        return cls(token_rows, label_rows, tuple(label_names), ignored, list(documents))

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, indices: Iterable[int]) -> TaggedSentences:
        """The sentences with these numbers, in this order. The labels keep their numbers."""
        chosen = list(indices)
        return replace(
            self,
            tokens=[self.tokens[i] for i in chosen],
            labels=[self.labels[i] for i in chosen],
            documents=[self.documents[i] for i in chosen],
        )

    def split(self, fraction: float, seed: int) -> tuple[TaggedSentences, TaggedSentences]:
        """A random part of the sentences, and the rest.

        Args:
            fraction: The size of the first part, between 0 and 1.
            seed: The same seed gives the same parts.

        Example:

        >>> from kerasrnn.datasets import TaggedSentences
        >>> data = TaggedSentences.of([[word] for word in "abcdefgh"], [["X"]] * 8)
        >>> quarter, rest = data.split(0.25, seed=1)
        >>> len(quarter), len(rest)
        (2, 6)
        """
        order = np.random.default_rng(seed).permutation(len(self))
        size = round(fraction * len(self))
        return self.take(sorted(order[:size])), self.take(sorted(order[size:]))


def with_common_names(parts: dict[str, TaggedSentences]) -> dict[str, TaggedSentences]:
    """The parts of one corpus, with the label names of all: a label has one number everywhere."""
    whole = TaggedSentences.of(
        [row for part in parts.values() for row in part.tokens],
        [row for part in parts.values() for row in part.labels],
        ignored=frozenset[str]().union(*(part.ignored for part in parts.values())),
    )
    return {
        name: replace(part, label_names=whole.label_names, ignored=whole.ignored)
        for name, part in parts.items()
    }


def tfds_tags(
    name: str, data_dir: str | Path | None = None, label: str | None = None
) -> dict[str, TaggedSentences]:
    """The tagged sentences of a TensorFlow data set: `conll2003`, `universal_dependencies/en_ewt`.

    Of Universal Dependencies the tokens are the syntactic words. The undivided spelling of words
    that were divided ("don't" before "do" and "n't") and empty nodes, which nobody wrote, are left
    out. `"_"` is what is not specified, and in `ignored`.

    TFDS keeps neither the order of the sentences nor their documents: each is a document of its own.

    Args:
        name: The name of the data set, with its configuration if it has several.
        data_dir: A TFDS folder in which the data set is prepared already; nothing is downloaded.
            By default TFDS's own folder, into which it downloads what is missing.
        label: Which labels: `"ner"`, `"pos"` or `"chunks"` of `conll2003`; `"upos"`, `"xpos"` or
            `"deprel"` of Universal Dependencies. By default `"ner"`, or the only ones there are.

    Returns:
        The parts that the set has of `"train"`, `"validation"` (which TFDS may call "dev") and
        `"test"`, all with the same `label_names`: those that occur.

    Raises:
        FileNotFoundError: If `data_dir` lacks the data set; the message says how to get it.
        ValueError: If TFDS has no such data set, or it has no tagged sentences or not these labels.
    """
    builder = open_builder(name, data_dir)
    label = _label_feature(builder, label)
    named = {"train": "train", "validation": "validation", "dev": "validation", "test": "test"}
    return with_common_names(
        {
            ours: _tagged_part(builder, theirs, label)
            for theirs, ours in named.items()
            if theirs in builder.info.splits
        }
    )


def _label_feature(builder: Any, label: str | None) -> str:
    import tensorflow_datasets as tfds

    features = builder.info.features
    sequences = {
        key: feature.feature
        for key, feature in features.items()
        if isinstance(feature, tfds.features.Sequence)
    }
    classes = [k for k, inner in sequences.items() if isinstance(inner, tfds.features.ClassLabel)]
    if "tokens" not in sequences or not classes:
        raise ValueError(
            f"The data set {builder.name!r} must have `tokens` and a sequence of labels for them; "
            f"its features are {', '.join(features)}."
        )
    # Treebanks have these as text.
    choices = [*classes, *(key for key in ("xpos", "deprel") if key in sequences)]
    if label is None and (len(classes) == 1 or "ner" in classes):
        label = "ner" if "ner" in classes else classes[0]
    if label is None or label not in choices:
        raise ValueError(
            f"The labels of {builder.name!r} are {', '.join(choices)}: `label` must name one of "
            f"them, got {label!r}."
        )
    return label


def _tagged_part(builder: Any, part: str, label: str) -> TaggedSentences:
    features = builder.info.features
    # The head of a syntactic word is a number; of what is none, Python's None as a text.
    treebank = "head" in features
    names = getattr(features[label].feature, "names", None)
    tokens, labels = [], []
    for row in shown(builder, part, "tokens", label, *(["head"] if treebank else [])):
        words, tags = row["tokens"], row[label]
        if treebank:
            real = row["head"] != b"None"
            words, tags = words[real], tags[real]
        if not len(words):
            continue  # TFDS ends each part of conll2003 with a sentence of no token.
        tokens.append([word.decode("utf-8") for word in words])
        if names:
            labels.append([names[tag] for tag in tags])
        else:
            labels.append([UNSPECIFIED if tag == b"None" else tag.decode("utf-8") for tag in tags])
    return TaggedSentences.of(tokens, labels, ignored={UNSPECIFIED} if treebank else ())
