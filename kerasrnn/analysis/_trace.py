"""What every gate and every state of a recurrent layer was, at every step."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kerasrnn import _keras
from kerasrnn.cells import Cell

Tensor = Any


@dataclass(frozen=True, repr=False, eq=False)
class LayerTrace:
    """What one cell computed over a batch of sequences, in the time order of its input.

    A step that the mask leaves out computes nothing: its gates are NaN, its states are those of the step
    before, and its output is what the layer gives out there.

    Attributes:
        name: The layer's place in the model.
        cell: The name of the cell's class.
        gates: Every gate by its name, `(batch, time, units)`.
        states: Every state after each step, by its name, `(batch, time, size)`.
        output: The output of each step, `(batch, time, units)`.
        initial_states: The states before the first step, `(batch, size)`.
        mask: Boolean, `(batch, time)`: the steps that count; or None if all do.
        go_backwards: Whether the cell came from the last step to the first. Then the state before
            step t is that of step t + 1.
        valves: The names of the gates between 0 and 1, as the cell declares them.
    """

    name: str
    cell: str
    gates: dict[str, np.ndarray]
    states: dict[str, np.ndarray]
    output: np.ndarray
    initial_states: dict[str, np.ndarray]
    mask: np.ndarray | None
    go_backwards: bool
    valves: tuple[str, ...]

    def previous(self, state: str) -> np.ndarray:
        """The state that each step found, `(batch, time, size)`: a copy, shifted by one step."""
        first, after = self.initial_states[state][:, None], self.states[state]
        if self.go_backwards:
            return np.concatenate([after[:, 1:], first], axis=1)
        return np.concatenate([first, after[:, :-1]], axis=1)

    def __repr__(self) -> str:
        batch, time, units = self.output.shape
        arrays = [
            *(("gate", name, array) for name, array in self.gates.items()),
            *(("state", name, array) for name, array in self.states.items()),
            ("output", "", self.output),
        ]
        width = max(len(name) for _, name, _ in arrays)
        notes = [", backwards"] * self.go_backwards + [", masked"] * (self.mask is not None)
        return "\n".join(
            [
                f"{self.name}: {self.cell}, {batch} x {time} steps of {units} units{''.join(notes)}",
                *(f"  {kind:6}  {name:{width}}  {array.shape}" for kind, name, array in arrays),
            ]
        )


class Trace(Mapping[str, LayerTrace]):
    """The `LayerTrace` of every recurrent layer that ran, by its place in the model, in order.

    Args:
        layers: The traces.

    Raises:
        KeyError: If there is no layer of a name; the message lists those that are there.
    """

    def __init__(self, layers: Iterable[LayerTrace]) -> None:
        self._layers = {layer.name: layer for layer in layers}

    def __getitem__(self, name: str) -> LayerTrace:
        if name not in self._layers:
            known = ", ".join(map(repr, self._layers))
            raise KeyError(f"The trace has no layer {name!r}; it has {known}.")
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self._layers.values()))


def one_layer(name: str, given: Any) -> LayerTrace:
    """The trace of a layer, or the only one of a model's trace."""
    if isinstance(given, LayerTrace):
        return given
    if not isinstance(given, Trace):
        raise TypeError(f"`{name}` must be what `kerasrnn.trace` gave, got {given!r}.")
    if len(given) > 1:
        raise ValueError(
            f"The trace has the layers {', '.join(map(repr, given))}: take one, "
            f"`trace[{next(iter(given))!r}]`."
        )
    return next(iter(given.values()))


