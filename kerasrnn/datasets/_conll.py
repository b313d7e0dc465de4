"""Files with a token a line: CoNLL's columns, CoNLL-U, and the tagged sentences of the package."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

from kerasrnn import tagging
from kerasrnn.datasets._labelled import lines_utf8
from kerasrnn.datasets._tagged import UNSPECIFIED, TaggedSentences, with_common_names

_DOCUMENT = "-DOCSTART-"
_CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


class _Block(NamedTuple):
    """The lines of a sentence: the number of the first row, the comments above it, and the rows."""

    line: int
    comments: list[str]
    rows: list[list[str]]


def sentences(label: Literal["entity", "pos"] = "entity") -> dict[str, TaggedSentences]:
    """English sentences with names and parts of speech, written for this package: news, letters, talk.

    The tokens are those of `tokenize`'s rules. The parts `"train"`, `"validation"` and `"test"` are
    fixed and have the same `label_names`.

    Args:
        label: `"entity"`: persons, places and organisations in the scheme BIO, with the types PER,
            LOC and ORG. `"pos"`: the Universal Parts of Speech.

    Raises:
        ValueError: If there is no such label.

    Example:

    >>> import kerasrnn
    >>> train = kerasrnn.datasets.sentences()["train"]
    >>> train.label_names
    ('O', 'B-LOC', 'B-ORG', 'B-PER', 'I-LOC', 'I-ORG', 'I-PER')
    """
    columns = {"pos": 1, "entity": 2}
    _check_choice("label", label, columns)
    with resources.as_file(resources.files("kerasrnn.datasets") / "sentences.conll") as path:
        blocks = list(_blocks(path))
        return with_common_names(
            {
                part: _selected(
                    path,
                    [block for block in blocks if f"# part = {part}" in block.comments],
                    0,
                    columns[label],
                )
                for part in ("train", "validation", "test")
            }
        )


def conll_file(
    path: str | Path,
    token_column: int = 0,
    label_column: int = -1,
    scheme: str | None = None,
    target_scheme: str | None = None,
    on_fault: Literal["refuse", "repair", "keep"] = "refuse",
    comment: str | None = None,
) -> TaggedSentences:
    r"""A file of columns as in the CoNLL tasks of 2000, 2002 and 2003: a token a line, then its labels.

    A blank line ends a sentence. A line that begins with `-DOCSTART-` begins a document and is no
    sentence; so does a comment that begins with `# newdoc`.

    The columns are separated by tabs if the first row has one, and otherwise by spaces. `#` may be
    a token, so only this is a comment without being asked for: a line that begins with `#`, stands
    before a sentence's first token and holds no tab, in a file separated by tabs.

    Args:
        path: The file, UTF-8, with or without a byte order mark.
        token_column: The column of the tokens, from 0, or from the end with -1.
        label_column: The column of the labels.
        scheme: The scheme of the labels, one of `kerasrnn.tagging.SCHEMES`. By default
            `kerasrnn.tagging.guess_scheme` finds it; labels of no scheme, such as parts of speech,
            stay as they are.
        target_scheme: The scheme in which the labels are wanted; by default their own.
        on_fault: What is done with labels that break their scheme. `"refuse"`: they are an error.
            `"repair"`: they become what `kerasrnn.tagging.repair` makes of them. `"keep"`: they stay,
            unless there is a `target_scheme`, which repairs them.
        comment: How a line before a sentence's first token begins that is a comment, in place of the
            rule above.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not UTF-8, holds no sentence or lacks the column, if a row has not
            as many columns as the first or an empty cell, or if the labels break their scheme. The
            message has the line. Also if a scheme is unknown, or cannot be told and is needed.

    Paper: Tjong Kim Sang and De Meulder (2003), https://aclanthology.org/W03-0419

    Example:

    >>> from pathlib import Path
    >>> from kerasrnn.datasets import conll_file
    >>> _ = Path("names.conll").write_text("Anna NNP I-PER\nran VBD O\n\nOslo NNP I-LOC\n")
    >>> data = conll_file("names.conll", target_scheme="BIO")
    >>> data.tokens, data.labels
    ([('Anna', 'ran'), ('Oslo',)], [('B-PER', 'O'), ('B-LOC',)])
    """
    path = Path(path)
    _check_choice("on_fault", on_fault, ("refuse", "repair", "keep"))
    for named in filter(None, (scheme, target_scheme)):
        tagging.repair([], named)  # Refuses a scheme that is none, before a long file is read.
    blocks = list(_blocks(path, comment))
    width = len(blocks[0].rows[0])
    for name, column in (("token_column", token_column), ("label_column", label_column)):
        if not -width <= column < width:
            raise ValueError(
                f"{path} has no column {column}: its rows have {width} columns. `{name}` must be "
                f"from {-width} to {width - 1}."
            )
    if token_column % width == label_column % width:
        raise ValueError(
            f"{path}: `token_column` {token_column} and `label_column` {label_column} are the same "
            f"one of the {width} columns."
        )
    data = _selected(path, blocks, token_column, label_column)
    scheme = scheme or tagging.guess_scheme(data.labels)
    if scheme is None:
        if target_scheme is None or data.label_names == ("O",):
            return data
        raise ValueError(
            f"{path}: the scheme of the labels cannot be told from them: "
            f"{', '.join(data.label_names[:5])}, ... Name it by `scheme`, or check `label_column`."
        )
    labels = [
        _in_scheme(path, block.line, row, scheme, target_scheme, on_fault)
        for block, row in zip(blocks, data.labels, strict=True)
    ]
    return TaggedSentences.of(data.tokens, labels, documents=data.documents)


def conllu_file(
    path: str | Path, label: Literal["upos", "xpos", "feats", "deprel"] = "upos"
) -> TaggedSentences:
    r"""A treebank in the format CoNLL-U, as Universal Dependencies have it.

    The tokens are the syntactic words: of "don't", "do" and "n't". The lines of multiword tokens
    (`1-2`) and of empty nodes (`1.1`) are left out. The comment `# newdoc` begins a document.

    Args:
        path: The file, UTF-8.
        label: Which column has the labels. `"_"` in it is what is not specified, and in `ignored`;
            in `"feats"` it is a label like any other, that of words without features.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no such label, the file is not UTF-8 or holds no sentence, a row has
            not 10 columns, or its ID is none, or a cell is empty. The message has the line.

    Paper: Nivre et al. (2020), https://aclanthology.org/2020.lrec-1.497; the format is described at
    https://universaldependencies.org/format.html

    Example:

    >>> from pathlib import Path
    >>> from kerasrnn.datasets import conllu_file
    >>> words = ["1-2 I'm _", "1 I PRON", "2 'm AUX", "3 in ADV"]
    >>> rows = ["{}\t{}\t_\t{}\t_\t_\t_\t_\t_\t_".format(*word.split()) for word in words]
    >>> _ = Path("in.conllu").write_text("\n".join(["# newdoc", *rows, ""]))
    >>> data = conllu_file("in.conllu")
    >>> data.tokens, data.labels
    ([('I', "'m", 'in')], [('PRON', 'AUX', 'ADV')])
    """
    path = Path(path)
    _check_choice("label", label, ("upos", "xpos", "feats", "deprel"))
    return _selected(
        path,
        list(_blocks(path, "#", len(_CONLLU))),
        _CONLLU.index("form"),
        _CONLLU.index(label),
        ids=_CONLLU.index("id"),
        ignored=() if label == "feats" else (UNSPECIFIED,),
    )


def _blocks(path: Path, comment: str | None = None, width: int | None = None) -> Iterator[_Block]:
    """The sentences of a file, each row with `width` cells, or as many as the first has.

    Rows are lines on end: the comments come before them. That is how a row's line is known.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    lines = list(lines_utf8(path))
    tabs = width is not None or _separated_by_tabs(lines)
    comments: list[str] = []
    rows: list[list[str]] = []
    empty = True
    for number, line in enumerate([*lines, ""], start=1):
        begins_document = line.startswith(_DOCUMENT)
        if begins_document or not line.strip(" \t"):
            if rows:
                yield _Block(number - len(rows), comments, rows)
                comments, rows, empty = [], [], False
            if begins_document:
                comments.append(line)
        elif not rows and _is_comment(line, comment, tabs):
            comments.append(line)
        else:
            # A space that does not break, for instance, is part of a token.
            cells = (
                [cell.strip(" ") for cell in line.split("\t")]
                if tabs
                else re.split("[ \t]+", line.strip(" \t"))
            )
            width = width or len(cells)
            if len(cells) != width:
                raise ValueError(
                    f"{path}, line {number}: the row has {len(cells)} columns, separated by "
                    f"{'tabs' if tabs else 'spaces'}, and must have {width}: {line[:80]!r}. "
                    "If it is a comment, see the rule for comments."
                )
            rows.append(cells)
    if empty:
        raise ValueError(f"{path} holds no sentence at all.")


