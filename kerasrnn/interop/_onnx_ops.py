"""From the operations of a TensorFlow graph to those of ONNX, one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# Read by every runtime since 2022.
OPSET, IR_VERSION = 17, 8

TYPES = (tf.float32, tf.int32, tf.int64, tf.bool)


class Writer:
    """An ONNX graph in the making: nodes in their order, and what they read that is fixed.

    The bodies of loops are graphs within the graph (`inner`), which see what is around them: names are
    unique in all of them, and what is fixed is kept in the outermost.
    """

    def __init__(self, outer: Writer | None = None) -> None:
        self.nodes: list[Any] = []
        self._count: Iterable[int] = outer._count if outer else itertools.count()
        self._fixed: dict[Any, tuple[str, Any]] = outer._fixed if outer else {}
        self._read: set[str] = outer._read if outer else set()

    def inner(self) -> Writer:
        """The body of a loop."""
        return Writer(self)

    def name(self, hint: str) -> str:
        """A name that nothing else has."""
        return f"{hint}:{next(self._count)}"  # type: ignore[call-overload]

    def fixed(self, value: Any, dtype: Any = None, hint: str = "constant") -> str:
        """A constant or a weight; the same values lie in the file once."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._fixed:
            self._fixed[key] = self.name(hint), array
        return self._fixed[key][0]

    def integers(self, *values: int) -> str:
        """A vector of numbers, as ONNX takes axes, shapes and bounds."""
        return self.fixed(values, "int64")

    def add(
        self,
        kind: str,
        *inputs: str,
        results: int = 1,
        names: Sequence[str] = (),
        **attributes: Any,
    ) -> Any:
        """Add a node; gives the name of its result, or a list if there are several."""
        from onnx import helper

        names = names or [self.name(kind) for _ in range(results)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        self._read.update(inputs)
        return names if results > 1 else names[0]

    def cast(self, value: str, dtype: Any) -> str:
        return self.add("Cast", value, to=onnx_type(dtype))

    def reverse(self, value: str, *axes: int) -> str:
        """The value from its last entry to its first along these axes."""
        back, far = [-1] * len(axes), [np.iinfo("int64").min] * len(axes)
        return self.add("Slice", value, *(self.integers(*each) for each in (back, far, axes, back)))

    def scan(
        self,
        body: Writer,
        read: Sequence[Any],
        given: Sequence[Any],
        carried: Sequence[str],
        sequences: Sequence[str],
        *,
        backwards: bool = False,
        restored: bool = False,
    ) -> list[str]:
        """Run a body over the steps of sequences `(batch, time, ...)`, of which there is at least one.

        Args:
            body: What `inner` made, with the nodes of one step.
            read: ONNX's descriptions of what one step reads: what is carried, then the sequences' steps.
            given: Of what it gives: what is carried on, then the outputs.
            carried: What the first step reads of the former.
            sequences: The sequences.
            backwards: Whether the last step is the first.
            restored: Whether the outputs are in the order of time even then.

        Returns:
            What the last step carried on, then the outputs of all steps.
        """
        from onnx import helper

        outputs = len(given) - len(carried)
        attributes: dict[str, Any] = {
            "scan_input_axes": [1] * len(sequences),
            "scan_input_directions": [int(backwards)] * len(sequences),
            "scan_output_axes": [1] * outputs,
            "scan_output_directions": [int(restored)] * outputs,
        }
        results = self.add(
            "Scan",
            *carried,
            *sequences,
            results=len(given),
            body=helper.make_graph(body.nodes, "step", read, given),
            num_scan_inputs=len(sequences),
            # ONNX's helper cannot tell the type of an empty list.
            **{name: value for name, value in attributes.items() if value},
        )
        return [results] if isinstance(results, str) else results

    def initializers(self) -> list[Any]:
        """Everything fixed that some node reads."""
        from onnx import numpy_helper

        kept = (pair for pair in self._fixed.values() if pair[0] in self._read)
        return [numpy_helper.from_array(array, name) for name, array in kept]


def onnx_type(dtype: Any) -> int:
    """ONNX's number for a type of TensorFlow or NumPy."""
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(tf.as_dtype(dtype).as_numpy_dtype))


class UnknownOperationError(Exception):
    """An operation that has no counterpart here: it, what is wrong, and whose it is, if known."""

    def __init__(self, op: Any, reason: str, layer: Any = None) -> None:
        super().__init__(op, reason, layer)
        self.op, self.reason, self.layer = op, reason, layer


class Source:
    """What stands for several tensors of a graph at once: a whole recurrent layer."""

    inputs: Sequence[Any]
    outputs: Sequence[Any]

    def write(self, writer: Writer, names: Sequence[str]) -> Sequence[str]:
        """Add what computes `outputs`, from the names of `inputs`."""
        raise NotImplementedError


