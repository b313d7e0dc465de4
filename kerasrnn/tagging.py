"""Labels of sequences that name spans: the schemes IOB1, BIO, BIOES and BILOU.

A label is `"O"`, outside of everything, or a prefix, a hyphen and a type, as in `"B-PER"`. The prefixes:

| scheme | begins | inside | ends | alone |
| --- | --- | --- | --- | --- |
| BIO, also called IOB2 | B | I | I | B |
| IOB1 | I, or B right after an entity of the same type | I | I | as it begins |
| BIOES, also called IOBES | B | I | E | S |
| BILOU, also called BIOLU | B | I | L | U |

What taggers predict breaks these rules now and then. It is read leniently, as conlleval does, the
script of the CoNLL shared tasks (Tjong Kim Sang and Buchholz 2000, https://aclanthology.org/W00-0726):
two neighbours are of one entity if their types agree, the left one does not end it and the right
one does not begin one. So a lone `I-PER` is an entity, and so is what follows a change of the type.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

Scheme = Literal["BIO", "IOB1", "BIOES", "BILOU"]

# Which letters stand for the roles B (begins), I (inside), E (ends) and S (alone). One letter can
# have two roles; it is read in the first. IOB1 is written as BIO, and most of its B's become I's.
_LETTERS = {"BIO": "BIIB", "IOB1": "BIIB", "BIOES": "BIES", "BILOU": "BILU"}
_ALIASES = {"IOB2": "BIO", "IOBES": "BIOES", "BIOLU": "BILOU"}

SCHEMES = get_args(Scheme)


class Span(NamedTuple):
    """An entity: its type, the index of its first label, and the index after its last."""

    type: str
    start: int
    stop: int


class _Label(NamedTuple):
    """A label, read: its role O, B, I, E or S in any scheme, and its type, empty for O."""

    role: str
    type: str


_OUTSIDE = _Label("O", "")


def spans(labels: Iterable[str], scheme: str = "BIO") -> list[Span]:
    """The entities that labels name, from left to right.

    Args:
        labels: The labels of one sequence. They need not be well-formed.
        scheme: `"BIO"`, `"IOB1"`, `"BIOES"` or `"BILOU"`, or another name of one.

    Raises:
        ValueError: If there is no such scheme, or if it does not have one of the labels.

    Example:

    >>> from kerasrnn import tagging
    >>> tagging.spans(["B-PER", "I-PER", "O", "I-LOC"])
    [Span(type='PER', start=0, stop=2), Span(type='LOC', start=3, stop=4)]
    """
    found: list[Span] = []
    previous = _OUTSIDE
    for index, label in enumerate(_read(labels, scheme)):
        if _joined(previous, label):
            found[-1] = found[-1]._replace(stop=index + 1)
        elif label != _OUTSIDE:
            found.append(Span(label.type, index, index + 1))
        previous = label
    return found


def convert(labels: Iterable[str], source: str, target: str) -> list[str]:
    """The labels of the same entities in another scheme.

    Args:
        labels: The labels of one sequence. They need not be well-formed; the result is.
        source: Their scheme.
        target: The scheme that is wanted.

    Raises:
        ValueError: If there is no such scheme, or if `source` does not have one of the labels.

    Example:

    >>> from kerasrnn import tagging
    >>> tagging.convert(["I-PER", "I-PER", "B-PER", "O"], "IOB1", "BIOES")
    ['B-PER', 'E-PER', 'S-PER', 'O']
    """
    labels = list(labels)
    target = _known(target)
    begins, inside, ends, alone = tuple(_LETTERS[target])
    written = ["O"] * len(labels)
    previous = None
    for span in spans(labels, source):
        length = span.stop - span.start
        letters = alone if length == 1 else begins + inside * (length - 2) + ends
        if target == "IOB1" and previous != (span.type, span.start):
            letters = inside * length
        written[span.start : span.stop] = [f"{letter}-{span.type}" for letter in letters]
        previous = (span.type, span.stop)
    return written


def repair(labels: Iterable[str], scheme: str = "BIO") -> list[str]:
    """The well-formed labels of the entities that `spans` reads.

    Args:
        labels: The labels of one sequence.
        scheme: Their scheme.

    Raises:
        ValueError: If there is no such scheme, or if it does not have one of the labels.

    Example:

    >>> from kerasrnn import tagging
    >>> tagging.repair(["O", "I-PER", "I-LOC", "I-LOC"])
    ['O', 'B-PER', 'B-LOC', 'I-LOC']
    """
    return convert(labels, scheme, scheme)


def faults(labels: Iterable[str], scheme: str = "BIO") -> list[tuple[int, str]]:
    """Where labels break the rules of their scheme: the indices, and what is wrong there.

    Args:
        labels: The labels of one sequence.
        scheme: Their scheme.

    Raises:
        ValueError: If there is no such scheme, or if it does not have one of the labels.

    Example:

    >>> from kerasrnn import tagging
    >>> tagging.faults(["O", "I-PER", "I-PER"])
    [(1, 'I-PER stands where BIO has B-PER')]
    """
    labels = list(labels)
    return [
        (index, f"{label} stands where {scheme} has {right}")
        for index, (label, right) in enumerate(zip(labels, repair(labels, scheme), strict=True))
        if label != right
    ]


def transitions(
    label_names: Sequence[str], scheme: str = "BIO"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which labels may follow which, begin a sequence and end it, so that it is well-formed.

    A sequence without `faults` has allowed transitions only, and the other way round: the arrays
    can be hard constraints of a conditional random field.

    Args:
        label_names: The labels, by their numbers: K of them.
        scheme: Their scheme.

    Returns:
        Three arrays of booleans: `allowed` `(K, K)`, where `allowed[i, j]` says whether label j may
        follow label i; `start` `(K,)`, the labels that may come first; `end` `(K,)`, and last.

    Raises:
        ValueError: If there is no such scheme, or if it does not have one of the labels.

    Example:

    >>> from kerasrnn import tagging
    >>> allowed, start, end = tagging.transitions(["O", "B-PER", "I-PER"], "BIO")
    >>> allowed.astype(int).tolist()
    [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
    >>> start.tolist(), end.tolist()
    ([True, True, False], [True, True, True])
    """
    scheme = _known(scheme)
    # Outside is what stands before the first label and after the last.
    read = [*_read(label_names, scheme), _OUTSIDE]
    table = np.array([[_may_follow(left, right, scheme) for right in read] for left in read])
    return table[:-1, :-1], table[-1, :-1], table[:-1, -1]


