"""From files to batches of numbers: every token once, with its label, and what is wrong with its line."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

import kerasrnn
from kerasrnn.applications import SequenceLabeler
from kerasrnn.applications._data import LengthBatches
from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig
from kerasrnn.applications.sequence_labeling.data import (
    Encoded,
    cut,
    in_scheme,
    learn_words,
    load_corpus,
    read_parts,
    scheme_of,
)
from kerasrnn.datasets import TaggedSentences
from tests.applications._helpers import write_names, write_treebank

LABELS = ("O", "B-PER", "I-PER", "B-LOC")
# Every token is another, so that its number tells which it is.
NAMES = [f"n{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(300)]


def sentences(lengths, ignored=()) -> TaggedSentences:
    names = iter(NAMES)
    tokens = [[next(names) for _ in range(length)] for length in lengths]
    random = np.random.default_rng(0)
    labels = [[str(random.choice([*LABELS, *ignored])) for _ in row] for row in tokens]
    return TaggedSentences.of(tokens, labels, ignored=ignored)


@pytest.fixture(scope="module")
def model():
    return SequenceLabeler(
        NAMES, "abcdefghijklmn", LABELS, units=1, embedding_dim=1, max_word_length=4
    )


# The batches

LENGTHS = [1, 9, 3, 3, 7, 2, 12, 5, 5, 4, 1, 6]


def pairs_in(batches) -> Counter:
    """How often each word has each label, by their numbers; -1 is no label."""
    seen = Counter()
    for numbers, tags in batches.as_numpy_iterator():
        assert numbers.dtype == tags.dtype == np.int32
        assert numbers.shape[:2] == tags.shape
        words = numbers[..., 0]
        np.testing.assert_array_equal(tags[words == 0], -1)
        assert not numbers[words == 0].any()
        seen.update(zip(words[words > 0].tolist(), tags[words > 0].tolist(), strict=True))
    return seen


@pytest.mark.parametrize("batch_size", [5, 100])
def test_every_token_comes_once_with_its_label(model, batch_size):
    part = sentences(LENGTHS, ignored=["_"])
    rows = Encoded(part, model)
    expected = Counter(
        (NAMES.index(token) + 2, -1 if label == "_" else LABELS.index(label))
        for row in zip(part.tokens, part.labels, strict=True)
        for token, label in zip(*row, strict=True)
    )
    assert "_" in {label for row in part.labels for label in row}
    assert pairs_in(rows.batches(batch_size)) == expected
    assert pairs_in(rows.training_batches(batch_size, 1, 0, 1)) == expected
    assert len(rows.batches(batch_size)) == rows.count(batch_size)


def test_the_numbers_are_those_that_the_model_makes(model):
    part = sentences([4])
    ((numbers, _),) = Encoded(part, model).batches(1).as_numpy_iterator()
    np.testing.assert_array_equal(numbers, model.token_numbers(tf.constant([part.tokens[0]])))


def test_long_sentences_are_cut_and_nothing_is_lost(model):
    labels = ["O", "B-PER", "I-PER", "I-PER", "B-LOC", "O", "O"]
    part = TaggedSentences.of([list("abcdefg"), ["h"]], [labels, ["O"]])
    pieces = cut(part, 3, "BIO")
    assert pieces.tokens == [("a", "b", "c"), ("d", "e", "f"), ("g",), ("h",)]
    assert pieces.labels[1] == ("B-PER", "B-LOC", "O")
    assert cut(part, 3, None).labels[1] == ("I-PER", "B-LOC", "O")
    assert cut(part, 7, "BIO") is part
    rows = Encoded(sentences([9, 4]), model, max_length=4)
    assert sorted(rows.lengths) == [1, 4, 4, 4]
    assert pairs_in(rows.batches(2)) == pairs_in(Encoded(sentences([9, 4]), model).batches(2))


def test_the_words_are_learned_folded_and_the_characters_as_they_are():
    part = TaggedSentences.of(
        [["Go", "go", "1990", "1,5"], ["GO", "2001", "b"]], [["O"] * 4, ["O"] * 3]
    )
    words, written, characters = learn_words(part, 1)
    assert words == ["go", "0000", "0,0", "b"]
    assert written == ["Go", "1990", "1,5", "b"]  # the most frequent, or the first
    assert characters[:2] == ["1", "0"] and sorted(characters) == sorted("GoO19g0,52b")
    assert learn_words(part, 2).folded == ["go", "0000"]
    assert learn_words(part, 2).characters == characters
    with pytest.raises(ValueError, match=r"`least_count` is 4, but no word .* more than 3 times"):
        learn_words(part, 4)


# The parts of a corpus


def config(*files, **settings) -> SequenceLabelingConfig:
    return SequenceLabelingConfig(dataset=tuple(map(str, files)), **settings)


def test_the_corpus_in_the_package():
    built_in = kerasrnn.datasets.sentences()
    corpus = load_corpus(SequenceLabelingConfig())
    assert [part.tokens for part in corpus] == [part.tokens for part in built_in.values()]
    assert corpus.label_names() == built_in["train"].label_names
    tags = load_corpus(SequenceLabelingConfig(label="pos"))
    assert "NOUN" in tags.label_names() and scheme_of(tags.train) is None
    assert tags.digest() != corpus.digest()


def test_what_is_held_out_of_one_file_two_and_three(tmp_path):
    train, dev, test = (write_names(tmp_path / f"{n}.conll", n) for n in (60, 20, 10))
    fractions = {"test_fraction": 0.2, "validation_fraction": 0.25}
    assert [len(part) for part in load_corpus(config(train, **fractions))] == [36, 12, 12]
    assert [len(part) for part in load_corpus(config(train, test, **fractions))] == [45, 15, 10]
    assert [len(part) for part in load_corpus(config(train, dev, test))] == [60, 20, 10]
    with pytest.raises(ValueError, match=r"up to three files, .* got 4: .*60.conll"):
        load_corpus(config(train, dev, test, test))
    with pytest.raises(ValueError, match=r"must be a name, or up to three files, .* got 0"):
        load_corpus(config())


def test_the_split_is_a_function_of_the_seed(tmp_path):
    one = config(write_names(tmp_path / "names.conll"), seed=1)
    assert load_corpus(one).digest() == load_corpus(one).digest()
    assert load_corpus(dataclasses.replace(one, seed=2)).digest() != load_corpus(one).digest()


def test_other_columns_and_a_treebank(tmp_path):
    (tmp_path / "x.txt").write_text("O Anna NNP\nO ran VBD\n\nB-LOC Oslo NNP\n")
    parts = read_parts(config(tmp_path / "x.txt", token_column=1, label_column=0))
    assert parts["train"].tokens[1] == ("Oslo",) and parts["train"].labels[1] == ("B-LOC",)
    part = read_parts(config(write_treebank(tmp_path / "x.CONLLU", 3, seed=0)))["train"]
    assert len(part) == 3 and {len(row) for row in part.tokens} == {5}
    assert part.ignored == {"_"}


def test_another_scheme(tmp_path):
    path = write_names(tmp_path / "names.conll")
    corpus = load_corpus(config(path, scheme="BIOES"))
    assert {"S-LOC", "S-PER", "E-PER"} <= set(corpus.label_names())
    assert [scheme_of(part) for part in corpus] == ["BIOES"] * 3
    assert [part.tokens for part in corpus] == [part.tokens for part in load_corpus(config(path))]
    treebank = write_treebank(tmp_path / "x.conllu", 20, seed=0)
    with pytest.raises(ValueError, match=r"`scheme` is 'BIO', but the labels are of no scheme"):
        load_corpus(config(treebank, scheme="BIO"))


def test_parts_of_other_schemes_get_that_of_the_training(tmp_path):
    """And one with no entity at all has any."""
    train = write_names(tmp_path / "train.conll", 20)
    (tmp_path / "dev.conll").write_text("Anna B-PER\nBerg E-PER\n\nOslo S-LOC\n")
    (tmp_path / "test.conll").write_text("nobody O\ncame O\n")
    corpus = load_corpus(config(train, tmp_path / "dev.conll", tmp_path / "test.conll"))
    assert corpus.validation.labels == [("B-PER", "I-PER"), ("B-LOC",)]
    assert corpus.test.labels == [("O", "O")]
    assert corpus.label_names() == ("O", "B-LOC", "B-PER", "I-PER")


def test_what_has_no_entity_is_in_every_scheme():
    part = TaggedSentences.of([["go"]], [["O"]])
    assert in_scheme(part, "BIOES") is part


def test_a_label_that_training_never_saw_is_told(tmp_path):
    train = write_names(tmp_path / "train.conll", 20)
    (tmp_path / "test.conll").write_text("Oslo B-LOC\n\nShell B-ORG\n\nEsso B-ORG\n")
    parts = config(train, tmp_path / "test.conll")
    with pytest.warns(UserWarning, match=r"never saw .*'B-ORG'.*sentence 1 of the test") as seen:
        corpus = load_corpus(parts)
    assert len(seen) == 1
    assert corpus.test.labels[2] == ("B-ORG",)


# Files that are wrong

FAULTY = "Anna B-PER\nfrom O\nOslo I-LOC\n\nYork B-LOC\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "Anna B-PER\nBerg\nran O\n",
            r"names.conll, line 2: the row has 1 columns, .* must have 2",
        ),
        ("Anna\tO\n\nBerg\tO\tO\n", r"names.conll, line 3: the row has 3 columns, .*by tabs"),
        ("Anna\tB-PER\n\tO\n", r"names.conll, line 2: the token is empty"),
        (FAULTY, r"names.conll, line 3: I-LOC stands where BIO has B-LOC. .*`on_fault='repair'`"),
        ("", "names.conll holds no sentence at all"),
        ("\n \n-DOCSTART- O\n\n", "names.conll holds no sentence at all"),
        ("Anna\n", r"names.conll: `token_column` 0 and `label_column` -1 are the same one"),
        (b"Anna B-PER\ncaf\xe9 O\n", r"names.conll is not UTF-8: byte 0xe9 at offset 14"),
        (
            "a O\n\n" * 20,
            r"must have at least two labels, got \('O',\)",
        ),
        ("a B-X\n", r"names.conll' is too small: no sentence is left for"),
    ],
)
def test_files_that_are_wrong(tmp_path, content, message):
    path = tmp_path / "names.conll"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=message):
        load_corpus(config(path))


def test_labels_that_break_their_scheme_may_be_repaired(tmp_path):
    path = tmp_path / "names.conll"
    path.write_text(FAULTY)
    part = read_parts(config(path, on_fault="repair"))["train"]
    assert part.labels[0] == ("B-PER", "O", "B-LOC")


def test_names_that_lead_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The last has the form of a data set's name with its configuration, but the end of a file's.
    for name in ("names.conll", "two words", "nothere/train.conll"):
        with pytest.raises(FileNotFoundError, match=f"There is no file {name}"):
            read_parts(config(name))
    with pytest.raises(ValueError, match=r"no data set 'conll2004'. Did you mean .*'conll2003'"):
        read_parts(config("conll2004"))
    with pytest.raises(FileNotFoundError, match="lacks the data set 'conll2003'"):
        read_parts(config("conll2003", data_dir=str(tmp_path)))


def test_a_label_of_a_file_of_columns_is_named_by_its_column(tmp_path):
    file = write_names(tmp_path / "names.conll", 4)
    with pytest.raises(ValueError, match=r"`label` is 'upos', but .* `label_column` says"):
        load_corpus(config(file, label="upos"))


# Long sentences


def test_a_long_sentence_is_cut_and_does_not_make_others_long():
    """Every token is trained on once, and little of a batch is padding."""
    rows = [["Anna", "ran"]] * 40 + [["Oslo"] * 1003]
    labels = [["B-PER", "O"]] * 40 + [["B-LOC", *["I-LOC"] * 1002]]
    part = TaggedSentences.of(rows, labels)
    labeler = SequenceLabeler(["anna"], "Aano", part.label_names, scheme="BIO", units=2)
    encoded = Encoded(part, labeler)
    begin = part.label_names.index("B-LOC")
    cells = counted = 0
    for numbers, tags in encoded.training_batches(8, 0, 0, 1).as_numpy_iterator():
        cells += tags.size
        counted += (tags >= 0).sum()
        assert (numbers[..., 0] > 0).sum() == (tags >= 0).sum()
        assert numbers.shape[1] <= 400
        # A piece begins with a label that may begin a sentence.
        assert set(tags[:, 0]) <= {begin, part.label_names.index("B-PER")}
    assert counted == 40 * 2 + 1003
    assert cells < 41 * 2 + 8 * 401
    assert sum(len(row) for row in cut(part, 400, "BIO").tokens) == counted


def test_few_long_sequences_have_lengths_of_their_own():
    class Batches(LengthBatches):
        def read(self, numbers, time):
            return tf.zeros(tf.stack([tf.shape(numbers, tf.int64)[0], time]))

    many = Batches(np.array([10] * 800 + [20] * 600 + [5000]))
    assert many.times.tolist() == [10, 20, 640, 1280, 2560, 5000]
    sizes = [batch.shape for batch in many.training_batches(32, 1, 0, 1).as_numpy_iterator()]
    assert sum(rows for rows, _ in sizes) == 1401
    assert sorted(time for _, time in sizes)[-2] <= 40
    # As in CoNLL-2003, where more lengths than eight shapes allow would pad less.
    odd = np.repeat([4, 6, 9, 12, 20, 29, 50], 40) - np.tile(range(4), 70)
    for longest in ([113], [200] * 5, [70, 90, 700, 5000], [5000] * 40):
        some = Batches(np.append(odd, longest))
        assert len(some.times) <= 7 and some.times[-1] == longest[-1]
        seen = {
            tuple(batch.shape) for batch in some.training_batches(32, 1, 0, 60).as_numpy_iterator()
        }
        assert len(seen) <= 8, (longest, seen)
