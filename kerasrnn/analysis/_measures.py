"""What is computed from traces: saturation, what was kept and written, and gradients through time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from kerasrnn import _keras
from kerasrnn.analysis._trace import LayerTrace, Trace, one_layer, trace
from kerasrnn.cells import Cell

Tensor = Any


def is_valve(seen: LayerTrace, gate: str) -> bool:
    """Whether a gate is one between 0 and 1: the cell says so, and its activations leave it there."""
    values = seen.gates[gate][np.isfinite(seen.gates[gate])]
    return gate in seen.valves and bool(((values >= 0) & (values <= 1)).all())


class Saturation(NamedTuple):
    """How often the units of a gate are all but closed or all but open.

    Attributes:
        closed: The fraction of the steps with the gate under 0.1, `(units,)`.
        open: The fraction of the steps with the gate over 0.9, `(units,)`.
    """

    closed: np.ndarray
    open: np.ndarray


def saturation(layer_trace: Trace | LayerTrace) -> dict[str, Saturation]:
    """How often each gate is saturated, unit by unit (Karpathy, Johnson & Fei-Fei 2015).

    Candidates are no gates that open and close, and are left out; so are the steps that a mask leaves out.
    Paper: https://arxiv.org/abs/1506.02078.

    Args:
        layer_trace: The trace of a layer, or of a model that has one recurrent layer.

    Returns:
        The saturation by the gate's name.

    Raises:
        TypeError: If it is no trace.
        ValueError: If the cell has no gates between 0 and 1, or the model has several such layers.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.LSTM(4, recurrent_activation="hard_sigmoid", bias_initializer="ones")
    >>> _ = layer(keras.ops.ones((2, 5, 3)) * 100)
    >>> found = kerasrnn.analysis.saturation(kerasrnn.trace(layer, keras.ops.ones((2, 5, 3)))[layer.name])
    >>> sorted(found), found["forget"].open.shape
    (['forget', 'input', 'output'], (4,))
    """
    layer_trace, found = one_layer("layer_trace", layer_trace), {}
    for name, values in layer_trace.gates.items():
        if is_valve(layer_trace, name):
            counted = values.reshape(-1, values.shape[-1])
            counted = counted[np.isfinite(counted[:, 0])]
            steps = max(len(counted), 1)
            found[name] = Saturation(
                (counted < LOW).sum(axis=0) / steps, (counted > HIGH).sum(axis=0) / steps
            )
    if not found:
        raise ValueError(
            f"The layer {layer_trace.name!r} has no gates between 0 and 1: a {layer_trace.cell} has "
            f"{', '.join(layer_trace.gates)}."
        )
    return found


LOW, HIGH = 0.1, 0.9


class Belt(NamedTuple):
    """What became of a state at each step, `(batch, time, size)` each: state = kept + written.

    Attributes:
        kept: What was left of the state before.
        written: What was added.
        state: The state.
        how: What was kept, by the names of the gates: `"forget * cell"`, `"cell"` or `"nothing"`. None if
            no rule is known: then `kept` is the whole state before, and `written` the change.
    """

    kept: np.ndarray
    written: np.ndarray
    state: np.ndarray
    how: str | None


def belt(layer_trace: Trace | LayerTrace, state: str) -> Belt:
    """What each step kept of a state, and what it wrote.

    The trace itself says by which rule: of the rules in use (forget * c + input * candidate and its kin;
    output * tanh(c), which keeps nothing) the first that gives the states that were seen.

    Args:
        layer_trace: The trace of a layer, or of a model that has one recurrent layer.
        state: The name of one of its states.

    Returns:
        What was kept and written; all numbers are NaN where a mask leaves a step out.

    Raises:
        TypeError: If it is no trace.
        ValueError: If there is no such state, or the model has several recurrent layers.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.GRU(4)
    >>> layer.build((None, None, 3))
    >>> seen = kerasrnn.trace(layer, keras.ops.ones((2, 5, 3)))[layer.name]
    >>> kerasrnn.analysis.belt(seen, "hidden").how
    '(1 - update) * hidden'
    """
    layer_trace = one_layer("layer_trace", layer_trace)
    if state not in layer_trace.states:
        known = ", ".join(map(repr, layer_trace.states))
        raise ValueError(f"`state` must be one of {known}, got {state!r}.")
    after, before = layer_trace.states[state].copy(), layer_trace.previous(state)
    if layer_trace.mask is not None:
        after[~layer_trace.mask] = before[~layer_trace.mask] = np.nan
    near = 1e-5 if after.dtype.itemsize >= 4 else 1e-2
    sizes = np.abs(np.stack([before, after]))
    size = sizes.max(initial=0.0, where=np.isfinite(sizes))
    for keep, write, share in _rules(layer_trace, state):
        if np.shape(write) not in ((), after.shape):
            continue
        if np.allclose(keep * before + write, after, rtol=near, atol=near * size, equal_nan=True):
            partly = isinstance(keep, np.ndarray)
            how = f"{share} * {state}" if partly else state if keep else "nothing"
            return Belt(keep * before, after - keep * before, after, how)
    return Belt(before, after - before, after, None)


def _rules(seen: LayerTrace, state: str) -> list[tuple[Any, Any, str]]:
    """The ways in which a state may have come about: its share that is kept, what is written, and what
    the share is called.
    """

    def gate(state: str, *names: str, default: float = 1.0) -> Any:
        """The first of the gates of the state's level that there is."""
        kind, _, level = state.rpartition("_") if state[-1].isdigit() else (state, "", "")
        for prefix in (f"{kind.rpartition('_')[0]}_".lstrip("_"), "", "time_"):
            for name in names:
                found = seen.gates.get(f"{prefix}{name}{level and '_' + level}")
                if found is not None:
                    return found
        return default

    hidden = "hidden" in state
    rules: list[tuple[Any, Any, str]] = []
    # What is read from a memory: the hidden state from the cell, a cell from the one inside it.
    inner = state.replace("hidden", "cell") if hidden else f"inner_{state}"
    if inner in seen.states:
        c, o = seen.states[inner], gate(inner, "output")
        rules += [(0.0, read, "") for read in (o * np.tanh(c), np.tanh(o * c), o * c)]
    if state in seen.gates:  # A gate that the next step reads.
        rules.append((0.0, seen.gates[state], ""))
    # Without a forget gate a memory keeps all, and a hidden state nothing if that will do.
    f, i = gate(state, "forget", default=float(not hidden)), gate(state, "input")
    z, g = gate(state, "update", "transform"), gate(state, "candidate")
    return [
        *rules,
        (f, i * g, "forget"),
        (1 - z, z * g, "(1 - update)"),
        (1 - f, f * g, "(1 - forget)"),
        (f, (1 - f) * g, "forget"),
        (1.0, i * g, ""),
    ]


