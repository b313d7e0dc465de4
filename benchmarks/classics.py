"""The classic effects: peepholes tell the time, and gated cells remember where a plain RNN forgets.

python -m benchmarks.classics --help

Each result is written at once, and a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import itertools
import json
import logging
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from tqdm import tqdm

import kerasrnn
from benchmarks import cells
from benchmarks._measure import in_words, where_it_ran, write
from benchmarks.cells import Column, Problem, Result, over_seeds
from kerasrnn._tables import table


@dataclass(frozen=True)
class Options:
    """Train cells of equal size on spikes in time and on the adding problem, and compare."""

    problems: tuple[Literal["spike_delays", "timed_spikes", "adding"], ...] = (
        "spike_delays",
        "timed_spikes",
        "adding",
    )
    """What to learn: to measure delays, to make a spike every so many steps, to add; see
    `kerasrnn.datasets`."""
    seeds: tuple[int, ...] = (1,)
    """Each cell learns each problem once with each: the seed of the weights and of the examples to
    learn from. The test data have the seed 0."""
    spike_cells: tuple[str, ...] = ("lstm", "peephole_lstm")
    """The cells that measure and keep time."""
    spike_batches: int = 2000
    """The batches of 64 sequences to learn to measure, or to keep, time from."""
    delay_lengths: tuple[int, ...] = (20,)
    """The longest delays to measure, in steps; the shortest are 10 steps less."""
    delay_units: int = 2
    """The units of a layer that measures delays."""
    beat_lengths: tuple[int, ...] = (10,)
    """The steps from each spike to the next, where spikes are made."""
    beat_units: int = 8
    """The units of a layer that makes spikes."""
    adding_cells: tuple[str, ...] = ("simple_rnn", "lstm", "gru", "peephole_lstm")
    """The cells that add."""
    adding_lengths: tuple[int, ...] = (200,)
    """The time steps of the adding problem."""
    adding_units: int = 64
    """The units of a layer that adds."""
    adding_batches: int = 3000
    """The batches of 64 sequences to learn adding from, each sequence seen once."""
    check_every: int = 100
    """The batches between two looks at the test data."""
    test_examples: int = 1000
    """The sequences of the test data."""
    out: str = "runs/benchmarks/classics"
    """The folder for results.json, results.txt and results.png. What it holds already is not done
    again."""


SPREAD = 10
"""The steps between the shortest and the longest delay that is to be measured."""


def judge_delays(
    targets: np.ndarray, weights: np.ndarray, predicted: np.ndarray
) -> dict[str, float]:
    """The mean squared error at the spikes, and the share of delays that are right to the step."""
    off = np.abs(predicted - targets)[..., 0][weights > 0]
    return {
        "error": float(np.mean(np.square(off))),
        "right": float(np.mean(off < 0.5 / SPREAD)),
    }


def judge_spikes(
    targets: np.ndarray, weights: np.ndarray, predicted: np.ndarray
) -> dict[str, float]:
    """The mean squared error, and the share of sequences with all spikes at their step, and no others."""
    counts = weights > 0
    right = ((predicted > 0.5) == (targets > 0.5))[..., 0] | ~counts
    return {
        "error": float(np.mean(np.square(predicted - targets)[..., 0][counts])),
        "right": float(np.mean(right.all(axis=1))),
    }


PROBLEMS = {
    "spike_delays": Problem(
        data=lambda length, examples, seed: kerasrnn.datasets.spike_delays(
            min_delay=length - SPREAD, max_delay=length, examples=examples, seed=seed
        ),
        loss="mean_squared_error",
        activation=None,
        sequences=True,
        judge=judge_delays,
        goal="99 % of the delays right to the step",
        reached=lambda figures: figures["right"] >= 0.99,
        columns={
            "error": Column("mean squared error", ".5f", max),
            "right": Column("right to the step", ".3f", min),
        },
    ),
    "timed_spikes": Problem(
        data=lambda length, examples, seed: kerasrnn.datasets.timed_spikes(
            min_delay=length, max_delay=length, examples=examples, seed=seed
        ),
        loss="binary_crossentropy",
        activation="sigmoid",
        sequences=True,
        judge=judge_spikes,
        goal="every spike at its step, and no others",
        reached=lambda figures: figures["right"] == 1,
        columns={
            "error": Column("mean squared error", ".5f", max),
            "right": Column("sequences right", ".3f", min),
        },
    ),
    "adding": cells.PROBLEMS["adding"],
}


def chance(problem: str, length: int) -> float:
    """The mean squared error of the best answer that is always the same."""
    return {
        "spike_delays": (SPREAD + 2) / (12 * SPREAD),
        "timed_spikes": (1 - 1 / length) / length,
        "adding": 1 / 6,
    }[problem]


def wanted(options: Options) -> Iterator[tuple[dict[str, Any], int]]:
    """The settings and the seed of every training that is asked for.

    All with one seed come before the next one, so that half a run is worth looking at too.
    """
    spikes, batches = options.spike_cells, {"batches": options.spike_batches}
    own = {
        "spike_delays": (spikes, options.delay_lengths, {"units": options.delay_units} | batches),
        "timed_spikes": (spikes, options.beat_lengths, {"units": options.beat_units} | batches),
        "adding": (
            options.adding_cells,
            options.adding_lengths,
            {"units": options.adding_units, "batches": options.adding_batches},
        ),
    }
    shared = {
        "check every": options.check_every,
        "test examples": options.test_examples,
        "batch": cells.BATCH,
        "learning rate": cells.LEARNING_RATE,
        "clipnorm": cells.CLIPNORM,
    }
    for seed, problem in itertools.product(options.seeds, options.problems):
        names, lengths, sizes = own[problem]
        for length, name in itertools.product(lengths, names):
            cell = kerasrnn.cells.info(name).name
            yield {"problem": problem, "length": length, "cell": cell, **sizes, **shared}, seed


def begun(options: Options, where: dict[str, Any]) -> list[Result]:
    """The results that the folder holds, to go on with.

    Raises:
        ValueError: If they are those of another machine or version.
    """
    path = Path(options.out) / "results.json"
    if not path.exists():
        return []
    known = json.loads(path.read_text("utf-8"))
    if known["where"] != where:
        raise ValueError(
            f"{path} holds results of another machine or other versions "
            f"({in_words(known['where'])}). Name another folder by --out."
        )
    return known["results"]


def do(options: Options) -> list[Result]:
    """Do what is missing, write each result down at once, and return those that are asked for."""
    where = where_it_ran()
    results, chosen = begun(options, where), []
    with tqdm(list(wanted(options)), desc="learning", unit="network", disable=None) as bar:
        for settings, seed in bar:
            bar.set_postfix_str(f"{settings['problem']}, {settings['cell']}, seed {seed}")
            asked = {"settings": settings, "seed": seed}
            result = next((known for known in results if asked.items() <= known.items()), None)
            if result is None:
                problem = PROBLEMS[settings["problem"]]
                result = asked | cells.learn(settings["cell"], problem, settings, seed)
                results.append(result)
                write(options.out, "results", {"where": where, "results": results})
                cells._clear()
            chosen.append(result)
    return chosen


def by_network(results: list[Result], problem: str) -> dict[tuple[int, str], dict[str, Result]]:
    """The results of a problem: by length and cell, and in each by the seed."""
    found: dict[tuple[int, str], dict[str, Result]] = {}
    for result in results:
        settings = result["settings"]
        if settings["problem"] == problem:
            of = found.setdefault((settings["length"], settings["cell"]), {})
            of[str(result["seed"])] = result
    return found


def report(results: list[Result]) -> str:
    """The tables."""
    parts = []
    for name in dict.fromkeys(result["settings"]["problem"] for result in results):
        problem = PROBLEMS[name]
        heads = [column.head for column in problem.columns.values()]
        further = ["worst seed", "always the same", "batches to the goal", "seconds"]
        rows = [["", "length", "seeds", *heads, *further]]
        networks = by_network(results, name)
        for (length, cell), by_seed in networks.items():
            row = [cell, str(length), ", ".join(by_seed)]
            for figure, column in problem.columns.items():
                row.append(format(statistics.median(over_seeds(by_seed, figure)), column.form))
            error = problem.columns["error"]
            row.append(format(error.worst(over_seeds(by_seed, "error")), error.form))
            row.append(format(chance(name, length), error.form))
            row.append(
                ", ".join(str(one["batches to the goal"] or "never") for one in by_seed.values())
            )
            row.append(f"{statistics.median(over_seeds(by_seed, 'seconds of training')):.0f}")
            rows.append(row)
        settings = next(iter(next(iter(networks.values())).values()))["settings"]
        sizes = {k: v for k, v in settings.items() if k not in ("problem", "length", "cell")}
        parts.append(
            f"{name}, medians over the seeds\n{table(rows)}\n\n"
            f"the goal is {problem.goal}; {in_words(sizes)}\n"
        )
    return "\n".join([*parts, in_words(where_it_ran())]) + "\n"


def draw(results: list[Result], path: Path) -> None:
    """The error of each network: a point for each seed, and a line at their median."""
    from matplotlib.figure import Figure

    problems = list(dict.fromkeys(result["settings"]["problem"] for result in results))
    networks = [by_network(results, problem) for problem in problems]
    widths = [1 + 1.2 * len(some) for some in networks]
    figure = Figure(figsize=(sum(widths), 4), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(problems), squeeze=False, width_ratios=widths)[0]
    for axes, problem, some in zip(panels, problems, networks, strict=True):
        for place, ((length, _), by_seed) in enumerate(some.items()):
            errors = over_seeds(by_seed, "error")
            beside = 0.05 * (np.arange(len(errors)) - (len(errors) - 1) / 2)
            axes.plot(place + beside, errors, "o", color="#0072B2", ms=5)
            axes.hlines(statistics.median(errors), place - 0.3, place + 0.3, color="#0072B2")
            same = chance(problem, length)
            axes.hlines(same, place - 0.45, place + 0.45, color="0.4", lw=0.8, ls="--", zorder=1)
        axes.set_yscale("log")
        axes.set_xlim(-0.6, len(some) - 0.4)
        names = [f"{cell}\n{length} steps" for length, cell in some]
        axes.set_xticks(range(len(some)), names, fontsize=8)
        axes.set_ylabel("mean squared error")
        axes.set_title(f"{problem}\n(dashed: always the same answer)", fontsize=10)
    figure.savefig(path)


def main(options: Options) -> None:
    """Do what is missing, print, and write results.json, results.txt and results.png."""
    if any(seed <= cells.TEST_SEED for seed in options.seeds):
        raise ValueError(f"`seeds` must be greater than {cells.TEST_SEED}, got {options.seeds}.")
    for name in ("check_every", "test_examples"):
        if (value := getattr(options, name)) < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    for name in ("spike_batches", "adding_batches"):
        value, every = getattr(options, name), options.check_every
        if value < 1 or value % every:
            raise ValueError(f"`{name}` must be a multiple of `check_every`, {every}; got {value}.")
    if (least := min(options.delay_lengths, default=SPREAD + 1)) <= SPREAD:
        raise ValueError(f"`delay_lengths` must be greater than {SPREAD}, got {least}.")
    # TensorFlow takes so many models in one process for one that is traced too often.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    results = do(options)
    text = report(results)
    written = [Path(options.out) / f"results.{kind}" for kind in ("json", "txt", "png")]
    written[1].write_text(text, "utf-8")
    print(text)
    draw(results, written[2])
    print(f"written to {', '.join(map(str, written))}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, config=(tyro.conf.FlagCreatePairsOff,)))
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks.classics: error: {error}")
