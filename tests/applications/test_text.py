"""From raw text to words and their numbers."""

import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.applications.text import (
    at_least_one_step,
    fold_words,
    learn_vocabulary,
    separate_marks,
    separate_words,
    split_characters,
    word_numbers,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A great film", "a great film"),
        # Marks stand apart, each on its own, and so do signs of all kinds.
        ("Good, bad... (or not?)", "good , bad . . . ( or not ? )"),
        ("well-made_80% £5", "well - made _ 80 % £ 5"),
        ("great🙂film 👍🏽", "great 🙂 film 👍 🏽"),
        # The apostrophe within a word stays, whichever sign is used for it.
        ("Didn't, it's 'fine' o'clock", "didn't , it's ' fine ' o'clock"),
        ("didn\u2019t", "didn't"),
        ("''quoted''", "' quoted '"),
        # HTML's tags go; what is none stays.
        ("one<br /><BR>two<p class='x'>three</p>", "one two three"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("I <3 this -> you", "i < 3 this - > you"),
        # Space of any kind, and any number of it.
        ("  a \t b\r\n\nc  ", "a b c"),
        ("a\u00a0b\u2003c\u3000d\u2028e", "a b c d e"),
        ("", ""),
        (" \n\t", ""),
        ("<br />", ""),
        # Lower case as Unicode has it: one letter can become two, and some have no other case.
        ("İstanbul", "i\u0307stanbul"),
        ("STRASSE Straße", "strasse straße"),
        ("ÀÉÎÕÜ ŒUVRE", "àéîõü œuvre"),
        ("ДОБРЫЙ ΚΑΛΌΣ", "добрый καλός"),
        ("最高の映画。", "最高の映画 。"),
        # An accent that is a sign of its own belongs to its letter.
        ("cafe\u0301!", "cafe\u0301 !"),
        # A zero byte, at which C would stop reading.
        ("great\x00film", "great film"),
    ],
)
def test_words_are_set_apart(text, words):
    assert separate_words(tf.constant(text)).numpy().decode() == words


@pytest.mark.parametrize("text", [b"caf\xe9 bad", b"\xff\xfe", b"\xf0\x9f\x99", b"\xed\xa0\x80 x"])
def test_bytes_that_are_not_utf8_stop_nothing(text):
    words = separate_words(tf.constant(text)).numpy().decode("utf-8")
    assert "\ufffd" in words


def test_what_is_set_apart_stays_as_it_is():
    texts = tf.constant(["It's <b>NOT</b> 'bad', no?", "a... b", "I <3 <i>it</i>"])
    once = separate_words(texts)
    # A second time the bracket of a heart might look like a tag's; it does not.
    np.testing.assert_array_equal(separate_words(once).numpy(), once.numpy())


def test_language_models_lose_nothing():
    """A tag's brackets are marks like any other; the tokens that are no words stay whole."""
    texts = ["It's <br>NOT</br>, is 1 <2?", "<UNK> <eos>!<unk>", "<p >"]
    assert [text.decode() for text in separate_marks(texts).numpy()] == [
        "it's < br > not < / br > , is 1 < 2 ?",
        "<unk> <eos> ! <unk>",
        "< p >",
    ]
    once = separate_marks(texts)
    np.testing.assert_array_equal(separate_marks(once).numpy(), once.numpy())


def test_any_shape():
    assert separate_words(tf.constant([["A", "B"], ["C!", ""]])).numpy().tolist() == [
        [b"a", b"b"],
        [b"c !", b""],
    ]
    assert separate_words(tf.constant([], tf.string)).shape == (0,)


def test_the_vocabulary_holds_the_most_frequent_words_first():
    texts = ["the the the film", "the film was", "film? <br /> Film!"]
    words = learn_vocabulary(texts, 10)
    assert words[:2] == ["film", "the"] or words[:2] == ["the", "film"]
    assert sorted(words) == ["!", "?", "film", "the", "was"]
    assert learn_vocabulary(texts, 2) == words[:2]
    assert learn_vocabulary(["b", "a a a", "b c"], 2) == ["a", "b"]


