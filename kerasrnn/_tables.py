"""Tables as text."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines, the first column to the left and the others to the right.

    Example:

    >>> from kerasrnn._tables import table
    >>> print(table([("label", "F1"), ("PER", "0.9")]))
    label   F1
    PER    0.9
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def columns(text: str) -> int:
    """How many columns of equal width a text takes: East Asian signs take two, marks above letters none.

    Example:

    >>> from kerasrnn._tables import columns
    >>> columns("\u7d20 e\u0301")
    4
    """
    return sum(
        0 if unicodedata.combining(sign) else 1 + (unicodedata.east_asian_width(sign) in "WF")
        for sign in text
    )
