"""Train the language model on the characters of Shakespeare's plays.

python applications/shakespeare_chars/run.py --seeds 0 --out runs/shakespeare_chars
"""

from __future__ import annotations

import tyro

from kerasrnn.applications.language_model import task
from kerasrnn.applications.language_model.config import LanguageModelConfig
from kerasrnn.applications.recipes import over_seeds, plain_errors


def main(
    config: LanguageModelConfig = LanguageModelConfig(  # noqa: B008
        dataset=("tiny_shakespeare",),
        out="runs/shakespeare_chars",
        units=400,
        num_layers=2,
        embedding_dim=128,
        tied=False,
        input_dropout=0.1,
        dropout=0.3,
        output_dropout=0.3,
        recurrent_dropout=0.3,
        batch_size=25,
        window=100,
        learning_rate=0.002,
        epochs=21,
        patience=21,
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
            "test nats": lambda run: run["test_cross_entropy"],
            "test bits": lambda run: run["test_bits_per_character"],
            "validation nats": lambda run: run["validation_cross_entropy"],
            "validation bits": lambda run: run["validation_bits_per_character"],
        },
    )


if __name__ == "__main__":
    with plain_errors("shakespeare_chars"):
        tyro.cli(main, config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff))
