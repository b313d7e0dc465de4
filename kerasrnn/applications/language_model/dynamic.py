"""Dynamic evaluation: a model that goes on learning from the text that it is measured on."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

from kerasrnn.applications._parts import check_numbers
from kerasrnn.applications.language_model.data import Windows

DIVERGED = (
    "The model has diverged at the learning rate {}: choose a smaller one. (Or its weights were not "
    "numbers before.)"
)


def measure_dynamically(
    model: Any,
    windows: Windows,
    metric: Any,
    learning_rate: float = 0.0003,
    show_progress: bool = True,
) -> float:
    """Measure a model that learns from each window once that has been measured.

    Names and habits of speech that a text repeats, and the training text did not have, so become known
    (Mikolov et al. 2010, https://www.isca-archive.org/interspeech_2010/mikolov10_interspeech.html;
    Krause et al. 2018, https://arxiv.org/abs/1709.07432). Each token is still predicted from those
    before it alone: no window is learned from before it is measured. But the model that ends is not the
    one that began, so the figure is to be reported as what it is. The steps are those of plain Adam,
    without dropout, and without the decay towards the trained weights that Krause et al. have. In the end
    the model is as it was.

    Args:
        model: A `LanguageModel`, compiled or not.
        windows: The text, in one lane: of several, one would be learned from before the others are
            measured. Short windows learn sooner.
        metric: A fresh metric of logits, such as `kerasrnn.metrics.Perplexity()`.
        learning_rate: That of Adam, to be chosen on a validation text: the default was, for the characters
            of Shakespeare in windows of 20. At 0 nothing is learned.
        show_progress: Whether to draw a progress bar.

    Returns:
        The metric's value over all that `windows` predicts.

    Raises:
        ValueError: If `learning_rate` is no number of at least 0, or so large that the model diverges; or
            `windows` have several lanes.

    Example:

    >>> import kerasrnn, numpy as np
    >>> from kerasrnn.applications.language_model.data import Encoder, Tokens, Windows
    >>> from kerasrnn.applications.language_model.dynamic import measure_dynamically
    >>> model = kerasrnn.applications.LanguageModel(
    ...     ["a", "b", "c"], level="character", units=4, embedding_dim=4, seed=1)
    >>> numbers = Encoder(model.tokens, "character").encode(b"abcabcabc" * 20)
    >>> windows = Windows(Tokens(numbers, np.array([0, 180])), batch_size=1, window=10)
    >>> bits = [measure_dynamically(model, windows, kerasrnn.metrics.BitsPerCharacter(), rate, False)
    ...         for rate in (0.0, 0.03)]
    >>> bits[0] > bits[1]  # it has come to expect the next letter
    True
    """
    check_numbers(learning_rate=learning_rate)
    if windows.batch_size != 1:
        raise ValueError(
            f"`windows` must be made with `batch_size` 1, got {windows.batch_size}: of several lanes, one "
            "would be learned from before the others are measured."
        )
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )

    @tf.function(autograph=False, reduce_retracing=True)  # random lengths are several
    def measure_and_learn(inputs: Any, targets: Any, weights: Any) -> None:
        with tf.GradientTape() as tape:
            logits = model(inputs, training=False)
            value = loss(targets, logits, weights)
        metric.update_state(targets, logits, weights)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(value, [each.value for each in variables]), variables)

    learned = model.get_weights()
    batches = tqdm(
        windows.batches(), unit="window", leave=False, disable=None if show_progress else True
    )
    try:
        for batch in batches:
            measure_and_learn(*batch)
    finally:
        model.set_weights(learned)
    if not math.isfinite(value := float(metric.result())):
        raise ValueError(DIVERGED.format(learning_rate))
    return value
