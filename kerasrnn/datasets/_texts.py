"""Labelled texts: the built-in reviews, folders, tables and TensorFlow Datasets."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from kerasrnn.datasets._labelled import LabelledTexts, labelled, read_utf8
from kerasrnn.datasets._tfds import open_builder, shown

SENTIMENTS = ("negative", "positive")

Parts = dict[str, LabelledTexts]


def reviews() -> Parts:
    """660 short English reviews, written for this package: films, books, games, places, products.

    Half are positive and half negative; many hold a negation or a mixed opinion. The parts,
    `"train"` (528) and `"test"` (132), are fixed.

    Example:

    >>> import kerasrnn
    >>> parts = kerasrnn.datasets.reviews()
    >>> {name: len(part) for name, part in parts.items()}
    {'train': 528, 'test': 132}
    >>> parts["train"].label_names
    ('negative', 'positive')
    """
    with resources.as_file(resources.files("kerasrnn.datasets") / "reviews.tsv") as path:
        rows = list(_rows(path))
    return {
        part: labelled(
            ((where, row["text"], row["label"]) for where, row in rows if row["split"] == part),
            SENTIMENTS,
        )
        for part in ("train", "test")
    }


def text_table(
    path: str | Path, text_column: str = "text", label_column: str = "label"
) -> LabelledTexts:
    """A table of labelled texts: a CSV or TSV file (by its ending) whose first row names the columns.

    Args:
        path: The file, UTF-8.
        text_column: The column of the texts.
        label_column: The column of the labels, any words.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is missing, a row is short, a text is empty or the file is not UTF-8.
    """
    path = Path(path)
    rows = _rows(path)
    if not rows:
        raise ValueError(f"{path} is a table that holds no text at all.")
    return labelled(
        (where, _cell(where, row, text_column), _cell(where, row, label_column).strip())
        for where, row in rows
    )


def text_folder(path: str | Path) -> Parts:
    """A folder of text files, one text a file, in a folder for each label.

    Either `path/LABEL/*.txt`, which gives the part `"train"` alone, or `path/train/LABEL/*.txt` and
    `path/test/LABEL/*.txt`, the layout of the original IMDB archive (whose `unsup` is left out).

    Raises:
        FileNotFoundError: If there is no such folder, or there are no texts in it.
        ValueError: If a text is empty or not UTF-8, or a test label does not occur in training.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {path}.")
    if (path / "train").is_dir():
        train = _label_folders(path / "train", None)
        test = path / "test"
        return {"train": train} | (
            {"test": _label_folders(test, train.label_names)} if test.is_dir() else {}
        )
    return {"train": _label_folders(path, None)}


def tfds_texts(name: str, data_dir: str | Path | None = None) -> Parts:
    """The labelled texts of a TensorFlow data set such as `imdb_reviews`.

    Args:
        name: The name of the data set, with its configuration if it has several.
        data_dir: A TFDS folder in which the data set is prepared already; nothing is downloaded.
            By default TFDS's own folder, into which it downloads what is missing.

    Returns:
        The parts `"train"` and, if the set has them, `"validation"` and `"test"`. Where the labels of
        the test part are kept secret (as GLUE's are) the validation part takes its place. Texts
        without a word are left out, with a warning that counts them.

    Raises:
        FileNotFoundError: If `data_dir` lacks the data set; the message says how to get it.
        ValueError: If TFDS has no such data set, or it is not one of labelled texts.
    """
    import tensorflow_datasets as tfds

    builder = open_builder(name, data_dir)
    features = builder.info.features
    text = [key for key, feature in features.items() if isinstance(feature, tfds.features.Text)]
    label = [
        key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)
    ]
    if len(text) != 1 or len(label) != 1:
        raise ValueError(
            f"The data set {name!r} must have one text and one label, got texts {text}, labels {label}."
        )
    if "train" not in builder.info.splits:
        raise ValueError(f"The data set {name!r} has no part 'train': {list(builder.info.splits)}.")
    label_names = _sentiment_names(features[label[0]].names)
    parts = {
        part: _labelled_part(builder, part, text[0], label[0], label_names)
        for part in ("train", "validation", "test")
        if part in builder.info.splits
    }
    if parts["train"] is None:
        raise ValueError(f"The data set {name!r} keeps the labels of its training part secret.")
    if "test" in parts and parts["test"] is None:
        parts["test"] = parts.pop("validation", None)
    return {part: data for part, data in parts.items() if data is not None}


def _labelled_part(
    builder: Any, part: str, text: str, label: str, label_names: tuple[str, ...]
) -> LabelledTexts | None:
    """One part of a TFDS data set; nothing if its labels are secret, which TFDS writes as -1."""
    rows, empty = [], 0
    for number, row in enumerate(shown(builder, part, text, label)):
        if row[label] < 0:
            return None
        words = row[text].decode("utf-8")
        if words.strip():
            rows.append((f"{builder.name} {part} {number}", words, label_names[row[label]]))
        else:
            empty += 1
    if empty:
        warnings.warn(
            f"{builder.name}: {empty} texts of the part {part!r} are empty and were left out.",
            stacklevel=2,
        )
    return labelled(rows, label_names)


def _sentiment_names(names: list[str]) -> tuple[str, ...]:
    """IMDB says "neg" and "pos"; a verdict should be a word."""
    return SENTIMENTS if tuple(names) == ("neg", "pos") else tuple(names)


def _rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    # In a TSV a quotation mark is a quotation mark.
    tabs: Any = (
        {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.suffix.lower() == ".tsv" else {}
    )
    reader = csv.DictReader(io.StringIO(read_utf8(path), newline=""), strict=True, **tabs)
    rows = []
    try:
        with _cells_of_any_size():
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row:
                    raise ValueError(
                        f"{where}: the row has more cells than there are columns. A text that holds "
                        "the separator stands between quotation marks in a CSV."
                    )
                rows.append((where, row))
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.reader.line_num}: not a well-formed table: {error}."
        ) from error
    return rows


@contextmanager
def _cells_of_any_size() -> Iterator[None]:
    """A text may be longer than the 131,072 characters at which the csv module stops by default."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _cell(where: str, row: dict[str, Any], column: str) -> str:
    if column not in row:
        columns = ", ".join(repr(name) for name in row if name is not None)
        raise ValueError(f"{where}: there is no column {column!r}; the columns are {columns}.")
    if row[column] is None:
        raise ValueError(f"{where}: the row ends before the column {column!r}.")
    return str(row[column])


def _label_folders(path: Path, label_names: tuple[str, ...] | None) -> LabelledTexts:
    folders = sorted(p for p in path.iterdir() if p.is_dir() and p.name != "unsup")
    files = [(file, folder.name) for folder in folders for file in sorted(folder.glob("*.txt"))]
    found = list(dict.fromkeys(label for _, label in files))
    if not files:
        raise FileNotFoundError(
            f"{path} holds no texts: there must be a folder for each label, with .txt files in it."
        )
    names = label_names or _sentiment_names(found)
    renamed = dict(zip(("neg", "pos"), SENTIMENTS, strict=True)) if names == SENTIMENTS else {}
    return labelled(
        ((str(file), read_utf8(file), renamed.get(label, label)) for file, label in files), names
    )
