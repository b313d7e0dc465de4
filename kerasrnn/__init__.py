"""KerasRNN: the recurrent networks that Keras 3 does not have.

`kerasrnn.cells`, `kerasrnn.layers` and `kerasrnn.tagging` come with the import. The rest is loaded when
it is first used; `trace` and `plot` are in `kerasrnn.analysis`.
"""

from __future__ import annotations

import importlib
from typing import Any

import keras

from kerasrnn import cells, layers, tagging
from kerasrnn._version import __version__

__all__ = [
    "__version__",
    "analysis",
    "applications",
    "cells",
    "datasets",
    "interop",
    "layers",
    "metrics",
    "optimizers",
    "plot",
    "tagging",
    "trace",
]

# The module of each name, and the attribute if it is not the module itself.
_LAZY = {
    "analysis": ("kerasrnn.analysis",),
    "applications": ("kerasrnn.applications",),
    "datasets": ("kerasrnn.datasets",),
    "interop": ("kerasrnn.interop",),
    "metrics": ("kerasrnn.metrics",),
    "optimizers": ("kerasrnn.optimizers",),
    "plot": ("kerasrnn.analysis.plot",),
    "trace": ("kerasrnn.analysis", "trace"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'kerasrnn' has no attribute {name!r}")
    module, *attribute = _LAZY[name]
    found = importlib.import_module(module)
    return getattr(found, *attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def _register_on_demand(module: str, *class_names: str) -> None:
    """Let `keras.models.load_model` find classes of a module that is loaded only then.

    Keras asks its register for a class by name and calls the `from_config` of what it finds. The
    module that defines the class registers it again, under the same name, as itself.
    """

    class OnDemand:
        def __init__(self, class_name: str) -> None:
            self.class_name = class_name

        def from_config(self, config: dict[str, Any]) -> Any:
            return getattr(importlib.import_module(module), self.class_name).from_config(config)

    for class_name in class_names:
        keras.saving.get_custom_objects()[f"kerasrnn>{class_name}"] = OnDemand(class_name)


_register_on_demand(
    "kerasrnn.applications", "LanguageModel", "SentimentClassifier", "SequenceLabeler"
)
_register_on_demand(
    "kerasrnn.metrics",
    "BitsPerCharacter",
    "EntityF1",
    "EntityPrecision",
    "EntityRecall",
    "Perplexity",
    "TokenAccuracy",
)
_register_on_demand("kerasrnn.applications.language_model.model", "TokenCrossEntropy")
_register_on_demand("kerasrnn.optimizers", "AveragedSGD")
