"""From text to windows of numbers: every token is predicted once, and numbered as in the model."""

import mmap
import tempfile
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.applications.language_model import data
from kerasrnn.applications.language_model.data import (
    Encoder,
    Tokens,
    Windows,
    count_tokens,
    token_lists,
)
from kerasrnn.applications.text import separate_marks
from kerasrnn.datasets import PlainText, plain_text

# All ASCII spaces and some others, both line ends, empty lines, characters of one to four bytes, marks,
# and no line end at the end.
ODD = (
    "The cat\tsat.\r\n\n  'No'  way\x0b\x0cout\r \nnaïve\u00a0café \u2028日本 🙂🙂, <eos> <unk>\x00\x1cx\n"
    "\ufeffa <br> b\x85\n\n end of it"
)


def pieces_of(text: bytes, size: int) -> list[bytes]:
    (document,) = PlainText.of([text]).documents(size)
    return list(document)


def flat(lists) -> list:
    return [token for tokens in lists for token in tokens]


# Tokens


def expected_words(text: str, separate: bool = False) -> list[bytes]:
    """Line by line, by what the model is made of."""
    lines = text.encode().removesuffix(b"\n").split(b"\n")
    if separate:
        lines = separate_marks(tf.constant(lines)).numpy().tolist()
    return flat([*tf.strings.split(line).numpy().tolist(), b"<eos>"] for line in lines)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize(
    "text", [ODD, ODD + "\n", ODD + " ", "one", "\n", "\n\n", " ", " \n x ", "<br>"]
)
def test_words_are_those_of_tensorflow(text, separate):
    expected = expected_words(text, separate)
    for size in (1, 2, 3, 5, 8, 13, 1000):
        lists = token_lists(pieces_of(text.encode(), size), "word", separate)
        assert flat(lists) == expected, size


