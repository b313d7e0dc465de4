"""The corpus that comes with the package: is it what its description says?"""

import csv
import re
from collections import Counter
from importlib import resources
from itertools import pairwise

import numpy as np
import pytest

import kerasrnn

NEGATION = re.compile(r"\b(not|no|never|nothing|nobody|none|nor|neither|without|cannot)\b|n't\b")


@pytest.fixture(scope="module")
def parts():
    return kerasrnn.datasets.reviews()


@pytest.fixture(scope="module")
def texts(parts):
    return [text for part in parts.values() for text in part.texts]


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower().replace("\u2019", "'"))


def test_there_are_enough_and_the_parts_are_sensible(parts, texts):
    assert list(parts) == ["train", "test"]
    assert len(texts) >= 300
    assert 0.1 <= len(parts["test"]) / len(texts) <= 0.4


def test_every_part_is_balanced(parts):
    for part in parts.values():
        assert part.label_names == ("negative", "positive")
        assert part.labels.dtype == np.int32 and len(part.labels) == len(part.texts)
        negative, positive = np.bincount(part.labels)
        assert abs(int(negative) - int(positive)) <= 1


def test_no_text_occurs_twice_however_it_is_written(texts):
    """So no text of the test part is in the training part either."""
    count = Counter(" ".join(words(text)) for text in texts)
    assert [text for text, times in count.items() if times > 1] == []


def test_no_two_texts_are_nearly_the_same(texts):
    """No template: no two share two thirds of their pairs of neighbouring words."""
    pairs = [{*pairwise(w)} for w in map(words, texts)]
    for number, one in enumerate(pairs):
        for other in pairs[:number]:
            assert len(one & other) <= 2 / 3 * max(1, min(len(one), len(other))), (one, other)


def test_negations_and_mixed_opinions(texts):
    assert sum(bool(NEGATION.search(text.lower().replace("\u2019", "'"))) for text in texts) >= (
        len(texts) / 10
    )
    assert sum("but" in words(text) for text in texts) >= len(texts) / 10


def test_lengths_vary(texts):
    lengths = np.array([len(words(text)) for text in texts])
    assert lengths.min() >= 3 and lengths.max() <= 400
    assert np.quantile(lengths, 0.9) >= 2 * np.quantile(lengths, 0.1)


def test_neither_the_length_nor_one_word_gives_the_label_away(parts):
    """A model must read: what one word tells is far from enough."""
    train = parts["train"]
    lengths = np.array([len(text) for text in train.texts])
    long = lengths > np.median(lengths)
    agreement = (long == train.labels).mean()
    assert 0.35 < agreement < 0.65
    known = [set(words(text)) for text in train.texts]
    count = Counter(word for some in known for word in some)
    for word in (word for word, times in count.items() if times >= 20):
        says = np.array([word in some for some in known]) == train.labels
        assert 0.3 < says.mean() < 0.7, word


def test_the_file_is_clean_utf8():
    file = resources.files("kerasrnn.datasets") / "reviews.tsv"
    text = file.read_bytes().decode("utf-8")
    assert not text.startswith("\ufeff") and "\r" not in text and "\ufffd" not in text
    rows = list(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows[0] == ["split", "label", "text"]
    for split, label, review in rows[1:]:
        assert split in ("train", "test") and label in ("negative", "positive")
        assert review == review.strip() and review.isprintable()
