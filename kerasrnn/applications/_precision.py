"""What models of text compute in, and what of them XLA compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

Tensor = Any

# Weights in half precision do not train, and nothing here has been made for integers.
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


class TextModel(keras.Model):
    """A model that takes strings too, and that XLA compiles all the same.

    Keras compiles a step as a whole or, as XLA knows no strings, not at all where a model holds a table of
    them. Here `compile(jit_compile=True)` compiles the steps of `fit` and `evaluate` behind that table.
    `predict` stays an ordinary graph: texts have any length, and each new one would be compiled.

    Args:
        **kwargs: `name` and `dtype`, one of `POLICIES`.

    Raises:
        ValueError: If `dtype` is another.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.dtype_policy.name not in POLICIES:
            raise ValueError(
                f"`dtype` must be one of {', '.join(POLICIES)}; got {self.dtype_policy.name!r}. The mixed "
                "ones compute in half precision, and keep weights and losses in float32."
            )

    def in_numbers(self, inputs: Any) -> Any:
        """What the model takes, with numbers in the place of strings."""
        return inputs

    def make_ready(self, inputs: Any, training: bool) -> None:
        """Do what XLA cannot, before a compiled step reads the inputs: what `in_numbers` gave."""

    @property
    def jit_compile(self) -> None:
        """What Keras is to compile itself: nothing."""
        # Not False: for Keras setting that to False would be nothing new, and the setter left out.

    @jit_compile.setter
    def jit_compile(self, wanted: bool) -> None:
        for name in ("train_step", "test_step"):
            self.__dict__.pop(name, None)
            if wanted:
                # Past Keras's attributes, as this is no part of the model.
                step = self._compiled(getattr(self, name), training=name == "train_step")
                object.__setattr__(self, name, step)

    def _compiled(self, step: Callable[[Any], Any], training: bool) -> Callable[[Any], Any]:
        compiled = tf.function(step, jit_compile=True, reduce_retracing=True, autograph=False)

        def run(data: Any) -> Any:
            inputs, *rest = data if isinstance(data, tuple) else (data,)
            numbers = self.in_numbers(inputs)
            self.make_ready(numbers, training)
            return compiled((numbers, *rest))

        return run
