"""Schemes of labels: read as seqeval reads them, written, checked, guessed."""

import itertools
import random

import numpy as np
import pytest

from kerasrnn import tagging
from kerasrnn.tagging import SCHEMES, Span

LETTERS = {"BIO": "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU"}
TYPES = ("PER", "LOC", "B-x")  # A type may have a hyphen itself.
NAMES = {
    scheme: ["O", *(f"{letter}-{kind}" for kind in TYPES for letter in letters)]
    for scheme, letters in LETTERS.items()
}
each_scheme = pytest.mark.parametrize("scheme", SCHEMES)


def random_labels(scheme, count, seed=0, types=TYPES):
    """Sequences that are ill-formed more often than not."""
    generator = random.Random(seed)
    names = [name for name in NAMES[scheme] if name == "O" or name.partition("-")[2] in types]
    return [generator.choices(names, k=generator.randrange(9)) for _ in range(count)]


def random_spans(count, seed=0):
    """Sets of entities, many of them side by side, and the lengths of their sequences."""
    generator = random.Random(seed)
    for _ in range(count):
        found, position = [], 0
        for _ in range(generator.randrange(5)):
            start = position + generator.choice((0, 0, 1, 2))
            position = start + generator.choice((1, 1, 2, 3, 4))
            found.append(Span(generator.choice(TYPES), start, position))
        yield found, position + generator.randrange(2)


def seqeval_spans(labels):
    """The spans that seqeval finds. It knows L and U by the names E and S only."""
    sequence_labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    same = {"L": "E", "U": "S"}
    renamed = [same.get(label[0], label[0]) + label[1:] for label in labels]
    return [
        Span(kind, first, last + 1) for kind, first, last in sequence_labeling.get_entities(renamed)
    ]


@each_scheme
def test_spans_are_seqevals(scheme):
    for labels in random_labels(scheme, 2000):
        assert tagging.spans(labels, scheme) == seqeval_spans(labels), labels


def test_spans_by_hand():
    assert tagging.spans([]) == []
    assert tagging.spans(iter(["O", "O"])) == []
    assert tagging.spans(["B-A", "B-A", "I-A"]) == [Span("A", 0, 1), Span("A", 1, 3)]
    assert tagging.spans(["I-A", "I-B"], "IOB1") == [Span("A", 0, 1), Span("B", 1, 2)]
    assert tagging.spans(["E-A", "E-A"], "BIOES") == [Span("A", 0, 1), Span("A", 1, 2)]
    assert tagging.spans(["I-A", "L-A"], "BILOU") == [Span("A", 0, 2)]


