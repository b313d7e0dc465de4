"""Kinds of cells: with gates, with a memory cell, with peepholes, with a linear recurrence."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

from keras import activations, constraints, initializers, ops, regularizers

from kerasrnn.cells._base import Cell, Step, Tensor, flag, positive_integer


class GatedCell(Cell):
    """A cell with gates proper: valves between 0 and 1, squashed by `recurrent_activation`.

    Args:
        units: Positive integer, the size of the state and of the output.
        activation: The squashing of what enters the state.
        recurrent_activation: The squashing of the gates.
        **kwargs: See `Cell`.
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, **kwargs)
        self.recurrent_activation = activations.get(recurrent_activation)


class MemoryCell(GatedCell):
    """A gated cell that carries a memory cell beside its hidden state: the LSTM's kin.

    Args:
        units: Positive integer, the size of the states and of the output.
        activation: The squashing of the candidate and of what leaves the memory cell.
        recurrent_activation: The squashing of the gates.
        unit_forget_bias: Whether the forget gate's bias starts one higher, so that the memory
            lasts from the start (Gers et al. 2000; Jozefowicz et al. 2015).
        **kwargs: See `Cell`.
    """

    def __init__(
        self, units: int, *args: Any, unit_forget_bias: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(units, *args, **kwargs)
        self.unit_forget_bias = flag("unit_forget_bias", unit_forget_bias)

    @property
    def states(self) -> tuple[str, ...]:
        return ("hidden", "cell")

    @property
    def bias_offsets(self) -> dict[str, float]:
        offset = float(self.unit_forget_bias)
        return {gate: offset for gate in self.bias_gates if "forget" in gate.split("_")}


class PeepholeCell(MemoryCell):
    """A memory cell whose gates may read the memory itself, each unit its own: `p * c`.

    Args:
        units: Positive integer, the size of the states and of the output.
        activation: The squashing of the candidate and of what leaves the memory cell.
        recurrent_activation: The squashing of the gates.
        peephole_initializer, peephole_regularizer, peephole_constraint: For `peephole_kernel`.
            From zeros the network starts as the one without peepholes.
        **kwargs: See `MemoryCell` and `Cell`.
    """

    def __init__(
        self,
        units: int,
        *args: Any,
        peephole_initializer: Any = "zeros",
        peephole_regularizer: Any = None,
        peephole_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, *args, **kwargs)
        self.peephole_initializer = initializers.get(peephole_initializer)
        self.peephole_regularizer = regularizers.get(peephole_regularizer)
        self.peephole_constraint = constraints.get(peephole_constraint)

    @property
    def peephole_gates(self) -> tuple[str, ...]:
        """The gates that have a peephole, in the order of the rows of `peephole_kernel`."""
        return tuple(gate for gate in self.gates if gate != "candidate")

    def build_extra(self) -> None:
        if self.peephole_gates:
            shape = (len(self.peephole_gates), self.units)
            self.peephole_kernel = self.add_kernel("peephole_kernel", shape, "peephole")
        else:
            self.peephole_kernel = None

    def peep(self, gate: str, z: Tensor, c: Tensor) -> Tensor:
        """The gate's pre-activation `z` with what its peephole, if it has one, sees of `c`."""
        if gate not in self.peephole_gates:
            return z
        row = self.peephole_gates.index(gate)
        return z + ops.convert_to_tensor(self.peephole_kernel)[row] * c


class DeepCell(GatedCell):
    """A cell of several layers within each step: what belongs to one has its number, as in `cell_0`.

    Args:
        units: Positive integer, the size of each state and of the output.
        activation: The squashing of what enters the states.
        recurrent_activation: The squashing of the gates.
        depth: Positive integer, the number of layers.
        **kwargs: See `Cell`.
    """

    def __init__(self, units: int, *args: Any, depth: int = 2, **kwargs: Any) -> None:
        super().__init__(units, *args, **kwargs)
        self.depth = positive_integer("depth", depth)

    def at_every_level(self, *kinds: str) -> tuple[str, ...]:
        """The names of these kinds of states or gates, layer after layer."""
        return tuple(f"{kind}_{level}" for level in range(self.depth) for kind in kinds)


class RawInputCell(GatedCell):
    """A gated cell into which the input enters also as it is, in the place of one gate's projection.

    Args:
        units: Positive integer, the size of the states and of the output.
        activation: The squashing of what enters the state.
        recurrent_activation: The squashing of the gates.
        project_input: Whether a learned map stands in that place. Without it the input must have
            `units` features.
        **kwargs: See `Cell`.
    """

    raw: ClassVar[str]
    """The one of its `blocks`, which a subclass names, that is the input itself."""

    def __init__(self, units: int, *args: Any, project_input: bool = False, **kwargs: Any) -> None:
        super().__init__(units, *args, **kwargs)
        self.project_input = flag("project_input", project_input)

    @property
    def input_gates(self) -> tuple[str, ...]:
        return tuple(name for name in self.blocks if self.project_input or name != self.raw)

    def build(self, input_shape: Sequence[int | None]) -> None:
        features = input_shape[-1]
        if not self.project_input and features not in (None, self.units):
            raise ValueError(
                f"{type(self).__name__} adds the input to its state, so `units` must be the number of "
                f"features, got units={self.units} and {features} features. "
                "`project_input=True` puts a learned map between them."
            )
        super().build(input_shape)

    def input_share(self, inputs: Tensor) -> Tensor:
        x = super().input_share(inputs)
        if self.project_input:
            return x
        place = self.units * self.blocks.index(self.raw)
        parts = [x[..., :place], self.drop_inputs(inputs), x[..., place:]]
        return ops.concatenate(parts, axis=-1)


class LinearCell(GatedCell):
    """A cell whose state obeys c = keep * c_prev + write, where the input alone decides on both.

    So the states of all steps can be had at once, by a parallel scan: see `kerasrnn.layers.Recurrent`.

    Args:
        units: Positive integer, the size of the state and of the output.
        activation: The squashing of what enters or leaves the state.
        recurrent_activation: The squashing of the gates.
        **kwargs: See `Cell`.
    """

    @abc.abstractmethod
    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What is kept of the state, what is written to it, and the gates, for any number of steps."""

    @abc.abstractmethod
    def read(self, x: Tensor, c: Tensor, gates: dict[str, Tensor]) -> Tensor:
        """The output."""

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        keep, write, gates = self.coefficients(x)
        c = keep * states[0] + write
        return Step(self.read(x, c, gates), (c,), gates)
