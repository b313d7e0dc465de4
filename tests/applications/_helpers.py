"""What the tests of training and of the command line share: a small corpus, small settings."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

# Every setting that the result depends on, so that the defaults may change; and each kind of
# dropout, as each has a random state that a run must go on with.
SETTINGS: dict[str, Any] = {
    "seed": 3,
    "test_fraction": 0.25,
    "validation_fraction": 0.25,
    "vocabulary_size": 50,
    "max_length": 20,
    "cell": "gru",
    "units": 4,
    "num_layers": 1,
    "embedding_dim": 4,
    "reading": ("last", "mean"),
    "word_dropout": 0.1,
    "type_dropout": 0.1,
    "embedding_dropout": 0.1,
    "recurrent_dropout": 0.1,
    "dropout": 0.1,
    "label_smoothing": 0.05,
    "batch_size": 16,
    "epochs": 5,
    "patience": 5,
    "learning_rate": 0.02,
    "averaging": 0.3,
}


def write_texts(path: Path, count: int = 120) -> Path:
    """A CSV of texts with a rule: "great" is good and "dull" is bad."""
    random = np.random.default_rng(1)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(count):
            words = [*random.choice(["the", "film", "was,", "a", "É"], random.integers(1, 12))]
            words.insert(random.integers(len(words) + 1), ["dull", "great"][number % 2])
            writer.writerow([" ".join(words), ["bad", "good"][number % 2]])
    return path


# The same for the labeler. Its sentences get one length, so that the layers are compiled once.
LABELING: dict[str, Any] = {
    "seed": 3,
    "test_fraction": 0.25,
    "validation_fraction": 1 / 3,
    "least_count": 1,
    "cell": "gru",
    "units": 8,
    "num_layers": 1,
    "bidirectional": False,
    "embedding_dim": 8,
    "character_reading": "cnn",
    "character_dim": 4,
    "character_units": 8,
    "decoder": "crf",
    "word_dropout": 0.1,
    "type_dropout": 0.1,
    "embedding_dropout": 0.1,
    "recurrent_dropout": 0.1,
    "dropout": 0.1,
    "max_word_length": 8,
    "batch_size": 16,
    "epochs": 5,
    "patience": 5,
    "learning_rate": 0.05,
    "averaging": 0.1,
}


def write_names(path: Path, count: int = 128) -> Path:
    """Columns with a rule: a place is a word of three, and a person another, or two of them."""
    random = np.random.default_rng(1)
    sentences = []
    for number in range(count):
        if number % 2:
            rows = [(random.choice(["Anna", "Ole", "Ida"]), "B-PER")]
            rows += [("Berg", "I-PER")] * (number % 3 == 0)
        else:
            rows = [(random.choice(["Oslo", "Leeds", "York"]), "B-LOC")]
        others = random.choice(["the", "letter", "from", "was", "É", "1990"], 8 - len(rows))
        # A few are short, so that there is padding.
        words = [(word, "O") for word in others[: 3 if number % 20 == 0 else None]]
        at = random.integers(len(words) + 1)
        words[at:at] = rows
        sentences.append("".join(f"{word} {label}\n" for word, label in words))
    path.write_text("\n".join(sentences), "utf-8")
    return path


def write_treebank(path: Path, count: int, seed: int) -> Path:
    """CoNLL-U with a rule that the word decides; some words have no label."""
    random = np.random.default_rng(seed)
    labels = {"the": "DET", "dog": "NOUN", "sees": "VERB", "Anna": "PROPN", "x": "_"}
    lines = []
    for number in range(count):
        lines.append(f"# sent_id = {number}")
        for place, word in enumerate(random.choice(list(labels), 5), start=1):
            if place == 2:
                lines.append("\t".join(["2-3", "undivided", *"________"]))
            lines.append("\t".join([str(place), word, "_", labels[word], *"______"]))
        lines.append("")
    path.write_text("\n".join(lines), "utf-8")
    return path


# The same for the language model, with each of its dropouts and penalties.
LANGUAGE: dict[str, Any] = {
    "seed": 3,
    "test_fraction": 0.2,
    "validation_fraction": 0.25,
    "level": "character",
    "window": 16,
    "cell": "simple_rnn",
    "units": 16,
    "num_layers": 2,
    "embedding_dim": 16,
    "embedding_dropout": 0.02,
    "input_dropout": 0.05,
    "dropout": 0.05,
    "output_dropout": 0.05,
    "recurrent_dropout": 0.1,
    "activation_regularization": 0.01,
    "temporal_regularization": 0.01,
    "batch_size": 8,
    "epochs": 5,
    "patience": 5,
    "learning_rate": 0.03,
    "averaging": 0.05,
}


def write_sayings(path: Path, count: int = 240, seed: int = 1) -> Path:
    """Lines with a rule: each animal has its own word."""
    random = np.random.default_rng(seed)
    sayings = ["the cow says moo", "the cat says meow", "the dög barks"]
    path.write_text("".join(f"{line}\n" for line in random.choice(sayings, count)), "utf-8")
    return path


def train_and_copy(train: Any, config: Any, killed: Path, epochs: int = 2) -> dict[str, Any]:
    """Train, and leave in `killed` what would be there had the run been killed after so many epochs."""
    from kerasrnn.applications._runs import RunFolder

    save_state = RunFolder.save_state

    def save_and_copy(folder, model, epoch, keep):
        save_state(folder, model, epoch, keep)
        if epoch == epochs:
            shutil.copytree(folder.path, killed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "save_state", save_and_copy)
        return train(config)


# Threads add up in the order in which they are done: float32's last digits may differ.
ROUNDING = 1e-6


def assert_the_same_run(run: Path, expected: Path, load: Any) -> None:
    """One run came to what the other did: its epochs, its metrics and its weights."""
    assert_alike(history(run), history(expected), "history")
    found = [json.loads((path / "metrics.json").read_text("utf-8")) for path in (run, expected)]
    for metrics in found:
        del metrics["train_seconds"], metrics["config"]["out"], metrics["config"]["resume"]
    assert_alike(*found, "metrics")
    weights = (load(path).get_weights() for path in (run, expected))
    for weight, wanted in zip(*weights, strict=True):
        np.testing.assert_allclose(weight, wanted, ROUNDING, ROUNDING)


def assert_alike(one: Any, other: Any, where: str) -> None:
    """The same, but for the rounding of numbers that are no integers."""
    if isinstance(one, dict | list):
        places = one if isinstance(one, dict) else range(len(one))
        assert len(one) == len(other), where
        for place in places:
            assert_alike(one[place], other[place], f"{where}, {place}")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=ROUNDING, abs=ROUNDING), where
    else:
        assert one == other, where


def flags(**settings: Any) -> list[str]:
    """The settings as the command line takes them."""
    words = []
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else () if isinstance(value, bool) else (value,)
        flag = name.replace("_", "-")
        words += [f"--no-{flag}" if value is False else f"--{flag}", *map(str, values)]
    return words


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "kerasrnn_cli", *map(str, words)]


def environment() -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}


def start(folder: Path, *words: object) -> subprocess.Popen:
    """Run the command line in a process of its own, with nothing of this one."""
    return subprocess.Popen(
        command(*words),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def wait_for(path: Path, process: subprocess.Popen, seconds: float = 300) -> None:
    """Until the process has written a file."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, f"the process ended: {process.communicate()[1]}"
        assert time.monotonic() < end, f"no {path} after {seconds} s"
        time.sleep(0.001)


def history(folder: Path) -> list[dict[str, Any]]:
    """The rows of `history.csv`, but for the seconds."""
    with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
        return [
            {
                name: int(value) if name == "epoch" else float(value)
                for name, value in row.items()
                if name != "seconds"
            }
            for row in csv.DictReader(file)
        ]
