"""Models as ONNX files."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from kerasrnn import cells
from kerasrnn._files import written_whole
from kerasrnn.interop._onnx_cells import operator_of
from kerasrnn.interop._onnx_crf import best_paths
from kerasrnn.interop._onnx_ops import (
    IR_VERSION,
    OPSET,
    Source,
    UnknownOperationError,
    Writer,
    onnx_type,
    translate,
)
from kerasrnn.interop._walk import (
    check_model,
    in_its_form,
    output_names,
    replaced,
    why_not_loop,
)

Tensor = Any


def to_onnx(model: Any, path: str | Path) -> Path:
    """Write a model as an ONNX file, which runs without Keras and TensorFlow.

    What the model does at inference is traced, and each operation written as one of ONNX's. Of recurrent
    layers LSTM, PeepholeLSTM, CoupledLSTM, GRU and SimpleRNN, of this package or of Keras, become the
    ONNX operators `LSTM`, `GRU` and `RNN`, if their activations are among tanh, sigmoid and relu;
    two in a `keras.layers.Bidirectional` become one bidirectional operator. Any other cell becomes a
    `Scan`, whose body is the cell's step; a `CRF` becomes two, for the scores and for the tags. Masks
    mean what they mean here, whatever their pattern: an operator gets the steps that count, and their
    number as its `sequence_lens`.

    Args:
        model: A functional or Sequential model, in float32. Stateful layers, recurrent layers with an
            `inner_loop` or a `call` of their own, and layers that use operations which ONNX export does
            not know, such as the lookup of strings, are refused.
        path: The file. It is written beside its place and renamed, so it is whole or absent.

    Returns:
        The path. The file's inputs and outputs have the names of the model's; the batch and every other
        dimension that is None there are dynamic. A sequence has at least one step.

    Raises:
        ImportError: If the package `onnx` is missing.
        ValueError: If the model cannot be exported; the message names the layer and what to do.
        OSError: If the file cannot be written. What was there before is there still.

    Example:

    >>> import keras, kerasrnn, os, tempfile
    >>> words = keras.Input((None,), dtype="int32", name="words")
    >>> x = keras.layers.Embedding(9, 2, mask_zero=True)(words)
    >>> model = keras.Model(words, kerasrnn.layers.PeepholeLSTM(3, name="read")(x))
    >>> path = kerasrnn.interop.to_onnx(model, os.path.join(tempfile.mkdtemp(), "model.onnx"))
    >>> import onnx
    >>> graph = onnx.load(path).graph
    >>> [each.name for each in (*graph.input, *graph.output)]
    ['words', 'read']
    """
    if importlib.util.find_spec("onnx") is None:
        raise ImportError("`to_onnx` needs the package onnx: pip install kerasrnn[onnx]")
    _check(model)
    written, path = _model_proto(model), Path(path)
    with written_whole(path) as beside:
        beside.write_bytes(written.SerializeToString())
    return path


def _check(model: Any) -> None:
    check_model(model, "to_onnx")
    for layer in _layers(model):
        is_rnn = isinstance(layer, keras.layers.RNN)
        if is_rnn and (reason := why_not_loop(layer)):
            raise ValueError(
                f"`model` holds the layer {layer.name!r} ({type(layer).__name__}), which ONNX export does "
                f"not know: {reason}."
            )
        if is_rnn and layer.stateful:
            raise ValueError(
                f"`model` holds the stateful layer {layer.name!r}, and an ONNX file keeps nothing "
                "between calls: make the states inputs and outputs of the model instead, by "
                "`initial_state` and `return_state=True`."
            )
        if layer.weights and layer.compute_dtype != "float32":
            raise ValueError(
                f"`model` holds the layer {layer.name!r}, which computes in {layer.compute_dtype}, and "
                'ONNX export knows float32 only: build the model with dtype="float32" and give it '
                "these weights."
            )


def _model_proto(model: Any) -> Any:
    """The whole file, as `onnx.load` would give it, checked."""
    import onnx
    from onnx import helper

    tensors = model.inputs
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in tensors]

    def call(*inputs: Tensor) -> list[Tensor]:
        return tree.flatten(model(in_its_form(model, inputs), training=False))

    with _recorded(_layers(model)) as runs, best_paths(_layers(model)) as paths:
        function = tf.function(call, autograph=False).get_concrete_function(*specs)
    names = [x.name for x in tensors]
    writer = Writer()
    sources = [*_sources(_layers(model), runs), *paths]
    try:
        results = translate(writer, function, names, sources)
    except UnknownOperationError as error:
        raise ValueError(_refusal(model, error)) from None
    outputs = output_names(model, names)
    for result, output in zip(results, outputs, strict=True):
        writer.add("Identity", result, names=[output])
    graph = helper.make_graph(
        writer.nodes,
        "model",
        [_described(name, x.dtype, x.shape) for name, x in zip(names, tensors, strict=True)],
        [
            _described(name, x.dtype, x.shape)
            for name, x in zip(outputs, function.outputs, strict=True)
        ],
        writer.initializers(),
    )
    opsets = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="kerasrnn"
    )
    onnx.checker.check_model(made)
    return made


def _described(name: str, dtype: Any, shape: Sequence[int | None]) -> Any:
    from onnx import helper

    sizes = [
        size if size is not None else "batch" if axis == 0 else f"{name}_{axis}"
        for axis, size in enumerate(shape)
    ]
    return helper.make_tensor_value_info(name, onnx_type(dtype), sizes)


def _layers(model: Any) -> list[Any]:
    """All layers, however deep they lie within others."""
    return model._flatten_layers(include_self=False)


def _refusal(model: Any, error: UnknownOperationError) -> str:
    """What to say of an operation: whose it is, and what to do about it."""
    named = set(error.op.name.split("/"))
    # A second call in one trace, or one of a name in use, has a number after the name.
    named |= {part.rpartition("_")[0] for part in named}
    owners = [error.layer, *reversed([layer for layer in _layers(model) if layer.name in named])]
    owner = next((layer for layer in owners if layer is not None), None)
    whose = (
        f"the layer {owner.name!r} ({type(owner).__name__})"
        if owner
        else "an operation outside of its layers"
    )
    return (
        f"`model` holds {whose}, which ONNX export does not know: the operation {error.op.type} "
        f"({error.op.name}) {error.reason}. Export the model up to there, "
        "`keras.Model(model.inputs, what_the_layer_reads)`, and compute the rest outside."
    )


# Recurrent layers.


class Run:
    """A recurrent layer at work: what it reads, and what it gives, as places in the graph.

    It gives `last`, the last output `(batch, units)`, `every`, all outputs `(batch, time, units)`, and
    the `final` states.
    """

    def __init__(self, layer: Any, x: Tensor, states: list[Tensor], mask: Tensor | None) -> None:
        self.layer, self.states = layer, states
        with tf.init_scope():  # The weights have values outside of the graph only.
            self.operator = operator_of(layer.cell)
        self.mask = mask if mask is None else tf.cast(mask, "bool")
        size = layer.compute_output_shape(x.shape)
        units = (size[0] if layer.return_state else size)[-1]
        if self.operator is None and isinstance(layer.cell, cells.Cell):
            layer.cell.set_training(False)
            x = layer.cell.prepare(x)  # Of all steps at once, outside the loop.
        self.x = x
        place = tf.compat.v1.placeholder
        self.last = place(x.dtype, (x.shape[0], units))
        self.every = place(x.dtype, (x.shape[0], x.shape[1], units))
        self.final = [place(state.dtype, state.shape) for state in states]

    @property
    def read(self) -> list[Tensor]:
        return [self.x, *([] if self.mask is None else [self.mask])]

    @property
    def given(self) -> list[Tensor]:
        return [self.last, self.every, *self.final]

    def last_counts(self, writer: Writer, mask: str) -> str:
        """Whether a row's last step, in the order of the run, counts: `(batch, 1)`."""
        place = 0 if self.layer.go_backwards else -1
        return writer.add("Gather", mask, writer.integers(place), axis=1)