def trace(model_or_layer: Any, inputs: Any, mask: Any = None, initial_state: Any = None) -> Trace:
    """Every gate, state and output of every recurrent layer, at every step.

    It runs the model once, as at inference, and changes nothing in it: no weight, no state of a stateful
    layer, no seed. The numbers are to the last bit those of `cell(x[:, t], states)`, called step by step
    on TensorFlow. The layer's own kernels sum in another order: its output may differ in the last digits.

    Args:
        model_or_layer: A built recurrent layer, or a built model that has such layers, at any depth: in
            `keras.layers.Bidirectional`, in nested and subclassed models. A recurrent layer is one of
            `kerasrnn.layers`, or a `keras.layers.RNN`, that holds a cell of `kerasrnn.cells`; of a stack of
            cells each has a trace of its own.
        inputs: What the model is called with, as one batch: arrays, or numbers or strings in lists.
        mask: Boolean, `(batch, time)`, if the model is not to find it by itself.
        initial_state: The initial states of a recurrent layer, as it takes them.

    Returns:
        A mapping from names to `LayerTrace`. A name is the layer's, behind those of the layers that
        hold it: `"lstm"`, `"encoder/gru"`, `"bidirectional/forward"`, `"bidirectional/backward"`; of a
        stack `"rnn/0"`, `"rnn/1"`. A layer that is called again, or whose name is taken, has the next
        free number behind it: `"lstm (2)"`.

    Raises:
        TypeError: If it is no Keras layer, or the inputs are a data set and no batch.
        ValueError: If it has no recurrent layer that can be traced, is not built, or does not run its
            layers eagerly; or if the inputs are symbolic.

    Example:

    >>> import keras, kerasrnn
    >>> layer = keras.layers.Bidirectional(kerasrnn.layers.GRU(4), name="both")
    >>> layer.build((None, None, 3))
    >>> trace = kerasrnn.trace(layer, keras.ops.ones((2, 5, 3)))
    >>> trace["both/backward"]
    both/backward: GRUCell, 2 x 5 steps of 4 units, backwards
      gate    update     (2, 5, 4)
      gate    reset      (2, 5, 4)
      gate    candidate  (2, 5, 4)
      state   hidden     (2, 5, 4)
      output             (2, 5, 4)
    """
    layers = _traceable(model_or_layer)
    if isinstance(inputs, str):
        raise ValueError(f"`inputs` must be a batch: a list of strings, got the one {inputs!r}.")
    if hasattr(inputs, "element_spec"):
        raise TypeError(
            f"`inputs` must be one batch, got {inputs!r}: take one of it, `next(iter(dataset))`, without "
            "the targets."
        )
    plain = (str, bytes, int, float)
    if isinstance(inputs, (list, tuple)) and all(
        isinstance(x, plain) for x in tree.flatten(inputs)
    ):
        inputs = ops.convert_to_tensor(inputs)
    if any(isinstance(one, keras.KerasTensor) for one in tree.flatten(inputs)):
        raise ValueError(f"`inputs` must be numbers or strings, got the symbolic {inputs!r}.")
    arguments = {"mask": mask, "initial_state": initial_state}
    arguments = {name: value for name, value in arguments.items() if value is not None}
    # In this scope an assignment to a variable stays in the scope.
    with _recording(layers) as records, keras.StatelessScope():
        model_or_layer(inputs, training=False, **arguments)
    if not records:
        raise ValueError(
            f"No recurrent layer of {model_or_layer.name!r} ({', '.join(layers)}) ran a step: the "
            "sequences are empty, or the model does not call these layers, or only in a compiled "
            "`tf.function`; then call `tf.config.run_functions_eagerly(True)` before."
        )
    return Trace(records)


def _traceable(root: Any) -> dict[str, keras.layers.RNN]:
    """The recurrent layers with cells of this package, by name."""
    if not isinstance(root, keras.layers.Layer):
        raise TypeError(f"`model_or_layer` must be a Keras layer or model, got {root!r}.")
    if isinstance(root, Cell):
        raise ValueError(
            f"`model_or_layer` is the cell {root.name!r}; "
            "trace the layer that runs it, `kerasrnn.layers.Recurrent(cell)`."
        )
    alone = isinstance(root, (keras.layers.RNN, keras.layers.Bidirectional))
    all_layers = list(_leaves(root, (root.name,) if alone else ()))
    found: dict[str, Any] = {}
    for name, layer in all_layers:
        known = any(layer is other for other in found.values())
        if known or not isinstance(layer, keras.layers.RNN):
            continue
        if any(isinstance(cell, Cell) for cell in _cells(layer)):
            found[_unused(name, found)] = layer
    if not found:
        kinds = ", ".join(f"{name} ({type(layer).__name__})" for name, layer in all_layers)
        raise ValueError(
            f"{root.name!r} has no recurrent layer with a cell of kerasrnn.cells; its layers are: "
            f"{kinds or 'none'}. In the place of one of Keras's put that of kerasrnn.layers: LSTM "
            "and SimpleRNN take its weights as they are, for GRU see docs/architecture.md."
        )
    if unbuilt := [name for name, layer in {"": root, **found}.items() if not layer.built]:
        raise ValueError(
            f"{unbuilt[0] or root.name!r} is not built, so it has no weights to trace: call it once, or "
            "its `build` with the shape of the inputs."
        )
    return found


