"""What is done with every data set: held-out parts, and batches of sequences of like length."""

from __future__ import annotations

import abc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from kerasrnn.applications._pipeline import in_advance
from kerasrnn.applications._runs import RunFolder, config_of
from kerasrnn.applications._training import TrainingConfig

Tensor = Any


# `set`, `set/configuration` or `set:version`.
TFDS_NAME = re.compile(r"[a-z]\w*(/[\w.+-]+)?(:[\d.*]+)?")


def three_parts(parts: dict[str, Any], config: TrainingConfig, name: str, what: str) -> list[Any]:
    """What to learn from, to choose the epoch by, and to measure on.

    Args:
        parts: The parts that the data set comes with: `"train"`, and perhaps `"validation"` and
            `"test"`. What is missing is cut off the training part.
        config: The settings: how much is cut off, and by which seed.
        name: The name of the data set.
        what: What it holds: "text", say.

    Raises:
        ValueError: If a fraction is none, or nothing is left for a part.
    """
    for setting in ("test_fraction", "validation_fraction"):
        fraction = getattr(config, setting)
        if fraction is not None and not 0 < fraction < 1:
            raise ValueError(f"`{setting}` must lie between 0 and 1, got {fraction!r}.")
    rest: Any = parts["train"]
    validation: Any = parts.get("validation")
    test: Any = parts.get("test")
    if test is None:
        test, rest = rest.split(config.test_fraction, config.seed)
    if validation is None:
        fraction = config.validation_fraction or min(0.1, 1000 / max(1, len(rest)))
        validation, rest = rest.split(fraction, config.seed)
    found = {"training": rest, "validation": validation, "test": test}
    for part, rows in found.items():
        if not len(rows):
            raise ValueError(f"The data set {name!r} is too small: no {what} is left for {part}.")
    return list(found.values())


def held_out(
    run: str | Path,
    data: Any,
    kind: type[TrainingConfig],
    load_corpus: Callable[[Any], Any],
    read_parts: Callable[[Any], dict[str, Any]],
    part: Literal["test", "validation"] = "test",
) -> tuple[str, Any, Any]:
    """What to measure a trained model on: the name of the part, the data set, and the rows.

    Args:
        run: The folder of the run.
        data: The settings that name a data set: its test part is taken, or all of one that has none.
            Where they name none, what the run itself held out.
        kind: The class of the run's settings.
        load_corpus: From the settings to the three parts.
        read_parts: From `data` to the parts that the data set comes with.
        part: The part to take. One to choose settings by must be there, or have been held out.

    Raises:
        ValueError: If there is no such part.
    """
    if part not in ("test", "validation"):
        raise ValueError(f"`part` must be 'test' or 'validation', got {part!r}.")
    if data.dataset:
        parts = read_parts(data)
        if part not in parts and part != "test":
            raise ValueError(f"`part` is {part!r}, but the data set has only {', '.join(parts)}.")
        return part if part in parts else "all", data.dataset, parts.get(part, parts["train"])
    config: Any = config_of(run, kind, data.data_dir)
    corpus = load_corpus(config)
    RunFolder(run).check_data(corpus.digest())
    return part, config.dataset, getattr(corpus, part)


# The most shapes of batches: the layers are compiled for each.
SHAPES = 8