def gradient_norms(
    layer: Any,
    inputs: Any,
    mask: Any = None,
    initial_state: Any = None,
    *,
    loss: Callable[[Tensor], Tensor] | None = None,
) -> np.ndarray:
    """How much a loss at the end of the sequences still depends on the states on the way.

    The norm of the gradient of the loss with respect to the states that each step finds, all states of the
    cell but its counters taken together. Where it vanishes, nothing before can be learned from that loss
    (Hochreiter 1991; Bengio et al. 1994, https://doi.org/10.1109/72.279181). The way back goes through the
    cell's own step, at inference, in float32 at least; how far it has shrunk or grown is kept apart, as a
    logarithm, so that it may vanish over any number of steps.

    Args:
        layer: A built recurrent layer with one cell of `kerasrnn.cells`. Of a model take
            `model.get_layer(name)`, of a `Bidirectional` its `forward_layer`.
        inputs, mask, initial_state: What the layer is called with.
        loss: A function of the last output, `(batch, units)`, that gives a number for each sequence; by
            default the sum over the units.

    Returns:
        float64 `(batch, time)`, in the time order of the inputs: for step t the norm with respect to the
        states before it. Of sequences that a mask ends earlier the loss is at their last step that counts.

    Raises:
        ValueError: If it is no layer with one cell of `kerasrnn.cells`, the loss does not depend on the
            output, or Keras does not run on TensorFlow.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.ConstantErrorCarousel(4)
    >>> layer.build((None, None, 3))
    >>> kerasrnn.analysis.gradient_norms(layer, keras.ops.ones((1, 3, 3)))
    array([[2., 2., 2.]])
    """
    cell = getattr(layer, "cell", None)
    if not isinstance(cell, Cell):
        raise ValueError(
            f"`layer` must be a recurrent layer with one cell of kerasrnn.cells, got {layer!r}. Of a model "
            "take `model.get_layer(name)` and what the model calls it with, of a `Bidirectional` its "
            "`forward_layer`; a stack of cells write as layers, one upon the other."
        )
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"`gradient_norms` needs Keras to run on TensorFlow, not on {keras.backend.backend()!r}."
        )
    import tensorflow as tf

    seen = trace(layer, inputs, mask, initial_state)[layer.name]
    dtype = keras.backend.result_type(cell.compute_dtype, "float32")
    x = tf.cast(tf.convert_to_tensor(inputs), dtype)
    before = [seen.previous(state) for state in cell.states]
    learns = np.array([state not in cell.counters for state in cell.states])
    batch, time = seen.output.shape[:2]
    counts = np.ones((batch, time), bool) if seen.mask is None else seen.mask
    order = range(time) if seen.go_backwards else range(time - 1, -1, -1)

    @tf.function(autograph=False)
    def back(x: Tensor, states: list[Tensor], upstream: list[Tensor]) -> list[Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(states)
            with _keras.AutocastScope(dtype), keras.StatelessScope():
                step = cell.advance(cell.prepare(x), tuple(states))
            results = [step.output, *(tf.identity(state) for state in step.states)]
        zero = tf.UnconnectedGradients.ZERO
        return tape.gradient(results, states, upstream, unconnected_gradients=zero)

    # The loss reads the output of the last step that counts, whatever the layer gives out after it.
    last = np.where(
        counts.any(axis=1), [next((t for t in order if row[t]), 0) for row in counts], 0
    )
    output = tf.cast(seen.output[np.arange(batch), last], dtype)
    with tf.GradientTape() as tape:
        tape.watch(output)
        value = tf.reduce_sum(output) if loss is None else tf.reduce_sum(loss(output))
    d_output = tape.gradient(value, output)
    if d_output is None:
        raise ValueError("`loss` must be a function of the output that TensorFlow can derive.")
    d_states = [tf.zeros(state[:, 0].shape, dtype) for state in before]
    # Below the loss the way back is linear. So it goes on with vectors of the length 1.
    logs = np.full(batch, -np.inf)
    norms = np.zeros((batch, time))
    was = cell.in_training
    cell.set_training(False)
    try:
        for t in order:
            here, ends = counts[:, t], counts[:, t] & (last == t)
            states = [tf.cast(state[:, t], dtype) for state in before]
            d_new = back(x[:, t], states, [tf.where(ends[:, None], d_output, 0), *d_states])
            squares = [
                np.square(np.asarray(d, "float64")).sum(axis=1)
                for d, known in zip(d_new, learns, strict=True)
                if known
            ]
            lengths = np.sqrt(np.sum(squares, axis=0))
            with np.errstate(divide="ignore", over="ignore"):
                logs = np.where(here, np.where(ends, 0.0, logs) + np.log(lengths), logs)
                norms[:, t] = np.exp(logs)
            scale = tf.constant(1 / np.where(lengths > 0, lengths, 1.0)[:, None], dtype)
            d_states = [
                tf.where(here[:, None], new * scale, old)
                for new, old in zip(d_new, d_states, strict=True)
            ]
    finally:
        cell.set_training(was)
    return norms
