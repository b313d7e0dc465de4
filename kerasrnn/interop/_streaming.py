"""Models that read one step at a time: the states are given to them, and given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import tree

from kerasrnn import cells, layers
from kerasrnn._files import written_whole
from kerasrnn.interop._walk import (
    check_model,
    in_its_form,
    output_names,
    replaced,
    unique,
    why_not_loop,
)

Tensor = Any


class Streaming:
    """A model that reads one step at a time, with its states as an input and an output.

    From `initial_state` on, step by step, it gives what the model gives for the whole sequence: at each
    step the output of that step; of a model that gives one for a sequence, that of the sequence so far.
    Nothing is kept between the calls. Who calls holds the states, one row for each of the streams that
    are read side by side; to begin one anew, put its row of `initial_state` there.

    A step that the model masks leaves the states as they are.

    Args:
        model: A functional or Sequential model of sequences of any length, `keras.Input((None, ...))`. Its
            recurrent layers, of any cell, read forward. The other layers look at each step by itself,
            as Dense and Embedding do, or at what the recurrent layers make of all steps so far.

    Attributes:
        states: What the states are, by their names: a `tf.TensorSpec` of `(None, size)`, in float32
            or wider whatever the model computes in. `read_hidden` is the state `hidden` of the layer
            `read`. The output that masked steps repeat is a state too, `read_output`.

    Raises:
        ValueError: If the model cannot be read step by step; the message names the layer and what to do.

    Example:

    >>> import keras, kerasrnn, numpy as np
    >>> model = keras.Sequential([keras.Input((None, 3)), kerasrnn.layers.PeepholeLSTM(4, name="read")])
    >>> stream, x = kerasrnn.interop.Streaming(model), np.ones((2, 5, 3), "float32")
    >>> list(stream.states)
    ['read_hidden', 'read_cell']
    >>> states = stream.initial_state(2)
    >>> for t in range(5):
    ...     output, states = stream.step(x[:, t], states)
    >>> bool(np.allclose(output, model(x), atol=1e-5))
    True
    """

    def __init__(self, model: Any) -> None:
        check_model(model, type(self).__name__)
        self.model = model
        self._recurrent = _recurrent_layers(model)
        is_stack = isinstance(model, keras.Sequential)
        self._output = model.outputs[0] if is_stack else model.output
        self._inputs = [
            tf.TensorSpec((None, *x.shape[2:]), x.dtype, name=x.name) for x in model.inputs
        ]
        # Traced once from where sequences start, to see which states there are.
        self._places: list[tuple[Any, list[str]]] = []
        first = tf.function(lambda *x: self._advance(x, None)[1], autograph=False)
        found = first.get_concrete_function(*self._inputs).structured_outputs
        self.states = {
            name: tf.TensorSpec((None, x.shape[-1]), x.dtype, name) for name, x in found.items()
        }
        signature = [self._inputs, self.states]
        self._step = tf.function(self._advance, input_signature=signature, autograph=False)

    def initial_state(self, batch: Any) -> dict[str, Tensor]:
        """The states before the first step, by their names: zeros, or what the layers have learned.

        Args:
            batch: The number of streams.
        """
        states = {
            name: tf.zeros((batch, spec.shape[1]), spec.dtype) for name, spec in self.states.items()
        }
        for layer, names in self._places:
            starts = tree.flatten(layer.get_initial_state(batch))
            states |= dict(zip(names, map(_wide, starts), strict=True))
        return states

    def step(self, inputs: Any, states: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
        """Read one step.

        Args:
            inputs: As the model takes them, but for the dimension of time: `(batch, ...)`.
            states: As `initial_state` gives them, or this function.

        Returns:
            What the model gives, but for the dimension of time; and the new states.

        Raises:
            ValueError: If the states are not those of this model, or of another number of streams.
        """
        form = in_its_form(self.model, self._inputs)
        # Up to there only: a list may be what the values of one input are in.
        steps = tree.map_structure_up_to(
            form, lambda spec, x: tf.convert_to_tensor(x, spec.dtype), form, inputs
        )
        steps = tree.flatten(steps)
        outputs, states = self._step(steps, self._checked(states, steps[0].shape[0]))
        return tree.pack_sequence_as(self._output, outputs), states

    def export(self, filepath: str | Path) -> None:
        """Write a SavedModel that needs nothing but TensorFlow to run.

        Its signatures:

        - `step` takes the inputs, by the names that they have in the model, and the states by theirs, and
          gives the outputs, by their layers' names, and the new states by the same names;
        - `initial_state` takes `batch`, an int32, and gives the states before the first step.

        Args:
            filepath: The folder to write. It is written beside its place and renamed, so it is whole or
                absent.

        Raises:
            FileExistsError: If it is there already.
        """
        path, names = Path(filepath), list(self.states)
        if path.exists():
            raise FileExistsError(f"`filepath` is there already: {path}.")
        outputs = output_names(self.model, [*names, *(spec.name for spec in self._inputs)])

        def step(*given: Tensor) -> dict[str, Tensor]:
            count = len(self._inputs)
            states = dict(zip(names, given[count:], strict=True))
            found, states = self._advance(given[:count], states)
            return dict(zip(outputs, found, strict=True)) | states

        archive = keras.export.ExportArchive()
        archive.track(self.model)
        archive.add_endpoint("step", step, [*self._inputs, *self.states.values()])
        batch = tf.TensorSpec((), tf.int32, name="batch")
        archive.add_endpoint("initial_state", self.initial_state, [batch])
        with written_whole(path) as beside:
            archive.write_out(str(beside), verbose=False)

    def _checked(self, states: Any, batch: int | None) -> dict[str, Tensor]:
        wanted = {name: (batch, spec.shape[1]) for name, spec in self.states.items()}
        given: Any = type(states).__name__
        if isinstance(states, Mapping):
            given = {name: tuple(tf.convert_to_tensor(x).shape) for name, x in states.items()}
        if not isinstance(given, dict) or not (
            given.keys() == wanted.keys()
            and all(tf.TensorShape(wanted[name]).is_compatible_with(given[name]) for name in wanted)
        ):
            raise ValueError(
                "`states` must be what `initial_state(batch)` or the step before gave, a row for each "
                f"stream of the inputs: for a batch of {batch} the shapes {wanted}; got {given}."
            )
        return {n: tf.convert_to_tensor(states[n], spec.dtype) for n, spec in self.states.items()}

    def _advance(
        self, inputs: Sequence[Tensor], states: dict[str, Tensor] | None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The outputs and the new states; without states from where a sequence starts."""
        new: dict[str, Tensor] = {}
        self._places = []

        def read(name: str, start: Tensor) -> Tensor:
            return start if states is None else tf.cast(states[name], start.dtype)

        def instead_of_loop(layer: Any) -> Callable[..., Any]:
            def inner_loop(
                sequences: Tensor, initial_state: Any, mask: Any = None, training: bool = False
            ) -> Any:
                # A layer that is called twice has the states of two.
                own = [f"{layer.name}_{name}" for name in (*_state_names(layer.cell), "output")]
                *names, output_name = unique(own, new)
                self._places.append((layer, names))
                starts = tree.flatten(initial_state)
                old = [read(*pair) for pair in zip(names, starts, strict=True)]
                output, after = layer.cell(
                    sequences[:, 0], tree.pack_sequence_as(initial_state, old)
                )
                after = tree.flatten(after)
                mask = mask[0] if isinstance(mask, (list, tuple)) else mask
                if mask is not None:
                    counts, repeated = tf.cast(mask[:, :1], "bool"), tf.zeros_like(output)
                    if not layer.zero_output_for_mask:
                        repeated = read(output_name, repeated)
                    output = tf.where(counts, output, repeated)
                    after = [tf.where(counts, *pair) for pair in zip(after, old, strict=True)]
                    if not layer.zero_output_for_mask:
                        new[output_name] = _wide(output)
                new.update(zip(names, map(_wide, after), strict=True))
                return output, output[:, None], tree.pack_sequence_as(initial_state, after)

            return inner_loop

        with replaced([(layer, "inner_loop", instead_of_loop(layer)) for layer in self._recurrent]):
            one_step = [tf.expand_dims(x, 1) for x in inputs]
            outputs = tree.flatten(self.model(in_its_form(self.model, one_step), training=False))
        symbols = tree.flatten(self._output)
        return [x[:, 0] if _has_time(s) else x for x, s in zip(outputs, symbols, strict=True)], new


