"""What every training run shares: its folder, its checkpoints, its history and its picture."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import keras
import numpy as np
import tensorflow as tf

from kerasrnn._files import UNFINISHED, written_whole
from kerasrnn._version import __version__
from kerasrnn.applications import plain_tensorflow


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The settings that every training run has."""

    task: ClassVar[str] = ""

    out: str = "runs/latest"
    """The folder for all that the run produces."""
    resume: bool = False
    """Go on with the run in the folder, from its last finished epoch and with its settings."""
    overwrite: bool = False
    """Throw away what the folder holds and start anew."""
    seed: int = 0
    """The same seed gives the same numbers."""
    tensorboard: bool = False
    """Write logs for TensorBoard, into the folder's `tensorboard/`."""


Config = TypeVar("Config", bound=RunConfig)
Model = TypeVar("Model")

# How a run is started, rather than what it computes.
_HOW = ("out", "resume", "overwrite", "tensorboard", "strategy", "worker_timeout")
# What may be given anew when a run goes on elsewhere.
_MAY_MOVE = ("data_dir",)


def computed(config: RunConfig) -> dict[str, Any]:
    """The settings that decide what a run computes, with their values."""
    return {name: v for name, v in vars(config).items() if name not in (*_HOW, *_MAY_MOVE)}


