"""Every registered cell: what a layer of it costs, and what it learns of two classic problems.

python -m benchmarks.cells --help

Each result is written at once, and a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import gc
import io
import itertools
import json
import logging
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tyro
from tqdm import tqdm

import kerasrnn
from benchmarks._measure import Step, in_words, interleaved, where_it_ran, write
from benchmarks.layers import BACKEND, Workload, keras_step
from kerasrnn._tables import table
from kerasrnn.layers._fused import fused_loop, generic_loop, library_loop

Result = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """Measure every cell: its time beside Keras's LSTM, and what it learns in a small budget."""

    cells: tuple[str, ...] = kerasrnn.cells.names()
    """Registered names; by default all."""
    skip_speed: bool = False
    """Measure no times."""
    skip_learning: bool = False
    """Learn no problem."""
    problems: tuple[Literal["adding", "embedded_reber"], ...] = ("adding", "embedded_reber")
    """The problems to learn; see `kerasrnn.datasets`."""
    seeds: tuple[int, ...] = (1, 2)
    """Each cell learns each problem once with each: the seed of the weights and of the examples to
    learn from. The test data have the seed 0."""
    units: int = 64
    """The units of each layer, of those that are timed and of those that learn."""
    batch: int = 32
    """The sequences of a batch that is timed."""
    time: int = 100
    """The time steps of a batch that is timed."""
    features: int = 64
    """The input's features in a batch that is timed."""
    rounds: int = 10
    """How often each contender has its turn; the medians are reported."""
    group: int = 4
    """How many cells are timed in one interleaved run, each group with Keras's LSTM. Fewer need
    less memory."""
    adding_length: int = 50
    """The time steps of the adding problem."""
    adding_batches: int = 2000
    """The batches of 64 sequences to learn adding from, each sequence seen once."""
    reber_length: int = 40
    """The symbols of the longest string of the embedded Reber grammar."""
    reber_batches: int = 800
    """The batches of 64 strings to learn the grammar from, each string seen once."""
    check_every: int = 50
    """The batches between two looks at the test data."""
    test_examples: int = 2000
    """The sequences of the test data."""
    out: str = "runs/benchmarks/cells"
    """The folder for results.json, results.txt and results.png. With the results of the same
    settings in it, only what is missing is done."""


def layer(name: str, units: int, **options: Any) -> kerasrnn.layers.Recurrent:
    """A layer of a registered cell, for inputs of any size."""
    row = kerasrnn.cells.info(name)
    # Without a learned map such a cell takes inputs of the size `units` only.
    extra = {"project_input": True} if "project_input" in row.cell_class.parameters() else {}
    return kerasrnn.layers.Recurrent(kerasrnn.cells.get(name, units, **extra), **options)


def runs_by(recurrent: kerasrnn.layers.Recurrent, training: bool) -> str:
    """What runs the steps of a layer that is built: one of `_MARKS`."""
    import tensorflow as tf

    if recurrent._is_scanned():
        return "scan"
    with tf.Graph().as_default():  # The choice depends on it.
        kernel = recurrent._kernel(training, None)
    return {
        None: "loop",
        fused_loop: "own kernel",
        library_loop: "cuDNN",
        generic_loop: "generic kernel",
    }[kernel]


# What compiles by itself, or cannot be.
KERNELS = ("own kernel", "generic kernel", "cuDNN")

# What it costs.

WAYS = {"forward": False, "training": True}
PEER = "keras.layers.LSTM"


def contenders(name: str, options: Options, training: bool) -> dict[str, Step]:
    """The steps of a cell's layer, or of the peer, by how it is run."""
    workload = Workload(options.batch, options.time, options.features, options.units)
    made = {}
    for jit in (False, True):
        if name == PEER:
            one = keras.layers.LSTM(options.units, return_sequences=True)
        else:
            one = layer(name, options.units, return_sequences=True)
        step = keras_step(one, workload, training, jit)
        run = "loop" if name == PEER else runs_by(one, training)
        # XLA compiles a kernel's loop anyway, and on JAX everything.
        if not (jit and (BACKEND != "tensorflow" or run in KERNELS)):
            made[run + ", jit" * jit] = step
    return made


