"""Train the labeler on the names of CoNLL-2003.

python applications/conll2003_ner/run.py --seeds 0 1 2 --out runs/conll2003
"""

from __future__ import annotations

import tyro

from kerasrnn.applications.recipes import over_seeds, plain_errors
from kerasrnn.applications.sequence_labeling import task
from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig


def main(
    config: SequenceLabelingConfig = SequenceLabelingConfig(  # noqa: B008
        dataset=("conll2003",), out="runs/conll2003"
    ),
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
            "test F1": lambda run: run["test"]["entity_f1"],
            "validation F1": lambda run: run["validation"]["entity_f1"],
        },
    )


if __name__ == "__main__":
    with plain_errors("conll2003_ner"):
        tyro.cli(main, config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff))
