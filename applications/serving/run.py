"""Serve a SavedModel over HTTP, as TensorFlow Serving's REST interface does.

python applications/serving/run.py runs/sentiment --port 8000

It needs TensorFlow, FastAPI, uvicorn and tyro, and nothing of KerasRNN: copy it to where it is to run.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import itertools
import json
import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
import tyro
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from google.protobuf.json_format import MessageToDict
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

SIGNATURE = "serving_default"
# How many times the largest body is read and dropped after an answer, before the connection ends.
DROPPED = 16
# A text `(batch,)`, or the tokens of a text `(batch, time)`.
Row = str | list[str]
Answer = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """Answer requests for the predictions of a SavedModel."""

    folder: Annotated[str, tyro.conf.Positional]
    """The folder of a run, or of a SavedModel."""
    name: str = "model"
    """The name of the model in the addresses."""
    host: str = "127.0.0.1"
    """The address to listen at; 0.0.0.0 for all that the machine has."""
    port: int = 8000
    """The port to listen at."""
    max_batch: int = 32
    """The most instances in one call of the model, and so in one request."""
    max_delay: float = 0.002
    """The seconds that an instance waits for others to be put into one call with it."""
    max_waiting: int = 64
    """The most instances that wait for a call. Requests beyond are refused at once."""
    deadline: float = 10.0
    """The seconds within which a request is read and answered, or else given up."""
    max_body: int = 1_000_000
    """The bytes of the largest request."""
    max_characters: int = 10_000
    """The characters of the longest text or token."""
    max_tokens: int = 1_000
    """The tokens of the longest instance, where the model takes tokens."""
    max_connections: int = 1_000
    """The most connections at a time."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            limit = name == "deadline" or name.startswith("max_")
            if limit and (value < 0 or (value == 0 and name != "max_delay")):
                raise ValueError(f"`{name}` must be more than 0, got {value}.")
        if self.max_waiting < self.max_batch:
            raise ValueError(
                f"`max_waiting` must be at least `max_batch`, {self.max_batch}, or a request of so many "
                f"instances is never taken; got {self.max_waiting}."
            )
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ValueError(
                f"`name` must be made of letters, digits, '_', '.' and '-', got {self.name!r}."
            )


class Model:
    """The signature `serving_default` of a SavedModel that takes strings, row by row.

    Args:
        folder: The folder of a SavedModel, or of a run, which has one in `saved_model/`.

    Attributes:
        input: The name of what it takes.
        takes_tokens: Whether a row is a list of tokens, and not one text.
        signature: The signature, as TensorFlow Serving describes it.

    Raises:
        FileNotFoundError: If there is no SavedModel.
        ValueError: If it does not take strings `(batch,)` or `(batch, time)` and nothing else.
    """

    def __init__(self, folder: str | Path) -> None:
        places = [Path(folder), Path(folder) / "saved_model"]
        path = next((path for path in places if (path / "saved_model.pb").is_file()), None)
        if path is None:
            raise FileNotFoundError(
                f"There is no SavedModel at {folder}: no saved_model.pb in it, nor in its saved_model/."
            )
        file = SavedModel.FromString((path / "saved_model.pb").read_bytes())
        signatures = file.meta_graphs[0].signature_def
        self._loaded = tf.saved_model.load(str(path))
        if SIGNATURE not in signatures:
            raise ValueError(
                f"The SavedModel in {path} has no signature {SIGNATURE!r}, only: {', '.join(signatures)}."
            )
        self.signature = MessageToDict(signatures[SIGNATURE], preserving_proto_field_name=True)
        self._answer = self._loaded.signatures[SIGNATURE]
        inputs = self._answer.structured_input_signature[1]
        kinds = {name: (spec.dtype, spec.shape.as_list()) for name, spec in inputs.items()}
        served = [(tf.string, [None]), (tf.string, [None, None])]
        if len(kinds) != 1 or not all(kind in served for kind in kinds.values()):
            raise ValueError(
                f"The SavedModel in {path} must take strings (batch,) or (batch, time), and nothing else. "
                f"It takes {kinds}."
            )
        ((self.input, (_, shape)),) = kinds.items()
        self.takes_tokens = len(shape) == 2
        self._in_time = {
            name
            for name, spec in self._answer.structured_outputs.items()
            if self.takes_tokens and spec.shape[1:2] == [None]
        }
        # The first call takes longer than all others.
        self([["a"]] if self.takes_tokens else ["a"])

    def __call__(self, rows: list[Any]) -> list[Answer]:
        """The outputs for each row by their names, of plain Python values.

        Rows of tokens may be of different lengths. They are padded with the empty string, as the model
        wants them, and what belongs to the padding is cut off the outputs.
        """
        padded = rows
        if self.takes_tokens:
            longest = max(map(len, rows))
            padded = [row + [""] * (longest - len(row)) for row in rows]
        outputs = self._answer(**{self.input: tf.constant(padded, tf.string)})
        columns = {name: _plain(values.numpy().tolist()) for name, values in outputs.items()}
        return [
            {
                name: column[number][: len(row)] if name in self._in_time else column[number]
                for name, column in columns.items()
            }
            for number, row in enumerate(rows)
        ]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


