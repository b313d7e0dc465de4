"""Dropouts for sequences: of words, of their vectors, of features."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Tensor = Any


@keras.saving.register_keras_serializable("kerasrnn")
class WordDropout(keras.layers.Layer):
    """Hides words in training: single occurrences, and whole words of the vocabulary.

    A hidden word becomes the unknown word, so that the network learns to do without it and gives
    the unknown word a meaning. Padding, number 0, is never touched.

    Args:
        rate: Fraction of the words in the text to hide, each on its own (Iyyer et al. 2015,
            https://aclanthology.org/P15-1162).
        type_rate: Fraction of the vocabulary to hide, in the whole batch at once (Gal & Ghahramani
            2016, https://arxiv.org/abs/1512.05287).
        vocabulary_size: The number of words, padding and the unknown word included. Needed for
            `type_rate`.
        unknown: The number of the unknown word.
        seed: Seed of the choice.
        **kwargs: `name` and `dtype`, as every Keras layer has.

    Call arguments:
        ids: Integers `(batch, time)`, the numbers of the words.
        training: Whether to hide at all.

    Returns:
        Integers of the same shape and dtype.

    Example:

    >>> import keras, kerasrnn
    >>> layer = kerasrnn.layers.WordDropout(0.5, seed=1)
    >>> ids = keras.ops.convert_to_tensor([[5, 6, 7, 8, 0, 0]])
    >>> hidden = layer(ids, training=True).numpy()
    >>> bool(((hidden == ids.numpy()) | (hidden == 1)).all()), hidden[0, 4:].tolist()
    (True, [0, 0])
    """

    def __init__(
        self,
        rate: float = 0.0,
        type_rate: float = 0.0,
        vocabulary_size: int | None = None,
        unknown: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_rate("rate", rate)
        _check_rate("type_rate", type_rate)
        if type_rate and not vocabulary_size:
            raise ValueError(
                "`type_rate` needs `vocabulary_size`, the number of words to choose from."
            )
        self.rate = rate
        self.type_rate = type_rate
        self.vocabulary_size = vocabulary_size
        self.unknown = unknown
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self.built = True

    def call(self, ids: Tensor, training: bool = False) -> Tensor:
        if not training or not (self.rate or self.type_rate):
            return ids
        hide = ops.zeros_like(ids, dtype="bool")
        if self.rate:
            chance = keras.random.uniform(ops.shape(ids), seed=self.seed_generator)
            hide = chance < self.rate
        if self.type_rate:
            chance = keras.random.uniform((self.vocabulary_size,), seed=self.seed_generator)
            hide = ops.logical_or(hide, ops.take(chance, ids, axis=0) < self.type_rate)
        hide = ops.logical_and(hide, ops.not_equal(ids, 0))
        return ops.where(hide, ops.cast(self.unknown, ids.dtype), ids)

    def compute_output_spec(self, ids: Any, training: bool = False) -> Any:
        return keras.KerasTensor(ids.shape, ids.dtype)

    def get_config(self) -> dict[str, Any]:
        own = ("rate", "type_rate", "vocabulary_size", "unknown", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


@keras.saving.register_keras_serializable("kerasrnn")
class LockedDropout(keras.layers.Dropout):
    """Dropout with one mask for all steps of a sequence, also called variational (Gal & Ghahramani 2016).

    What is dropped at one step is dropped at all, each sequence of the batch has a mask of its own, and
    what stays is scaled by 1 / (1 - rate). See https://arxiv.org/abs/1512.05287. It is what
    `keras.layers.SpatialDropout1D` does, under the name by which language models know it; saved in
    mixed precision, it comes back in mixed precision.

    Args:
        rate: Fraction of the features to drop.
        seed: Seed of the choice.
        **kwargs: `name` and `dtype`, as every Keras layer has.

    Call arguments:
        sequences: `(batch, time, features)`.
        training: Whether to drop at all.

    Returns:
        The same shape, in the compute dtype.

    Example:

    >>> import keras, kerasrnn
    >>> dropped = kerasrnn.layers.LockedDropout(0.5)(keras.ops.ones((2, 3, 4)), training=True).numpy()
    >>> bool((dropped == dropped[:, :1]).all())
    True
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(rate, seed=seed, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def call(self, sequences: Tensor, training: bool = False) -> Tensor:
        if not training or not self.rate:
            return sequences
        batch, _, features = ops.shape(sequences)
        return keras.random.dropout(
            sequences, self.rate, noise_shape=(batch, 1, features), seed=self.seed_generator
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["noise_shape"]
        return config


@keras.saving.register_keras_serializable("kerasrnn")
class EmbeddingDropout(keras.layers.Layer):
    """Drops the vectors of whole words of the vocabulary, and scales the others by 1 / (1 - rate).

    The words are chosen anew for each batch, and a dropped one is dropped wherever it occurs in the
    batch (Gal & Ghahramani 2016, https://arxiv.org/abs/1512.05287; Merity et al. 2017,
    https://arxiv.org/abs/1708.02182). That equals dropout of the rows of the embedding, which may
    be any layer.

    Args:
        rate: Fraction of the vocabulary to drop.
        vocabulary_size: The number of words.
        seed: Seed of the choice.
        **kwargs: `name` and `dtype`, as every Keras layer has.

    Call arguments:
        vectors: `(batch, time, features)`, the words' vectors. Their mask goes on.
        ids: Integers `(batch, time)`, the words' numbers, from 0 to `vocabulary_size - 1`.
        training: Whether to drop at all.

    Returns:
        `(batch, time, features)`, in the compute dtype.

    Example:

    >>> import keras, kerasrnn
    >>> ids = keras.ops.convert_to_tensor([[1, 2, 1]])
    >>> layer = kerasrnn.layers.EmbeddingDropout(0.5, vocabulary_size=3)
    >>> dropped = layer(keras.ops.ones((1, 3, 4)), ids, training=True).numpy()
    >>> bool((dropped[0, 0] == dropped[0, 2]).all()), set(dropped.ravel().tolist()) <= {0.0, 2.0}
    (True, True)
    """

    def __init__(
        self, rate: float, vocabulary_size: int, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        _check_rate("rate", rate)
        if not isinstance(vocabulary_size, int) or vocabulary_size < 1:
            raise ValueError(
                f"`vocabulary_size` must be a positive integer, got {vocabulary_size!r}."
            )
        self.rate = rate
        self.vocabulary_size = vocabulary_size
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self.built = True

    def call(self, vectors: Tensor, ids: Tensor, training: bool = False) -> Tensor:
        if not training or not self.rate:
            return vectors
        words = ops.ones((self.vocabulary_size, 1), dtype=vectors.dtype)
        factors = keras.random.dropout(words, self.rate, seed=self.seed_generator)
        return vectors * ops.take(factors, ops.cast(ids, "int32"), axis=0)

    def compute_mask(self, vectors: Tensor, previous_mask: Any = None) -> Any:
        # Only the vectors' mask, should the ids have one too.
        return previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask

    def compute_output_shape(self, vectors_shape: Any, ids_shape: Any) -> Any:
        return vectors_shape

    def get_config(self) -> dict[str, Any]:
        own = ("rate", "vocabulary_size", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def _check_rate(name: str, rate: float) -> None:
    if not 0 <= rate < 1:
        raise ValueError(f"`{name}` must be at least 0 and less than 1, got {rate!r}.")
