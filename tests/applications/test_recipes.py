"""The recipes in applications/ run, on small data."""

import importlib.util
import json
from pathlib import Path

from kerasrnn.applications.sentiment.config import SentimentConfig
from tests.applications._helpers import SETTINGS, write_texts

RECIPES = Path(__file__).parents[2] / "applications"


def recipe(name):
    path = RECIPES / name / "run.py"
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