def translate(
    writer: Writer,
    function: Any,
    arguments: Sequence[str],
    sources: Iterable[Source] = (),
) -> list[str]:
    """Write what a concrete function computes; gives the names of its results.

    Args:
        writer: Where to write it.
        function: A concrete function of TensorFlow.
        arguments: The names of its arguments, in their order.
        sources: What computes the graph's further placeholders.

    Raises:
        UnknownOperationError: If there is an operation without a counterpart.
    """
    captured = function.inputs[len(arguments) :]
    known = {x.name: name for x, name in zip(function.inputs, arguments, strict=False)}
    variables = {id(variable.handle): variable for variable in function.variables}
    for inside, outside in zip(captured, function.captured_inputs, strict=True):
        value = variables.get(id(outside), outside)
        if value is outside and inside.dtype == tf.resource:
            known[inside.name] = ""  # A table of words, say: what reads it has no counterpart.
        else:
            hint = getattr(value, "path", "constant")
            known[inside.name] = writer.fixed(value.numpy(), hint=hint)
    of = {output.name: source for source in sources for output in source.outputs}
    # From the results to what they need, without recursion: a chain of operations may be long.
    waiting = list(function.outputs)
    while waiting:
        tensor = waiting[-1]
        source = of.get(tensor.name, tensor.op)
        if tensor.name in known:
            waiting.pop()
        elif missing := [x for x in source.inputs if x.name not in known]:
            waiting += missing
        else:
            names = [known[x.name] for x in source.inputs]
            if isinstance(source, Source):
                written = source.write(writer, names)
            else:
                written = _written(writer, source, names)
            known.update(zip([x.name for x in source.outputs], written, strict=True))
    return [known[x.name] for x in function.outputs]


def _written(writer: Writer, op: Any, names: Sequence[str]) -> Sequence[str]:
    """The names of an operation's results."""
    if op.type not in _SAME and op.type not in _RULES:
        raise UnknownOperationError(op, "has no counterpart")
    for output in op.outputs:
        if output.dtype not in TYPES:
            raise UnknownOperationError(op, f"gives {output.dtype.name}")
    if op.type in _SAME:
        return [writer.add(_SAME[op.type], *names)]
    result = _RULES[op.type](writer, op, *names)
    return [result] if isinstance(result, str) else result


# Operations that ONNX has as they are.
_SAME = {
    **{name: name for name in ("Abs", "Add", "Elu", "Equal", "Erf", "Exp", "Floor", "Greater")},
    **{name: name for name in ("Identity", "Less", "Log", "LogSoftmax", "Mul", "Neg", "Pow")},
    **{name: name for name in ("Range", "Relu", "Selu", "Sigmoid", "Sign", "Softmax", "Softplus")},
    **{name: name for name in ("Softsign", "Sqrt", "Sub", "Tanh")},
    "AddV2": "Add",
    "EnsureShape": "Identity",
    "GatherNd": "GatherND",
    "GreaterEqual": "GreaterOrEqual",
    "LessEqual": "LessOrEqual",
    "LogicalAnd": "And",
    "LogicalNot": "Not",
    "LogicalOr": "Or",
    "Maximum": "Max",
    "Minimum": "Min",
    "ReadVariableOp": "Identity",
    "RealDiv": "Div",
    "SelectV2": "Where",
    "StopGradient": "Identity",
}

Rule = Callable[..., Any]
_RULES: dict[str, Rule] = {}


def _rule(*types: str) -> Callable[[Rule], Rule]:
    """A rule takes the writer, the operation and the names of its inputs, and gives its results'."""

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(types, rule))
        return rule

    return register


def _static(op: Any, place: int) -> Any:
    """An input that must be known before the model runs, such as an axis."""
    value = tf.get_static_value(op.inputs[place])
    if value is None:
        raise UnknownOperationError(op, f"has an input {place} that only the data decide")
    return value


def _axes(op: Any, place: int) -> list[int]:
    return [int(axis) for axis in np.ravel(_static(op, place))]


@_rule("Const")
def _const(w: Writer, op: Any) -> str:
    return w.fixed(tf.make_ndarray(op.get_attr("value")))


@_rule("IdentityN")
def _identities(w: Writer, op: Any, *values: str) -> Sequence[str]:
    return values


# Arithmetic.


@_rule("Square")
def _square(w: Writer, op: Any, x: str) -> str:
    return w.add("Mul", x, x)


@_rule("SquaredDifference")
def _squared_difference(w: Writer, op: Any, x: str, y: str) -> str:
    return _square(w, op, w.add("Sub", x, y))


