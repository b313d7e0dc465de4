"""Train the sentiment model on IMDB, over several seeds, and print the mean score.

python applications/imdb_sentiment/run.py --seeds 0 1 2 --out runs/imdb
"""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import tyro

from kerasrnn.applications.sentiment import task
from kerasrnn.applications.sentiment.config import SentimentConfig


def main(
    config: SentimentConfig = SentimentConfig(dataset="imdb_reviews", out="runs/imdb"),  # noqa: B008
    seeds: tuple[int, ...] = (0, 1, 2),
) -> None:
    """Train once for each seed.

    Args:
        config: The settings of every run; each writes into a folder of its own below `out`.
        seeds: The seeds.
    """
    runs = []
    for seed in seeds:
        out = Path(config.out) / f"seed-{seed}"
        runs.append(task.train(dataclasses.replace(config, seed=seed, out=str(out))))
    print("\nseed  test accuracy  test loss  epochs (best)  train seconds")
    for seed, run in zip(seeds, runs, strict=True):
        print(
            f"{seed:4}  {run['test_accuracy']:13.4f}  {run['test_loss']:9.4f}  "
            f"{run['epochs']:6} ({run['best_epoch']})  {run['train_seconds']:13.0f}"
        )
    scores = [run["test_accuracy"] for run in runs]
    spread = f" (standard deviation {statistics.stdev(scores):.4f})" if len(scores) > 1 else ""
    print(f"mean  {statistics.mean(scores):13.4f}{spread}")


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff))