def _separated_by_tabs(lines: list[str]) -> bool:
    """Whether the first row has a tab. A line of `#` without one may be a comment and tells nothing."""
    return next(
        (
            "\t" in line
            for line in lines
            if line.strip(" \t")
            and not line.startswith(_DOCUMENT)
            and not _is_comment(line, None, tabs=True)
        ),
        False,
    )


def _is_comment(line: str, comment: str | None, tabs: bool) -> bool:
    if comment is None:
        return tabs and line.startswith("#") and "\t" not in line
    return line.startswith(comment)


def _selected(
    path: Path,
    blocks: list[_Block],
    token_column: int,
    label_column: int,
    ids: int | None = None,
    ignored: Sequence[str] = (),
) -> TaggedSentences:
    """Two columns of the sentences; with a column of IDs, the rows of syntactic words alone."""
    tokens: list[tuple[str, ...]] = []
    labels: list[tuple[str, ...]] = []
    for block in blocks:
        words = [True] * len(block.rows) if ids is None else _words(path, block, ids)
        if not any(words):
            raise ValueError(f"{path}, line {block.line}: the sentence has no syntactic word.")
        for found, column, what in (
            (tokens, token_column, "token"),
            (labels, label_column, "label"),
        ):
            found.append(tuple(itertools.compress(_column(path, block, column, what), words)))
    begins = [
        any(comment.startswith((_DOCUMENT, "# newdoc")) for comment in block.comments)
        for block in blocks
    ]
    documents = list(itertools.accumulate(begins[1:], initial=0)) if any(begins) else None
    return TaggedSentences.of(tokens, labels, ignored=ignored, documents=documents)


