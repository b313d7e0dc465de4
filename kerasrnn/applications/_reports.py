"""What the tasks print of their scores."""

from __future__ import annotations

from kerasrnn._tables import table


def confusion_table(confusion: dict[str, dict[str, int]], corner: str) -> str:
    """How many of each true label, a row, got which label, a column."""
    given = list(next(iter(confusion.values()), {}))
    rows = [(corner, *given)]
    rows += [(true, *(f"{row[label]:,}" for label in given)) for true, row in confusion.items()]
    return table(rows)