def guess_scheme(sentences: Iterable[Iterable[str]]) -> str | None:
    """The scheme in which labels are written.

    It is the one that is broken the least; among equals the first of `SCHEMES`, where BIO comes before
    IOB1. One label in ten, of those that are not "O", may be strange to it: a slip of the pen does not make
    labels of a scheme into labels of none.

    Args:
        sentences: Sequences of labels.

    Returns:
        A name of `SCHEMES`, or None for labels of no scheme, such as parts of speech, and where no
        label names an entity.

    Example:

    >>> from kerasrnn import tagging
    >>> tagging.guess_scheme([["O", "B-PER", "E-PER"], ["S-LOC"]])
    'BIOES'
    >>> tagging.guess_scheme([["DET", "NOUN", "VERB"]]) is None
    True
    """
    rows = [list(labels) for labels in sentences]
    counts = Counter(label for labels in rows for label in labels if label != "O")
    broken = {}
    for scheme in SCHEMES:
        strange = {label for label in counts if not _has(scheme, label)}
        slips = sum(counts[label] for label in strange)
        if counts and slips <= counts.total() / 10:
            known = [["O" if label in strange else label for label in labels] for labels in rows]
            broken[scheme] = slips + sum(len(faults(labels, scheme)) for labels in known)
    return min(broken, key=lambda scheme: broken[scheme], default=None)


def _has(scheme: str, label: str) -> bool:
    try:
        _read_label(label, scheme)
    except ValueError:
        return False
    return True


def _known(scheme: str) -> str:
    """The name of a scheme in `SCHEMES`."""
    name = _ALIASES.get(scheme, scheme)
    if name not in _LETTERS:
        raise ValueError(f"The scheme must be one of {', '.join(SCHEMES)}; got {scheme!r}.")
    return name


def _read(labels: Iterable[str], scheme: str) -> Iterator[_Label]:
    scheme = _known(scheme)
    return (_read_label(label, scheme) for label in labels)


@functools.lru_cache(maxsize=4096)
def _read_label(label: str, scheme: str) -> _Label:
    if label == "O":
        return _OUTSIDE
    letters = _LETTERS[scheme]
    letter, _, kind = label.partition("-") if isinstance(label, str) else ("", "", "")
    if len(letter) != 1 or letter not in letters or not kind:
        prefixes = ", ".join(f"{letter}-" for letter in dict.fromkeys(letters))
        raise ValueError(
            f"{label!r} is not a label of {scheme}, whose labels are O and {prefixes} with a type "
            f"behind, such as B-PER. `guess_scheme` finds the scheme of given labels."
        )
    return _Label("BIES"[letters.index(letter)], kind)


def _joined(left: _Label, right: _Label) -> bool:
    """Whether two neighbours are of one entity."""
    return left.role in "BI" and right.role in "IE" and left.type == right.type


def _may_follow(left: _Label, right: _Label, scheme: str) -> bool:
    if scheme == "IOB1":  # An I may stand anywhere, a B only where it parts two of one type.
        return right.role != "B" or left.type == right.type
    # With an ending of its own, what is begun must go on; what goes on must be begun anyway.
    goes_on = scheme != "BIO" and left.role in "BI"
    return _joined(left, right) or not (goes_on or right.role in "IE")