def measure(names: list[str], options: Options) -> dict[str, Result]:
    """The figures of some cells, from interleaved runs of their own."""
    found: dict[str, Result] = {}
    for name in names:
        built = layer(name, options.units)
        built.build((None, None, options.features))
        found[name] = {"parameters": built.count_params()}
    for way, training in WAYS.items():
        steps = {
            (name, run): step
            for name in (PEER, *names)
            for run, step in contenders(name, options, training).items()
        }
        medians, _ = interleaved(steps, options.rounds, f"{way}, {len(names)} cells")
        seconds = {
            name: {run: s for (of, run), s in medians.items() if of == name}
            for name in (PEER, *names)
        }
        peer = min(seconds[PEER].values())
        for name in names:
            run = min(seconds[name], key=seconds[name].__getitem__)
            found[name][way] = {
                f"to {PEER}": round(seconds[name][run] / peer, 4),
                "run by": run,
                "microseconds per time step": round(1e6 * seconds[name][run] / options.time, 2),
                "milliseconds": {r: round(1e3 * s, 3) for r, s in seconds[name].items()},
                f"milliseconds of {PEER}": {r: round(1e3 * s, 3) for r, s in seconds[PEER].items()},
            }
    return found


# What it learns.

BATCH, LEARNING_RATE, CLIPNORM = 64, 0.003, 1.0
TEST_SEED = 0


class Column(NamedTuple):
    """A figure of a problem in its table."""

    head: str
    form: str
    worst: Callable[..., float]
    """Which of several seeds did worst by this figure."""


class Problem(NamedTuple):
    """A problem to learn."""

    data: Callable[[int, int, int], Any]
    """Makes a data set of a length, a number of examples and a seed."""
    loss: str
    activation: str | None
    sequences: bool
    """Whether every step has a target."""
    judge: Callable[..., dict[str, float]]
    """The figures: from the targets, the weights of the steps if any, and the predictions."""
    goal: str
    reached: Callable[[dict[str, float]], bool]
    """Whether the figures reach the goal."""
    columns: dict[str, Column]
    """How each figure is shown."""


def judge_sums(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """The mean squared error."""
    return {"error": float(np.mean(np.square(predicted - targets)))}


def judge_strings(
    targets: np.ndarray, weights: np.ndarray, predicted: np.ndarray
) -> dict[str, float]:
    """How many strings are right at every step; and how many at the last symbol but one."""
    right = ((predicted > 0.5) == (targets > 0.5)).all(axis=2) | (weights == 0)
    # The last target of a string is its last E. The one before is the T or the P that was the
    # second symbol: the likeliest is taken, so that who does not remember is right in 1 of 2 cases.
    place = (np.arange(len(targets)), weights.astype(bool).sum(axis=1) - 2)
    remembered = predicted[place].argmax(axis=1) == targets[place].argmax(axis=1)
    return {"strings": float(right.all(axis=1).mean()), "last but one": float(remembered.mean())}


PROBLEMS = {
    "adding": Problem(
        data=lambda length, examples, seed: kerasrnn.datasets.adding(
            length=length, examples=examples, seed=seed
        ),
        loss="mean_squared_error",
        activation=None,
        sequences=False,
        judge=judge_sums,
        goal="a mean squared error below 0.02",
        reached=lambda figures: figures["error"] < 0.02,
        columns={"error": Column("mean squared error", ".4f", max)},
    ),
    "embedded_reber": Problem(
        data=lambda length, examples, seed: kerasrnn.datasets.embedded_reber(
            max_length=length, examples=examples, seed=seed
        ),
        loss="binary_crossentropy",
        activation="sigmoid",
        sequences=True,
        judge=judge_strings,
        goal="99 % of the strings right",
        reached=lambda figures: figures["strings"] >= 0.99,
        columns={
            "strings": Column("strings right", ".3f", min),
            "last but one": Column("last but one right", ".3f", min),
        },
    ),
}


class _Checks(keras.callbacks.Callback):
    """The figures on the test data after every epoch, and the seconds that training took."""

    def __init__(self, test: list[np.ndarray], judge: Callable[..., dict[str, float]]) -> None:
        super().__init__()
        self.test = test
        self.judge = judge
        self.figures: list[dict[str, float]] = []
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self.begin)
        inputs, *answers = self.test
        self.figures.append(self.judge(*answers, self.model.predict_on_batch(inputs)))