def to_streaming(model: Any, path: str | Path) -> Path:
    """Write a model as a SavedModel that reads one step at a time: `Streaming(model).export(path)`.

    Args:
        model: See `Streaming`, which also reads step by step without a file.
        path: The folder; see `Streaming.export`.

    Returns:
        The path.

    Raises:
        FileExistsError: If the folder is there already.
        ValueError: If the model cannot be read step by step; the message names the layer and what to do.

    Example:

    >>> import keras, kerasrnn, os, tempfile
    >>> words = keras.Input((None,), dtype="int32", name="words")
    >>> x = keras.layers.Embedding(9, 2)(words)
    >>> model = keras.Model(words, kerasrnn.layers.GRU(3, name="read")(x))
    >>> path = kerasrnn.interop.to_streaming(model, os.path.join(tempfile.mkdtemp(), "model"))
    >>> import tensorflow as tf
    >>> served = tf.saved_model.load(path).signatures
    >>> states = served["initial_state"](batch=tf.constant(1))
    >>> answer = served["step"](words=tf.constant([5]), **states)
    >>> sorted(answer)
    ['read', 'read_hidden']
    """
    Streaming(model).export(path)
    return Path(path)


# What looks at each step by itself, if it has no axis or not that of time.
_LAYERS = {
    *(keras.layers.Activation, keras.layers.ELU, keras.layers.LeakyReLU, keras.layers.ReLU),
    *(keras.layers.ActivityRegularization, keras.layers.AlphaDropout, keras.layers.Dropout),
    *(keras.layers.GaussianDropout, keras.layers.GaussianNoise, keras.layers.SpatialDropout1D),
    *(keras.layers.Add, keras.layers.Average, keras.layers.Concatenate, keras.layers.Maximum),
    *(keras.layers.Minimum, keras.layers.Multiply, keras.layers.Subtract),
    *(keras.layers.BatchNormalization, keras.layers.LayerNormalization, keras.layers.Softmax),
    *(keras.layers.RMSNormalization, keras.layers.UnitNormalization, keras.layers.Rescaling),
    *(keras.layers.Dense, keras.layers.Embedding, keras.layers.Identity, keras.layers.Masking),
    *(keras.layers.IntegerLookup, keras.layers.StringLookup, keras.layers.TimeDistributed),
    *(layers.ActivationRegularization, layers.EmbeddingDropout, layers.LockedDropout),
    layers.WordDropout,
}
# The same among `keras.ops`, by the names of their classes, which Keras does not export.
_OPERATIONS = {
    *("Absolute", "Add", "Cast", "Concatenate", "Divide", "Exp", "Gelu", "LogSoftmax", "Max"),
    *("Maximum", "Mean", "Min", "Minimum", "Multiply", "Negative", "Relu", "Sigmoid", "Silu"),
    *("Softmax", "Sqrt", "Square", "Subtract", "Sum", "Tanh", "TrueDivide", "Where"),
}


