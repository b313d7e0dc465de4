"""Train the sentiment model on IMDB, over several seeds, and print the mean score.

python applications/imdb_sentiment/run.py --seeds 0 1 2 --out runs/imdb
"""

from __future__ import annotations

import tyro

from kerasrnn.applications.recipes import over_seeds, plain_errors
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
    over_seeds(
        task.train,
        config,
        seeds,
        {
            "test accuracy": lambda run: run["test_accuracy"],
            "test loss": lambda run: run["test_loss"],
        },
    )


if __name__ == "__main__":
    with plain_errors("imdb_sentiment"):
        tyro.cli(main, config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff))
