"""The memory that the language model takes to learn from a text of any size.

python -m benchmarks.memory --help
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tyro

from benchmarks._measure import in_words, where_it_ran, write
from kerasrnn._tables import table
from kerasrnn.applications.language_model import task
from kerasrnn.applications.language_model.config import LanguageModelConfig
from kerasrnn.applications.language_model.data import Encoder, Tokens, Windows
from kerasrnn.datasets import python_source

Level = Literal["character", "word"]
# Before so many lines there is a word that is nowhere else: some million in 1 GB, as in what people write.
LINES = 20


@dataclass(frozen=True)
class Options:
    """Measure the peak memory of learning from a large text.

    A few batches of training and of measuring, and all windows of an epoch, read but not learned from.
    """

    levels: tuple[Level, ...] = ("character", "word")
    """What the model predicts. Each has a process of its own."""
    size: int = 1_000_000_000
    """The size of the text, in bytes. Three times as much must be free on the disk."""
    vocabulary_size: int = 10_000
    """How many words the model knows; of characters it knows all."""
    batches: int = 50
    """How many batches to train on, and how many to measure."""
    out: str = "runs/benchmarks"
    """The folder for memory.json, and for the text while it is used."""


def write_text(path: Path, size: int) -> None:
    """Write a text of about `size` bytes: the source of Python over and over, with words that are new."""
    (source,) = python_source().values()
    lines = [
        line
        for document in source.documents()
        for piece in document
        for line in piece.splitlines(True)
    ]
    groups = [b"".join(lines[start : start + LINES]) for start in range(0, len(lines), LINES)]
    written = 0
    with path.open("wb") as file:
        for number, group in enumerate(cycle(groups)):
            written += file.write(b"# %d\n%b" % (number, group))
            if written >= size:
                return


def measure(level: Level, text: str, vocabulary_size: int, batches: int) -> dict[str, Any]:
    """Do what training does, with its first batches, in this process; and read what all others would be.

    Args:
        level: What the model predicts.
        text: The file to read.
        vocabulary_size, batches: As in `Options`.

    Returns:
        For each stage the seconds, and the peak of the memory of this process up to its end, in MB. The
        first one is that of the imports (or of the process that started this one, which has them too).
    """
    config = LanguageModelConfig(
        dataset=(text,),
        level=level,
        vocabulary_size=vocabulary_size if level == "word" else None,
        epochs=1,
    )
    stages: dict[str, Any] = {}
    begin = time.perf_counter()

    def end(stage: str) -> None:
        nonlocal begin
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        megabytes = peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
        stages[stage] = {"seconds": round(seconds, 2), "peak, MB": round(megabytes, 1)}
        begin = time.perf_counter()

    end("start")
    corpus = task.load_corpus(config)
    model = task.build(config, task.learn_vocabulary(corpus.counts, config))
    end("counting")
    encoder = Encoder(model.tokens, level)
    parts = [
        Tokens.of(part, encoder, Path(text).parent)
        for part in (corpus.train, corpus.validation, corpus.test)
    ]
    end("encoding")
    rows = Windows(parts[0], config.batch_size, config.window)
    task.compile_model(model, config, rows.count(config.batch_size))
    first = rows.training_batches(config.batch_size, config.seed, 0, 1).take(batches)
    model.fit(first, shuffle=False, verbose=0)
    end("training")
    measured = Windows(parts[1], config.batch_size, config.window, context=task.CONTEXT)
    model.evaluate(measured.batches().take(batches), verbose=0)
    end("measuring")
    # Of the file of numbers the system counts what has been read as this process's memory.
    for _ in rows.training_batches(config.batch_size, config.seed, 0, 1):
        pass
    end("reading an epoch")
    sizes = {"tokens": sum(len(part.numbers) for part in parts)}
    return {**sizes, "different": len(corpus.counts), "known": len(model.tokens), "stages": stages}


def main(options: Options) -> None:
    """Measure, print and write memory.json."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if free < 3 * options.size:
        raise ValueError(
            f"`size` {options.size:,} needs {3 * options.size:,} bytes free, {out} has {free:,}: name "
            "another folder by `out`, or choose a smaller text."
        )
    result: dict[str, Any] = {"where": where_it_ran(), "options": vars(options)}
    with tempfile.TemporaryDirectory(dir=out) as folder:
        text = Path(folder) / "text.txt"
        write_text(text, options.size)
        for level in options.levels:
            given = {
                "level": level,
                "text": str(text),
                "vocabulary_size": options.vocabulary_size,
                "batches": options.batches,
            }
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.memory", "--measure", json.dumps(given)],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found = result[level] = json.loads(done.stdout.splitlines()[-1])
            lines = [[level, "seconds", "peak so far, MB"]]
            lines += [
                [stage, f"{figures['seconds']:.0f}", f"{figures['peak, MB']:.0f}"]
                for stage, figures in found["stages"].items()
            ]
            print(
                f"{table(lines)}\n{found['tokens']:,} {level}s, {found['different']:,} different, "
                f"{found['known']:,} known\n"
            )
    path = write(out, "memory", result)
    print(
        f"a text of {options.size:,} bytes, {options.batches} batches; {in_words(result['where'])}\n"
        f"written to {path}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:  # a process of `main`
        print(json.dumps(measure(**json.loads(sys.argv[2]))))
    else:
        try:
            main(tyro.cli(Options))
        except (ValueError, OSError) as error:
            sys.exit(f"benchmarks.memory: error: {error}")
