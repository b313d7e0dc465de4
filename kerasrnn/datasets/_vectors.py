"""Word vectors from text files."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

Line = tuple[int, bytes]


class WordVectors(NamedTuple):
    """The vectors of given words.

    Attributes:
        vectors: float32 `(words, size)`; zeros where a word has no vector.
        found: bool `(words,)`, whether a word has a vector.
    """

    vectors: np.ndarray
    found: np.ndarray


def word_vectors(
    path: str | Path, words: Iterable[str], show_progress: bool = True, size: int | None = None
) -> WordVectors:
    r"""The vectors of some words, from a text file of GloVe, word2vec or fastText, `.gz` or not.

    A line is a word and its numbers, with a space between them. The first line of word2vec and
    fastText (`.vec`) says how many words there are and how many numbers each has; GloVe has none.
    A word of GloVe may have spaces in it (`". . ."`): the numbers are counted from the right.

    The file is read line by line, and only the vectors of `words` are kept. A word that the file
    lacks gets the vector of its lower-case form, if there is one. Of two lines for one word the
    first counts.

    Args:
        path: The file, UTF-8. It is taken as compressed if its name ends in `.gz`.
        words: The words, in the order that the result has.
        show_progress: Whether to show a bar while someone is watching.
        size: How many numbers a vector must have, if it matters.

    Returns:
        A `WordVectors`: `vectors` and `found`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `words` is one text. If the file holds no vectors, is cut off, or a line is not
            UTF-8, has more or fewer numbers than the others, or, for a word that is wanted, has
            something else than finite numbers. The message has the line.

    Paper: Pennington et al. (2014), https://aclanthology.org/D14-1162; Bojanowski et al. (2017),
    https://aclanthology.org/Q17-1010

    Example:

    >>> from pathlib import Path
    >>> from kerasrnn.datasets import word_vectors
    >>> _ = Path("tiny.txt").write_text("the 0.5 1\ncat -1 2\n")
    >>> vectors, found = word_vectors("tiny.txt", ["cat", "The", "dog"])
    >>> vectors.tolist(), found.tolist()
    ([[-1.0, 2.0], [0.5, 1.0], [0.0, 0.0]], [True, True, False])
    """
    path = Path(path)
    if isinstance(words, str):
        raise ValueError(f"`words` must be several words, got one text: {words[:80]!r}.")
    words = list(words)
    wanted = {*words, *(word.lower() for word in words)}
    kept: dict[str, np.ndarray] = {}
    with _opened(path, show_progress) as lines:
        promised, width, lines = _measured(path, lines)
        if size not in (None, width):
            raise ValueError(
                f"{path} has vectors of {width} numbers, and {size} are wanted: `size`, or a model's "
                f"`embedding_dim`, must be {width}."
            )
        read = 0
        for number, line in lines:
            word, numbers = _parted(path, number, line, width)
            read += 1
            if word in wanted and word not in kept:
                kept[word] = _floats(path, number, numbers)
    if promised not in (None, read):
        raise ValueError(
            f"{path} has vectors for {read} words, and its first line promises {promised}: it was "
            "cut off, or has another first line than word2vec's. Get it once more."
        )
    vectors = np.zeros((len(words), width), np.float32)
    found = np.zeros(len(words), bool)
    for place, word in enumerate(words):
        vector = kept.get(word, kept.get(word.lower()))
        if vector is not None:
            vectors[place], found[place] = vector, True
    return WordVectors(vectors, found)


@contextmanager
def _opened(path: Path, show_progress: bool) -> Iterator[Iterator[Line]]:
    """The lines of a file that are not empty, with their numbers, read as they are asked for."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    bar = tqdm(
        total=path.stat().st_size,
        desc=f"reading {path.name}",
        unit="B",
        unit_scale=True,
        disable=None if show_progress else True,
        leave=False,
    )
    with bar, path.open("rb") as file:

        def lines() -> Iterator[Line]:
            source = gzip.GzipFile(fileobj=file) if path.suffix.lower() == ".gz" else file
            for number, line in enumerate(source, start=1):
                if number % 1000 == 0:
                    bar.update(file.tell() - bar.n)
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                # fastText ends a line with a space.
                if line := line.rstrip(b" \r\n"):
                    yield number, line

        try:
            yield lines()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{path} is not a whole gzip file: {error}. Get it once more."
            ) from error


def _measured(path: Path, lines: Iterator[Line]) -> tuple[int | None, int, Iterator[Line]]:
    """How many words the first line promises, if it does; how many numbers each has; the lines of words."""
    number, first = next(lines, (0, b""))
    fields = first.split(b" ")
    if len(fields) == 2 and all(field.isdigit() for field in fields):
        return int(fields[0]), int(fields[1]), lines
    if len(fields) < 2:
        raise ValueError(f"{path} holds no word vectors: its first line has no word with numbers.")

    def all_lines() -> Iterator[Line]:
        yield number, first
        yield from lines

    return None, len(fields) - 1, all_lines()


def _parted(path: Path, number: int, line: bytes, size: int) -> tuple[str, bytes]:
    """The word of a line and its numbers. The word is what is left of the last `size` fields."""
    spaces = line.count(b" ")
    if spaces < size:
        raise ValueError(f"{path}, line {number}: there are {spaces} numbers, and must be {size}.")
    *parts, numbers = line.split(b" ", spaces - size + 1)
    if len(parts) > 1 and _is_number(parts[-1]):
        raise ValueError(
            f"{path}, line {number}: there are more numbers than {size}, which the first line has."
        )
    try:
        return b" ".join(parts).decode("utf-8"), numbers
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: the word is not UTF-8: byte {error.object[error.start]:#04x}."
        ) from None


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _floats(path: Path, number: int, numbers: bytes) -> np.ndarray:
    try:
        vector = np.array(numbers.split(b" "), np.float32)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}.") from None
    if not np.isfinite(vector).all():
        raise ValueError(f"{path}, line {number}: not all numbers are finite.")
    return vector
