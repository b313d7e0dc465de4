"""What several folders of tests share."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Trained(NamedTuple):
    """A finished training run: its folder, what `train` returned, its data and its settings."""

    folder: Path
    metrics: dict[str, Any]
    dataset: Path
    settings: dict[str, Any]


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    """One small run that the tests read and never change."""
    from kerasrnn.applications.sentiment import task
    from kerasrnn.applications.sentiment.config import SentimentConfig
    from tests.applications._helpers import SETTINGS, write_texts

    place = tmp_path_factory.mktemp("trained")
    dataset = write_texts(place / "texts.csv")
    settings = {**SETTINGS, "dataset": str(dataset)}
    metrics = task.train(SentimentConfig(out=str(place / "run"), **settings))
    assert json.loads((place / "run" / "metrics.json").read_text("utf-8"))
    return Trained(place / "run", metrics, dataset, settings)
