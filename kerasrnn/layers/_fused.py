"""From a layer's options to the whole-sequence kernels of `kerasrnn.fast`, where they can be used."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kerasrnn import _keras, cells

Tensor = Any


def why_not(cell: Any, unroll: bool) -> str | None:
    """What stands against running a cell by a kernel; nothing if nothing does."""
    if keras.backend.backend() != "tensorflow":
        return f"kernels run on TensorFlow, and Keras's backend is {keras.backend.backend()!r}"
    if unroll:
        return "`unroll=True` writes the loop out"
    if not isinstance(cell, cells.Cell):
        return f"a {type(cell).__name__} is not one of kerasrnn.cells"
    from kerasrnn import fast

    if fast.kernel_for(cell) is None:
        return f"there is no kernel for a {type(cell).__name__} with these activations"
    if not cell.is_bare:
        return "kernels know no zoneout, no layer normalisation and no dropout of the candidate"
    return None


def fused_loop(
    cell: cells.Cell,
    sequences: Tensor,
    initial_states: list[Tensor],
    mask: Tensor | None,
    *,
    go_backwards: bool,
    zero_output_for_mask: bool,
    return_all_outputs: bool,
    training: bool,
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """What `_keras.rnn` does, by a kernel: the last output, all outputs and the final states."""
    from kerasrnn import fast

    kernel, others = fast.kernel_for(cell)  # type: ignore[misc]
    dtype = cell.compute_dtype
    # Gates and states are carried in at least float32; the products may be narrower.
    wide = keras.backend.result_type(dtype, "float32")
    cell.set_training(training)
    sequences = ops.cast(cell.drop_inputs(sequences), dtype)
    if go_backwards:
        sequences = ops.flip(sequences, axis=1)
        mask = None if mask is None else ops.flip(mask, axis=1)
    states = [ops.cast(state, wide) for state in initial_states]
    outputs, final = fast.run(
        kernel,
        sequences,
        states,
        input_kernel=ops.convert_to_tensor(cell.kernel, dtype=dtype),
        bias=None if cell.bias is None else ops.convert_to_tensor(cell.bias, dtype=dtype),
        recurrent_kernel=ops.cast(cell.recurrent_weights(), dtype),
        others={name: ops.cast(weight, wide) for name, weight in others.items()},
        recurrent_mask=cell.recurrent_mask(states[0]),
        mask=mask,
        all_outputs=return_all_outputs,
        keep=training,
        compiled=_keras.may_compile(),
    )
    last, time = final[0], ops.shape(sequences)[1]
    if mask is None:
        if sequences.shape[1] is None:  # Of no steps at all the output is zero, whatever the state.
            last = ops.where(time > 0, last, 0)
        return last, outputs, final
    if zero_output_for_mask:
        counts = mask
        at_the_end = ops.any(ops.logical_and(mask, ops.arange(time) == time - 1), axis=1)
    else:
        # A masked step repeats the output before it: the state, once there was a step that counts.
        counts, at_the_end = ops.cumsum(ops.cast(mask, "int32"), axis=1) > 0, ops.any(mask, axis=1)
        if outputs is not None:
            # The loop ends with the last step that counts in any row.
            anywhere = ops.cast(ops.any(mask, axis=0), "int32")
            over = ops.logical_and(anywhere == 0, ops.cumsum(anywhere) == ops.sum(anywhere))
            outputs = ops.where(over[None, :, None], last[:, None], outputs)
    if outputs is not None:
        outputs = ops.where(counts[..., None], outputs, 0)
    return ops.where(at_the_end[:, None], last, 0), outputs, final