@_rule("Rsqrt")
def _rsqrt(w: Writer, op: Any, x: str) -> str:
    return w.add("Reciprocal", w.add("Sqrt", x))


@_rule("Erfc")
def _erfc(w: Writer, op: Any, x: str) -> str:
    return w.add("Sub", w.fixed(1, "float32"), w.add("Erf", x))


@_rule("Relu6")
def _relu6(w: Writer, op: Any, x: str) -> str:
    return w.add("Clip", x, w.fixed(0, "float32"), w.fixed(6, "float32"))


@_rule("LeakyRelu")
def _leaky_relu(w: Writer, op: Any, x: str) -> str:
    return w.add("LeakyRelu", x, alpha=op.get_attr("alpha"))


@_rule("NotEqual")
def _not_equal(w: Writer, op: Any, x: str, y: str) -> str:
    return w.add("Not", w.add("Equal", x, y))


@_rule("BiasAdd")
def _bias_add(w: Writer, op: Any, x: str, bias: str) -> str:
    if op.get_attr("data_format") != b"NHWC":
        raise UnknownOperationError(op, "has its channels first")
    return w.add("Add", x, bias)


@_rule("MatMul", "BatchMatMulV2")
def _mat_mul(w: Writer, op: Any, *factors: str) -> str:
    flags = ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
    turned = []
    for flag, name, tensor in zip(flags, factors, op.inputs, strict=True):
        rank = len(tensor.shape)
        perm = [*range(rank - 2), rank - 1, rank - 2]
        turned.append(w.add("Transpose", name, perm=perm) if op.get_attr(flag) else name)
    return w.add("MatMul", *turned)


@_rule("Einsum")
def _einsum(w: Writer, op: Any, *factors: str) -> str:
    return w.add("Einsum", *factors, equation=op.get_attr("equation").decode())


@_rule("Cast")
def _cast(w: Writer, op: Any, x: str) -> str:
    return w.cast(x, op.outputs[0].dtype)


@_rule("Cumsum")
def _cumsum(w: Writer, op: Any, x: str, axis: str) -> str:
    exclusive, reverse = (int(op.get_attr(name)) for name in ("exclusive", "reverse"))
    return w.add("CumSum", x, axis, exclusive=exclusive, reverse=reverse)


@_rule("Sum", "Mean", "Max", "Min", "Prod", "All", "Any")
def _reduce(w: Writer, op: Any, x: str, _: str) -> str:
    axes, keepdims = _axes(op, 1), int(op.get_attr("keep_dims"))
    if not axes:
        return w.add("Identity", x)
    if op.type == "Sum":  # The one that takes its axes as an input.
        return w.add("ReduceSum", x, w.integers(*axes), keepdims=keepdims)
    kind = {"All": "Min", "Any": "Max"}.get(op.type)
    if kind is None:
        return w.add(f"Reduce{op.type}", x, axes=axes, keepdims=keepdims)
    counted = w.add(f"Reduce{kind}", w.cast(x, tf.int32), axes=axes, keepdims=keepdims)
    return w.cast(counted, tf.bool)


# Shapes.


@_rule("Shape")
def _shape(w: Writer, op: Any, x: str) -> str:
    return w.cast(w.add("Shape", x), op.outputs[0].dtype)


@_rule("Reshape")
def _reshape(w: Writer, op: Any, x: str, shape: str) -> str:
    return w.add("Reshape", x, w.cast(shape, tf.int64), allowzero=1)


@_rule("Transpose")
def _transpose(w: Writer, op: Any, x: str, _: str) -> str:
    return w.add("Transpose", x, perm=_axes(op, 1))


@_rule("ExpandDims")
def _expand_dims(w: Writer, op: Any, x: str, _: str) -> str:
    return w.add("Unsqueeze", x, w.integers(*_axes(op, 1)))


@_rule("Squeeze")
def _squeeze(w: Writer, op: Any, x: str) -> str:
    ones = [axis for axis, size in enumerate(op.inputs[0].shape) if size == 1]
    return w.add("Squeeze", x, w.integers(*(op.get_attr("squeeze_dims") or ones)))


@_rule("Fill")
def _fill(w: Writer, op: Any, shape: str, value: str) -> str:
    return w.add("Expand", value, w.cast(shape, tf.int64))


@_rule("BroadcastTo")
def _broadcast_to(w: Writer, op: Any, x: str, shape: str) -> str:
    return _fill(w, op, shape, x)


@_rule("ZerosLike", "OnesLike")
def _like(w: Writer, op: Any, x: str) -> str:
    value = w.fixed(op.type == "OnesLike", op.outputs[0].dtype.as_numpy_dtype)
    return w.add("Expand", value, w.add("Shape", x))


