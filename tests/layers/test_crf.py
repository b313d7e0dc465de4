"""`CRF` against the enumeration of all paths, and in every way that a model is trained and kept."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerasrnn
from kerasrnn import fast, tagging
from kerasrnn.layers import CRF, CRFLoss
from kerasrnn.metrics import EntityF1, TokenAccuracy
from tests.layers import _crf_reference as reference
from tests.layers._helpers import assert_close, assert_equal, flat, randomise
from tests.layers.test_errors import says

TAGS, TIME = 3, 5
# Whole, padded on the right, on the left, with holes, one step, nothing; and any.
MASK = np.array(
    [[1] * 5, [1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 1, 0], [0] * 5]
)
MASK = np.concatenate([MASK, np.random.default_rng(5).integers(0, 2, (10, TIME))]).astype(bool)
BATCH = len(MASK)
# Sums of a few float64 numbers, taken in another order.
ATOL = 1e-12


def scores(seed=0, whole=False, batch=BATCH, time=TIME, tags=TAGS, mask=MASK):
    """Random scores, or whole numbers with many ties among the paths."""
    random = np.random.default_rng(seed)
    shapes = [(batch, time, tags), (tags, tags), (tags,), (tags,)]
    draw = (lambda s: random.integers(-1, 2, s)) if whole else (lambda s: random.normal(0, 1, s))
    return reference.Scores(*(draw(shape).astype("float64") for shape in shapes), mask)


def random_tags(seed=3, shape=(BATCH, TIME), tags=TAGS):
    return np.random.default_rng(seed).integers(0, tags, shape)


def bare(given, dtype="float64", **arguments):
    """A layer with the given scores, whose inputs are the potentials."""
    layer = CRF(given.potentials.shape[-1], use_kernel=False, dtype=dtype, **arguments)
    layer.build(given.potentials.shape)
    layer.set_weights(given[1:4])
    return layer


def losses(layer, inputs, tags, mask=None):
    return CRFLoss(reduction=None, dtype="float64")(tags, layer(inputs, mask=mask))


def losses_and_gradients(layer, inputs, tags, mask=None, compiled=False, weights=None):
    """The losses of the rows, and the gradients of their weighted sum by the inputs and the weights."""
    weights = np.ones(len(inputs)) if weights is None else weights

    def run(inputs, tags, mask):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            found = losses(layer, inputs, tags, mask)
            total = tf.reduce_sum(found * tf.constant(weights, found.dtype))
        return found, tape.gradient(total, [inputs, *layer.trainable_weights])

    run = tf.function(run) if compiled else run
    return run(tf.constant(inputs), tf.constant(tags), None if mask is None else tf.constant(mask))


# The arithmetic, in float64, beside an enumeration.


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_likelihood_and_its_gradients_equal_the_enumeration(compiled, seed):
    given, tags = scores(seed), random_tags(seed)
    weights = np.random.default_rng(seed).normal(size=BATCH)
    expected, by_scores = np.zeros(BATCH), [np.zeros(part.shape) for part in given[:4]]
    for index in np.flatnonzero(MASK.any(axis=1)):
        row, chosen = reference.row(given, index), tags[index][MASK[index]]
        expected[index] = row.loss(chosen)
        potentials, *shared = row.gradients(chosen)
        by_scores[0][index, MASK[index]] = weights[index] * potentials
        for total, gradient in zip(by_scores[1:], shared, strict=True):
            total += weights[index] * gradient
    found, gradients = losses_and_gradients(
        bare(given), given.potentials, tags, MASK, compiled, weights
    )
    assert_close(found, expected, ATOL)
    assert_close(gradients, by_scores, ATOL)
    assert not found[5] and not np.any(gradients[0][5])  # Of a row without a step.


@pytest.mark.parametrize("whole", [True, False])
def test_the_best_path_equals_the_enumeration_and_its_rule_for_ties(whole):
    ties = 0
    for seed in range(6):
        given = scores(seed, whole)
        expected = np.zeros(MASK.shape, int)
        for index in np.flatnonzero(MASK.any(axis=1)):
            row = reference.row(given, index)
            expected[index, MASK[index]] = row.best
            ties += (row.scores == row.scores.max()).sum() - 1
        assert_equal(bare(given)(given.potentials, mask=MASK), expected)
    assert ties > 50 if whole else not ties


def test_the_rule_for_ties_by_hand():
    """The lowest last tag decides before the lowest first one does."""
    layer = CRF(2, use_kernel=False)
    layer.build((1, 3, 2))
    layer.set_weights([np.array([[0.0, 1.0], [1.0, 0.0]]), np.zeros(2), np.zeros(2)])
    # 0 1 0 and 1 0 1 have the same score; and 0 1 has that of 1 0, of which the last is lower.
    assert_equal(layer(np.zeros((1, 3, 2))), np.array([[0, 1, 0]]))
    assert_equal(layer(np.zeros((1, 2, 2))), np.array([[1, 0]]))


def test_marginals_equal_the_enumeration_and_the_gradient_of_the_partition():
    given, tags = scores(), random_tags()
    layer, expected = bare(given), np.zeros((*MASK.shape, TAGS))
    for index in np.flatnonzero(MASK.any(axis=1)):
        expected[index, MASK[index]] = reference.row(given, index).marginals
    found = layer(given.potentials, mask=MASK, marginals=True)
    assert_close(found, expected, ATOL)
    _, (gradient, *_) = losses_and_gradients(layer, given.potentials, tags, MASK)
    assert_close(gradient + np.eye(TAGS)[tags] * MASK[..., None], expected, ATOL)


def test_the_projection_is_a_dense_layers():
    inputs = np.random.default_rng(0).normal(size=(BATCH, TIME, 4))
    layer = CRF(TAGS, dtype="float64")
    layer.build(inputs.shape)
    randomise(layer)
    kernel, bias, *rest = layer.get_weights()
    given = reference.Scores(inputs @ kernel + bias, *rest, MASK)
    tags = random_tags()
    for compiled in (False, True):
        found, (by_inputs, by_kernel, by_bias, *_) = losses_and_gradients(
            layer, inputs, tags, MASK, compiled
        )
        expected, (by_potentials, *_) = losses_and_gradients(
            bare(given), given.potentials, tags, MASK
        )
        assert_close(found, expected, ATOL)
        assert_close(by_inputs, by_potentials @ kernel.T, ATOL)
        assert_close(by_kernel, np.einsum("btf,btk->fk", inputs, by_potentials), ATOL)
        assert_close(by_bias, np.sum(by_potentials, axis=(0, 1)), ATOL)


def test_long_sequences_neither_overflow_nor_lose_precision():
    """In float32, beside float64. Of the best tags the loss is the small difference of large sums."""
    batch, time, tags = 3, 2000, 9
    layer = CRF(tags, use_kernel=False)
    layer.build((batch, time, tags))
    graph = tf.function(lambda x: (layer(x), layer(x, marginals=True)), jit_compile=True)
    for scale in (0.01, 1, 20):
        drawn = scores(1, batch=batch, time=time, tags=tags, mask=None)
        given = drawn._make([None if part is None else np.float32(scale * part) for part in drawn])
        layer.set_weights(given[1:4])
        best, probabilities = flat(graph(given.potentials))
        assert_close(probabilities.sum(axis=-1), np.ones((batch, time)), 2e-6)
        for chosen in (best, random_tags(2, (batch, time), tags).astype("int32")):
            found, gradients = losses_and_gradients(layer, given.potentials, chosen, None, True)
            np.testing.assert_allclose(found, reference.recursion(given, chosen), rtol=5e-6)
            assert_close(gradients[0], probabilities - np.eye(tags)[chosen], 2e-5)
            assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_no_steps_and_no_sequences():
    layer = bare(scores(), "float32")
    for shape in ((2, 0), (0, TIME)):
        inputs, tags = np.zeros((*shape, TAGS), "float32"), np.zeros(shape, "int32")
        for compiled in (False, True):
            found, gradients = losses_and_gradients(layer, inputs, tags, None, compiled)
            assert_equal(found, np.zeros(shape[0]))
            assert not any(np.any(gradient) for gradient in gradients)
        assert layer(inputs).shape == shape
        assert layer(inputs, marginals=True).shape == (*shape, TAGS)


# What may not follow what.


def label_sets(scheme, count, seed=0):
    """Random labels in a random order, most often with some of a type missing."""
    random = np.random.default_rng(seed)
    letters = {"BIO": "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU"}[scheme]
    names = ["O", *(f"{letter}-{kind}" for kind in ("X", "Y") for letter in letters)]
    for _ in range(count):
        yield random.permutation(names)[: random.integers(2, 5)].tolist()


@pytest.mark.parametrize("scheme", tagging.SCHEMES)
def test_nothing_forbidden_is_decoded_or_has_a_probability(scheme):
    seen = 0
    for seed, labels in enumerate(label_sets(scheme, 4)):
        number = len(labels)
        given = scores(seed, tags=number)
        given = given._replace(potentials=4 * given.potentials)
        layer = bare(given, labels=labels, scheme=scheme)
        path = flat(layer(given.potentials, mask=MASK))[0]
        shares = flat(layer(given.potentials, mask=MASK, marginals=True))[0]
        for index in np.flatnonzero(MASK.any(axis=1)):
            row, valid = reference.row(given, index), MASK[index]
            right = np.array(
                [not tagging.faults([labels[t] for t in p], scheme) for p in row.paths]
            )
            if not right.any():
                continue
            seen += not right.all()
            row = reference.Row(row.paths[right], row.scores[right], [c[right] for c in row.counts])
            assert_equal(path[index, valid], row.best)
            assert_close(shares[index, valid], row.marginals, ATOL)
            if seed == 0:
                picked = np.zeros((1, TIME), int)
                picked[0, valid] = row.paths[-1]
                one = slice(index, index + 1)
                found = losses(layer, given.potentials[one], picked, MASK[one])
                assert_close(found, [row.loss(row.paths[-1])], 1e-11)
    assert seen > 10


def test_no_gain_is_worth_a_fault():
    """Not over thousands of steps: here each says I-X, which may never come."""
    layer = CRF(2, labels=["O", "I-X"], scheme="BIO", use_kernel=False)
    inputs = np.tile(np.float32([0, 100]), (1, 2000, 1))
    path, shares = tf.function(lambda x: (layer(x), layer(x, marginals=True)))(inputs)
    assert not np.any(path)
    assert_equal(shares, np.tile(np.float32([1, 0]), (1, 2000, 1)))


def test_tags_that_break_the_rules_have_a_huge_loss_and_finite_gradients():
    layer = CRF(3, labels=["O", "B-X", "I-X"], scheme="BIO", use_kernel=False)
    inputs = np.zeros((2, 4, 3), "float32")
    found, gradients = losses_and_gradients(layer, inputs, np.array([[0, 2, 0, 0], [0, 1, 2, 0]]))
    assert 1e6 < found[0] < np.inf and 0 < found[1] < 10
    assert all(
        np.isfinite(gradient).all() and np.abs(gradient).max() < 10 for gradient in gradients
    )


# What the loss takes.


def test_what_is_masked_does_not_matter():
    given, tags = scores(), random_tags()
    layer, other = bare(given), given.potentials.copy()
    other[~MASK] = 1e6
    garbage = np.where(MASK, tags, [[-7, 99, 3, -1, 5]])
    one = losses_and_gradients(layer, given.potentials, tags, MASK)
    assert_equal(losses_and_gradients(layer, other, garbage, MASK), one)
    assert_equal(layer(given.potentials, mask=MASK), layer(other, mask=MASK))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_with_a_negative_number_is_left_out(compiled):
    given, tags = scores(), random_tags()
    layer = bare(given)
    marked = np.where(MASK, tags, -100)
    expected = losses_and_gradients(layer, given.potentials, tags, MASK)
    assert_close(
        losses_and_gradients(layer, given.potentials, marked, None, compiled), expected, ATOL
    )
    both = np.random.default_rng(8).integers(0, 2, MASK.shape).astype(bool)
    expected = losses_and_gradients(layer, given.potentials, tags, MASK & both)
    assert_close(
        losses_and_gradients(layer, given.potentials, marked, both, compiled), expected, ATOL
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_a_number_without_a_tag_makes_its_row_no_number(compiled):
    given, tags = scores(), random_tags()
    tags[0, 1] = TAGS
    found, _ = losses_and_gradients(bare(given), given.potentials, tags, MASK, compiled)
    assert np.isnan(found[0]) and np.isfinite(found[1:]).all()


def test_tags_may_have_a_last_axis_and_any_number_type():
    given, tags = scores(), random_tags()
    layer = bare(given)
    expected = losses(layer, given.potentials, tags, MASK)
    for other in (tags[..., None], tags.astype("float32"), tags.astype("uint8"), tags.tolist()):
        assert_equal(losses(layer, given.potentials, other, MASK), expected)


def test_rows_are_weighed_and_reduced_as_keras_does():
    given, tags = scores(), random_tags()
    layer, weights = bare(given), np.random.default_rng(1).uniform(size=BATCH).astype("float32")
    each = flat(losses(layer, given.potentials, tags, MASK))[0]
    predicted = layer(given.potentials, mask=MASK)
    assert_close(CRF.loss(tags, predicted), each.mean(), 1e-5)
    assert_close(CRF.loss(tags, predicted, weights), (weights * each).mean(), 1e-5)
    assert_close(CRF.loss(tags, predicted, weights[:, None]), (weights * each).mean(), 1e-5)
    assert_close(CRFLoss("sum")(tags, predicted), each.sum(), 1e-4)
    again = keras.losses.deserialize(keras.losses.serialize(CRFLoss("sum", name="mine")))
    assert isinstance(again, CRFLoss) and again.reduction == "sum" and again.name == "mine"


def test_the_marginals_know_their_scores_too():
    given, tags = scores(), random_tags()
    layer = bare(given)
    given_tags, shares = (layer(given.potentials, mask=MASK, marginals=m) for m in (False, True))
    assert_equal(CRF.loss(tags, shares), CRF.loss(tags, given_tags))


# Models. Words that say which tag comes first, and then nothing: the transitions must know the rest.

WORDS, LENGTH = 5, 7


def sentences(count=24, length=LENGTH, seed=0):
    """Tags that go round and round from the first, which its word tells. Padded with zeros."""
    random = np.random.default_rng(seed)
    first, lengths = (
        random.integers(0, TAGS, (count, 1)),
        length - random.integers(0, 4, (count, 1)),
    )
    steps = np.arange(length)
    x = np.where(steps == 0, first + 1, WORDS - 1) * (steps < lengths)
    return x.astype("int32"), ((first + steps) % TAGS).astype("int32")


def tagger(length=LENGTH, compiled_by="sgd", **arguments):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((length,), dtype="int32"),
            keras.layers.Embedding(WORDS, 4, mask_zero=True),
            CRF(TAGS, transition_initializer=keras.initializers.RandomNormal(seed=2)),
        ]
    )
    optimizer = keras.optimizers.get({"class_name": compiled_by, "config": {"learning_rate": 0.1}})
    model.compile(optimizer, loss=CRF.loss, **arguments)
    return model


LABELS = ["O", "B-X", "I-X"]


@pytest.fixture(scope="module")
def trained():
    """A model that knows its task; the tests read and never change it."""
    metrics = [TokenAccuracy(), EntityF1(LABELS)]
    model = tagger(compiled_by="adam", metrics=metrics, jit_compile=False)
    x, y = sentences()
    history = model.fit(x, y, batch_size=8, epochs=12, validation_data=(x, y), verbose=0).history
    return model, history


def test_it_trains_and_decodes(trained):
    model, history = trained
    x, y = sentences(seed=1)
    assert history["loss"][-1] < 0.1 * history["loss"][0]
    predicted = model.predict(x, verbose=0)
    assert predicted.dtype == np.int32
    assert_equal(predicted, np.where(x > 0, y, 0))
    assert history["token_accuracy"][-1] == history["val_token_accuracy"][-1] == 1
    assert history["entity_f1"][-1] == history["val_entity_f1"][-1] == 1
    assert history["token_accuracy"][0] < 1


def test_evaluate_gives_the_loss_and_the_metrics_of_the_mask(trained):
    model, _ = trained
    x, y = sentences(seed=2)
    wrong = np.where(np.arange(LENGTH) == 1, (y + 1) % TAGS, y)
    found = model.evaluate(x, wrong, batch_size=8, verbose=0, return_dict=True)
    assert found["token_accuracy"] == pytest.approx(1 - len(x) / (x > 0).sum())
    assert found["entity_f1"] < 1
    assert found["loss"] == pytest.approx(float(CRF.loss(wrong, model(x))), rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"run_eagerly": True}, marks=pytest.mark.slow),
        {"jit_compile": True},
        pytest.param({"jit_compile": "auto"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_every_way_of_running_gives_the_same(options, trained):
    x, y = sentences(8)
    models = [tagger(**options), tagger(jit_compile=False)]
    for model in models:
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    one, other = models
    assert_close(one.get_weights(), other.get_weights(), 1e-6)
    for model in models:  # No path of the trained one is nearly as good as the best.
        model.set_weights(trained[0].get_weights())
    assert_equal(one.predict_on_batch(x), other.predict_on_batch(x))


def test_sequences_of_the_weight_zero_are_left_out_of_the_gradient():
    x, y = sentences(8)
    weights = np.float32([1, 0, 1, 0, 0, 0, 2, 1])
    whole, part = tagger(jit_compile=False), tagger(jit_compile=False)
    other = np.where(weights[:, None] == 0, (y * 2 + 1) % TAGS, y)
    for model, tags in ((whole, y), (part, other)):
        model.train_on_batch(x, tags, sample_weight=weights)
    assert_equal(whole.get_weights(), part.get_weights())
    assert np.any(whole.get_weights()[1] != tagger().get_weights()[1])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_with_mixed_precision_all_but_the_projection_is_float32(policy):
    inputs = np.random.default_rng(0).normal(size=(BATCH, TIME, 4)).astype("float32")
    half, tags = CRF(TAGS, dtype=policy), random_tags()
    half.build(inputs.shape)
    randomise(half)
    narrow = policy.removeprefix("mixed_")
    kernel, bias = (tf.cast(weight, narrow) for weight in half.get_weights()[:2])
    potentials = tf.cast(tf.matmul(tf.cast(inputs, narrow), kernel) + bias, "float32")
    whole = bare(reference.Scores(potentials, *half.get_weights()[2:], MASK), "float32")
    given, expected = (
        losses_and_gradients(layer, x, tags, MASK, compiled)
        for layer, x, compiled in ((half, inputs, True), (whole, potentials, False))
    )
    assert_close(given[0], expected[0], 1e-5)
    assert_close(given[1][-3:], expected[1][-3:], 1e-5)
    assert all(gradient.dtype == "float32" for gradient in given[1])
    assert_equal(half(inputs, mask=MASK), whole(potentials, mask=MASK))
    shares = half(inputs, mask=MASK, marginals=True)
    assert shares.dtype == "float32"
    assert_close(shares, whole(potentials, mask=MASK, marginals=True), 1e-6)
    assert half.compute_output_spec(keras.KerasTensor((2, 5, 4)), marginals=True).dtype == "float32"


def test_fit_in_float16_with_a_scaled_loss():
    x, y = sentences(8)
    model = keras.Sequential(
        [
            keras.Input((LENGTH,)),
            keras.layers.Embedding(WORDS, 4, mask_zero=True, dtype="mixed_float16"),
        ]
    )
    model.add(CRF(TAGS, dtype="mixed_float16"))
    model.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1)),
        loss=CRF.loss,
        jit_compile=False,
    )
    found = model.fit(x, y, batch_size=8, epochs=20, verbose=0).history["loss"]
    assert found[-1] < 0.5 * found[0]


# Any length.


def test_batches_of_any_length_give_what_they_give_alone():
    model = tagger(None, jit_compile=False)
    layer = model.layers[-1]
    signature = [tf.TensorSpec((None, None), "int32")] * 2

    @tf.function(input_signature=signature)
    def run(x, y):
        with tf.GradientTape() as tape:
            loss = CRF.loss(y, model(x))
        return loss, tape.gradient(loss, layer.trainable_weights)

    for length in (0, 1, 9):
        x, y = sentences(3, length)
        with tf.GradientTape() as tape:
            loss = CRF.loss(y, model(x))
        expected = loss, tape.gradient(loss, layer.trainable_weights)
        assert_close(run(x, y), expected)
        assert model.predict_on_batch(x).shape == (3, length)


def test_few_lengths_are_compiled(monkeypatch):
    seen = set()

    def values(function, floats, others):
        def note(shape):
            seen.add(tuple(shape))
            return np.int32(0)

        noted = tf.numpy_function(note, [tf.shape(floats[0])], "int32")
        with tf.control_dependencies([noted]):
            return function(tf.identity(floats[0]), *floats[1:], *others)

    monkeypatch.setattr(fast, "values", values)

    def batches():
        for length in range(51, 65):
            yield sentences(2, length)

    spec = (tf.TensorSpec((None, None), "int32"),) * 2
    data = tf.data.Dataset.from_generator(batches, output_signature=spec)
    data = data.apply(tf.data.experimental.assert_cardinality(14))
    tagger(None, jit_compile=False).fit(data, shuffle=False, verbose=0)
    assert seen == {(2, 56, TAGS), (2, 64, TAGS)}


# Saved.


def test_a_keras_file_goes_on_where_it_was(trained, tmp_path):
    model, _ = trained
    path, (x, y) = tmp_path / "model.keras", sentences(8, seed=3)
    model.save(path)
    loaded = keras.models.load_model(path)
    assert_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))
    assert isinstance(loaded.loss, CRFLoss)
    own, kept = ([v.value for v in m.optimizer.variables] for m in (loaded, model))
    assert_equal(own, kept)
    found = loaded.fit(x, y, batch_size=8, epochs=2, verbose=0).history["loss"]
    assert found[0] == pytest.approx(float(CRF.loss(y, model(x))), rel=1e-4)
    assert found[1] < found[0]


def test_a_saved_model_decodes(trained, tmp_path):
    model, _ = trained
    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "exported")
    x, _ = sentences(5, seed=4)
    assert_equal(loaded.serve(x), model.predict_on_batch(x))


def test_the_configuration_survives():
    layer = CRF(
        3,
        labels=LABELS,
        scheme="BIO",
        use_bias=False,
        transition_initializer="ones",
        kernel_regularizer="l2",
        transition_regularizer=keras.regularizers.L1(0.5),
        name="mine",
    )
    again = CRF.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    inputs = np.ones((1, 2, 3), "float32")
    again(inputs)
    assert [weight.path for weight in again.weights] == [
        f"mine/{name}" for name in ("kernel", "transitions", "start_scores", "end_scores")
    ]
    assert float(again.losses[1]) == 0.5 * 9 and len(again.losses) == 2
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert loaded.labels == LABELS and loaded.scheme == "BIO"


# In larger models.


def test_two_crfs_and_another_output_each_have_their_loss():
    x, y = sentences(8)
    words = keras.Input((LENGTH,), dtype="int32")
    embedded = keras.layers.Embedding(WORDS, 4, mask_zero=True)(words)
    outputs = {
        "one": CRF(TAGS, name="one")(embedded),
        "two": CRF(TAGS, name="two")(embedded),
        "whole": keras.layers.Dense(1)(keras.layers.GlobalAveragePooling1D()(embedded)),
    }
    model = keras.Model(words, outputs)
    wanted = {"one": CRF.loss, "two": CRF.loss, "whole": "mse"}
    accuracy, shares = {"two": [TokenAccuracy()]}, {"one": 2.0, "two": 1.0, "whole": 1.0}
    model.compile("sgd", wanted, metrics=accuracy, loss_weights=shares, jit_compile=False)
    targets = {"one": y, "two": (y + 1) % TAGS, "whole": np.ones((8, 1), "float32")}
    predicted = model(x)
    parts = {name: float(CRF.loss(targets[name], predicted[name])) for name in ("one", "two")}
    parts["whole"] = float(np.mean((predicted["whole"] - 1) ** 2))
    found = model.fit(x, targets, batch_size=8, verbose=0).history
    assert found["loss"][0] == pytest.approx(
        2 * parts["one"] + parts["two"] + parts["whole"], rel=1e-4
    )
    assert "two_token_accuracy" in found


def test_inside_another_model():
    x, y = sentences(8)
    flat_model, inner = tagger(jit_compile=False), tagger(jit_compile=False)
    words = keras.Input((LENGTH,), dtype="int32")
    outer = keras.Model(words, inner(words))
    outer.compile(keras.optimizers.SGD(0.1), CRF.loss, jit_compile=False)
    for model in (flat_model, outer):
        model.fit(x, y, batch_size=8, verbose=0)
    assert_close(outer.get_weights(), flat_model.get_weights())
    assert_equal(outer.predict_on_batch(x), flat_model.predict_on_batch(x))


@pytest.mark.slow
def test_after_the_layers_of_the_package():
    x, y = sentences(8)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(WORDS, 4, mask_zero=True),
            keras.layers.Bidirectional(kerasrnn.layers.PeepholeLSTM(4, return_sequences=True)),
            CRF(TAGS),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05), loss=CRF.loss, jit_compile=False)
    found = model.fit(x, y, batch_size=8, epochs=10, verbose=0).history["loss"]
    assert found[-1] < found[0]
    assert model.predict_on_batch(x).shape == y.shape


# What goes wrong.


@pytest.mark.parametrize("number", [0, -1, 2.5, True, "3", None])
def test_the_number_of_tags_is_a_positive_integer(number):
    with says(ValueError, "`num_tags` must be a positive integer", repr(number)):
        CRF(number)


@pytest.mark.parametrize("labels", [["O", "B-X"], "OBI"])
def test_labels_name_every_tag(labels):
    with says(
        ValueError, "`labels` must be a list with a name for each of the 3 tags", repr(labels)
    ):
        CRF(3, labels=labels)


def test_a_scheme_needs_labels_of_its_own():
    with says(ValueError, "`scheme` needs `labels`"):
        CRF(3, scheme="BIO")
    with says(ValueError, "BIO, IOB1, BIOES, BILOU", "'bio'"):
        CRF(3, labels=LABELS, scheme="bio")
    with says(ValueError, "'S-X' is not a label of BIO"):
        CRF(2, labels=["O", "S-X"], scheme="BIO")


def test_inputs_of_another_shape():
    with says(ValueError, "3 features", "(2, 5, 4)"):
        CRF(3, use_kernel=False)(np.zeros((2, 5, 4)))
    with says(ValueError, "ndim=3", "(2, 5)"):
        CRF(3)(np.zeros((2, 5)))
    layer = CRF(3)
    layer(np.zeros((2, 5, 4)))
    with says(ValueError, "(2, 5, 6)"):
        layer(np.zeros((2, 5, 6)))


@pytest.mark.parametrize("shape", [(2, 6), (2,), (2, 5, 1), (3, 5)])
def test_a_mask_of_another_shape(shape):
    with says(ValueError, "`mask` must have the shape (batch, time), here (2, 5)", str(shape)):
        CRF(3)(np.zeros((2, 5, 4)), mask=np.ones(shape, bool))


@pytest.mark.parametrize("shape", [(2, 6), (2, 1), (2,), (2, 5, 3), (3, 5)])
def test_tags_of_another_shape(shape):
    predicted = CRF(3)(np.zeros((2, 5, 4)))
    with says(ValueError, "`y_true` must hold the numbers of the tags", "(2, 5)", str(shape)):
        CRF.loss(np.zeros(shape, "int32"), predicted)


def test_a_weight_for_each_step_is_refused():
    predicted = CRF(3)(np.zeros((2, 5, 4)))
    with says(ValueError, "`sample_weight` must have the shape (batch,)", "(2, 5)", "mask"):
        CRF.loss(np.zeros((2, 5), "int32"), predicted, np.ones((2, 5)))
    x, y = sentences(4)
    with says(ValueError, "`sample_weight`", "mask"):
        tagger().fit(x, y, sample_weight=np.ones(y.shape), verbose=0)


def test_the_loss_takes_what_a_crf_gives_and_nothing_else():
    with says(ValueError, "`CRF.loss` takes the tags that a `CRF` layer gives", "(2, 5, 3)"):
        CRF.loss(np.zeros((2, 5)), keras.ops.zeros((2, 5, 3)))
    model = keras.Sequential([keras.Input((5, 4)), keras.layers.Dense(3)])
    model.compile("sgd", CRF.loss, jit_compile=False)
    with says(ValueError, "make the layer the model's output"):
        model.fit(np.zeros((2, 5, 4)), np.zeros((2, 5)), verbose=0)
