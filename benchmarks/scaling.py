"""What a second process brings to the applications' default models, and what the two say to each other.

python -m benchmarks.scaling --help
"""

from __future__ import annotations

import functools
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tyro

from benchmarks import fit
from benchmarks._measure import in_words, where_it_ran, write
from kerasrnn._tables import table
from kerasrnn.applications._strategy import Strategy, Team, replicated, sequences
from kerasrnn.applications.language_model import task as language_task


@dataclass(frozen=True)
class Options:
    """Measure the seconds of a step with one process and with two, and the bytes between them."""

    applications: tuple[fit.Application, ...] = (
        "sentiment",
        "sequence-labeling",
        "language-model",
    )
    """Which to measure."""
    dataset: str = "reviews"
    """What the sentiment model reads: as `kerasrnn train sentiment --dataset` takes it."""
    tagged: str = "sentences"
    """What the sequence labeler reads: as `kerasrnn train sequence-labeling --dataset` takes it."""
    text: str = "python"
    """What the language model reads: as `kerasrnn train language-model --dataset` takes it."""
    data_dir: str | None = None
    """A TFDS folder that holds the data sets already."""
    cores: tuple[int, int] = (0, 1)
    """The cores of the two processes, each of which has one for itself; one process has the first."""
    batches: int = 8
    """The batches of a round."""
    rounds: int = 5
    """How many rounds are measured, after one that compiles; the medians are reported."""
    out: str = "runs/benchmarks"
    """The folder for scaling.json."""


# What each loss divides by.
COUNTED: dict[str, Any] = {"language-model": language_task.counted_targets}


# The embeddings whose gradients are sparse, and how many vectors of each a sequence of a batch looks up.
LOOKUPS: dict[str, Callable[[Any, Any], list[tuple[Any, int]]]] = {
    "sentiment": lambda model, x: [(model.embedding, x.shape[1])],
    "sequence-labeling": lambda model, x: [
        (model.embedding, x.shape[1]),
        (model.character_embedding, x.shape[1] * (x.shape[2] - 1)),
    ],
    "language-model": lambda model, x: [],  # tied to the output, which has gradients for all words
}


def computed(application: fit.Application, model: Any, batches: Any) -> tuple[float, float]:
    """The bytes of the dense and of the sparse gradients in a step of one process of two."""
    tables: dict[int, int] = {}
    sparse = []
    for x, *_ in batches:
        found = LOOKUPS[application](model, x)
        tables |= {id(table): table.count_params() for table, _ in found}
        # Each vector of the share goes with its number.
        sparse.append(
            sum(len(x) / 2 * n * (4 * table.output_dim + x.dtype.size) for table, n in found)
        )
    return 4.0 * (parameters(model) - sum(tables.values())), float(np.mean(sparse))


def parameters(model: Any) -> int:
    """How many numbers are trained."""
    return sum(weight.shape.num_elements() for weight in model.trainable_weights)


def sent() -> int:
    """The bytes that the TCP connections of this process have sent, and that have arrived."""
    total = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            if not str(link.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(link.name))) as connection:
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
                total += struct.unpack_from("Q", info, 120)[0]  # tcpi_bytes_acked
        except OSError:
            continue  # gone since, or a socket of another kind
    return total


