"""The model: from tokens, through recurrent layers that carry their state on, to the next token."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from kerasrnn import _keras
from kerasrnn.applications._parts import (
    check_counts,
    check_names,
    check_numbers,
    check_rates,
    check_tokens,
    recurrent_layer,
    seeds,
)
from kerasrnn.applications._precision import TextModel
from kerasrnn.applications.language_model import generation
from kerasrnn.applications.language_model.generation import Beam, Score
from kerasrnn.applications.text import BOUNDARIES, UNKNOWN, split_tokens
from kerasrnn.layers import ActivationRegularization, EmbeddingDropout, LockedDropout
from kerasrnn.metrics._likelihood import cross_entropy

Tensor = Any


@keras.saving.register_keras_serializable("kerasrnn")
class LanguageModel(TextModel):
    """Predicts the next word, or character, of a text, with recurrent layers of any registered cell.

    tokens -> embedding -> recurrent layers -> the same embedding -> logits of the next token

    The regularisation is that of Zaremba et al. 2014 (https://arxiv.org/abs/1409.2329), Gal &
    Ghahramani 2016 (https://arxiv.org/abs/1512.05287) and Merity et al. 2017
    (https://arxiv.org/abs/1708.02182); the tied embeddings that of Inan et al. 2016
    (https://arxiv.org/abs/1611.01462) and Press & Wolf 2016 (https://arxiv.org/abs/1608.05859).

    Args:
        vocabulary: The words, or characters, that it knows, most frequent first. All others are one
            unknown token, number 0. No word has white space in it. The boundary, `<eos>` or the line
            feed, is added if it is missing.
        level: `"word"` or `"character"`.
        separate: Words: lower-case the text and set its marks apart before it is split at spaces.
        cell: The registered name of the recurrent cell; see `kerasrnn.cells.names`.
        units: The units of each recurrent layer; of the last one `embedding_dim` if `tied`.
        num_layers: The number of recurrent layers, one on top of the other.
        embedding_dim: The size of a token's vector.
        tied: Whether the output is held against the vectors of the embedding, not a second table.
        embedding_dropout: Fraction of the vocabulary that training drops, for a batch at a time.
        input_dropout: Locked dropout of the vectors: the same features for a whole window.
        dropout: Locked dropout between the recurrent layers.
        output_dropout: Locked dropout of what the last one gives.
        recurrent_dropout: Fraction that training drops of the recurrence.
        recurrent_dropout_form: What is dropped of it: by default the `"weights"` (weight drop), or the
            `"state"` or the `"candidate"`; see `kerasrnn.cells.Cell`.
        activation_regularization: Weight of the square of the last layer's dropped output in the loss.
        temporal_regularization: Weight of the square of its change from step to step.
        sampled: In training, compare the right token with so many others, drawn anew for each batch by
            their rank, rather than with all: for vocabularies of 50,000 words and more. 0 for all.
            Everything but training compares with all.
        seed: Seed of the weights and dropouts.
        **kwargs: `name` and `dtype`.

    Call arguments:
        inputs: Numbers of tokens, integers `(batch, time)`, read from a state of zeros; or a dictionary
            of these, `"ids"`, and `"continues"`, booleans `(batch,)`: where it is True the state goes
            on from where the batch before ended, if that had as many rows. Training and the rest each
            have states of their own.

    Returns:
        The logits of the next token, float32 `(batch, time, tokens)`, the unknown token first. (With
        `sampled`, in training: the features that they are computed from.)

    Raises:
        ValueError: If an argument's value is wrong; the message names it.

    Example:

    >>> import kerasrnn
    >>> model = kerasrnn.applications.LanguageModel(
    ...     ["the", "sky", "clouds"], cell="coupled_lstm", units=4, embedding_dim=4, seed=1)
    >>> model.tokens
    ('<unk>', 'the', 'sky', 'clouds', '<eos>')
    >>> score, = model.score(["the clouds"])
    >>> score.tokens, score.log_probability < 0  # two words and the end of the line
    (3, True)
    >>> text = model.generate("the", length=5, seed=1)
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        *,
        level: str = "word",
        separate: bool = False,
        cell: str = "lstm",
        units: int = 200,
        num_layers: int = 2,
        embedding_dim: int = 200,
        tied: bool = True,
        embedding_dropout: float = 0.1,
        input_dropout: float = 0.3,
        dropout: float = 0.3,
        output_dropout: float = 0.3,
        recurrent_dropout: float = 0.0,
        recurrent_dropout_form: str = "weights",
        activation_regularization: float = 0.0,
        temporal_regularization: float = 0.0,
        sampled: int = 0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_names(1, vocabulary=vocabulary)
        check_tokens(vocabulary, level)
        if UNKNOWN in vocabulary:
            raise ValueError(
                f"`vocabulary` holds {UNKNOWN!r}, which is every model's number 0: leave it out."
            )
        check_counts(units=units, num_layers=num_layers, embedding_dim=embedding_dim)
        check_numbers(
            activation_regularization=activation_regularization,
            temporal_regularization=temporal_regularization,
        )
        check_rates(
            embedding_dropout=embedding_dropout,
            input_dropout=input_dropout,
            dropout=dropout,
            output_dropout=output_dropout,
        )
        boundary = BOUNDARIES[level]
        known = [UNKNOWN, *vocabulary, *(() if boundary in vocabulary else (boundary,))]
        check_counts(0, sampled=sampled)
        if sampled >= len(known):
            raise ValueError(
                f"`sampled` must be less than the number of tokens, {len(known)}; got {sampled!r}."
            )
        draws = seeds(seed, 2 * num_layers + 6)
        self._arguments = {
            "vocabulary": list(vocabulary),
            "level": level,
            "separate": separate,
            "cell": cell,
            "units": units,
            "num_layers": num_layers,
            "embedding_dim": embedding_dim,
            "tied": tied,
            "embedding_dropout": embedding_dropout,
            "input_dropout": input_dropout,
            "dropout": dropout,
            "output_dropout": output_dropout,
            "recurrent_dropout": recurrent_dropout,
            "recurrent_dropout_form": recurrent_dropout_form,
            "activation_regularization": activation_regularization,
            "temporal_regularization": temporal_regularization,
            "sampled": sampled,
            "seed": seed,
        }
        self.tokens = tuple(known)
        self.level = level
        self.separate = separate
        self.sampled = sampled
        self.boundary = boundary
        self.token_numbers = keras.layers.StringLookup(
            vocabulary=known[1:], oov_token=UNKNOWN, name="token_numbers"
        )
        dtype = self.dtype_policy
        self.embedding = keras.layers.Embedding(
            len(known),
            embedding_dim,
            embeddings_initializer=keras.initializers.RandomUniform(-0.1, 0.1, seed=next(draws)),
            dtype=dtype,
        )
        self.embedding_dropout = EmbeddingDropout(
            embedding_dropout, len(known), seed=next(draws), dtype=dtype
        )
        self.input_dropout = LockedDropout(input_dropout, seed=next(draws), dtype=dtype)
        sizes = [units] * (num_layers - 1) + [embedding_dim if tied else units]
        self.recurrent = [
            recurrent_layer(
                cell,
                size,
                bidirectional=False,
                recurrent_dropout=recurrent_dropout,
                recurrent_dropout_form=recurrent_dropout_form,
                seed=next(draws),
                dtype=dtype,
                return_state=True,
            )
            for size in sizes
        ]
        rates = [dropout] * (num_layers - 1) + [output_dropout]
        self.dropouts = [LockedDropout(rate, seed=next(draws), dtype=dtype) for rate in rates]
        self.temporal_penalty = ActivationRegularization(
            temporal=temporal_regularization, dtype=dtype
        )
        self.activation_penalty = ActivationRegularization(
            activation=activation_regularization, dtype=dtype
        )
        self.head = _Head(self.embedding if tied else None, len(known), next(draws), dtype)
        # The states after a batch, of any number of lanes, for training and for the rest. Past Keras's
        # attributes, as these are no weights: a file has no place for them.
        carried = {
            training: [
                tf.Variable(zeros, trainable=False, shape=(None, zeros.shape[1]))
                for zeros in self.initial_states(0)
            ]
            for training in (True, False)
        }
        object.__setattr__(self, "_carried", carried)
        # Which part of the lanes a batch holds, and of how many: replicas share the carried states.
        self.part = (0, 1)
        # Built at once, since all sizes are known.
        self(tf.zeros((1, 1), tf.int32))

    def build(self, input_shape: Any = None) -> None:
        """Make the weights, once, in the first call. What the input is does not change them."""
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Tensor:
        carried: Sequence[Any] = ()
        if isinstance(inputs, dict):
            inputs, continues = inputs["ids"], inputs["continues"]
            carried = self._carried_by(training, inputs.shape[0])
            states = [_going_on(state, continues) for state in carried]
        else:
            states = self.initial_states(tf.shape(inputs)[0])
        x, states = self._read(inputs, states, training)
        for variable, state in zip(carried, states, strict=False):  # None is kept of ids alone.
            variable.assign(state)
        if training and self.sampled:
            _keras.set_note(x, "_features", True)
            return x
        return self.head(x)

    def advance(self, ids: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Go on from given states.

        Args:
            ids: Numbers of tokens, integers `(batch, time)`.
            states: As `initial_states` gives them, or this function.

        Returns:
            The logits of the next token, float32 `(batch, time, tokens)`, and the new states.
        """
        x, states = self._read(ids, states, training=False)
        return self.head(x), states

    @functools.cached_property
    def next_token(self) -> Any:
        """What comes next, `(ids, states) -> (log-probabilities, new states)`, one graph for all shapes.

        The arguments are those of `advance`, `ids` int32. The log-probabilities, float32
        `(batch, tokens)`, are those of the token after the last one.
        """

        def step(ids: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            x, states = self._read(ids, states, training=False)
            return tf.nn.log_softmax(self.head(x[:, -1:])[:, 0]), states

        states = [tf.TensorSpec((None, size)) for size in self.state_sizes]
        return tf.function(
            step, input_signature=[tf.TensorSpec((None, None), tf.int32), states], autograph=False
        )

    @functools.cached_property
    def cross_entropies(self) -> Any:
        """`generation.cross_entropies` of this model, one graph for all shapes."""
        return tf.function(
            functools.partial(generation.cross_entropies, self),
            input_signature=[tf.TensorSpec((None,), tf.string)],
            autograph=False,
        )

    def initial_states(self, batch: Any) -> list[Tensor]:
        """The states before a text, zeros `(batch, size)`, of all layers one after the other, float32."""
        return [tf.zeros((batch, size)) for size in self.state_sizes]

    @property
    def state_sizes(self) -> list[int]:
        """The sizes of the states of all layers, one after the other."""
        return [size for layer in self.recurrent for size in layer.cell.state_sizes.values()]

    def _carried_by(self, training: bool, batch: int | None) -> list[Any]:
        """The states after the batch before. Of a known batch there is room for them from the trace on: for
        replicas, which each write a part, and for who compiles the model by XLA without `make_ready`.
        """
        carried = self._carried[bool(training)]
        number, parts = self.part
        with tf.init_scope():
            for variable in carried:
                if batch is not None and variable.read_value().shape[0] != batch * parts:
                    variable.assign(tf.zeros((batch * parts, variable.shape[1])))
        if parts == 1:
            return carried
        assert batch is not None, "replicas have lanes of a known number"
        return [variable[number * batch : (number + 1) * batch] for variable in carried]

    def make_ready(self, inputs: Any, training: bool) -> None:
        """Make room for the states of as many rows as come: within XLA a variable keeps its shape."""
        if not isinstance(inputs, dict):
            return
        batch = tf.shape(inputs["ids"])[0]
        for variable in self._carried[training]:

            def anew(variable: Any = variable) -> Tensor:
                return tf.zeros(tf.stack([batch, variable.shape[1]]))

            there = variable.read_value()
            fits = tf.equal(tf.shape(there)[0], batch)
            variable.assign(tf.cond(fits, lambda there=there: there, anew))

    @property
    def carried_in_training(self) -> list[Any]:
        """What training goes on from, besides the weights: the states after the last batch."""
        return self._carried[True]

    def _read(
        self, ids: Tensor, states: Sequence[Tensor], training: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """What the head reads, `(batch, time, features)`, and the states after the last step."""
        x = self.embedding_dropout(self.embedding(ids), ids, training=training)
        x = self.input_dropout(x, training=training)
        given, final = iter(states), []
        for layer, dropout in zip(self.recurrent, self.dropouts, strict=True):
            starts = [tf.cast(next(given), self.compute_dtype) for _ in layer.cell.states]
            raw, *ends = layer(x, initial_state=starts, training=training)
            x = dropout(raw, training=training)
            final += [tf.cast(end, tf.float32) for end in ends]
        self.temporal_penalty(raw, training=training)
        return self.activation_penalty(x, training=training), final

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        if not _keras.get_note(y_pred, "_features"):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        losses = self.head.sampled_losses(y_pred, tf.reshape(y, tf.shape(y_pred)[:2]), self.sampled)
        weights = tf.ones_like(losses) if sample_weight is None else sample_weight
        weights = tf.reshape(tf.cast(weights, losses.dtype), tf.shape(losses))
        mean = tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))
        return tf.add_n([mean, *self.losses])

    def test_step(self, data: Any) -> dict[str, Any]:
        """As Keras has it, but a batch's loss weighs as much as there are steps in it that count."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        loss = self.compute_loss(x, y, y_pred, weights, training=False)
        (tracker,) = [metric for metric in self.metrics if metric.name == "loss"]
        tracker.update_state(
            loss, sample_weight=tf.size(y) if weights is None else tf.reduce_sum(weights)
        )
        return self.compute_metrics(x, y, y_pred, weights)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if not _keras.get_note(y_pred, "_features"):
            return super().compute_metrics(x, y, y_pred, sample_weight)
        # What they need was not computed. They see no step at all, as Keras wants them built.
        nothing = tf.zeros([tf.shape(y)[0], 0, len(self.tokens)])
        weights = None if sample_weight is None else sample_weight[:, :0]
        return {"loss": super().compute_metrics(x, y[:, :0], nothing, weights)["loss"]}

    def token_rows(self, texts: Tensor) -> Any:
        """The numbers of the tokens of texts, strings `(batch,)`: ragged int32 `(batch, tokens)`."""
        tokens = split_tokens(texts, self.level, self.separate)
        return tokens.with_flat_values(tf.cast(self.token_numbers(tokens.flat_values), tf.int32))

    def numbers(self, text: str) -> list[int]:
        """The numbers of the tokens of a text, 0 for those that the model does not know."""
        return self.token_rows(tf.constant([text]))[0].numpy().tolist()

    def text(self, numbers: Sequence[int]) -> str:
        """The text of tokens, as it stands at the beginning of a line.

        Characters are joined. Words are joined by spaces, and `<eos>` becomes a line feed; with
        `separate`, marks such as the full stop stand at the word before, and brackets that open at the
        word behind.
        """
        return "".join(generation.pieces(self, numbers, self.boundary))

    def generate(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop_at_boundary: bool = False,
    ) -> str:
        """Go on with a text: each token is drawn by the probabilities that those before it give it.

        The unknown token is never drawn.

        Args:
            prompt: What to go on with. It stands at the beginning of a line, and so does what is
                generated where it is empty. A word may be unknown to the model; a character may not.
            length: How many tokens to draw.
            temperature: By what the logits are divided: below 1 the likely tokens get likelier, above 1
                less so; 0 always takes the likeliest.
            top_k: Draw from the so many likeliest tokens.
            top_p: Draw from the fewest tokens that together have at least this probability, after
                `top_k` (Holtzman et al. 2019, https://arxiv.org/abs/1904.09751).
            seed: Seed of the draws.
            stop_at_boundary: Whether to stop where the line ends, before its `<eos>` or line feed.

        Returns:
            The continuation, without the prompt; see `text`.

        Raises:
            ValueError: If an argument is wrong; the message names it. Or if the model's weights are not
                numbers.
        """
        options = (length, temperature, top_k, top_p, seed, stop_at_boundary)
        return "".join(self.stream(prompt, *options))

    def stream(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop_at_boundary: bool = False,
    ) -> Iterator[str]:
        """What `generate` gives with these arguments, token by token, as it is drawn."""
        options = (length, temperature, top_k, top_p, seed, stop_at_boundary)
        return generation.stream(self, prompt, *options)

    def beam_search(
        self,
        prompt: str = "",
        length: int = 50,
        width: int = 4,
        length_normalization: float = 0.0,
        stop_at_boundary: bool = True,
    ) -> list[Beam]:
        """Search for the likeliest continuations of a text, by keeping the best ones at each token.

        The unknown token is in none of them.

        Args:
            prompt: As for `generate`.
            length: The most tokens of a continuation.
            width: How many to keep, and to give.
            length_normalization: Continuations are compared by their log-probability, divided by the
                number of their tokens to this power: 0 likes short ones, 1 takes the mean.
            stop_at_boundary: Whether a continuation ends with its line, `<eos>` or a line feed.

        Returns:
            At most `width` continuations, the best first.

        Raises:
            ValueError: If an argument is wrong; the message names it.
        """
        return generation.beam_search(
            self, prompt, length, width, length_normalization, stop_at_boundary
        )

    def score(self, texts: Iterable[str], batch_size: int = 32) -> list[Score]:
        """How probable texts are as lines, each for itself: from its beginning to its end.

        The end of the line is predicted too, once; it need not be in the text. A token that the model
        does not know counts with the probability of the unknown token: compare texts that have as many.

        Args:
            texts: Any strings, of any length; an empty one is an empty line.
            batch_size: How many to read at a time; those of like length go together.

        Returns:
            A score for each text, in their order.

        Raises:
            ValueError: If `texts` are not strings, or the model's weights are not numbers.
        """
        return generation.score(self, texts, batch_size)

    def export(self, filepath: str, format: str = "tf_saved_model", **kwargs: Any) -> None:  # noqa: A002
        """Write a SavedModel that takes raw strings and needs nothing but TensorFlow to run.

        Its signatures:

        - `serving_default` takes `text`, strings `(batch,)`, and gives what `score` gives:
          `log_probability` and `perplexity`, float32 `(batch,)`, `tokens` and `unknown`, int32;
        - `step` takes `token`, strings `(batch,)`, and `state_0`, `state_1`, ..., float32
          `(batch, size)`, and gives `probabilities`, float32 `(batch, tokens)`, of the next token, and the
          new states by the same names. A text begins with the boundary, `<eos>` or the line feed;
        - `initial_state` takes `batch`, an int32, and gives the states before a text;
        - `vocabulary` takes nothing and gives `tokens`, strings, in the order of `probabilities`.

        Args:
            filepath: The folder to write.
            format: Any format of `keras.Model.export`; the others take what Keras gives them.
            **kwargs: Arguments of `keras.Model.export`; for a SavedModel `verbose` alone.

        Raises:
            TypeError: If there is no such argument.
        """
        if format != "tf_saved_model":
            super().export(filepath, format=format, **kwargs)
            return
        verbose = bool(kwargs.pop("verbose", False))
        if kwargs:
            raise TypeError(
                f"`{next(iter(kwargs))}` is no argument of `export` for a SavedModel, which has signatures "
                "of its own: leave it out."
            )
        names = [f"state_{number}" for number in range(len(self.state_sizes))]

        def serve(text: Tensor) -> dict[str, Tensor]:
            nats, counts, unknown = generation.cross_entropies(self, text)
            perplexity = tf.exp(nats / tf.cast(counts, nats.dtype))
            return {
                "log_probability": tf.cast(-nats, tf.float32),
                "tokens": counts,
                "unknown": unknown,
                "perplexity": tf.cast(perplexity, tf.float32),
            }

        def step(token: Tensor, *states: Tensor) -> dict[str, Tensor]:
            ids = tf.cast(self.token_numbers(token), tf.int32)[:, None]
            logits, new_states = self.advance(ids, list(states))
            new = dict(zip(names, new_states, strict=True))
            return {"probabilities": tf.nn.softmax(logits[:, 0]), **new}

        def initial_state(batch: Tensor) -> dict[str, Tensor]:
            return dict(zip(names, self.initial_states(batch), strict=True))

        def vocabulary() -> dict[str, Tensor]:
            return {"tokens": tf.constant(self.tokens)}

        strings = functools.partial(tf.TensorSpec, (None,), tf.string)
        states = [
            tf.TensorSpec((None, size), name=name)
            for name, size in zip(names, self.state_sizes, strict=True)
        ]
        archive = keras.export.ExportArchive()
        archive.track(self)
        archive.add_endpoint("serve", serve, [strings(name="text")])
        archive.add_endpoint("step", step, [strings(name="token"), *states])
        archive.add_endpoint("initial_state", initial_state, [tf.TensorSpec((), tf.int32, "batch")])
        archive.add_endpoint("vocabulary", vocabulary, [])
        archive.write_out(filepath, verbose=verbose)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._arguments}


def _going_on(state: Tensor, continues: Tensor) -> Tensor:
    """What a batch starts from: the state of the one before where it goes on with it, and else zero.

    Args:
        state: `(lanes, size)`. If these are not as many as the batch has, it goes on with none.
        continues: Booleans `(batch,)`.
    """
    lanes, batch = tf.shape(state)[0], tf.shape(continues)[0]
    there = tf.pad(state, [[0, tf.maximum(0, batch - lanes)], [0, 0]])[:batch]
    there = tf.ensure_shape(there, (continues.shape[0], state.shape[1]))
    goes_on = tf.logical_and(tf.cast(continues, tf.bool), lanes == batch)
    # Chosen and not multiplied: what is no number any more would stay so for ever.
    return tf.where(goes_on[:, None], there, 0.0)


@keras.saving.register_keras_serializable("kerasrnn")
class TokenCrossEntropy(keras.losses.SparseCategoricalCrossentropy):
    """Keras's loss of that name, with the same arguments, which XLA computes once for loss and metric.

    That is from 1,000 tokens on, from logits. A target for which there is no token then makes the loss NaN.
    """

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        options = self.get_config()
        usual = options["from_logits"] and options["ignore_class"] is None
        nats = cross_entropy(y_true, y_pred) if usual else None
        return super().call(y_true, y_pred) if nats is None else nats


@keras.saving.register_keras_serializable("kerasrnn")
class _Head(keras.layers.Layer):
    """From features to the logits of all tokens, by the table of an embedding or one of its own."""

    def __init__(self, embedding: Any, tokens: int, seed: int, dtype: Any) -> None:
        super().__init__(dtype=dtype, name="head")
        self.tied = embedding
        self.token_count = tokens
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Any) -> None:
        self.bias = self.add_weight((self.token_count,), "zeros", name="bias")
        self.table = None
        if self.tied is None:
            start = keras.initializers.RandomUniform(-0.1, 0.1, seed=self.seed)
            shape = (self.token_count, input_shape[-1])
            self.table = self.add_weight(shape, start, name="table")
        self.built = True

    def call(self, x: Tensor) -> Tensor:
        flat = tf.reshape(x, [-1, x.shape[-1]])
        logits = _logits(flat, tf.cast(self._table(), flat.dtype), tf.cast(self.bias, tf.float32))
        return tf.reshape(logits, tf.concat([tf.shape(x)[:-1], [self.token_count]], axis=0))

    def sampled_losses(self, x: Tensor, targets: Tensor, count: int) -> Tensor:
        """The cross-entropy against `count` drawn tokens, `(batch, time)`.

        The sum over all tokens is estimated by those that were drawn, each divided by the probability
        that it was (Bengio & Senecal 2008, https://doi.org/10.1109/TNN.2007.912312; Jean et al. 2014,
        https://arxiv.org/abs/1412.2007). The draws follow Zipf's law, as the vocabulary is ordered by
        frequency.
        """
        x = tf.cast(tf.reshape(x, [-1, x.shape[-1]]), tf.float32)
        right = tf.reshape(tf.cast(targets, tf.int32), [-1])
        # Rank k has the share log((k + 2) / (k + 1)) / log(tokens + 1) of (0, 1).
        whole = math.log(self.token_count + 1)
        places = keras.random.uniform((count,), seed=self.seed_generator)
        drawn = tf.sort(tf.cast(tf.exp(places * whole), tf.int32) - 1)
        drawn = tf.clip_by_value(drawn, 0, self.token_count - 1)
        share = tf.math.log1p(1 / (tf.cast(drawn, tf.float32) + 1)) / whole
        chance = -tf.math.expm1(count * tf.math.log1p(-share))
        again = tf.concat([[False], drawn[1:] == drawn[:-1]], axis=0)

        def rows(numbers: Tensor) -> tuple[Tensor, Tensor]:
            return tf.gather(self._table().value, numbers), tf.gather(self.bias.value, numbers)

        table, bias = rows(right)
        score = tf.reduce_sum(x * table, axis=-1) + bias
        table, bias = rows(drawn)
        others = tf.matmul(x, table, transpose_b=True) + bias - tf.math.log(chance)
        left_out = tf.logical_or(again, drawn == right[:, None])
        others = tf.where(left_out, -math.inf, others)
        whole_sum = tf.reduce_logsumexp(tf.concat([score[:, None], others], axis=1), axis=1)
        return tf.reshape(whole_sum - score, tf.shape(targets))

    def _table(self) -> Any:
        return self.table if self.tied is None else self.tied.embeddings


@tf.custom_gradient
def _logits(x: Tensor, table: Tensor, bias: Tensor) -> Any:
    """`x` `(rows, features)` against every row of the table: float32 `(rows, tokens)`.

    The gradient of the bias is a product with ones: TensorFlow's sum over the rows of so wide a matrix
    takes nearly twice as long, and is some hundredths of a whole step of training.
    """
    logits = tf.cast(tf.matmul(x, table, transpose_b=True), tf.float32) + bias

    def gradient(d_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        d = tf.cast(d_logits, x.dtype)
        ones = tf.ones((1, tf.shape(d_logits)[0]))
        return (
            tf.matmul(d, table),
            tf.matmul(d, x, transpose_a=True),
            tf.matmul(ones, d_logits)[0],
        )

    return logits, gradient
