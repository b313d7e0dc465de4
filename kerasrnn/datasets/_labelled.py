"""What every data set of labelled texts is, and the checks that it must pass."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class LabelledTexts:
    """Texts, each with the number of its label.

    Attributes:
        texts: The texts.
        labels: int32 `(len(texts),)`, each an index into `label_names`.
        label_names: The names of the labels.
    """

    texts: Sequence[str]
    labels: np.ndarray
    label_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Iterable[int]) -> LabelledTexts:
        """The texts with these numbers, in this order."""
        chosen = list(indices)
        return LabelledTexts([self.texts[i] for i in chosen], self.labels[chosen], self.label_names)

    def split(self, fraction: float, seed: int) -> tuple[LabelledTexts, LabelledTexts]:
        """A random part of each label's texts, and the rest.

        Args:
            fraction: The size of the first part, between 0 and 1.
            seed: The same seed gives the same parts.

        Example:

        >>> import numpy as np
        >>> from kerasrnn.datasets import LabelledTexts
        >>> data = LabelledTexts(list("abcdefgh"), np.array([0, 1] * 4), ("no", "yes"))
        >>> quarter, rest = data.split(0.25, seed=1)
        >>> len(quarter), len(rest), sorted(quarter.labels.tolist())
        (2, 6, [0, 1])
        """
        generator = np.random.default_rng(seed)
        first: list[int] = []
        for label in range(len(self.label_names)):
            members = generator.permutation(np.flatnonzero(self.labels == label))
            first.extend(members[: round(fraction * len(members))])
        chosen = set(first)
        rest = (i for i in range(len(self)) if i not in chosen)
        return self.take(sorted(first)), self.take(rest)


def labelled(
    rows: Iterable[tuple[str, str, str]], label_names: Sequence[str] | None = None
) -> LabelledTexts:
    """Make the data set of rows `(where, text, label)`, and refuse an empty text or a new label.

    Args:
        rows: `where` says in an error's message where the text came from.
        label_names: The labels that there may be. By default those found, sorted.
    """
    places, texts, found = [], [], []
    for where, text, label in rows:
        if not text.strip():
            raise ValueError(f"{where}: the text is empty. Remove it, or give it words.")
        if not label.strip():
            raise ValueError(f"{where}: the label is empty.")
        places.append(where)
        texts.append(text)
        found.append(label)
    if not texts:
        raise ValueError("The data set holds no text at all.")
    known = tuple(label_names) if label_names else tuple(sorted(set(found)))
    numbers = {name: number for number, name in enumerate(known)}
    for where, label in zip(places, found, strict=True):
        if label not in numbers:
            raise ValueError(f"{where}: the label is {label!r}, not one of {', '.join(known)}.")
    return LabelledTexts(texts, np.array([numbers[label] for label in found], np.int32), known)


def read_utf8(path: Path) -> str:
    """The text of a file, or a clear word on which byte of it is not UTF-8."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {data[error.start]:#04x} at offset {error.start}. "
            f"Convert it first, for instance: iconv -f LATIN1 -t UTF-8 {path.name} > utf8-{path.name}"
        ) from None


def lines_utf8(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, without their ends: what stands between line feeds."""
    for line in io.StringIO(read_utf8(path), newline="\n"):
        yield line.rstrip("\r\n")