@contextlib.contextmanager
def _recorded(layers: Sequence[Any]) -> Iterator[list[Run]]:
    """Within, recurrent layers do not run, but leave in the graph a place for what they give."""
    runs: list[Run] = []

    def instead_of_loop(layer: Any) -> Callable[..., Any]:
        def inner_loop(
            sequences: Tensor, initial_state: Any, mask: Any = None, training: bool = False
        ) -> Any:
            mask = mask[0] if isinstance(mask, (list, tuple)) else mask
            runs.append(Run(layer, sequences, tree.flatten(initial_state), mask))
            run = runs[-1]
            return run.last, run.every, tree.pack_sequence_as(initial_state, run.final)

        return inner_loop

    def instead_of_steps(layer: Any) -> Callable[..., Any]:
        # Keras maps the inner layer over the steps by a loop; as one large batch it does the same.
        def call(inputs: Tensor, training: Any = None, mask: Tensor | None = None) -> Tensor:
            def merged(x: Tensor) -> Tensor:
                return tf.reshape(x, [-1, *_sizes(x)[2:]])

            takes_mask = mask is not None and layer.layer._call_has_mask_arg
            output = layer.layer.call(
                merged(inputs), **({"mask": merged(mask)} if takes_mask else {})
            )
            return tf.reshape(output, [*_sizes(inputs)[:2], *_sizes(output)[1:]])

        return call

    changed = [
        (layer, "inner_loop", instead_of_loop(layer))
        for layer in layers
        if isinstance(layer, keras.layers.RNN)
    ]
    changed += [
        (layer, "call", instead_of_steps(layer))
        for layer in layers
        if type(layer) is keras.layers.TimeDistributed
    ]
    with replaced(changed):
        yield runs


