"""The layer that runs a cell over a sequence, and the layer classes made from the cells."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any, ClassVar

import keras
from keras import ops, tree

from kerasrnn import _keras, cells
from kerasrnn.cells._base import ClassSignature
from kerasrnn.layers import _library
from kerasrnn.layers._fused import (
    fused_loop,
    generic_loop,
    generic_pays,
    has_own_kernel,
    library_loop,
    why_not,
)
from kerasrnn.layers._scan import scanned

Tensor = Any

IMPLEMENTATIONS = ("auto", "fused", "loop")


@keras.saving.register_keras_serializable("kerasrnn")
class Recurrent(keras.layers.RNN):
    """Runs any cell over a sequence, as `keras.layers.RNN` does, and faster where the cell allows.

    The cells of `kerasrnn.cells` run by kernels on TensorFlow; elsewhere their inputs are projected
    once for all time steps, outside the loop. Any other Keras cell, and a list of cells, works too.

    Args:
        cell: A cell, or a list of cells to be stacked within each time step.
        return_sequences: Whether to return the output of every step or of the last one only.
        return_state: Whether to return the final states as well.
        go_backwards: Whether to run from the last step to the first. The outputs come in the order
            in which they were computed.
        stateful: Whether the final states of a batch are the initial states of the next. A smaller
            batch, such as the last of an epoch, continues the first sequences of the one before.
        unroll: Whether to write the loop out, which needs a fixed number of steps.
        zero_output_for_mask: Whether the output of a masked step is zero rather than a repetition
            of the previous output.
        initial_state: `"zeros"`, or `"learned"` for initial states that are trained with the
            network, one vector for each state. They begin at zero.
        implementation: `"fused"` runs the whole sequence by a kernel: one that was written for the cell,
            forward and backward; or a parallel scan, where the cell's recurrence is linear; or the generic
            kernel, which compiles the cell's own `step`. (How much faster: docs/performance.md. No compiled
            kernel has a gradient of its gradient.) `"loop"` runs that step in the loop of Keras. `"auto"`
            takes what is fastest: cuDNN on a GPU, and PyTorch's own recurrence on PyTorch, where they know
            the cell; the generic kernel in training only. Kernels are for TensorFlow; no other way than the
            loop can `unroll`.
        **kwargs: `name`, `dtype` (or a dtype policy), `trainable` and `activity_regularizer`.

    Call arguments:
        sequences: `(batch, time, features)`. Batch and time may be dynamic.
        initial_state: A tensor for each state, `(batch, units)`, in the place of the layer's own.
        mask: Boolean, `(batch, time)`: the steps that count. Where it is False the states stay as
            they are. Any pattern will do: padding left or right, holes, a wholly masked row.
        training: Whether dropout is at work.

    Returns:
        `(batch, units)`, or `(batch, time, units)` with `return_sequences`; with `return_state`
        a tuple of this and the final states, each `(batch, units)`. In the compute dtype.

    Raises:
        ValueError: If an argument has a value or a shape that cannot be; the message names it,
            what was expected and what was received.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.Recurrent(kerasrnn.cells.GRUCell(4), return_sequences=True)
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 5, 4)
    True
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        initial_state: str = "zeros",
        implementation: str = "auto",
        **kwargs: Any,
    ) -> None:
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(
                f"`implementation` must be one of {', '.join(map(repr, IMPLEMENTATIONS))}, "
                f"got {implementation!r}."
            )
        if isinstance(cell, str):
            raise ValueError(
                f"`cell` must be a cell or a list of cells, got the name {cell!r}: "
                f"write `kerasrnn.cells.get({cell!r}, units)`."
            )
        if isinstance(cell, (list, tuple)) and len(cell) == 1:
            (cell,) = cell  # Keras's stack of one gives its states in another form than it takes.
        if initial_state not in ("zeros", "learned"):
            raise ValueError(
                f'`initial_state` must be "zeros" or "learned", got {initial_state!r}.'
            )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            **kwargs,
        )
        self.initial_state = initial_state
        self.implementation = implementation
        self.learned_states: list[Any] = []
        self._at_start: Any = None
        if keras.backend.backend() == "tensorflow" and self._library_serves(training=False):
            self.supports_jit = False  # XLA does not compile cuDNN's operation.

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        if len(sequences_shape) < 3:
            raise ValueError(
                "`sequences` must have the shape (batch, time, features), "
                f"got {tuple(sequences_shape)}."
            )
        if initial_state_shape is not None:
            self._check_states(sequences_shape[0], _shapes(initial_state_shape))
        # From here on Keras checks the inputs of every call, and says what it expected.
        self.input_spec = keras.layers.InputSpec(
            ndim=len(sequences_shape), axes={-1: sequences_shape[-1]}
        )
        if self.initial_state == "learned":
            # Before Keras's own build, which asks for the initial states of a stateful layer.
            # None for a state that counts, which starts at zero whatever is learned.
            self.learned_states = [
                self.add_weight(shape=(size,), initializer="zeros", name=f"initial_state_{number}")
                if learns
                else None
                for number, (size, learns) in enumerate(
                    zip(tree.flatten(self.state_size), _learning(self.cell), strict=True)
                )
            ]
        super().build(sequences_shape)
        if self.stateful and self.learned_states:
            # Until the first batch the states are the learned ones themselves, so that they learn.
            # Past Keras's attributes, as this is no weight: a file has no place for it.
            object.__setattr__(
                self, "_at_start", keras.Variable(True, dtype="bool", trainable=False)
            )

    @property
    def variables(self) -> list[Any]:
        """The weights, and what else a call may change: the states of a stateful layer.

        JAX carries from batch to batch only what stands here. What is saved stands in `weights`.
        """
        own = [*tree.flatten(self.states or []), self._at_start]
        return [*super().variables, *(variable for variable in own if variable is not None)]

    def get_initial_state(self, batch_size: Any) -> list[Any]:
        """The states from which a sequence starts, `(batch_size, units)` each."""
        zeros = super().get_initial_state(batch_size)
        if not self.learned_states:
            return zeros
        learned = [
            zero if state is None else zero + ops.cast(state, zero.dtype)
            for zero, state in zip(tree.flatten(zeros), self.learned_states, strict=True)
        ]
        return tree.pack_sequence_as(zeros, learned)

    def reset_state(self, states: Any = None) -> None:
        """Set the states of a stateful layer, by default back to where a sequence starts.

        Args:
            states: A tensor for each state, `(batch, units)`.
        """
        if not self.stateful:
            raise ValueError(
                f"`reset_state` needs a layer with stateful=True; {self.name!r} is not."
            )
        if self.states is None:
            if states is not None:
                raise ValueError(
                    f"The layer {self.name!r} has no states to set yet: build it first, or call it once."
                )
            return
        variables, from_start = tree.flatten(self.states), states is None
        if from_start:
            states = self.get_initial_state(variables[0].shape[0])
        values = tree.flatten(states)
        if [tuple(ops.shape(value)) for value in values] != [tuple(v.shape) for v in variables]:
            raise ValueError(
                f"`states` must have the shapes {[tuple(v.shape) for v in variables]}, "
                f"got {[tuple(ops.shape(value)) for value in values]}."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        if self._at_start is not None:
            self._at_start.assign(from_start)

    def call(
        self, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        batch, time = sequences.shape[0], sequences.shape[1]
        if self.unroll and time is None:
            raise ValueError(
                "`unroll=True` needs a fixed number of time steps, got sequences of shape "
                f"{tuple(sequences.shape)}."
            )
        if isinstance(mask, (list, tuple)):
            # A list of masks, the layer's and those of its initial states; or plain numbers.
            plain = not any(one is None or hasattr(one, "shape") for one in mask)
            mask = ops.convert_to_tensor(mask) if plain else mask[0]
        if mask is not None:
            mask = self._checked_mask(mask, batch, time)
        states = self._starting_states(sequences, initial_state)
        if time == 0:
            return self._result(*self._no_steps(sequences, states))
        self._maybe_reset_dropout_masks(self.cell)  # What a call of the bare cell left behind.
        try:
            if training or not isinstance(self.cell, cells.Cell):
                # Only the shape of a step matters here, and there might be no step 0 to read.
                batch, _, *features = ops.shape(sequences)
                one_step = ops.zeros((batch, *features), dtype=self.cell.compute_dtype)
                self._maybe_config_dropout_masks(self.cell, one_step, states)
            last_output, outputs, final = self.inner_loop(sequences, states, mask, training)
        finally:
            self._maybe_reset_dropout_masks(self.cell)
            if isinstance(self.cell, cells.Cell):
                self.cell.set_training(False)
        if self.stateful:
            self._store_states(final)
        return self._result(last_output, outputs, final)

    def inner_loop(
        self, sequences: Tensor, initial_state: list[Any], mask: Any, training: bool = False
    ) -> tuple[Tensor, Tensor, Any]:
        cell = self.cell
        if self._is_scanned():
            cell.set_training(training)
            return scanned(
                cell,
                cell.project(sequences),
                initial_state[0],
                mask,
                go_backwards=self.go_backwards,
                zero_output_for_mask=self.zero_output_for_mask,
            )
        if kernel := self._kernel(bool(training), sequences):
            try:
                return kernel(
                    cell,
                    sequences,
                    initial_state,
                    mask,
                    go_backwards=self.go_backwards,
                    zero_output_for_mask=self.zero_output_for_mask,
                    return_all_outputs=self.return_sequences,
                    training=bool(training),
                )
            except cells.ImpureStepError as error:
                if self.implementation == "fused":
                    raise ValueError(
                        f'`implementation="fused"` of the layer {self.name!r} cannot be: {error}. '
                        'Use "auto" or "loop".'
                    ) from error
        if self._projects_all_steps():
            cell.set_training(training)
            sequences = cell.prepare(sequences)

            def step(x: Tensor, states: Any) -> tuple[Tensor, list[Tensor]]:
                done = cell.advance(x, tuple(states))
                return done.output, list(done.states)

        else:
            takes_training = "training" in inspect.signature(cell.call).parameters
            options = {"training": training} if takes_training else {}

            def step(x: Tensor, states: Any) -> tuple[Tensor, list[Tensor]]:
                output, states = cell(x, states, **options)
                return output, list(states) if tree.is_nested(states) else [states]

        return _keras.rnn(
            step,
            sequences,
            initial_state,
            go_backwards=self.go_backwards,
            mask=mask,
            unroll=self.unroll,
            zero_output_for_mask=self.zero_output_for_mask,
            return_all_outputs=self.return_sequences,
        )

    def get_config(self) -> dict[str, Any]:
        own = {"initial_state": self.initial_state, "implementation": self.implementation}
        return {**super().get_config(), **own}

    def _kernel(self, training: bool, sequences: Tensor) -> Callable[..., Any] | None:
        """What runs whole sequences, if a kernel or a library does."""
        if self.implementation == "loop":
            return None
        if self._library_serves(training) and _library.may_run(sequences):
            return library_loop
        obstacle = why_not(self.cell, self.unroll, self.dtype_policy.name)
        if obstacle and self.implementation == "fused":
            raise ValueError(
                f'`implementation="fused"` of the layer {self.name!r} cannot be: {obstacle}. '
                'Use "auto", which takes the kernel where there is one.'
            )
        if obstacle:
            return None
        if has_own_kernel(self.cell, training):
            return fused_loop
        return generic_loop if self.implementation == "fused" or generic_pays(training) else None

    def _library_serves(self, training: bool) -> bool:
        """Whether cuDNN, or PyTorch itself, runs the whole sequence."""
        return (
            self.implementation == "auto"
            and not self.unroll
            and _library.serves(self.cell, training)
            and self.cell.dtype_policy.name == self.dtype_policy.name
        )

    def _is_scanned(self) -> bool:
        """Whether all steps are had at once."""
        return (
            self.implementation != "loop"
            and isinstance(self.cell, cells.LinearCell)
            and not self.unroll
            and not self.cell.has_zoneout
            and self.cell.dtype_policy.name == self.dtype_policy.name
        )

    def _projects_all_steps(self) -> bool:
        """Whether the loop reads a sequence that is projected already, all steps at once."""
        # A cell of another precision than the layer's has to be called for Keras to cast for it.
        if not isinstance(self.cell, cells.Cell) or (
            self.cell.dtype_policy.name != self.dtype_policy.name
        ):
            return False
        # In JAX's scan the product of a step takes less time than to read it from so wide a sequence. But
        # zoneout draws for all steps at once.
        return keras.backend.backend() != "jax" or self.cell.has_zoneout

    def _checked_mask(self, mask: Any, batch: int | None, time: int | None) -> Tensor:
        shape = tuple(getattr(mask, "shape", ()))
        if len(shape) == 3 and shape[2] == 1:
            mask, shape = mask[..., 0], shape[:2]
        fits = len(shape) == 2 and all(
            given is None or expected is None or given == expected
            for given, expected in zip(shape, (batch, time), strict=True)
        )
        if not fits:
            raise ValueError(
                f"`mask` of the layer {self.name!r} must have the shape (batch, time) = "
                f"{(batch, time)}, got {shape if hasattr(mask, 'shape') else repr(mask)}."
            )
        return ops.cast(mask, "bool")

    def _starting_states(self, sequences: Tensor, initial_state: Any) -> list[Any]:
        """The initial states as the loop wants them: a list, in the cell's compute dtype."""
        batch = ops.shape(sequences)[0]
        if initial_state is None:
            initial_state = self._stored_states(batch) if self.stateful else None
        if initial_state is None:
            initial_state = self.get_initial_state(batch)
        if not isinstance(initial_state, (list, tuple)):
            initial_state = [initial_state]
        elif not any(hasattr(state, "shape") for state in tree.flatten(initial_state)):
            initial_state = [ops.convert_to_tensor(state) for state in initial_state]
        self._check_states(
            sequences.shape[0], [tuple(state.shape) for state in tree.flatten(initial_state)]
        )
        dtype = self.cell.compute_dtype
        states = iter(ops.convert_to_tensor(x, dtype=dtype) for x in tree.flatten(initial_state))
        # Nested as the cell's states are, a list within the list for each of stacked cells, in
        # plain lists: the `state_size` that Keras keeps is of a kind of its own, which JAX refuses.
        return [
            next(states) if isinstance(size, int) else [next(states) for _ in size]
            for size in self.state_size
        ]

    def _check_states(self, batch: int | None, given: list[tuple[int | None, ...]]) -> None:
        wanted = [(batch, size) for size in tree.flatten(self.state_size)]
        if len(given) != len(wanted) or not all(
            len(shape) == 2 and shape[1] == size and (None in (shape[0], rows) or shape[0] == rows)
            for shape, (rows, size) in zip(given, wanted, strict=True)
        ):
            raise ValueError(
                f"`initial_state` of the layer {self.name!r} must hold tensors of the shapes "
                f"{wanted}, got {given}."
            )

    def _stored_states(self, batch: Any) -> Any:
        """The states of the sequences that go on, the first ones if the batch is a smaller one."""
        stored = tree.flatten(self.states)[0].shape[0]
        if isinstance(batch, int) and batch > stored:
            raise ValueError(
                f"The stateful layer {self.name!r} was built for batches of {stored} sequences, got "
                f"a batch of {batch}. Smaller batches will do, larger ones have no state to go on from."
            )
        # Copies: PyTorch will overwrite the variables, and must not change what the loop has read.
        states = [ops.copy(state) for state in tree.flatten(self.states)]
        if self._at_start is not None:
            at_start, start = ops.copy(self._at_start), tree.flatten(self.get_initial_state(stored))
            states = [ops.where(at_start, *pair) for pair in zip(start, states, strict=True)]
        if isinstance(batch, int) and batch == stored:
            return states
        return [state[:batch] for state in states]

    def _store_states(self, states: Any) -> None:
        for variable, state in zip(tree.flatten(self.states), tree.flatten(states), strict=True):
            state = ops.cast(state, variable.dtype)
            if state.shape[0] != variable.shape[0]:
                rest = ops.convert_to_tensor(variable)[ops.shape(state)[0] :]
                state = ops.reshape(ops.concatenate([state, rest]), variable.shape)
            variable.assign(state)
        if self._at_start is not None:
            self._at_start.assign(False)

    def _no_steps(self, sequences: Tensor, states: list[Any]) -> tuple[Tensor, Tensor, list[Any]]:
        """What comes out of a sequence without a single step: nothing, and the states as they were."""
        batch, size = ops.shape(sequences)[0], self.compute_output_shape(sequences.shape)
        units = (size[0] if self.return_state else size)[-1]
        return ops.zeros((batch, units)), ops.zeros((batch, 0, units)), states

    def _result(self, last_output: Tensor, outputs: Tensor, states: Any) -> Any:
        output = ops.cast(outputs if self.return_sequences else last_output, self.compute_dtype)
        if not self.return_state:
            return output
        return output, *tree.map_structure(lambda x: ops.cast(x, self.compute_dtype), states)


def _learning(cell: Any) -> list[bool]:
    """Of each state of a cell, or of stacked cells, whether it can be learned rather than counted."""
    if isinstance(cell, keras.layers.StackedRNNCells):
        return [learns for one in cell.cells for learns in _learning(one)]
    if isinstance(cell, cells.Cell):
        return [name not in cell.counters for name in cell.states]
    return [True] * len(tree.flatten(cell.state_size))


def _shapes(nested: Any) -> list[tuple[int | None, ...]]:
    """The shapes in a nest of shapes, of which one alone is a tuple of numbers."""
    if all(isinstance(size, int) or size is None for size in nested):
        return [tuple(nested)]
    return [shape for one in nested for shape in _shapes(one)]


class CellLayer(Recurrent):
    """A `Recurrent` that makes its own cell: the base of `LSTM`, `GRU` and all the others."""

    cell_class: ClassVar[type[cells.Cell]]

    def __init__(self, units: int, *args: Any, **kwargs: Any) -> None:
        parameters = self.cell_class.parameters()
        by_position = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        if len(args) >= len(by_position):
            raise TypeError(
                f"{type(self).__name__} takes `{'`, `'.join(by_position)}` by position and the other "
                f"arguments by name, got {len(args) + 1} by position: {(units, *args)}."
            )
        cell = self.cell_class(
            units,
            *args,
            **{name: kwargs.pop(name) for name in parameters if name in kwargs},
            name=self.cell_class.__name__.lower(),
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
        )
        super().__init__(cell, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["cell"]
        cell_config = self.cell.get_config()
        return {**config, **{name: cell_config[name] for name in self.cell.parameters()}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> CellLayer:
        return cls(**config)


def layer_for(cell_class: type[cells.Cell]) -> type[CellLayer]:
    """Make the layer class of a registered cell: its arguments are the cell's and `Recurrent`'s.

    Every argument of the cell can be read from the layer too, `layer.units` as `layer.cell.units`.
    """
    info = next(
        cells.info(name) for name in cells.names() if cells.info(name).cell_class is cell_class
    )
    parameters = cell_class.parameters()
    own = list(inspect.signature(Recurrent.__init__).parameters.values())[2:]
    kinds = inspect.Parameter
    own = [p if p.kind is kinds.VAR_KEYWORD else p.replace(kind=kinds.KEYWORD_ONLY) for p in own]
    doc = f"""{info.summary}

    The layer of `kerasrnn.cells.{cell_class.__name__}`, where the equations stand: a
    `kerasrnn.layers.Recurrent` with a cell of its own.

    Args:
        units: Positive integer, the size of the state and of the output.
        {", ".join(name for name in parameters if name != "units")}: See the cell.
        {", ".join(p.name for p in own if p.kind is not kinds.VAR_KEYWORD)}: See `Recurrent`.
        **kwargs: `name`, `dtype` (or a dtype policy), `trainable` and `activity_regularizer`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.{info.layer_name}(4, return_sequences=True)
    >>> layer(keras.ops.ones((2, 5, 4))).shape == (2, 5, 4)
    True
    """
    members: dict[str, Any] = {
        "__doc__": doc,
        "__module__": "kerasrnn.layers",
        "__signature__": ClassSignature(lambda _: [*parameters.values(), *own]),
        "cell_class": cell_class,
    }
    members |= {name: property(operator.attrgetter(f"cell.{name}")) for name in parameters}
    layer_class = type(info.layer_name, (CellLayer,), members)
    return keras.saving.register_keras_serializable("kerasrnn")(layer_class)
