"""`SequenceLabeler`: what goes in, schemes, odd input, training, saving, serving, errors."""

import dataclasses
import inspect
import itertools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import tagging
from kerasrnn.applications import SequenceLabeler
from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig
from kerasrnn.layers import CRF
from tests.applications._helpers import environment
from tests.cells._helpers import NAMES

WORDS = ["the", "in", "lives", "oslo", "anna", "berg", "0000"]
CHARACTERS = "ABOabegilnorstvé019"
BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
POS = ("DET", "NOUN", "É")
SENTENCES = [
    ["Anna", "Berg", "lives", "in", "Oslo"],
    ["Oslo"],
    [],
    ["nobody", "knows", "🙂", "1990"],
    ["the"] * 11,
]

# The same probability by another way through the same float32 operations.
ATOL = 1e-6
# float16 has 11 bits; a probability comes after a few dozen operations.
ATOL_HALF = 2e-2


def labeler(labels=BIO, scheme="BIO", **arguments) -> SequenceLabeler:
    """A small model with weights that are far from those of the start."""
    small = {
        "units": 4,
        "embedding_dim": 4,
        "character_dim": 3,
        "character_units": 4,
        "max_word_length": 6,
    }
    model = SequenceLabeler(WORDS, CHARACTERS, labels, scheme=scheme, **{**small, **arguments})
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(0, 0.7, weight.shape))
    return model


def tagger(**arguments) -> SequenceLabeler:
    """A model whose labels are of no scheme, each given by itself."""
    return labeler(POS, None, decoder="softmax", **arguments)


def padded(sentences) -> tf.Tensor:
    return tf.ragged.constant(sentences, ragged_rank=1, dtype=tf.string).to_tensor("")


