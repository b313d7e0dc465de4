"""The generated problems: is each what its paper says, checked in another way than it was made?"""

import inspect
import itertools
import math
import re
from collections import Counter, defaultdict
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from kerasrnn import datasets


class Problem(NamedTuple):
    """A small form of a problem, and how a model answers it."""

    options: dict[str, Any]
    weighted: bool
    outputs: int
    activation: str | None
    loss: str
    every_step: bool


STRINGS = ("sigmoid", "binary_crossentropy", True)
PROBLEMS = {
    "adding": Problem({"length": 9}, False, 1, None, "mse", False),
    "copy_memory": Problem(
        {"delay": 4, "items": 3, "alphabet": 5},
        *(False, 6, "softmax", "sparse_categorical_crossentropy", True),
    ),
    "temporal_order": Problem(
        {"length": 11, "marks": 3}, False, 8, "softmax", "sparse_categorical_crossentropy", False
    ),
    "parity": Problem({"length": 7}, False, 1, "sigmoid", "binary_crossentropy", False),
    "embedded_reber": Problem({"max_length": 12}, True, 7, *STRINGS),
    "anbn": Problem({"max_n": 4}, True, 3, *STRINGS),
    "anbncn": Problem({"max_n": 4}, True, 4, *STRINGS),
    "dyck": Problem({"kinds": 3, "depth": 2, "max_length": 10}, True, 7, *STRINGS),
    "spike_delays": Problem(
        {"min_delay": 2, "max_delay": 5, "intervals": 3}, True, 1, None, "mse", True
    ),
    "timed_spikes": Problem({"min_delay": 2, "max_delay": 5, "intervals": 3}, True, 1, *STRINGS),
}

each = pytest.mark.parametrize("name", PROBLEMS)
each_option = pytest.mark.parametrize(
    "name, option",
    [(name, key) for name in PROBLEMS for key in (*PROBLEMS[name].options, "examples", "seed")],
)


def drawn(name: str, examples: int, seed: int = 0, **options: Any) -> tuple[np.ndarray, ...]:
    """All examples of a problem, as one array of inputs, one of targets, and so on."""
    data = getattr(datasets, name)(examples=examples, seed=seed, **options)
    return next(data.batch(examples).as_numpy_iterator())


def small(name: str, examples: int, seed: int = 0, **options: Any) -> tuple[np.ndarray, ...]:
    return drawn(name, examples, seed, **{**PROBLEMS[name].options, **options})