def test_the_vocabulary_does_not_depend_on_the_order_of_the_texts():
    """Nor do ties among words of the same count."""
    texts = [f"w{number % 50} w{number % 7} x" for number in range(600)]
    words = learn_vocabulary(texts, 30)
    assert len(words) == len(set(words)) == 30
    assert words == learn_vocabulary(texts, 30)
    assert words == learn_vocabulary(texts[::-1], 30)


def test_word_numbers():
    layer = word_numbers(["great", "film"])
    ids = layer(tf.constant(["A great FILM!", "", "film"]))
    assert isinstance(ids, tf.RaggedTensor) and ids.dtype == tf.int64
    # 0 is padding, 1 every word that is not in the vocabulary, 2 the first that is.
    assert ids.to_list() == [[1, 2, 3, 1], [], [3]]


def test_at_least_one_step():
    np.testing.assert_array_equal(at_least_one_step(tf.zeros((3, 0), tf.int64)), np.zeros((3, 1)))
    for shape in ((2, 1), (2, 3), (0, 3)):
        ids = tf.ones(shape, tf.int64)
        np.testing.assert_array_equal(at_least_one_step(ids), ids)
    assert at_least_one_step(tf.zeros((0, 0), tf.int64)).shape == (0, 1)
    assert at_least_one_step(tf.zeros((2, 0, 5), tf.int64)).shape == (2, 1, 5)


# Tokens


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("Oslo", "oslo"),
        ("OSLO", "oslo"),
        ("1,250.50", "0,000.00"),
        ("B2B", "b0b"),
        ("ÉÇÀ", "éçà"),
        ("İ", "i\u0307"),
        # Figures of every script, and signs for numbers.
        ("٣²Ⅷ½", "0000"),
        ("", ""),
        (" ", " "),
        ("\x00", " "),
        # A mark of the byte order is no nothing: only the empty string is padding.
        ("\ufeff", "\ufeff"),
    ],
)
def test_words_are_folded(word, form):
    assert fold_words(tf.constant(word)).numpy().decode() == form
    assert fold_words(tf.constant(form)).numpy().decode() == form


def test_words_that_are_not_utf8_are_folded_and_split():
    words = tf.constant([b"caf\xe9", b"\xff", b"\xed\xa0\x80"])
    for word in fold_words(words).numpy():
        assert "\ufffd" in word.decode("utf-8")
    assert split_characters(words, 5).numpy()[0].tolist() == [
        *[b"c", b"a", b"f"],
        "\ufffd".encode(),
        b"",
    ]


@pytest.mark.parametrize(
    ("word", "length", "characters"),
    [
        ("going", 6, ["g", "o", "i", "n", "g", ""]),
        ("going", 5, ["g", "o", "i", "n", "g"]),
        # Of an odd number one more from the start.
        ("abcdefgh", 5, ["a", "b", "c", "g", "h"]),
        ("abcdefgh", 4, ["a", "b", "g", "h"]),
        ("abcdefgh", 2, ["a", "h"]),
        ("abcdefgh", 1, ["a"]),
        ("", 2, ["", ""]),
        ("é🙂Ω", 3, ["é", "🙂", "Ω"]),
        # An accent that is a sign of its own is a character of its own.
        ("e\u0301", 3, ["e", "\u0301", ""]),
    ],
)
def test_characters(word, length, characters):
    (row,) = split_characters(tf.constant([word]), length).numpy()
    assert [character.decode() for character in row] == characters


def test_the_characters_of_no_words_and_of_a_long_one():
    assert split_characters(tf.constant([], tf.string), 4).shape == (0, 4)
    row = split_characters(tf.constant(["a" * 250 + "b" * 250]), 20).numpy()[0]
    assert row.tolist() == [b"a"] * 10 + [b"b"] * 10