def _leaves(layer: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The layers that hold no others, but cells, each with its path."""
    if isinstance(layer, keras.layers.Bidirectional):
        children = [("forward", layer.forward_layer), ("backward", layer.backward_layer)]
    elif isinstance(layer, keras.layers.RNN):
        children = []
    else:
        # Keras has no public way into all that holds layers; this one has stood for years.
        inner = layer._flatten_layers(include_self=False, recursive=False)
        children = [(child.name, child) for child in inner]
    for name, child in children:
        yield from _leaves(child, (*path, name))
    if not children and not isinstance(layer, keras.layers.InputLayer):
        yield "/".join(path), layer


def _unused(name: str, names: Iterable[str]) -> str:
    """The name, with a number behind it if there is one like it already."""
    taken, number, free = set(names), 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free


def _cells(layer: keras.layers.RNN) -> list[Any]:
    cell = layer.cell
    return list(cell.cells) if isinstance(cell, keras.layers.StackedRNNCells) else [cell]


# Keras gives no way to watch a layer inside a model. But every recurrent layer runs its steps by its
# method `inner_loop`, after its inputs, mask and initial states are settled; and an attribute of an
# instance stands before a method of its class. So for one call of the model the time loop of each
# layer is one that keeps what it sees. What another thread calls meanwhile goes the old way.


@contextlib.contextmanager
def _recording(layers: Mapping[str, keras.layers.RNN]) -> Iterator[list[LayerTrace]]:
    """While it lasts, what the layers compute in this thread is added to the list it gives."""
    records: list[LayerTrace] = []
    here, taken = threading.get_ident(), set(layers)

    def loop_of(name: str, layer: keras.layers.RNN) -> Callable[..., Any]:
        own, calls = layer.inner_loop, itertools.count(1)

        def inner_loop(
            sequences: Tensor, initial_state: Any, mask: Any, training: bool = False
        ) -> tuple[Tensor, Tensor, Any]:
            if threading.get_ident() != here:
                return own(sequences, initial_state, mask, training)
            label = name if next(calls) == 1 else _unused(name, taken)
            taken.add(label)
            traces, outputs, final = _run(label, layer, sequences, initial_state, mask)
            records.extend(traces)
            return outputs[:, -1], outputs, final

        return inner_loop

    with _LOCK, contextlib.ExitStack() as restore:
        for name, layer in layers.items():
            # Past Keras's own attributes, which it would track.
            object.__setattr__(layer, "inner_loop", loop_of(name, layer))
            restore.callback(object.__delattr__, layer, "inner_loop")
        yield records


_LOCK = threading.RLock()


def _run(
    name: str, layer: keras.layers.RNN, sequences: Tensor, initial_state: Any, mask: Any
) -> tuple[list[LayerTrace], Tensor, Any]:
    """Run a layer step by step: its traces, its outputs in the order they were computed, its states."""
    _refuse_symbols(layer)
    cells, backwards = _cells(layer), layer.go_backwards
    nested = [initial_state] if layer.cell is cells[0] else list(initial_state)
    starts = [list(tree.flatten(states)) for states in nested]
    valid = None if mask is None else np.array(ops.convert_to_numpy(mask), bool)
    batch, time = sequences.shape[:2]
    # The mask goes beside the inputs, so that one loop will do with a mask and without.
    counts = ops.ones((batch, time)) if mask is None else mask
    beside = ops.cast(counts, sequences.dtype)[..., None]
    x = ops.concatenate([sequences, beside], axis=-1)
    x = ops.flip(x, axis=1) if backwards else x
    carried = [
        [ops.zeros((batch, _output_size(cell)), dtype=cell.compute_dtype), *states]
        for cell, states in zip(cells, starts, strict=True)
    ]
    steps, arrays, chunk = _steps_of(layer.cell), None, _at_once(cells, batch)
    with _as_written():
        for begin in range(0, time, chunk):
            seen, carried = steps(x[:, begin : begin + chunk], carried)
            parts = [ops.convert_to_numpy(part) for part in tree.flatten(seen)]
            if arrays is None:
                arrays = [np.empty((batch, time, p.shape[2]), p.dtype) for p in parts]
            for array, part in zip(arrays, parts, strict=True):
                running = array[:, ::-1] if backwards else array
                running[:, begin : begin + chunk] = part
    traces = []
    for number, (cell, (output, states, gates), start) in enumerate(
        zip(cells, tree.pack_sequence_as(seen, arrays), starts, strict=True)
    ):
        if valid is not None and layer.zero_output_for_mask:
            output[~valid] = 0
        if isinstance(cell, Cell):
            names = (*cell.gates, *cell.derived_gates)
            if valid is not None:
                for array in gates:
                    array[~valid] = np.nan
            traces.append(
                LayerTrace(
                    name if cell is layer.cell else f"{name}/{number}",
                    type(cell).__name__,
                    dict(zip(names, gates, strict=True)),
                    dict(zip(cell.states, states, strict=True)),
                    output,
                    {n: np.array(s) for n, s in zip(cell.states, start, strict=True)},
                    valid,
                    backwards,
                    cell.valves,
                )
            )
    outputs = ops.convert_to_tensor(output[:, ::-1] if backwards else output)
    return (
        traces,
        outputs,
        tree.pack_sequence_as(initial_state, [s for c in carried for s in c[1:]]),
    )


def _at_once(cells: list[Any], batch: int) -> int:
    """How many steps run at once; then what they gave goes to its place, and its tensors are freed."""
    numbers = 0
    for cell in cells:
        numbers += _output_size(cell) + sum(tree.flatten(cell.state_size))
        if isinstance(cell, Cell):
            numbers += cell.units * len((*cell.gates, *cell.derived_gates))
    return max(LEAST_STEPS, MOST_NUMBERS // max(numbers * batch, 1))


# As many as give a million numbers: each start of the loop takes time. But not fewer than some.
LEAST_STEPS, MOST_NUMBERS = 64, 2**20


def _steps_of(cell: Any) -> Callable[..., Any]:
    """What runs a cell, or a stack of them, over some steps: compiled on TensorFlow, and kept for the
    next time, but without keeping the cell.
    """
    if keras.backend.backend() != "tensorflow":
        return functools.partial(_steps, cell)
    if cell not in _COMPILED:
        import tensorflow as tf

        # Not a lambda: TensorFlow would take those of all cells for one, and warn that it is traced
        # again and again.
        steps = functools.partial(_steps_of_reference, weakref.ref(cell))
        _COMPILED[cell] = tf.function(steps, autograph=False, reduce_retracing=True)
    return _COMPILED[cell]


_COMPILED: weakref.WeakKeyDictionary[Any, Callable[..., Any]] = weakref.WeakKeyDictionary()


def _steps_of_reference(reference: Callable[[], Any], x: Tensor, carried: Any) -> tuple[Any, Any]:
    return _steps(reference(), x, carried)


def _steps(cell: Any, x: Tensor, carried: list[list[Tensor]]) -> tuple[Any, Any]:
    """Run some steps.

    Args:
        cell: A cell, or a stack of them.
        x: The inputs with the mask as their last column, `(batch, time, features + 1)`.
        carried: For each cell the output of the step before, and its states.

    Returns:
        For each cell the outputs, the states and the gates, `(batch, time, size)` each; and what the
        next step finds.
    """
    stack = list(cell.cells) if isinstance(cell, keras.layers.StackedRNNCells) else [cell]

    def step(x: Tensor, carried: Any) -> tuple[Any, Any]:
        x, counts = x[..., :-1], x[..., -1:] != 0
        seen, new = [], []
        for cell, before in zip(stack, carried, strict=True):
            x, states, gates = _advance(cell, x, list(before[1:]))
            pairs = zip((x, *states), before, strict=True)
            after = [ops.where(counts, now, old) for now, old in pairs]
            seen.append((after[0], after[1:], gates))
            new.append(after)
        return seen, new

    _, seen, carried = _keras.rnn(step, x, carried)
    return seen, [list(one) for one in carried]


def _advance(
    cell: Any, x: Tensor, states: list[Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """One step as at inference: the output, the new states and the gates."""
    if not isinstance(cell, Cell):
        output, states = cell(x, states)
        return output, list(states), []
    before = cell.in_training
    cell.set_training(False)
    try:
        # What a call of the cell does, but that the gates come with it.
        with _keras.AutocastScope(cell.compute_dtype), keras.StatelessScope():
            done = cell.advance(cell.prepare(ops.cast(x, cell.compute_dtype)), tuple(states))
    finally:
        cell.set_training(before)
    names = (*cell.gates, *cell.derived_gates)
    return done.output, list(done.states), [done.gates[name] for name in names]


@contextlib.contextmanager
def _as_written() -> Iterator[None]:
    """Let TensorFlow compute what is written: its graph optimiser takes sums in another order, which
    changes the last bits.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    option = "disable_meta_optimizer"
    before = tf.config.optimizer.get_experimental_options().get(option, False)
    tf.config.optimizer.set_experimental_options({option: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({option: before})


def _refuse_symbols(layer: keras.layers.RNN) -> None:
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    if not tf.executing_eagerly():
        raise ValueError(
            f"The layer {layer.name!r} was called in a compiled `tf.function`, where there are no numbers: "
            "call `tf.config.run_functions_eagerly(True)` before."
        )


def _output_size(cell: Any) -> int:
    """As Keras finds it."""
    size = getattr(cell, "output_size", None)
    return size if size is not None else tree.flatten(cell.state_size)[0]
