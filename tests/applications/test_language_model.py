"""`LanguageModel`: the state that goes on, its gradients, every cell and dropout, saving, errors."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn import fast
from kerasrnn.applications import LanguageModel
from kerasrnn.applications._runs import RunFolder
from kerasrnn.applications.language_model.data import Encoder, Tokens, Windows
from kerasrnn.applications.language_model.model import TokenCrossEntropy
from kerasrnn.applications.text import split_tokens
from kerasrnn.metrics import BitsPerCharacter, Perplexity, _likelihood
from tests.cells._helpers import NAMES

WORDS = ["the", "sky", "clouds", "are", "in", "."]
IDS = np.random.default_rng(5).integers(
    0, 8, (2, 12)
)  # six words, the unknown one and the boundary
HALF = 6

# The same logits by another way through the same float32 operations.
ATOL = 2e-6


def language_model(vocabulary=WORDS, **arguments) -> LanguageModel:
    """A small model with weights that are far from those of the start, and without dropout."""
    rates = ("embedding_dropout", "input_dropout", "dropout", "output_dropout")
    small = {"units": 4, "embedding_dim": 4, "seed": 1, **dict.fromkeys(rates, 0.0)}
    model = LanguageModel(vocabulary, **{**small, **arguments})
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(0, 0.6, weight.shape))
    return model


def window(ids, continues=True) -> dict:
    """What a data set gives the model."""
    rows = np.broadcast_to(continues, len(ids))
    return {"ids": tf.constant(ids, tf.int32), "continues": tf.constant(rows)}


def log_softmax(logits) -> np.ndarray:
    logits = np.asarray(logits, "float64")
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def gradients(model, inputs, targets, sources):
    with tf.GradientTape() as tape:
        logits = model(inputs, training=True)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))
    return [np.array(tf.convert_to_tensor(g)) for g in tape.gradient(loss, sources)]


# The state


def test_windows_that_continue_give_what_one_long_call_gives():
    model = language_model()
    expected = model(IDS)
    assert expected.shape == (2, 12, 8) and expected.dtype == "float32"
    first = model(window(IDS[:, :HALF], False))
    second = model(window(IDS[:, HALF:]))
    np.testing.assert_allclose(np.concatenate([first, second], 1), expected, rtol=0, atol=ATOL)
    # A call of numbers alone begins anew, and leaves the state where it is.
    model(window(IDS[:, :HALF], False))
    np.testing.assert_array_equal(model(IDS), expected)
    np.testing.assert_allclose(model(window(IDS[:, HALF:])), second, rtol=0, atol=ATOL)


def test_one_text_of_any_length_at_a_time():
    """Keras then knows the batch, which is 1, and learns with the second length to forget the steps."""
    model = language_model(num_layers=1)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for steps in (7, 9, 5):
        ids = IDS[:1, :steps]
        expected = model(ids)
        np.testing.assert_allclose(model.predict(ids, verbose=0), expected, rtol=0, atol=ATOL)
        model.train_on_batch(ids, ids)


def test_training_and_the_rest_have_states_of_their_own():
    model = language_model()
    expected = model(IDS)
    first = model(window(IDS[:, :HALF], False), training=True)
    model(window(IDS[::-1, :HALF], False))
    second = model(window(IDS[:, HALF:]), training=True)
    np.testing.assert_allclose(np.concatenate([first, second], 1), expected, rtol=0, atol=ATOL)
    other = model(window(IDS[::-1, HALF:]))
    np.testing.assert_allclose(other, expected[::-1, HALF:], rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    ("jit_compile", "batches"), [(False, ([0, 1], [1], [1, 0, 1])), (True, ([0, 1],))]
)
def test_the_number_of_rows_may_change(jit_compile, batches):
    """As Keras traces its steps: at the second number it no longer knows it."""
    model = language_model(num_layers=1)
    read = tf.function(model, reduce_retracing=True, jit_compile=jit_compile)
    for rows in batches:
        ids = IDS[rows]
        np.testing.assert_allclose(read(window(ids[:, :HALF])), model(ids[:, :HALF]), atol=ATOL)
        np.testing.assert_allclose(read(window(ids[:, HALF:])), model(ids)[:, HALF:], atol=ATOL)


def test_the_number_of_lanes_may_change_where_xla_compiles_the_steps():
    """As it does from a validation part to a test part that is shorter."""
    numbers = np.random.default_rng(0).integers(0, 8, 60)
    lanes = {n: Windows(Tokens(numbers, np.array([0, 60])), n, 5) for n in (3, 4)}
    models = [compiled(language_model(num_layers=1), jit_compile=jit) for jit in (True, False)]

    def one_epoch(model, lanes):
        model.fit(lanes.training_batches(lanes.batch_size, 0, 0, 1), shuffle=False, verbose=0)
        return model.evaluate(lanes.batches(), verbose=0)

    for number in (4, 3, 4):
        both = [one_epoch(model, lanes[number]) for model in models]
        np.testing.assert_allclose(*both, rtol=1e-4)
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_only_the_row_that_does_not_continue_begins_anew():
    model = language_model()
    model(window(IDS[:, :HALF], False))
    second = model(window(IDS[:, HALF:], [True, False]))
    np.testing.assert_allclose(second[0], model(IDS)[0, HALF:], rtol=0, atol=ATOL)
    np.testing.assert_allclose(second[1], model(IDS[:, HALF:])[1], rtol=0, atol=ATOL)


def test_a_checkpoint_holds_the_state_that_is_carried(tmp_path):
    """So that a run goes on in the middle of the text as one that was never stopped."""
    models = [compiled(language_model(seed=seed), jit_compile=False) for seed in (1, 2)]
    first, second = models
    folder = RunFolder(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    first.optimizer.build(first.trainable_variables)
    first(window(IDS[:, :HALF], False), training=True)
    folder.save_state(first, 1, keep=set())
    folder.load_state(second, 1)
    expected = first(window(IDS[:, HALF:]), training=True)
    np.testing.assert_allclose(expected, first(IDS)[:, HALF:], rtol=0, atol=ATOL)
    np.testing.assert_array_equal(second(window(IDS[:, HALF:]), training=True), expected)


def test_a_state_that_is_no_number_is_left_behind():
    model = language_model()
    model(window(IDS, False))
    for variable in model._carried[False]:
        variable.assign(variable * np.nan)
    assert np.isfinite(model(window(IDS, False))).all()


def test_going_on_from_given_states():
    model = language_model(num_layers=1)
    expected, ends = model.advance(IDS, model.initial_states(2))
    np.testing.assert_allclose(expected, model(IDS), rtol=0, atol=ATOL)
    _, states = model.advance(IDS[:, :HALF], model.initial_states(2))
    assert [state.shape[1] for state in states] == model.state_sizes == [4, 4]
    second, states = model.advance(IDS[:, HALF:], states)
    np.testing.assert_allclose(second, expected[:, HALF:], rtol=0, atol=ATOL)
    np.testing.assert_allclose(states, ends, rtol=0, atol=ATOL)


def test_the_gradient_ends_where_the_window_begins():
    model = language_model(tied=False, num_layers=1)
    ids, targets = np.array([[1, 2, 3, 4, 5, 6]]), np.array([[2, 3, 4, 5, 6, 7]])

    def reached(inputs, targets):
        """Which tokens' vectors the loss moves."""
        (found,) = gradients(model, inputs, targets, [model.embedding.embeddings.value])
        return np.flatnonzero(np.abs(found).sum(1)).tolist()

    assert reached(window(ids, False), targets) == [1, 2, 3, 4, 5, 6]
    model(window(ids[:, :3], False), training=True)
    assert reached(window(ids[:, 3:]), targets[:, 3:]) == [4, 5, 6]


