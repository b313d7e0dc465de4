"""From raw text to the numbers of words, inside the model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("kerasrnn")
def separate_words(text: Any) -> Any:
    """Lower-case, drop HTML tags, and set every mark apart, so that spaces part the words.

    An apostrophe within a word stays: "didn't" is a word.

    Bytes that are not UTF-8 become the replacement character, so that no input can stop a server.

    Args:
        text: A string tensor of any shape.

    Example:

    >>> from kerasrnn.applications.text import separate_words
    >>> separate_words("It's <br />'NOT' bad, no?").numpy().decode()
    "it's ' not ' bad , no ?"
    """
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    # Every kind of space, the non-breaking one too; and the zero byte, at which `lower` would stop.
    text = tf.strings.regex_replace(text, r"[\pZ\x00]", " ")
    text = tf.strings.lower(text, encoding="utf-8")
    text = tf.strings.regex_replace(text, r"<[/!]?[a-z][^<>]{0,100}>", " ")
    text = tf.strings.regex_replace(text, "\u2019", "'")  # the typographic apostrophe
    text = tf.strings.regex_replace(text, r"([^\pL\pN\pM\s'])", r" \1 ")
    text = tf.strings.regex_replace(text, r"(^|\s)'+", " ' ")
    text = tf.strings.regex_replace(text, r"'+(\s|$)", " ' ")
    return tf.strings.strip(tf.strings.regex_replace(text, r"\s+", " "))


def word_numbers(vocabulary: Iterable[str] | None, max_tokens: int | None = None) -> Any:
    """The layer from texts to ragged word numbers: 0 is padding and 1 the unknown word.

    Args:
        vocabulary: The words, most frequent first; `None` to `adapt` the layer to texts.
        max_tokens: The size at which to stop adapting, padding and the unknown word included.
    """
    return keras.layers.TextVectorization(
        standardize=separate_words,
        split="whitespace",
        ragged=True,
        max_tokens=max_tokens,
        vocabulary=None if vocabulary is None else list(vocabulary),
        name="word_numbers",
    )


def learn_vocabulary(texts: Iterable[str], size: int) -> list[str]:
    """The `size` most frequent words of the texts, most frequent first.

    Example:

    >>> from kerasrnn.applications.text import learn_vocabulary
    >>> learn_vocabulary(["a rose is a rose", "a nose"], size=2)
    ['a', 'rose']
    """
    layer = word_numbers(None, max_tokens=size + 2)
    layer.adapt(tf.data.Dataset.from_tensor_slices(list(texts)).batch(256))
    return [str(word) for word in layer.get_vocabulary(include_special_tokens=False)]


def at_least_one_step(ids: Any) -> Any:
    """Give a batch of empty texts, `(batch, 0)`, one step of padding; leave any other as it is."""
    return tf.pad(ids, [[0, 0], [0, tf.maximum(1 - tf.shape(ids)[1], 0)]])
