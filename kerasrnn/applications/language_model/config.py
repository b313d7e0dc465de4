"""Every setting of the language model: the command line's flags are made from this class."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from kerasrnn.applications._training import TrainingConfig


@dataclasses.dataclass(frozen=True)
class PlainDataConfig:
    """Which text, and how it is read."""

    dataset: tuple[str, ...] = ()
    """What to measure on: text files, folders of them, or a TFDS name, of which the test part is taken.
    By default what the run itself held out."""
    data_dir: str | None = None
    """A TFDS folder that holds the data set already. Without it TFDS downloads what is missing."""


@dataclasses.dataclass(frozen=True)
class LanguageModelConfig(PlainDataConfig, TrainingConfig):
    """Train a language model, measure it on held-out text and save it."""

    task: ClassVar[str] = "language-model"

    out: str = "runs/language-model"
    """The folder for all that the run produces."""
    dataset: tuple[str, ...] = ("python",)
    """`python`, the source of the standard library of the Python that runs this, without its packages; a
    TFDS name such as `tiny_shakespeare`; or text files, and folders of .txt files, of any size."""
    validation: tuple[str, ...] = ()
    """Text files to choose the epoch by. By default the end of the text that is left
    without `test`."""
    test: tuple[str, ...] = ()
    """Text files to measure on. By default the end of the training text."""
    test_fraction: float = 0.05
    """The part of the text that is held out to measure, where no test set comes with it."""
    validation_fraction: float | None = 0.05
    """The part of the training text that is held out to choose the epoch, where no validation set comes
    with it."""
    level: Literal["character", "word"] = "character"
    """Predict characters or words. A word is what spaces part; `<eos>` ends a line."""
    separate: bool = False
    """Words: lower-case the text and set its marks apart, as text as people write it needs."""
    vocabulary_size: int | None = None
    """The number of words, or characters, to know: the most frequent ones. By default all."""
    least_count: int | None = None
    """How often a word, or character, must occur in the training text to be known. By default once; words
    twice where the text has no `<unk>` in it, so that the model learns what to make of unknown ones."""
    reset: bool = False
    """Forget what was read where a document, a file or a row of a data set, begins. Its first token is then
    not learned, as nothing is before it."""
    window: int = 100
    """The number of steps through which the gradient flows back; the state is carried on."""
    random_windows: bool = False
    """Draw the length of each window between the half of `window` and all of it."""
    cell: str = "lstm"
    """The recurrent cell, by its registered name: see `kerasrnn cells`."""
    units: int = 256
    """The units of each recurrent layer; the last one has `embedding_dim` if `tied`."""
    num_layers: int = 1
    """The number of recurrent layers."""
    embedding_dim: int = 256
    """The size of a token's vector."""
    tied: bool = True
    """Hold the output against the vectors of the embedding, not against a table of its own."""
    embedding_dropout: float = 0.0
    """Fraction of the vocabulary that training drops, for a batch at a time."""
    input_dropout: float = 0.0
    """Locked dropout of the tokens' vectors: the same features for a whole window."""
    dropout: float = 0.0
    """Locked dropout between the recurrent layers."""
    output_dropout: float = 0.0
    """Locked dropout of what the last recurrent layer gives."""
    recurrent_dropout: float = 0.0
    """Fraction of the recurrence that training drops, for a window at a time."""
    recurrent_dropout_form: Literal["weights", "state", "candidate"] = "weights"
    """What is dropped of the recurrence: its weights (weight drop), the state, or what enters it."""
    activation_regularization: float = 0.0
    """Weight in the loss of the square of the last layer's output."""
    temporal_regularization: float = 0.0
    """Weight in the loss of the square of the change of the last layer's output."""
    sampled: int = 0
    """Train against so many drawn tokens rather than all: for 50,000 words and more. 0 for all."""
    optimizer: Literal["adam", "sgd", "nt_asgd"] = "adam"
    """Adam; gradient descent; or gradient descent that averages the weights once validation gets no
    better (NT-ASGD)."""
    schedule: Literal["cosine", "steps", "plateau", "constant"] = "cosine"
    """How the learning rate falls: along a cosine after a rise; by `decay` in each epoch after
    `decay_after`; by `decay` after each epoch whose validation was no better than the best; or not
    at all."""
    decay: float = 0.5
    """The factor of `steps` and `plateau`."""
    decay_after: int = 4
    """The number of epochs before `steps` begins."""
    weight_decay: float = 0.0
    """What each update takes off every weight, as a fraction times the learning rate."""
    batch_size: int = 32
    """The number of places in the text that are read side by side."""
    epochs: int | None = None
    """Passes over the training text, or parts of `epoch_updates`. By default as many as make at
    least 1400 updates, and would read the text at least once."""
    epoch_updates: int | None = None
    """For a large text: updates after which an epoch ends, with a validation and a checkpoint; the next one
    goes on from there. By default an epoch ends with the text."""
    learning_rate: float = 0.002
    """The highest learning rate; see `schedule`."""
    averaging: float = 0.05
    """What is measured and saved is an average of the weights (an exponential moving one) over about
    this part of the training; 0 for the last weights. `nt_asgd` has an average of its own."""
