"""What every cell shares, so that a cell's own file holds its equations and nothing else."""

from __future__ import annotations

import inspect
import itertools
import math
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
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


class ImpureStepError(Exception):
    """A step that does more than compute: it draws, it changes a variable, or it cannot be traced."""


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
    in `step`. The columns of a weight are one block of `units` per gate, in the order of `gates`:

        project(x) = x kernel + bias                  once for all time steps, outside the loop
        recur(h)   = h recurrent_kernel               once per step, inside the loop

    A cell in which the input, the state or the bias reaches some gates only says so with
    `input_gates`, `recurrent_gates` and `bias_gates`.

    Args:
        units: Positive integer, the size of the state and of the output.
        activation: The squashing of what enters the state. `None` is the identity.
        use_bias: Whether there is a `bias`.
        kernel_initializer, recurrent_initializer, bias_initializer: How the weights start.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: Penalties on the weights.
        kernel_constraint, recurrent_constraint, bias_constraint: Projections after each update.
        dropout: Fraction of the inputs to drop in training, between 0 and 1. One mask serves all
            gates and all steps of a sequence.
        recurrent_dropout: Fraction of the recurrence to drop in training. One mask serves all steps
            of a sequence.
        recurrent_dropout_form: What `recurrent_dropout` drops: `"state"` on its way into the
            recurrent product (Gal & Ghahramani 2016, https://arxiv.org/abs/1512.05287), the
            `"candidate"`, what enters the state (Semeniuta et al. 2016, https://arxiv.org/abs/1603.05118),
            or the `"weights"` of `recurrent_kernels` (DropConnect; Merity et al. 2017,
            https://arxiv.org/abs/1708.02182). None of them costs further products.
        zoneout: Probability with which a unit keeps its old state through a training step; at
            inference old and new are mixed in that proportion (Krueger et al. 2016,
            https://arxiv.org/abs/1606.01305). A number for all states, or a number for each kind, as in
            `{"hidden": 0.05, "cell": 0.5}`. It is at work after the step: of several layers in a step the
            upper ones read what the lower ones would have given. On JAX it needs `kerasrnn.layers` and a
            cell that is not one of a stack: inside `keras.layers.RNN` nothing can be drawn there.
        layer_norm: Whether to normalise the products with `kernel` and with `recurrent_kernel`, each over
            all columns that are computed at once, before a learned gain (Ba et al. 2016,
            https://arxiv.org/abs/1607.06450). Products with further kernels, between the layers of one
            step or between gates, stay as they are.
        seed: Seed of the dropouts and of zoneout.
        **kwargs: `name`, `dtype` (or a dtype policy) and `trainable`, as every Keras layer has.

    Call arguments:
        inputs: `(batch, features)`, one time step.
        states: A tensor `(batch, units)`, or a list of them, one for each name in `states`.
        training: Whether dropout and zoneout are at work.

    Returns:
        The output, `(batch, units)`, and the new states in the form in which `states` came, all in
        the compute dtype.

    Raises:
        ValueError: If an argument's value is out of range; the message names it.
    """

    __signature__ = ClassSignature(lambda owner: owner.parameters().values())

    # A subclass says each of these by a constant, or by a property where its arguments decide.

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the states. The first is what the next step's `recur` reads."""
        return ("hidden",)

    @property
    def gates(self) -> tuple[str, ...]:
        """The names of the gates, in the order of their columns."""
        raise NotImplementedError(f"{type(self).__name__} must declare its `gates`.")

    @property
    def recurrent_kernels(self) -> tuple[str, ...]:
        """The names of the matrices that multiply states of the step before: those of weight drop."""
        return ("recurrent_kernel",)

    @property
    def derived_gates(self) -> tuple[str, ...]:
        """Further gates that `step` reports and that have no columns of their own."""
        return ()

    @property
    def valves(self) -> tuple[str, ...]:
        """The gates between 0 and 1. The others are values of any sign, offered to the state."""
        every = (*self.gates, *self.derived_gates)
        return tuple(gate for gate in every if "candidate" not in gate.split("_"))

    @property
    def counters(self) -> tuple[str, ...]:
        """The states that count and do not learn."""
        return ()

    @property
    def input_gates(self) -> tuple[str, ...]:
        """The gates that the input reaches: the columns of `kernel`."""
        return self.gates

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of the projected input."""
        return self.input_gates

    @property
    def recurrent_gates(self) -> tuple[str, ...]:
        """The gates that the state reaches: the columns of `recurrent_kernel`."""
        return self.gates

    @property
    def bias_gates(self) -> tuple[str, ...]:
        """The gates that have a bias."""
        return self.gates

    @property
    def bias_offsets(self) -> dict[str, float]:
        """What is added to the initial bias of a gate, by the gate's name."""
        return {}

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
        recurrent_dropout_form: str = "state",
        zoneout: float | Mapping[str, float] = 0.0,
        layer_norm: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = positive_integer("units", units)
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
        if recurrent_dropout_form not in DROPOUT_FORMS:
            raise ValueError(
                f"`recurrent_dropout_form` must be one of {', '.join(map(repr, DROPOUT_FORMS))}, "
                f"got {recurrent_dropout_form!r}."
            )
        self.recurrent_dropout_form = recurrent_dropout_form
        self.zoneout = _zoneout(zoneout)
        self.layer_norm = flag("layer_norm", layer_norm)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.output_size = self.units
        self._in_training = False
        self._recurrent_dropout_mask = None

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

    # What a subclass uses in its equations.

    def project(self, inputs: Tensor) -> Tensor:
        """The input's part in all gates, for one step `(batch, features)` or a whole sequence
        `(batch, time, features)`: a layer calls it once, outside its loop.

        A cell whose input cannot be projected beforehand overrides this with the identity and
        does the product in `step`.
        """
        x = self.input_share(inputs)
        return x if self.bias is None else x + self.biases(*self.blocks)

    def input_share(self, inputs: Tensor) -> Tensor:
        """The input's part in its gates without the bias."""
        x = ops.matmul(self.drop_inputs(inputs), self.kernel)
        return normalise(x) * ops.cast(self.input_gain, x.dtype) if self.layer_norm else x

    def recur(self, h: Tensor, *gates: str) -> Tensor:
        """The state's part in its gates, or in the adjacent ones that are named."""
        mask = self.recurrent_mask(h)
        h = h if mask is None else h * mask
        kernel, gates = self.recurrent_weights(), gates or self.recurrent_gates
        x = ops.matmul(h, self.columns(kernel, *gates, of=self.recurrent_gates))
        if not self.layer_norm:
            return x
        gain = self.columns(ops.cast(self.recurrent_gain, x.dtype), *gates, of=self.recurrent_gates)
        return normalise(x) * gain

    def biases(self, *gates: str) -> Tensor:
        """The bias of the gates that are named, zero for a gate that has none."""
        bias = ops.convert_to_tensor(self.bias)
        if gates == self.bias_gates:
            return bias
        zeros = ops.zeros((self.units,), dtype=bias.dtype)
        known = self.bias_gates
        parts = [self.columns(bias, gate, of=known) if gate in known else zeros for gate in gates]
        return ops.concatenate(parts)

    def candidate(self, z: Tensor) -> Tensor:
        """What a pre-activation `z` offers to the state: squashed, and dropped out if so wished."""
        return self.dropped(self.activation(z))

    def dropped(self, value: Tensor) -> Tensor:
        """What enters the state, with dropout if that form of it is on: `(batch, [time,] units)`."""
        if not self._drops("candidate"):
            return value
        mask = self.get_recurrent_dropout_mask(value if len(value.shape) == 2 else value[:, 0])
        return value * (mask if len(value.shape) == 2 else mask[:, None])

    def columns(self, x: Tensor, *gates: str, of: tuple[str, ...] | None = None) -> Tensor:
        """The columns of `x` that belong to the adjacent gates that are named.

        Args:
            x: A tensor whose last dimension is blocks of `units` columns.
            *gates: The gates whose blocks are wanted.
            of: All blocks of `x`, by default one for each gate.
        """
        of = of or self.gates
        if gates == of:
            return x
        first = of.index(gates[0])
        return x[..., first * self.units : (first + len(gates)) * self.units]

    def split(self, x: Tensor) -> list[Tensor]:
        """Cut `x` into its gates, blocks of `units` columns."""
        return ops.split(x, x.shape[-1] // self.units, axis=-1)

    def add_kernel(
        self, name: str, shape: tuple[int, ...], like: str, initializer: Any = None
    ) -> Any:
        """Add a weight.

        Args:
            name: Its name.
            shape: Its shape.
            like: Whose initializer, regularizer and constraint it has: `"kernel"`, `"recurrent"`,
                `"bias"`, or another for which there are such arguments.
            initializer: What to take in the place of that initializer.
        """
        return self.add_weight(
            shape=shape,
            name=name,
            initializer=initializer or getattr(self, f"{like}_initializer"),
            regularizer=getattr(self, f"{like}_regularizer"),
            constraint=getattr(self, f"{like}_constraint"),
        )

    # What Keras and the layers use.

    @property
    def state_sizes(self) -> dict[str, int]:
        """The size of every state by its name."""
        return dict.fromkeys(self.states, self.units)

    @property
    def state_size(self) -> int | list[int]:
        """As Keras's own cells have it: a plain number for one state, a list for several."""
        sizes = list(self.state_sizes.values())
        return sizes[0] if len(sizes) == 1 else sizes

    @property
    def has_zoneout(self) -> bool:
        """Whether any state may be kept through a step."""
        return bool(self._zoneouts())

    def is_bare(self, training: bool = True) -> bool:
        """Whether nothing stands between the cell and its plain equations but dropped inputs, states
        or weights: what a kernel computes.
        """
        dropped = training and self.recurrent_dropout and self.recurrent_dropout_form == "candidate"
        return not (dropped or self.layer_norm or self.has_zoneout)

    @property
    def squashes_as_usual(self) -> bool:
        """Whether the activations are those of the papers: what kernels and libraries compute."""
        gates = getattr(self, "recurrent_activation", activations.sigmoid)
        return self.activation is activations.tanh and gates is activations.sigmoid

    def prepare(self, inputs: Tensor) -> Tensor:
        """What `advance` takes: `project(inputs)`, and in training the draws of zoneout beside it."""
        x, rates = self.project(inputs), self._zoneouts()
        if not (self._in_training and rates):
            return x
        # Drawn here, for all steps at once: a compiled loop cannot draw on every backend.
        drawn = [x]
        for name, rate in rates.items():
            shape = (*ops.shape(x)[:-1], self.state_sizes[name])
            number = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
            drawn.append(ops.cast(number < rate, x.dtype))
        return ops.concatenate(drawn, axis=-1)

    def advance(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        """`checked_step`, with zoneout if there is any: `x` is what `prepare` gave."""
        rates = self._zoneouts()
        if not rates:
            return self.checked_step(x, states)
        sizes = [self.state_sizes[name] for name in rates]
        kept: list[Any] = list(rates.values())
        if self._in_training:
            x, drawn = x[..., : -sum(sizes)], x[..., -sum(sizes) :]
            ends = list(itertools.accumulate(sizes))
            kept = [drawn[..., end - size : end] for end, size in zip(ends, sizes, strict=True)]
        shares = dict(zip(rates, kept, strict=True))
        step = self.checked_step(x, states)
        mixed = [
            shares[name] * old + (1 - shares[name]) * new if name in rates else new
            for name, old, new in zip(self.states, states, step.states, strict=True)
        ]
        # An output that is a state, as most are, is that state.
        same = [here for here, new in zip(mixed, step.states, strict=True) if new is step.output]
        return Step(same[0] if same else step.output, tuple(mixed), step.gates)

    def drop_inputs(self, inputs: Tensor) -> Tensor:
        """The inputs with dropout, if it is on: one mask for all steps of a sequence."""
        if not (self._in_training and self.dropout):
            return inputs
        one_step = (ops.shape(inputs)[0], inputs.shape[-1])
        mask = self.get_dropout_mask(ops.zeros(one_step, dtype=inputs.dtype))
        return inputs * (mask if len(inputs.shape) == 2 else mask[:, None])

    def recurrent_mask(self, h: Tensor) -> Tensor | None:
        """The mask by which `recur` multiplies a state `h`, if recurrent dropout is on."""
        return self.get_recurrent_dropout_mask(h) if self._drops("state") else None

    def recurrent_weights(self, name: str = "recurrent_kernel") -> Tensor:
        """One of `recurrent_kernels`, with weights dropped if that is on."""
        kernel = ops.convert_to_tensor(getattr(self, name))
        if not self._drops("weights"):
            return kernel
        mask = self.get_recurrent_dropout_mask(kernel)
        if len(self.recurrent_kernels) > 1 and len(mask.shape):
            sizes = [math.prod(getattr(self, one).shape) for one in self.recurrent_kernels]
            place = self.recurrent_kernels.index(name)
            first = sum(sizes[:place])
            mask = ops.reshape(mask[first : first + sizes[place]], kernel.shape)
        return kernel * ops.cast(mask, kernel.dtype)

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> Tensor:
        # Keras asks with a state, before the loop, so that the mask is there when the loop begins.
        if self.recurrent_dropout_form == "weights" and self.recurrent_dropout:
            # There is one mask. That of several kernels has their weights one after the other.
            shapes = [getattr(self, name).shape for name in self.recurrent_kernels]
            shape = shapes[0] if len(shapes) == 1 else (sum(map(math.prod, shapes)),)
            step_input = ops.zeros(shape, dtype=self.compute_dtype)
        return super().get_recurrent_dropout_mask(step_input)

    def build(self, input_shape: Sequence[int | None]) -> None:
        features = input_shape[-1]
        if features is None:
            raise ValueError(
                f"{type(self).__name__} needs to know the size of the last dimension of `inputs`, "
                f"got inputs of shape {tuple(input_shape)}."
            )
        self._zoneouts()  # Refused here at the latest: only now is every state's name known.
        sizes = [
            len(gates) * self.units
            for gates in (self.input_gates, self.recurrent_gates, self.bias_gates)
        ]
        self.kernel = self.add_kernel("kernel", (features, sizes[0]), "kernel")
        self.recurrent_kernel: Any = None
        if sizes[1]:
            shape = (self.units, sizes[1])
            self.recurrent_kernel = self.add_kernel("recurrent_kernel", shape, "recurrent")
        self.bias = None
        if self.use_bias:
            self.bias = self.add_kernel("bias", (sizes[2],), "bias", self._initial_bias)
        if self.layer_norm:
            self.input_gain = self.add_weight((sizes[0],), "ones", name="input_gain")
            if sizes[1]:
                self.recurrent_gain = self.add_weight((sizes[1],), "ones", name="recurrent_gain")
        self.build_extra()
        form = self.recurrent_dropout_form
        if self.recurrent_kernel is None and self.recurrent_dropout and form != "candidate":
            raise ValueError(
                f"`recurrent_dropout` of {type(self).__name__} has no recurrent product to drop "
                f"{self.recurrent_dropout_form} from; only "
                '`recurrent_dropout_form="candidate"` works with this cell.'
            )
        self.built = True

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, Any]:
        nested = isinstance(states, (list, tuple))
        given = [tuple(getattr(state, "shape", ())) for state in (states if nested else [states])]
        sizes = self.state_sizes
        if len(given) != len(sizes) or any(
            len(shape) != 2 or shape[-1] != size
            for shape, size in zip(given, sizes.values(), strict=True)
        ):
            wanted = ", ".join(f"{name} (batch, {size})" for name, size in sizes.items())
            raise ValueError(
                f"`states` of {type(self).__name__} must hold {len(sizes)} tensors: {wanted}; "
                f"got {len(given)} of the shapes {given}."
            )
        self.set_training(training)
        step = self.advance(self.prepare(inputs), tuple(states) if nested else (states,))
        return step.output, list(step.states) if nested else step.states[0]

    @property
    def in_training(self) -> bool:
        """Whether dropout and zoneout are at work."""
        return self._in_training

    def set_training(self, training: bool | None) -> None:
        """Say whether dropout and zoneout shall be at work."""
        self._in_training = bool(training)

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
        sizes = self.state_sizes.values()
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in sizes]

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
        offsets = [self.bias_offsets.get(gate, 0.0) for gate in self.bias_gates]
        if not any(offsets):
            return bias
        return bias + ops.repeat(ops.cast(offsets, dtype), self.units)

    def _drops(self, form: str) -> bool:
        """Whether this form of recurrent dropout is at work."""
        return bool(
            self._in_training and self.recurrent_dropout and self.recurrent_dropout_form == form
        )

    def _zoneouts(self) -> dict[str, float]:
        """The zoneout of every state that has any, by the state's name."""
        kinds = {name: _kind(name) for name in self.states}
        if not isinstance(self.zoneout, Mapping):
            rate = self.zoneout
            return {name: rate for name, kind in kinds.items() if kind and rate}
        rates = self.zoneout
        known = sorted({kind for kind in kinds.values() if kind})
        if unknown := [kind for kind in rates if kind not in known]:
            raise ValueError(
                f"`zoneout` of {type(self).__name__} may name the states "
                f"{', '.join(map(repr, known))}; got unknown {unknown!r}."
            )
        return {name: rates[kind] for name, kind in kinds.items() if kind and rates.get(kind)}


def _zoneout(value: Any) -> float | dict[str, float]:
    """A fraction, or one for each kind of state; which kinds a cell has shows when it is built."""
    if not isinstance(value, Mapping):
        return _fraction("zoneout", value)
    return {str(kind): _fraction(f'zoneout["{kind}"]', rate) for kind, rate in value.items()}


DROPOUT_FORMS = ("state", "candidate", "weights")

NORM_EPSILON = 1e-5


def normalise(x: Tensor) -> Tensor:
    """Shifted to the mean 0 and scaled to the variance 1 over the last dimension, in at least float32."""
    wide = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
    centred = wide - ops.mean(wide, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    return ops.cast(centred * ops.rsqrt(variance + NORM_EPSILON), x.dtype)


def _kind(state: str) -> str | None:
    """`hidden_1` is a hidden state, `inner_cell` a memory cell; a counter is neither."""
    return next((kind for kind in ("hidden", "cell") if kind in state.split("_")), None)


def positive_integer(name: str, value: Any) -> int:
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number <= 0:
        raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
    return number


def real_number(name: str, value: Any) -> float:
    """The number, if it is one, and finite."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"`{name}` must be a number, got {value!r}.")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """The truth value, if it is one."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"`{name}` must be True or False, got {value!r}.")
    return bool(value)


def _fraction(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) < 1:
        raise ValueError(f"`{name}` must be a fraction, at least 0 and less than 1, got {value!r}.")
    return float(value)


def _as_config(name: str, value: Any) -> Any:
    """The plain form of an argument, from which the constructor makes the argument again."""
    if name.endswith("activation"):
        return activations.serialize(value)
    if isinstance(value, Mapping):
        return dict(value)  # Keras wraps what a layer holds in kinds of its own.
    if name.endswith(("_initializer", "_regularizer", "_constraint")):
        return keras.saving.serialize_keras_object(value)
    return value
