"""How tf.data works for the applications."""

from __future__ import annotations

import tensorflow as tf


def in_advance(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The batches, the next of which are made while one is worked on.

    Without tf.data's tuner, which sleeps for as long as it has been at work, up to a minute: whoever is
    done with the batches waits until it wakes, and a validation took up to twice its time.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(2).with_options(options)
