"""What the recipes share: one training after another, the mean of their scores, and plain errors."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kerasrnn._tables import table
from kerasrnn.applications._training import TrainingConfig

Metrics = dict[str, Any]


def over_seeds(
    train: Callable[[Any], Metrics],
    config: TrainingConfig,
    seeds: Sequence[int],
    scores: dict[str, Callable[[Metrics], float]],
) -> list[Metrics]:
    """Train once for each seed, and print a table of the scores with their mean and spread.

    Args:
        train: The task's function.
        config: The settings of every run; each writes into a folder of its own below `out`, and one
            that was interrupted, or is done, is gone on with by `resume`.
        seeds: The seeds.
        scores: The columns of the table: the name of each, and where it stands in the metrics.

    Returns:
        The metrics of each run.
    """
    runs = []
    for seed in seeds:
        out = Path(config.out) / f"seed-{seed}"
        # With several seeds a run that was to go on may not have begun.
        resume = config.resume and (out / "config.json").is_file()
        runs.append(train(dataclasses.replace(config, seed=seed, out=str(out), resume=resume)))
    rows = [("seed", *scores, "epochs (best)", "train seconds")]
    for seed, run in zip(seeds, runs, strict=True):
        figures = [f"{read(run):.4f}" for read in scores.values()]
        epochs = f"{run['epochs']} ({run['best_epoch']})"
        rows.append((str(seed), *figures, epochs, f"{run['train_seconds']:.0f}"))
    columns = [[read(run) for run in runs] for read in scores.values()]
    rows.append(("mean", *(f"{statistics.mean(column):.4f}" for column in columns), "", ""))
    if len(runs) > 1:
        rows.append(("deviation", *(f"{statistics.stdev(c):.4f}" for c in columns), "", ""))
    print(f"\n{table(rows)}")
    return runs


@contextlib.contextmanager
def plain_errors(program: str) -> Iterator[None]:
    """Within this, a user's mistake ends the program with one clear line and exit status 2.

    Args:
        program: What the line begins with.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(f"\n{program}: stopped. A training run goes on with --resume.")
    except BrokenPipeError:
        sys.stderr.close()  # The reader has gone, as `head` does; there is nobody to tell.
    except (ValueError, OSError) as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        sys.exit(2)