def same(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# All problems.


def test_no_problem_is_left_out():
    functions = {name: getattr(datasets, name) for name in datasets.__all__}
    generated = {n for n, f in functions.items() if "examples" in inspect.signature(f).parameters}
    assert generated == PROBLEMS.keys()


@each
def test_the_seed_is_all_that_decides(name):
    one = small(name, 20, seed=3)
    np.random.seed(7)
    keras.utils.set_random_seed(8)
    assert same(one, small(name, 20, seed=3))
    assert not same(one, small(name, 20, seed=4))


@each
def test_a_data_set_gives_the_same_examples_each_time(name):
    data = getattr(datasets, name)(examples=3, **PROBLEMS[name].options)
    first, second = list(data.as_numpy_iterator()), list(data.as_numpy_iterator())
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


@each
@pytest.mark.parametrize("examples", [0, 1, 7])
def test_there_are_as_many_examples_as_asked_for(name, examples):
    data = getattr(datasets, name)(examples=examples, **PROBLEMS[name].options)
    assert len(data) == len(list(data)) == examples
    assert len(list(data.batch(3))) == math.ceil(examples / 3)


@each
def test_shapes_and_dtypes_are_fixed(name):
    problem = PROBLEMS[name]
    data = getattr(datasets, name)(examples=5, **problem.options)
    assert len(data.element_spec) == 2 + problem.weighted
    inputs, targets, *weights = data.element_spec
    assert all(spec.shape.is_fully_defined() for spec in data.element_spec)
    steps = inputs.shape[0]
    assert inputs.dtype.name == "float32" and len(inputs.shape) == 2
    if problem.loss == "sparse_categorical_crossentropy":
        assert targets.dtype.name == "int32"
        assert targets.shape == ((steps,) if problem.every_step else ())
    else:
        assert targets.dtype.name == "float32"
        size = problem.outputs
        assert targets.shape == ((steps, size) if problem.every_step else (size,))
    for spec in weights:
        assert spec.dtype.name == "float32" and spec.shape == (steps,)


@each
def test_the_shape_depends_on_no_chance(name):
    """Else a model trained on one seed could not be tested on another."""
    shapes = {tuple(array.shape for array in small(name, 1, seed)) for seed in range(5)}
    assert len(shapes) == 1


@pytest.mark.parametrize("name", [name for name in PROBLEMS if PROBLEMS[name].weighted])
def test_a_weight_is_one_or_zero_and_every_example_counts(name):
    *_, weights = small(name, 50)
    assert set(np.unique(weights)) <= {0.0, 1.0}
    assert weights.any(axis=1).all()


@each
def test_a_model_is_trained_on_it(name):
    problem = PROBLEMS[name]
    data = getattr(datasets, name)(examples=8, **problem.options).batch(8)
    inputs = data.element_spec[0]
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input(inputs.shape[1:]),
            keras.layers.SimpleRNN(8, return_sequences=problem.every_step),
            keras.layers.Dense(problem.outputs, problem.activation),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), problem.loss, run_eagerly=True)
    before = model.evaluate(data, verbose=0)
    history = model.fit(data, epochs=3, shuffle=False, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert model.evaluate(data, verbose=0) < before


@each_option
@pytest.mark.parametrize("value", [-1, 1.5, "3", None, True])
def test_what_is_no_fitting_integer_is_refused(name, option, value):
    with pytest.raises(ValueError, match=rf"`{option}` must be an integer.*; got {value!r}"):
        getattr(datasets, name)(**{**PROBLEMS[name].options, "examples": 1, option: value})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adding", {"length": 1}, "`length` must be an integer, at least 2; got 1"),
        ("parity", {"length": 0}, "`length` must be an integer, at least 1; got 0"),
        ("copy_memory", {"delay": 0}, "`delay` must be an integer, at least 1; got 0"),
        ("temporal_order", {"length": 9}, "`length` must be an integer, at least 10; got 9"),
        ("temporal_order", {"marks": 4}, "`marks` must be an integer, from 2 to 3; got 4"),
        ("embedded_reber", {"max_length": 8}, "`max_length` must be an integer, at least 9; got 8"),
        ("anbn", {"min_n": 0}, "`min_n` must be an integer, at least 1; got 0"),
        ("anbncn", {"min_n": 5, "max_n": 4}, "`max_n` must be an integer, at least 5; got 4"),
        ("dyck", {"min_length": 3}, "`min_length` must be even, as every bracket is closed; got 3"),
        ("dyck", {"max_length": 7}, "`max_length` must be even, as every bracket is closed; got 7"),
        ("dyck", {"min_length": 6, "max_length": 4}, "`max_length` must be .*, at least 6; got 4"),
        ("spike_delays", {"min_delay": 9, "max_delay": 8}, "`max_delay` must .* least 9; got 8"),
        ("timed_spikes", {"intervals": 0}, "`intervals` must be an integer, at least 1; got 0"),
        ("adding", {"seed": -1}, "`seed` must be an integer, at least 0; got -1"),
    ],
)
def test_the_message_says_what_is_allowed(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(datasets, name)(**{"examples": 1, **options})


def test_an_integer_of_numpy_is_one():
    ours = drawn("spike_delays", 3, max_delay=np.int8(100), intervals=np.int8(100))
    assert same(ours, drawn("spike_delays", 3, max_delay=100, intervals=100))


# Memory.


@pytest.mark.parametrize("length", [2, 3, 50])
def test_adding_is_the_sum_of_one_number_of_each_half(length):
    inputs, targets = drawn("adding", 4000, length=length)
    for example, target in zip(inputs[:300].tolist(), targets[:300].tolist(), strict=True):
        marked = [step for step, (_, mark) in enumerate(example) if mark]
        assert len(marked) == 2 and marked[0] < length // 2 <= marked[1]
        assert target == pytest.approx([sum(example[step][0] for step in marked)], abs=1e-6)
        assert all(0 <= number < 1 and mark in (0, 1) for number, mark in example)
    # Always saying 1: the variance of the sum of two numbers.
    assert np.mean((targets - 1) ** 2) == pytest.approx(1 / 6, rel=0.1)
    # Every place of either half is marked.
    assert inputs[..., 1].any(axis=0).all()


def test_copy_memory_says_the_first_items_again():
    delay, items, alphabet = 6, 3, 4
    inputs, targets = drawn("copy_memory", 500, delay=delay, items=items, alphabet=alphabet)
    assert (inputs.sum(axis=2) == 1).all()
    seen = Counter()
    for symbols, answer in zip(inputs.argmax(axis=2).tolist(), targets.tolist(), strict=True):
        first = symbols[:items]
        blanks = [alphabet] * (delay - 1)
        assert symbols == [*first, *blanks, alphabet + 1, *[alphabet] * items]
        assert answer == [*[alphabet] * (delay + items), *first]
        # The symbols are asked for as long after they were seen as the delay and the others take.
        assert len(symbols) == delay + 2 * items
        seen.update(first)
    assert seen.keys() == set(range(alphabet))
    assert min(seen.values()) > 0.8 * 500 * items / alphabet


def test_the_baseline_of_copy_memory():
    _, targets = drawn("copy_memory", 2)
    chances = np.full((2, 120, 9), 0.0)
    chances[:, :110, 8] = 1.0
    chances[:, 110:, :8] = 1 / 8
    loss = keras.losses.SparseCategoricalCrossentropy()(targets, chances)
    assert float(loss) == pytest.approx(10 * math.log(8) / 120, rel=1e-3)
    assert float(loss) == pytest.approx(0.173, abs=1e-3)


@pytest.mark.parametrize("length", [10, 37, 100])
@pytest.mark.parametrize("marks", [2, 3])
def test_temporal_order_is_the_order_of_the_marks(length, marks):
    inputs, targets = drawn("temporal_order", 1000, length=length, marks=marks)
    assert (inputs.sum(axis=2) == 1).all()
    orders = ["".join(order) for order in itertools.product("XY", repeat=marks)]
    places = set()
    for row, target in zip(inputs.argmax(axis=2), targets, strict=True):
        text = "".join("abcdXYEB"[number] for number in row)
        assert re.fullmatch(f"E([abcd]*[XY]){{{marks}}}[abcd]*B", text)
        assert re.sub("[^XY]", "", text) == orders[target]
        places.add(tuple(place.start() for place in re.finditer("[XY]", text)))
    assert np.bincount(targets).min() > 0.7 * 1000 / len(orders)
    if length == 100:
        firsts, *_, lasts = zip(*places, strict=True)
        assert (min(firsts), max(firsts)) == (10, 19)
        assert (min(lasts), max(lasts)) == ((50, 59) if marks == 2 else (66, 75))


def test_parity_is_that_of_the_ones():
    inputs, targets = drawn("parity", 1000, length=12)
    for bits, target in zip(inputs[..., 0].tolist(), targets[:, 0].tolist(), strict=True):
        assert target == bits.count(1.0) % 2
        assert bits.count(0.0) + bits.count(1.0) == 12
    assert targets.mean() == pytest.approx(0.5, abs=0.06)


# Languages.


def read(name: str, alphabet: str, examples: int, **options: Any) -> list[tuple[str, list[str]]]:
    """Each string as it is shown, and what may follow each of its symbols.

    `alphabet` names the columns. The one that means S in the inputs and T in the targets is written
    T in both.
    """
    strings = []
    for inputs, targets, weights in zip(*drawn(name, examples, **options), strict=True):
        steps = int(weights.sum())
        assert weights[:steps].all()
        assert (inputs[:steps].sum(axis=1) == 1).all() and inputs.max() == targets.max() == 1
        # The padding is empty, and a step always has a successor.
        assert not inputs[steps:].any() and not targets[steps:].any()
        assert targets[:steps].any(axis=1).all()
        text = "".join(alphabet[number] for number in inputs[:steps].argmax(axis=1))
        sets = ["".join(itertools.compress(alphabet, row)) for row in targets[:steps]]
        strings.append((text, sets))
    return strings


# Reber's grammar as a regular expression, found by eliminating the states of its diagram.
HEART = "(XT*VP)*(S|XT*VV)"
REBER = f"B(TS*X{HEART}|PT*V(V|P{HEART}))E"
EMBEDDED_REBER = re.compile(f"B(T{REBER}T|P{REBER}P)E")


def test_the_test_knows_the_reber_grammar():
    """Strings of the grammar and not of it, read off its diagram by hand."""
    for inner in ("BTXSE", "BTSXXTVVE", "BPVVE", "BPTTVPSE", "BTSSSXSE", "BPVPXTTVPSE"):
        assert re.fullmatch(REBER, inner)
        assert EMBEDDED_REBER.fullmatch(f"BT{inner}TE")
        assert not EMBEDDED_REBER.fullmatch(f"BT{inner}PE")
    for inner in ("BTXE", "BTPSE", "BPVE", "BTSXTVVE", "BPTVPXVVS", "BPXSE"):
        assert not re.fullmatch(REBER, inner)


@pytest.mark.parametrize("max_length", [9, 12, 40])
def test_embedded_reber_strings_belong_to_the_grammar(max_length):
    strings = [
        text + "E" for text, _ in read("embedded_reber", "BTPSXVE", 500, max_length=max_length)
    ]
    assert all(EMBEDDED_REBER.fullmatch(text) for text in strings)
    lengths = {len(text) for text in strings}
    assert min(lengths) == 9 and max(lengths) <= max_length
    assert 0.4 < np.mean([text[1] == "T" for text in strings]) < 0.6
    if max_length == 40:
        assert max(lengths) > 20


def test_the_targets_of_embedded_reber_are_what_follows():
    """Seen in the strings themselves: nothing else follows, and often enough everything does."""
    strings = read("embedded_reber", "BTPSXVE", 4000)
    follows, told = defaultdict(Counter), defaultdict(set)
    for text, sets in strings:
        for step, (after, allowed) in enumerate(zip(text[1:] + "E", sets, strict=True)):
            follows[text[: step + 1]][after] += 1
            told[text[: step + 1]].add(allowed)
    assert all(len(sets) == 1 for sets in told.values())
    often = 0
    for prefix, counts in follows.items():
        (allowed,) = told[prefix]
        assert counts.keys() <= set(allowed)
        if counts.total() >= 40:
            often += 1
            assert counts.keys() == set(allowed)
            assert min(counts.values()) > 0.2 * counts.total()
    assert often > 50
    assert all(sets[-2:] == [text[1], "E"] for text, sets in strings)


@pytest.mark.parametrize(("name", "letters"), [("anbn", "ab"), ("anbncn", "abc")])
def test_counted_strings_belong_to_the_language(name, letters):
    seen = Counter()
    for text, sets in read(name, letters + "T", 600, min_n=2, max_n=5):
        n = text.count("a")
        seen[n] += 1
        assert text == "T" + "".join(letter * n for letter in letters)
        assert sets[0] == "aT"
        assert sets[1 : n + 1] == ["ab"] * n
        assert "".join(sets[n + 1 :]) == text[n + 2 :] + "T"
    assert seen.keys() == {2, 3, 4, 5}
    assert min(seen.values()) > 100


BRACKETS = "([{)]}"


def what_may_follow(word: str, kinds: int, depth: int) -> str:
    """By reducing the word: neighbours that match are taken out until only open ones are left."""
    pairs = [BRACKETS[kind] + BRACKETS[3 + kind] for kind in range(kinds)]
    while any(pair in word for pair in pairs):
        for pair in pairs:
            word = word.replace(pair, "")
    assert set(word) <= set(BRACKETS[:kinds])
    assert len(word) <= depth
    opening = BRACKETS[:kinds] if len(word) < depth else ""
    return opening + (BRACKETS[3 + BRACKETS.index(word[-1])] if word else "T")


@pytest.mark.parametrize(("kinds", "depth"), [(1, 1), (1, 4), (2, 1), (3, 3), (2, 50)])
def test_dyck_words_are_nested_and_not_too_deep(kinds, depth):
    alphabet = BRACKETS[:kinds] + BRACKETS[3 : 3 + kinds] + "T"
    options = {"kinds": kinds, "depth": depth, "min_length": 4, "max_length": 20}
    lengths, deepest = Counter(), 0
    for text, sets in read("dyck", alphabet, 300, **options):
        word = text[1:]
        assert text[0] == "T" and what_may_follow(word, kinds, depth)[-1] == "T"
        for step, allowed in enumerate(sets):
            assert allowed == what_may_follow(word[:step], kinds, depth)
        lengths[len(word)] += 1
        heights = np.cumsum([1 if bracket in "([{" else -1 for bracket in word])
        deepest = max(deepest, heights.max())
    assert lengths.keys() == set(range(4, 21, 2))
    assert deepest == depth or (depth == 50 and deepest >= 7)


def test_every_dyck_word_of_a_length_is_as_likely_as_any_other():
    """Of 6 brackets of one kind there are 5 words, of which 4 are at most 2 deep."""
    for depth, words in ((2, 4), (3, 5)):
        options = {"kinds": 1, "depth": depth, "min_length": 6, "max_length": 6}
        seen = Counter(text for text, _ in read("dyck", "()T", 1000, **options))
        assert len(seen) == words
        assert min(seen.values()) > 0.75 * 1000 / words


def test_long_dyck_words():
    """Their number, about 10^600, is no float."""
    inputs, *_, weights = drawn("dyck", 2, kinds=1, depth=40, min_length=2000, max_length=2000)
    assert (weights == 1).all()
    assert (inputs[:, :, 0].sum(axis=1) == 1000).all()


# Spikes.


def test_spike_delays_are_measured_at_the_spikes():
    options = {"min_delay": 3, "max_delay": 7, "intervals": 6}
    inputs, targets, weights = drawn("spike_delays", 300, **options)
    assert inputs.shape == (300, 6 * 7 + 1, 1)
    seen = Counter()
    for row, target, weight in zip(inputs[..., 0], targets[..., 0], weights, strict=True):
        last = None
        for step, spike in enumerate(row):
            if spike and last is not None:
                assert weight[step] == 1
                assert target[step] == pytest.approx((step - last - 3) / 4)
                seen[step - last] += 1
            else:
                assert target[step] == weight[step] == 0
            last = step if spike else last
        assert row[0] == 1 and row.sum() == 7 and set(row) == {0.0, 1.0}
    assert seen.keys() == {3, 4, 5, 6, 7}
    assert min(seen.values()) > 0.8 * 300 * 6 / 5


def test_the_baseline_of_spike_delays():
    """As Keras measures it with the weights, and its loss, which divides by all steps."""
    _, targets, weights = drawn("spike_delays", 2000)
    half = np.full_like(targets, 0.5)
    metric = keras.metrics.MeanSquaredError()
    metric.update_state(targets, half, weights)
    assert float(metric.result()) == pytest.approx(0.1, rel=0.05)
    loss = float(keras.losses.MeanSquaredError()(targets, half, weights))
    assert loss == pytest.approx(float(metric.result()) * 5 / 101, rel=1e-3)


def test_timed_spikes_come_when_the_delay_is_over():
    options = {"min_delay": 3, "max_delay": 7, "intervals": 6}
    inputs, targets, weights = drawn("timed_spikes", 300, **options)
    assert inputs.shape == (300, 6 * 7, 1)
    seen = Counter()
    for told, spikes, weight in zip(inputs[..., 0], targets[..., 0], weights, strict=True):
        step = 0
        for _ in range(6):
            # Obey the input: wait for as long as it says.
            delay = round(3 + 4 * float(told[step]))
            assert (told[step : step + delay] == told[step]).all()
            assert spikes[step : step + delay].tolist() == [0.0] * (delay - 1) + [1.0]
            assert weight[step : step + delay].all()
            step += delay
            seen[delay] += 1
        assert not told[step:].any() and not spikes[step:].any() and not weight[step:].any()
    assert seen.keys() == {3, 4, 5, 6, 7}
    assert min(seen.values()) > 0.8 * 300 * 6 / 5


def test_the_baseline_of_timed_spikes():
    _, targets, weights = drawn("timed_spikes", 2000)
    metric = keras.metrics.MeanSquaredError()
    metric.update_state(targets, np.full_like(targets, 1 / 15), weights)
    assert float(metric.result()) == pytest.approx(1 / 15 * 14 / 15, rel=0.02)


def test_equal_delays_are_a_periodic_signal():
    inputs, targets, weights = drawn("timed_spikes", 2, min_delay=4, max_delay=4, intervals=3)
    assert not inputs.any() and weights.all()
    assert np.flatnonzero(targets[0]).tolist() == [3, 7, 11]
    spikes, targets, _ = drawn("spike_delays", 2, min_delay=4, max_delay=4, intervals=3)
    assert np.flatnonzero(spikes[0]).tolist() == [0, 4, 8, 12] and not targets.any()