def assert_same(one, other, atol=ATOL) -> None:
    """The same labels, with probabilities that are as good as the same."""
    for labelled, expected in zip(one, other, strict=True):
        assert labelled.tokens == expected.tokens
        assert labelled.labels == expected.labels
        np.testing.assert_allclose(labelled.scores, expected.scores, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def crf():
    return labeler(num_layers=2)


@pytest.fixture(scope="module")
def softmax():
    return tagger(character_reading="bilstm")


@pytest.fixture(params=["crf", "softmax"])
def model(request):
    return request.getfixturevalue(request.param)


# What it is built of


def parameters(features: int, units: int = 4) -> int:
    return 4 * units * (features + units + 1)


@pytest.mark.parametrize("reading", SequenceLabeler.READINGS)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_parts_and_their_parameters(reading, bidirectional):
    model = labeler(character_reading=reading, bidirectional=bidirectional, num_layers=2)
    directions = 2 if bidirectional else 1
    reader = {"cnn": 3 * 3 * 4 + 4, "bilstm": 2 * parameters(3, 2), "none": 0}[reading]
    features = 4 + (4 if reading != "none" else 0)
    assert model.count_params() == (
        (len(WORDS) + 2) * 4
        # Without a reading of the characters their table is never built.
        + ((len(CHARACTERS) + 2) * 3 if reading != "none" else 0)
        + reader
        + directions * (parameters(features) + parameters(4 * directions))
        + (4 * directions + 1) * 5
        + 5 * 5
        + 2 * 5
    )
    # A sentence is read as a whole, and a word by its characters.
    one, other = read(model, ["x", "in"]), read(model, ["x", "the"])
    assert (one[0] != other[0]).any() == bidirectional
    assert (one[1] != other[1]).any()
    assert (read(model, ["ab"]) != read(model, ["ba"])).any() == (reading != "none")


def read(model, sentence=("Anna", "lives", "in", "Oslo"), training=False) -> np.ndarray:
    """What the decoder is given, `(time, features)`."""
    return np.asarray(model._read(padded([sentence]), training)[0][0])


@pytest.mark.slow
@pytest.mark.parametrize("cell", NAMES)
def test_every_cell(cell):
    """Learns from one batch, gives labels that obey the scheme, and is saved."""
    model = labeler(cell=cell)
    numbers, tags = model.token_numbers(padded(SENTENCES)), tagged(SENTENCES)
    model.compile("adam", CRF.loss)
    assert np.isfinite(model.train_on_batch(numbers, tags))
    given = model.label(SENTENCES)
    for row in given:
        assert not tagging.faults(row.labels)
    again = SequenceLabeler.from_config(model.get_config())
    again.set_weights(model.get_weights())
    assert_same(again.label(SENTENCES), given)


@pytest.mark.parametrize("cell", ["peephole_lstm", "sru", "clockwork_rnn"])
def test_some_cells(cell):
    """One with a kernel, one with a scan, one with a state that only counts."""
    model = labeler(cell=cell)
    given = model(padded(SENTENCES))
    assert given.shape == (len(SENTENCES), 11) and given.dtype == tf.int32
    for row in given.numpy():
        assert set(row) <= set(range(len(BIO)))


# What goes in


def test_strings_and_numbers_give_the_same(model):
    tokens = padded(SENTENCES)
    numbers = model.token_numbers(tokens)
    assert numbers.dtype == tf.int32 and numbers.shape == (*tokens.shape, 7)
    np.testing.assert_array_equal(model(tokens), model(numbers))


def test_words_are_known_folded_and_characters_as_they_are(crf):
    numbers = crf.token_numbers(tf.constant(["OSLO", "1871", "Anna", "xyz", "", "Ωa"])).numpy()
    assert numbers[:, 0].tolist() == [WORDS.index("oslo") + 2, 8, 6, 1, 0, 1]
    assert numbers[2, 1:].tolist() == [*(CHARACTERS.index(c) + 2 for c in "Anna"), 0, 0]
    assert numbers[5, 1:].tolist() == [1, CHARACTERS.index("a") + 2, 0, 0, 0, 0]


def test_padding_and_the_company_of_a_batch_change_nothing(model):
    together = model.label(SENTENCES)
    alone = [model.label([sentence])[0] for sentence in SENTENCES]
    assert_same(together, alone)
    # However far the padding goes.
    labels, scores = model._answer(tf.pad(padded(SENTENCES), [[0, 0], [0, 9]]))
    for labelled, names, values in zip(together, labels.numpy(), scores.numpy(), strict=True):
        size = len(labelled.tokens)
        assert [name.decode() for name in names[:size]] == list(labelled.labels)
        np.testing.assert_allclose(values[:size], labelled.scores, rtol=0, atol=ATOL)
        assert not any(names[size:]) and not values[size:].any()


def test_label_keeps_the_order_whatever_the_batches(model):
    expected = model.label(SENTENCES)
    assert [row.tokens for row in expected] == [tuple(row) for row in SENTENCES]
    assert [len(row.labels) for row in expected] == [len(row.scores) for row in expected]
    for size in (1, 2):
        assert_same(model.label(SENTENCES, batch_size=size), expected)
    assert model.label([]) == []
    assert model.label([[]])[0] == ((), (), ())


def test_scores_are_the_probabilities_of_the_labels(model):
    """The marginals of the CRF: over all labels of a token they are one."""
    tokens = padded(SENTENCES[:1])
    x, mask = model._read(tokens, training=False)
    options = {"mask": mask, "marginals": True} if model.scheme else {}
    probabilities = model.decoder(x, **options).numpy()
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=0, atol=1e-5)
    (given,) = model.label(SENTENCES[:1])
    chosen = [model.labels.index(label) for label in given.labels]
    np.testing.assert_allclose(
        given.scores, probabilities[0, np.arange(5), chosen], rtol=0, atol=ATOL
    )


@pytest.mark.parametrize("scheme", tagging.SCHEMES)
def test_the_crf_never_breaks_the_scheme(scheme):
    """Whatever the weights are; the same without a scheme would."""
    random = np.random.default_rng(1)
    letters = {"BIOES": "BIES", "BILOU": "BILU"}.get(scheme, "BI")
    labels = ["O", *(f"{letter}-{kind}" for kind in ("PER", "LOC") for letter in letters)]
    rows = [[*map(str, random.choice([*WORDS, "x", "Anna"], 12))] for _ in range(40)]
    models = [labeler(labels, one, character_reading="none") for one in (scheme, None)]
    bound, free = (
        [[labels[tag] for tag in row] for row in model(tf.constant(rows)).numpy()]
        for model in models
    )
    assert len({label for row in bound for label in row}) > 2
    assert not any(tagging.faults(row, scheme) for row in bound)
    assert any(tagging.faults(row, scheme) for row in free)