def _recurrent_layers(model: Any) -> list[Any]:
    """The layers that carry something from step to step.

    Raises:
        ValueError: If there is anything else that is no matter of a step.
    """
    for x in model.inputs:
        if not _has_time(x):
            raise ValueError(
                f"The input {x.name!r} of `model` has the shape {x.shape}, which is not one of sequences "
                "of any length, (None, None, ...): build the model with `keras.Input((None, ...))` and "
                "give it these weights."
            )
    found: list[Any] = []
    # What works on no sequence, as after the last recurrent layer, works on what there is so far.
    for part in getattr(model, "operations", model.layers):
        if isinstance(part, keras.layers.InputLayer) or not any(map(_has_time, _read_by(part))):
            continue
        reason = None
        if isinstance(part, keras.layers.RNN):
            found.append(part)
            reason = _why_not_recurrent(part)
        elif isinstance(part, keras.Model) and getattr(part, "inputs", None):
            found += _recurrent_layers(part)
        else:
            reason = _why_not(part)
        if reason:
            raise ValueError(
                f"`model` holds {part.name!r} ({type(part).__name__}), which cannot be read step by "
                f"step: {reason}."
            )
    return found


def _why_not_recurrent(layer: Any) -> str | None:
    if layer.stateful:
        return (
            "its states are kept between calls, and a stream has none but those that it is given: build "
            "the model with `stateful=False` and give it these weights"
        )
    if layer.go_backwards:
        return _FROM_THE_END
    if len(_read_by(layer)) > 1:
        return (
            "its initial states come from elsewhere in the model; give them to `step` as the states "
            "instead"
        )
    return why_not_loop(layer)


def _why_not(part: Any) -> str | None:
    if isinstance(part, keras.layers.Bidirectional):
        return _FROM_THE_END
    if isinstance(part, keras.Layer):
        known = type(part) in _LAYERS
    elif all(x.dtype == "bool" for x in tree.flatten(part.output)):
        return None  # Keras makes a mask of another.
    else:
        known = type(part).__name__ in _OPERATIONS
    if not known:
        return (
            "it may look at other steps too. If it does not, put it into `keras.layers.TimeDistributed`, "
            "or take a layer of Keras for it; if it does, export the model up to there, "
            "`keras.Model(model.inputs, what_the_layer_reads)`, and compute the rest outside"
        )
    read = _read_by(part)
    axes = [axis % len(x.shape) for x in read for axis in _axes(part)]
    if not all(map(_has_time, [*read, *tree.flatten(part.output)])) or any(a < 2 for a in axes):
        return "it puts together what belongs to several steps"
    return None


_FROM_THE_END = (
    "it begins with the last step, which a stream does not have: train a model that reads forward"
)


def _axes(part: Any) -> list[int]:
    """Along which dimensions it puts together what it reads; all of them leave no time to its output."""
    return [axis for axis in tree.flatten(getattr(part, "axis", None)) if axis is not None]


def _read_by(part: Any) -> list[Any]:
    """The symbolic tensors that it reads. Masks go with the sequences that they belong to."""
    return [x for x in tree.flatten(part.input) if x.dtype != "bool"]


def _has_time(x: Any) -> bool:
    """Whether a symbolic tensor is one of sequences: `(batch, time, ...)`, of any length."""
    return len(x.shape) > 1 and x.shape[1] is None


def _state_names(cell: Any) -> list[str]:
    if isinstance(cell, cells.Cell):
        return list(cell.states)
    return [f"state_{number}" for number in range(len(tree.flatten(cell.state_size)))]


def _wide(x: Tensor) -> Tensor:
    """In at least float32: half precision is no type that others can hold."""
    return tf.cast(x, tf.float32) if x.dtype in (tf.float16, tf.bfloat16) else x
