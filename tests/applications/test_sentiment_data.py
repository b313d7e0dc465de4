"""The batches: every text once, with its label, in an order that the seed and the epoch decide."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

import kerasrnn
from kerasrnn.applications import SentimentClassifier
from kerasrnn.applications.sentiment.config import SentimentConfig
from kerasrnn.applications.sentiment.data import Encoded, load_corpus
from kerasrnn.datasets import LabelledTexts

# Every text is a word of its own, so that a row of numbers tells which text it is; the rest is filling.
NAMES = [f"n{number}" for number in range(200)]


@pytest.fixture(scope="module")
def model():
    return SentimentClassifier([*NAMES, "x"], units=1, embedding_dim=1, max_length=30)


def corpus(lengths, seed=0) -> LabelledTexts:
    """Text number n is the word `n<n>` and filling, up to its length in words."""
    texts = [
        " ".join([name, *["x"] * (length - 1)]) if length else ""
        for name, length in zip(NAMES, lengths, strict=False)
    ]
    labels = np.random.default_rng(seed).integers(0, 3, len(texts)).astype(np.int32)
    return LabelledTexts(texts, labels, ("a", "b", "c"))


# Lengths as real texts have them: many short ones and a long tail. Some are longer than is read.
LENGTHS = np.random.default_rng(0).lognormal(2.3, 0.8, 170).astype(int) + 1


def epoch_of(batches) -> tuple[list[int], list[int]]:
    """The numbers of the texts in their order, and their labels."""
    numbers, labels = [], []
    for ids, one_hot in batches.as_numpy_iterator():
        assert ids.dtype == np.int64 and one_hot.dtype == np.float32
        assert ids.ndim == 2 and len(ids) == len(one_hot) and ids.shape[1] >= 1
        np.testing.assert_array_equal(one_hot.sum(-1), 1)
        numbers.extend(ids[:, 0] - 2)
        labels.extend(one_hot.argmax(-1))
    return numbers, labels


def assert_whole(data, numbers, labels) -> None:
    assert Counter(numbers) == Counter(range(len(data)))
    np.testing.assert_array_equal(labels, data.labels[numbers])


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_every_text_comes_once_with_its_label(model, batch_size):
    data = corpus(LENGTHS)
    batches = Encoded(data, model).batches(batch_size)
    assert_whole(data, *epoch_of(batches))
    sizes = [len(ids) for ids, _ in batches.as_numpy_iterator()]
    assert len(batches) == len(sizes) and max(sizes) <= batch_size
    # A second reading gives the same.
    assert epoch_of(batches) == epoch_of(batches)


@pytest.mark.parametrize("batch_size", [7, 64])
def test_every_epoch_of_training_holds_every_text_once(model, batch_size):
    data = corpus(LENGTHS)
    rows = Encoded(data, model)
    updates = len(rows.batches(batch_size))
    batches = rows.training_batches(batch_size, seed=1, first=0, last=3)
    assert len(batches) == 3 * updates == len(list(batches))
    orders = []
    for epoch in range(3):
        numbers, labels = epoch_of(batches.skip(epoch * updates).take(updates))
        assert_whole(data, numbers, labels)
        orders.append(numbers)
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_the_order_is_a_function_of_the_seed_and_the_epoch(model):
    """So a run that goes on after epoch 2 sees what one that never stopped sees."""
    rows = Encoded(corpus(LENGTHS), model)
    updates = len(rows.batches(16))

    def order(seed, first, last):
        return epoch_of(rows.training_batches(16, seed, first, last))

    whole, again, rest = order(1, 0, 4), order(1, 0, 4), order(1, 2, 4)
    assert whole == again
    tail = epoch_of(rows.training_batches(16, 1, 0, 4).skip(2 * updates))
    assert rest == tail
    assert order(2, 0, 4)[0] != whole[0]


def test_the_batches_themselves_are_shuffled(model):
    """Short and long batches must not come in the order of their length."""
    rows = Encoded(corpus(LENGTHS), model)
    widths = [ids.shape[1] for ids, _ in rows.training_batches(8, 1, 0, 1).as_numpy_iterator()]
    assert widths != sorted(widths) and widths != sorted(widths, reverse=True)


def test_little_of_a_batch_is_padding(model):
    data = corpus(LENGTHS)
    rows = Encoded(data, model)

    def share_of_padding(batches):
        cells, words = 0, 0
        for ids, _ in batches.as_numpy_iterator():
            cells, words = cells + ids.size, words + (ids != 0).sum()
        return 1 - words / cells

    bucketed = share_of_padding(rows.training_batches(8, 1, 0, 1))
    lengths = np.minimum(LENGTHS, model.max_length)
    shuffled = np.random.default_rng(0).permutation(lengths)
    widest = [8 * shuffled[start : start + 8].max() for start in range(0, len(shuffled), 8)]
    assert bucketed < 0.3
    assert bucketed < (1 - lengths.sum() / sum(widest)) / 2


def test_nobody_waits_for_a_tuner_of_the_pipeline(model):
    rows = Encoded(corpus(LENGTHS), model)
    for batches in (rows.batches(8), rows.training_batches(8, 1, 0, 1)):
        assert not batches.options().autotune.enabled


@pytest.mark.parametrize("batch_size", [7, 16, 64])
def test_an_epoch_has_at_most_eight_shapes(model, batch_size):
    """For each of which the layers are compiled."""
    for lengths in (LENGTHS, np.arange(1, 120), [5] * 30):
        rows = Encoded(corpus(lengths), model)
        batches = rows.training_batches(batch_size, 1, 0, 3)
        assert len({ids.shape for ids, _ in batches.as_numpy_iterator()}) <= 8


def test_the_words_are_those_that_the_model_reads(model):
    data = corpus(LENGTHS)
    rows = Encoded(data, model)
    np.testing.assert_array_equal(rows.lengths, np.minimum(LENGTHS, model.max_length))
    longest = int(LENGTHS.argmax())
    assert LENGTHS[longest] > model.max_length
    np.testing.assert_array_equal(rows.ids[longest], model.word_ids([data.texts[longest]])[0])


@pytest.mark.parametrize(
    "lengths",
    [[5], [0], [0, 0, 0, 0, 0], [3] * 20, [0, 60], [0] * 10 + [50], [*range(1, 9)], [1, 1, 1, 9]],
)
def test_odd_corpora(model, lengths):
    """One text, none that has a word, all of one length, ..."""
    data = corpus(lengths)
    rows = Encoded(data, model)
    for batches in (rows.batches(4), rows.training_batches(4, 0, 0, 2)):
        seen = list(batches.as_numpy_iterator())
        assert len(seen) == len(batches)
        assert all(ids.shape[1] >= 1 for ids, _ in seen)
    labels = [row.argmax() for _, one_hot in rows.batches(2).as_numpy_iterator() for row in one_hot]
    assert sorted(labels) == sorted(data.labels)


# The three parts of a corpus


def table(path, rows) -> SentimentConfig:
    lines = ["text,label", *(f"{text},{label}" for text, label in rows)]
    path.write_text("\n".join(lines), "utf-8")
    return SentimentConfig(dataset=str(path))


def test_the_parts_are_disjoint_balanced_and_of_the_wanted_sizes(tmp_path):
    rows = [(f"text {number}", "no" if number % 4 else "yes") for number in range(200)]
    config = dataclasses.replace(
        table(tmp_path / "t.csv", rows), test_fraction=0.2, validation_fraction=0.25, seed=3
    )
    parts = load_corpus(config)
    assert [len(part) for part in parts] == [120, 40, 40]
    assert Counter(text for part in parts for text in part.texts) == Counter(t for t, _ in rows)
    for part in parts:
        assert np.bincount(part.labels).tolist() == [len(part) * 3 // 4, len(part) // 4]
        for text, label in zip(part.texts, part.labels, strict=True):
            assert (text, part.label_names[label]) in rows
    again, other = load_corpus(config), load_corpus(dataclasses.replace(config, seed=4))
    assert [part.texts for part in again] == [part.texts for part in parts]
    assert other.test.texts != parts.test.texts


def test_a_test_part_that_there_is_is_left_whole():
    parts, built_in = load_corpus(SentimentConfig(seed=5)), kerasrnn.datasets.reviews()
    assert parts.test.texts == built_in["test"].texts
    assert sorted([*parts.train.texts, *parts.validation.texts]) == sorted(built_in["train"].texts)


def test_a_validation_part_that_there_is_is_left_whole(monkeypatch):
    parts = kerasrnn.datasets.reviews()
    parts["validation"], parts["train"] = parts["train"].split(0.3, seed=1)
    monkeypatch.setattr(kerasrnn.datasets, "reviews", lambda: parts)
    assert load_corpus(SentimentConfig()) == (parts["train"], parts["validation"], parts["test"])


def test_a_folder(tmp_path):
    for label in ("neg", "pos"):
        (tmp_path / label).mkdir()
        for number in range(20):
            (tmp_path / label / f"{number}.txt").write_text(f"{label} {number}", "utf-8")
    parts = load_corpus(SentimentConfig(dataset=str(tmp_path)))
    assert sum(map(len, parts)) == 40
    assert parts.train.label_names == ("negative", "positive")


@pytest.mark.parametrize("name", ["test_fraction", "validation_fraction"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, 2.0])
def test_a_fraction_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must lie between 0 and 1, got {value}"):
        load_corpus(SentimentConfig(**{name: value}))


def test_too_few_texts_and_too_few_labels(tmp_path):
    with pytest.raises(ValueError, match=r"t.csv' is too small: no text is left for validation"):
        load_corpus(table(tmp_path / "t.csv", [("a", "no"), ("b", "yes"), ("c", "no")]))
    with pytest.raises(ValueError, match=r"must have at least two labels, got \('no',\)"):
        load_corpus(table(tmp_path / "t.csv", [("a", "no"), ("b", "no")]))


def test_a_path_that_leads_nowhere(tmp_path):
    for name in (str(tmp_path / "none"), "nothere/", "notes.txt", "", "two words"):
        with pytest.raises(FileNotFoundError) as raised:
            load_corpus(SentimentConfig(dataset=name))
        assert f"`dataset` is {name!r}: neither a folder that is there, nor" in str(raised.value)
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none.tsv"):
        load_corpus(SentimentConfig(dataset=str(tmp_path / "none.tsv")))
    with pytest.raises(ValueError, match=r"no data set 'imdb_revues'. Did you mean 'imdb_reviews'"):
        load_corpus(SentimentConfig(dataset="imdb_revues"))
