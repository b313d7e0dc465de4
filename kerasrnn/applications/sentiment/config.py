"""Every setting of the sentiment task: the command line's flags are made from this class."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from kerasrnn.applications._training import TrainingConfig


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data set, and how it is read."""

    dataset: str | None = None
    """What to measure on, as in training: its test part, or all of it if it has none. By default what
    the run itself held out."""
    data_dir: str | None = None
    """A TFDS folder that holds the data set already. Without it TFDS downloads what is missing."""
    text_column: str = "text"
    """The column of the texts in a .csv or .tsv file."""
    label_column: str = "label"
    """The column of the labels in a .csv or .tsv file."""


@dataclasses.dataclass(frozen=True)
class SentimentConfig(DataConfig, TrainingConfig):
    """Train a sentiment classifier, measure it on held-out texts and save it."""

    task: ClassVar[str] = "sentiment"

    out: str = "runs/sentiment"
    """The folder for all that the run produces."""
    dataset: str = "reviews"
    """`reviews`, the corpus in the package; a TFDS name such as `imdb_reviews`; a folder of text
    files (`LABEL/*.txt`, or `train/LABEL/*.txt` and `test/LABEL/*.txt`); or a .csv or .tsv file."""
    vocabulary_size: int = 30000
    """The number of words to know: the most frequent ones of the training set."""
    max_length: int = 400
    """The number of words to read of each text; of a longer one the start and the end."""
    cell: str = "gru"
    """The recurrent cell, by its registered name: see `kerasrnn cells`."""
    units: int = 64
    """The units of each recurrent layer, in each direction."""
    num_layers: int = 1
    """The number of recurrent layers."""
    bidirectional: bool = True
    """Read each text backwards too."""
    embedding_dim: int = 64
    """The size of a word's vector."""
    reading: tuple[Literal["last", "mean", "max", "attention"], ...] = ("max", "mean")
    """How the outputs at all words become one vector; several are set side by side."""
    word_dropout: float = 0.1
    """Fraction of the words in the text that training hides."""
    type_dropout: float = 0.4
    """Fraction of the vocabulary that training hides, for a batch at a time."""
    embedding_dropout: float = 0.3
    """Fraction of the embedding's features that training drops, for a whole text at once."""
    recurrent_dropout: float = 0.0
    """Fraction of the recurrent state that training drops, for a whole text at once."""
    dropout: float = 0.5
    """Fraction that training drops between the layers and before the verdict."""
    label_smoothing: float = 0.1
    """How much of each label's certainty training spreads over all labels."""
    batch_size: int = 64
    """Texts in a batch; texts of like length go together."""
    epochs: int | None = None
    """Passes over the training set. By default 6, or as many as make 300 updates."""
