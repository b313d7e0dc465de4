"""cuDNN, and PyTorch's own recurrences: whole sequences of the cells that these libraries know as well.

Both take the same weights in the same order, so one description of a cell serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from kerasrnn import _keras, cells

Tensor = Any


class Form(NamedTuple):
    """What a cell is to the libraries.

    Attributes:
        mode: Their name of it.
        gates: Their gates, by our names. One with a sign, as in `"-update"`, is one minus ours: since
            sigmoid(-x) = 1 - sigmoid(x), that is ours with its weights negated.
    """

    mode: str
    gates: tuple[str, ...]


_LSTM = Form("lstm", ("input", "forget", "candidate", "output"))
FORMS: dict[type[cells.Cell], Form] = {
    cells.SimpleRNNCell: Form("rnn_tanh", ("candidate",)),
    cells.LSTMCell: _LSTM,
    cells.PeepholeLSTMCell: _LSTM,
    # Its input gate is what its forget gate leaves.
    cells.CoupledLSTMCell: Form("lstm", ("-forget", "forget", "candidate", "output")),
    # The libraries' GRU keeps the old state where its update gate is 1.
    cells.GRUCell: Form("gru", ("reset", "-update", "candidate")),
}


def form_of(cell: Any) -> Form | None:
    """The form in which the libraries know a cell, with its options; nothing if they do not."""
    form = FORMS.get(type(cell))
    known = (
        form is not None
        and cell.is_bare
        and cell.squashes_as_usual
        and not getattr(cell, "peephole_gates", ())
        and getattr(cell, "reset_after", True)
        and not (cell.recurrent_dropout and cell.recurrent_dropout_form == "state")
    )
    return form if known else None


def regated(weight: Any, have: Sequence[str], want: Sequence[str]) -> list[Any]:
    """The columns of a weight, gate by gate, in another order of the gates, and with other signs."""
    units = weight.shape[-1] // len(have)
    blocks = {gate: weight[..., n * units : (n + 1) * units] for n, gate in enumerate(have)}
    return [blocks[gate] if gate in blocks else -blocks[_opposite(gate)] for gate in want]


def _opposite(gate: str) -> str:
    return gate[1:] if gate.startswith("-") else "-" + gate


def serves(cell: Any) -> bool:
    """Whether a library is here that runs the cell: PyTorch itself, or cuDNN beneath TensorFlow."""
    if form_of(cell) is None:
        return False
    if keras.backend.backend() == "torch":
        return True
    return keras.backend.backend() == "tensorflow" and _keras.has_cudnn()


def run(
    cell: cells.Cell, sequences: Tensor, states: list[Tensor], mask: Tensor | None, left: bool
) -> tuple[Tensor, list[Tensor]]:
    """The states after every step, of which the first is the output, and after the last one.

    Args:
        cell: A cell that has a form.
        sequences: `(batch, time, features)`, of which `can_run` holds.
        states: The states before the first step, `(batch, units)` each.
        mask: Boolean `(batch, time)`, of which `can_run` holds, or nothing.
        left: Whether the padding is on the left.
    """
    form, dtype, time = form_of(cell), sequences.dtype, ops.shape(sequences)[1]
    assert form is not None
    states = [ops.cast(state, dtype) for state in states]
    lengths = counts = None
    if mask is not None:
        counts = ops.sum(ops.cast(mask, "int32"), axis=1)
        lengths = ops.maximum(counts, 1)  # cuDNN wants a step of every sequence.
        if left:
            sequences = _rolled(sequences, counts - time)
    if keras.backend.backend() == "torch":
        from kerasrnn.layers._torch import whole_sequence
    else:
        from kerasrnn.fast import cudnn as whole_sequence
    outputs, final = whole_sequence(
        form.mode, sequences, states, _flat_weights(cell, form, dtype), lengths
    )
    if counts is None:
        return outputs, final
    final = [
        ops.where(counts[:, None] > 0, new, old) for new, old in zip(final, states, strict=True)
    ]
    counting = ops.arange(time)[None, :, None] < counts[:, None, None]
    outputs = ops.where(counting, outputs, final[0][:, None])
    return _rolled(outputs, time - counts) if left else outputs, final


def can_run(sequences: Tensor, mask: Tensor | None, left: bool) -> Tensor:
    """Whether `run` takes these: a step and a sequence at least, and no hole in the mask. Boolean."""
    batch, time = ops.shape(sequences)[:2]
    some = ops.logical_and(batch > 0, time > 0)
    if mask is None:
        return some
    inner, outer = (mask[:, 1:], mask[:, :-1]) if left else (mask[:, :-1], mask[:, 1:])
    holes = ops.any(ops.logical_and(outer, ops.logical_not(inner)))
    return ops.logical_and(some, ops.logical_not(holes))


def can_begin(sequences: Tensor, mask: Tensor | None) -> bool:
    """Whether there are values for which to ask `can_run` now, and it holds; or it can be asked later."""
    if keras.backend.backend() == "tensorflow":
        return True
    # Where Keras wants to know shapes alone, a mask cannot be looked into.
    return sequences.device.type != "meta" and bool(can_run(sequences, mask, left=False))


def _rolled(x: Tensor, by: Tensor) -> Tensor:
    """Each of `(batch, time, size)` moved along by a number of steps of its own, around the end."""
    time = ops.shape(x)[1]
    steps = (ops.arange(time)[None] - by[:, None]) % time
    return ops.take_along_axis(x, steps[..., None], axis=1)


def _flat_weights(cell: cells.Cell, form: Form, dtype: str) -> Tensor:
    """All weights in one row: those of the input, gate by gate, of the state, and both biases."""

    def gates(weight: Any) -> list[Tensor]:
        weight = ops.zeros((len(cell.gates) * cell.units,)) if weight is None else weight
        return regated(ops.convert_to_tensor(weight, dtype=dtype), cell.gates, form.gates)

    matrices = [*gates(cell.kernel), *gates(cell.recurrent_weights())]
    biases = [*gates(cell.bias), *gates(getattr(cell, "recurrent_bias", None))]
    return ops.concatenate([*(ops.reshape(ops.transpose(w), (-1,)) for w in matrices), *biases])
