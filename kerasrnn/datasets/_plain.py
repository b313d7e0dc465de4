"""Plain text: files of any size, the source of Python, and TensorFlow Datasets."""

from __future__ import annotations

import codecs
import io
import mmap
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from kerasrnn.datasets._tfds import open_builder, shown


@dataclass(frozen=True)
class _Document:
    """A range of the bytes of a file, or of bytes in memory.

    Attributes:
        name: What an error's message calls it.
        source: The file, or the bytes.
        start: Where it begins in the source.
        stop: Where it ends there.
    """

    name: str
    source: Path | bytes
    start: int
    stop: int

    @classmethod
    def of_file(cls, path: Path) -> _Document:
        """A whole file, without the mark of byte order at its start."""
        with path.open("rb") as file:
            marked = file.read(3) == codecs.BOM_UTF8
            return cls(str(path), path, 3 if marked else 0, file.seek(0, io.SEEK_END))

    def __len__(self) -> int:
        return self.stop - self.start

    def pieces(self, size: int) -> Iterator[bytes]:
        """The content, in pieces that end where a line or at least a character does."""
        with self._open() as file:
            at, data = file.seek(self.start), b""
            while (left := self.stop - at - len(data)) > 0:
                more = file.read(min(size, left))
                if not more:
                    raise ValueError(f"{self.name} became shorter while it was read. Begin anew.")
                data += more
                last = len(more) == left
                try:
                    whole = codecs.utf_8_decode(data, "strict", last)[1]
                except UnicodeDecodeError as error:
                    raise ValueError(
                        f"{self.name} is not UTF-8: byte {data[error.start]:#04x} at offset "
                        f"{at + error.start}. Convert it first, for instance: "
                        "iconv -f LATIN1 -t UTF-8 old.txt > new.txt"
                    ) from None
                cut = whole if last else data.rfind(b"\n", 0, whole) + 1 or whole
                if cut:
                    yield data[:cut]
                at, data = at + cut, data[cut:]

    def _open(self) -> BinaryIO:
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")

    def cut(self, size: int, reach: int, ends: tuple[bool, bool]) -> int:
        """How many bytes to cut off at the start: about `size`, so that no line is cut.

        Args:
            size: More than 0 and less than there are.
            reach: How far off the nearest line end may be; otherwise it is a line that is cut.
            ends: Whether nothing and whether everything may be cut off.
        """
        with ExitStack() as stack:
            text: bytes | mmap.mmap
            if isinstance(self.source, bytes):
                text = self.source
            else:
                file = stack.enter_context(self.source.open("rb"))
                text = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            wanted = self.start + size
            before = text.rfind(b"\n", self.start, wanted) + 1 or self.start
            # A line end at `wanted` itself was found above.
            after = text.find(b"\n", wanted, self.stop) + 1 or self.stop
            allowed = [
                place
                for place in (before, after)
                if (place > self.start or ends[0]) and (place < self.stop or ends[1])
            ]
            nearest = min(allowed, key=lambda place: abs(place - wanted), default=None)
            if nearest is None or abs(nearest - wanted) > reach:
                nearest = wanted
                # The second and further bytes of a character.
                while nearest > self.start and text[nearest] & 0xC0 == 0x80:
                    nearest -= 1
            return nearest - self.start


