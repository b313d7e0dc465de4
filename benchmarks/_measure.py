"""What the benchmarks share: interleaved rounds, tables, where it ran, and the files they write."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
from tqdm import tqdm

from kerasrnn._files import written_whole

Step = Callable[[], object]
Name = TypeVar("Name")


def interleaved(
    steps: Mapping[Name, Step], rounds: int, title: str
) -> tuple[dict[Name, float], dict[Name, float]]:
    """The median seconds of each step, and the seconds of its first call.

    In every round each contender has its turn, so that whatever slows the machine down slows all.
    """
    first = {}
    for name, step in tqdm(steps.items(), desc=f"{title}, first calls", leave=False, disable=None):
        begin = time.perf_counter()
        step()
        first[name] = time.perf_counter() - begin
        step()
    seconds: dict[Name, list[float]] = {name: [] for name in steps}
    for _ in tqdm(range(rounds), desc=title, leave=False, disable=None):
        for name, step in steps.items():
            time.sleep(0.02)  # The threads of the one before spin for a while before they sleep.
            begin = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begin)
    return {name: float(np.median(taken)) for name, taken in seconds.items()}, first


def where_it_ran() -> dict[str, Any]:
    """The machine and the versions."""
    versions = {}
    for name in ("kerasrnn", "keras", "tensorflow", "torch", "onnxruntime", "jax", "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {"processor": _processor(), "cores": cores, "python": platform.python_version()}
    return machine | {"backend": keras.backend.backend()} | versions


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def in_words(where: dict[str, Any]) -> str:
    """What `where_it_ran` gives, on one line."""
    return ", ".join(f"{name} {value}" for name, value in where.items())


def write(out: str | Path, name: str, content: dict[str, Any]) -> Path:
    """Write `name`.json into a folder."""
    path = Path(out) / f"{name}.json"
    with written_whole(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return path