# From a request to rows


def rows_of(body: bytes, model: Any, options: Options) -> tuple[list[Row], str]:
    """What a request asks about, and in which form.

    Args:
        body: The request: JSON.
        model: What says the input's name and kind.
        options: The limits.

    Returns:
        The rows, and "instances" or "inputs", the form of the request.

    Raises:
        HTTPException: 400, with what is wrong and where.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad(f"The body must be JSON: {error}.") from None
    if not isinstance(request, dict):
        raise _bad(f"The body must be a JSON object, got {_shown(request)}.")
    asked = request.get("signature_name")
    if asked not in (None, SIGNATURE):
        raise _bad(f"`signature_name` must be {SIGNATURE!r} or left out, got {_shown(asked)}.")
    forms = [form for form in ("instances", "inputs") if form in request]
    if len(forms) != 1:
        raise _bad(f"The body must have one of `instances` and `inputs`, got {_shown(request)}.")
    (form,) = forms
    rows = request[form]
    if form == "inputs":
        rows = _under_its_name(rows, model.input, form)
    if not isinstance(rows, list):
        raise _bad(f"`{form}` must be a list, got {_shown(rows)}.")
    if not 0 < len(rows) <= options.max_batch:
        raise _bad(f"`{form}` must hold 1 to {options.max_batch:,} instances, got {len(rows):,}.")
    checked: list[Row] = []
    for number, row in enumerate(rows):
        where = f"{form}[{number}]"
        if form == "instances":
            row = _under_its_name(row, model.input, where)
        if not model.takes_tokens:
            checked.append(_text(row, where, options))
            continue
        if not isinstance(row, list):
            raise _bad(f"`{where}` must be a list of tokens, got {_shown(row)}.")
        if len(row) > options.max_tokens:
            raise _bad(
                f"`{where}` has {len(row):,} tokens. The most that this server takes is "
                f"{options.max_tokens:,}."
            )
        checked.append([_text(one, f"{where}[{at}]", options) for at, one in enumerate(row)])
    return checked, form


def _under_its_name(value: Any, name: str, where: str) -> Any:
    """What an object has under the name of the input; anything else is there without the name."""
    if not isinstance(value, dict) or [*value] == ["b64"]:
        return value
    if [*value] != [name]:
        raise _bad(f"`{where}` must hold `{name}` and nothing else, got {_shown(value)}.")
    return value[name]


def _text(value: Any, where: str, options: Options) -> str:
    try:
        if isinstance(value, dict) and isinstance(value.get("b64"), str):
            value = base64.b64decode(value["b64"], validate=True).decode()
        if not isinstance(value, str):
            raise _bad(f"`{where}` must be a string, got {_shown(value)}.")
        value.encode()
    except ValueError as error:
        raise _bad(f"`{where}` must be text in UTF-8: {error}.") from None
    if len(value) > options.max_characters:
        raise _bad(
            f"`{where}` has {len(value):,} characters. The most that this server takes is "
            f"{options.max_characters:,}."
        )
    return value


def _bad(message: str) -> HTTPException:
    return HTTPException(400, message)


def _shown(value: Any) -> str:
    """What was received, in a few words however much it is."""
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    if isinstance(value, dict):
        return f"an object with {_cut(', '.join(value) or 'nothing')}"
    return _cut(json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}..."


# Many requests, one call


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """The rows of a request, where their answers will be, and when it came."""

    rows: list[Row]
    answers: asyncio.Future[list[Answer]]
    came: float = dataclasses.field(default_factory=time.monotonic)


class Batcher:
    """Puts the rows of requests that come together into one call of the model.

    A thread of its own takes them. So the model is kept at work however much the server has to do with
    reading, and refusing, requests. While it is at work requests gather for its next call, so that calls
    grow with the load. Only an idle model is made to wait, `max_delay` at the most.

    Args:
        answer: From a list of rows to a list of as many answers.
        options: The limits.
    """

    def __init__(self, answer: Callable[[list[Row]], list[Answer]], options: Options) -> None:
        self._answer = answer
        self._options = options
        self._jobs: deque[Job] = deque()
        self._waiting = 0
        self._stopped = False
        self._changed = threading.Condition()  # It guards the three above.

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Answer, until the end of the block."""
        thread = threading.Thread(target=self._work, name="model", daemon=True)
        thread.start()
        yield
        with self._changed:
            self._stopped = True
            self._changed.notify()
        thread.join(self._options.deadline)

    def check_room(self, rows: int) -> None:
        """Refuse so many rows if they are more than may wait."""
        if self._waiting + rows > self._options.max_waiting:
            raise HTTPException(
                503, "The server has more to do than it can. Try again later.", {"Retry-After": "1"}
            )

    async def answers(self, rows: list[Row]) -> list[Answer]:
        """Wait for the answers."""
        job = Job(rows, asyncio.get_running_loop().create_future())
        with self._changed:
            self.check_room(len(rows))
            self._jobs.append(job)
            self._waiting += len(rows)
            self._changed.notify()
        try:
            return await job.answers
        except asyncio.CancelledError:  # Its deadline has passed.
            with self._changed:
                if job in self._jobs:
                    self._jobs.remove(job)
                    self._waiting -= len(rows)
            raise

    def _work(self) -> None:
        while jobs := self._next():
            found = None
            try:
                found = self._answer([row for job in jobs for row in job.rows])
            except Exception:
                logging.getLogger("uvicorn.error").exception("The model failed.")
            jobs[0].answers.get_loop().call_soon_threadsafe(_deliver, jobs, found)

    def _next(self) -> list[Job]:
        """The jobs for the next call, whole ones, in the order in which they came; none at the end."""
        most = self._options.max_batch
        jobs: list[Job] = []
        with self._changed:
            while not jobs and not self._stopped:
                self._changed.wait_for(lambda: self._jobs or self._stopped)
                if self._jobs:
                    left = self._jobs[0].came + self._options.max_delay - time.monotonic()
                    self._changed.wait_for(lambda: self._waiting >= most, left)
                room = most
                while self._jobs and len(self._jobs[0].rows) <= room:
                    jobs.append(self._jobs.popleft())
                    room -= len(jobs[-1].rows)
                self._waiting -= most - room
        return jobs


