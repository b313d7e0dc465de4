"""The model: from tokens and their characters, through recurrent layers, to a label for each."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerasrnn import _keras, tagging
from kerasrnn.applications._parts import (
    check_counts,
    check_names,
    check_rates,
    recurrent_layer,
    seeds,
)
from kerasrnn.applications._precision import TextModel
from kerasrnn.applications.text import at_least_one_step, fold_words, split_characters
from kerasrnn.layers import CRF, WordDropout

Tensor = Any


class Labelled(NamedTuple):
    """What the model says of one sentence.

    Attributes:
        tokens: The tokens, as they were given.
        labels: A label for each.
        scores: The probability of each label, at its token.
    """

    tokens: tuple[str, ...]
    labels: tuple[str, ...]
    scores: tuple[float, ...]


@keras.saving.register_keras_serializable("kerasrnn")
class SequenceLabeler(TextModel):
    """Labels the tokens of sentences, with recurrent layers of any registered cell and a CRF.

    word and its characters -> vectors -> recurrent layers -> CRF, or softmax (Lample et al. 2016,
    https://aclanthology.org/N16-1030; Ma & Hovy 2016, https://aclanthology.org/P16-1101)

    A word is known by its lower-case form, with every digit as 0; its characters are read as they are.

    Args:
        vocabulary: The words that it knows, in that form, most frequent first. All others are one
            unknown word, of which the characters tell.
        characters: The characters that it knows. All others are one unknown character.
        labels: The names of the labels.
        scheme: The scheme of the labels, if they are of one: `"BIO"`, `"IOB1"`, `"BIOES"` or `"BILOU"`.
            The CRF never gives a sequence of labels that breaks it.
        cell: The registered name of the recurrent cell; see `kerasrnn.cells.names`.
        units: The units of each recurrent layer, in each direction.
        num_layers: The number of recurrent layers, one on top of the other.
        bidirectional: Whether to read each sentence backwards too.
        embedding_dim: The size of a word's vector.
        character_reading: How the characters become one vector: `"cnn"`, a convolution over three of
            them and the highest value over the word; `"bilstm"`, the last states of a bidirectional
            LSTM; or `"none"`, not at all.
        character_dim: The size of a character's vector.
        character_units: The size of what is read of the characters.
        decoder: `"crf"`, or `"softmax"`, which labels each token by itself.
        word_dropout: Fraction of the words that training makes unknown, each on its own.
        type_dropout: Fraction of the vocabulary that training makes unknown, for a batch at a time.
        embedding_dropout: Locked dropout of the words' vectors: the same features for a whole sentence.
        recurrent_dropout: Fraction of the recurrent state dropped, for a whole sentence at once.
        dropout: Locked dropout after each recurrent layer.
        max_word_length: The number of characters that are read: of a longer word as many from its
            start as from its end.
        seed: Seed of the weights and dropouts.
        **kwargs: `name` and `dtype`.

    Call arguments:
        inputs: Tokens, a string tensor `(batch, time)`, padded with the empty string (Keras takes no NumPy
            strings in `fit` and `predict`: `tf.constant` makes a tensor of them); or the numbers
            of the words and of their characters, int32 `(batch, time, 1 + max_word_length)`, padded
            with 0, which is what `token_numbers` makes of tokens.

    Returns:
        With a CRF the numbers of the labels, int32 `(batch, time)`, which train by `CRF.loss`. With
        softmax probabilities `(batch, time, labels)`, float32.

    Raises:
        ValueError: If an argument's value is wrong; the message names it.

    Example:

    >>> import kerasrnn
    >>> model = kerasrnn.applications.SequenceLabeler(
    ...     vocabulary=["lives", "in"], characters="aeilnsv", labels=["O", "B-PER", "B-LOC"],
    ...     scheme="BIO", units=4, embedding_dim=4, character_units=4)
    >>> sentence, = model.label([["Anna", "lives", "in", "Oslo"]])
    >>> len(sentence.labels), set(sentence.labels) <= {"O", "B-PER", "B-LOC"}
    (4, True)
    """

    READINGS: ClassVar[tuple[str, ...]] = ("cnn", "bilstm", "none")
    DECODERS: ClassVar[tuple[str, ...]] = ("crf", "softmax")

    def __init__(
        self,
        vocabulary: Sequence[str],
        characters: Sequence[str],
        labels: Sequence[str],
        *,
        scheme: str | None = None,
        cell: str = "lstm",
        units: int = 150,
        num_layers: int = 1,
        bidirectional: bool = True,
        embedding_dim: int = 100,
        character_reading: Literal["cnn", "bilstm", "none"] = "cnn",
        character_dim: int = 30,
        character_units: int = 60,
        decoder: Literal["crf", "softmax"] = "crf",
        word_dropout: float = 0.05,
        type_dropout: float = 0.2,
        embedding_dropout: float = 0.5,
        recurrent_dropout: float = 0.0,
        dropout: float = 0.5,
        max_word_length: int = 20,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_names(1, vocabulary=vocabulary, labels=labels)
        check_names(1, characters=list(characters))
        check_counts(
            units=units,
            num_layers=num_layers,
            embedding_dim=embedding_dim,
            character_dim=character_dim,
            character_units=character_units,
            max_word_length=max_word_length,
        )
        check_rates(
            word_dropout=word_dropout,
            type_dropout=type_dropout,
            embedding_dropout=embedding_dropout,
            dropout=dropout,
        )
        for name, value, known in (
            ("character_reading", character_reading, self.READINGS),
            ("decoder", decoder, self.DECODERS),
        ):
            if value not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}; got {value!r}.")
        if scheme is not None:
            tagging.transitions(labels, scheme)  # Refuses one that is none, or lacks a label.
        self._arguments = {
            "vocabulary": list(vocabulary),
            "characters": list(characters),
            "labels": list(labels),
            "scheme": scheme,
            "cell": cell,
            "units": units,
            "num_layers": num_layers,
            "bidirectional": bidirectional,
            "embedding_dim": embedding_dim,
            "character_reading": character_reading,
            "character_dim": character_dim,
            "character_units": character_units,
            "decoder": decoder,
            "word_dropout": word_dropout,
            "type_dropout": type_dropout,
            "embedding_dropout": embedding_dropout,
            "recurrent_dropout": recurrent_dropout,
            "dropout": dropout,
            "max_word_length": max_word_length,
            "seed": seed,
        }
        self.labels = tuple(labels)
        self.scheme = scheme
        self.max_word_length = max_word_length
        draws = seeds(seed, 2 * num_layers + 6)
        dtype = self.dtype_policy
        words = len(vocabulary) + 2  # padding and the unknown word

        def numbers(known: Sequence[str], name: str) -> Any:
            return keras.layers.StringLookup(vocabulary=list(known), mask_token="", name=name)

        def embedding(count: int, size: int) -> Any:
            start = keras.initializers.RandomUniform(-0.05, 0.05, seed=next(draws))
            return keras.layers.Embedding(count, size, embeddings_initializer=start, dtype=dtype)

        def locked_dropout(rate: float) -> Any:
            return keras.layers.SpatialDropout1D(rate, seed=next(draws), dtype=dtype)

        self.word_numbers = numbers(vocabulary, "word_numbers")
        self.character_numbers = numbers(list(characters), "character_numbers")
        self.word_dropout = WordDropout(word_dropout, type_dropout, words, seed=next(draws))
        self.embedding = embedding(words, embedding_dim)
        self.character_embedding = embedding(len(list(characters)) + 2, character_dim)
        self.character_reader = self._character_reader(
            character_reading, character_units, next(draws)
        )
        self.embedding_dropout = locked_dropout(embedding_dropout)
        self.recurrent = [
            recurrent_layer(
                cell,
                units,
                bidirectional=bidirectional,
                recurrent_dropout=recurrent_dropout,
                seed=next(draws),
                dtype=dtype,
            )
            for _ in range(num_layers)
        ]
        self.dropouts = [locked_dropout(dropout) for _ in range(num_layers)]
        start = keras.initializers.GlorotUniform(seed=next(draws))
        if decoder == "crf":
            self.decoder = CRF(
                len(labels), list(labels), scheme, kernel_initializer=start, dtype=dtype, name="crf"
            )
        else:  # In float32 also under mixed precision: a probability near 1 needs the digits.
            self.decoder = keras.layers.Dense(
                len(labels),
                activation="softmax",
                kernel_initializer=start,
                dtype="float32",
                name="softmax",
            )
        # Built at once, since all sizes are known. Keras remembers the dtype of the first call for
        # its exports, and it has no word for strings: so the first call is one with numbers.
        self(tf.ones((1, 1, 1 + max_word_length), tf.int32))

    def _character_reader(self, reading: str, units: int, seed: int) -> Any:
        if reading == "cnn":
            start = keras.initializers.GlorotUniform(seed=seed)
            return keras.layers.Conv1D(
                units,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=start,
                dtype=self.dtype_policy,
            )
        if reading == "bilstm":
            return recurrent_layer(
                "lstm",
                -(-units // 2),
                bidirectional=True,
                seed=seed,
                dtype=self.dtype_policy,
                return_sequences=False,
            )
        return None

    def build(self, input_shape: Any = None) -> None:
        """Make the weights, once, in the first call. What the input is does not change them."""
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        x, mask = self._read(inputs, training)
        decoded = self.decoder(x, mask=mask) if self._has_crf else self.decoder(x)
        _keras.set_note(decoded, "_keras_mask", mask)  # for losses and metrics
        return decoded

    def _read(self, inputs: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        """What the recurrent layers make of the tokens, `(batch, time, features)`, and the mask."""
        numbers = self.in_numbers(inputs)
        words, characters = numbers[..., 0], numbers[..., 1:]
        mask = ops.not_equal(words, 0)
        vectors = [self.embedding(self.word_dropout(words, training=training))]
        if self.character_reader is not None:
            flat = ops.reshape(characters, (-1, self.max_word_length))
            read = self.character_embedding(flat)
            if self._arguments["character_reading"] == "cnn":
                # The padding is read too: it marks the end of the word.
                # TensorFlow's own maximum: Keras's refuses a batch of nothing.
                read = tf.reduce_max(self.character_reader(read), axis=1)
            else:
                read = self.character_reader(read, mask=ops.not_equal(flat, 0), training=training)
            shape = (*ops.shape(words), read.shape[-1])
            vectors.append(ops.reshape(read, shape))
        x = self.embedding_dropout(ops.concatenate(vectors, axis=-1), training=training)
        for layer, dropout in zip(self.recurrent, self.dropouts, strict=True):
            x = dropout(layer(x, mask=mask, training=training), training=training)
        return x, mask

    @property
    def _has_crf(self) -> bool:
        return self._arguments["decoder"] == "crf"

    def in_numbers(self, inputs: Tensor) -> Tensor:
        return self.token_numbers(inputs) if inputs.dtype == tf.string else inputs

    def token_numbers(self, tokens: Tensor) -> Tensor:
        """The numbers of words and characters, int32 `(..., 1 + max_word_length)`; 0 is padding.

        Args:
            tokens: A string tensor, padded with the empty string. `(batch, 0)` becomes `(batch, 1)`.
        """
        if len(tokens.shape) == 2:
            tokens = at_least_one_step(tokens)
        flat = tf.reshape(tokens, [-1])
        words = self.word_numbers(fold_words(flat))
        characters = self.character_numbers(split_characters(flat, self.max_word_length))
        numbers = tf.cast(tf.concat([words[:, None], characters], axis=1), tf.int32)
        return tf.reshape(
            numbers, tf.concat([tf.shape(tokens), [1 + self.max_word_length]], axis=0)
        )

    def set_word_vectors(self, vectors: Any, found: Any) -> None:
        """Start the embedding from given vectors.

        Args:
            vectors: float `(words, embedding_dim)`, one for each word of the vocabulary, as
                `kerasrnn.datasets.word_vectors` reads them.
            found: bool `(words,)`: which to take. The others stay as they are.

        Raises:
            ValueError: If the vectors have another shape.
        """
        table = self.embedding.embeddings.numpy()
        vectors, found = np.asarray(vectors), np.asarray(found, bool)
        for name, value, shape in (
            ("vectors", vectors, table[2:].shape),
            ("found", found, (len(table) - 2,)),
        ):
            if value.shape != shape:
                raise ValueError(
                    f"`{name}` must have the shape {shape}, words of the vocabulary"
                    f"{' by `embedding_dim`' if name == 'vectors' else ''}; got {value.shape}."
                )
        table[2:][found] = vectors[found]
        self.embedding.embeddings.assign(table)

    def label(self, sentences: Sequence[Sequence[str]], batch_size: int = 64) -> list[Labelled]:
        """The labels of sentences, one for each token, with their probabilities.

        Args:
            sentences: Lists of tokens; empty lists and unknown words too.
            batch_size: How many to read at a time; those of like length go together.

        Raises:
            ValueError: If a sentence is not a list of strings, or a token is empty.
        """
        check_counts(batch_size=batch_size)
        rows = [tuple(sentence) for sentence in _checked(sentences)]
        found: dict[int, Labelled] = {}
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        for start in range(0, len(rows), batch_size):
            numbers = order[start : start + batch_size]
            batch = tf.ragged.constant([rows[n] for n in numbers], ragged_rank=1, dtype=tf.string)
            labels, scores = (part.numpy() for part in self._answer(batch.to_tensor("")))
            for number, names, values in zip(numbers, labels, scores, strict=True):
                size = len(rows[number])
                found[number] = Labelled(
                    rows[number],
                    tuple(name.decode() for name in names[:size]),
                    tuple(map(float, values[:size])),
                )
        return [found[number] for number in range(len(rows))]

    def _labels_and_scores(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The names of the labels, `(batch, time)`, empty at padding, and their probabilities."""
        x, mask = self._read(tokens, training=False)
        if self._has_crf:
            tags = self.decoder(x, mask=mask)
            probabilities = self.decoder(x, mask=mask, marginals=True)
        else:
            probabilities = self.decoder(x)
            tags = tf.argmax(probabilities, -1, tf.int32)
        scores = tf.gather(probabilities, tags, batch_dims=2)
        labels = tf.where(mask, tf.gather(tf.constant(self.labels), tags), "")
        time = tf.shape(tokens)[1]  # Of no step at all one was made.
        return labels[:, :time], tf.where(mask, scores, 0.0)[:, :time]

    @functools.cached_property
    def _answer(self) -> Any:
        """`_labels_and_scores` as one graph for all shapes, several times faster than a call."""
        return tf.function(
            self._labels_and_scores, input_signature=[tf.TensorSpec((None, None), tf.string)]
        )

    def export(self, filepath: str, format: str = "tf_saved_model", **kwargs: Any) -> None:  # noqa: A002
        """Write a SavedModel that takes tokens and needs nothing but TensorFlow to run.

        Its signature `serving_default` takes `tokens`, strings `(batch, time)` padded with the empty
        string, and gives `labels`, strings of the same shape, empty at padding, and `scores`, float32
        of the same shape, the probabilities of the labels.

        Args:
            filepath: The folder to write.
            format: Any format of `keras.Model.export`; the others take what Keras gives them.
            **kwargs: Arguments of `keras.Model.export` for the other formats.
        """
        if format != "tf_saved_model":
            super().export(filepath, format=format, **kwargs)
            return

        def serve(tokens: Tensor) -> dict[str, Tensor]:
            labels, scores = self._labels_and_scores(tokens)
            return {"labels": labels, "scores": scores}

        archive = keras.export.ExportArchive()
        archive.track(self)
        archive.add_endpoint(
            "serve", serve, [tf.TensorSpec((None, None), tf.string, name="tokens")]
        )
        archive.write_out(filepath, verbose=kwargs.get("verbose", False))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._arguments}


def _checked(sentences: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    for sentence in [sentences, *sentences]:
        if isinstance(sentence, (str, bytes)):
            raise ValueError(
                "`sentences` must be a list of lists of tokens, got the one string "
                f"{sentence[:80]!r}. `kerasrnn.datasets.tokenize` makes tokens of a text."
            )
    for number, sentence in enumerate(sentences):
        for token in sentence:
            if not isinstance(token, (str, bytes)) or not token:
                raise ValueError(
                    f"`sentences[{number}]` must hold strings that are not empty, got {token!r} in it."
                )
    return sentences
