"""Dynamic evaluation: what it measures, that the model stays as it was, and what is refused."""

import math

import numpy as np
import pytest

from kerasrnn.applications.language_model.data import Tokens, Windows
from kerasrnn.applications.language_model.dynamic import measure_dynamically
from kerasrnn.metrics import BitsPerCharacter, Perplexity
from tests.applications.test_language_model import language_model, log_softmax

# A text with a rule that the model does not know: the words 1 to 6 in turn, and then the boundary.
NUMBERS = 1 + np.arange(120) % 7


def windows(**arguments) -> Windows:
    made = {"batch_size": 1, "window": 10} | arguments
    return Windows(Tokens(NUMBERS, np.array([0, len(NUMBERS)])), **made)


def measured(model, learning_rate, metric=Perplexity, **arguments) -> float:
    return measure_dynamically(model, windows(**arguments), metric(), learning_rate, False)


@pytest.fixture(scope="module")
def model():
    return language_model(num_layers=1, cell="simple_rnn")


@pytest.fixture
def unchanged(model):
    """The model's weights are after the test what they were before."""
    before = model.get_weights()
    yield
    for weight, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, was)


@pytest.mark.usefixtures("unchanged")
def test_a_model_of_words_learns_what_it_has_been_measured_on(model):
    scores = log_softmax(model(NUMBERS[None, :-1]))[0]
    plain = math.exp(-scores[np.arange(len(scores)), NUMBERS[1:]].mean())
    # Where nothing is learned it is all one how the text is cut.
    assert measured(model, 0.0, window=2, random_lengths=True) == pytest.approx(plain, rel=1e-5)
    assert measured(model, 0.1) < 0.8 * plain


@pytest.mark.usefixtures("unchanged")
def test_the_weights_come_back_when_something_breaks(model):
    def interrupted():
        yield from (batch for batch, _ in zip(windows().batches(), range(3), strict=False))
        changed.append(model.get_weights())
        raise KeyboardInterrupt

    before, changed, cut = model.get_weights(), [], windows()
    cut.batches = interrupted
    with pytest.raises(KeyboardInterrupt):
        measure_dynamically(model, cut, Perplexity(), 0.03, False)
    assert any((now != was).any() for now, was in zip(changed[0], before, strict=True))


@pytest.mark.usefixtures("unchanged")
def test_a_model_that_diverges_is_no_measurement(model):
    with pytest.raises(ValueError, match=r"diverged at the learning rate 1000.0: choose a smaller"):
        measured(model, 1000.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": -0.1}, "`learning_rate` must be a number of at least 0, got -0.1"),
        ({"learning_rate": math.nan}, "`learning_rate` must be a number of at least 0, got nan"),
        ({"learning_rate": math.inf}, "`learning_rate` must be a number of at least 0, got inf"),
        ({"learning_rate": "0.1"}, "`learning_rate` must be a number of at least 0, got '0.1'"),
        (
            {"learning_rate": 0.1, "batch_size": 2},
            "`windows` must be made with `batch_size` 1, got 2",
        ),
    ],
)
def test_what_cannot_be_is_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        measured(model, metric=BitsPerCharacter, **arguments)
