"""The one door to private modules: what Keras, and TensorFlow, do not export.

Nothing else in the package imports a private module, so that a new release breaks little but this file.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

# What a layer's call puts around its code, so that weights come in the compute dtype.
from keras.src.backend import AutocastScope

# The time loop of each backend: `tf.while_loop`, `jax.lax.scan`, a Python loop in PyTorch.
from keras.src.backend import rnn as _loop

# What Keras knows of a thread: the layers whose calls are under way, among other things.
from keras.src.backend.common.global_state import get_global_attribute

# Whether Keras runs a function for its shapes alone.
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

# What Keras hangs masks and logits on tensors with, JAX's too, which take no attributes.
from keras.src.backend.common.tensor_attributes import get_tensor_attr as get_note
from keras.src.backend.common.tensor_attributes import set_tensor_attr as set_note

# `DropoutRNNCell`: `keras.layers.RNN` draws one dropout mask per sequence for its subclasses only.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

__all__ = [
    "AutocastScope",
    "DropoutRNNCell",
    "directions",
    "get_note",
    "has_cudnn",
    "in_symbolic_scope",
    "is_compiling",
    "is_exporting",
    "may_compile",
    "rnn",
    "set_note",
    "xla_operations",
]


def directions() -> int:
    """How many layers run side by side where this is called: 2 within a `keras.layers.Bidirectional`."""
    scopes = get_global_attribute("name_scope_stack") or []
    callers = (getattr(scope, "caller", None) for scope in scopes)
    return 2 if any(isinstance(one, keras.layers.Bidirectional) for one in callers) else 1


def may_compile() -> bool:
    """Whether XLA may compile what is being traced: a graph of TensorFlow's, and not one to be exported.

    A call without a graph is most often one of a kind, which is not worth a compilation. And a
    SavedModel must run where XLA is not linked; nothing in Keras tells that one is being made, but
    that the modules that make it are at work.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not (tf.executing_eagerly() or xla_operations() is None or is_exporting())


def is_exporting() -> bool:
    """Whether what is being traced goes into a file, to be run elsewhere."""
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_EXPORTERS):
            return True
        frame = frame.f_back
    return False


def has_cudnn() -> bool:
    """Whether TensorFlow has a GPU, and cuDNN for it."""
    import tensorflow as tf

    built = tf.sysconfig.get_build_info()
    return bool(built["is_cuda_build"] and tf.config.get_visible_devices("GPU"))


def is_compiling() -> bool:
    """Whether XLA compiles all that is being traced, so that every operation must be one that it knows."""
    from tensorflow.python.framework import ops as tensorflow_ops
    from tensorflow.python.ops import control_flow_util

    graph = tensorflow_ops.get_default_graph()
    return bool(control_flow_util.GraphOrParentsInXlaContext(graph))


@functools.cache
def xla_operations() -> Any:
    """XLA's own operations, one of which writes a step into its place in a buffer; None without XLA."""
    try:
        from tensorflow.compiler.tf2xla.ops import gen_xla_ops
    except ImportError:
        return None
    return gen_xla_ops


_EXPORTERS = ("keras.src.export", "tensorflow.python.saved_model", "tensorflow.lite", "tf2onnx")

Tensor = Any
StepFunction = Callable[[Any, Any], tuple[Any, Any]]


def rnn(
    step: StepFunction,
    inputs: Tensor,
    initial_states: list[Any],
    *,
    go_backwards: bool = False,
    mask: Tensor | None = None,
    unroll: bool = False,
    zero_output_for_mask: bool = False,
    return_all_outputs: bool = True,
) -> tuple[Any, Any, list[Any]]:
    """Run `step(x, states) -> (output, new states)` over `inputs`, `(batch, time, features)`.

    Masks and empty sequences mean the same on every backend, which Keras's own loops leave open:
    a masked step keeps the states and repeats the output before it, zeros if there was none; with
    no steps at all the states stay as they were.

    Args:
        step: One time step.
        inputs: The whole sequence.
        initial_states: The states before the first step.
        go_backwards: Whether to run from the last step to the first.
        mask: Boolean, `(batch, time)`: the steps that count.
        unroll: Whether to write the loop out, for a known number of steps.
        zero_output_for_mask: Whether the output of a masked step is zeros.
        return_all_outputs: Whether all outputs are wanted, or the last one only.

    Returns:
        The last output, all outputs `(batch, time, ...)` and the final states.
    """
    options = {
        "go_backwards": go_backwards,
        "unroll": unroll,
        "input_length": inputs.shape[1],
        "return_all_outputs": return_all_outputs,
    }
    backend = keras.backend.backend()
    # Which of Keras's loops handle masks as above. JAX's takes the first state for the previous
    # output, even before the first step, and the unrolled ones miss `zero_output_for_mask`.
    if mask is not None and (unroll or backend not in ("tensorflow", "torch")):
        return _masked_loop(step, inputs, initial_states, mask, zero_output_for_mask, options)
    options |= {"mask": mask, "zero_output_for_mask": zero_output_for_mask}
    if backend == "tensorflow" and inputs.shape[1] is None:
        return _loop_of_any_length(step, inputs, initial_states, options)
    return _loop(step, inputs, initial_states, **options)


def _masked_loop(
    step: StepFunction,
    inputs: Tensor,
    initial_states: list[Any],
    mask: Tensor,
    zero_output_for_mask: bool,
    options: dict[str, Any],
) -> tuple[Any, Any, list[Any]]:
    """The loop with the mask handled in the step, whose first state is the previous output."""

    def masked_step(inputs: Any, states: Any) -> tuple[Any, list[Any]]:
        (x, valid), (previous, *states) = inputs, states
        output, new_states = step(x, states)
        output, new_states = tree.map_structure(
            lambda new, old: ops.where(valid, new, old),
            (output, list(new_states)),
            (previous, states),
        )
        return output, [previous if zero_output_for_mask else output, *new_states]

    if keras.backend.backend() == "numpy":
        options = {**options, "unroll": True}  # Its other loop takes no more than one tensor.
    first_output, _ = step(inputs[:, 0], initial_states)
    zeros = tree.map_structure(ops.zeros_like, first_output)
    last_output, outputs, states = _loop(
        masked_step, (inputs, mask[..., None]), [zeros, *initial_states], **options
    )
    return last_output, outputs, list(states)[1:]


def _loop_of_any_length(
    step: StepFunction, inputs: Tensor, initial_states: list[Any], options: dict[str, Any]
) -> tuple[Any, Any, list[Any]]:
    """TensorFlow's loop, which reads step 0 to see what a step gives, with one if there is none."""
    import tensorflow as tf

    time = tf.shape(inputs)[1]
    # TensorFlow hands the tensor itself on, not a copy, where there is nothing to pad or to cut.
    padding = [[0, 0], [0, tf.maximum(1 - time, 0)]]
    inputs = tf.pad(inputs, [*padding, *[[0, 0]] * (len(inputs.shape) - 2)])
    if options["mask"] is not None:
        options["mask"] = tf.pad(options["mask"], padding)
    last_output, outputs, states = _loop(step, inputs, initial_states, **options)

    def unless_empty(value: Tensor, otherwise: Tensor) -> Tensor:
        return tf.where(time > 0, value, otherwise)

    last_output = tree.map_structure(lambda x: unless_empty(x, tf.zeros_like(x)), last_output)
    outputs = tree.map_structure(lambda x: x[:, :time], outputs)
    return last_output, outputs, tree.map_structure(unless_empty, list(states), initial_states)