def learn(name: str, problem: Problem, sizes: Result, seed: int) -> Result:
    """What a cell has learned of a problem when its batches are spent.

    Args:
        name: The cell.
        problem: What to learn.
        sizes: The settings of the problem.
        seed: The seed of the weights and of the examples.
    """
    keras.utils.set_random_seed(seed)
    every, count = sizes["check every"], sizes["test examples"]
    tests = problem.data(sizes["length"], count, TEST_SEED).batch(count)
    test = list(next(tests.as_numpy_iterator()))
    examples = problem.data(sizes["length"], BATCH * sizes["batches"], seed)
    recurrent = layer(name, sizes["units"], return_sequences=problem.sequences)
    model = keras.Sequential(
        [
            keras.Input(test[0].shape[1:]),
            recurrent,
            keras.layers.Dense(test[1].shape[-1], activation=problem.activation),
        ]
    )
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE, global_clipnorm=CLIPNORM),
        problem.loss,
        # A kernel is compiled as it is; Keras's loop becomes about twice as fast at these sizes.
        jit_compile=runs_by(recurrent, training=True) not in KERNELS,
    )
    checks = _Checks(test, problem.judge)
    model.fit(
        examples.batch(BATCH, drop_remainder=True).prefetch(4),
        steps_per_epoch=every,
        epochs=sizes["batches"] // every,
        callbacks=[checks],
        shuffle=False,
        verbose=0,
    )
    reached = [number for number, now in enumerate(checks.figures, 1) if problem.reached(now)]
    return {
        # JSON has no word for what is not a number, which is what a diverged network ends with.
        **{k: round(v, 6) if math.isfinite(v) else None for k, v in checks.figures[-1].items()},
        "batches to the goal": reached[0] * every if reached else None,
        "milliseconds per batch": round(1e3 * statistics.median(checks.seconds) / every, 3),
        "seconds of training": round(sum(checks.seconds), 2),
    }


# What is there already, and what is still to do.


def settings(options: Options) -> dict[str, Result]:
    """What decides on the figures of each part that is asked for."""
    own = {
        "adding": {"length": options.adding_length, "batches": options.adding_batches},
        "embedded_reber": {"length": options.reber_length, "batches": options.reber_batches},
    }
    learning = {
        "units": options.units,
        "batch": BATCH,
        "learning rate": LEARNING_RATE,
        "clipnorm": CLIPNORM,
        "check every": options.check_every,
        "test examples": options.test_examples,
    }
    wanted = {}
    if not options.skip_speed:
        names = ("batch", "time", "features", "units", "rounds")
        wanted["speed"] = {name: getattr(options, name) for name in names}
    if not options.skip_learning:
        wanted |= {part: own[part] | learning for part in PROBLEMS if part in options.problems}
    return wanted


def begun(options: Options) -> Result:
    """The results that the folder holds, to go on with; or none yet.

    Raises:
        ValueError: If they are those of other settings, or of another machine or version.
    """
    result: Result = {"where": where_it_ran(), "settings": {}}
    path = Path(options.out) / "results.json"
    wanted = settings(options)
    if path.exists():
        known = json.loads(path.read_text("utf-8"))
        pairs = [("where it ran", known["where"], result["where"])]
        pairs += [(p, known["settings"][p], s) for p, s in wanted.items() if p in known["settings"]]
        for part, old, new in pairs:
            for name in {**old, **new}:
                if old.get(name) != new.get(name):
                    raise ValueError(
                        f"{path} holds results of other settings ({part}: {name} was "
                        f"{old.get(name)}, now {new.get(name)}). Name another folder by --out."
                    )
        result = known
    result["settings"] |= wanted
    for part in wanted:
        result.setdefault(part, {})
    return result


def do(options: Options, names: list[str], result: Result) -> None:
    """Do what is missing in `result`, and write each figure down at once."""
    wanted = settings(options)
    if "speed" in wanted:
        missing = [name for name in names if name not in result["speed"]]
        with tqdm(total=len(missing), desc="speed", unit="cell", disable=None) as bar:
            for start in range(0, len(missing), options.group):
                group = missing[start : start + options.group]
                result["speed"] |= measure(group, options)
                write(options.out, "results", result)
                _clear()
                bar.update(len(group))
    # All cells with one seed before the next one, so that half a run is worth looking at too.
    todo = [
        (seed, part, name)
        for seed, part, name in itertools.product(options.seeds, PROBLEMS, names)
        if part in wanted and str(seed) not in result[part].get(name, {})
    ]
    with tqdm(todo, desc="learning", unit="network", disable=None) as bar:
        for seed, part, name in bar:
            bar.set_postfix_str(f"{part}, {name}, seed {seed}")
            learned = learn(name, PROBLEMS[part], wanted[part], seed)
            result[part].setdefault(name, {})[str(seed)] = learned
            write(options.out, "results", result)
            _clear()


