"""What several folders of tests share."""

import json
import sys
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


@pytest.fixture(scope="session")
def labeler(tmp_path_factory) -> Trained:
    """A small run of the sequence labeler that the tests read and never change.

    Beside it lies `killed`: what would be there had it been killed after its second epoch.
    """
    from kerasrnn.applications.sequence_labeling import task
    from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig
    from tests.applications._helpers import LABELING, train_and_copy, write_names

    place = tmp_path_factory.mktemp("labeler")
    dataset = write_names(place / "names.conll")
    settings = {**LABELING, "dataset": (str(dataset),)}
    config = SequenceLabelingConfig(out=str(place / "run"), **settings)
    metrics = train_and_copy(task.train, config, place / "killed")
    return Trained(place / "run", metrics, dataset, settings)


@pytest.fixture(scope="session")
def tagger(tmp_path_factory) -> Trained:
    """Another small run: parts of speech from three files, by softmax, with characters in a BiLSTM."""
    from kerasrnn.applications.sequence_labeling import task
    from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig
    from tests.applications._helpers import LABELING, write_treebank

    place = tmp_path_factory.mktemp("tagger")
    files = [
        str(write_treebank(place / f"{part}.conllu", count, seed))
        for seed, (part, count) in enumerate({"train": 64, "dev": 32, "test": 16}.items())
    ]
    settings = LABELING | {"decoder": "softmax", "character_reading": "bilstm", "epochs": 4}
    settings["dataset"] = tuple(files)
    metrics = task.train(SequenceLabelingConfig(out=str(place / "run"), **settings))
    return Trained(place / "run", metrics, Path(files[-1]), settings)


@pytest.fixture(scope="session")
def writer(tmp_path_factory) -> Trained:
    """A small run of the language model, of characters, that the tests read and never change.

    Beside it lies `killed`: what would be there had it been killed after its second epoch.
    """
    from kerasrnn.applications.language_model import task
    from kerasrnn.applications.language_model.config import LanguageModelConfig
    from tests.applications._helpers import LANGUAGE, train_and_copy, write_sayings

    place = tmp_path_factory.mktemp("writer")
    dataset = write_sayings(place / "sayings.txt")
    settings = {**LANGUAGE, "dataset": (str(dataset),)}
    config = LanguageModelConfig(out=str(place / "run"), **settings)
    metrics = train_and_copy(task.train, config, place / "killed")
    return Trained(place / "run", metrics, dataset, settings)


@pytest.fixture
def no_matplotlib(monkeypatch) -> None:
    """As if the package were installed without its extra `plot`."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "kerasrnn.analysis.plot", raising=False)
