"""The register of cells: every architecture once, under one name, with its paper.

The name, the serialization, the layer, the command line's `--cell`, the table of cells and the
tests that run over every cell all start here.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import keras

from kerasrnn.cells._base import Cell

CellClass = TypeVar("CellClass", bound=type[Cell])


@dataclass(frozen=True)
class CellInfo:
    """One row of the register.

    Attributes:
        name: What `kerasrnn.cells.get` and `--cell` take, such as `"peephole_lstm"`.
        cell_class: The cell.
        paper: The address of the paper that the equations come from.
        alias: What the literature calls it, if that is another name, such as `"CIFG"`.
    """

    name: str
    cell_class: type[Cell]
    paper: str
    alias: str | None = None

    @property
    def layer_name(self) -> str:
        """The name of its layer in `kerasrnn.layers`: the cell's name without "Cell"."""
        return self.cell_class.__name__.removesuffix("Cell")

    @property
    def summary(self) -> str:
        """The first line of the cell's docstring."""
        return (inspect.getdoc(self.cell_class) or "").partition("\n")[0]


_REGISTER: dict[str, CellInfo] = {}


def _snake_case(name: str) -> str:
    """`PeepholeLSTM` becomes `peephole_lstm`, `SimpleRNN` becomes `simple_rnn`."""
    words = re.findall(r"[A-Z]+(?![a-z])\d*|[A-Z][a-z]+\d*", name)
    return "_".join(word.lower() for word in words)


def cell(
    *, paper: str, alias: str | None = None, package: str = "kerasrnn"
) -> Callable[[CellClass], CellClass]:
    """Register a cell: the decorator of every class in `kerasrnn.cells`, and of yours.

    Args:
        paper: The address of the paper that the equations come from.
        alias: Another name by which the cell may be asked for: what the literature calls it.
        package: The package under which Keras serializes the class. Name your own.

    Returns:
        A decorator that returns the class as it was.

    Raises:
        TypeError: If the class is not a `kerasrnn.cells.Cell`, or declares no gates.
        ValueError: If another class has the name already.

    Example:

    >>> import keras, kerasrnn
    >>> from kerasrnn.cells import Cell, Step
    >>> @kerasrnn.cells.cell(paper="https://arxiv.org/abs/1701.03452", package="mine")
    ... class UpdateGateCell(Cell):
    ...     '''An RNN that only chooses between its old state and a new one.'''
    ...     gates = ("update", "candidate")
    ...     def step(self, x, states):
    ...         (h,) = states
    ...         u, n = self.split(x + self.recur(h))
    ...         u, n = keras.ops.sigmoid(u), self.activation(n)
    ...         h = (1 - u) * h + u * n
    ...         return Step(h, (h,), {"update": u, "candidate": n})
    >>> layer = kerasrnn.layers.Recurrent(UpdateGateCell(4))
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 4)
    True
    """

    def register(cell_class: CellClass) -> CellClass:
        if not (isinstance(cell_class, type) and issubclass(cell_class, Cell)):
            raise TypeError(
                f"`@cell` registers subclasses of kerasrnn.cells.Cell, got {cell_class!r}."
            )
        if cell_class.gates is Cell.gates:
            raise TypeError(
                f"{cell_class.__name__} must declare `gates`, the column blocks of its kernel."
            )
        name = _snake_case(cell_class.__name__.removesuffix("Cell"))
        info = CellInfo(name, cell_class, paper, alias)
        known = _REGISTER.get(info.name)
        # A class of the same home is the same class, defined again (a reload, a notebook's cell).
        if known and (known.cell_class.__module__, known.cell_class.__qualname__) != (
            cell_class.__module__,
            cell_class.__qualname__,
        ):
            raise ValueError(
                f"A cell named {info.name!r} is registered already: {known.cell_class}."
            )
        keras.saving.register_keras_serializable(package)(cell_class)
        _REGISTER[info.name] = info
        return cell_class

    return register


def names() -> tuple[str, ...]:
    """The names of all registered cells, in the order of their registration.

    Example:

    >>> import kerasrnn
    >>> "peephole_lstm" in kerasrnn.cells.names()
    True
    """
    return tuple(_REGISTER)


def info(name: str) -> CellInfo:
    """The register's row for a name such as `"gru"`; `"GRUCell"`, or an alias, `"CIFG"`, will do too.

    Raises:
        ValueError: If no cell has the name; the message lists the nearest ones.

    Example:

    >>> import kerasrnn
    >>> kerasrnn.cells.info("gru").cell_class.__name__
    'GRUCell'
    """
    if not isinstance(name, str):
        raise ValueError(f"`cell` must be a registered name, got {name!r}.")
    aliases = {row.alias.lower(): row.name for row in _REGISTER.values() if row.alias}
    key = name if name in _REGISTER else _snake_case(str(name).removesuffix("Cell"))
    key = aliases.get(str(name).lower(), key)
    if key not in _REGISTER:
        known = {**aliases, **{row: row for row in _REGISTER}}
        close = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.4)
        near = list(dict.fromkeys(known[match] for match in close))
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(
            f"Unknown cell: `cell` was {name!r}.{hint} Registered cells: {', '.join(_REGISTER)}."
        )
    return _REGISTER[key]


def get(name: str, units: int, **arguments: Any) -> Cell:
    """Build the cell that is registered under a name.

    Args:
        name: A registered name, such as `"coupled_lstm"`.
        units: The size of the state.
        **arguments: Further arguments of the cell.

    Raises:
        ValueError: If no cell has the name, or an argument's value is wrong.
        TypeError: If the cell has no such argument.

    Example:

    >>> import kerasrnn
    >>> kerasrnn.cells.get("coupled_lstm", 32).units
    32
    """
    return info(name).cell_class(units, **arguments)