class LengthBatches(abc.ABC):
    """Cuts sequences into batches in which like lengths are together.

    A data set of the batches knows its length. The time of a batch is one of few values, as the
    layers are compiled for each: there are at most eight shapes, in all epochs together.

    A subclass says in `read` what a batch is.

    Args:
        lengths: The lengths of the sequences.
    """

    def __init__(self, lengths: np.ndarray) -> None:
        self.lengths = lengths
        # One shape is left for the batch that is not full.
        count = SHAPES - 1
        parts = np.quantile(lengths, np.arange(1, count + 1) / count, method="higher")
        times = np.unique(np.maximum(parts, 1)).astype(np.int64)
        self.usual = times[-1]
        # A few sequences that are much longer than the others must not make many others as long.
        while len(times) > 1 and times[-1] > 2.5 * times[-2]:
            self.usual = min(self.usual, 2 * times[-2])
            times = np.insert(times, -1, 2 * times[-2])
        # If one of these few is in that batch, it has yet another shape.
        count -= self.usual < times[-1]
        while len(times) > count:
            # The one is left out that leaves the least to be padded.
            held = np.bincount(np.searchsorted(times, lengths), minlength=len(times))
            times = np.delete(times, np.argmin(held[:-1] * np.diff(times)))
        self.times = times

    @abc.abstractmethod
    def read(self, numbers: Tensor, time: Tensor) -> Any:
        """A batch: the sequences with these numbers, int `(batch,)`, padded to the length `time`."""

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """All sequences once, from the shortest to the longest."""
        order = tf.constant(np.argsort(self.lengths, kind="stable"))
        return in_advance(self._batches(order, 0, batch_size))

    def training_batches(
        self, batch_size: int, seed: int, first: int, last: int
    ) -> tf.data.Dataset:
        """The batches of the epochs from `first` up to `last`, each in an order of its own.

        The order is a function of the seed and the epoch's number, so that a run that goes on in a
        new process sees the same batches as one that was never stopped.
        """
        whole = len(self.lengths) // batch_size

        def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
            # Sorted by a length that is off by up to a fifth, so that no sequence has the same company.
            off, batch_seed, rest = tf.unstack(
                tf.random.experimental.stateless_split([seed, epoch], num=3)
            )
            factor = tf.random.stateless_uniform([len(self.lengths)], off, 0.8, 1.2)
            order = tf.argsort(tf.cast(self.lengths + 1, tf.float32) * factor)
            where = tf.random.stateless_uniform([], rest, 0, whole + 1, tf.int32)
            return self._batches(order, where, batch_size, batch_seed)

        epochs = tf.data.Dataset.range(first, last).flat_map(epoch_batches)
        steps = self.count(batch_size) * (last - first)
        known = epochs.apply(tf.data.experimental.assert_cardinality(steps))
        return in_advance(known)

    def count(self, batch_size: int) -> int:
        """The number of batches in an epoch."""
        return -(-len(self.lengths) // batch_size)

    def _batches(
        self, order: tf.Tensor, where: Any, batch_size: int, seed: Any = None
    ) -> tf.data.Dataset:
        """Cut an order into batches and, with a seed, shuffle these.

        Args:
            order: The numbers of the sequences.
            where: How many full batches come before the rest that fills none.
            batch_size: Sequences in a batch.
            seed: For the shuffling.
        """
        whole, rest = divmod(len(self.lengths), batch_size)
        start = where * batch_size
        full = tf.concat([order[:start], order[start + rest :]], axis=0)
        full = tf.reshape(full, [whole, batch_size])
        if seed is not None:
            full = tf.random.experimental.stateless_shuffle(full, seed)
        batches = tf.data.Dataset.from_tensor_slices(full)
        batches = batches.map(self._read, num_parallel_calls=tf.data.AUTOTUNE)
        if rest:
            # Of one shape in every epoch, wherever it is cut out.
            last = tf.data.Dataset.from_tensors(order[start : start + rest])
            batches = batches.concatenate(last.map(self._read_rest))
        return batches

    def _read(self, numbers: tf.Tensor) -> Any:
        place = tf.searchsorted(self.times, self._longest(numbers)[None])[0]
        return self.read(numbers, tf.gather(self.times, place))

    def _read_rest(self, numbers: tf.Tensor) -> Any:
        fits = self._longest(numbers) <= self.usual
        return self.read(numbers, tf.where(fits, self.usual, self.times[-1]))

    def _longest(self, numbers: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(tf.gather(tf.constant(self.lengths, tf.int64), numbers))
