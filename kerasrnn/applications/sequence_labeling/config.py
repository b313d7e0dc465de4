"""Every setting of the sequence-labeling task: the command line's flags are made from this class."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from kerasrnn.applications._training import TrainingConfig
from kerasrnn.tagging import Scheme


@dataclasses.dataclass(frozen=True)
class TagDataConfig:
    """Which data set, and how it is read."""

    dataset: tuple[str, ...] = ()
    """`sentences`, the corpus in the package; a TFDS name, `conll2003` or
    `universal_dependencies/en_ewt`; or files: to train on, then, if there are any, to validate and to
    measure on. A file that ends in `.conllu` is read as CoNLL-U, any other as columns. `evaluate`
    takes one file to measure on, and by default what the run itself held out."""
    data_dir: str | None = None
    """A TFDS folder that holds the data set already. Without it TFDS downloads what is missing."""
    label: str | None = None
    """Which labels, where there are several: `entity` or `pos` of `sentences`, `ner`, `pos` or
    `chunks` of `conll2003`, `upos`, `xpos` or `deprel` of a treebank."""
    token_column: int = 0
    """The column of the tokens in a file of columns, from 0, or from the end with -1."""
    label_column: int = -1
    """The column of the labels in a file of columns."""
    source_scheme: Scheme | None = None
    """The scheme of the labels in a file of columns. By default it is found out: the one that is broken
    the least."""
    on_fault: Literal["refuse", "repair"] = "refuse"
    """What is done with labels that break their scheme: refused with their line, or repaired."""


@dataclasses.dataclass(frozen=True)
class SequenceLabelingConfig(TagDataConfig, TrainingConfig):
    """Train a model that labels the tokens of sentences, measure it on held-out ones and save it."""

    task: ClassVar[str] = "sequence-labeling"

    out: str = "runs/sequence-labeling"
    """The folder for all that the run produces."""
    dataset: tuple[str, ...] = ("sentences",)
    """`sentences`, the corpus in the package; a TFDS name, `conll2003` or
    `universal_dependencies/en_ewt`; or files: to train on, then, if there are any, to validate and to
    measure on. A file that ends in `.conllu` is read as CoNLL-U, any other as columns."""
    scheme: Scheme | None = None
    """The scheme in which spans are learned and labels are given. By default that of the data."""
    least_count: int = 1
    """How often a word must occur in the training set to be known."""
    word_vectors: str | None = None
    """A text file of GloVe, word2vec or fastText to start the words' vectors from; their size must be
    `embedding_dim`. A word is looked up in lower case, and else as it is most often written."""
    cell: str = "lstm"
    """The recurrent cell, by its registered name: see `kerasrnn cells`."""
    units: int = 150
    """The units of each recurrent layer, in each direction."""
    num_layers: int = 1
    """The number of recurrent layers."""
    bidirectional: bool = True
    """Read each sentence backwards too."""
    embedding_dim: int = 100
    """The size of a word's vector."""
    character_reading: Literal["cnn", "bilstm", "none"] = "cnn"
    """How the characters of a word become one vector."""
    character_dim: int = 30
    """The size of a character's vector."""
    character_units: int = 60
    """The size of what is read of a word's characters."""
    decoder: Literal["crf", "softmax"] = "crf"
    """Choose the labels of a sentence together, or each by itself."""
    word_dropout: float = 0.05
    """Fraction of the words in the text that training hides; their characters stay."""
    type_dropout: float = 0.2
    """Fraction of the vocabulary that training hides, for a batch at a time."""
    embedding_dropout: float = 0.5
    """Locked dropout of the words' vectors: the same features for a whole sentence."""
    recurrent_dropout: float = 0.0
    """Fraction of the recurrent state that training drops, for a whole sentence at once."""
    dropout: float = 0.5
    """Locked dropout after each recurrent layer."""
    max_word_length: int = 20
    """The number of characters to read of each word; of a longer one the start and the end."""
    batch_size: int = 32
    """Sentences in a batch; those of like length go together."""
    epochs: int | None = None
    """Passes over the training set. By default 14, or as many as make 300 updates."""
