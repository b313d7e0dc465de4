"""Dropouts for sequences of words."""

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
        for name, value in (("rate", rate), ("type_rate", type_rate)):
            if not 0 <= value < 1:
                raise ValueError(f"`{name}` must be at least 0 and less than 1, got {value!r}.")
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
