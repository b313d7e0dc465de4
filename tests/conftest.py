"""What several folders of tests share."""

import functools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from filelock import FileLock


class Trained(NamedTuple):
    """A finished training run: its folder, what `train` returned, its data and its settings."""

    folder: Path
    metrics: dict[str, Any]
    dataset: Path
    settings: dict[str, Any]


def trained_once(
    factory: pytest.TempPathFactory,
    name: str,
    task: Any,
    config: type,
    settings: dict[str, Any],
    files: dict[str, Callable[[Path], Path]],
) -> Trained:
    """A run that one of pytest's processes trains, from files that it writes, while the others wait.

    Beside the run lies `killed`: what would be there had it been killed after its second epoch.
    """
    from tests.applications._helpers import train_and_copy

    base = factory.getbasetemp()
    # What belongs to one process lies in a folder of its own beside those of the others.
    place = (base.parent if base.name.startswith("popen-") else base) / name
    paths = tuple(str(place / file) for file in files)
    several = isinstance(config().dataset, tuple)
    settings = {**settings, "dataset": paths if several else paths[0]}
    metrics = place / "metrics.json"
    with FileLock(f"{place}.lock"):
        if not metrics.exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            for path, write in zip(paths, files.values(), strict=True):
                write(Path(path))
            run = config(out=str(place / "run"), **settings)
            found = train_and_copy(task.train, run, place / "killed")
            metrics.write_text(json.dumps(found), "utf-8")
    return Trained(place / "run", json.loads(metrics.read_text("utf-8")), Path(paths[-1]), settings)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    """One small run that the tests read and never change."""
    from kerasrnn.applications.sentiment import task
    from kerasrnn.applications.sentiment.config import SentimentConfig
    from tests.applications._helpers import SETTINGS, write_texts

    files = {"texts.csv": write_texts}
    return trained_once(tmp_path_factory, "trained", task, SentimentConfig, SETTINGS, files)


@pytest.fixture(scope="session")
def labeler(tmp_path_factory) -> Trained:
    """A small run of the sequence labeler that the tests read and never change."""
    from kerasrnn.applications.sequence_labeling import task
    from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig
    from tests.applications._helpers import LABELING, write_names

    files = {"names.conll": write_names}
    return trained_once(tmp_path_factory, "labeler", task, SequenceLabelingConfig, LABELING, files)


@pytest.fixture(scope="session")
def tagger(tmp_path_factory) -> Trained:
    """Another small run: parts of speech from three files, by softmax, with characters in a BiLSTM."""
    from kerasrnn.applications.sequence_labeling import task
    from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig
    from tests.applications._helpers import LABELING, write_treebank

    files = {
        f"{part}.conllu": functools.partial(write_treebank, count=count, seed=seed)
        for seed, (part, count) in enumerate({"train": 64, "dev": 32, "test": 16}.items())
    }
    settings = LABELING | {"decoder": "softmax", "character_reading": "bilstm", "epochs": 4}
    return trained_once(tmp_path_factory, "tagger", task, SequenceLabelingConfig, settings, files)


@pytest.fixture(scope="session")
def writer(tmp_path_factory) -> Trained:
    """A small run of the language model, of characters, that the tests read and never change."""
    from kerasrnn.applications.language_model import task
    from kerasrnn.applications.language_model.config import LanguageModelConfig
    from tests.applications._helpers import LANGUAGE, write_sayings

    files = {"sayings.txt": write_sayings}
    return trained_once(tmp_path_factory, "writer", task, LanguageModelConfig, LANGUAGE, files)


@pytest.fixture
def no_matplotlib(monkeypatch) -> None:
    """As if the package were installed without its extra `plot`."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "kerasrnn.analysis.plot", raising=False)