@pytest.mark.parametrize("cell", NAMES)
def test_every_cell(cell):
    model = language_model(cell=cell, num_layers=1)
    expected = model(IDS)
    assert np.isfinite(expected).all()
    model(window(IDS[:, :HALF], False))
    second = model(window(IDS[:, HALF:]))
    np.testing.assert_allclose(second, expected[:, HALF:], rtol=0, atol=ATOL)
    # It reads: what came before matters.
    assert np.abs(second - model(IDS[:, HALF:])).max() > 1e-4


# What it is built of


def test_a_tied_table_is_one_with_a_gradient_from_both_ends():
    tied, untied = language_model(), language_model(tied=False)
    assert untied.count_params() == tied.count_params() + 8 * 4
    for mine, other in zip(untied.recurrent, tied.recurrent, strict=True):
        mine.set_weights(other.get_weights())
    untied.embedding.set_weights(tied.embedding.get_weights())
    untied.head.table.assign(tied.embedding.embeddings)
    untied.head.bias.assign(tied.head.bias)
    np.testing.assert_allclose(tied(IDS), untied(IDS), rtol=0, atol=ATOL)
    targets = IDS[::-1]
    (whole,) = gradients(tied, IDS, targets, [tied.embedding.embeddings.value])
    sources = [untied.embedding.embeddings.value, untied.head.table.value]
    ends = gradients(untied, IDS, targets, sources)
    assert all(np.abs(end).max() > 0.1 for end in ends)
    np.testing.assert_allclose(whole, sum(ends), rtol=1e-4, atol=1e-5)


