"""A process of `test_strategy.py`: `python -m tests.applications._worker STRATEGY OUT [SETTINGS]`."""

import importlib
import json
import os
import signal
import sys
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import kerasrnn_cli
from kerasrnn.applications._strategy import Team, replicated, sequences

EXAMPLES, WORDS = 13, 12


@keras.saving.register_keras_serializable("tests")
class Seen(keras.metrics.Metric):
    """How often each example was there; its number is its target's second column."""

    def __init__(self, name="seen"):
        super().__init__(name=name)
        self.counts = self.add_variable((EXAMPLES,), "zeros", name="counts")
        self.ever = tf.Variable(tf.zeros(EXAMPLES), trainable=False)  # what nobody sums or resets

    def update_state(self, y_true, y_pred, sample_weight=None):
        here = tf.reduce_sum(tf.one_hot(tf.cast(y_true[:, 1], tf.int32), EXAMPLES), axis=0)
        self.counts.assign_add(here)
        self.ever.assign_add(here)

    def result(self):
        return tf.reduce_max(tf.abs(self.counts - 1))  # 0 if each was there once


class Penalty(keras.layers.Layer):
    """A mean over the batch. `activity_regularizer` is a sum in Keras 3.10."""

    def call(self, x):
        self.add_loss(0.01 * tf.reduce_mean(x**2))
        return x


def train_plainly(team, callbacks=()):
    """Train a small model with masks, weights of the examples, sparse gradients and a penalty.

    There are five batches in an epoch; the last one has a single example.
    """
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(1)
    ids = random.integers(1, WORDS, (EXAMPLES, 5)) * (random.random((EXAMPLES, 5)) < 0.7)
    targets = np.stack([random.normal(size=EXAMPLES), np.arange(EXAMPLES)], axis=1)
    rows = (ids, targets.astype("float32"), random.random(EXAMPLES).astype("float32"))
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(3)
    model = keras.Sequential(
        [
            keras.layers.Embedding(WORDS, 4, mask_zero=True),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1),
            Penalty(),
        ]
    )
    model.build((None, 5))
    seen = Seen()
    model.compile(
        keras.optimizers.Adam(0.05, global_clipnorm=0.1),
        lambda true, given: (true[:, 0] - given[:, 0]) ** 2,
        metrics=[seen],
        weighted_metrics=["mse"],
    )
    with replicated(team, model, sequences, 5, 5):
        fitted = model.fit(
            batches,
            validation_data=batches,
            epochs=3,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        )
    return {
        "weights": np.concatenate([v.numpy().ravel() for v in model.weights]),
        "history": np.array([fitted.history[name] for name in sorted(fitted.history)]),
        "seen": np.array(fitted.history["seen"] + fitted.history["val_seen"]),
        "ever": seen.ever.numpy(),
    }


class Watcher(keras.callbacks.Callback):
    """Keeps the weights at the end of training; or ends the process before, as a failing machine does.

    Args:
        kill: The epoch and the batch after which to end it.
    """

    def __init__(self, kill=None):
        super().__init__()
        self.kill = kill
        self.weights = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_end(self, logs=None):
        self.weights = np.concatenate([v.numpy().ravel() for v in self.model.trainable_weights])


def train_task(name, settings, kill=None, **more):
    """Train by a task.

    Args:
        name: The task.
        settings: Its settings.
        kill: The worker that dies, and the epoch and the batch after which it does.
        **more: Further settings.
    """
    task = importlib.import_module(f"kerasrnn.applications.{name}.task")
    config = importlib.import_module(f"kerasrnn.applications.{name}.config")
    watchers = []

    def watched(model, *arguments, team, callbacks=(), **options):
        watchers.append(Watcher(tuple(kill[1:]) if kill and kill[0] == team.worker else None))
        return fit(model, *arguments, team=team, callbacks=[*callbacks, *watchers], **options)

    fit = task.fit
    # A list in JSON is a tuple here.
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    with (
        mock.patch.object(task, "fit", watched),
        mock.patch.object(task, "save_model"),
    ):
        task.train(getattr(config, CONFIGS[name])(**settings, **more))
    return {"weights": watchers[0].weights}


def go_wrong(team):
    """What worker 0 is told when worker 1 has another seed, dies in an epoch, and is gone before one."""
    failures = {
        "differ": lambda: team.agree(task="plain", seed=team.worker),
        "died": lambda: train_plainly(team, [Watcher((0, 1))] if team.worker else []),
        "gone": lambda: team.agree(task="plain"),
    }
    for when, fail in failures.items():
        try:
            fail()
        except (ValueError, ConnectionError) as error:
            yield when, np.array(str(error))


CONFIGS = {
    "sentiment": "SentimentConfig",
    "sequence_labeling": "SequenceLabelingConfig",
    "language_model": "LanguageModelConfig",
}

if __name__ == "__main__":
    kerasrnn_cli.load_tensorflow()  # as the command does
    strategy, out, *given = sys.argv[1:]
    if strategy == "mirrored":
        (cpu, *_) = tf.config.list_physical_devices("CPU")
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
    if given:
        found = train_task(**json.loads(given[0]), strategy=strategy)
    else:
        team = Team.of(strategy)
        team.meet(60)
        found = train_plainly(team)
        if team.workers:
            np.savez(out, **found)  # before worker 1 dies
            found |= go_wrong(team)
    np.savez(out, **found)
