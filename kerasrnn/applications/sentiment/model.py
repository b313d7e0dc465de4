"""The model: from raw strings, through recurrent layers, to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from kerasrnn.applications._parts import (
    check_counts,
    check_names,
    check_rates,
    check_texts,
    recurrent_layer,
    seeds,
)
from kerasrnn.applications._precision import TextModel
from kerasrnn.applications.text import at_least_one_step, word_numbers
from kerasrnn.layers import SequencePooling, WordDropout

Tensor = Any


class Verdict(NamedTuple):
    """What the model says of one text.

    Attributes:
        label: The likeliest label.
        confidence: Its probability.
        probabilities: The probability of every label.
    """

    label: str
    confidence: float
    probabilities: dict[str, float]


@keras.saving.register_keras_serializable("kerasrnn")
class SentimentClassifier(TextModel):
    """Classifies texts by sentiment, with bidirectional recurrent layers of any registered cell.

    words -> numbers -> word dropout -> embedding -> recurrent layers -> reading -> softmax

    Args:
        vocabulary: The words that it knows, most frequent first. All others are one unknown word.
        labels: The names of the classes.
        cell: The registered name of the recurrent cell; see `kerasrnn.cells.names`.
        units: The units of each recurrent layer, in each direction.
        num_layers: The number of recurrent layers, one on top of the other.
        bidirectional: Whether to read each text backwards too.
        embedding_dim: The size of a word's vector.
        reading: How the outputs become one vector: any of `"last"`, `"mean"`, `"max"` and
            `"attention"`; several are set side by side.
        word_dropout: Fraction of the words in the text that training hides.
        type_dropout: Fraction of the vocabulary that training hides, for a batch at a time.
        embedding_dropout: Fraction of the embedding's features dropped, for a whole text at once.
        recurrent_dropout: Fraction of the recurrent state dropped, for a whole text at once.
        dropout: Fraction dropped between the layers and before the verdict.
        max_length: The number of words that are read: of a longer text the first quarter of them
            from its start and the rest from its end, where reviewers come to their verdict.
        seed: Seed of the dropouts.
        **kwargs: `name` and `dtype`.

    Call arguments:
        inputs: Texts, a string tensor `(batch,)`; or numbers of words, integers `(batch, time)`,
            padded with 0, which is what `word_ids` makes of texts.

    Returns:
        Probabilities `(batch, labels)`, float32. An empty text gets a verdict too.

    Raises:
        ValueError: If an argument's value is wrong; the message names it.

    Example:

    >>> import kerasrnn
    >>> model = kerasrnn.applications.SentimentClassifier(
    ...     vocabulary=["a", "great", "dull", "film"], cell="coupled_lstm", units=4, embedding_dim=4)
    >>> verdict, = model.classify(["A great film!"])
    >>> verdict.label in ("negative", "positive")
    True
    """

    READINGS: ClassVar[tuple[str, ...]] = ("last", *SequencePooling.MODES)

    def __init__(
        self,
        vocabulary: Sequence[str],
        *,
        labels: Sequence[str] = ("negative", "positive"),
        cell: str = "gru",
        units: int = 64,
        num_layers: int = 1,
        bidirectional: bool = True,
        embedding_dim: int = 64,
        reading: str | Sequence[str] = ("max", "mean"),
        word_dropout: float = 0.1,
        type_dropout: float = 0.4,
        embedding_dropout: float = 0.3,
        recurrent_dropout: float = 0.0,
        dropout: float = 0.5,
        max_length: int = 400,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        reading = (reading,) if isinstance(reading, str) else tuple(reading)
        if not reading or set(reading) - set(self.READINGS):
            raise ValueError(f"`reading` must name some of {self.READINGS}, got {reading!r}.")
        check_names(2, labels=labels)
        check_names(1, vocabulary=vocabulary)
        check_counts(num_layers=num_layers, embedding_dim=embedding_dim, max_length=max_length)
        check_rates(
            word_dropout=word_dropout,
            type_dropout=type_dropout,
            embedding_dropout=embedding_dropout,
            dropout=dropout,
        )
        draws = seeds(seed, num_layers * 3 + 5)
        self._arguments = {
            "vocabulary": list(vocabulary),
            "labels": list(labels),
            "cell": cell,
            "units": units,
            "num_layers": num_layers,
            "bidirectional": bidirectional,
            "embedding_dim": embedding_dim,
            "reading": list(reading),
            "word_dropout": word_dropout,
            "type_dropout": type_dropout,
            "embedding_dropout": embedding_dropout,
            "recurrent_dropout": recurrent_dropout,
            "dropout": dropout,
            "max_length": max_length,
            "seed": seed,
        }
        self.labels = tuple(labels)
        self.max_length = max_length
        self.reading = reading
        words = len(vocabulary) + 2  # padding and the unknown word
        self.word_numbers = word_numbers(vocabulary)
        dtype = self.dtype_policy
        self.word_dropout = WordDropout(word_dropout, type_dropout, words, seed=next(draws))
        self.embedding = keras.layers.Embedding(
            words,
            embedding_dim,
            embeddings_initializer=keras.initializers.RandomUniform(-0.05, 0.05, seed=next(draws)),
            dtype=dtype,
        )
        self.embedding_dropout = keras.layers.SpatialDropout1D(
            embedding_dropout, seed=next(draws), dtype=dtype
        )
        self.recurrent = [
            recurrent_layer(
                cell,
                units,
                bidirectional=bidirectional,
                recurrent_dropout=recurrent_dropout,
                seed=next(draws),
                dtype=dtype,
                return_state=True,
                zero_output_for_mask=True,
            )
            for _ in range(num_layers)
        ]
        self.between = [
            keras.layers.Dropout(dropout, seed=next(draws), dtype=dtype) for _ in range(num_layers)
        ]
        pooling_seed = next(draws)
        self.pooling = [
            SequencePooling(mode, seed=pooling_seed, dtype=dtype)
            for mode in reading
            if mode != "last"
        ]
        # In float32 also under mixed precision: a probability near 1 needs the digits.
        self.verdict = keras.layers.Dense(
            len(labels),
            activation="softmax",
            dtype="float32",
            kernel_initializer=keras.initializers.GlorotUniform(seed=next(draws)),
            name="verdict",
        )
        # Built at once, since all sizes are known. Keras remembers the dtype of the first call for
        # its exports, and it has no word for strings: so the first call is one with numbers.
        self(tf.zeros((1, 1), tf.int64))

    def build(self, input_shape: Any = None) -> None:
        """Make the weights, once. What the input is does not change them."""
        if self.embedding.built:
            return
        self.embedding.build((None, None))
        features = self.embedding.output_dim
        for layer in self.recurrent:
            layer.build((None, None, features))
            features = layer.compute_output_shape((None, None, features))[0][-1]
        for pooling in self.pooling:
            pooling.build((None, None, features))
        self.verdict.build((None, features * len(self.reading)))
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        ids = self.in_numbers(inputs)
        x = self.embedding(self.word_dropout(ids, training=training))
        return self.verdict(self.read_vectors(x, ops.not_equal(ids, 0), training)[0])

    def read_vectors(
        self, x: Tensor, mask: Tensor, training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """All that lies between the words' vectors and the verdict.

        Args:
            x: The vectors, `(batch, time, embedding_dim)`.
            mask: Boolean `(batch, time)`, the steps that hold a word.
            training: Whether the dropouts are at work.

        Returns:
            What the verdict is given on, `(batch, features * readings)`, and the outputs of the last
            recurrent layer, `(batch, time, features)`, which the readings read.
        """
        x = self.embedding_dropout(x, training=training)
        for layer, dropout in zip(self.recurrent, self.between, strict=True):
            x, *states = layer(x, mask=mask, training=training)
            if layer is not self.recurrent[-1]:
                x = dropout(x, training=training)
        pooled = iter([pooling(x, mask=mask) for pooling in self.pooling])
        vectors = [self._last(states) if mode == "last" else next(pooled) for mode in self.reading]
        return self.between[-1](ops.concatenate(vectors, -1), training=training), x

    def _last(self, states: list[Tensor]) -> Tensor:
        """The final hidden state, of both directions if there are two."""
        if not self._arguments["bidirectional"]:
            return states[0]
        return ops.concatenate([states[0], states[len(states) // 2]], -1)

    def in_numbers(self, inputs: Tensor) -> Tensor:
        return self.word_ids(inputs) if inputs.dtype == tf.string else inputs

    def word_ids(self, texts: Tensor) -> Tensor:
        """The numbers of the words of texts: int64 `(batch, time)`, padded with 0, time at least 1."""
        return at_least_one_step(self.ragged_ids(texts).to_tensor())

    def ragged_ids(self, texts: Tensor) -> Any:
        """The numbers of the words that are read of each text: a ragged int64 tensor."""
        return self.part_read(self.word_numbers(texts))

    def part_read(self, words: Any) -> Any:
        """What is read of each row of a ragged tensor: a part from its start, and one from its end."""
        start = self.max_length // 4
        return tf.concat([words[:, :start], words[:, start:][:, start - self.max_length :]], axis=1)

    def classify(self, texts: Sequence[str], batch_size: int = 64) -> list[Verdict]:
        """The verdicts on texts, one for each, in their order.

        Args:
            texts: Any strings; empty ones and unknown words too.
            batch_size: How many to read at a time.
        """
        check_texts(texts)
        verdicts = []
        for start in range(0, len(texts), batch_size):
            batch = tf.constant(list(texts[start : start + batch_size]))
            for row in self.predict_on_batch(batch):  # a graph, eight times faster than a call
                probabilities = dict(zip(self.labels, map(float, row), strict=True))
                label = self.labels[int(row.argmax())]
                verdicts.append(Verdict(label, probabilities[label], probabilities))
        return verdicts

    def export(self, filepath: str, format: str = "tf_saved_model", **kwargs: Any) -> None:  # noqa: A002
        """Write a SavedModel that takes raw strings and needs nothing but TensorFlow to run.

        Its signature `serving_default` takes `text`, strings `(batch,)`, and gives `label`, strings
        `(batch,)`; `confidence`, float32 `(batch,)`; and `probabilities`, float32 `(batch, labels)`.

        Args:
            filepath: The folder to write.
            format: Any format of `keras.Model.export`; the others take what Keras gives them.
            **kwargs: Arguments of `keras.Model.export` for the other formats.
        """
        if format != "tf_saved_model":
            super().export(filepath, format=format, **kwargs)
            return
        names = tf.constant(self.labels)

        def serve(text: Tensor) -> dict[str, Tensor]:
            probabilities = self(text, training=False)
            return {
                "label": tf.gather(names, tf.argmax(probabilities, -1)),
                "confidence": tf.reduce_max(probabilities, -1),
                "probabilities": probabilities,
            }

        archive = keras.export.ExportArchive()
        archive.track(self)
        archive.add_endpoint("serve", serve, [tf.TensorSpec((None,), tf.string, name="text")])
        archive.write_out(filepath, verbose=kwargs.get("verbose", False))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._arguments}