@_rule("Tile")
def _tile(w: Writer, op: Any, x: str, repeats: str) -> str:
    return w.add("Tile", x, w.cast(repeats, tf.int64))


@_rule("Pad", "PadV2")
def _pad(w: Writer, op: Any, x: str, pads: str, *value: str) -> str:
    # TensorFlow gives before and after for each axis; ONNX wants all befores, then all afters.
    by_side = w.add("Transpose", w.cast(pads, tf.int64), perm=[1, 0])
    return w.add("Pad", x, w.add("Reshape", by_side, w.integers(-1)), *value)


# Parts.


@_rule("ConcatV2")
def _concat(w: Writer, op: Any, *values: str) -> str:
    return w.add("Concat", *values[:-1], axis=int(_static(op, len(values) - 1)))


@_rule("Pack")
def _pack(w: Writer, op: Any, *values: str) -> str:
    axis = op.get_attr("axis")
    if axis < 0:
        axis += len(op.outputs[0].shape)
    wide = [w.add("Unsqueeze", value, w.integers(axis)) for value in values]
    return w.add("Concat", *wide, axis=axis)


@_rule("Unpack")
def _unpack(w: Writer, op: Any, x: str) -> list[str]:
    axis, count = op.get_attr("axis"), len(op.outputs)
    parts = _cut(w, x, axis, [1] * count)
    return [w.add("Squeeze", part, w.integers(axis)) for part in parts]


@_rule("Split")
def _split(w: Writer, op: Any, _: str, x: str) -> list[str]:
    axis, count = int(_static(op, 0)), len(op.outputs)
    size = op.outputs[0].shape[axis]
    if size is None:
        raise UnknownOperationError(op, "cuts along a dimension that only the data decide")
    return _cut(w, x, axis, [size] * count)


@_rule("SplitV")
def _split_v(w: Writer, op: Any, x: str, *_: str) -> list[str]:
    return _cut(
        w, x, int(_static(op, 2)), [output.shape[int(_static(op, 2))] for output in op.outputs]
    )


def _cut(w: Writer, x: str, axis: int, sizes: list[int]) -> list[str]:
    made = w.add("Split", x, w.integers(*sizes), results=len(sizes), axis=axis)
    return [made] if isinstance(made, str) else made


@_rule("GatherV2", "ResourceGather")
def _gather(w: Writer, op: Any, x: str, indices: str, *_: str) -> str:
    if op.get_attr("batch_dims"):
        raise UnknownOperationError(op, "has batch dimensions")
    return w.add("Gather", x, indices, axis=int(_static(op, 2)) if len(op.inputs) > 2 else 0)


@_rule("ReverseV2")
def _reverse(w: Writer, op: Any, x: str, _: str) -> str:
    return w.reverse(x, *_axes(op, 1))


@_rule("StridedSlice")
def _strided_slice(w: Writer, op: Any, x: str, *_: str) -> str:
    """`x[begin:end:stride, 0, ..., None]`: a slice, then the axes that go, then those that come."""
    masks = {
        n: op.get_attr(f"{n}_mask") for n in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    bounds = list(zip(*(_axes(op, place) for place in (1, 2, 3)), strict=True))
    has = {name: [bool(mask >> i & 1) for i in range(len(bounds))] for name, mask in masks.items()}
    far = np.iinfo("int64")
    slices: list[tuple[int, int, int, int]] = []
    gone: list[int] = []
    come: list[int] = []
    axis = place = 0  # Of the input, and of the result with the axes that go still there.
    for i, (begin, end, stride) in enumerate(bounds):
        if has["ellipsis"][i]:
            later = sum(not new for new in has["new_axis"][i + 1 :])
            skipped = len(op.inputs[0].shape) - later - axis
            axis, place = axis + skipped, place + skipped
        elif has["new_axis"][i]:
            come.append(place - len(gone))
            place += 1
        else:
            if has["shrink_axis"][i]:
                gone.append(axis)
                slices.append((begin, begin + 1 if begin != -1 else far.max, axis, 1))
            else:
                if has["begin"][i]:
                    begin = 0 if stride > 0 else far.max
                if has["end"][i]:
                    end = far.max if stride > 0 else far.min
                slices.append((begin, end, axis, stride))
            axis, place = axis + 1, place + 1
    slices = [each for each in slices if (each[0], each[1], each[3]) != (0, far.max, 1)]
    if slices:
        x = w.add("Slice", x, *(w.integers(*column) for column in zip(*slices, strict=True)))
    if gone:
        x = w.add("Squeeze", x, w.integers(*gone))
    return w.add("Unsqueeze", x, w.integers(*come)) if come else w.add("Identity", x)