def _deliver(jobs: list[Job], found: list[Answer] | None) -> None:
    answers = iter(found or [])
    for job in jobs:
        own = list(itertools.islice(answers, len(job.rows)))
        if job.answers.done():  # Its deadline has passed.
            continue
        if found is None:
            job.answers.set_exception(HTTPException(500, "The model failed."))
        else:
            job.answers.set_result(own)


# The server


class Closing:
    """Ends a connection that is answered before the whole of a body without a bound has come.

    Such a body is longer than the limit, or does not say how long it is. Whoever sends all of it before
    it reads would lose the answer on a connection that is closed at once. So some more is read, and
    dropped; but neither without end nor beyond the deadline.

    Args:
        app: What answers.
        options: The limits.
    """

    def __init__(self, app: ASGIApp, options: Options) -> None:
        self._app = app
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, most = dict(scope.get("headers", ())), self._options.max_body
        if b"transfer-encoding" not in headers and int(headers.get(b"content-length", 0)) <= most:
            await self._app(scope, receive, send)
            return
        end = asyncio.get_running_loop().time() + self._options.deadline
        left = True

        async def received() -> Message:
            nonlocal left
            message = await receive()
            left = message.get("more_body", False)
            return message

        async def answered(message: Message) -> None:
            if not left:
                await send(message)
            elif message["type"] == "http.response.start":
                close = (b"connection", b"close")
                await send({**message, "headers": [*message["headers"], close]})
            else:
                await send({**message, "more_body": True})
                dropped = 0
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(end):
                        while left and dropped <= DROPPED * most:
                            dropped += len((await received()).get("body", b""))
                await send({**message, "body": b""})

        await self._app(scope, received, answered)