def _column(path: Path, block: _Block, column: int, what: str) -> tuple[str, ...]:
    cells = tuple(row[column] for row in block.rows)
    if "" in cells:
        raise ValueError(f"{path}, line {block.line + cells.index('')}: the {what} is empty.")
    return cells


def _words(path: Path, block: _Block, ids: int) -> list[bool]:
    """Which rows are syntactic words, by their IDs."""
    words = []
    for number, row in enumerate(block.rows, start=block.line):
        found = re.fullmatch(r"\d+([-.]\d+)?", row[ids])
        if not found:
            raise ValueError(
                f"{path}, line {number}: the ID is {row[ids]!r}; it must be a number as in 1, 1-2 or 1.1."
            )
        words.append(found[1] is None)
    return words


def _in_scheme(
    path: Path,
    line: int,
    labels: tuple[str, ...],
    scheme: str,
    target_scheme: str | None,
    on_fault: str,
) -> tuple[str, ...]:
    """The labels of the sentence that begins in a line, well-formed and in the scheme that is wanted."""
    for index, label in enumerate(labels):
        try:
            tagging.spans([label], scheme)
        except ValueError as error:
            raise ValueError(f"{path}, line {line + index}: {error}") from None
    faults = tagging.faults(labels, scheme)
    if faults and on_fault == "refuse":
        index, message = faults[0]
        raise ValueError(
            f"{path}, line {line + index}: {message}. The labels are taken to be {scheme}; if they are "
            "not, name their scheme. `on_fault='repair'` mends labels that break it."
        )
    if target_scheme is None and on_fault == "keep":
        return labels
    return tuple(tagging.convert(labels, scheme, target_scheme or scheme))


def _check_choice(name: str, value: object, choices: Sequence[str] | dict[str, int]) -> None:
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}; got {value!r}.")
