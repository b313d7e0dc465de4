"""The best path through a conditional random field in ONNX: one loop forward and one back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from kerasrnn import layers
from kerasrnn.interop._onnx_ops import Source, Writer, onnx_type
from kerasrnn.interop._walk import replaced

Tensor = Any


@contextlib.contextmanager
def best_paths(all_layers: Sequence[Any]) -> Iterator[list[BestPath]]:
    """Within, each `CRF` leaves in the graph a place for its tags instead of searching for them."""
    paths: list[BestPath] = []

    def instead_of_call(layer: Any) -> Callable[..., Any]:
        def call(inputs: Tensor, mask: Tensor | None = None, marginals: bool = False) -> Tensor:
            if marginals:  # Of these ONNX export does not know the loop, and says so.
                return type(layer).call(layer, inputs, mask, marginals)
            paths.append(BestPath(layer.chain(inputs, mask)))
            return paths[-1].outputs[0]

        return call

    with replaced(
        [
            (layer, "call", instead_of_call(layer))
            for layer in all_layers
            if type(layer) is layers.CRF
        ]
    ):
        yield paths


class BestPath(Source):
    """The tags with the highest score, as `CRF` gives them (Viterbi 1967)."""

    def __init__(self, chain: Any) -> None:
        self.inputs = list(chain)
        self.outputs = [tf.compat.v1.placeholder(tf.int32, chain.mask.shape)]

    def write(self, writer: Writer, names: Sequence[str]) -> list[str]:
        w, (potentials, transitions, start, end, mask) = writer, names
        one, last = w.integers(1), w.integers(-1)
        till = w.add("CumSum", w.cast(mask, tf.int64), w.fixed(1, "int64"))
        is_first = w.add("Equal", till, one)  # Or a masked step after it, where nothing is read.
        masks = [w.add("Unsqueeze", x, last) for x in (mask, is_first)]

        one_step = w.add("Gather", potentials, w.fixed(0, "int64"), axis=1)

        # Forward: the best score of a path by the tag it ends in, and that tag's best origin.
        step = w.inner()
        before, x, counts, first = (step.name(n) for n in ("before", "x", "counts", "first"))
        extended = step.add("Add", step.add("Unsqueeze", before, last), transitions)
        entering = step.add("ReduceMax", extended, axes=[1], keepdims=0)
        total = step.add("Add", x, step.add("Where", first, start, entering))
        # From scores whose highest is 0, so that long sequences do not lose the small differences.
        total = step.add("Sub", total, step.add("ReduceMax", total, axes=[1], keepdims=1))
        kept = step.add("Where", counts, total, before)
        origin = step.add("ArgMax", extended, axis=1, keepdims=0)
        scores, origins = w.scan(
            step,
            [*_described(tf.float32, before, x), *_described(tf.bool, counts, first)],
            [*_described(tf.float32, kept), *_described(tf.int64, origin)],
            [w.add("Expand", w.fixed(0, "float32"), w.add("Shape", one_step))],
            [potentials, *masks],
        )

        # Back: from the best last tag to its origin, and from that to the one before.
        step = w.inner()
        tag, origin, counts = (step.name(n) for n in ("tag", "origin", "counts"))
        earlier = step.add("GatherElements", origin, tag, axis=1)
        kept, given = step.add("Where", counts, earlier, tag), step.add("Identity", tag)
        final = w.add("ArgMax", w.add("Add", scores, end), axis=1, keepdims=1)
        _, tags = w.scan(
            step,
            [*_described(tf.int64, tag, origin), *_described(tf.bool, counts)],
            _described(tf.int64, kept, given),
            [final],
            [origins, masks[0]],
            backwards=True,
            restored=True,
        )
        tags = w.cast(w.add("Squeeze", tags, last), tf.int32)
        return [w.add("Where", mask, tags, w.fixed(0, "int32"))]


def _described(dtype: Any, *names: str) -> list[Any]:
    from onnx import helper

    return [helper.make_tensor_value_info(name, onnx_type(dtype), (None, None)) for name in names]
