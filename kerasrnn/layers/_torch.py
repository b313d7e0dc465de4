"""PyTorch's own recurrences, on its tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

Tensor = Any


def whole_sequence(
    mode: str, x: Tensor, states: list[Tensor], weights: Tensor, lengths: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """What `kerasrnn.fast.cudnn.whole_sequence` does; the weights lie as `torch.nn` holds them."""
    units, columns = states[0].shape[1], x.shape[2] + states[0].shape[1] + 2
    rows = weights.shape[0] // columns
    shapes = [(rows, x.shape[2]), (rows, units), (rows,), (rows,)]
    sizes = [rows * x.shape[2], rows * units, rows, rows]
    # Views of the one row, which cuDNN would otherwise put together again.
    views = [w.view(shape) for w, shape in zip(weights.split(sizes), shapes, strict=True)]
    function = getattr(torch, mode)
    # A bias, layers, dropout, whether there will be a way back, directions.
    options = (True, 1, 0.0, torch.is_grad_enabled(), False)
    if lengths is None:
        outputs, *final = function(x, _joined(states), views, *options, True)
        return outputs, [state[0] for state in final]
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    ordered = [state[packed.sorted_indices] for state in states]
    data, *final = function(packed.data, packed.batch_sizes, _joined(ordered), views, *options)
    outputs, _ = pad_packed_sequence(
        PackedSequence(data, *packed[1:]), batch_first=True, total_length=x.shape[1]
    )
    return outputs, [state[0][packed.unsorted_indices] for state in final]


def may_run(x: Tensor) -> bool:
    """Whether these are sequences, a step and a sequence at least, and are no stand-ins while tracing."""
    tracing = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return not tracing and x.device.type in ("cpu", "cuda") and 0 not in x.shape[:2]


def picked(x: Tensor, steps: Tensor) -> Tensor:
    """Of each sequence, `(batch, time, size)`, the steps whose numbers are given, `(batch, time)`."""
    return x.gather(1, steps.long()[..., None].expand(-1, -1, x.shape[2]))


def _joined(states: list[Tensor]) -> Any:
    """The states as PyTorch takes them: an LSTM's as a pair, and with a dimension for the layers."""
    several = [state[None].contiguous() for state in states]
    return tuple(several) if len(several) > 1 else several[0]
