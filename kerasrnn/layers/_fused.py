"""From a layer's options to the whole-sequence kernels of `kerasrnn.fast`, where they can be used."""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import ops

from kerasrnn import _keras, cells
from kerasrnn.layers import _library

Tensor = Any


def why_not(cell: Any, unroll: bool, dtype_policy: str) -> str | None:
    """What stands against running a cell by a kernel; nothing if nothing does."""
    if keras.backend.backend() != "tensorflow":
        return f"kernels run on TensorFlow, and Keras's backend is {keras.backend.backend()!r}"
    if unroll:
        return "`unroll=True` writes the loop out"
    if not isinstance(cell, cells.Cell):
        return f"a {type(cell).__name__} is not one of kerasrnn.cells"
    if cell.dtype_policy.name != dtype_policy:
        return "the cell has another dtype policy than the layer"
    return None


def has_own_kernel(cell: cells.Cell, training: bool) -> bool:
    """Whether there is a kernel that was written for the cell, and that does all that the cell does."""
    from kerasrnn import fast

    # A kernel is given dropped weights of the recurrent kernel alone, if it is given that at all.
    dropped = training and cell.recurrent_dropout and cell.recurrent_dropout_form == "weights"
    given = len(cell.recurrent_kernels) == 1 and _has_recurrent_columns(cell)
    if not cell.is_bare(training) or (dropped and not given):
        return False
    return fast.kernel_for(cell) is not None


def _has_recurrent_columns(cell: cells.Cell) -> bool:
    """Whether the recurrent kernel is a matrix with a column for each of the projected input's."""
    kernel = getattr(cell, "recurrent_kernel", None)
    return kernel is not None and tuple(kernel.shape) == (cell.units, len(cell.blocks) * cell.units)


def _is_projected_as_usual(cell: cells.Cell) -> bool:
    """Whether the projection is a product and a bias, which the kernel does shard by shard."""
    own = (
        getattr(type(cell), name) is getattr(cells.Cell, name)
        for name in ("project", "input_share")
    )
    return all(own) and cell.bias_gates == cell.blocks


def generic_pays(training: bool) -> bool:
    """Whether the generic kernel is faster than a loop: in training, where XLA compiles it."""
    return training and _keras.may_compile()


def generic_loop(
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
    """The same as `fused_loop`, by the kernel that takes its gradients from TensorFlow.

    Raises:
        ImpureStepError: If the cell's step cannot be run by it.
    """
    from kerasrnn import fast

    cell.set_training(training)
    x = cell.prepare(sequences)
    if go_backwards:
        x = ops.flip(x, axis=1)
        mask = None if mask is None else ops.flip(mask, axis=1)
    kernel = fast.GenericKernel(cell, x.shape[-1], training)
    with _keras.AutocastScope(None):  # Whole, so that their gradients are.
        others = {name: ops.convert_to_tensor(weight) for name, weight in kernel.weights.items()}
    recurrent_mask = None
    if training and cell.recurrent_dropout:
        if cell.recurrent_dropout_form == "weights":
            for name, weight in kernel.weights.items():  # Those that a step reads.
                for one in cell.recurrent_kernels:
                    if weight is getattr(cell, one):
                        others[name] = ops.cast(cell.recurrent_weights(one), others[name].dtype)
        else:
            recurrent_mask = cell.get_recurrent_dropout_mask(initial_states[0])
    # The output is carried as a state is: a masked step repeats it.
    before = ops.zeros((ops.shape(x)[0], cell.units), dtype=x.dtype)
    outputs, (last, *final) = fast.run(
        kernel,
        x,
        [before, *(ops.cast(state, x.dtype) for state in initial_states)],
        others=others,
        recurrent_mask=recurrent_mask,
        mask=mask,
        all_outputs=return_all_outputs,
        keep=training,
        compiled=_keras.may_compile(),
        beside=_keras.directions(),
    )
    if mask is None:
        return last, outputs, final
    if outputs is not None:
        outputs = _beyond_the_end(outputs, last, mask)
    if zero_output_for_mask:
        time = ops.shape(mask)[1]
        outputs = None if outputs is None else ops.where(mask[..., None], outputs, 0)
        at_the_end = ops.any(ops.logical_and(mask, ops.arange(time) == time - 1), axis=1)
        last = ops.where(at_the_end[:, None], last, 0)
    return last, outputs, final


def _beyond_the_end(outputs: Tensor, last: Tensor, mask: Tensor) -> Tensor:
    """The outputs, with the last one repeated where no row had a step and the loop did not come."""
    anywhere = ops.cast(ops.any(mask, axis=0), "int32")
    over = ops.logical_and(anywhere == 0, ops.cumsum(anywhere) == ops.sum(anywhere))
    return ops.where(over[None, :, None], last[:, None], outputs)


def fused_loop(
    cell: cells.Cell,
    sequences: Tensor,
    initial_state: list[Tensor],
    mask: Tensor | None,
    *,
    go_backwards: bool,
    zero_output_for_mask: bool,
    return_all_outputs: bool,
    training: bool,
    library: bool = False,
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """What `_keras.rnn` does, by a kernel: the last output, all outputs and the final states.

    Args:
        library: Whether cuDNN, or PyTorch itself, takes the kernel's place.
    """
    dtype = cell.compute_dtype
    # Gates and states are carried in at least float32; the products may be narrower.
    wide = keras.backend.result_type(dtype, "float32")
    cell.set_training(training)
    as_usual = library or _is_projected_as_usual(cell)
    sequences = cell.drop_inputs(sequences) if as_usual else cell.project(sequences)
    sequences = ops.convert_to_tensor(sequences, dtype=dtype)
    if go_backwards:
        sequences = ops.flip(sequences, axis=1)
        mask = None if mask is None else ops.flip(mask, axis=1)
    states = [ops.cast(state, wide) for state in initial_state]

    if library:
        outputs, final = _library.run(cell, sequences, states, mask, return_all_outputs)
        outputs = ops.cast(outputs, wide) if return_all_outputs else None
        final = [ops.cast(state, wide) for state in final]
    else:
        from kerasrnn import fast

        kernel, others = fast.kernel_for(cell)  # type: ignore[misc]
        dropped = cell.recurrent_mask(states[0])
        weights = {"input_kernel": cell.kernel, "bias": cell.bias} if as_usual else {}
        if _has_recurrent_columns(cell):
            weights["recurrent_kernel"] = cell.recurrent_weights()
        outputs, final = fast.run(
            kernel,
            sequences,
            states,
            **{
                name: ops.convert_to_tensor(weight, dtype=dtype)
                for name, weight in weights.items()
                if weight is not None
            },
            others={name: ops.cast(weight, wide) for name, weight in others.items()},
            # In the compute dtype it would not fit the states.
            recurrent_mask=None if dropped is None else ops.cast(dropped, wide),
            mask=mask,
            all_outputs=return_all_outputs,
            keep=training,
            compiled=_keras.may_compile(),
            beside=_keras.directions(),
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
            outputs = _beyond_the_end(outputs, last, mask)
    if outputs is not None:
        outputs = ops.where(counts[..., None], outputs, 0)
    return ops.where(at_the_end[:, None], last, 0), outputs, final


library_loop = functools.partial(fused_loop, library=True)
