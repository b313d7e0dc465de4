"""A conditional random field over a sequence of tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasrnn import _keras, tagging
from kerasrnn.layers import _chain
from kerasrnn.layers._chain import Chain

Tensor = Any

# What a forbidden transition scores: no sum of sensible scores makes up for it, not of thousands of
# steps, and, other than minus infinity, it leaves the loss of a sequence that breaks the rules a number.
FORBIDDEN = -1e12


@keras.saving.register_keras_serializable("kerasrnn")
class CRFLoss(keras.losses.Loss):
    """The exact negative log-likelihood of the tags, under the `CRF` that decodes them.

    It is `CRF.loss`: `model.compile("adam", loss=CRF.loss)`. One number for each sequence; the mean over
    the batch by default. A wholly masked sequence has the loss 0.

    Args:
        reduction: As of every Keras loss.
        name: Likewise.
        dtype: Likewise. The recursion itself is computed in at least float32.

    Call arguments:
        y_true: Integers `(batch, time)` or `(batch, time, 1)`, the numbers of the tags. What stands at
            masked steps is not read. A step with a negative number is left out, as if it were masked.
            With a number for which there is no tag the loss is NaN.
        y_pred: What a `CRF` layer gave, as it gave it: the tags know the scores that they come from.
        sample_weight: `(batch,)`, one for each sequence.

    Raises:
        ValueError: If `y_pred` does not come straight from a `CRF`, if `y_true` has another shape, or
            if a weight is given for each step.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "crf_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        chain = _keras.get_note(y_pred, _NOTE)
        if chain is None and _keras.in_symbolic_scope():  # Keras only asks for shapes.
            values = ops.zeros(ops.shape(y_pred)[:1])
        elif chain is None:
            raise ValueError(
                "`CRF.loss` takes the tags that a `CRF` layer gives, straight from it: make the layer the "
                f"model's output. Got a tensor of shape {tuple(y_pred.shape)} that has no scores with it."
            )
        else:
            tags = _tags(y_true, chain)
            chain = chain._replace(mask=ops.logical_and(chain.mask, tags >= 0))
            values = _negative_log_likelihood(chain, tags)
        if (
            sample_weight is not None
            and len(sample_weight.shape) > 1
            and sample_weight.shape[1] != 1
        ):
            raise ValueError(
                "`sample_weight` must have the shape (batch,), as a CRF weighs whole sequences; got "
                f"{tuple(sample_weight.shape)}. Steps that do not count are told by the mask."
            )
        return super().__call__(values, values, sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_pred


@keras.saving.register_keras_serializable("kerasrnn")
class CRF(keras.layers.Layer):
    r"""Linear-chain conditional random field: the tags of a sequence, chosen together.

    The score of a sequence of tags y for the inputs x is

        s(x, y) = start[y_1] + sum_t (x_t W + b)[y_t] + sum_t transitions[y_t, y_(t+1)] + end[y_T]

    and p(y | x) = exp(s(x, y)) / Z(x). Training maximises it, exactly (Lafferty et al. 2001,
    https://repository.upenn.edu/cis_papers/159); the layer gives the y of the highest score (Viterbi).
    It stands where a `Dense` layer with a softmax would:

        tags = CRF(num_tags)(features)
        model = keras.Model(inputs, tags)
        model.compile("adam", loss=CRF.loss)

    The best path is searched only where it is used: in training, where nothing but the loss is asked
    for, TensorFlow's and JAX's graphs leave it out. `metrics=` that read tags are in
    `kerasrnn.metrics`; Keras's `"accuracy"` expects scores and does not fit.

    Args:
        num_tags: The number of tags.
        labels: The names of the tags, in the order of their numbers. Needed with `scheme`.
        scheme: `"IOB1"`, `"BIO"`, `"BIOES"` or `"BILOU"`: forbids what the scheme does, such as I-PER
            after B-LOC, in training and in decoding. Training data must obey it, or their loss is
            huge: see `kerasrnn.tagging.repair`.
        use_kernel: Whether to project the inputs. Without it their features are the scores of the tags.
        use_bias: Whether the projection has a bias.
        kernel_initializer: Of `kernel` `(features, num_tags)`.
        bias_initializer: Of `bias` `(num_tags,)`.
        transition_initializer: Of `transitions` `(num_tags, num_tags)`, from row to column, and of
            `start_scores` and `end_scores` `(num_tags,)`.
        kernel_regularizer: Of `kernel`.
        transition_regularizer: Of `transitions`.
        **kwargs: `name`, `dtype` and `trainable`, as every Keras layer has. With a mixed dtype policy
            the projection is in 16 bits, and all that follows in float32.

    Call arguments:
        inputs: `(batch, time, features)`.
        mask: Boolean `(batch, time)` of any shape. Masked steps are as if they were not there.
        marginals: Whether to give the probability of each tag at each step instead.

    Returns:
        int32 `(batch, time)`, the best sequence of tags, 0 at masked steps. Of sequences with the same
        score the one with the lowest last tag, then the lowest last but one, and so on. With
        `marginals` float `(batch, time, num_tags)`, at least float32, 0 at masked steps.

    Raises:
        ValueError: If an argument, or the shape of an input, is wrong; the message names it.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.CRF(3, labels=["O", "B-PER", "I-PER"], scheme="BIO", use_kernel=False)
    >>> scores = keras.ops.convert_to_tensor([[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]])
    >>> layer(scores).numpy().tolist()  # never I-PER first, though it has the higher score
    [[1, 2]]
    """

    loss = CRFLoss()

    def __init__(
        self,
        num_tags: int,
        labels: Sequence[str] | None = None,
        scheme: str | None = None,
        use_kernel: bool = True,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        transition_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        transition_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (
            isinstance(num_tags, bool)
            or not isinstance(num_tags, (int, np.integer))
            or num_tags < 1
        ):
            raise ValueError(f"`num_tags` must be a positive integer, got {num_tags!r}.")
        num_tags = int(num_tags)
        if labels is not None and (isinstance(labels, str) or len(labels) != num_tags):
            raise ValueError(
                f"`labels` must be a list with a name for each of the {num_tags} tags, got {labels!r}."
            )
        self._allowed = None
        if scheme is not None:
            if labels is None:
                raise ValueError("`scheme` needs `labels`, the names of the tags in their order.")
            self._allowed = tagging.transitions(labels, scheme)
        self.num_tags = num_tags
        self.labels = None if labels is None else [str(label) for label in labels]
        self.scheme = scheme
        self.use_kernel = use_kernel
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.transition_initializer = keras.initializers.get(transition_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.transition_regularizer = keras.regularizers.get(transition_regularizer)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, input_shape: Any) -> None:
        features = input_shape[-1]
        self.kernel = self.bias = None
        if self.use_kernel:
            self.kernel = self.add_weight(
                (features, self.num_tags),
                initializer=self.kernel_initializer,
                regularizer=self.kernel_regularizer,
                name="kernel",
            )
        elif features != self.num_tags:
            raise ValueError(
                f"Without `use_kernel` the inputs must have {self.num_tags} features, the scores of the "
                f"tags; got the shape {tuple(input_shape)}."
            )
        if self.use_kernel and self.use_bias:
            self.bias = self.add_weight(
                (self.num_tags,), initializer=self.bias_initializer, name="bias"
            )
        self.transitions = self.add_weight(
            (self.num_tags, self.num_tags),
            initializer=self.transition_initializer,
            regularizer=self.transition_regularizer,
            name="transitions",
        )
        self.start_scores, self.end_scores = (
            self.add_weight((self.num_tags,), initializer=self.transition_initializer, name=name)
            for name in ("start_scores", "end_scores")
        )
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: features})
        self.built = True

    def call(self, inputs: Tensor, mask: Tensor | None = None, marginals: bool = False) -> Tensor:
        chain = self.chain(inputs, mask)
        given = _chain.marginals(chain) if marginals else _chain.best_path(chain)
        _keras.set_note(given, _NOTE, chain)
        return given

    def chain(self, inputs: Tensor, mask: Tensor | None = None) -> Chain:
        """The scores of all sequences of tags, in at least float32."""
        potentials = inputs
        if self.kernel is not None:
            potentials = ops.matmul(potentials, self.kernel)
        if self.bias is not None:
            potentials = potentials + self.bias
        wide = keras.backend.result_type(potentials.dtype, "float32")
        if mask is None:
            mask = ops.ones_like(potentials[..., 0], dtype="bool")
        elif not _fits(mask.shape, inputs.shape[:2]):
            raise ValueError(
                f"`mask` must have the shape (batch, time), here {tuple(inputs.shape[:2])}; "
                f"got {tuple(mask.shape)}."
            )
        with _keras.AutocastScope(None):  # The weights as they are, not in 16 bits.
            weights = [
                ops.cast(ops.convert_to_tensor(weight), wide)
                for weight in (self.transitions, self.start_scores, self.end_scores)
            ]
        if self._allowed is not None:
            weights = [
                ops.where(ops.convert_to_tensor(allowed), weight, FORBIDDEN)
                for allowed, weight in zip(self._allowed, weights, strict=True)
            ]
        transitions, start, end = weights
        potentials, mask = ops.cast(potentials, wide), ops.cast(mask, "bool")
        return Chain(potentials, transitions, start, end, mask)

    def compute_output_spec(self, inputs: Any, mask: Any = None, marginals: bool = False) -> Any:
        if not marginals:
            return keras.KerasTensor(inputs.shape[:2], "int32")
        wide = keras.backend.result_type(self.compute_dtype, "float32")
        return keras.KerasTensor((*inputs.shape[:2], self.num_tags), wide)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[:2])

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return mask

    def get_config(self) -> dict[str, Any]:
        plain = ("num_tags", "labels", "scheme", "use_kernel", "use_bias")
        kinds = {
            "kernel_initializer": keras.initializers,
            "bias_initializer": keras.initializers,
            "transition_initializer": keras.initializers,
            "kernel_regularizer": keras.regularizers,
            "transition_regularizer": keras.regularizers,
        }
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in plain},
            **{name: kind.serialize(getattr(self, name)) for name, kind in kinds.items()},
        }