def test_the_gradients_of_the_head_are_those_of_the_formula():
    """What the logits lack of the right tokens, by the table, by the features, and summed up."""
    head = language_model(tied=False).head
    random = np.random.default_rng(2)
    x = tf.Variable(random.normal(size=(2, 12, 4)), dtype=tf.float32)
    with tf.GradientTape() as tape:
        logits = head(x)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(IDS, logits))
    found = tape.gradient(loss, [x, head.table.value, head.bias.value])
    table, features = np.array(head.table, "float64"), np.array(x, "float64")
    expected = features @ table.T + np.array(head.bias)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=ATOL)
    lacking = np.exp(log_softmax(expected)) - np.eye(len(table))[IDS]
    summed = np.einsum("btn,btf->nf", lacking, features)
    for one, other in zip(found, [lacking @ table, summed, lacking.sum((0, 1))], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_tied_last_layer_has_the_size_of_the_vectors():
    assert language_model(units=6, num_layers=3).state_sizes == [6, 6, 6, 6, 4, 4]
    assert language_model(units=6, tied=False).state_sizes == [6, 6, 6, 6]


@pytest.mark.parametrize(
    "dropout",
    [
        {"embedding_dropout": 0.5},
        {"input_dropout": 0.5},
        {"dropout": 0.5},
        {"output_dropout": 0.5},
        {"recurrent_dropout": 0.5},
        {"recurrent_dropout": 0.5, "recurrent_dropout_form": "state"},
        {"recurrent_dropout": 0.5, "recurrent_dropout_form": "candidate"},
    ],
    ids=lambda dropout: "-".join(map(str, dropout)),
)
def test_a_dropout_is_at_work_in_training_only(dropout):
    expected, model = language_model()(IDS), language_model(**dropout)
    np.testing.assert_allclose(model(IDS), expected, rtol=0, atol=ATOL)
    dropped = model(IDS, training=True)
    assert np.isfinite(dropped).all()
    assert np.abs(dropped - expected).max() > 1e-2
    # From the seed: the same draws in another model, and others at the next call.
    again = language_model(**dropout)(IDS, training=True)
    np.testing.assert_allclose(again, dropped, rtol=0, atol=ATOL)
    assert np.abs(model(IDS, training=True) - dropped).max() > 1e-3


def test_penalties_on_the_last_layer_count_in_training_only():
    model = language_model(
        activation_regularization=2.0, temporal_regularization=3.0, output_dropout=0.5
    )
    model(IDS)
    assert model.losses == []
    seen = []
    layer = model.dropouts[-1].call
    model.dropouts[-1].call = lambda x, **options: seen.extend([x, layer(x, **options)]) or seen[-1]
    model(IDS, training=True)
    raw, dropped = np.asarray(seen, "float64")
    assert np.abs(raw - dropped).max() > 0.01
    expected = [3 * np.mean(np.diff(raw, axis=1) ** 2), 2 * np.mean(dropped**2)]
    np.testing.assert_allclose(model.losses, expected, rtol=1e-5)


# Training and measuring


def windows(batch_size=4, size=150, **arguments) -> Windows:
    """A text with a rule: the numbers 1 to 6 in turn, and then the boundary, 7."""
    numbers = 1 + np.arange(size) % 7
    return Windows(Tokens(numbers, np.array([0, size])), batch_size, 10, **arguments)


def compiled(model, **arguments):
    model.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[Perplexity(), BitsPerCharacter()],
        **arguments,
    )
    return model


