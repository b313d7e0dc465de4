"""From raw text to the numbers of words, inside the model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from kerasrnn.applications._pipeline import in_advance

# What a language model's tokens are; the token that stands for all that it does not know; and the one
# that ends a line.
LEVELS = ("word", "character")
UNKNOWN = "<unk>"
BOUNDARIES = {"word": "<eos>", "character": "\n"}


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
    return _apart(tf.strings.regex_replace(_lower(text), r"<[/!]?[a-z][^<>]{0,100}>", " "))


def separate_marks(text: Any) -> Any:
    """Lower-case, and set every mark apart, as `separate_words` does, those of HTML tags too.

    `<unk>` and `<eos>` stay whole.

    Args:
        text: A string tensor of any shape.

    Example:

    >>> from kerasrnn.applications.text import separate_marks
    >>> separate_marks("Is 1<B and c>d? <UNK>.").numpy().decode()
    'is 1 < b and c > d ? <unk> .'
    """
    return tf.strings.regex_replace(_apart(_lower(text)), "< (unk|eos) >", r"<\1>")


def _lower(text: Any) -> Any:
    # Every kind of space, the non-breaking one too.
    text = tf.strings.regex_replace(_readable(text), r"\pZ", " ")
    return tf.strings.lower(text, encoding="utf-8")


def _apart(text: Any) -> Any:
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
    layer.adapt(in_advance(tf.data.Dataset.from_tensor_slices(list(texts)).batch(256)))
    return [str(word) for word in layer.get_vocabulary(include_special_tokens=False)]


def _readable(text: Any) -> Any:
    """UTF-8 without a fault, and without the zero byte, at which `lower` would stop."""
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    return tf.strings.regex_replace(text, r"\x00", " ")


def fold_words(words: Any) -> Any:
    """The form under which a word is known: in lower case, every digit as 0.

    Bytes that are not UTF-8 become the replacement character, so that no input can stop a server.

    Args:
        words: A string tensor of any shape.

    Example:

    >>> from kerasrnn.applications.text import fold_words
    >>> fold_words(["Oslo", "1,250"]).numpy().tolist()
    [b'oslo', b'0,000']
    """
    words = tf.strings.lower(_readable(words), encoding="utf-8")
    return tf.strings.regex_replace(words, r"\pN", "0")


def split_characters(words: Any, length: int) -> Any:
    """The characters of words, of longer ones than `length` the first half and the last.

    Args:
        words: A string tensor `(words,)`.
        length: How many to give.

    Returns:
        Strings `(words, length)`, padded with the empty string.

    Example:

    >>> from kerasrnn.applications.text import split_characters
    >>> split_characters(["go", "going"], 4).numpy().tolist()
    [[b'g', b'o', b'', b''], [b'g', b'o', b'n', b'g']]
    """
    split = tf.strings.unicode_split(_readable(words), "UTF-8")
    half = (length + 1) // 2
    # A slice from -0 on would be everything.
    end = split[:, half:][:, half - length :] if length > half else split[:, :0]
    return tf.concat([split[:, :half], end], axis=1).to_tensor("", shape=[None, length])


def at_least_one_step(ids: Any) -> Any:
    """Give a batch of empty sequences, `(batch, 0, ...)`, one step of padding; leave any other as it is."""
    rest = [[0, 0]] * (len(ids.shape) - 2)
    return tf.pad(ids, [[0, 0], [0, tf.maximum(1 - tf.shape(ids)[1], 0)], *rest])


def split_tokens(text: Any, level: str, separate: bool = False) -> Any:
    r"""The tokens of texts for a language model: a ragged string tensor `(batch, tokens)`.

    Args:
        text: A string tensor `(batch,)`.
        level: `"word"`: what spaces part, with `<eos>` for a line feed; or `"character"`.
        separate: Words: put each line through `separate_marks` first.

    Example:

    >>> from kerasrnn.applications.text import split_tokens
    >>> split_tokens(["The sky.\nIt is"], "word", separate=True).to_list()
    [[b'the', b'sky', b'.', b'<eos>', b'it', b'is']]
    """
    if level == "character":
        return tf.strings.unicode_split(text, "UTF-8", errors="replace")
    lines = tf.strings.split(text, "\n")
    flat = separate_marks(lines.flat_values) if separate else lines.flat_values
    # None may be empty: the join sets no separator behind what is.
    lines = lines.with_flat_values(tf.strings.join([flat, " "]))
    text = tf.strings.reduce_join(lines, axis=-1, separator=f"{BOUNDARIES[level]} ")
    return tf.strings.split(text)
