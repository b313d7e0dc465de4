"""What a kernel is, and which cell has which."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from kerasrnn.cells import Cell

Tensor = Any


@dataclass(frozen=True)
class Weights:
    """The weights of a step, as tensors: what the recurrence reads besides the projected input.

    Attributes:
        recurrent: The recurrent kernel, cut into the kernel's `parts` outside the loop, so that no
            step does it again. In the dtype of the products.
        others: Further weights by name, in the dtype of the gates.
        mask: The recurrent dropout's mask, `(batch, units)`, or nothing.
    """

    recurrent: tuple[Tensor, ...]
    others: dict[str, Tensor] = field(default_factory=dict)
    mask: Tensor | None = None

    def masked(self, h: Tensor) -> Tensor:
        """The state on its way into the recurrent product."""
        return h if self.mask is None else h * self.mask

    def recur(self, h: Tensor, part: int = 0) -> Tensor:
        """`h` times a part of the recurrent kernel."""
        return _product(self.masked(h), self.recurrent[part])

    def added(self, x: Sequence[Tensor], h: Tensor) -> list[Tensor]:
        """The pieces of the projected input, and to each its columns of `recur`."""
        return list(map(tf.add, x, tf.split(self.recur(h), len(x), axis=1)))

    def recur_back(self, d: Tensor, part: int = 0) -> Tensor:
        """The gradient of `recur` with respect to `h`."""
        return self.masked(_product(d, self.recurrent[part], transpose_b=True))


def _product(a: Tensor, b: Tensor, transpose_b: bool = False) -> Tensor:
    """`a b` in the dtype of `b`, which may be a narrow one; the result in the dtype of `a`."""
    return tf.cast(tf.matmul(tf.cast(a, b.dtype), b, transpose_b=transpose_b), a.dtype)


class Back(NamedTuple):
    """What one step gives on the way back.

    Attributes:
        dx: The gradient of the projected input, `(batch, columns)`.
        states: The gradients of the states before the step.
        kept: Further tensors of which `weight_gradients` wants the whole sequence. The state before
            the step need not be among them: it is in the sequence of the states already.
        sums: Tensors of which it wants the sum over all steps.
    """

    dx: Tensor
    states: tuple[Tensor, ...]
    kept: tuple[Tensor, ...] = ()
    sums: tuple[Tensor, ...] = ()


# A step that is wide, and whose units are few, has no such gates.
MOST_PIECES = 32


class Kernel(abc.ABC):
    """One step of a cell, forward and backward, on tensors `(batch, ...)` in the dtype of the gates.

    What comes from a sequence, the projected input and what was saved, comes in pieces, each a tensor of
    its own: XLA makes no vector code of a row of memory that is cut up only when it is used.

    A kernel is hashable and holds no tensors: what differs between two cells of a kind, such as which
    peepholes there are, is an attribute.
    """

    states: int
    """How many states there are. The first is the output."""
    saved: ClassVar[int]
    """How many pieces `forward` saves, `(batch, units)` each."""
    parts: ClassVar[tuple[int, ...]]
    """The parts of the recurrent kernel that are multiplied at once: their gates, as numbers."""
    kept: ClassVar[tuple[int, ...]] = ()
    """The sizes of what `backward` keeps, in units."""
    lasting: ClassVar[bool] = True
    """Whether what was traced for it serves other calls too."""

    @property
    def sums(self) -> tuple[int, ...]:
        """The sizes of what `backward` sums up, in units."""
        return ()

    def state_sizes(self, units: int) -> tuple[int, ...]:
        """The size of every state."""
        return (units,) * self.states

    def input_sizes(self, columns: int, units: int) -> tuple[int, ...]:
        """The sizes of the pieces in which `forward` takes the projected input: its gates, if any."""
        gates, rest = divmod(columns, units)
        return (columns,) if rest or gates > MOST_PIECES else (units,) * gates

    def saved_sizes(self, units: int) -> tuple[int, ...]:
        """The sizes of the pieces that `forward` saves."""
        return (units,) * self.saved

    def sum_shapes(self, batch: Tensor, units: int) -> list[Any]:
        """The shape of each sum."""
        return [tf.stack([batch, size * units]) for size in self.sums]

    @abc.abstractmethod
    def forward(
        self, x: tuple[Tensor, ...], states: tuple[Tensor, ...], w: Weights
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The new states, and what `backward` wants of this step: the `saved` pieces."""

    @abc.abstractmethod
    def backward(
        self,
        saved: tuple[Tensor, ...],
        before: tuple[Tensor, ...],
        after: tuple[Tensor, ...],
        d_after: tuple[Tensor, ...],
        w: Weights,
    ) -> Back:
        """The gradients of one step. Where `d_after` is zero everything in the result must be."""

    def weight_gradients(
        self, dx: Tensor, h: Tensor | None, kept: tuple[Tensor, ...], sums: tuple[Tensor, ...]
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """The gradients of the recurrent kernel, whole, and of `Weights.others`.

        A kernel with other weights, or one that multiplies anything but the first state by its
        recurrent kernel, has its own.

        Args:
            dx: Of all steps, `(batch * time, columns)`.
            h: The first state before each step, as `Weights.masked` gives it, `(batch * time, units)`.
                Nothing if there is no recurrent kernel.
            kept: What `Back.kept` gave, of all steps, `(batch * time, size)` each.
            sums: What `Back.sums` gave, summed over the steps, `(batch, ...)` each.
        """
        return None if h is None else tf.matmul(h, dx, transpose_a=True), {}


def sigmoid(x: Tensor) -> Tensor:
    """The logistic function, by way of tanh, which XLA's CPU compiler turns into vector code."""
    return 0.5 * tf.tanh(0.5 * x) + 0.5


# From a cell to its kernel and the further weights that the kernel reads, or to nothing.
Maker = Callable[[Any], tuple[Kernel, dict[str, Tensor]] | None]
_KERNELS: dict[type[Cell], tuple[Maker, bool]] = {}


def kernel(cell_class: type[Cell], any_activation: bool = False) -> Callable[[Maker], Maker]:
    """Say which kernel computes a cell: the decorator of a function from the cell to its kernel.

    The function gives the kernel and the further weights that it reads, by name; or nothing for a cell
    with options that the kernel does not compute. The kernel reads what the cell's `project` gives. The
    cell's recurrent kernel, if that is a matrix with a column for each of these, is `Weights.recurrent`.
    One of any other shape must be among the further weights; the kernel then has a `weight_gradients`
    of its own, which gives None first.

    Args:
        cell_class: The cell. The kernel is for this class alone: a subclass may have other equations.
        any_activation: Whether the kernel computes the cell's own activations. By default a cell with
            others than tanh and sigmoid has no kernel.
    """

    def register(maker: Maker) -> Maker:
        _KERNELS[cell_class] = maker, any_activation
        return maker

    return register


def kernel_for(cell: Any) -> tuple[Kernel, dict[str, Tensor]] | None:
    """The kernel of a cell and its further weights; nothing if it has none, or none for its options."""
    maker, any_activation = _KERNELS.get(type(cell), (None, False))
    return maker(cell) if maker and (any_activation or cell.squashes_as_usual) else None