def measure(application: fit.Application, options: Options, strategy: Strategy) -> dict[str, Any]:
    """Train the default model in this process, which may be one of two.

    Returns:
        For a step, as medians over the rounds, the seconds `wall` and `cpu`; in bytes the mean of what this
        process has `sent`, and, computed, its `dense` and `sparse` gradients; and the `parameters`.
    """
    team = Team.of(strategy)
    team.meet(120)
    where = fit.Options(
        dataset=options.dataset,
        tagged=options.tagged,
        text=options.text,
        data_dir=options.data_dir,
    )
    case = fit.CASES[application](where)
    model = case.build(case.default)
    chosen = case.batches(model).take(options.batches).cache().repeat()
    rounds: list[tuple[float, ...]] = []

    def look(*_: Any) -> None:
        rounds.append((time.perf_counter(), time.process_time(), sent()))

    with replicated(team, model, COUNTED.get(application, sequences), options.batches, 1):
        model.fit(
            chosen,
            epochs=options.rounds + 1,
            steps_per_epoch=options.batches,
            shuffle=False,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=look)],
        )
    steps = np.diff(rounds, axis=0) / options.batches
    wall, cpu = np.median(steps[:, :2], axis=0).tolist()
    dense, sparse = computed(application, model, chosen.take(options.batches))
    return {
        "wall": wall,
        "cpu": cpu,
        "sent": float(steps[:, 2].mean()),
        "dense": dense,
        "sparse": sparse,
        "parameters": parameters(model),
    }


def run(application: fit.Application, options: Options, workers: int) -> list[dict[str, Any]]:
    """What `measure` gives in so many processes, each bound to a core of its own."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    cluster = {"worker": [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]}
    for each in sockets:
        each.close()
    strategy = "multi-worker" if workers > 1 else "none"
    told = json.dumps({"application": application, "options": vars(options), "strategy": strategy})
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scaling", "--measure", told],
            env={
                **os.environ,
                "CUDA_VISIBLE_DEVICES": "",
                "TF_CONFIG": json.dumps(
                    {"cluster": cluster, "task": {"type": "worker", "index": index}}
                ),
            },
            preexec_fn=functools.partial(os.sched_setaffinity, 0, {options.cores[index]}),
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(workers)
    ]
    try:
        said = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise OSError(f"A process of {application} failed; its message is above.")
    return [json.loads(text.splitlines()[-1]) for text in said]


def main(options: Options) -> None:
    """Measure, print and write scaling.json."""
    if not hasattr(os, "sched_setaffinity"):
        raise OSError("Processes can be bound to cores on Linux only.")
    if missing := set(options.cores) - os.sched_getaffinity(0):
        raise ValueError(f"`cores` names {sorted(missing)}, which this process may not use.")
    result: dict[str, Any] = {"where": where_it_ran(), "options": vars(options)}
    times = [
        ["a step", "one process, ms", "two, ms", "speedup", "efficiency", "CPU time, one", "two"]
    ]
    sizes = [
        ["bytes of a step", "parameters", "dense", "sparse", "computed", "measured", "ratio"],
    ]
    for name in options.applications:
        one, two = run(name, options, 1), run(name, options, 2)
        result[name] = {"one process": one, "two processes": two}
        (alone,) = one
        wall, cpu = max(each["wall"] for each in two), sum(each["cpu"] for each in two)
        speedup = alone["wall"] / wall
        times.append(
            [
                name,
                *(f"{1000 * seconds:.0f}" for seconds in (alone["wall"], wall)),
                f"{speedup:.2f}",
                f"{speedup / 2:.0%}",
                *(f"{1000 * seconds:.0f}" for seconds in (alone["cpu"], cpu)),
            ]
        )
        through = float(np.mean([each["sent"] for each in two]))
        # In a ring of n each sends 2 (n - 1) / n of what is summed, and n - 1 times what is gathered.
        total = alone["dense"] + alone["sparse"]
        figures = (alone["parameters"], alone["dense"], alone["sparse"], total, through)
        sizes.append([name, *(f"{figure:,.0f}" for figure in figures), f"{through / total:.3f}"])
    path = write(options.out, "scaling", result)
    print(f"{table(times)}\n\n{table(sizes)}\n")
    print(
        f"medians of {options.rounds} rounds of {options.batches} batches, a core for each process; bytes "
        f"that each process sends; {in_words(result['where'])}\nwritten to {path}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:  # a process of `main`
        told = json.loads(sys.argv[2])
        print(json.dumps(measure(**told | {"options": Options(**told["options"])})))
    else:
        try:
            main(tyro.cli(Options))
        except (ValueError, OSError) as error:
            sys.exit(f"benchmarks.scaling: error: {error}")