@pytest.mark.parametrize(
    ("alias", "scheme"), [("IOB2", "BIO"), ("IOBES", "BIOES"), ("BIOLU", "BILOU")]
)
def test_other_names_of_the_schemes(alias, scheme):
    for labels in random_labels(scheme, 20):
        assert tagging.spans(labels, alias) == tagging.spans(labels, scheme)
        assert tagging.convert(labels, alias, "IOB1") == tagging.convert(labels, scheme, "IOB1")
        assert tagging.convert(labels, scheme, alias) == tagging.repair(labels, scheme)
    for ours, theirs in zip(
        tagging.transitions(NAMES[scheme], alias),
        tagging.transitions(NAMES[scheme], scheme),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


WRITTEN = {  # Two of one type side by side, then another one, then a pause and one of a single step.
    "BIO": "B-A I-A I-A B-A B-B I-B O B-B",
    "IOB1": "I-A I-A I-A B-A I-B I-B O I-B",
    "BIOES": "B-A I-A E-A S-A B-B E-B O S-B",
    "BILOU": "B-A I-A L-A U-A B-B L-B O U-B",
}


@each_scheme
@pytest.mark.parametrize("target", SCHEMES)
def test_conversion(scheme, target):
    assert tagging.convert(WRITTEN[scheme].split(), scheme, target) == WRITTEN[target].split()
    for labels in random_labels(scheme, 300):
        converted = tagging.convert(labels, scheme, target)
        assert len(converted) == len(labels)
        assert tagging.spans(converted, target) == tagging.spans(labels, scheme)
        assert not tagging.faults(converted, target)
        # There and back again: the well-formed labels of the same entities.
        assert tagging.convert(converted, target, scheme) == tagging.repair(labels, scheme)


@each_scheme
def test_all_entities_can_be_written(scheme):
    """Among them long ones, and several of one type side by side."""
    written = 0
    for found, length in random_spans(300):
        labels = ["O"] * length
        for kind, start, stop in found:
            labels[start:stop] = [f"B-{kind}", *[f"I-{kind}"] * (stop - start - 1)]
        assert tagging.spans(labels, "BIO") == found
        assert tagging.spans(tagging.convert(labels, "BIO", scheme), scheme) == found
        written += len(found)
    assert written > 300


@each_scheme
def test_repair_and_faults(scheme):
    broken = 0
    for labels in random_labels(scheme, 500):
        repaired = tagging.repair(labels, scheme)
        assert tagging.spans(repaired, scheme) == tagging.spans(labels, scheme)
        assert tagging.repair(repaired, scheme) == repaired
        found = tagging.faults(labels, scheme)
        assert [index for index, _ in found] == [
            index for index in range(len(labels)) if labels[index] != repaired[index]
        ]
        for index, message in found:
            assert message == f"{labels[index]} stands where {scheme} has {repaired[index]}"
        broken += bool(found)
    assert 100 < broken < 500


@each_scheme
def test_transitions_allow_what_has_no_faults(scheme):
    names = [name for name in NAMES[scheme] if not name.endswith("-x")]
    allowed, start, end = tagging.transitions(names, scheme)
    assert allowed.shape == (len(names), len(names))
    assert start.shape == end.shape == (len(names),)
    assert allowed.dtype == start.dtype == end.dtype == bool
    numbers = {name: number for number, name in enumerate(names)}
    seen = {True: 0, False: 0}
    for labels in random_labels(scheme, 2000, types=("PER", "LOC")):
        row = [numbers[label] for label in labels]
        steps = all(allowed[pair] for pair in itertools.pairwise(row))
        ends = not row or bool(start[row[0]] and end[row[-1]])
        assert (steps and ends) == (not tagging.faults(labels, scheme)), labels
        seen[steps and ends] += 1
    assert min(seen.values()) > 100


def test_transitions_by_hand():
    allowed, start, end = tagging.transitions(["O", "B-A", "I-A", "E-A", "S-A", "E-B"], "BIOES")
    np.testing.assert_array_equal(
        allowed.astype(int),
        [
            [1, 1, 0, 0, 1, 0],
            [0, 0, 1, 1, 0, 0],
            [0, 0, 1, 1, 0, 0],
            [1, 1, 0, 0, 1, 0],
            [1, 1, 0, 0, 1, 0],
            [1, 1, 0, 0, 1, 0],
        ],
    )
    assert start.tolist() == [True, True, False, False, True, False]
    assert end.tolist() == [True, False, False, True, True, True]
    allowed, start, end = tagging.transitions(["O", "B-A", "I-A", "I-B"], "IOB1")
    np.testing.assert_array_equal(
        allowed.astype(int), [[1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1]]
    )
    assert start.tolist() == [True, False, True, True]
    assert end.all()


def test_guesses():
    for scheme, labels in WRITTEN.items():
        assert tagging.guess_scheme([[], labels.split()]) == scheme
        assert tagging.guess_scheme(iter([iter(labels.split())])) == scheme
    assert tagging.guess_scheme([["B-A", "O"], ["O"]]) == "BIO"
    assert tagging.guess_scheme([["I-A", "O"], ["O"]]) == "IOB1"
    assert tagging.guess_scheme([["B-A", "B-A"], ["B-A", "I-A"]]) == "BIO"
    # One slip does not make another scheme of a corpus.
    assert tagging.guess_scheme([["B-A", "O"]] * 5 + [["O", "I-A"]]) == "BIO"
    assert tagging.guess_scheme([["B-A", "E-A"]] * 5 + [["B-A", "O"]]) == "BIOES"
    for nothing in ([], [[]], [["O", "O"]], [["DET", "NOUN"]], [["B-A", "NOUN"]], [["E-A", "U-A"]]):
        assert tagging.guess_scheme(nothing) is None


@pytest.mark.parametrize("label", ["NOUN", "", "B-", "-PER", "b-PER", "BI-PER", "E-PER", 3, None])
def test_labels_of_no_scheme_are_named(label):
    functions = (
        tagging.spans,
        tagging.repair,
        tagging.faults,
        tagging.transitions,
        lambda labels: tagging.convert(labels, "BIO", "BIOES"),
    )
    for function in functions:
        with pytest.raises(
            ValueError, match="is not a label of BIO, whose labels are O and B-, I-"
        ) as e:
            function(["O", label])
        assert repr(label) in str(e.value)


def test_unknown_schemes_are_refused():
    for scheme in ("bio", "BMES", None):
        with pytest.raises(ValueError, match="one of BIO, IOB1, BIOES, BILOU; got"):
            tagging.spans([], scheme)
        with pytest.raises(ValueError, match="one of BIO, IOB1, BIOES, BILOU; got"):
            tagging.convert([], "BIO", scheme)
