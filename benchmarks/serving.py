"""How many requests the server of `applications/serving` answers, and how soon.

python -m benchmarks.serving --help
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import aiohttp
import numpy as np
import tyro

import kerasrnn
from benchmarks._measure import in_words, where_it_ran, write
from kerasrnn._tables import table
from kerasrnn.applications.sentiment import task
from kerasrnn.applications.sentiment.config import SentimentConfig
from kerasrnn.applications.text import learn_vocabulary

SERVER = Path(__file__).parents[1] / "applications/serving/run.py"
# The longest that a request may take before the generator of the load gives it up.
PATIENCE = 60.0


@dataclass(frozen=True)
class Options:
    """Measure a server on this machine, with the load coming from the same machine."""

    run: str | None = None
    """The folder of a run or of a SavedModel. Without one: a sentiment classifier of the default settings
    but for the units, with the weights that it begins with: it takes as long as one that has learned."""
    units: int = 256
    """The units of that classifier: so many that it takes longer than to make and to read requests."""
    clients: tuple[int, ...] = (1, 4, 16, 64)
    """How many clients ask at the same time, each its next question when it has its answer: closed loop."""
    loads: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Requests that come by chance, whether or not others are answered: open loop. As multiples of
    the most that the clients had answered in a second."""
    seconds: float = 10.0
    """The length of each measurement."""
    words: int = 400
    """The words of each text, by default as many as the model reads: reviews of the package one after the
    other."""
    max_batch: int = 32
    """The most instances in one call of the model."""
    max_waiting: int = 64
    """The most instances that wait for a call; requests beyond are refused."""
    out: str = "runs/benchmarks"
    """The folder for serving.json."""

    def __post_init__(self) -> None:
        for name in ("clients", "loads"):
            values = getattr(self, name)
            if not values or min(values) <= 0:
                raise ValueError(f"`{name}` must hold numbers above 0, got {values}.")
        for name in ("seconds", "words", "units"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be more than 0, got {getattr(self, name)}.")


@dataclass(frozen=True)
class Figures:
    """What became of the requests of a measurement.

    Attributes:
        asked: Requests that were sent in a second.
        served: Requests that were answered with a prediction, in a second, while others were still sent.
        shed: The share that was refused with status 503.
        failed: How many ended in any other way.
        p50, p99: The milliseconds within which 50 and 99 of 100 answers came, those that came after the
            sending too; None without any answer.
    """

    asked: float
    served: float
    shed: float
    failed: int
    p50: float | None
    p99: float | None

    @classmethod
    def of(cls, found: Sequence[tuple[int, float, float]], seconds: float) -> Figures:
        """From what became of each request, and for how many seconds they were sent.

        Of each there are the status (0 for none), the seconds that it took, and when it ended, in seconds
        since the first.
        """
        taken = [1000 * each for status, each, _ in found if status == 200]
        shed = sum(status == 503 for status, _, _ in found)
        p50, p99 = (float(np.percentile(taken, p)) if taken else None for p in (50, 99))
        return cls(
            len(found) / seconds,
            sum(status == 200 and ended <= seconds for status, _, ended in found) / seconds,
            shed / max(len(found), 1),
            len(found) - len(taken) - shed,
            p50,
            p99,
        )

    def row(self) -> list[str]:
        """As cells of a table."""
        times = ["-" if each is None else f"{each:.1f}" for each in (self.p50, self.p99)]
        return [
            f"{self.asked:.0f}",
            f"{self.served:.0f}",
            f"{self.shed:.1%}",
            str(self.failed),
            *times,
        ]


COLUMNS = ("asked/s", "served/s", "shed", "failed", "p50, ms", "p99, ms")


# The load


async def ask(session: aiohttp.ClientSession, url: str, body: bytes) -> int:
    """The status of the answer to one request, 0 if none came."""
    try:
        async with session.post(url, data=body) as answer:
            await answer.read()
            return answer.status
    except (aiohttp.ClientError, TimeoutError):
        return 0


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections without a limit of their own, which are kept."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(PATIENCE),
        headers={"Content-Type": "application/json"},
    ) as made:
        yield made


async def closed_loop(url: str, bodies: Sequence[bytes], clients: int, seconds: float) -> Figures:
    """Each client asks its next question as soon as it has the answer to the one before.

    Args:
        url: Where to ask.
        bodies: The requests, which are sent in turn, over and over.
        clients: How many ask at the same time.
        seconds: How long they go on.
    """
    questions = cycle(bodies)
    found: list[tuple[int, float, float]] = []

    async def client(connections: aiohttp.ClientSession, begin: float) -> None:
        while (asked := time.perf_counter()) < begin + seconds:
            status = await ask(connections, url, next(questions))
            ended = time.perf_counter()
            found.append((status, ended - asked, ended - begin))

    async with session() as connections:
        begin = time.perf_counter()
        await asyncio.gather(*(client(connections, begin) for _ in range(clients)))
        return Figures.of(found, time.perf_counter() - begin)


async def open_loop(url: str, bodies: Sequence[bytes], rate: float, seconds: float) -> Figures:
    """Requests come as people do, at times that do not depend on the answers (a Poisson process).

    What a request takes is counted from the time when it was due, so that a generator which is late
    makes nothing look better.

    Args:
        url: Where to ask.
        bodies: The requests, which are sent in turn, over and over.
        rate: How many come in a second, on average.
        seconds: How long they come.
    """
    random = np.random.default_rng(0)
    found: list[tuple[int, float, float]] = []
    due = np.cumsum(random.exponential(1 / rate, max(1, round(rate * seconds))))

    async def one(connections: aiohttp.ClientSession, after: float, body: bytes) -> None:
        status = await ask(connections, url, body)
        ended = time.perf_counter() - begin
        found.append((status, ended - after, ended))

    async with session() as connections, asyncio.TaskGroup() as requests:
        begin = time.perf_counter()
        for after, body in zip(due, cycle(bodies), strict=False):
            await asyncio.sleep(begin + after - time.perf_counter())
            requests.create_task(one(connections, after, body))
        sent = time.perf_counter() - begin
    return Figures.of(found, sent)


