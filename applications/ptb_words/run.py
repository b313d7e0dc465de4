"""Train the language model on the words of the Penn Treebank, as Mikolov et al. (2010) prepared them.

python applications/ptb_words/run.py small --data DIR       # two cores
python applications/ptb_words/run.py awd-lstm --data DIR    # a GPU: the settings of Merity et al. (2017)
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from kerasrnn.applications.language_model import task
from kerasrnn.applications.language_model.config import LanguageModelConfig
from kerasrnn.applications.recipes import over_seeds, plain_errors

SMALL = LanguageModelConfig(
    out="runs/ptb_words/small",
    level="word",
    window=35,
    units=256,
    num_layers=2,
    embedding_dim=256,
    embedding_dropout=0.1,
    input_dropout=0.3,
    dropout=0.3,
    output_dropout=0.4,
    recurrent_dropout=0.3,
    optimizer="sgd",
    learning_rate=20.0,
    clip_norm=0.25,
    batch_size=20,
    epochs=16,
    patience=16,
)

# https://arxiv.org/abs/1708.02182, by the command line of its authors' repository.
AWD_LSTM = LanguageModelConfig(
    out="runs/ptb_words/awd-lstm",
    level="word",
    window=70,
    random_windows=True,
    units=1150,
    num_layers=3,
    embedding_dim=400,
    embedding_dropout=0.1,
    input_dropout=0.4,
    dropout=0.25,
    output_dropout=0.4,
    recurrent_dropout=0.5,
    activation_regularization=2.0,
    temporal_regularization=1.0,
    optimizer="nt_asgd",
    schedule="constant",
    learning_rate=30.0,
    clip_norm=0.25,
    weight_decay=1.2e-6,
    batch_size=20,
    epochs=500,
    patience=500,
)

app = tyro.extras.SubcommandApp()


@app.command
def small(
    config: LanguageModelConfig = SMALL, data: str = "data/ptb", seeds: tuple[int, ...] = (0,)
) -> None:
    """Two layers of 256 units, for a computer without a GPU.

    Args:
        config: The settings of every run; each writes into a folder of its own below `out`.
        data: The folder with ptb.train.txt, ptb.valid.txt and ptb.test.txt.
        seeds: The seeds.
    """
    main(config, data, seeds)


@app.command
def awd_lstm(
    config: LanguageModelConfig = AWD_LSTM, data: str = "data/ptb", seeds: tuple[int, ...] = (0,)
) -> None:
    """The AWD-LSTM of Merity et al. (2017): three layers of 1150 units, for a GPU.

    Args:
        config: The settings of every run; each writes into a folder of its own below `out`.
        data: The folder with ptb.train.txt, ptb.valid.txt and ptb.test.txt.
        seeds: The seeds.
    """
    main(config, data, seeds)


def main(config: LanguageModelConfig, data: str, seeds: tuple[int, ...]) -> None:
    """Train once for each seed.

    Raises:
        FileNotFoundError: If the folder `data` lacks a file.
    """
    files = [Path(data) / f"ptb.{part}.txt" for part in ("train", "valid", "test")]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f"There is no file {file}. `data` must be the folder simple-examples/data of "
                "http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz, or a copy of it."
            )
    train, validation, test = ((str(file),) for file in files)
    over_seeds(
        task.train,
        dataclasses.replace(config, dataset=train, validation=validation, test=test),
        seeds,
        {
            "test perplexity": lambda run: run["test_perplexity"],
            "validation perplexity": lambda run: run["validation_perplexity"],
        },
    )


if __name__ == "__main__":
    with plain_errors("ptb_words"):
        app.cli(config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff))
