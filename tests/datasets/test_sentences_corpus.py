"""The corpus of tagged sentences in the package: is the file what its description says?

It is read here with plain Python, so that these tests and those of the readers fail for different reasons.
"""

import re
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

FILE = Path(__file__).parents[2] / "kerasrnn" / "datasets" / "sentences.conll"
PARTS = ("train", "validation", "test")
TYPES = {"PER", "LOC", "ORG"}
UPOS = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X"
# Whatever stands around them, these words have one part of speech.
FIXED = {
    "DET": "the a an every each",
    "CCONJ": "and or but nor",
    "ADP": "of in at with from into during between against through without",
    "PRON": "i he she it we they me him us them my his her its our their who whose nobody",
    "PART": "n't not",
    "AUX": "was been 'm 're 'll can could would should must",
    "SCONJ": "if while whether although unless",
    "NUM": "two three four five six seven eight nine ten eleven hundred thousand million billion",
}
PUNCTUATION = re.compile(r'[.,:;!?()"]')


class Sentence(NamedTuple):
    part: str
    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    entities: tuple[str, ...]

    @property
    def lower(self) -> tuple[str, ...]:
        return tuple(token.lower() for token in self.tokens)

    @property
    def names(self) -> list[tuple[str, str]]:
        """The entities, as (type, form)."""
        found: list[tuple[str, list[str]]] = []
        for token, label in zip(self.tokens, self.entities, strict=True):
            if label.startswith("B-"):
                found.append((label[2:], [token]))
            elif label != "O":
                found[-1][1].append(token)
        return [(kind, " ".join(tokens)) for kind, tokens in found]


@pytest.fixture(scope="module")
def text():
    return FILE.read_bytes().decode("utf-8")


@pytest.fixture(scope="module")
def sentences(text):
    """Every sentence of the file; a line that is not as it should be fails here."""
    found = []
    for block in text.removesuffix("\n").split("\n\n"):
        comment, *lines = block.split("\n")
        assert comment.startswith("# part = "), block
        columns = [line.split("\t") for line in lines]
        assert lines and all(len(line) == 3 for line in columns), block
        found.append(Sentence(comment.removeprefix("# part = "), *zip(*columns, strict=True)))
    return found


@pytest.fixture(scope="module")
def parts(sentences):
    return {part: [s for s in sentences if s.part == part] for part in PARTS}


def test_the_file_is_clean_utf8(text):
    assert not text.startswith("\ufeff") and "\r" not in text and "\ufffd" not in text
    assert text.endswith("\n") and not text.endswith("\n\n")
    assert all(line.isprintable() for line in text.replace("\t", "").split("\n"))


def test_no_token_is_empty_has_a_space_or_looks_like_a_comment(sentences):
    for sentence in sentences:
        for token in sentence.tokens:
            assert token and not re.search(r"\s", token) and not token.startswith("#"), sentence


def test_the_parts_are_complete_in_order_and_sensible(sentences, parts):
    order = [s.part for s in sentences]
    assert list(dict.fromkeys(order)) == list(PARTS)
    assert sum(a != b for a, b in pairwise(order)) == len(PARTS) - 1
    sizes = {part: len(some) for part, some in parts.items()}
    assert sizes["train"] >= 400 and sizes["validation"] >= 40 and sizes["test"] >= 60
    assert 6_000 <= sum(len(s.tokens) for s in sentences) <= 10_000


def test_lengths_vary_within_bounds(sentences):
    lengths = [len(s.tokens) for s in sentences]
    assert min(lengths) >= 6 and max(lengths) <= 22
    assert len(set(lengths)) >= 12


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_every_tag_and_every_type(parts, part):
    some = parts[part]
    assert {tag for s in some for tag in s.tags} == set(UPOS.split())
    assert {kind for s in some for kind, _ in s.names} == TYPES