# Odd input


def test_a_batch_of_nothing(model):
    for shape in ((0, 0), (0, 3), (2, 0)):
        labels, scores = model._answer(tf.fill(shape, ""))
        assert labels.shape == scores.shape == shape
    assert model(tf.fill((2, 0), "")).shape[:2] == (2, 1)


def test_five_thousand_tokens(model):
    sentence = [WORDS[number % len(WORDS)] for number in range(5000)]
    long, short = model.label([sentence, sentence[:3]])
    assert len(long.labels) == 5000 and np.isfinite(long.scores).all()
    assert_same([short], model.label([sentence[:3]]))
    assert model.scheme is None or not tagging.faults(long.labels)


def test_of_a_long_word_the_start_and_the_end_are_read(crf):
    long, same, other = "Ber" + "x" * 494 + "lin", "Berlin", "Berxlin"
    assert len(long) == 500
    numbers = crf.token_numbers(tf.constant([long, same, other])).numpy()
    np.testing.assert_array_equal(numbers[0], numbers[1])
    np.testing.assert_array_equal(numbers[0], numbers[2])
    assert len(crf.label([[long, "in", long]])[0].labels) == 3


def test_every_token_gets_a_label_whatever_is_in_it(model):
    """Bytes that are not UTF-8, a zero byte, spaces, marks of byte order, letters of no alphabet."""
    odd = [b"\xff\xfe", b"caf\xe9", "\x00", " ", "\u3000", "\ufeff", "\u200b", "e\u0301", "🙂", "#"]
    (given,) = model.label([odd])
    assert given.tokens == tuple(odd)
    assert len(given.labels) == len(odd) and set(given.labels) <= set(model.labels)
    assert all(0 < score <= 1 + 1e-6 for score in given.scores)


def test_words_and_characters_that_nobody_knows_are_alike(crf):
    one, other, known = crf.label([["ψψ", "in"], ["ωω", "in"], ["gg", "in"]])
    assert one.labels == other.labels and one.scores == other.scores
    assert known.scores != one.scores


# Training


def tagged(sentences) -> np.ndarray:
    """A rule that the word decides, as numbers of `BIO`; -1 at padding."""
    width = max(map(len, sentences))
    rule = {"Anna": 1, "Oslo": 3}
    return np.array(
        [[*(rule.get(token, 0) for token in row), *[-1] * (width - len(row))] for row in sentences],
        np.int32,
    )


def rows_with_a_rule(count: int = 64) -> list[list[str]]:
    random = np.random.default_rng(1)
    words = ["the", "lives", "in", "1990", "Anna", "Oslo", "x"]
    return [[*map(str, random.choice(words, 6))] for _ in range(count)]


