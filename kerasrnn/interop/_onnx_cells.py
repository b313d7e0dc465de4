"""The cells that ONNX has as operators of their own, and their weights in its layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import activations

from kerasrnn import cells
from kerasrnn.interop._columns import regate, weights_of


class Operator(NamedTuple):
    """An ONNX operator that runs a whole sequence.

    Attributes:
        kind: `"RNN"`, `"GRU"` or `"LSTM"`.
        attributes: Its attributes, but for the direction and its activations.
        functions: The names of its activations.
        weights: W `(1, gates * units, features)`, R `(1, gates * units, units)`, B
            `(1, 2 * gates * units)` and, where there are peepholes, P `(1, 3 * units)`.
    """

    kind: str
    attributes: dict[str, Any]
    functions: list[str]
    weights: list[np.ndarray]


LSTM = ("input", "forget", "candidate", "output")
# The operator, and the cell's gates by our names. Keras's GRU has one minus our update gate.
NATIVE: dict[type, tuple[str, tuple[str, ...]]] = {
    cells.SimpleRNNCell: ("RNN", ("candidate",)),
    cells.LSTMCell: ("LSTM", LSTM),
    cells.PeepholeLSTMCell: ("LSTM", LSTM),
    cells.CoupledLSTMCell: ("LSTM", ("forget", "candidate", "output")),
    cells.GRUCell: ("GRU", ("update", "reset", "candidate")),
    keras.layers.SimpleRNNCell: ("RNN", ("candidate",)),
    keras.layers.LSTMCell: ("LSTM", LSTM),
    keras.layers.GRUCell: ("GRU", ("-update", "reset", "candidate")),
}
# ONNX's orders: of W, R and B, and of P. Its GRU is Keras's.
ORDERS = {
    "RNN": (("candidate",), ()),
    "LSTM": (("input", "output", "forget", "candidate"), ("input", "output", "forget")),
    "GRU": (("-update", "reset", "candidate"), ()),
}
# With `input_forget` ONNX learns the input gate, one minus our forget gate. Its own blocks of the forget
# gate must be there but are not read: others fill their places.
COUPLED = (("-forget", "output", "output", "candidate"), ("-forget", "output", "output"))

FUNCTIONS = {activations.tanh: "Tanh", activations.sigmoid: "Sigmoid", activations.relu: "Relu"}


def operator_of(cell: Any) -> Operator | None:
    """The operator that does what a built cell does, if there is one."""
    # What is derived from a cell may have other equations.
    if type(cell) not in NATIVE:
        return None
    if getattr(cell, "layer_norm", False) or getattr(cell, "has_zoneout", False):
        return None
    kind, gates = NATIVE[type(cell)]
    is_coupled = isinstance(cell, cells.CoupledLSTMCell)
    order, peephole_order = COUPLED if is_coupled else ORDERS[kind]
    chosen = [cell.activation]
    if kind != "RNN":
        chosen.insert(0, cell.recurrent_activation)
    if kind == "LSTM":
        chosen.append(cell.activation)  # Of the memory cell on its way out.
    # One minus a gate is a gate of the same kind where the gate is a sigmoid.
    is_mirrored = {gate for gate in order if gate[0] == "-"} - set(gates)
    if any(function not in FUNCTIONS for function in chosen) or (
        is_mirrored and cell.recurrent_activation is not activations.sigmoid
    ):
        return None
    weights = weights_of(cell)

    def in_order(weight: np.ndarray) -> np.ndarray:
        return regate(weight, gates, order).T[None]

    nothing = np.zeros(len(gates) * cell.units, "float32")
    bias, recurrent_bias = weights.get("bias", nothing), weights.get("recurrent_bias", nothing)
    if bias.ndim == 2:  # Keras's GRU with `reset_after` has both in one.
        bias, recurrent_bias = bias
    given = [
        in_order(weights["kernel"]),
        in_order(weights["recurrent_kernel"]),
        np.concatenate([in_order(bias), in_order(recurrent_bias)], axis=1),
    ]
    if len(weights.get("peephole_kernel", ())):
        given.append(_peepholes(cell, weights["peephole_kernel"], peephole_order))
    attributes: dict[str, Any] = {"hidden_size": cell.units}
    if is_coupled:
        attributes["input_forget"] = 1
    if kind == "GRU":
        attributes["linear_before_reset"] = int(cell.reset_after)
    return Operator(kind, attributes, [FUNCTIONS[function] for function in chosen], given)


def _peepholes(cell: Any, kernel: np.ndarray, order: Sequence[str]) -> np.ndarray:
    """P: one row for each gate, zero where there is no peephole."""
    has = cell.peephole_gates
    has_not = [gate for gate in cell.gates if gate not in has]
    rows = np.concatenate([kernel.ravel(), np.zeros(len(has_not) * cell.units, "float32")])
    return regate(rows, [*has, *has_not], order)[None]
