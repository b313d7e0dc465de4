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


def form_of(cell: Any, training: bool) -> Form | None:
    """The form in which the libraries know a cell, with its options; nothing if they do not."""
    form = FORMS.get(type(cell))
    known = (
        form is not None
        and cell.is_bare(training)
        and cell.squashes_as_usual
        and not getattr(cell, "peephole_gates", ())
        and getattr(cell, "reset_after", True)
        and not (training and cell.recurrent_dropout and cell.recurrent_dropout_form == "state")
    )
    return form if known else None


def regated(weight: Any, have: Sequence[str], want: Sequence[str]) -> list[Any]:
    """The columns of a weight, gate by gate, in another order of the gates, and with other signs."""
    units = weight.shape[-1] // len(have)
    blocks = {gate: weight[..., n * units : (n + 1) * units] for n, gate in enumerate(have)}
    return [blocks[gate] if gate in blocks else -blocks[_opposite(gate)] for gate in want]


def _opposite(gate: str) -> str:
    return gate[1:] if gate.startswith("-") else "-" + gate


def serves(cell: Any, training: bool) -> bool:
    """Whether a library is here that knows the cell: PyTorch itself, or cuDNN beneath TensorFlow."""
    if form_of(cell, training) is None:
        return False
    if keras.backend.backend() == "torch":
        return True
    return keras.backend.backend() == "tensorflow" and _keras.has_cudnn()


def may_run(sequences: Tensor) -> bool:
    """Whether the library that serves a cell may be called here, with these sequences."""
    if keras.backend.backend() == "torch":
        from kerasrnn.layers import _torch

        return _torch.may_run(sequences)
    return not (_keras.is_compiling() or _keras.is_exporting())


def run(
    cell: cells.Cell,
    sequences: Tensor,
    states: list[Tensor],
    mask: Tensor | None,
    all_outputs: bool,
) -> tuple[Tensor | None, list[Tensor]]:
    """The states after every step, of which the first is the output, and after the last one.

    The steps that count go to the front, where the libraries want them, and the outputs back again.

    Args:
        cell: A cell that has a form.
        sequences: `(batch, time, features)`.
        states: The states before the first step, `(batch, units)` each.
        mask: Boolean `(batch, time)`, or nothing. The outputs of a row before its first step are anything.
        all_outputs: Whether the states after every step are wanted; otherwise there may be none.
    """
    form, dtype = FORMS[type(cell)], sequences.dtype
    library: Any
    if keras.backend.backend() == "torch":
        from kerasrnn.layers import _torch as library
    else:
        from kerasrnn.fast import cudnn as library
    weights = _flat_weights(cell, form, dtype)
    states = [ops.cast(state, dtype) for state in states]
    if mask is None:
        return library.whole_sequence(form.mode, sequences, states, weights, None)
    counted, time = ops.cast(mask, "int32"), ops.shape(mask)[1]
    steps, count = ops.arange(time, dtype="int32"), ops.sum(counted, axis=1)
    order = ops.argsort(ops.where(mask, steps, time + steps), axis=1)
    outputs, final = library.whole_sequence(
        form.mode, library.picked(sequences, order), states, weights, ops.maximum(count, 1)
    )
    some = count[:, None] > 0
    final = [ops.where(some, new, old) for new, old in zip(final, states, strict=True)]
    if not all_outputs:
        return None, final
    return library.picked(outputs, ops.maximum(ops.cumsum(counted, axis=1) - 1, 0)), final


def _flat_weights(cell: cells.Cell, form: Form, dtype: Any) -> Tensor:
    """All weights in one row: those of the input, gate by gate, of the state, and both biases."""

    def gates(weight: Any) -> list[Tensor]:
        weight = ops.zeros((len(cell.gates) * cell.units,)) if weight is None else weight
        return regated(ops.convert_to_tensor(weight, dtype=dtype), cell.gates, form.gates)

    matrices = [*gates(cell.kernel), *gates(cell.recurrent_weights())]
    biases = [*gates(cell.bias), *gates(getattr(cell, "recurrent_bias", None))]
    return ops.concatenate([*(ops.reshape(ops.transpose(w), (-1,)) for w in matrices), *biases])