def test_fit_on_tokens_learns_a_rule():
    """An ordinary `compile` and `fit`, on strings as they are."""
    keras.utils.set_random_seed(1)
    rows = rows_with_a_rule()
    arguments = NO_DROPOUT | {"character_reading": "none", "bidirectional": False}
    model = SequenceLabeler(
        WORDS, CHARACTERS, BIO, scheme="BIO", units=8, embedding_dim=8, **arguments
    )
    model.compile(keras.optimizers.Adam(0.05), CRF.loss)
    data = tf.data.Dataset.from_tensor_slices((rows, tagged(rows))).batch(16)
    losses = model.fit(data, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 3
    (given,) = model.label([["in", "Oslo", "the", "Anna"]])
    assert given.labels == ("O", "B-LOC", "O", "B-PER")
    assert model.predict(tf.constant(rows[:4]), verbose=0).shape == (4, 6)


RATES = ("word_dropout", "type_dropout", "embedding_dropout", "recurrent_dropout", "dropout")
NO_DROPOUT = dict.fromkeys(RATES, 0.0)


@pytest.mark.parametrize("rate", RATES)
def test_each_dropout_is_at_work_in_training_only_and_the_seed_decides(rate):
    one, same = (labeler(**NO_DROPOUT | {rate: 0.5}, seed=1) for _ in range(2))
    values = [read(one, training=True) for _ in range(6)]
    assert len(np.unique(values, axis=0)) > 1
    np.testing.assert_array_equal(read(same, training=True), values[0])
    np.testing.assert_array_equal(read(one), read(one))
    np.testing.assert_allclose(
        read(one), read(labeler(**NO_DROPOUT), training=True), rtol=0, atol=ATOL
    )


@pytest.mark.parametrize("rate", ["embedding_dropout", "dropout"])
def test_locked_dropout_hides_the_same_features_for_a_whole_sentence(rate):
    model = labeler(**NO_DROPOUT | {rate: 0.5}, seed=1)
    layer = model.embedding_dropout if rate == "embedding_dropout" else model.dropouts[0]
    hidden = layer(tf.ones((2, 7, 40)), training=True).numpy() == 0
    assert 0.2 < hidden.mean() < 0.8
    np.testing.assert_array_equal(hidden, np.repeat(hidden[:, :1], 7, axis=1))
    assert (hidden[0] != hidden[1]).any()


def test_the_layers_start_alike_with_one_seed_and_each_its_own_way():
    def weights(seed):
        model = SequenceLabeler(
            WORDS, CHARACTERS, BIO, units=4, embedding_dim=4, num_layers=2, seed=seed
        )
        return [w for w in model.get_weights() if w.ndim > 1 and w.any()]

    one = weights(1)
    for value, same, other in zip(one, weights(1), weights(2), strict=True):
        np.testing.assert_array_equal(value, same)
        assert (value != other).any()
    for value, other in itertools.combinations(one, 2):
        assert value.shape != other.shape or (value != other).any()


def test_the_defaults_are_those_of_the_task():
    given = inspect.signature(SequenceLabeler.__init__).parameters
    settings = {f.name: f.default for f in dataclasses.fields(SequenceLabelingConfig)}
    shared = set(given) & set(settings) - {"seed", "scheme"}
    assert {"cell", "units", "decoder", "type_dropout", "character_reading"} <= shared
    for name in shared:
        assert given[name].default == settings[name], name


def test_word_vectors_to_start_from():
    model = labeler()
    before = model.embedding.embeddings.numpy()
    vectors = np.arange(28, dtype="float32").reshape(7, 4)
    found = np.array([True, False, True, False, False, False, False])
    model.set_word_vectors(vectors, found)
    after = model.embedding.embeddings.numpy()
    np.testing.assert_array_equal(after[2:][found], vectors[found])
    np.testing.assert_array_equal(after[2:][~found], before[2:][~found])
    np.testing.assert_array_equal(after[:2], before[:2])
    for wrong, message in (
        ((vectors[:, :3], found), r"`vectors` .* \(7, 4\), .* by `embedding_dim`; got \(7, 3\)"),
        ((vectors, found[1:]), r"`found` must have the shape \(7,\), .*; got \(6,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.set_word_vectors(*wrong)


# Precision and compilation


@pytest.mark.parametrize("make", [labeler, pytest.param(tagger, marks=pytest.mark.slow)])
def test_mixed_float16(make, tmp_path):
    model = make(num_layers=2, dtype="mixed_float16")
    parts = (model.embedding, model.character_embedding, model.character_reader, *model.recurrent)
    assert {part.compute_dtype for part in parts} == {"float16"}
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    assert read(model).dtype == "float16"
    np.testing.assert_allclose(read(model), read(make(num_layers=2)), rtol=0, atol=ATOL_HALF)
    model.save(tmp_path / "model.keras")
    again, tokens = keras.models.load_model(tmp_path / "model.keras"), padded(SENTENCES)
    np.testing.assert_array_equal(again(tokens), model(tokens))


@pytest.mark.parametrize(
    "dtype", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_steps_of_training_in_mixed_precision(dtype):
    model = labeler(dtype=dtype, character_reading="none", bidirectional=False)
    model.compile("adam", CRF.loss)
    before = model.decoder.kernel.numpy()
    rows = rows_with_a_rule(4)
    # Keras skips the first steps in float16, until it has found how far the loss can be scaled.
    for _ in range(12):
        assert np.isfinite(model.train_on_batch(padded(rows), tagged(rows)))
    for weight in model.trainable_weights:
        assert np.isfinite(weight.numpy()).all()
    assert (model.decoder.kernel.numpy() != before).any()


def test_compiled_by_xla_it_gives_the_same():
    model = labeler(character_reading="none", bidirectional=False)
    numbers = model.token_numbers(padded(SENTENCES))
    compiled = tf.function(model, jit_compile=True)
    np.testing.assert_array_equal(compiled(numbers), model(numbers))


@pytest.mark.slow
def test_gradients_compiled_by_xla_are_the_same():
    """On numbers, as XLA knows no strings."""
    model, rows = labeler(**NO_DROPOUT), rows_with_a_rule(8)
    numbers, tags = model.token_numbers(padded(rows)), tf.constant(tagged(rows))

    def gradients():
        with tf.GradientTape() as tape:
            loss = CRF.loss(tags, model(numbers, training=True))
        return [tf.convert_to_tensor(g) for g in tape.gradient(loss, model.trainable_weights)]

    compiled, plain = (tf.function(gradients, jit_compile=jit)() for jit in (True, False))
    for one, other in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


# Saving and serving


def test_config():
    arguments = {
        "scheme": "BIO",
        "cell": "gru",
        "units": 3,
        "num_layers": 2,
        "bidirectional": False,
        "embedding_dim": 5,
        "character_reading": "bilstm",
        "character_dim": 2,
        "character_units": 6,
        "decoder": "softmax",
        "word_dropout": 0.1,
        "type_dropout": 0.2,
        "embedding_dropout": 0.3,
        "recurrent_dropout": 0.4,
        "dropout": 0.6,
        "max_word_length": 7,
        "seed": 11,
        "name": "namer",
    }
    model = SequenceLabeler(WORDS, CHARACTERS, BIO, **arguments)
    config = model.get_config()
    assert {name: config[name] for name in arguments} == arguments
    assert config["vocabulary"] == WORDS and config["labels"] == list(BIO)
    assert config["characters"] == list(CHARACTERS)
    json.dumps([config["vocabulary"], config["labels"], config["characters"]])
    again = SequenceLabeler.from_config(config)
    assert again.get_config() == config


IN_A_FRESH_PROCESS = """
import json, sys
import keras, kerasrnn
assert "kerasrnn.applications" not in sys.modules
model = keras.models.load_model("model.keras")
assert type(model) is kerasrnn.applications.SequenceLabeler
print(json.dumps(model.label(json.loads(sys.stdin.read()))))
"""


def test_a_saved_model_is_the_same(model, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again) is SequenceLabeler and again.get_config() == model.get_config()
    np.testing.assert_array_equal(again(padded(SENTENCES)), model(padded(SENTENCES)))
    for weight, expected in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.slow
def test_a_fresh_process_loads_the_model(crf, tmp_path):
    crf.save(tmp_path / "model.keras")
    given = crf.label(SENTENCES)
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS],
        cwd=tmp_path,
        env=environment(),
        input=json.dumps(SENTENCES),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for row, expected in zip(json.loads(done.stdout.splitlines()[-1]), given, strict=True):
        assert [tuple(part) for part in row[:2]] == [expected.tokens, expected.labels]
        np.testing.assert_allclose(row[2], expected.scores, rtol=0, atol=ATOL)


def test_the_saved_model_gives_labels_and_scores(model, tmp_path):
    given = model.label(SENTENCES)
    model.export(str(tmp_path / "served"))
    assert_same(model.label(SENTENCES), given, atol=0)  # The export leaves the model as it was.
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    answer = served(tokens=padded(SENTENCES))
    for number, expected in enumerate(given):
        size = len(expected.tokens)
        names = [name.decode() for name in answer["labels"][number].numpy()]
        assert names == [*expected.labels, *[""] * (11 - size)]
        np.testing.assert_allclose(
            answer["scores"][number, :size], expected.scores, rtol=0, atol=ATOL
        )
    for shape in ((0, 0), (2, 0)):
        assert served(tokens=tf.fill(shape, ""))["labels"].shape == shape
    assert served(tokens=tf.constant([[b"\xff"]]))["labels"].numpy()[0, 0].decode() in model.labels


def test_other_formats_of_export_are_kerass(crf, tmp_path):
    with pytest.raises(ValueError, match="format"):
        crf.export(str(tmp_path / "model"), format="floppy disk")


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary": []}, "`vocabulary` must hold at least 1"),
        ({"vocabulary": "abc"}, "`vocabulary` must be a list of words, got the one string 'abc'"),
        ({"vocabulary": ["a", "a"]}, "`vocabulary` must all be different, but 'a' is there twice"),
        ({"characters": ""}, "`characters` must hold at least 1"),
        ({"characters": "aba"}, "`characters` must all be different, but 'a' is there twice"),
        ({"labels": "ab"}, "`labels` must be a list of words, got the one string 'ab'"),
        ({"labels": []}, "`labels` must hold at least 1"),
        ({"labels": ["O", "O"]}, "`labels` must all be different, but 'O' is there twice"),
        ({"scheme": "BIEO"}, "scheme must be one of BIO, .*got 'BIEO'"),
        ({"scheme": "BIEO", "decoder": "softmax"}, "scheme must be one of BIO, .*got 'BIEO'"),
        ({"labels": ["O", "NOUN"], "scheme": "BIO"}, "'NOUN' is not a label of BIO"),
        ({"cell": "couplet_lstm"}, "`cell` was 'couplet_lstm'. Did you mean 'coupled_lstm'"),
        ({"units": 0}, "`units` must be a positive integer, got 0"),
        ({"num_layers": 1.5}, "`num_layers` must be a positive integer, got 1.5"),
        ({"embedding_dim": 0}, "`embedding_dim` must be a positive integer, got 0"),
        ({"character_dim": True}, "`character_dim` must be a positive integer, got True"),
        ({"character_units": -1}, "`character_units` must be a positive integer, got -1"),
        ({"max_word_length": 0}, "`max_word_length` must be a positive integer, got 0"),
        ({"character_reading": "rnn"}, "`character_reading` must be one of cnn, bilstm, none; got"),
        ({"decoder": "argmax"}, "`decoder` must be one of crf, softmax; got 'argmax'"),
        ({"word_dropout": 1.0}, "`word_dropout` must be at least 0 and less than 1, got 1.0"),
        ({"type_dropout": -0.1}, "`type_dropout` must be at least 0 and less than 1, got -0.1"),
        ({"embedding_dropout": 2}, "`embedding_dropout` must be at least 0 and less than 1, got 2"),
        ({"recurrent_dropout": 1}, "`recurrent_dropout` must be a fraction.*got 1"),
        ({"dropout": float("nan")}, "`dropout` must be at least 0 and less than 1, got nan"),
        ({"seed": -1}, "`seed` must be a whole number, at least 0, or None; got -1"),
    ],
)
def test_an_argument_that_cannot_be_is_named_with_what_was_received(arguments, message):
    given = {"vocabulary": WORDS, "characters": CHARACTERS, "labels": BIO, "units": 2, **arguments}
    with pytest.raises(ValueError, match=message):
        SequenceLabeler(**given)


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ("Anna lives", r"list of lists of tokens, got the one string 'Anna lives'.*tokenize"),
        (["Anna", "lives"], r"list of lists of tokens, got the one string 'Anna'"),
        (
            [["Anna"], ["lives", ""]],
            r"`sentences\[1\]` must hold strings that are not empty, got ''",
        ),
        ([["Anna", None]], r"`sentences\[0\]` must hold strings that are not empty, got None"),
    ],
)
def test_label_wants_lists_of_tokens(crf, sentences, message):
    with pytest.raises(ValueError, match=message):
        crf.label(sentences)