def trained(model, data, epochs):
    """What training gave for each epoch."""
    return model.fit(
        data.training_batches(data.batch_size, 1, 0, epochs),
        epochs=epochs,
        steps_per_epoch=data.count(data.batch_size),
        shuffle=False,
        verbose=0,
    ).history


def test_it_learns_and_is_measured_on_windows_as_on_one_long_call():
    model = compiled(language_model(num_layers=1, units=8, embedding_dim=8))
    data = windows()
    history = trained(model, data, epochs=12)
    assert history["perplexity"][0] > 5 and history["perplexity"][-1] < 1.3

    whole = windows(batch_size=1, context=1)
    measured = model.evaluate(whole.batches(), return_dict=True, verbose=0)
    numbers = whole.tokens.numbers
    scores = log_softmax(model(numbers[None, :-1]))[0]
    mean = -np.mean(scores[np.arange(len(scores)), numbers[1:]])
    np.testing.assert_allclose(measured["perplexity"], np.exp(mean), rtol=1e-5)
    np.testing.assert_allclose(measured["bits_per_character"], mean / np.log(2), rtol=1e-5)


def test_each_epoch_of_training_carries_the_state_from_zeros():
    """With a learning rate of 0 it measures: twice over what a plain call gives for each lane."""
    model = language_model(num_layers=2)
    model.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[Perplexity()],
    )
    data = windows(batch_size=4, size=148)
    lanes = np.split(data.tokens.numbers, 4)
    nats = []
    for lane in lanes:
        scores = log_softmax(model(lane[None, :-1]))[0]
        nats.extend(-scores[np.arange(len(lane) - 1), lane[1:]])
    assert len(nats) == data.predictions == 148 - 4
    found = trained(model, data, epochs=2)["perplexity"]
    np.testing.assert_allclose(found, np.exp(np.mean(nats)), rtol=1e-5)


@pytest.mark.parametrize(
    ("random_lengths", "jit_compile"),
    [pytest.param(False, False, marks=pytest.mark.slow), (True, False), (False, True)],
)
def test_the_loss_that_is_compiled_for_large_vocabularies_is_keras_own(
    random_lengths, jit_compile, monkeypatch
):
    """Here, with a small one; and with a rest of text, whose steps do not all count."""
    data, seen, calls = windows(size=130, random_lengths=random_lengths), [], []
    plain = fast.cross_entropy
    for least in (1, 10**9):
        monkeypatch.setattr(_likelihood, "WORTH_COMPILING", least)
        monkeypatch.setattr(fast, "cross_entropy", lambda *xy: calls.append(1) or plain(*xy))
        model = language_model(num_layers=1, units=8, embedding_dim=8)
        model.compile(
            keras.optimizers.Adam(0.05),
            TokenCrossEntropy(from_logits=True, reduction="mean_with_sample_weight"),
            loss_weights=0.5,
            weighted_metrics=[Perplexity(), BitsPerCharacter()],
            jit_compile=jit_compile,
        )
        history = trained(model, data, epochs=4)
        measured = model.evaluate(data.batches(), return_dict=True, verbose=0)
        seen.append([*itertools.chain(*history.values()), *measured.values()])
        assert bool(calls) == (least == 1)
        calls.clear()
    np.testing.assert_allclose(*seen, rtol=1e-4)