@dataclass(frozen=True)
class PlainText:
    """Text in documents, which may be larger than memory: it is read when it is asked for.

    `plain_text` makes it of files, `PlainText.of` of texts in memory.

    Attributes:
        sources: Where the documents are. None is empty.
    """

    sources: tuple[_Document, ...]

    @classmethod
    def of(cls, texts: Iterable[str | bytes], name: str = "text") -> PlainText:
        r"""Make it of documents in memory; empty ones are left out.

        Args:
            texts: The documents, bytes in UTF-8.
            name: What an error's message calls them, with their number.

        Raises:
            ValueError: If there is no text in them, or they are one text alone.

        Example:

        >>> from kerasrnn.datasets import PlainText
        >>> text = PlainText.of(["one\ntwo\n", "three\n"])
        >>> len(text), [b"".join(pieces) for pieces in text.documents()]
        (14, [b'one\ntwo\n', b'three\n'])
        """
        if isinstance(texts, (str, bytes)):
            raise ValueError(
                f"`texts` must be a list of documents, got the one text {texts[:80]!r}: put it into a list."
            )
        coded = (text.encode() if isinstance(text, str) else text for text in texts)
        return _text_of(
            (_Document(f"{name} {n}", data, 0, len(data)) for n, data in enumerate(coded)), name
        )

    @property
    def name(self) -> str:
        """What an error's message calls it: its first document, and how many more there are."""
        first = self.sources[0].name if self.sources else "an empty text"
        more = len(self.sources) - 1
        return f"{first} and {more} more" if more > 0 else first

    def __len__(self) -> int:
        """How many bytes there are."""
        return sum(map(len, self.sources))

    def documents(self, size: int = 2**20) -> Iterator[Iterator[bytes]]:
        """For each document its content, in pieces.

        A piece ends where a line does, or, where there is no line end in it, where a character does.

        Args:
            size: About how many bytes to read at once, at least 1.

        Raises:
            ValueError: While reading, if a document is not UTF-8. The message has the file, the byte and
                its offset in the file.
        """
        if size < 1:
            raise ValueError(f"`size` must be at least 1, got {size!r}.")
        return (document.pieces(size) for document in self.sources)

    def split(self, fraction: float, seed: int = 0) -> tuple[PlainText, PlainText]:
        r"""The end of the text, and the rest.

        The cut is at the line end nearest to where it should be; the end of a document is one. Where none
        is within a quarter of the text, it is between two characters.

        Args:
            fraction: The size of the end, between 0 and 1, in bytes.
            seed: Not used: text is cut in one way only. Other data sets draw what they cut off.

        Raises:
            ValueError: If the fraction does not lie between 0 and 1.

        Example:

        >>> from kerasrnn.datasets import PlainText
        >>> end, rest = PlainText.of(["one\ntwo\nthree\n", "four\n"]).split(0.3)
        >>> [b"".join(pieces) for pieces in rest.documents()]
        [b'one\ntwo\nthree\n']
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"`fraction` must lie between 0 and 1, got {fraction!r}.")
        whole = len(self)
        left = whole - round(fraction * whole)
        before: list[_Document] = []
        after: list[_Document] = []
        for number, document in enumerate(self.sources):
            size = min(left, len(document))
            if 0 < size < len(document):
                ends = (number > 0, number < len(self.sources) - 1)
                size = document.cut(size, whole // 4, ends)
                left = size
            left -= size
            middle = document.start + size
            before.append(replace(document, stop=middle))
            after.append(replace(document, start=middle))
        end, rest = (PlainText(tuple(filter(len, part))) for part in (after, before))
        return end, rest


def plain_text(paths: str | Path | Iterable[str | Path]) -> PlainText:
    r"""The text of files, each a document. It is read when it is asked for, and may be larger than memory.

    Empty files are left out, and so is a mark of byte order at the start of one.

    Args:
        paths: A file or several, UTF-8. A folder stands for all `.txt` files in and below it, sorted.

    Raises:
        FileNotFoundError: If there is no such file or folder, or no `.txt` file in a folder.
        ValueError: If there is no text in the files. One that is not UTF-8 is found when it is read.

    Example:

    >>> from pathlib import Path
    >>> from kerasrnn.datasets import plain_text
    >>> _ = Path("tiny.txt").write_bytes(b"To be,\nor not to be\n")
    >>> len(plain_text("tiny.txt"))
    20
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    files = [file for path in map(Path, given) for file in _files(path)]
    return _text_of(map(_Document.of_file, files), ", ".join(map(str, given)) or "`paths`")


def python_source() -> dict[str, PlainText]:
    """The source of the Python that runs this: the modules of its standard library, no packages.

    Some 170 documents and 5 MB; they differ from one version of Python to the next. Modules that
    are not UTF-8 are left out.

    Returns:
        One part, `"train"`.

    Raises:
        FileNotFoundError: If the library is not there as files.

    Example:

    >>> import kerasrnn
    >>> len(kerasrnn.datasets.python_source()["train"]) > 1_000_000
    True
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    modules = map(_Document.of_file, sorted(folder.glob("*.py")))
    documents = [module for module in modules if len(module) and _is_readable(module)]
    if not documents:
        raise FileNotFoundError(
            f"{folder} has no source in it: this Python comes without its library, or has it in an "
            "archive. Use another, or name files of your own."
        )
    return {"train": PlainText(tuple(documents))}


def tfds_plain_text(name: str, data_dir: str | Path | None = None) -> dict[str, PlainText]:
    """The text of a TensorFlow data set such as `tiny_shakespeare`, held in memory.

    Each example is a document; empty ones are left out.

    Args:
        name: The name of the data set, with its configuration if it has several.
        data_dir: A TFDS folder in which the data set is prepared already; nothing is downloaded.
            By default TFDS's own folder, into which it downloads what is missing.

    Returns:
        The parts `"train"` and, if the set has them, `"validation"` and `"test"`.

    Raises:
        FileNotFoundError: If `data_dir` lacks the data set; the message says how to get it.
        ValueError: If TFDS has no such data set, or it has not just one text.
    """
    import tensorflow_datasets as tfds

    builder = open_builder(name, data_dir)
    features = builder.info.features
    texts = [key for key, feature in features.items() if isinstance(feature, tfds.features.Text)]
    parts = [part for part in ("train", "validation", "test") if part in builder.info.splits]
    if len(texts) != 1 or "train" not in parts:
        raise ValueError(
            f"The data set {name!r} must have one text and a part 'train', got texts {texts} and the "
            f"parts {list(builder.info.splits)}."
        )
    (key,) = texts
    return {
        part: PlainText.of((row[key] for row in shown(builder, part, key)), f"{name} {part}")
        for part in parts
    }


def _text_of(documents: Iterable[_Document], name: str) -> PlainText:
    found = tuple(filter(len, documents))
    if not found:
        raise ValueError(f"There is no text in {name}.")
    return PlainText(found)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    files = sorted(file for file in path.rglob("*.txt") if file.is_file())
    if not files:
        raise FileNotFoundError(f"{path} holds no texts: there must be .txt files in or below it.")
    return files


def _is_readable(document: _Document) -> bool:
    try:
        return all(document.pieces(len(document)))
    except ValueError:
        return False