# The name under which tags know the chain that they were decoded from, as a tensor knows its mask.
_NOTE = "_kerasrnn_chain"


def _tags(y_true: Tensor, chain: Chain) -> Tensor:
    y_true = ops.convert_to_tensor(y_true)
    tags = y_true[..., 0] if len(y_true.shape) == 3 and y_true.shape[-1] == 1 else y_true
    if not _fits(tags.shape, chain.mask.shape):
        raise ValueError(
            "`y_true` must hold the numbers of the tags, (batch, time), here "
            f"{tuple(chain.mask.shape)}; got the shape {tuple(y_true.shape)}."
        )
    return ops.cast(tags, "int32")


def _fits(shape: Any, expected: Any) -> bool:
    """Whether a shape is the one expected, as far as both are known."""
    return len(shape) == len(expected) and all(
        None in sizes or len({*sizes}) == 1 for sizes in zip(shape, expected, strict=True)
    )


def _negative_log_likelihood(chain: Chain, tags: Tensor) -> Tensor:
    """Compiled, and with its gradient in the same go, where TensorFlow makes a graph to run."""
    if not _keras.may_compile():
        return _chain.negative_log_likelihood(chain, tags)
    from kerasrnn import fast

    potentials, mask = chain.potentials, chain.mask
    if tags.shape[1] is None:
        potentials, mask, tags = fast.padded([potentials, mask, tags])
    rows = ops.shape(tags)[0]
    shared = (ops.repeat(w[None], rows, axis=0) for w in chain[1:4])
    return fast.values(_rows, [potentials, *shared], [mask, tags])


def _rows(*given: Tensor) -> Tensor:
    *chain, tags = given
    return _chain.negative_log_likelihood(Chain(*chain), tags)