def test_a_line_ends_with_its_boundary_and_spaces_are_nothing():
    assert flat(token_lists([b"a  b\r\n\n c"], "word")) == [
        *(b"a", b"b", b"<eos>"),
        b"<eos>",
        *(b"c", b"<eos>"),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_characters_are_those_of_tensorflow(size):
    expected = tf.strings.unicode_split(ODD.encode(), "UTF-8").numpy().tolist()
    found = flat(token_lists(pieces_of(ODD.encode(), size), "character"))
    assert [character.encode() for character in found] == expected
    assert "\r" in found


def test_there_is_no_third_level():
    with pytest.raises(ValueError, match=r"`level` must be one of .*'word'.* got 'byte'"):
        token_lists([b"a"], "byte")


@pytest.mark.parametrize("level, separate", [("word", False), ("word", True), ("character", False)])
def test_numbers_are_those_of_the_models_layer(level, separate):
    counts, _ = count_tokens(PlainText.of([ODD]), level, separate)
    # Every second token is unknown.
    vocabulary = [token for token in counts if token != "<unk>"][::2]
    tokens = flat(token_lists([ODD.encode()], level, separate))
    tokens = [token if isinstance(token, bytes) else token.encode() for token in tokens]
    layer = keras.layers.StringLookup(vocabulary=vocabulary, oov_token="<unk>")
    expected = layer(tf.constant(tokens)).numpy()
    assert {0, 1, len(vocabulary)} <= set(expected.tolist())
    for known in (vocabulary, ["<unk>", *vocabulary]):
        encoder = Encoder(known, level, separate)
        assert len(encoder) == len(vocabulary) + 1
        numbers = encoder.encode(ODD.encode())
        assert numbers.dtype == np.int32
        np.testing.assert_array_equal(numbers, expected)
    for size in (1, 4, 7):
        numbers = np.concatenate(list(encoder.pieces(pieces_of(ODD.encode(), size))))
        np.testing.assert_array_equal(numbers, expected)


def test_nothing_has_no_numbers():
    for level in ("word", "character"):
        numbers = Encoder(["a"], level).encode(b"")
        assert numbers.shape == (0,)
        assert numbers.dtype == np.int32


# Counts


def test_counts_are_sorted_and_ties_in_the_order_of_the_text():
    text = PlainText.of(["b a\nc b\n", "a d"])
    counts, _ = count_tokens(text, "word")
    assert list(counts.items()) == [("<eos>", 3), ("b", 2), ("a", 2), ("c", 1), ("d", 1)]
    counts, _ = count_tokens(text, "character")
    assert list(counts.items())[:3] == [(" ", 3), ("\n", 3), ("b", 2)]
    assert counts == Counter("b a\nc b\na d\n")
    # Documents of characters do not run into each other.
    apart = PlainText.of(["ab", "c\n", "d"])
    assert count_tokens(apart, "character")[0] == Counter("ab\nc\nd\n")
    assert count_tokens(apart, "word")[0] == {"<eos>": 3, "ab": 1, "c": 1, "d": 1}
    tokens = Tokens.of(apart, Encoder("abcd\n", "character"))
    assert tokens.numbers.tolist() == [1, 2, 5, 3, 5, 4, 5]
    assert tokens.documents.tolist() == [0, 3, 5, 7]
    assert count_tokens(PlainText.of(["ab"]), "character")[0] == Counter("ab")
    # Keras's layer would take the zero character for nothing.
    counts, _ = count_tokens(PlainText.of(["a\0 a"]), "word")
    assert counts == {"a": 1, "<eos>": 1}
    counts, _ = count_tokens(PlainText.of(["It's 'IT' <UNK> a<b>"]), "word", separate=True)
    marks = {"'": 2, "<": 1, ">": 1}
    assert counts == {"it's": 1, "it": 1, "<unk>": 1, "a": 1, "b": 1, "<eos>": 1} | marks


def test_the_digest_tells_texts_apart_and_nothing_else(tmp_path):
    def digest(text, level="word"):
        return count_tokens(text, level)[1]

    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n")
    same = [PlainText.of(["one\ntwo\n"]), plain_text(tmp_path / "a.txt")]
    assert len({digest(text) for text in same} | {digest(same[0], "character")}) == 1
    others = [["one\n", "two\n"], ["one\ntwo"], ["one\n\ntwo\n"], ["two\n", "one\n"]]
    assert len({digest(text) for text in [*same, *map(PlainText.of, others)]}) == 5


# Encoded texts


def test_the_numbers_of_documents_come_one_after_the_other():
    texts = ["a b\n", "c", ODD]
    encoder = Encoder(["<eos>", "a", "b", "c", "end"], "word")
    tokens = Tokens.of(PlainText.of(texts, "letters"), encoder)
    assert tokens.documents.dtype == np.int64
    assert tokens.documents.tolist()[:3] == [0, 3, 5]
    assert tokens.documents[-1] == len(tokens.numbers)
    expected = np.concatenate([encoder.encode(text.encode()) for text in texts])
    np.testing.assert_array_equal(tokens.numbers, expected)
    assert tokens.name == "letters 0 and 2 more"


@pytest.mark.parametrize(
    "size, dtype",
    [(2, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32")],
)
def test_the_type_is_the_smallest_that_holds_the_vocabulary(size, dtype):
    encoder = Encoder(map(str, range(1, size)), "word")
    tokens = Tokens.of(PlainText.of([f"{size - 1}\nnone"]), encoder)
    assert tokens.numbers.dtype == dtype
    assert tokens.numbers.tolist() == [size - 1, 0, 0, 0]


@pytest.mark.parametrize("level", ["word", "character"])
def test_a_large_text_is_in_a_file(tmp_path, monkeypatch, level):
    text = PlainText.of([ODD * 50, "one\n" * 500])
    encoder = Encoder(count_tokens(text, level)[0], level)
    small = Tokens.of(text, encoder, tmp_path)
    opened = []
    make = tempfile.TemporaryFile
    monkeypatch.setattr(data, "LARGE", 100)
    monkeypatch.setattr(
        tempfile, "TemporaryFile", lambda **where: opened.append(where) or make(**where)
    )
    large = Tokens.of(text, encoder, tmp_path)
    assert opened == [{"dir": tmp_path}]
    assert isinstance(large.mapping, mmap.mmap) and small.mapping is None
    assert large.numbers.dtype == small.numbers.dtype
    np.testing.assert_array_equal(large.numbers, small.numbers)
    np.testing.assert_array_equal(large.documents, small.documents)
    # Windows of both are the same, also where it is let go of now and then; nothing is left to clean up.
    monkeypatch.setattr(data, "LET_GO", 2)
    pairs = zip(*(Windows(each, 3, 50).batches() for each in (small, large)), strict=True)
    for one, other in pairs:
        keras.tree.map_structure(np.testing.assert_array_equal, one, other)
    assert list(tmp_path.iterdir()) == []


# Windows


def numbered(*lengths: int) -> Tokens:
    """Documents of these lengths. Every number occurs once, so that it tells its own place; none is 0."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return Tokens(np.arange(1, starts[-1] + 1).astype(np.uint16), starts.astype(np.int64))


def read(windows: Windows, lengths=None):
    """The batches of one pass without tf.data, which takes long to begin."""
    lengths = windows._lengths if lengths is None else lengths
    for step, length in enumerate(lengths):
        ids, continues, targets, weights = windows._read(step, sum(lengths[:step]), length)
        yield {"ids": ids, "continues": continues}, targets, weights


def lanes_of(batches, shape) -> tuple[list[list[int]], list[list[list[int]]]]:
    """What each lane predicts, and the runs of tokens that it reads from a state of zeros.

    Checks what holds for all windows.
    """
    predicted: list[list[int]] = [[] for _ in range(shape[0])]
    runs: list[list[list[int]]] = [[] for _ in range(shape[0])]
    for step, (inputs, targets, weights) in enumerate(batches):
        ids, continues = inputs["ids"], inputs["continues"]
        assert ids.dtype == targets.dtype == np.int32
        assert weights.dtype == np.float32
        assert continues.dtype == bool
        assert ids.shape == targets.shape == weights.shape
        assert ids.shape[0] == len(continues) == shape[0]
        assert shape[1] in (None, ids.shape[1])
        assert set(weights.flat) <= {0.0, 1.0}
        assert step or not continues.any()
        # Each target follows its id; padding is 0, at the end, and has no weight.
        here = targets > 0
        np.testing.assert_array_equal(targets[here], ids[here] + 1)
        assert not ids[~here].any()
        assert not weights[~here].any()
        assert (here[:, :-1] | ~here[:, 1:]).all()
        assert here.any()
        for lane in range(shape[0]):
            predicted[lane] += targets[lane][weights[lane] > 0].tolist()
            if row := ids[lane][here[lane]].tolist():
                if continues[lane]:
                    assert runs[lane][-1][-1] + 1 == row[0]
                    runs[lane][-1] += row
                else:
                    runs[lane].append(row)
    return predicted, runs


SIZES = [2, 3, 4, 7, 8, 20, 50, 101]


@pytest.mark.parametrize("window", [1, 3, 8, 200])
@pytest.mark.parametrize("batch_size", range(1, 8))
def test_one_stream_in_lanes(batch_size, window):
    for size in SIZES:
        windows = Windows(numbered(size), batch_size, window)
        predicted, runs = lanes_of(read(windows), (batch_size, window))
        used = min(batch_size, size // 2)
        assert [len(run) for run in runs] == [1] * used + [0] * (batch_size - used)
        # All but the first token of each lane, in order.
        assert flat(
            [run[0][0], *lane] for run, lane in zip(runs[:used], predicted, strict=False)
        ) == [*range(1, size + 1)]
        assert windows.predictions == len(flat(predicted)) == size - used
        lengths = [len(lane) for lane in predicted[:used]]
        assert max(lengths) - min(lengths) <= 1
        assert windows.count(batch_size) == -(-max(lengths) // window)


@pytest.mark.parametrize("window", [1, 3, 8, 200])
@pytest.mark.parametrize("batch_size", range(1, 8))
def test_with_context_every_token_but_the_first_is_predicted(batch_size, window):
    for size in SIZES:
        for context in (1, 4, 1000):
            windows = Windows(numbered(size), batch_size, window, context=context)
            predicted, runs = lanes_of(read(windows), (batch_size, window))
            assert flat(predicted) == list(range(2, size + 1))
            assert windows.predictions == size - 1
            used = min(batch_size, size - 1)
            assert [len(run) for run in runs] == [1] * used + [0] * (batch_size - used)
            lengths = [len(lane) for lane in predicted[:used]]
            assert max(lengths) - min(lengths) <= 1
            for lane, (run,) in zip(predicted, runs[:used], strict=False):
                assert run == list(range(max(1, lane[0] - 1 - context), lane[-1]))


DOCUMENTS = [(5,), (1, 2, 1), (9, 2, 30, 1, 4, 17, 3, 3), (100, 1, 1), tuple(range(1, 25))]


@pytest.mark.parametrize("window", [1, 3, 8, 200])
@pytest.mark.parametrize("batch_size", range(1, 8))
def test_with_reset_every_document_is_a_stream_of_its_own(batch_size, window):
    for lengths in DOCUMENTS:
        tokens = numbered(*lengths)
        spans = zip(tokens.documents, tokens.documents[1:], strict=False)
        expected = [list(range(start + 1, stop)) for start, stop in spans if stop - start > 1]
        for context in (0, 5):
            windows = Windows(tokens, batch_size, window, reset=True, context=context)
            predicted, runs = lanes_of(read(windows), (batch_size, window))
            assert sorted(flat(runs)) == expected
            for lane, read_there in zip(predicted, runs, strict=True):
                assert lane == [token + 1 for token in flat(read_there)]
            assert windows.predictions == len(flat(expected))
            filled = [sum(-(-len(run) // window) for run in lane) for lane in runs]
            assert windows.count(batch_size) == max(filled)
            # The fullest lane would not be done earlier if its shortest document were in another.
            fullest = runs[int(np.argmax(filled))]
            shortest = min(-(-len(run) // window) for run in fullest)
            assert max(filled) - min(filled) <= shortest
            # In a lane the documents stand as in the text.
            assert all(lane == sorted(lane) for lane in runs)


@pytest.mark.parametrize("window", [1, 2, 5, 16, 35, 300])
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_windows_of_any_lengths_predict_every_token_once(batch_size, window):
    random = np.random.default_rng(0)
    for size in (2, 7, 50, 601):
        windows = Windows(numbered(size), batch_size, window, random_lengths=True)
        lengths = windows._lengths
        assert len(set(lengths)) <= 8
        assert max(1, window // 2) <= min(lengths) <= max(lengths) <= window
        for _ in range(3):
            batches = read(windows, random.permutation(lengths))
            predicted, runs = lanes_of(batches, (batch_size, None))
            used = min(batch_size, size // 2)
            assert [len(run) for run in runs[:used]] == [1] * used
            assert sorted(flat(predicted) + [run[0][0] for run in runs[:used]]) == [
                *range(1, size + 1)
            ]
            assert windows.predictions == len(flat(predicted))


def test_the_pipeline_gives_what_is_read():
    for options in ({}, {"reset": True}, {"context": 4}, {"random_lengths": True}):
        windows = Windows(numbered(30, 40, 2), 3, 8, **options)
        batches = windows.batches()
        assert len(batches) == windows.count(3)
        for one, other in zip(batches.as_numpy_iterator(), read(windows), strict=True):
            keras.tree.map_structure(np.testing.assert_array_equal, one, other)
            kinds = [
                keras.tree.map_structure(lambda array: array.dtype, each) for each in (one, other)
            ]
            assert kinds[0] == kinds[1]


def test_random_lengths_predict_every_token_once_in_every_epoch():
    windows = Windows(numbered(1601), 3, 35, random_lengths=True)
    steps = windows.count(3)
    batches = list(windows.training_batches(3, 5, 3, 6).as_numpy_iterator())
    assert len(batches) == 3 * steps
    for epoch in range(3):
        part = batches[epoch * steps : (epoch + 1) * steps]
        predicted, runs = lanes_of(part, (3, None))
        assert sorted(flat(predicted) + [run[0][0] for run in runs]) == list(range(1, 1602))


def widths(batches) -> list[int]:
    return [targets.shape[1] for _, targets, _ in batches.as_numpy_iterator()]


def test_random_lengths_are_a_function_of_seed_and_epoch():
    windows = Windows(numbered(3000), 2, 35, random_lengths=True)
    steps = windows.count(2)
    both = widths(windows.training_batches(2, 1, 0, 2))
    assert both[:steps] == widths(windows.training_batches(2, 1, 0, 1))
    assert both[steps:] == widths(windows.training_batches(2, 1, 1, 2))
    assert both[:steps] != both[steps:]
    assert both[:steps] != widths(windows.training_batches(2, 2, 0, 1))
    assert len(set(both)) == 8
    assert sorted(both[:steps]) == sorted(both[steps:])


@pytest.mark.parametrize("options", [{}, {"reset": True}, {"context": 4}])
def test_the_epochs_of_training_are_passes_from_the_beginning(options):
    windows = Windows(numbered(30, 40, 2), 3, 8, **options)
    once = list(windows.batches().as_numpy_iterator())
    epochs = list(windows.training_batches(3, 1, 4, 6).as_numpy_iterator())
    for one, other in zip([*once, *once], epochs, strict=True):
        keras.tree.map_structure(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("options", [{}, {"reset": True}, {"random_lengths": True}])
@pytest.mark.parametrize("epoch", [1, 5, 23])
def test_an_epoch_of_another_length_goes_on_where_the_one_before_ended(options, epoch):
    whole = Windows(numbered(30, 40, 2), 3, 4, **options)
    cut = Windows(numbered(30, 40, 2), 3, 4, **options, epoch=epoch)
    assert cut.count(3) == epoch != whole.count(3)
    readings = list(whole.training_batches(3, 1, 0, 20).as_numpy_iterator())
    batches = cut.training_batches(3, 1, 1, 3)
    assert batches.cardinality() == 2 * epoch
    for one, other in zip(readings[epoch : 3 * epoch], batches.as_numpy_iterator(), strict=True):
        keras.tree.map_structure(np.testing.assert_array_equal, one, other)


def test_nobody_waits_for_a_tuner_of_the_pipeline():
    windows = Windows(numbered(30), 3, 8)
    for batches in (windows.batches(), windows.training_batches(3, 1, 0, 1)):
        assert not batches.options().autotune.enabled


def test_shapes_are_known_to_the_graph():
    for options, time in (({}, 8), ({"random_lengths": True}, None)):
        inputs, targets, weights = Windows(numbered(30), 3, 8, **options).batches().element_spec
        assert inputs["ids"].shape.as_list() == [3, time]
        assert inputs["continues"].shape.as_list() == [3]
        assert targets.shape.as_list() == weights.shape.as_list() == [3, time]


@pytest.mark.parametrize("options", [{}, {"reset": True}, {"context": 4}, {"random_lengths": True}])
def test_a_text_that_is_too_short_is_named(options):
    encoder = Encoder(["a", "b"], "character")
    tokens = Tokens.of(PlainText.of(["a"], "letter"), encoder)
    with pytest.raises(ValueError, match="letter 0 is too short: it has 1 tokens"):
        Windows(tokens, 3, 8, **options)
    if options.get("reset"):
        alone = Tokens(np.zeros(3, np.uint8), np.arange(4), "letter 0 and 2 more")
        with pytest.raises(ValueError, match="letter 0 and 2 more is too short: it has 3 tokens"):
            Windows(alone, 3, 8, reset=True)


def test_wrong_arguments_are_named():
    tokens = numbered(10)
    for name, value, kind in (
        ("batch_size", 0, "a positive integer"),
        ("batch_size", 1.5, "a positive integer"),
        ("window", None, "a positive integer"),
        ("epoch", 0, "a positive integer"),
        ("context", -1, "a whole number, at least 0"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be {kind}, got {value}"):
            Windows(tokens, **({"batch_size": 1, "window": 1} | {name: value}))
    for vocabulary, level, message in (
        (["ab"], "character", "`vocabulary` must hold single characters .* got 'ab'"),
        (["a b"], "word", "`vocabulary` holds 'a b': white space parts words"),
        (["a"], "letter", "`level` must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            Encoder(vocabulary, level)
    with pytest.raises(ValueError, match="`random_lengths` moves the cuts"):
        Windows(tokens, 2, 5, reset=True, random_lengths=True)
    with pytest.raises(ValueError, match=r"`batch_size` must be 2, .* got 3"):
        Windows(tokens, 2, 5).count(3)
    with pytest.raises(ValueError, match=r"`batch_size` must be 2, .* got 3"):
        Windows(tokens, 2, 5).training_batches(3, 1, 0, 1)