def test_entities_are_well_formed_bio(sentences):
    labels = {"O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in TYPES)}
    for s in sentences:
        assert labels.issuperset(s.entities), s
        for before, here in pairwise(("O", *s.entities)):
            assert not here.startswith("I-") or before in (here, "B" + here[1:]), s


@pytest.mark.parametrize("part", PARTS)
def test_most_sentences_have_a_name_and_some_have_none(parts, part):
    share = sum(bool(s.names) for s in parts[part]) / len(parts[part])
    assert 0.6 <= share <= 0.95


def test_a_name_is_made_of_proper_nouns(sentences):
    """`University of Leeds` has an ADP within; a name neither begins nor ends with such a word."""
    for s in sentences:
        edges = ("O", *s.entities, "O")
        for index, (tag, label) in enumerate(zip(s.tags, s.entities, strict=True)):
            inside = label.startswith("I-") and edges[index + 2].startswith("I-")
            assert label == "O" or tag == "PROPN" or (inside and tag in ("ADP", "CCONJ")), s


def test_many_names_have_several_tokens(sentences):
    names = [name for s in sentences for name in s.names]
    assert sum(" " in form for _, form in names) >= len(names) / 4
    assert any(form.count(" ") >= 2 for kind, form in names if kind == "PER")
    assert any(form.count(" ") >= 2 for kind, form in names if kind == "ORG")


@pytest.mark.parametrize("part", ["validation", "test"])
def test_of_the_names_to_find_some_are_known_from_training_and_some_are_not(parts, part):
    known = {name for s in parts["train"] for name in s.names}
    names = [name for s in parts[part] for name in s.names]
    assert 0.4 <= sum(name in known for name in names) / len(names) <= 0.6


def test_words_are_names_here_and_no_names_there(sentences):
    labels = defaultdict(set)
    for s in sentences:
        for word, label in zip(s.lower, s.entities, strict=True):
            labels[word].add(label[2:])
    both = {word for word, kinds in labels.items() if "" in kinds and len(kinds) > 1}
    assert both >= {"reading", "turkey", "china", "bath", "cork", "may", "will", "mark", "rose"}
    several = {word for word, kinds in labels.items() if len(kinds - {""}) > 1}
    assert several >= {"washington", "reading", "florence", "georgia", "jordan", "leeds"}


def test_there_are_headlines_in_capitals_and_notes_without(parts):
    train = [" ".join(s.tokens) for s in parts["train"] if s.names]
    assert sum(line.isupper() for line in train) >= 10
    assert sum(line.islower() for line in train) >= 8


def test_no_sentence_occurs_twice_however_it_is_written(sentences):
    """So no sentence of one part is in another either."""
    count = Counter(re.sub(r"\W+", " ", " ".join(s.lower)).strip() for s in sentences)
    assert [line for line, times in count.items() if times > 1] == []


def test_no_two_sentences_are_nearly_the_same(sentences):
    """No template: no two share three fifths of their pairs of neighbouring words."""
    pairs = [set(pairwise(s.lower)) for s in sentences]
    for number, one in enumerate(pairs):
        for other in pairs[:number]:
            assert len(one & other) <= 3 / 5 * min(len(one), len(other)), (one, other)


@pytest.mark.parametrize("tag", FIXED)
def test_words_of_the_closed_classes_have_their_tag(sentences, tag):
    words = set(FIXED[tag].split())
    for s in sentences:
        for word, here, label in zip(s.lower, s.tags, s.entities, strict=True):
            assert word not in words or here == tag or label != "O", (word, s)


def test_signs_are_punctuation_and_figures_are_numbers(sentences):
    for s in sentences:
        for token, tag in zip(s.tokens, s.tags, strict=True):
            assert bool(PUNCTUATION.fullmatch(token)) == (tag == "PUNCT"), (token, s)
            assert tag == "NUM" or not re.fullmatch(r"\d[\d.,:-]*\d|\d", token), (token, s)


def test_contractions_and_possessives_are_tokens_of_their_own(sentences):
    tags = defaultdict(set)
    for s in sentences:
        for word, tag in zip(s.lower, s.tags, strict=True):
            assert "'" not in word or re.fullmatch(r"n't|'(s|m|d|re|ve|ll)", word), (word, s)
            tags[word].add(tag)
    assert tags["'s"] == {"PART", "AUX", "PRON"} and tags["to"] == {"PART", "ADP"}


def test_an_infinitive_follows_its_to(sentences):
    for s in sentences:
        for (word, tag), (_, after) in pairwise(zip(s.lower, s.tags, strict=True)):
            if word == "to":
                assert (tag == "PART") == (after in ("VERB", "AUX")), s


def test_it_can_be_learned_and_a_list_of_words_is_not_enough(parts):
    """Each word gets the label it has most often in training, or the most frequent one of all."""

    def share_right(column):
        counts, overall = defaultdict(Counter), Counter()
        for s in parts["train"]:
            for word, label in zip(s.lower, column(s), strict=True):
                counts[word][label] += 1
                overall[label] += 1
        default = overall.most_common(1)[0][0]
        right = [
            (counts[word].most_common(1)[0][0] if word in counts else default) == label
            for s in parts["test"]
            for word, label in zip(s.lower, column(s), strict=True)
        ]
        return sum(right) / len(right)

    assert 0.7 < share_right(lambda s: s.tags) < 0.95
    outside = [label == "O" for s in parts["test"] for label in s.entities]
    assert sum(outside) / len(outside) < share_right(lambda s: s.entities) < 0.95
