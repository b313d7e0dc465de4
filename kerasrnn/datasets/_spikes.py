"""Problems of time: measuring the delays between spikes, and making spikes with given delays."""

from __future__ import annotations

import numpy as np

from kerasrnn.datasets._problems import Dataset, dataset, drawn, integer


def spike_delays(
    *,
    min_delay: int = 10,
    max_delay: int = 20,
    intervals: int = 5,
    examples: int = 10_000,
    seed: int = 0,
) -> Dataset:
    """Measuring spike delays: say at each spike how long ago the one before was.

    The task MSD of Gers, Schraudolph & Schmidhuber 2002
    (https://www.jmlr.org/papers/v3/gers02a.html), one of those for which LSTM got its peepholes.
    The first spike is at the first step; each delay to the next is drawn uniformly. The target is
    the part of the delay that varies, scaled to 0 to 1:
    `(delay - min_delay) / (max_delay - min_delay)`, and 0 if all delays are equal.

    With `n = max_delay - min_delay` at least 1, always saying 0.5 has the mean squared error
    `(n + 2) / (12 * n)`: 0.1 by default. This is a mean over the spikes, as in
    `compile(weighted_metrics=["mse"])`; the loss `"mse"` divides the same sum by the number of
    steps.

    Args:
        min_delay: The shortest delay in steps, at least 1.
        max_delay: The longest, at least `min_delay`.
        intervals: The delays in a sequence, at least 1: there is one spike more.
        examples: How many there are, at least 0.
        seed: The same seed gives the same examples. At least 0.

    Returns:
        A `tf.data.Dataset` of `(inputs, targets, sample_weights)`, with
        `length = intervals * max_delay + 1`: float32 `(length, 1)`, 1 at a spike and else 0;
        float32 `(length, 1)`, the scaled delay at a spike and else 0, for mean squared error; and
        float32 `(length,)`, 1 at every spike but the first and else 0.

    Raises:
        ValueError: If an argument is not an integer, or not an allowed one.

    Example:

    >>> import kerasrnn, numpy as np
    >>> data = kerasrnn.datasets.spike_delays(min_delay=2, max_delay=4, intervals=3, examples=100)
    >>> spikes, targets, weights = next(data.as_numpy_iterator())
    >>> spikes.shape, targets.shape, weights.shape
    ((13, 1), (13, 1), (13,))
    >>> delays = np.diff(np.flatnonzero(spikes))
    >>> delays.tolist() == (2 + 2 * targets[weights == 1, 0]).tolist()
    True
    """
    delays, scaled, length = _delays(min_delay, max_delay, intervals, examples, seed)
    times = delays.cumsum(axis=1)
    weights, targets = np.zeros((2, len(delays), length + 1), np.float32)
    np.put_along_axis(weights, times, 1.0, axis=1)
    np.put_along_axis(targets, times, scaled, axis=1)
    spikes = weights.copy()
    spikes[:, 0] = 1.0
    return dataset(spikes[..., None], targets[..., None], weights)


def timed_spikes(
    *,
    min_delay: int = 10,
    max_delay: int = 20,
    intervals: int = 5,
    examples: int = 10_000,
    seed: int = 0,
) -> Dataset:
    """Generating timed spikes: make a spike when the delay that the input tells is over.

    The task GTS of Gers, Schraudolph & Schmidhuber 2002
    (https://www.jmlr.org/papers/v3/gers02a.html), which is `spike_delays` the other way round: the
    delays are the inputs, the spikes are the targets. A sequence is made of intervals. In each the
    input is its scaled delay, up to the step of the spike, which is the interval's last: so the
    input changes only after the spike and does not tell when it is due. Equal delays,
    `min_delay == max_delay`, make a periodic signal from an input of 0.

    About `p = 2 / (min_delay + max_delay)` of the steps have a spike. Always saying `p` has the
    mean squared error `p * (1 - p)`: 0.062 by default, as a mean over the steps that have a weight.

    Args:
        min_delay: The shortest delay in steps, at least 1.
        max_delay: The longest, at least `min_delay`.
        intervals: The delays, and so the spikes, in a sequence, at least 1.
        examples: How many there are, at least 0.
        seed: The same seed gives the same examples. At least 0.

    Returns:
        A `tf.data.Dataset` of `(inputs, targets, sample_weights)`, with
        `length = intervals * max_delay`: float32 `(length, 1)`,
        `(delay - min_delay) / (max_delay - min_delay)`; float32 `(length, 1)`, 1 at a spike and
        else 0, for binary cross-entropy or mean squared error; and float32 `(length,)`, 1 up to the
        last spike and 0 after it.

    Raises:
        ValueError: If an argument is not an integer, or not an allowed one.

    Example:

    >>> import kerasrnn
    >>> data = kerasrnn.datasets.timed_spikes(min_delay=3, max_delay=3, intervals=2, examples=1)
    >>> delays, spikes, weights = next(data.as_numpy_iterator())
    >>> spikes[:, 0].tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    """
    delays, scaled, length = _delays(min_delay, max_delay, intervals, examples, seed)
    spikes = np.zeros((len(delays), length), np.float32)
    np.put_along_axis(spikes, delays.cumsum(axis=1) - 1, 1.0, axis=1)
    # The spikes before a step are the number of the interval that it is in.
    interval = (spikes.cumsum(axis=1) - spikes).astype(np.int64)
    weights = (interval < intervals).astype(np.float32)
    told = np.take_along_axis(scaled, np.minimum(interval, intervals - 1), axis=1) * weights
    return dataset(told[..., None], spikes[..., None], weights)


def _delays(
    min_delay: int, max_delay: int, intervals: int, examples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """The delays, `(examples, intervals)`, in steps and scaled to 0 to 1; the most steps in all."""
    least = integer("min_delay", min_delay, 1)
    most = integer("max_delay", max_delay, least)
    intervals = integer("intervals", intervals, 1)
    examples, random = drawn(examples, seed)
    delays = random.integers(least, most + 1, (examples, intervals))
    scaled = ((delays - least) / max(1, most - least)).astype(np.float32)
    return delays, scaled, intervals * most
