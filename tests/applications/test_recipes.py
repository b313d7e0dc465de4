"""The recipes in applications/ run, on small data."""

import dataclasses
import importlib.util
import inspect
import json
import shutil
from pathlib import Path

import pytest

from kerasrnn.applications.language_model import task
from kerasrnn.applications.language_model.config import LanguageModelConfig
from kerasrnn.applications.recipes import plain_errors
from kerasrnn.applications.sentiment.config import SentimentConfig
from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig
from tests.applications._helpers import SETTINGS, write_sayings, write_texts

RECIPES = Path(__file__).parents[2] / "applications"


def recipe(name):
    path = RECIPES / name / "run.py"
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow  # The recipes share `over_seeds`; that of CoNLL-2003 is the quick form.
def test_imdb_sentiment(tmp_path, capsys):
    """One run for each seed, in a folder of its own, and the mean of their scores."""
    settings = SETTINGS | {"epochs": 2, "dataset": str(write_texts(tmp_path / "texts.csv"))}
    recipe("imdb_sentiment").main(
        SentimentConfig(**settings, out=str(tmp_path / "runs")), seeds=(4, 5)
    )
    said = capsys.readouterr().out.splitlines()
    scores = []
    for seed in (4, 5):
        metrics = json.loads((tmp_path / f"runs/seed-{seed}/metrics.json").read_text("utf-8"))
        assert metrics["config"]["seed"] == seed
        scores.append(metrics["test_accuracy"])
        (row,) = [line.split() for line in said if line.startswith(f"{seed}  ")]
        assert float(row[1]) == round(scores[-1], 4)
    assert said[-2].startswith("mean") and float(said[-2].split()[1]) == round(sum(scores) / 2, 4)
    spread = abs(scores[0] - scores[1]) / 2**0.5
    assert said[-1].startswith("deviation") and float(said[-1].split()[1]) == round(spread, 4)


@pytest.mark.parametrize(
    ("name", "run", "score"),
    [
        ("conll2003_ner", "labeler", "entity_f1"),
        pytest.param("ud_english_pos", "tagger", "token_accuracy", marks=pytest.mark.slow),
    ],
)
def test_labeling(tmp_path, capsys, request, name, run, score):
    """A run of its seed that is there already, and is done, is gone on with and shown."""
    trained = request.getfixturevalue(run)
    shutil.copytree(trained.folder, tmp_path / "seed-3")
    settings = trained.settings | {"out": str(tmp_path), "resume": True}
    recipe(name).main(SequenceLabelingConfig(**settings), seeds=(3,))
    header, row, mean = (line.split("  ") for line in capsys.readouterr().out.splitlines()[-3:])
    assert header[0].strip() == "seed" and row[0].strip() == "3" and mean[0].strip() == "mean"
    metrics = trained.metrics
    shown = [f"{metrics[part][score]:.4f}" for part in ("test", "validation")]
    assert [cell.strip() for cell in row if cell.strip()][1:3] == shown
    assert [cell.strip() for cell in mean if cell.strip()][1:3] == shown
    assert f"{metrics['epochs']} ({metrics['best_epoch']})" in "  ".join(row)


def test_shakespeare_chars(tmp_path, capsys, writer):
    shutil.copytree(writer.folder, tmp_path / "seed-3")
    settings = writer.settings | {"out": str(tmp_path), "resume": True}
    recipe("shakespeare_chars").main(LanguageModelConfig(**settings), seeds=(3,))
    row, mean = capsys.readouterr().out.splitlines()[-2:]
    shown = [
        f"{writer.metrics[f'{part}_{figure}']:.4f}"
        for part in ("test", "validation")
        for figure in ("cross_entropy", "bits_per_character")
    ]
    assert row.split()[:5] == ["3", *shown] and mean.split() == ["mean", *shown]


@pytest.mark.slow  # The recipe above shares `over_seeds`.
def test_ptb_words(tmp_path, capsys):
    """Of three files in a folder, with the settings of the paper but for the sizes."""
    ptb = recipe("ptb_words")
    for part, count in {"train": 60, "valid": 20, "test": 20}.items():
        write_sayings(tmp_path / f"ptb.{part}.txt", count)
    small = {"units": 8, "num_layers": 2, "embedding_dim": 8, "window": 8, "epochs": 2}
    config = dataclasses.replace(ptb.AWD_LSTM, out=str(tmp_path / "runs"), **small)
    ptb.awd_lstm(config, data=str(tmp_path), seeds=(4,))
    metrics = json.loads((tmp_path / "runs/seed-4/metrics.json").read_text("utf-8"))
    shown = [f"{metrics[f'{part}_perplexity']:.4f}" for part in ("test", "validation")]
    assert capsys.readouterr().out.splitlines()[-2].split()[:3] == ["4", *shown]
    assert metrics["config"]["test"] == [str(tmp_path / "ptb.test.txt")]


def test_the_settings_of_the_recipes_are_accepted():
    """And the small one is the model that its page describes: 3.6 million weights, one table."""
    ptb, shakespeare = recipe("ptb_words"), recipe("shakespeare_chars")
    (default,) = [
        parameter.default
        for name, parameter in inspect.signature(shakespeare.main).parameters.items()
        if name == "config"
    ]
    for config in (ptb.SMALL, ptb.AWD_LSTM, default):
        task._check(config)
    words = [f"w{number}" for number in range(9_998)]
    assert 3.55e6 < task.build(ptb.SMALL, [*words, "<eos>"]).count_params() < 3.65e6


def test_ptb_words_without_its_files(tmp_path):
    (tmp_path / "ptb.train.txt").write_text("a word\n")
    with pytest.raises(FileNotFoundError, match=r"no file .*ptb.valid.txt. `data` must be the"):
        recipe("ptb_words").small(data=str(tmp_path))


@pytest.mark.parametrize("mistake", [ValueError, FileNotFoundError])
def test_a_mistake_ends_a_recipe_with_one_line(capsys, mistake):
    with pytest.raises(SystemExit) as stopped, plain_errors("recipe"):
        raise mistake("`data` is wrong.")
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "recipe: error: `data` is wrong.\n"
    stopped = pytest.raises(
        SystemExit, match=r"recipe: stopped\. A training run goes on with --resume"
    )
    with stopped, plain_errors("recipe"):
        raise KeyboardInterrupt
