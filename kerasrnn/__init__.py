"""KerasRNN: the recurrent networks that Keras 3 does not have.

`kerasrnn.cells` and `kerasrnn.layers` come with the import; `kerasrnn.datasets` and
`kerasrnn.applications` are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

import keras

from kerasrnn import cells, layers
from kerasrnn._version import __version__

__all__ = ["__version__", "applications", "cells", "datasets", "layers"]

_LAZY = ("applications", "datasets")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"kerasrnn.{name}")
    raise AttributeError(f"module 'kerasrnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def _register_on_demand(*class_names: str) -> None:
    """Let `keras.models.load_model` find the models of `applications`, and load them only then.

    Keras asks its register for a class by name and calls the `from_config` of what it finds. The
    module that defines the class registers it again, under the same name, as itself.
    """

    class OnDemand:
        def __init__(self, class_name: str) -> None:
            self.class_name = class_name

        def from_config(self, config: dict[str, Any]) -> Any:
            applications = importlib.import_module("kerasrnn.applications")
            return getattr(applications, self.class_name).from_config(config)

    for class_name in class_names:
        keras.saving.get_custom_objects()[f"kerasrnn>{class_name}"] = OnDemand(class_name)


_register_on_demand("SentimentClassifier")
