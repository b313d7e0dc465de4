"""Word vectors from text files; and what is said of those that are wrong."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from kerasrnn.datasets import _vectors, word_vectors

GLOVE = "the 0.5 -1 2e-1\nThe 1 2 3\n. . . 4 5 6\ncafé 7 8 9\nat a@b.org 1 1 1\nthe 9 9 9\n"
ROWS = {
    "the": [0.5, -1, 0.2],
    "The": [1, 2, 3],
    ". . .": [4, 5, 6],
    "café": [7, 8, 9],
    "at a@b.org": [1, 1, 1],
}


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("glove.txt", GLOVE),
        ("glove.txt.gz", GLOVE),
        ("word2vec.txt", "6 3\n" + GLOVE),
        ("fasttext.vec", "6 3\n" + GLOVE.replace("\n", " \n")),
        ("windows.txt", "\ufeff" + GLOVE.rstrip().replace("\n", "\r\n")),
        ("both.vec.gz", "\ufeff6 3\r\n" + GLOVE.replace("\n", " \r\n") + "\r\n"),
    ],
)
def test_every_kind_of_file(tmp_path, name, content):
    words = [*reversed(ROWS), "dog", "the"]
    vectors, found = word_vectors(write(tmp_path / name, content), words)
    assert vectors.dtype == np.float32
    assert found.dtype == bool
    assert found.tolist() == [True] * len(ROWS) + [False, True]
    expected = [*reversed(ROWS.values()), [0, 0, 0], ROWS["the"]]
    np.testing.assert_array_equal(vectors, np.array(expected, np.float32))


def test_a_word_as_it_is_comes_before_its_lower_case(tmp_path):
    path = write(tmp_path / "t.txt", "the 1\nparis 2\nParis 3\n")
    vectors, found = word_vectors(path, iter(["The", "THE", "the", "Paris", "PARIS", "X"]))
    assert vectors.ravel().tolist() == [1, 1, 1, 3, 2, 0]
    assert found.tolist() == [True] * 5 + [False]


def test_no_words_at_all(tmp_path):
    vectors, found = word_vectors(write(tmp_path / "t.txt", GLOVE), [])
    assert vectors.shape == (0, 3)
    assert found.shape == (0,)


@pytest.mark.parametrize("name", ["t.txt", "t.txt.gz"])
def test_a_long_file_is_read_as_a_stream(tmp_path, monkeypatch, name):
    """Only the lines that are wanted become numbers, and a bar counts the bytes of the file."""
    made, bars = [], []
    floats, bar = _vectors._floats, _vectors.tqdm
    monkeypatch.setattr(_vectors, "_floats", lambda *args: made.append(args[1]) or floats(*args))
    monkeypatch.setattr(_vectors, "tqdm", lambda **kwargs: bars.append(kwargs) or bar(**kwargs))
    path = write(tmp_path / name, "".join(f"w{n} {n} {-n}\n" for n in range(5000)))
    vectors, _ = word_vectors(path, ["w4000", "w7"])
    assert vectors.tolist() == [[4000, -4000], [7, -7]]
    assert made == [8, 4001]
    word_vectors(path, ["a"], show_progress=False)
    assert [kwargs["disable"] for kwargs in bars] == [None, True]
    assert [kwargs["total"] for kwargs in bars] == [path.stat().st_size] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 1 2\nb 1\n", r"t.txt, line 2: there are 1 numbers, and must be 2"),
        ("a 1 2\n\nb 1 2 3\n", r"t.txt, line 3: there are more numbers than 2"),
        ("3 2\na 1 2\nb 1\n", r"t.txt, line 3: there are 1 numbers, and must be 2"),
        ("2 3\nc 1 2 3\na 1 x 2\n", r"t.txt, line 3: could not convert .*'x'"),
        ("a 1 nan\n", r"t.txt, line 1: not all numbers are finite"),
        (b"b 1 2\ncaf\xe9 1 2\n", r"t.txt, line 2: the word is not UTF-8: byte 0xe9"),
        ("5 1\na 1\nb 2\n", r"t.txt has vectors for 2 words, and its first line promises 5"),
        ("", r"t.txt holds no word vectors"),
        ("word\n", r"t.txt holds no word vectors: its first line"),
    ],
)
def test_files_that_are_wrong(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        word_vectors(write(tmp_path / "t.txt", content), ["a"])


def test_a_file_that_is_cut_off_or_not_compressed(tmp_path):
    path = write(tmp_path / "t.txt.gz", "".join(f"w{n} {n}\n" for n in range(5000)))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"t.txt.gz is not a whole gzip file"):
        word_vectors(path, ["a"])
    path.write_bytes(GLOVE.encode())
    with pytest.raises(ValueError, match=r"t.txt.gz is not a whole gzip file"):
        word_vectors(path, ["a"])


def test_no_such_file_and_words_that_are_one_text(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none.txt"):
        word_vectors(tmp_path / "none.txt", ["a"])
    with pytest.raises(ValueError, match=r"`words` must be several words, got one text: 'the cat'"):
        word_vectors(tmp_path / "none.txt", "the cat")