class RunFolder:
    """The folder of one run.

    Args:
        path: The folder.
        chief: Whether this process writes it. Another worker of the same run reads what it goes on from,
            and changes nothing.

    Attributes:
        history: One row for each finished epoch: `epoch` from 1, `seconds`, losses and metrics.
    """

    def __init__(self, path: str | Path, chief: bool = True) -> None:
        self.path = Path(path)
        self.chief = chief
        self.history: list[dict[str, float]] = []

    def check(self, config: Config) -> Config:
        """See whether the run can begin, or go on, in this folder. Nothing is changed yet.

        Returns:
            The configuration of the run: the given one, or the one that the run began with.

        Raises:
            FileExistsError: If the folder holds something already.
            FileNotFoundError: If there is no run to go on with.
            ValueError: If a setting contradicts that of the run to go on with.
        """
        if config.resume and config.overwrite:
            raise ValueError(
                "`resume` keeps what the folder holds, `overwrite` does not: choose one."
            )
        if config.resume:
            return self._same_config(config)
        if not self.chief:
            return config
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"`out` must be a folder, but {self.path} is a file.")
        if self.path.is_dir() and any(self.path.iterdir()):
            if not config.overwrite:
                raise FileExistsError(
                    f"The folder {self.path} already holds a run. Go on with it by --resume, throw it "
                    "away by --overwrite, or name another folder by --out."
                )
            if not self._is_a_run():
                raise FileExistsError(
                    f"The folder {self.path} holds something that is not a run; --overwrite does not "
                    "delete that. Name another folder by --out."
                )
        return config

    def start(
        self, config: Config, data: str = "", agree: Callable[..., None] = lambda **facts: None
    ) -> None:
        """Make the folder ready, now that all else has proved right.

        Args:
            config: What `check` gave.
            data: What tells this data set from others, such as a digest of it.
            agree: Raises an error if a fact, given by name, is another for another worker.

        Raises:
            ValueError: If the run that is to go on began with other data.
        """
        if config.resume:
            self.check_data(data)
            self._read_history()
        # First what decides which settings there are. Nothing is changed yet.
        agree(task=config.task, **versions())
        agree(data=data, epochs_done=len(self.history), **computed(config))
        if not self.chief:
            return
        if config.resume:
            for left in [*self.path.glob(f"{UNFINISHED}*"), *self.path.glob(f"*/{UNFINISHED}*")]:
                shutil.rmtree(left, ignore_errors=True)
            return
        if config.overwrite and self.path.is_dir():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        content = {
            "task": config.task,
            **versions(),
            "data": data,
            "config": dataclasses.asdict(config),
        }
        self.write_json("config.json", content)

    def check_data(self, data: str) -> None:
        """See that a data set is still the one that the run began with.

        Raises:
            ValueError: If it is another: then nobody knows any more what was held out.
        """
        if (self._run_file() or {}).get("data") != data:
            raise ValueError(
                f"The data set has changed since the run in {self.path} began, and what it held out "
                "is no longer known. Begin anew, or name a data set of its own to measure on."
            )

    def saved_config(self) -> dict[str, Any]:
        """The settings that the run in the folder began with.

        Raises:
            FileNotFoundError: If there is no run.
            ValueError: If what is there cannot be read.
        """
        file = self.path / "config.json"
        if not file.is_file():
            raise FileNotFoundError(f"There is no run in {self.path}: no file {file}.")
        content = self._run_file()
        if content is None:
            raise ValueError(f"{file} is damaged, or is not the configuration of a run.")
        return content["config"]

    def _is_a_run(self) -> bool:
        return self._run_file() is not None

    def _run_file(self) -> dict[str, Any] | None:
        """What `start` wrote into `config.json`, or nothing if that is not what the file holds."""
        try:
            content = json.loads((self.path / "config.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        ours = isinstance(content, dict) and {"task", "kerasrnn", "config"} <= content.keys()
        return content if ours else None

    def _same_config(self, config: Config) -> Config:
        if not (self.path / "config.json").is_file():
            raise FileNotFoundError(f"There is no run in {self.path} to go on with.")
        saved = self.saved_config()
        task = (self._run_file() or {})["task"]
        if task != config.task:
            raise ValueError(f"The run in {self.path} is one of {task!r}, not of {config.task!r}.")
        merged = {}
        for field in dataclasses.fields(config):
            given = getattr(config, field.name)
            plain = json.loads(json.dumps(given))
            # What is not given again is as it was; what is given must be as it was.
            if field.name in _HOW or plain == saved.get(field.name, plain):
                merged[field.name] = given
            elif given == field.default:
                value = saved[field.name]
                merged[field.name] = tuple(value) if isinstance(value, list) else value
            elif field.name in _MAY_MOVE:
                merged[field.name] = given
            else:
                raise ValueError(
                    f"`{field.name}` is {given!r}, but the run in {self.path} began with "
                    f"{saved[field.name]!r}. Go on with the same settings, or start another run."
                )
        return type(config)(**merged)

    def _read_history(self) -> None:
        file = self.path / "history.csv"
        if file.is_file():
            rows = csv.DictReader(io.StringIO(file.read_text("utf-8")))
            try:
                self.history = [
                    {name: float(value) for name, value in row.items()}
                    | {"epoch": int(row["epoch"])}
                    for row in rows
                ]
            except (KeyError, TypeError, ValueError):
                raise ValueError(f"{file} is damaged: start the run anew by --overwrite.") from None
        # An epoch counts when its checkpoint is there too.
        done = [epoch for epoch in self._checkpoints() if epoch <= len(self.history)]
        self.history = self.history[: max(done, default=0)]

    def _checkpoints(self) -> dict[int, Path]:
        return {
            int(p.stem.split("-")[1]): p for p in (self.path / "checkpoints").glob("epoch-*.npz")
        }

    def best_epoch(self, monitor: str, best: str = "lowest") -> int:
        """The epoch, counted from 1, with the lowest, or the highest, `monitor`."""
        sign = -1 if best == "highest" else 1
        return 1 + int(np.argmin([sign * row[monitor] for row in self.history]))

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file, whole."""
        with written_whole(self.path / name) as beside:
            beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")

    def write_metrics(self, measured: dict[str, Any], config: RunConfig) -> dict[str, Any]:
        """Write `metrics.json`: what was measured, with which settings and versions."""
        metrics = {**measured, **versions(), "config": dataclasses.asdict(config)}
        self.write_json("metrics.json", metrics)
        return metrics

    def write_history(self) -> None:
        """Write `history.csv`, one row for each epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        with written_whole(self.path / "history.csv") as beside:
            beside.write_text(text.getvalue(), "utf-8")

    def save_state(self, model: Any, epoch: int, keep: set[int]) -> None:
        """Write all that training goes on from, and drop the checkpoints that nobody needs."""
        # Packed in memory: NumPy's archive complains on its own when a file cannot be written.
        packed = io.BytesIO()
        np.savez(packed, *[keras.ops.convert_to_numpy(v) for v in _state(model)])
        with written_whole(self.path / "checkpoints" / f"epoch-{epoch:04d}.npz") as beside:
            beside.write_bytes(packed.getvalue())
        for number, path in self._checkpoints().items():
            if number not in keep | {epoch}:
                path.unlink()

    def load_state(self, model: Any, epoch: int) -> None:
        """Read what `save_state` wrote at the end of an epoch."""
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        path = self.path / "checkpoints" / f"epoch-{epoch:04d}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                for number, variable in enumerate(_state(model)):
                    variable.assign(arrays[f"arr_{number}"])
        except (KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"The checkpoint {path} cannot be read, or was made from other data ({error}). "
                "Start the run anew by --overwrite."
            ) from error

    def draw_history(self) -> None:
        """Draw `learning_curve.png`: loss and accuracy over the epochs, training and validation.

        Without matplotlib it says so, and that is all: the numbers are in `history.csv`.
        """
        try:
            from matplotlib.figure import Figure
            from matplotlib.ticker import MaxNLocator
        except ImportError:
            print('no learning_curve.png: pictures need matplotlib: pip install "kerasrnn[plot]"')
            return
        # What was measured in training and in validation, the loss first.
        names = [name for name in self.history[0] if f"val_{name}" in self.history[0]]
        names = sorted(names, key=lambda name: (name != "loss", name))[:3]
        epochs = [row["epoch"] for row in self.history]
        figure = Figure(figsize=(4.5 * len(names), 3.4), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            # Told apart by the dashes too, for those who see no colours.
            for key, style, label in (
                (name, "C0o--", "training"),
                (f"val_{name}", "C1s-", "validation"),
            ):
                axes.plot(epochs, [row[key] for row in self.history], style, ms=4, label=label)
            axes.set(xlabel="epoch", title=name.replace("_", " "))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
            axes.legend()
        with written_whole(self.path / "learning_curve.png") as beside:
            figure.savefig(beside, dpi=150, format="png")


def save_model(model: Any, path: Path) -> None:
    """Write `model.keras` and `saved_model/` into a folder."""
    with written_whole(path / "model.keras") as beside:
        model.save(beside)
    with written_whole(path / "saved_model") as beside:
        model.export(str(beside))


def load_model(run: str | Path, kind: type[Model] = keras.Model) -> Model:
    """Load the model of a run's folder, or a `.keras` file. Nothing in it is executed.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not of the kind.
    """
    path = Path(run)
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"There is no trained model at {path}: no file {file}.")
    model = keras.models.load_model(file)
    if not isinstance(model, kind):
        raise ValueError(f"{file} holds a {type(model).__name__}, not a {kind.__name__}.")
    return model


def said_by_a_fresh_process(path: Path, texts: Sequence[str]) -> str:
    """What the SavedModel says in a new process that has TensorFlow and never sees this package."""
    script = Path(plain_tensorflow.__file__)
    # -P: what lies beside the script, this package, is out of its sight.
    command = [sys.executable, "-P", str(script), str(path), *texts]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise OSError(f"The SavedModel in {path} did not run:\n{done.stderr}")
    return done.stdout


def config_of(run: str | Path, kind: type[Config], data_dir: str | None = None) -> Config:
    """The settings of a run, whose data set may have moved to another TFDS folder since."""
    path = Path(run)
    if not path.is_dir():
        raise ValueError(f"`dataset` is needed: {path} does not say what it was trained on.")
    saved = RunFolder(path).saved_config()
    known = {field.name for field in dataclasses.fields(kind)}
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in saved.items()
        if name in known
    }
    return kind(**settings | ({"data_dir": data_dir} if data_dir else {}))


def export(run: str | Path, out: str | Path, overwrite: bool = False) -> None:
    """Write the SavedModel of a trained model to a folder."""
    out = Path(out)
    if out.exists() and not overwrite:
        raise FileExistsError(f"`out` is there already: {out}. Replace it by --overwrite.")
    if out.exists() and not (out / "saved_model.pb").is_file():
        raise FileExistsError(
            f"`out` is there already and is no SavedModel: {out}. --overwrite does not delete that."
        )
    model: Any = load_model(run)
    with written_whole(out) as beside:
        model.export(str(beside))


def versions() -> dict[str, str]:
    """The versions that a run is made with."""
    return {
        "kerasrnn": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }


def _state(model: Any) -> list[Any]:
    """Every variable that the rest of the training depends on, in a fixed order.

    Keras's own weight files leave out the dropouts' random states, and what is carried from batch to batch.
    """
    carried = getattr(model, "carried_in_training", [])
    return [*model.weights, *seed_states(model), *carried, *model.optimizer.variables]


def seed_states(model: Any) -> list[Any]:
    """What the draws of a model's dropouts go on from."""
    return [v for v in model.variables if v.path.endswith("seed_generator_state")]


class Recorder(keras.callbacks.Callback):
    """Writes the history and a checkpoint at the end of each epoch, and stops when it gets no better.

    Args:
        folder: The run's folder, with the history of the epochs that are done.
        monitor: What the epochs are compared by.
        patience: After how many epochs without a better one to stop.
        best: Whether its `"lowest"` or its `"highest"` value is the best.
    """

    def __init__(
        self, folder: RunFolder, monitor: str, patience: int, best: str = "lowest"
    ) -> None:
        super().__init__()
        self.folder = folder
        self.monitor = monitor
        self.patience = patience
        self.best = best
        self.started = 0.0

    def is_over(self) -> bool:
        """Whether the last `patience` epochs brought nothing."""
        done = len(self.folder.history)
        return done > 0 and done - self.folder.best_epoch(self.monitor, self.best) >= self.patience

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        folder = self.folder
        row = {name: float(value) for name, value in (logs or {}).items()}
        seconds = time.perf_counter() - self.started
        folder.history.append({"epoch": epoch + 1, "seconds": round(seconds, 3), **row})
        if not np.isfinite(row[self.monitor]):
            kept = " The checkpoint of the epoch before is kept." if epoch else ""
            raise ValueError(
                f"`{self.monitor}` became {row[self.monitor]} in epoch {epoch + 1}: the training broke "
                f"down. Try a smaller learning rate.{kept}"
            )
        if folder.chief:
            folder.write_history()
            best = folder.best_epoch(self.monitor, self.best)
            folder.save_state(self.model, epoch + 1, keep={best})
        if self.is_over():
            self.model.stop_training = True
