"""Train the labeler on the parts of speech of the English Web Treebank.

python applications/ud_english_pos/run.py --seeds 0 --out runs/ewt
"""

from __future__ import annotations

import tyro

from kerasrnn.applications.recipes import over_seeds, plain_errors
from kerasrnn.applications.sequence_labeling import task
from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig


def main(
    config: SequenceLabelingConfig = SequenceLabelingConfig(  # noqa: B008
        dataset=("universal_dependencies/en_ewt",), out="runs/ewt"
    ),
    seeds: tuple[int, ...] = (0,),
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
            "test accuracy": lambda run: run["test"]["token_accuracy"],
            "validation accuracy": lambda run: run["validation"]["token_accuracy"],
        },
    )


if __name__ == "__main__":
    with plain_errors("ud_english_pos"):
        tyro.cli(main, config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff))