def _clear() -> None:
    """Let go of graphs and of what was compiled for them."""
    keras.backend.clear_session()
    gc.collect()


# What is shown.


def over_seeds(by_seed: dict[str, Result], figure: str) -> list[float]:
    """A figure with each seed; infinite where there is none."""
    values = [result[figure] for result in by_seed.values()]
    return [math.inf if value is None else value for value in values]


def report(result: Result, names: list[str]) -> str:
    """The tables."""
    text = io.StringIO()
    for part in ("speed", *PROBLEMS):
        if done := [name for name in names if name in result.get(part, {})]:
            show = _speed_table if part == "speed" else _problem_table
            print(show(result, done, part), file=text)
    print(in_words(result["where"]), file=text)
    return text.getvalue()


def _speed_table(result: Result, names: list[str], part: str) -> str:
    found = {name: result[part][name] for name in names}
    rows = [["", "parameters", "forward", "run by", "training", "run by"]]
    for name, row in found.items():
        rows.append([name, f"{row['parameters']:,}"])
        for way in WAYS:
            rows[-1] += [f"{row[way][f'to {PEER}']:.2f}", row[way]["run by"]]
    chosen = result["settings"][part]
    peers = []
    for way in WAYS:
        times = [min(row[way][f"milliseconds of {PEER}"].values()) for row in found.values()]
        peers.append(f"{way} {1e3 * statistics.median(times) / chosen['time']:.0f}")
    return (
        f"time, as a multiple of that of {PEER} (below 1 is faster)\n{table(rows)}\n\n"
        f"{PEER}, microseconds per time step: {', '.join(peers)}\n"
        f"medians of interleaved rounds, of jit on and off the better; {in_words(chosen)}\n"
    )


def _problem_table(result: Result, names: list[str], part: str) -> str:
    problem = PROBLEMS[part]
    heads = [(column.head, "worst seed") for column in problem.columns.values()]
    rows = [["", "seeds", *itertools.chain(*heads), "batches to the goal", "ms per batch"]]
    for name in names:
        by_seed = result[part][name]
        row = [name, ", ".join(by_seed)]
        for figure, column in problem.columns.items():
            values = over_seeds(by_seed, figure)
            row += [
                format(v, column.form) for v in (statistics.median(values), column.worst(values))
            ]
        row.append(
            ", ".join(str(one["batches to the goal"] or "never") for one in by_seed.values())
        )
        row.append(f"{statistics.median(over_seeds(by_seed, 'milliseconds per batch')):.1f}")
        rows.append(row)
    return (
        f"{part}, medians over the seeds\n{table(rows)}\n\n"
        f"the goal is {problem.goal}; {in_words(result['settings'][part])}\n"
    )


# Okabe and Ito's colours, which the colour-blind tell apart, as they do the shapes.
_MARKS = {
    "own kernel": ("#0072B2", "o"),
    "generic kernel": ("#E69F00", "D"),
    "cuDNN": ("#CC79A7", "v"),
    "scan": ("#009E73", "^"),
    "loop": ("#D55E00", "s"),
}


