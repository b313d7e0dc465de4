"""What every cell shares, so that a cell's own file holds its equations and nothing else."""

from __future__ import annotations

import inspect
import numbers
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import keras
from keras import activations, constraints, initializers, ops, regularizers

from kerasrnn._keras import DropoutRNNCell

Tensor = Any  # A tensor of whichever backend Keras runs on.


class Step(NamedTuple):
    """What a cell computes in one time step.

    Attributes:
        output: What the layer gives out at this step, `(batch, units)`.
        states: The new states, in the order of the cell's `states`.
        gates: The activation of every gate by its name, for those who want to look.
    """

    output: Tensor
    states: tuple[Tensor, ...]
    gates: dict[str, Tensor]


class ClassSignature:
    """The signature of a class, computed from it: `help()` and editors then show every argument.

    Only of the class, not of its instances: `tf.function(layer)` asks for theirs.
    """

    def __init__(self, parameters: Callable[[Any], Iterable[inspect.Parameter]]) -> None:
        self.parameters = parameters

    def __get__(self, instance: Any, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        return inspect.Signature(list(self.parameters(owner)))


class Cell(keras.layers.Layer, DropoutRNNCell):
    r"""One time step of a recurrent network: the base of every cell in this package.

    A subclass declares its nouns as data (`states`, `gates`, `bias_offsets`) and writes its equations
    in `step`. The kernel's columns are one block of `units` per gate, in the order of `gates`:

        project(x) = x kernel + bias                  once for all time steps, outside the loop
        recur(h)   = h recurrent_kernel               once per step, inside the loop

    Args:
        units: Positive integer, the size of the state and of the output.
        activation: The squashing of what enters the state. `None` is the identity.
        use_bias: Whether there is a `bias`.
        kernel_initializer, recurrent_initializer, bias_initializer: How the weights start.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Penalties on the weights.
        kernel_constraint, recurrent_constraint, bias_constraint: Projections after each update.
        dropout: Fraction of the inputs to drop in training, between 0 and 1. One mask serves all
            gates and all steps of a sequence.
        recurrent_dropout: The same for the state on its way into the recurrent product (Gal &
            Ghahramani 2016, https://arxiv.org/abs/1512.05287). It costs no extra products.
        seed: Seed of the two dropouts.
        **kwargs: `name`, `dtype` (or a dtype policy) and `trainable`, as every Keras layer has.

    Call arguments:
        inputs: `(batch, features)`, one time step.
        states: A tensor `(batch, units)`, or a list of them, one for each name in `states`.
        training: Whether dropout is at work.

    Returns:
        The output, `(batch, units)`, and the new states in the form in which `states` came, all in
        the compute dtype.

    Raises:
        ValueError: If an argument's value is out of range; the message names it.
    """

    __signature__ = ClassSignature(lambda owner: owner.parameters().values())

    states: ClassVar[tuple[str, ...]] = ("hidden",)
    """The names of the states. The first is what the next step's `recur` reads."""
    gates: ClassVar[tuple[str, ...]] = ()
    """The names of the gates, in the order of the kernel's columns."""
    derived_gates: ClassVar[tuple[str, ...]] = ()
    """Further gates that `step` reports and that have no columns of their own."""

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        *,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = _positive_integer("units", units)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.recurrent_initializer = initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = regularizers.get(recurrent_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.recurrent_constraint = constraints.get(recurrent_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.dropout = _fraction("dropout", dropout)
        self.recurrent_dropout = _fraction("recurrent_dropout", recurrent_dropout)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._dropout_is_on = False
        # As Keras's own cells: a plain number for one state, a list for several.
        self.state_size = self.units if len(self.states) == 1 else [self.units] * len(self.states)
        self.output_size = self.units

    # What a subclass writes.

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        """The equations: one step from the projected input and the previous states.

        Args:
            x: `project(inputs)`, `(batch, gates * units)`.
            states: The previous states, in the order of `self.states`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `step(x, states)`.")

    def build_extra(self) -> None:
        """Add weights beyond kernel, recurrent kernel and bias. By default there are none."""

    @property
    def bias_offsets(self) -> dict[str, float]:
        """What is added to the initial bias of a gate, by the gate's name."""
        return {}

    # What a subclass uses in its equations.

    def project(self, inputs: Tensor) -> Tensor:
        """The input's share in all gates, for one step `(batch, features)` or a whole sequence
        `(batch, time, features)`: a layer calls it once, outside its loop.

        A cell whose input cannot be projected beforehand overrides this with the identity and
        does the product in `step`.
        """
        x = ops.matmul(self.drop_inputs(inputs), self.kernel)
        return x if self.bias is None else x + self.bias

    def recur(self, h: Tensor, *gates: str) -> Tensor:
        """The state's share in all gates, or in the adjacent gates that are named."""
        mask = self.recurrent_mask(h)
        h = h if mask is None else h * mask
        kernel = ops.convert_to_tensor(self.recurrent_kernel)
        return ops.matmul(h, self.columns(kernel, *gates) if gates else kernel)

    def columns(self, x: Tensor, *gates: str) -> Tensor:
        """The columns of `x` that belong to the adjacent gates that are named."""
        first = self.gates.index(gates[0])
        return x[..., first * self.units : (first + len(gates)) * self.units]

    def split(self, x: Tensor) -> list[Tensor]:
        """Cut `x` into its gates, blocks of `units` columns."""
        return ops.split(x, x.shape[-1] // self.units, axis=-1)

    # What Keras and the layers use.

    def drop_inputs(self, inputs: Tensor) -> Tensor:
        """The inputs with dropout, if it is on: one mask for all steps of a sequence."""
        if not (self._dropout_is_on and self.dropout):
            return inputs
        one_step = (ops.shape(inputs)[0], inputs.shape[-1])
        mask = self.get_dropout_mask(ops.zeros(one_step, dtype=inputs.dtype))
        return inputs * (mask if len(inputs.shape) == 2 else mask[:, None])

    def recurrent_mask(self, h: Tensor) -> Tensor | None:
        """The mask by which `recur` multiplies a state `h`, if recurrent dropout is on."""
        if not (self._dropout_is_on and self.recurrent_dropout):
            return None
        return self.get_recurrent_dropout_mask(h)

    def build(self, input_shape: Sequence[int | None]) -> None:
        features = input_shape[-1]
        if features is None:
            raise ValueError(
                f"{type(self).__name__} needs to know the size of the last dimension of `inputs`, "
                f"got inputs of shape {tuple(input_shape)}."
            )
        columns = len(self.gates) * self.units
        self.kernel = self._add_weight("kernel", (features, columns))
        self.recurrent_kernel = self._add_weight("recurrent_kernel", (self.units, columns))
        self.bias = (
            self._add_weight("bias", (columns,), self._initial_bias) if self.use_bias else None
        )
        self.build_extra()
        self.built = True

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, Any]:
        nested = isinstance(states, (list, tuple))
        given = [tuple(getattr(state, "shape", ())) for state in (states if nested else [states])]
        if any(len(shape) != 2 or shape[-1] != self.units for shape in given):
            raise ValueError(
                f"`states` of {type(self).__name__} must hold {len(self.states)} tensors "
                f"({', '.join(self.states)}) of the shape (batch, {self.units}), got {given}."
            )
        self.set_training(training)
        step = self.checked_step(self.project(inputs), tuple(states) if nested else (states,))
        return step.output, list(step.states) if nested else step.states[0]

    def set_training(self, training: bool | None) -> None:
        """Say whether `project` and `step` shall drop out."""
        self._dropout_is_on = bool(training)

    def checked_step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        """`step`, and a clear word if it does not give what the class declares."""
        if len(states) != len(self.states):
            raise ValueError(
                f"`states` of {type(self).__name__} must hold {len(self.states)} tensors "
                f"({', '.join(self.states)}), got {len(states)}."
            )
        step = self.step(x, states)
        if set(step.gates) != {*self.gates, *self.derived_gates} or len(step.states) != len(
            self.states
        ):
            raise ValueError(
                f"{type(self).__name__}.step must return the states {self.states} and the gates "
                f"{self.gates + self.derived_gates}, got {len(step.states)} states and the gates "
                f"{tuple(step.gates)}."
            )
        return step

    def get_initial_state(self, batch_size: int | None = None) -> list[Tensor]:
        """Zeros for every state, `(batch_size, units)`, in the compute dtype."""
        shape = (batch_size, self.units)
        return [ops.zeros(shape, dtype=self.compute_dtype) for _ in self.states]

    @classmethod
    def parameters(cls) -> dict[str, inspect.Parameter]:
        """The arguments of the constructor, those of all base classes included, by name."""
        found: dict[str, inspect.Parameter] = {}
        for base in cls.__mro__:
            if base is keras.layers.Layer:
                break
            initializer: Any = base.__init__  # type: ignore[misc]
            for parameter in list(inspect.signature(initializer).parameters.values())[1:]:
                if parameter.kind is not parameter.VAR_KEYWORD:
                    found.setdefault(parameter.name, parameter)
        positional = [p for p in found.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        rest = [p for p in found.values() if p.kind is p.KEYWORD_ONLY]
        return {p.name: p for p in (*positional, *rest)}

    def get_config(self) -> dict[str, Any]:
        arguments = {name: _as_config(name, getattr(self, name)) for name in self.parameters()}
        return {**super().get_config(), **arguments}

    def _initial_bias(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        bias = self.bias_initializer(shape, dtype=dtype)
        offsets = [self.bias_offsets.get(gate, 0.0) for gate in self.gates]
        if not any(offsets):
            return bias
        return bias + ops.repeat(ops.cast(offsets, dtype), self.units)

    def _add_weight(
        self, name: str, shape: tuple[int, ...], initializer: Callable[..., Tensor] | None = None
    ) -> Any:
        """Add a weight that has `<name>_initializer`, `_regularizer` and `_constraint` arguments."""
        role = name.removesuffix("_kernel")
        return self.add_weight(
            shape=shape,
            name=name,
            initializer=initializer or getattr(self, f"{role}_initializer"),
            regularizer=getattr(self, f"{role}_regularizer"),
            constraint=getattr(self, f"{role}_constraint"),
        )


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

    states = ("hidden", "cell")

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *,
        unit_forget_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, recurrent_activation, **kwargs)
        self.unit_forget_bias = unit_forget_bias

    @property
    def bias_offsets(self) -> dict[str, float]:
        return {"forget": 1.0} if self.unit_forget_bias else {}


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
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *,
        peephole_initializer: Any = "zeros",
        peephole_regularizer: Any = None,
        peephole_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, recurrent_activation, **kwargs)
        self.peephole_initializer = initializers.get(peephole_initializer)
        self.peephole_regularizer = regularizers.get(peephole_regularizer)
        self.peephole_constraint = constraints.get(peephole_constraint)

    @property
    def peephole_gates(self) -> tuple[str, ...]:
        """The gates that have a peephole, in the order of the rows of `peephole_kernel`."""
        raise NotImplementedError

    def build_extra(self) -> None:
        if self.peephole_gates:
            shape = (len(self.peephole_gates), self.units)
            self.peephole_kernel = self._add_weight("peephole_kernel", shape)
        else:
            self.peephole_kernel = None

    def peep(self, gate: str, z: Tensor, c: Tensor) -> Tensor:
        """The gate's pre-activation `z` with what its peephole, if it has one, sees of `c`."""
        if gate not in self.peephole_gates:
            return z
        row = self.peephole_gates.index(gate)
        return z + ops.convert_to_tensor(self.peephole_kernel)[row] * c


def _positive_integer(name: str, value: Any) -> int:
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number <= 0:
        raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
    return number


def _fraction(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) < 1:
        raise ValueError(f"`{name}` must be a fraction, at least 0 and less than 1, got {value!r}.")
    return float(value)


def _as_config(name: str, value: Any) -> Any:
    """The plain form of an argument, from which the constructor makes the argument again."""
    if name.endswith("activation"):
        return activations.serialize(value)
    if name.endswith(("_initializer", "_regularizer", "_constraint")):
        return keras.saving.serialize_keras_object(value)
    return value