def test_a_sampled_loss_of_every_token_is_the_full_one():
    head = language_model([f"w{n}" for n in range(60)]).head
    random = np.random.default_rng(2)
    x, targets = random.normal(size=(2, 3, 4)).astype("float32"), random.integers(0, 62, (2, 3))
    full = -np.take_along_axis(log_softmax(head(x)), targets[..., None], -1)[..., 0]
    # Of so many draws none is left out, and the sum over all tokens is exact.
    np.testing.assert_allclose(head.sampled_losses(x, targets, 20_000), full, rtol=1e-5)
    # With few draws that sum is an estimate without a bias: 1000 of them come within 2 % or so.
    losses = tf.function(head.sampled_losses)
    found = [np.exp(losses(x, targets, 30), dtype="float64") for _ in range(1000)]
    error = np.std(found, axis=0) / 1000**0.5
    assert (error < 0.05 * np.exp(full)).all()
    assert (np.abs(np.mean(found, axis=0) - np.exp(full)) < 4 * error).all()


def test_a_sampled_model_trains_on_a_large_vocabulary_and_is_measured_in_full():
    arguments = {"vocabulary": [f"w{n}" for n in range(6000)], "num_layers": 1, "sampled": 64}
    model, other = language_model(**arguments), language_model(**arguments)
    features = np.ones((2, 3, 4), "float32")
    drawn = [one.head.sampled_losses(features, IDS[:, :3], 64) for one in (model, other)]
    np.testing.assert_array_equal(*drawn)  # a function of the seed
    assert np.abs(model.head.sampled_losses(features, IDS[:, :3], 64) - drawn[0]).max() > 1e-3

    data = windows().training_batches(4, 1, 0, 3)
    history = (
        compiled(model).fit(data, epochs=3, steps_per_epoch=4, shuffle=False, verbose=0).history
    )
    assert list(history) == ["loss"]  # All that a sampled step knows.
    assert np.isfinite(history["loss"]).all() and history["loss"][-1] < history["loss"][0]
    ids, targets = IDS[:, :-1], IDS[:, 1:]
    measured = model.test_on_batch(ids, targets, return_dict=True)
    full = -np.take_along_axis(log_softmax(model(ids)), targets[..., None], -1).mean()
    np.testing.assert_allclose(measured["perplexity"], np.exp(full), rtol=1e-4)


def test_half_precision():
    wide, narrow = (
        language_model(num_layers=1, dtype=dtype) for dtype in ("float32", "mixed_bfloat16")
    )
    logits = narrow(window(IDS, False))
    assert logits.dtype == "float32"
    np.testing.assert_allclose(logits, wide(IDS), rtol=0, atol=0.1)
    assert np.isfinite(narrow(window(IDS), training=True)).all()
    (score,), (expected,) = (model.score(["the sky"]) for model in (narrow, wide))
    assert score.log_probability == pytest.approx(expected.log_probability, rel=0.02)


# Text


ODD = [
    "",
    "\n",
    "the sky",
    "the sky\n\nare\t in .\n",
    " \n  the\x0bsky\x0c\r\n",
    "The SKY, isn't 'in' clouds.",
    "é\u0301 \U0001f600\u00a0the\u2028sky",
    "<eos> <unk> the<eos>",
]


@pytest.mark.parametrize(
    ("level", "separate"), [("word", False), ("word", True), ("character", False)]
)
def test_text_becomes_the_numbers_that_the_data_have(level, separate):
    known = WORDS if level == "word" else list("the skyclodarin.\U0001f600")
    model = language_model(known, level=level, separate=separate)
    encoder = Encoder(model.tokens, level, separate)
    # A line feed at the end, as a word's line is closed by its end in any case.
    texts = [text + "\n" * (not text.endswith("\n")) for text in ODD]
    assert model.token_rows(tf.constant(texts)).to_list() == [
        encoder.encode(text.encode()).tolist() for text in texts
    ]
    assert [model.numbers(text) for text in ODD] == model.token_rows(tf.constant(ODD)).to_list()
    assert model.token_rows(tf.constant([], tf.string)).to_list() == []