def application(model: Any, options: Options) -> ASGIApp:
    """The addresses under which the model is asked.

    Args:
        model: A `Model`, or what can be called and has its attributes.
        options: The name of the model and the limits.
    """
    batcher = Batcher(model, options)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with batcher.working():
            yield

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    address = f"/v1/models/{options.name}"

    @app.get(address)
    async def status() -> Response:
        fine = {"error_code": "OK", "error_message": ""}
        version = {"version": "1", "state": "AVAILABLE", "status": fine}
        return _json({"model_version_status": [version]})

    @app.get(f"{address}/metadata")
    async def metadata() -> Response:
        spec = {"name": options.name, "signature_name": "", "version": "1"}
        signatures = {"signature_def": {SIGNATURE: model.signature}}
        return _json({"model_spec": spec, "metadata": {"signature_def": signatures}})

    @app.post(f"{address}:predict")
    async def predict(request: Request) -> Response:
        end = asyncio.get_running_loop().time() + options.deadline
        batcher.check_room(1)  # A request that will be refused need not be read.
        async with _until(end, 408, "The request was not read whole", {"Connection": "close"}):
            body = await _body(request, options.max_body)
        rows, form = rows_of(body, model, options)
        async with _until(end, 504, "The request was not answered"):
            answers = await batcher.answers(rows)
        names = [*answers[0]]
        if form == "instances":
            alone = len(names) == 1
            return _json({"predictions": [one[names[0]] if alone else one for one in answers]})
        columns = {name: [one[name] for one in answers] for name in names}
        return _json({"outputs": columns[names[0]] if len(names) == 1 else columns})

    @app.exception_handler(AnyHTTPException)
    async def refuse(request: Request, error: AnyHTTPException) -> Response:
        message = error.detail
        if error.status_code == 404:
            message = f"There is nothing at {request.url.path}. The model is at {address}."
        elif error.status_code == 405:
            message = f"{request.url.path} does not take {request.method}."
        return _json({"error": message}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def fail(_: Request, __: Exception) -> Response:
        return _json({"error": "The server failed. Its log says how."}, 500)

    return Closing(app, options)


def _json(content: Any, status: int = 200, headers: Any = None) -> Response:
    # Infinities and NaN as TensorFlow Serving writes them, and so not by JSONResponse, which refuses them.
    return Response(json.dumps(content), status, headers, "application/json")


@contextlib.asynccontextmanager
async def _until(
    end: float, status: int, what: str, headers: dict[str, str] | None = None
) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(end):
            yield
    except TimeoutError:
        raise HTTPException(status, f"{what} within the deadline.", headers) from None


async def _body(request: Request, most: int) -> bytes:
    """The body, read in pieces, and no further than to where it is too large."""
    too_large = HTTPException(
        413, f"The body is larger than {most:,} bytes, the most that this server takes."
    )
    if int(request.headers.get("content-length", 0)) > most:
        raise too_large
    body = bytearray()
    try:
        async for piece in request.stream():
            if len(body) + len(piece) > most:
                raise too_large
            body += piece
    except ClientDisconnect:
        raise _bad("The connection was closed before the end of the body.") from None
    return bytes(body)


def main(options: Options) -> None:
    """Serve until the process is told to stop; what has been taken by then is answered first."""
    model = Model(options.folder)
    address = f"http://{options.host}:{options.port}/v1/models/{options.name}:predict"
    print(f"{options.folder} takes `{model.input}`: POST {address}", flush=True)
    uvicorn.run(
        application(model, options),
        host=options.host,
        port=options.port,
        access_log=False,
        limit_concurrency=options.max_connections,
        timeout_graceful_shutdown=int(options.deadline) + 1,
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except (ValueError, OSError) as error:
        sys.exit(f"serving: error: {error}")