def _sizes(x: Tensor) -> list[Any]:
    """The shape, with a tensor where a size is not known."""
    dynamic = tf.shape(x)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(x.shape)]


def _sources(layers: Sequence[Any], runs: Sequence[Run]) -> list[Source]:
    """What computes the runs; two that are the directions of one layer are one operator."""

    def alike(one: Run, other: Run) -> bool:
        shapes = [[x.shape for x in run.operator.weights] for run in (one, other) if run.operator]
        return (
            len(shapes) == 2
            and shapes[0] == shapes[1]
            and one.operator[:2] == other.operator[:2]  # type: ignore[index]
            and one.layer.go_backwards != other.layer.go_backwards
        )

    groups = {id(run): [run] for run in runs}
    for layer in layers:
        if not isinstance(layer, keras.layers.Bidirectional):
            continue
        sides = [
            [run for run in runs if run.layer is side]
            for side in (layer.forward_layer, layer.backward_layer)
        ]
        for pair in zip(*sides, strict=True):
            if alike(*pair):
                first, second = sorted(pair, key=lambda run: run.layer.go_backwards)
                groups[id(first)].append(second)
                del groups[id(second)]
    return [_Native(group) if group[0].operator else _Scan(group[0]) for group in groups.values()]


class _Native(Source):
    """One operator that runs a layer, or the two directions of one."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        # The directions of one layer read the same.
        self.inputs = [*runs[0].read, *(state for run in runs for state in run.states)]
        self.outputs = [x for run in runs for x in run.given]

    def write(self, writer: Writer, names: Sequence[str]) -> list[str]:
        w, first = writer, self.runs[0]
        operators = [run.operator for run in self.runs if run.operator]
        x, *states = names
        mask = states.pop(0) if first.mask is not None else None
        count = len(first.states)
        starts = [states[i : i + count] for i in range(0, len(states), count)]
        steps = None if mask is None else _Steps(w, mask)
        if steps:
            x = steps.packed(x)
        # W, R and B, and, after the states, P: one block for each direction.
        weights = [
            w.fixed(np.concatenate(blocks), hint=f"{first.layer.name}/weights")
            for blocks in zip(*(operator.weights for operator in operators), strict=True)
        ]
        initial = [
            w.add("Concat", *(w.add("Unsqueeze", s, w.integers(0)) for s in kind), axis=0)
            for kind in zip(*starts, strict=True)
        ]
        direction = "reverse" if first.layer.go_backwards else "forward"
        outputs, *final = w.add(
            operators[0].kind,
            w.add("Transpose", x, perm=[1, 0, 2]),
            *weights[:3],
            w.cast(steps.lengths, tf.int32) if steps else "",
            *initial,
            *weights[3:],
            results=1 + count,
            direction=direction if len(self.runs) == 1 else "bidirectional",
            activations=[name for operator in operators for name in operator.functions],
            **operators[0].attributes,
        )
        given: list[str] = []
        for number, (run, start) in enumerate(zip(self.runs, starts, strict=True)):
            own = w.fixed(number, "int64")
            ends = [w.add("Gather", state, own, axis=0) for state in final]
            last, every = ends[0], ""
            if run.layer.return_sequences:
                every = w.add("Gather", outputs, own, axis=1)
                every = w.add("Transpose", every, perm=[1, 0, 2])
                if steps:
                    every = steps.spread(every, run.layer)
                if run.layer.go_backwards:
                    every = w.reverse(every, 1)
            if steps:
                # Of an empty row runtimes give zeros, or what happens to be there.
                ends = [w.add("Where", steps.any, *pair) for pair in zip(ends, start, strict=True)]
                counts = steps.any
                if run.layer.zero_output_for_mask:
                    counts = run.last_counts(w, steps.mask)
                last = w.add("Where", counts, last, w.fixed(0, "float32"))
            given += [last, every, *ends]
        return given


class _Steps:
    """The steps that count, packed together at the front, so that any mask is a length."""

    def __init__(self, writer: Writer, mask: str) -> None:
        w = self.writer = writer
        self.mask = mask
        self.counted = w.cast(mask, tf.int64)
        self.lengths = w.add("ReduceSum", self.counted, w.integers(1), keepdims=0)
        self.length = w.add("Unsqueeze", self.lengths, w.integers(1))
        self.any = w.add("Greater", self.length, w.fixed(0, "int64"))

    def packed(self, x: str) -> str:
        """`x` with the steps that count first, in their order, and then the others."""
        w = self.writer
        time = w.add("Shape", self.mask, start=1, end=2)
        zero, one = w.fixed(0, "int64"), w.fixed(1, "int64")
        place = w.add("Range", zero, w.add("Squeeze", time), one)
        # The others come `time` later than they would.
        later = w.add("Mul", w.add("Sub", one, self.counted), time)
        order = w.add("TopK", w.add("Add", place, later), time, largest=0, axis=1, results=2)[1]
        return self._taken(x, order)

    def spread(self, outputs: str, layer: Any) -> str:
        """All outputs, in the order of time: at each step that of the last that counted till then."""
        w, one, zero = self.writer, self.writer.fixed(1, "int64"), self.writer.fixed(0, "int64")
        back = layer.go_backwards
        till = w.add("CumSum", self.counted, w.fixed(1, "int64"), reverse=int(back))
        at_least_one = w.add("Max", till, one)
        place = w.add("Sub", *((self.length, at_least_one) if back else (at_least_one, one)))
        every = self._taken(outputs, w.add("Max", place, zero))
        counts = self.mask if layer.zero_output_for_mask else w.add("Greater", till, zero)
        counts = w.add("Unsqueeze", counts, w.integers(2))
        return w.add("Where", counts, every, w.fixed(0, "float32"))

    def _taken(self, x: str, order: str) -> str:
        w = self.writer
        return w.add("GatherND", x, w.add("Unsqueeze", order, w.integers(2)), batch_dims=1)


class _Scan(Source):
    """A loop over time whose body is the step of any cell."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.inputs, self.outputs = [*run.read, *run.states], run.given

    def write(self, writer: Writer, names: Sequence[str]) -> list[str]:
        from onnx import helper

        w, run, layer = writer, self.run, self.run.layer
        sequences, states = list(names[: len(run.read)]), names[len(run.read) :]
        # What is carried: the output, which a masked step repeats, and the states.
        batch = w.add("Shape", sequences[0], start=0, end=1)
        size = w.add("Concat", batch, w.integers(run.last.shape[1]), axis=0)
        carried = [w.add("Expand", w.fixed(0, "float32"), size), *states]
        inner = w.inner()
        old = [inner.name("before") for _ in carried]
        step = [inner.name("step") for _ in sequences]
        try:
            new = translate(inner, self._step(), [step[0], *old[1:]])
        except UnknownOperationError as error:
            reason = f"in the step of its cell {type(layer.cell).__name__} {error.reason}"
            raise UnknownOperationError(error.op, reason, layer) from None
        if run.mask is not None:
            counts = inner.add("Unsqueeze", step[1], w.integers(1))
            otherwise = list(old)
            if layer.zero_output_for_mask:
                otherwise[0] = w.fixed(0, "float32")
            new = [inner.add("Where", counts, *p) for p in zip(new, otherwise, strict=True)]
        # By names of their own: a state may be an output too, or what it was before.
        kept = [inner.add("Identity", value) for value in [*new, *new[: layer.return_sequences]]]
        tensors = [run.last, *run.final]

        def described(names: Sequence[str], tensors: Sequence[Tensor]) -> list[Any]:
            return [
                helper.make_tensor_value_info(name, onnx_type(x.dtype), [None, *x.shape[1:]])
                for name, x in zip(names, tensors, strict=True)
            ]

        one_step = [tf.TensorSpec((None, *x.shape[2:]), x.dtype) for x in run.read]
        every = layer.return_sequences
        last, *final = w.scan(
            inner,
            [*described(old, tensors), *described(step, one_step)],
            described(kept, [*tensors, *tensors[:every]]),
            carried,
            sequences,
            backwards=layer.go_backwards,
        )
        final, outputs = (final[:-1], final[-1]) if every else (final, "")
        return [last, outputs, *final]

    def _step(self) -> Any:
        """One step of the cell as a concrete function."""
        layer, cell = self.run.layer, self.run.layer.cell

        def step(x: Tensor, *states: Tensor) -> list[Tensor]:
            if isinstance(cell, cells.Cell):
                done = cell.advance(x, states)
                return [done.output, *done.states]
            output, new = cell(x, tree.pack_sequence_as(layer.state_size, list(states)))
            return [output, *tree.flatten(new)]

        one_step = (self.run.x, *self.run.states)
        shapes = [(None, *one_step[0].shape[2:]), *((None, *x.shape[1:]) for x in one_step[1:])]
        specs = [tf.TensorSpec(s, x.dtype) for s, x in zip(shapes, one_step, strict=True)]
        return tf.function(step, autograph=False).get_concrete_function(*specs)
