"""What every training by epochs shares: its settings, its optimizer, and the fitting itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import keras

from kerasrnn.applications._runs import Recorder, RunConfig, RunFolder
from kerasrnn.applications._strategy import Counted, Strategy, Team, replicated, sequences


@dataclasses.dataclass(frozen=True)
class TrainingConfig(RunConfig):
    """The settings of a training by epochs, with Adam where nothing else is said."""

    test_fraction: float = 0.2
    """The part of a data set without a test set of its own that is held out to measure."""
    validation_fraction: float | None = None
    """The part of the training set that is held out to choose the epoch, where no validation set comes
    with it. By default a tenth, and no more than 1000."""
    batch_size: int = 32
    """Sequences in a batch; those of like length go together."""
    epochs: int | None = None
    """Passes over the training set. By default as many as the task finds enough."""
    patience: int | None = None
    """Epochs without a better validation after which to stop. By default a third of `epochs`, but at
    least 3."""
    learning_rate: float = 0.002
    """The highest learning rate of Adam; it rises over the first twentieth of the training and
    falls to nothing along a cosine."""
    clip_norm: float = 1.0
    """The most that the norm of a batch's gradients, all together, may be; larger ones are scaled down."""
    averaging: float = 0.05
    """What is measured and saved is an average of the weights (an exponential moving one) over about
    this part of the training; 0 for the last weights."""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """What to compute in. The mixed ones use 16 bits where that is safe: worth it on a GPU."""
    jit_compile: bool = False
    """Let XLA compile a whole step of training, and of validation, once for each shape of a batch; without
    it the recurrent layers alone. It takes long to begin: measure whether it pays."""
    strategy: Strategy = "none"
    """Train on all devices of this machine (mirrored), or on all machines that `TF_CONFIG` names: a batch
    is split among them."""
    worker_timeout: float = 300.0
    """How many seconds to wait for the other machines, at the start."""


def check_settings(config: TrainingConfig, *counts: str) -> None:
    """Refuse the numbers that nothing further on refuses by name.

    Args:
        config: The settings.
        *counts: The names of further settings that must be at least 1.
    """
    for name in (*counts, "batch_size", "epochs", "patience"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value!r}.")
    for name in ("learning_rate", "averaging"):
        value = getattr(config, name)
        if not 0 <= value < math.inf:
            raise ValueError(f"`{name}` must not be negative, got {value!r}.")
    if config.jit_compile and config.strategy != "none":
        raise ValueError(
            f"`jit_compile` compiles the steps of one device, and `strategy` is {config.strategy!r}: leave "
            "one of them out."
        )
    if not config.clip_norm > 0:
        raise ValueError(f"`clip_norm` must be positive, got {config.clip_norm!r}.")


def settled(config: Any, updates: int, epochs: int) -> Any:
    """The settings with `epochs` and `patience` decided.

    Args:
        config: The settings, a `TrainingConfig`.
        updates: The number of batches in an epoch.
        epochs: The least number of epochs where none is given; they also make 300 updates.
    """
    epochs = config.epochs or max(epochs, math.ceil(300 / updates))
    patience = config.patience or max(3, math.ceil(epochs / 3))
    return dataclasses.replace(config, epochs=epochs, patience=patience)


def optimizer(config: TrainingConfig, updates: int) -> Any:
    """Adam as the settings describe it, for so many updates in all."""
    return keras.optimizers.Adam(
        cosine(config, updates), global_clipnorm=config.clip_norm, **averaged(config, updates)
    )


def cosine(config: TrainingConfig, updates: int) -> Any:
    """The learning rate of so many updates: it rises over a twentieth of them, and falls to nothing."""
    warmup = updates // 20
    return keras.optimizers.schedules.CosineDecay(
        0.0, updates - warmup, warmup_target=config.learning_rate, warmup_steps=warmup
    )


def averaged(config: TrainingConfig, updates: int) -> dict[str, Any]:
    """What an optimizer is told to average the weights as the settings say."""
    window = max(1.0, config.averaging * updates)
    return {"use_ema": config.averaging > 0, "ema_momentum": 1 - 1 / window}


def fit(
    model: Any,
    config: Any,
    folder: RunFolder,
    rows: Any,
    validation: Any,
    monitor: str,
    best: Literal["lowest", "highest"] = "lowest",
    callbacks: Sequence[Any] = (),
    team: Team = Team(),  # noqa: B008
    counted: Counted = sequences,
) -> int:
    """Train, or go on with training, and leave the model with the averaged weights of the best epoch.

    A worker that is not the chief leaves it as the training does.

    Args:
        model: A compiled model.
        config: The `settled` settings.
        folder: The run's folder, started.
        rows: What to train on: `LengthBatches`, or what has its `training_batches` and `count`.
        validation: The batches to choose the epoch by.
        monitor: The figure to choose the epoch by.
        best: Which of its values is the best.
        callbacks: What else is done during training.
        team: Who trains; they have met.
        counted: What the loss divides by: how much of a batch, or of a part of it, counts.

    Returns:
        The best epoch, counted from 1.

    Raises:
        ConnectionError: If another worker is lost.
        ValueError: If there are more replicas than sequences in a batch.
    """
    if config.batch_size < team.replicas:
        raise ValueError(
            f"`batch_size` is {config.batch_size}, to be split among {team.replicas} replicas: it must be "
            "at least as many."
        )
    recorder = Recorder(folder, monitor, config.patience, best)
    first, updates = len(folder.history), rows.count(config.batch_size)
    if first:
        print(
            f"going on after epoch {first} of the run in {folder.path}, with its settings: "
            f"{_unusual(config)}",
            flush=True,
        )
        folder.load_state(model, first)
    if first < config.epochs and not recorder.is_over():
        with replicated(team, model, counted, updates, len(validation)):
            model.fit(
                rows.training_batches(config.batch_size, config.seed, first, config.epochs),
                validation_data=validation,
                initial_epoch=first,
                epochs=config.epochs,
                steps_per_epoch=updates,
                shuffle=False,  # they are shuffled
                verbose="auto" if team.chief else 0,
                callbacks=[*_callbacks(model, folder, config), *callbacks, recorder],
            )
    epoch = folder.best_epoch(monitor, best)
    if team.chief:
        folder.load_state(model, epoch)
        model.optimizer.finalize_variable_values(model.trainable_variables)
    return epoch


def _callbacks(model: Any, folder: RunFolder, config: TrainingConfig) -> list[Any]:
    """What is done during every training, besides the recording."""
    chosen: list[Any] = []
    # Without what scales the loss in mixed precision.
    if getattr(model.optimizer, "inner_optimizer", model.optimizer).use_ema:
        chosen.append(keras.callbacks.SwapEMAWeights())  # validates with the averaged weights
    if config.tensorboard and folder.chief:
        chosen.append(keras.callbacks.TensorBoard(str(folder.path / "tensorboard")))
    return chosen


def _unusual(config: RunConfig) -> str:
    """The settings that are not the defaults."""
    chosen = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default and field.name not in ("out", "resume")
    }
    return ", ".join(f"{name} {value}" for name, value in chosen.items()) or "the defaults"
