"""What a `LanguageModel` says: drawn text, beam search, scores, and the export that needs no package."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.applications import LanguageModel, plain_tensorflow
from kerasrnn.applications.language_model import generation
from tests.applications._helpers import environment
from tests.applications.test_language_model import WORDS, language_model, log_softmax

LETTERS = ["a", "b", "é", "\n"]
# Another order of the same float32 operations, summed over a few tokens.
ATOL = 1e-5


def speller(**arguments) -> LanguageModel:
    """A model of five tokens, the unknown one among them, with clear opinions."""
    model = language_model(LETTERS, level="character", num_layers=1, **arguments)
    for weight in model.weights:
        weight.assign(2.5 * weight)
    return model


@pytest.fixture(scope="module")
def letters():
    return speller()


@pytest.fixture(scope="module")
def words():
    return language_model(separate=True, num_layers=2)


def log_probabilities(model, numbers) -> np.ndarray:
    """Of the next token after every one of the numbers, by a plain call."""
    return log_softmax(model(np.array([numbers])))[0]


def log_probability(model, text) -> tuple[float, int]:
    """Of a line, from its boundary to its boundary, and the number of tokens."""
    boundary = model.tokens.index(model.boundary)
    numbers = model.numbers(text)
    if numbers[-1:] != [boundary]:
        numbers.append(boundary)
    scores = log_probabilities(model, [boundary, *numbers[:-1]])
    return scores[np.arange(len(numbers)), numbers].sum(), len(numbers)


# Drawing


def test_without_temperature_it_takes_the_likeliest_each_time(letters):
    prompt, numbers = "ab", [letters.tokens.index(token) for token in "\nab"]
    for _ in range(12):
        # The unknown token, number 0, is left out.
        numbers.append(1 + int(log_probabilities(letters, numbers)[-1, 1:].argmax()))
    expected = letters.text(numbers[3:])
    assert letters.generate(prompt, 12, temperature=0) == expected
    assert letters.generate(prompt, 12, temperature=0, top_k=3, top_p=0.9, seed=5) == expected
    assert letters.generate(prompt, 12, top_k=1) == expected
    assert letters.generate(prompt, 12, top_p=1e-9) == expected
    assert letters.generate(prompt, 12, temperature=1e-300) == expected


def test_a_token_costs_the_same_however_much_was_written(letters, monkeypatch):
    """The prompt is read once, and then one token at a time."""
    read = []

    def counted(ids, states, step=letters.next_token):
        read.append(int(tf.size(ids)))
        return step(ids, states)

    monkeypatch.setitem(vars(letters), "next_token", counted)
    letters.generate("abba", 30, seed=1)
    assert read == [5] + 29 * [1]


def test_a_seed_gives_the_same_text_in_one_piece_or_in_many(letters, words):
    text = letters.generate("ab", 40, seed=3)
    assert len(text) == 40
    assert letters.generate("ab", 40, seed=3) == text
    assert "".join(letters.stream("ab", 40, seed=3)) == text
    assert letters.generate("ab", 40, seed=4) != text
    assert letters.generate("ab", 40) != letters.generate("ab", 40)
    assert letters.generate("ab", 0, seed=3) == ""
    pieces = list(words.stream("the", 20, seed=3))
    assert len(pieces) == 20
    assert "".join(pieces) == words.generate("the", 20, seed=3)


def test_what_is_drawn_follows_the_probabilities():
    """Chi-square of 600 draws: with three degrees of freedom 16.3 is passed once in a thousand."""
    model = speller()
    model.set_weights([0 * weight for weight in model.get_weights()])
    logits = np.array([3.0, 0.0, 1.0, 2.0, 1.5])  # whatever came before
    model.head.bias.assign(logits)
    text = model.generate(length=600, seed=7, temperature=0.8)
    counts = np.array([text.count(letter) for letter in LETTERS])
    chances = np.exp(logits[1:] / 0.8)
    expected = 600 * chances / chances.sum()
    assert counts.sum() == 600
    assert ((counts - expected) ** 2 / expected).sum() < 16.3


def test_what_top_k_and_top_p_leave():
    scores = np.array([-math.inf, *np.log([0.05, 0.4, 0.2, 0.05, 0.3])])

    def left(**arguments):
        chances = generation.chances(scores, **arguments)
        assert chances.sum() == pytest.approx(1)
        return {int(n): chances[n].round(6) for n in np.flatnonzero(chances)}

    assert left() == {1: 0.05, 2: 0.4, 3: 0.2, 4: 0.05, 5: 0.3}
    assert left(top_k=2) == {2: 0.571429, 5: 0.428571}
    assert left(top_k=100) == left(top_p=1) == left()
    assert set(left(top_p=0.39)) == {2}
    assert set(left(top_p=0.41)) == set(left(top_p=0.69)) == {2, 5}
    assert set(left(top_p=0.71)) == {2, 3, 5}
    # `top_p` counts what `top_k` has left, and both what the temperature has made of it.
    assert set(left(top_k=2, top_p=0.57)) == {2}
    assert set(left(temperature=0.1, top_p=0.9)) == {2}
    assert set(left(temperature=10, top_p=0.9)) == {1, 2, 3, 4, 5}
    assert left(temperature=0) == left(temperature=1e-310) == {2: 1}


def test_the_unknown_token_is_never_said():
    model = speller()
    model.head.bias.assign([50.0, 0, 0, 0, 0])
    assert set(model.generate(length=40, seed=1)) <= set(LETTERS)
    assert all(set(beam.text) <= set(LETTERS) for beam in model.beam_search(length=3))


def test_a_long_prompt_is_read_in_parts_and_all_of_it_counts(letters, monkeypatch):
    monkeypatch.setattr(generation, "STEPS", 8)
    prompt = "ab\nébaabab\nb" * 3
    beams = letters.beam_search(prompt, length=1, width=5, stop_at_boundary=False)
    scores = log_probabilities(letters, letters.numbers("\n" + prompt))[-1]
    expected = dict(zip(LETTERS, scores[1:], strict=True))
    assert {beam.text: beam.log_probability for beam in beams} == pytest.approx(expected, abs=ATOL)


# Text


def test_words_stand_as_people_write_them():
    known = ["a", "b", *",.!?;:')]}([{"]
    model = language_model(known, separate=True, num_layers=1)
    text = "a, b. (a) [b]; a! b? {a}: b"
    assert model.text(model.numbers(text)) == text
    assert model.text(model.numbers("a b .\n\n b")) == "a b.\n\nb"
    assert model.text([]) == ""
    plain = language_model(known, num_layers=1)
    assert plain.text(plain.numbers("a , (b x\n) .\n")) == "a , <unk> <unk>\n) .\n"


@pytest.mark.parametrize(
    ("prompt", "begins"),
    [("", "sky"), ("the", " sky"), ("the ", "sky"), ("the\n", "sky"), (" \t", "sky"), ("(", "sky")],
)
def test_the_first_piece_joins_the_prompt(prompt, begins):
    model = language_model([*WORDS, "("], separate=True, num_layers=1)
    model.head.bias.assign(100.0 * np.eye(9)[2])
    assert next(model.stream(prompt, 1, seed=1)) == begins


def test_the_boundary_is_a_line_feed():
    model = language_model(num_layers=1)
    model.head.bias.assign(100.0 * np.eye(8)[7])
    assert model.generate("the", 3, seed=1) == "\n\n\n"
    assert language_model(["a"], level="character").text([1, 2, 1]) == "a\na"


# Beam search


@pytest.mark.parametrize("stop_at_boundary", [True, False])
@pytest.mark.parametrize("power", [0.0, 1.0])
def test_a_beam_that_holds_all_beginnings_finds_the_best_of_all(letters, stop_at_boundary, power):
    boundary = letters.tokens.index("\n")
    found = {}
    for sequence in itertools.product(range(1, 5), repeat=3):
        text = letters.text(sequence)
        kept = text[: text.index("\n") + 1] if stop_at_boundary and "\n" in text else text
        sequence = sequence[: len(kept)]
        scores = log_probabilities(letters, [boundary, 1, *sequence[:-1]])[1:]
        found[kept] = scores[np.arange(len(kept)), sequence].sum()
    expected = sorted(found, key=lambda text: found[text] / len(text) ** power, reverse=True)[:16]
    beams = letters.beam_search(
        "a",
        length=3,
        width=16,
        length_normalization=power,
        stop_at_boundary=stop_at_boundary,
    )
    assert [beam.text for beam in beams] == expected
    for beam in beams:
        assert beam.tokens == len(beam.text)
        assert beam.log_probability == pytest.approx(found[beam.text], abs=ATOL)


def test_a_narrow_beam_is_greedy_and_a_finished_one_agrees_with_the_score(letters, words):
    (beam,) = letters.beam_search("ab", length=9, width=1, stop_at_boundary=False)
    assert beam.text == letters.generate("ab", 9, temperature=0)
    beams = words.beam_search(length=6, width=5)
    assert len(beams) == 5
    finished = [beam for beam in beams if beam.text.endswith("\n")]
    assert finished
    for beam, score in zip(finished, words.score([b.text for b in finished]), strict=True):
        assert "\n" not in beam.text[:-1]
        assert beam.tokens == score.tokens
        assert beam.log_probability == pytest.approx(score.log_probability, abs=ATOL)
    assert letters.beam_search("a", length=0) == [("", 0.0, 0)]
    # All that a model can say which knows nothing but the boundary.
    silent = language_model(["\n"], level="character", num_layers=1)
    assert [beam.text for beam in silent.beam_search(length=3)] == ["\n"]


# Scores

TEXTS = [
    "the sky",
    "",
    "The clouds are in the sky.\n",
    "nobody knows",
    "\n",
    "the\n\nsky",
    "the " * 70,
]


def test_a_score_is_the_log_probability_of_the_line(words):
    scores = words.score(TEXTS)
    for text, score in zip(TEXTS, scores, strict=True):
        expected, tokens = log_probability(words, text)
        assert score.log_probability == pytest.approx(expected, abs=ATOL * tokens)
        assert score.tokens == tokens
        assert score.perplexity == pytest.approx(math.exp(-expected / tokens), rel=1e-5)
    assert [score.tokens for score in scores] == [3, 1, 8, 3, 1, 5, 71]
    assert scores[1] == scores[4]  # an empty line, whether it is ended or not


def test_a_score_does_not_depend_on_batches_and_parts(words, monkeypatch):
    expected = words.score(TEXTS)
    many = words.score(TEXTS, batch_size=2)
    # So few logits that each step is read by itself.
    monkeypatch.setattr(generation, "LOGITS", 1)
    other = language_model(separate=True, num_layers=2)
    for scores in (many, other.score(TEXTS)):
        for score, right in zip(scores, expected, strict=True):
            np.testing.assert_allclose(score, right, rtol=1e-6)
    assert words.score([]) == []
    assert words.score(text for text in TEXTS[:2]) == words.score(TEXTS[:2])
    assert words.score([TEXTS[0].encode()])[0] == pytest.approx(expected[0])


# The export


def test_an_export_says_what_the_model_says(tmp_path, letters, capsys, monkeypatch):
    folder = str(tmp_path / "exported")
    texts = ["ab", "", "bé\naa\n", "xyz", "ab" * 300]
    expected = letters.score(texts)
    letters.export(folder)
    assert letters.score(texts) == expected  # The export leaves the model as it was.
    served = tf.saved_model.load(folder).signatures
    answer = served["serving_default"](text=tf.constant(texts))
    assert {name: value.dtype.name for name, value in answer.items()} == {
        "log_probability": "float32",
        "tokens": "int32",
        "unknown": "int32",
        "perplexity": "float32",
    }
    for name, values in answer.items():
        np.testing.assert_allclose(values, [getattr(one, name) for one in expected], rtol=1e-5)
    assert served["serving_default"](text=tf.constant([], tf.string))["tokens"].shape == (0,)

    tokens = [token.decode() for token in served["vocabulary"]()["tokens"].numpy()]
    assert tokens == list(letters.tokens)
    states = served["initial_state"](batch=tf.constant(2))
    lines = ["\nabé\n", "\nbx\na"]
    logits = np.stack([letters(np.array([letters.numbers(line)]))[0] for line in lines])
    for place, row in enumerate(zip(*lines, strict=True)):
        states = served["step"](token=tf.constant(row), **states)
        probabilities = states.pop("probabilities")
        np.testing.assert_allclose(
            np.log(probabilities), log_softmax(logits[:, place]), rtol=0, atol=ATOL
        )

    # What prints it with TensorFlow alone.
    monkeypatch.setattr(sys, "argv", ["plain_tensorflow.py", folder, "ab", ""])
    plain_tensorflow.main()
    printed = capsys.readouterr().out.splitlines()
    for line, text, score in zip(printed, texts, expected, strict=False):
        assert line == f"{score.log_probability:10.2f} {score.perplexity:10.2f}  {text}"
    assert len(printed) == 2


@pytest.mark.slow
def test_an_export_runs_where_this_package_is_not(tmp_path, words):
    words.export(str(tmp_path / "exported"))
    script = tmp_path / "plain.py"
    script.write_bytes(Path(plain_tensorflow.__file__).read_bytes())
    without = environment() | {"PYTHONPATH": ""}
    command = [sys.executable, "-P", str(script), "exported", *TEXTS[:3]]
    done = subprocess.run(
        command, cwd=tmp_path, env=without, capture_output=True, text=True, check=True
    )
    for text, score in zip(TEXTS[:3], words.score(TEXTS[:3]), strict=True):
        assert f"{score.log_probability:10.2f} {score.perplexity:10.2f}  {text}" in done.stdout


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": 5}, "`prompt` must be a string, got 5"),
        ({"prompt": "abxé"}, "`prompt` has the character 'x' at place 2.*leave it out"),
        ({"length": -1}, "`length` must be a whole number, at least 0, got -1"),
        ({"length": 1.5}, "`length` must be a whole number, at least 0, got 1.5"),
        ({"prompt": "a\ud800"}, r"`prompt` has half a character, '\\ud800', at place 1"),
        ({"temperature": None}, "`temperature` must be a number of at least 0, got None"),
        ({"temperature": "1"}, "`temperature` must be a number of at least 0, got '1'"),
        ({"temperature": -0.1}, "`temperature` must be a number of at least 0, got -0.1"),
        ({"temperature": math.nan}, "`temperature` must be a number of at least 0, got nan"),
        ({"temperature": math.inf}, "`temperature` must be a number of at least 0, got inf"),
        ({"top_k": 0}, "`top_k` must be a positive integer, got 0"),
        ({"top_p": 0}, "`top_p` must be more than 0 and at most 1, got 0"),
        ({"top_p": 1.1}, "`top_p` must be more than 0 and at most 1, got 1.1"),
        ({"top_p": "0.5"}, "`top_p` must be more than 0 and at most 1, got '0.5'"),
        ({"seed": "1"}, "`seed` must be a whole number, at least 0, or None; got '1'"),
        ({"seed": 1.5}, "`seed` must be a whole number, at least 0, or None; got 1.5"),
        ({"seed": -3}, "`seed` must be a whole number, at least 0, or None; got -3"),
    ],
)
def test_what_cannot_be_drawn_is_refused_at_once(letters, arguments, message):
    with pytest.raises(ValueError, match=message):
        letters.stream(**arguments)
    with pytest.raises(ValueError, match=message):
        letters.generate(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "`width` must be a positive integer, got 0"),
        ({"length": -1}, "`length` must be a whole number, at least 0, got -1"),
        ({"prompt": b"ab"}, "`prompt` must be a string, got b'ab'"),
        ({"length_normalization": -1}, "`length_normalization` must be a number.*got -1"),
        ({"length_normalization": None}, "`length_normalization` must be a number.*got None"),
        ({"prompt": "\udce9"}, r"`prompt` has half a character, '\\udce9', at place 0"),
    ],
)
def test_what_cannot_be_searched_is_refused(letters, arguments, message):
    with pytest.raises(ValueError, match=message):
        letters.beam_search(**arguments)


def test_a_saved_model_takes_no_arguments_of_other_formats(letters, tmp_path):
    with pytest.raises(TypeError, match="`opset_version` is no argument of `export`"):
        letters.export(str(tmp_path / "saved"), opset_version=18)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_scored_is_refused(letters):
    with pytest.raises(
        ValueError, match="`texts` must be a list of strings, got the one string 'a'"
    ):
        letters.score("a")
    with pytest.raises(ValueError, match="`texts` must be a list of strings, got 5 in it"):
        letters.score(["a", 5])
    with pytest.raises(ValueError, match=r"`texts` has half a character, '\\ud800', at place 1"):
        letters.score(["a", "b\ud800"])
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer, got 0"):
        letters.score(["a"], batch_size=0)


def test_a_model_whose_weights_are_not_numbers_says_nothing():
    model = speller()
    model.head.bias.assign(np.full(5, np.nan))
    for ask in (
        lambda: model.generate(length=3),
        lambda: model.generate(length=3, temperature=0),
        lambda: model.beam_search(length=3),
        lambda: model.score(["ab"]),
    ):
        with pytest.raises(ValueError, match=r"The model gives no probabilities: its weights are"):
            ask()
    # Finite ones can be too large for a perplexity.
    model.head.bias.assign([1e6, 0, 0, 0, 0])
    with pytest.raises(ValueError, match=r"no probabilities: .* or far too large"):
        model.score(["ab"])


def test_words_that_are_unknown_may_stand_in_a_prompt(words):
    assert words.generate("xyzzy", 5, seed=1) == words.generate("plugh", 5, seed=1)


def test_a_prompt_of_which_nothing_is_left_is_an_empty_one(words):
    assert words.generate("\0", 5, seed=1) == words.generate("", 5, seed=1)


def test_what_is_drawn_may_end_with_its_line(letters, words):
    for model in (letters, words):
        whole = [model.generate(length=60, seed=seed) for seed in range(5)]
        lines = [model.generate(length=60, seed=seed, stop_at_boundary=True) for seed in range(5)]
        assert lines == [text.partition("\n")[0] for text in whole]
        assert any(len(line) < len(text) for line, text in zip(lines, whole, strict=True))


def test_unknown_tokens_are_counted(words):
    known, unknown = words.score(["the sky", "teh sky xyzzy"])
    assert (known.tokens, known.unknown) == (3, 0)
    assert (unknown.tokens, unknown.unknown) == (4, 2)