def draw(result: Result, names: list[str], path: Path) -> bool:
    """What each cell learned against its training time, a point for each, with its name.

    Returns whether there was anything to draw: a cell of which both are known.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    drawn = {part: list(_points(result, names, part)) for part in PROBLEMS}
    parts = [part for part, points in drawn.items() if points]
    if not parts:
        return False
    figure = Figure(figsize=(7 * len(parts), 7), dpi=150, layout="constrained")
    panels = list(zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True))
    for axes, part in panels:
        for kind, (colour, marker) in _MARKS.items():
            some = [(x, y) for _, how, x, y in drawn[part] if how == kind]
            if some:
                axes.scatter(
                    *zip(*some, strict=True), s=30, c=colour, marker=marker, label=kind, zorder=3
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.margins(0.12, 0.08)
        axes.set_xlabel(f"time of a training step, {PEER} = 1")
        axes.grid(color="0.9", lw=0.6)
        plain = [axes.xaxis]
        if part == "adding":
            axes.axhline(1 / 6, color="0.4", lw=0.8, ls="--", zorder=1)
            axes.set_title("adding: mean squared error\n(dashed: always the same answer)")
        else:
            plain.append(axes.yaxis)
            budget = result["settings"][part]["batches"]
            axes.axhline(budget * _NEVER, color="0.4", lw=0.8, ls="--", zorder=1)
            axes.set_title("embedded Reber: batches to 99 % of the strings\n(dashed: never)")
        for axis in plain:
            axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_locator(NullLocator())
        axes.legend(title="run by", fontsize=8, title_fontsize=8, loc="best")
    figure.draw_without_rendering()  # From now on the axes stay where they are.
    for axes, part in panels:
        place_labels(axes, [(name, x, y) for name, _, x, y in drawn[part]])
    figure.savefig(path)
    return True


_NEVER = 1.2  # Where what never came stands, in budgets.


def _points(result: Result, names: list[str], part: str) -> Iterator[tuple[str, str, float, float]]:
    """Name, what runs it, training time and what was learned, the median over the seeds."""
    for name in names:
        if any(name not in result.get(half, {}) for half in ("speed", part)):
            continue
        training, by_seed = result["speed"][name]["training"], result[part][name]
        figure = "error" if part == "adding" else "batches to the goal"
        # A network that diverged, or never came to the goal, stands at the top.
        top = 1.0 if part == "adding" else result["settings"][part]["batches"] * _NEVER
        y = min(statistics.median(over_seeds(by_seed, figure)), top)
        yield name, training["run by"].partition(",")[0], training[f"to {PEER}"], y


def place_labels(axes: Any, points: list[tuple[str, float, float]]) -> list[Any]:
    """Write names beside points, none over another, over a point or outside; return their boxes.

    Each takes the nearest free place, with a line to its point if that is not beside it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    unit = axes.figure.dpi / 72  # pixels
    centres = axes.transData.transform([(x, y) for _, x, y in points])
    taken = [Bbox(((x - 5 * unit, y - 5 * unit), (x + 5 * unit, y + 5 * unit))) for x, y in centres]
    taken.append(axes.get_legend().get_window_extent(renderer))
    inside = axes.get_window_extent(renderer)
    boxes = []
    for (name, *point), centre in zip(points, centres, strict=True):
        text = axes.annotate(name, point, fontsize=7)
        size = text.get_window_extent(renderer)
        text.remove()
        reach = np.array((size.width + 2 * unit, size.height)) / 2
        for place in _places(centre, reach, unit):
            box = Bbox((place - reach, place + reach))
            within = inside.contains(*box.min) and inside.contains(*box.max)
            if within and not any(box.overlaps(other) for other in taken):
                break
        away = np.hypot(*(np.clip(centre, box.min, box.max) - centre)) > 8 * unit
        line = {"arrowstyle": "-", "color": "0.5", "lw": 0.5, "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            name,
            point,
            (place - centre) / unit,
            textcoords="offset points",
            fontsize=7,
            ha="center",
            va="center",
            arrowprops=line if away else None,
            path_effects=[withStroke(linewidth=2, foreground="white")],  # over lines
            in_layout=False,
        )
        taken.append(box)
        boxes.append(box)
    return boxes


def _places(centre: np.ndarray, reach: np.ndarray, unit: float) -> Iterator[np.ndarray]:
    """Where the middle of a text may stand beside a point, from near to far."""
    for ring in range(60):
        angles = np.linspace(0, 2 * np.pi, 8 + 4 * ring, endpoint=False)
        for direction in np.stack([np.cos(angles), np.sin(angles)], axis=1):
            yield centre + direction * (reach + (6 + 4 * ring) * unit)


def main(options: Options) -> None:
    """Do what is missing, print, and write results.json, results.txt and results.png."""
    names = list(dict.fromkeys(kerasrnn.cells.info(name).name for name in options.cells))
    if any(seed <= TEST_SEED for seed in options.seeds):
        raise ValueError(f"`seeds` must be greater than {TEST_SEED}, got {options.seeds}.")
    for name in ("rounds", "group", "check_every", "test_examples"):
        if (value := getattr(options, name)) < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    for name in ("adding_batches", "reber_batches"):
        value, every = getattr(options, name), options.check_every
        if value < 1 or value % every:
            raise ValueError(f"`{name}` must be a multiple of `check_every`, {every}; got {value}.")
    # TensorFlow takes so many models in one process for one that is traced too often.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    result = begun(options)
    do(options, names, result)
    path = write(options.out, "results", result)
    text = report(result, names)
    path.with_suffix(".txt").write_text(text, "utf-8")
    print(text)
    written = [path, path.with_suffix(".txt")]
    if draw(result, names, path.with_suffix(".png")):
        written.append(path.with_suffix(".png"))
    print(f"written to {', '.join(map(str, written))}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, config=(tyro.conf.FlagCreatePairsOff,)))
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks.cells: error: {error}")