# The server


@contextlib.contextmanager
def server(folder: str | Path, **flags: Any) -> Iterator[str]:
    """A server in a process of its own, from when it answers until the end of the block.

    Args:
        folder: What it serves.
        **flags: Its settings.

    Returns:
        The address of the model.

    Raises:
        OSError: If it ends before it answers.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, str(SERVER), str(folder), "--port", str(port), *given],
            stdout=log,
            stderr=log,
        )
        try:
            try:
                wait_for(port, process)
            except OSError as error:
                log.seek(0)
                raise OSError(f"{error}:\n{log.read()}") from None
            yield f"http://127.0.0.1:{port}/v1/models/model"
        finally:
            process.terminate()
            process.wait()


def wait_for(port: int, process: subprocess.Popen[Any]) -> None:
    """Until a process listens to a port of this machine.

    Raises:
        OSError: If it ends before.
    """
    while process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.05)
    raise OSError(f"the server ended with exit status {process.returncode} before it answered")


def cut(texts: Sequence[str], words: int) -> list[str]:
    """As many texts of so many words: each begins with one of these, and goes on with those behind it."""
    split = [text.split() for text in texts]
    made = []
    for start in range(len(split)):
        following = chain.from_iterable(islice(cycle(split), start, None))
        made.append(" ".join(islice(following, words)))
    return made


async def questions(url: str, texts: Sequence[str]) -> list[bytes]:
    """Requests about one text each, in the form that the model takes."""
    async with session() as connections, connections.get(f"{url}/metadata") as answer:
        metadata = await answer.json()
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    (spec,) = signature["inputs"].values()
    of_tokens = len(spec["tensor_shape"]["dim"]) == 2
    rows = [text.split() if of_tokens else text for text in texts]
    return [json.dumps({"instances": [row]}).encode() for row in rows]


def export_default(folder: Path, texts: Sequence[str], units: int) -> Path:
    """A sentiment classifier, as a SavedModel."""
    config = SentimentConfig(units=units)
    vocabulary = learn_vocabulary(texts, config.vocabulary_size)
    model = task.build(config, vocabulary, ("negative", "positive"))
    model.export(str(folder / "saved_model"))
    return folder / "saved_model"


def main(options: Options) -> None:
    """Measure, print and write serving.json."""
    reviews = kerasrnn.datasets.reviews()["train"].texts
    texts = cut(reviews, options.words)
    where = where_it_ran() | {name: version(name) for name in ("fastapi", "uvicorn", "aiohttp")}
    result: dict[str, Any] = {"where": where, "options": vars(options)}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as servers:
        run = options.run or export_default(Path(folder), reviews, options.units)
        batches = {
            name: servers.enter_context(
                server(run, **{"max-batch": size, "max-waiting": options.max_waiting})
            )
            for name, size in (("one by one", 1), (f"up to {options.max_batch}", options.max_batch))
        }
        asyncio.run(_measure(options, batches, texts, result))
    path = write(options.out, "serving", result)
    print(f"one text of {options.words} words in a request; load and server on one machine")
    print(f"{options.seconds:g} s each; {in_words(where)}\nwritten to {path}")


async def _measure(
    options: Options, batches: dict[str, str], texts: Sequence[str], result: dict[str, Any]
) -> None:
    """Fill in the results, and print their tables."""
    urls = {name: f"{url}:predict" for name, url in batches.items()}
    bodies = await questions(next(iter(batches.values())), texts)
    for url in urls.values():  # Whatever is slow the first time.
        await closed_loop(url, bodies, max(options.clients), min(1.0, options.seconds))
    lines = [["closed loop: clients", "in one call", *COLUMNS]]
    closed: dict[str, list[Figures]] = {name: [] for name in urls}
    for clients in options.clients:
        for name, url in urls.items():
            closed[name].append(await closed_loop(url, bodies, clients, options.seconds))
            lines.append([str(clients), name, *closed[name][-1].row()])
    print(table(lines), end="\n\n")
    best = {name: max(figures.served for figures in found) for name, found in closed.items()}
    alone, together = best.values()
    print(f"at the most {together:.0f} a second together, {alone:.0f} one by one", end="")
    print(f": {together / alone:.2f} times as many\n")
    *_, url = urls.values()
    lines = [["open loop: load", *COLUMNS]]
    opened = []
    for load in options.loads:
        opened.append(await open_loop(url, bodies, load * together, options.seconds))
        lines.append([f"{load:g} of {together:.0f}/s", *opened[-1].row()])
    after = await closed_loop(url, bodies, 1, min(2.0, options.seconds))
    lines.append(["after it, 1 client", *after.row()])
    print(table(lines), end="\n\n")
    result["closed loop"] = {
        name: dict(zip(map(str, options.clients), map(asdict, found), strict=True))
        for name, found in closed.items()
    }
    result["capacity"] = best
    result["open loop"] = dict(zip(map(str, options.loads), map(asdict, opened), strict=True))
    result["after"] = asdict(after)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks.serving: error: {error}")