def test_tokens():
    assert split_tokens(["a b\n", "", "c"], "word").to_list() == [
        [b"a", b"b", b"<eos>"],
        [],
        [b"c"],
    ]
    assert language_model(["a", "<eos>", "b"]).tokens == ("<unk>", "a", "<eos>", "b")
    assert language_model(["a"], level="character").tokens == ("<unk>", "a", "\n")


# Saving


def test_a_saved_model_gives_the_same(tmp_path):
    model = language_model(separate=True, tied=False, cell="gru", dropout=0.5)
    model(window(IDS, False))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IDS), model(IDS))
    assert loaded.get_config() == model.get_config()
    assert loaded.numbers("The sky.") == model.numbers("The sky.") == [1, 2, 6]


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary": []}, "`vocabulary` must hold at least 1"),
        ({"vocabulary": "abc"}, "`vocabulary` must be a list of words, got the one string 'abc'"),
        ({"vocabulary": ["a", "a"]}, "'a' is there twice"),
        ({"vocabulary": ["a", "<unk>"]}, "`vocabulary` holds '<unk>'.*leave it out"),
        ({"vocabulary": ["a", "bc"], "level": "character"}, "single characters.*got 'bc'"),
        ({"level": "letter"}, r"`level` must be one of \('word', 'character'\), got 'letter'"),
        ({"cell": "couplet_lstm"}, "Did you mean 'coupled_lstm'"),
        ({"units": 0}, "`units` must be a positive integer, got 0"),
        ({"num_layers": 1.5}, "`num_layers` must be a positive integer, got 1.5"),
        ({"embedding_dim": -1}, "`embedding_dim` must be a positive integer, got -1"),
        ({"embedding_dropout": 1}, "`embedding_dropout` must be at least 0 and less than 1, got 1"),
        ({"input_dropout": -1}, "`input_dropout` must be at least 0 and less than 1, got -1"),
        ({"dropout": 2}, "`dropout` must be at least 0 and less than 1, got 2"),
        ({"output_dropout": 1}, "`output_dropout` must be at least 0 and less than 1, got 1"),
        ({"recurrent_dropout": 1}, "`recurrent_dropout` must be a fraction.*got 1"),
        ({"recurrent_dropout_form": "x"}, "`recurrent_dropout_form` must be"),
        ({"activation_regularization": -1}, "number of at least 0, got -1"),
        (
            {"sampled": 8},
            "`sampled` must be less than the number of tokens, 8; got 8",
        ),
        ({"sampled": True}, "`sampled` must be a whole number, at least 0, got True"),
        ({"vocabulary": ["a", "new york"]}, "`vocabulary` holds 'new york': white space parts"),
        ({"vocabulary": ["a\0b"]}, r"`vocabulary` holds 'a\\x00b': .* the zero character"),
        ({"vocabulary": ["\0"], "level": "character"}, r"`vocabulary` holds '\\x00'"),
        ({"vocabulary": ["a", 5]}, "`vocabulary` must hold strings that are not empty, got 5"),
        ({"dropout": None}, "`dropout` must be at least 0 and less than 1, got None"),
        ({"temporal_regularization": "x"}, "`temporal_regularization` must be a number .*'x'"),
        ({"seed": -1}, "`seed` must be a whole number, at least 0, or None; got -1"),
        ({"seed": 1.5}, "`seed` must be a whole number, at least 0, or None; got 1.5"),
    ],
)
def test_an_argument_that_cannot_be_is_named_with_what_was_received(arguments, message):
    with pytest.raises(ValueError, match=message):
        language_model(**arguments)
