"""The server of applications/serving answers as TensorFlow Serving does, and goes on whatever is asked."""

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
import uvicorn

from applications.serving.run import Model, Options, application
from benchmarks import serving
from tests.applications._helpers import ROOT

PREDICT = "/v1/models/model:predict"
TEXTS = ["a great film", "dull", "", "nobody knows thïs"]


@contextlib.contextmanager
def served(model, **limits):
    """The port of a server in a thread of this process."""
    app = application(model, Options("", **limits))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def ask(port, content, path=PREDICT, method="POST", body=None):
    """The status, the content and the headers of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, json.dumps(content) if body is None else body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers


@contextlib.contextmanager
def raw(port, *parts):
    """A socket over which `parts` have been sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"".join(parts))
        yield connection


def status_line(connection):
    return connection.makefile("rb").readline().decode()


def head(path=PREDICT, **headers):
    lines = [f"POST {path} HTTP/1.1", "Host: x", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).replace("_", "-").encode()


@pytest.fixture(scope="module")
def exported(trained):
    return Model(trained.folder)


@pytest.fixture(scope="module")
def sentiment(exported):
    with served(exported, max_characters=200) as port:
        yield port


# In the form of TensorFlow Serving


def test_rows_and_columns(sentiment, trained):
    status, answer, headers = ask(sentiment, {"instances": TEXTS})
    assert status == 200 and headers["Content-Type"] == "application/json"
    rows = answer["predictions"]
    assert_probabilities(keras.models.load_model(trained.folder / "model.keras"), TEXTS, rows)
    named = ask(sentiment, {"instances": [{"text": text} for text in TEXTS]})[1]
    encoded = ask(sentiment, {"instances": [{"b64": "bm9ib2R5IGtub3dzIHRow69z"}]})[1]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for answered in (named["predictions"], [*rows[:3], *encoded["predictions"]]):
        for row, right in zip(answered, rows, strict=True):
            assert row["label"] == right["label"]
            np.testing.assert_allclose(row["probabilities"], right["probabilities"], atol=1e-6)
    for inputs in (TEXTS, {"text": TEXTS}):
        given = {"signature_name": "serving_default", "inputs": inputs}
        outputs = ask(sentiment, given)[1]["outputs"]
        assert outputs["label"] == columns["label"]
        np.testing.assert_allclose(
            outputs["probabilities"], columns["probabilities"], rtol=0, atol=1e-6
        )


def test_status_and_metadata(sentiment):
    status, content, _ = ask(sentiment, None, "/v1/models/model", "GET", "")
    assert status == 200
    (version,) = content["model_version_status"]
    assert version["state"] == "AVAILABLE" and version["status"]["error_code"] == "OK"
    content = ask(sentiment, None, "/v1/models/model/metadata", "GET", "")[1]
    assert content["model_spec"]["name"] == "model"
    signature = content["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["text"]["dtype"] == "DT_STRING"
    assert signature["inputs"]["text"]["tensor_shape"]["dim"] == [{"size": "-1"}]
    dims = signature["outputs"]["probabilities"]["tensor_shape"]["dim"]
    assert dims == [{"size": "-1"}, {"size": "2"}]


def test_sentences_of_different_lengths_share_a_call(labeler):
    """Each has the labels of its own tokens; those that came padded, what belongs to the padding too."""
    model, asked = Model(labeler.folder), []

    def listening(rows):
        asked.append(len(rows))
        return model(rows)

    listening.input, listening.takes_tokens, listening.signature = "tokens", True, {}
    rows = [["Anna", "Berg", "was", "from", "Oslo"], [], ["York"], ["York", "", ""], ["É", "1990"]]
    # The call waits until there are as many as it takes.
    with served(listening, max_batch=5, max_delay=20) as port, ThreadPoolExecutor(5) as pool:
        answers = [*pool.map(lambda row: ask(port, {"instances": [row]})[1], rows)]
        (several,) = ask(port, {"inputs": rows})[1].values()
    assert asked == [5, 5]
    for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        (one,) = answer["predictions"]
        (alone,) = model([row])
        assert len(one["labels"]) == len(one["scores"]) == len(row)
        assert one["labels"] == alone["labels"] == several["labels"][number]
        for scores in (one["scores"], several["scores"][number]):
            np.testing.assert_allclose(scores, alone["scores"], rtol=0, atol=1e-5)
    assert answers[3]["predictions"][0]["labels"][1:] == ["", ""]


WITHOUT_THE_PACKAGE = """
import json, sys
sys.modules["kerasrnn"] = None  # Importing it is an error from here on.
sys.path.insert(0, sys.argv[1])
import run
for folder, rows in json.loads(sys.argv[2]):
    print(json.dumps(run.Model(folder)(rows)), flush=True)
run.main(run.Options(folder, port=int(sys.argv[3]), max_batch=1, max_waiting=200))
"""


@pytest.mark.parametrize(
    "others", [(), pytest.param(("labeler", "writer"), marks=pytest.mark.slow)]
)
def test_without_the_package(trained, others, request):
    """In a process that cannot import it; which then serves, until it is told to stop."""
    asked = [(request.getfixturevalue(name), *ASKED[name]) for name in others]
    asked.append((trained, TEXTS, assert_probabilities))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-P", "-c", WITHOUT_THE_PACKAGE, str(ROOT / "applications/serving")]
    process = subprocess.Popen(
        [*command, json.dumps([(str(run.folder), rows) for run, rows, _ in asked]), str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        models = [keras.models.load_model(run.folder / "model.keras") for run, *_ in asked]
        answers = [json.loads(process.stdout.readline() or "null") for _ in asked]
        assert process.poll() is None, process.communicate()[1]
        for model, (_, rows, assert_same), answer in zip(models, asked, answers, strict=True):
            assert_same(model, rows, answer)

        said = process.stdout.readline()
        assert said.startswith(f"{trained.folder} takes `text`: POST http://127.0.0.1:{port}/v1")
        serving.wait_for(port, process)
        request = json.dumps({"instances": ["a great film"]}).encode()
        request = head(Content_Length=len(request)) + request
        with contextlib.ExitStack() as sockets:
            waiting = [sockets.enter_context(raw(port, request)) for _ in range(60)]
            assert " 200 " in status_line(waiting[0])  # The server is at it.
            process.send_signal(signal.SIGTERM)
            rest = [status_line(connection) for connection in waiting[1:]]
        errors = process.communicate(timeout=30)[1]
        assert [line for line in rest if " 200 " not in line] == []
        assert "Finished server process" in errors and "Traceback" not in errors, errors
    finally:
        process.kill()


def assert_probabilities(model, texts, rows):
    expected = model.predict(tf.constant(texts), verbose=0)
    found = [row["probabilities"] for row in rows]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert [row["label"] for row in rows] == [model.labels[n] for n in expected.argmax(-1)]


def assert_labels(model, sentences, rows):
    padded = tf.ragged.constant(sentences, ragged_rank=1).to_tensor("")
    tags = model.predict(padded, verbose=0)
    for row, names, right in zip(rows, tags, model.label(sentences), strict=True):
        assert row["labels"] == [model.labels[tag] for tag in names[: len(row["labels"])]]
        np.testing.assert_allclose(row["scores"], right.scores, rtol=0, atol=1e-5)


def assert_likelihoods(model, lines, rows):
    numbers = [model.numbers(f"\n{line}\n") for line in lines]
    ids = tf.ragged.constant([row[:-1] for row in numbers]).to_tensor()
    logits = model.predict(ids, verbose=0)  # What stands behind a line changes nothing before it.
    for row, ids, scored in zip(rows, numbers, tf.nn.log_softmax(logits).numpy(), strict=True):
        likely = scored[np.arange(len(ids) - 1), ids[1:]]
        assert row["log_probability"] == pytest.approx(likely.sum(), rel=1e-5)
        assert row["perplexity"] == pytest.approx(np.exp(-likely.mean()), rel=1e-5)
        assert row["tokens"] == len(ids) - 1 and row["unknown"] == 0


ASKED = {
    "labeler": ([["Anna", "Berg", "was", "from", "Oslo"], ["York"]], assert_labels),
    "writer": (["the cow says moo", "the dög"], assert_likelihoods),
}


# What is refused


def long(count):
    return ["a " * count]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be JSON: Expecting property name"),
        (b"\xff\xfe\xfd", "must be JSON"),
        (b"", "must be JSON"),
        ("[" * 50_000, "must be JSON: maximum recursion depth"),
        ("1" * 5_000, "must be JSON: Exceeds the limit"),
        (["a"], "must be a JSON object, got a list of 1"),
        ({"texts": ["a"]}, "one of `instances` and `inputs`, got an object with texts"),
        ({"instances": ["a"], "inputs": ["a"]}, "one of `instances` and `inputs`"),
        (
            {"instances": ["a"], "signature_name": "step"},
            "must be 'serving_default' or left .*step",
        ),
        ({"instances": ["a"], "signature_name": 0}, "`signature_name` must be .*got 0"),
        ({"instances": "a"}, '`instances` must be a list, got "a"'),
        ({"instances": []}, "`instances` must hold 1 to 32 instances, got 0"),
        ({"instances": ["a"] * 33}, "1 to 32 instances, got 33"),
        ({"instances": ["a", 7]}, r"`instances\[1\]` must be a string, got 7"),
        ({"instances": [None]}, r"`instances\[0\]` must be a string, got null"),
        ({"instances": [["a"]]}, r"`instances\[0\]` must be a string, got a list of 1"),
        ({"instances": [{"txt": "a"}]}, r"\[0\]` must hold `text` and nothing else, got .* txt\.$"),
        ({"instances": [{}]}, "got an object with nothing"),
        ({"inputs": {"text": ["a", True]}}, r"`inputs\[1\]` must be a string, got true"),
        ({"inputs": {"tokens": ["a"]}}, "`inputs` must hold `text` and nothing else"),
        ({"inputs": {"text": "a"}}, '`inputs` must be a list, got "a"'),
        ({"instances": [{"b64": "%"}]}, r"`instances\[0\]` must be text in UTF-8: "),
        ({"instances": [{"b64": "/w=="}]}, "must be text in UTF-8: .*invalid start byte"),
        ({"instances": [{"b64": 1}]}, "must be a string, got an object with b64"),
        ('{"instances": ["\\ud800"]}', "must be text in UTF-8: .*surrogates not allowed"),
        ({"instances": long(101)}, "has 202 characters. The most .* is 200"),
        ({"instances": ["x" * 80_000]}, "has 80,000 characters"),
        ({"x" * 80_000: 1}, r"got an object with x{80}\.\.\.\.$"),
    ],
)
def test_a_request_that_makes_no_sense(sentiment, content, message):
    body = content if isinstance(content, (str, bytes)) else json.dumps(content)
    status, answer, _ = ask(sentiment, None, body=body)
    assert status == 400
    assert re.search(message, answer["error"])
    assert_goes_on(sentiment)


def assert_goes_on(port):
    status, answer, _ = ask(port, {"instances": ["great"]})
    assert status == 200 and answer["predictions"][0]["label"] == "good"


def test_a_request_that_is_too_large(sentiment):
    """Of 12 MB, of a million tokens, and one that never ends: it is answered before it is read."""
    for content in ({"instances": long(1_000_000)}, {"instances": ["x"] * 2_500_000}):
        status, answer, _ = ask(sentiment, content)
        assert status == 413 and "larger than 1,000,000 bytes, the most" in answer["error"]
    with raw(sentiment, head(Content_Length=10**15)) as connection:
        assert " 413 " in status_line(connection)
    with raw(sentiment, head(Transfer_Encoding="chunked"), PIECE * 32) as connection:
        assert " 413 " in status_line(connection)
    assert_goes_on(sentiment)


PIECE = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"


@pytest.mark.parametrize(
    ("path", "status"), [(PREDICT, 413), ("/v1/models/model", 405), ("/elsewhere", 404)]
)
@pytest.mark.parametrize("told", [{"Content_Length": 10**15}, {"Transfer_Encoding": "chunked"}])
def test_nobody_sends_for_ever(path, status, told):
    """After the answer it takes some more, and no more than that; nor does it wait for it for long."""
    for deadline in (0.1, 10.0):
        with (
            served(Quick(), max_body=1000, deadline=deadline) as port,
            raw(port, head(path, **told), PIECE) as connection,
        ):
            answer = connection.makefile("rb")
            assert f" {status} ".encode() in answer.readline()
            if deadline == 0.1:
                assert b"connection: close" in answer.read()  # To the end of the connection.
                continue
            with pytest.raises(ConnectionError):
                connection.sendall(PIECE * 3000)  # 100 MB.


def test_a_connection_goes_on_after_a_body_that_was_read(sentiment):
    """Whether it told its length or not."""
    content = json.dumps({"instances": [1]}).encode()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", sentiment)) as connection:
        for body in (content, iter([content])):
            connection.request("POST", PREDICT, body)
            answer = connection.getresponse()
            assert answer.status == 400 and answer.getheader("Connection") is None
            assert b"must be a string" in answer.read()


def test_a_million_tokens_within_the_body_limit(labeler, trained):
    sentence, text = ["a"] * 1_000_000, long(1_000_000)
    for run, rows, message in (
        (labeler, [["a"], sentence], r"\[1\]` has 1,000,000 tokens. The most .* is 1,000\."),
        (labeler, [["a" * 10_001]], r"\[0\]\[0\]` has 10,001 characters. The most .* is 10,000\."),
        (labeler, ["a"], r"\[0\]` must be a list of tokens, got \"a\""),
        (labeler, [["a", 1]], r"\[0\]\[1\]` must be a string, got 1"),
        (trained, text, r"\[0\]` has 2,000,000 characters. The most .* is 10,000\."),
    ):
        with served(Quick(tokens=run is labeler), max_body=10**7) as port:
            status, answer, _ = ask(port, {"instances": rows})
            assert status == 400 and re.search(message, answer["error"])
            assert ask(port, {"instances": [["a"] if run is labeler else "a"]})[0] == 200


def test_lies_about_the_length(sentiment):
    body = json.dumps({"instances": ["great"]}).encode()
    with raw(sentiment, head(Content_Length=len(body)), body, b"and more" * 1000) as connection:
        # What follows is no request. Some parsers see it before the answer.
        assert re.match("HTTP/1.1 (200|400) ", status_line(connection))
    with raw(sentiment, head(Content_Length=len(body) + 1), body):
        pass  # It goes away before the end.
    with raw(sentiment, head(Content_Length="many"), body) as connection:
        assert " 400 " in status_line(connection)
    assert_goes_on(sentiment)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/v1/models/other:predict", 404, "The model is at /v1/models/model."),
        ("GET", "/v1/models/other", 404, "nothing at /v1/models/other"),
        ("GET", "/", 404, "nothing at /"),
        ("GET", PREDICT, 405, "does not take GET"),
        ("DELETE", "/v1/models/model", 405, "does not take DELETE"),
    ],
)
def test_an_address_that_is_not_there(sentiment, method, path, status, message):
    got, answer, headers = ask(sentiment, {}, path, method)
    assert got == status and message in answer["error"]
    assert status != 405 or headers["Allow"] == {PREDICT: "POST"}.get(path, "GET")
    assert_goes_on(sentiment)


# Many requests


class Quick:
    """A model that says how long a row is."""

    signature: dict = {}

    def __init__(self, tokens=False):
        self.input, self.takes_tokens = "tokens" if tokens else "text", tokens
        self.calls = []

    def __call__(self, rows):
        self.calls.append(rows)
        return [{"length": len(row)} for row in rows]


class Gate(Quick):
    """One that answers when it is told to."""

    def __init__(self):
        super().__init__()
        self.open = threading.Event()

    def __call__(self, rows):
        answers = super().__call__(rows)
        assert self.open.wait(20)
        return answers


@pytest.fixture
def gate():
    model = Gate()
    yield model
    model.open.set()


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def crowd(port, gate, taken, refused=1):
    """Ask about texts of different lengths, until so many are refused: then there is room for no more.

    Returns:
        For each request that was taken its length and what will be its answer, and the others' answers.
    """
    pool = ThreadPoolExecutor(taken + refused)
    futures = {1: pool.submit(ask, port, {"instances": ["x"]})}
    until(lambda: gate.calls)
    for length in range(2, taken + refused + 1):
        futures[length] = pool.submit(ask, port, {"instances": ["x" * length]})
    until(lambda: sum(future.done() for future in futures.values()) == refused)
    answers = [futures.pop(length).result() for length, f in [*futures.items()] if f.done()]
    return futures, answers


def assert_served(futures):
    for length, future in futures.items():
        assert future.result()[:2] == (200, {"predictions": [length]})


def test_requests_that_come_together_are_one_call(gate):
    with served(gate, max_batch=4, max_waiting=6) as port:
        futures, _ = crowd(port, gate, taken=7)
        gate.open.set()
        assert_served(futures)
    assert [len(rows) for rows in gate.calls] == [1, 4, 2]


def test_a_request_is_not_cut():
    """Three rows and two are more than four: the second request has the next call."""
    model = Quick()
    with served(model, max_batch=4, max_delay=0.3) as port, ThreadPoolExecutor(2) as pool:
        both = [pool.submit(ask, port, {"inputs": ["ab"] * count}) for count in (3, 2)]
        assert [future.result()[1]["outputs"] for future in both] == [[2] * 3, [2] * 2]
    assert sorted(map(len, model.calls)) == [2, 3]


def test_when_there_is_too_much_to_do_it_says_so_at_once(gate):
    with served(gate, max_batch=2, max_waiting=3) as port:
        futures, refused = crowd(port, gate, taken=4, refused=5)
        for status, answer, headers in refused:
            assert status == 503 and headers["Retry-After"] == "1"
            assert headers["Connection"] is None  # It may ask again.
            assert "more to do" in answer["error"]
        with raw(port, head(Content_Length=1000)) as connection:
            assert " 503 " in status_line(connection)  # Before it is read.
        with raw(port, head(Transfer_Encoding="chunked")) as connection:
            answer = connection.makefile("rb")
            assert b" 503 " in answer.readline()
            with pytest.raises(ConnectionError):
                connection.sendall(PIECE * 3000)
        gate.open.set()
        assert_served(futures)
        assert ask(port, {"instances": ["abc"]})[1] == {"predictions": [3]}
    assert max(map(len, gate.calls)) <= 2


def test_nothing_is_computed_for_those_who_have_gone(gate):
    with served(gate, max_batch=1, max_waiting=2, deadline=0.5) as port:
        futures, _ = crowd(port, gate, taken=3)
        for future in futures.values():
            status, answer, _ = future.result()
            assert status == 504 and "not answered within the deadline" in answer["error"]
        gate.open.set()
        assert ask(port, {"instances": ["abcd"]})[1] == {"predictions": [4]}
        assert gate.calls == [["x"], ["abcd"]]
        with raw(port, head(Content_Length=10), b"{") as connection:
            assert " 408 " in status_line(connection)
        assert ask(port, {"instances": ["ab"]})[1] == {"predictions": [2]}


def test_a_model_that_fails_fails_for_those_who_asked():
    class Failing(Quick):
        def __call__(self, rows):
            if "bad" in rows:
                raise RuntimeError("no memory")
            return super().__call__(rows)

    with served(Failing()) as port:
        status, answer, _ = ask(port, {"instances": ["bad"]})
        assert status == 500 and answer == {"error": "The model failed."}
        assert ask(port, {"instances": ["good"]})[1] == {"predictions": [4]}


def test_a_server_that_fails_says_so_in_its_own_form():
    model = Quick()
    model.signature = object()  # What cannot be written.
    with served(model) as port:
        status, answer, _ = ask(port, None, "/v1/models/model/metadata", "GET", "")
        assert status == 500 and answer == {"error": "The server failed. Its log says how."}
        assert ask(port, {"instances": ["good"]})[1] == {"predictions": [4]}


def test_what_is_taken_is_answered_before_it_stops(gate):
    with served(gate, max_batch=1, max_waiting=2) as port:
        futures, _ = crowd(port, gate, taken=3)
        threading.Timer(0.2, gate.open.set).start()  # By then it has been told to stop.
    assert_served(futures)


def test_infinities_are_written_as_tensorflow_serving_writes_them():
    class Infinite(Quick):
        def __call__(self, rows):
            return [{"perplexity": float("inf"), "log_probability": float("nan")} for _ in rows]

    with served(Infinite()) as port:
        (row,) = ask(port, {"instances": ["a"]})[1]["predictions"]
    assert row["perplexity"] == np.inf and np.isnan(row["log_probability"])


# What it is started with


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_batch": 0}, "`max_batch` must be more than 0, got 0"),
        ({"max_delay": -1.0}, "`max_delay` must be more than 0, got -1.0"),
        ({"deadline": 0.0}, "`deadline` must be more than 0"),
        ({"max_batch": 8, "max_waiting": 7}, "`max_waiting` must be at least `max_batch`, 8, .* 7"),
        ({"name": "a/b"}, "`name` must be made of letters, .*'a/b'"),
    ],
)
def test_settings_that_cannot_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        Options("runs/sentiment", **wrong)


def test_a_folder_that_cannot_be_served(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no SavedModel at .*: no saved_model.pb"):
        Model(tmp_path)
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, [tf.TensorSpec([None], name="x")])
    tf.saved_model.save(module, tmp_path / "numbers", signatures=module.double)
    with pytest.raises(
        ValueError, match=r"must take strings \(batch,\) .* It takes \{'x': .*float32"
    ):
        Model(tmp_path / "numbers")
    tf.saved_model.save(module, tmp_path / "other", signatures={"other": module.double})
    with pytest.raises(ValueError, match=r"no signature 'serving_default', only: .*other"):
        Model(tmp_path / "other")


# The load test


def test_figures_of_a_load():
    """What was asked in two seconds; an answer that came later counts for the times alone."""
    found = [
        (200, 0.1, 1.0),
        (503, 0.001, 1.1),
        (200, 0.3, 2.1),
        (503, 0.001, 1.2),
        (0, 60.0, 61.0),
    ]
    found.append((200, 0.2, 2.0))
    figures = serving.Figures.of(found, 2.0)
    assert (figures.asked, figures.served, figures.failed) == (3.0, 1.0, 1)
    assert figures.shed == pytest.approx(2 / 6) and figures.p50 == pytest.approx(200)
    assert 290 < figures.p99 <= 300
    assert figures.row() == ["3", "1", "33.3%", "1", "200.0", "298.0"]
    nothing = serving.Figures.of([(503, 0.001, 0.5)], 1.0)
    assert nothing.shed == 1 and nothing.row()[-2:] == ["-", "-"]


class Slow(Quick):
    def __call__(self, rows):
        time.sleep(0.02)
        return super().__call__(rows)


def test_under_more_than_it_can_take_it_sheds_and_goes_on():
    """A model that manages 50 calls a second, asked 300 times a second."""
    bodies = [json.dumps({"instances": [text]}).encode() for text in ("a", "ab")]
    limits = {"max_batch": 1, "max_waiting": 5}
    with served(Slow(), **limits) as port:
        url = f"http://127.0.0.1:{port}{PREDICT}"
        calm = asyncio.run(serving.closed_loop(url, bodies, 2, 0.3))
        overload = asyncio.run(serving.open_loop(url, bodies, 300, 0.6))
        after = asyncio.run(serving.closed_loop(url, bodies, 1, 0.2))
    for figures in (calm, after):
        assert figures.served > 0 and figures.shed == figures.failed == 0
        assert figures.p50 >= 20
    assert overload.failed == 0 and overload.served > 0
    assert 0.5 < overload.shed < 1


def test_the_load_test_measures_what_it_says(trained, exported, tmp_path, capsys, monkeypatch):
    """With servers in this process; with those of the slow form in processes of their own."""

    @contextlib.contextmanager
    def here(folder, **flags):
        assert folder == str(trained.folder)
        limits = {name.replace("-", "_"): value for name, value in flags.items()}
        with served(exported, **limits) as port:
            yield f"http://127.0.0.1:{port}/v1/models/model"

    monkeypatch.setattr(serving, "server", here)
    check_load_test(trained.folder, tmp_path, capsys)


def check_load_test(run, tmp_path, capsys):
    options = serving.Options(
        run=str(run), clients=(1, 3), loads=(0.5, 2.0), seconds=0.2, out=str(tmp_path)
    )
    serving.main(options)
    result = json.loads((tmp_path / "serving.json").read_text("utf-8"))
    closed = result["closed loop"]
    assert set(closed) == {"one by one", "up to 32"} and set(closed["up to 32"]) == {"1", "3"}
    for name, most in result["capacity"].items():
        assert most == max(figures["served"] for figures in closed[name].values()) > 0
    assert set(result["open loop"]) == {"0.5", "2.0"} and result["after"]["failed"] == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("p99, ms", "times as many", "after it, 1 client"))


@pytest.mark.slow
def test_the_load_test_with_servers_in_processes_of_their_own(tmp_path, capsys):
    check_load_test(serving.export_default(tmp_path, ["a great film"] * 3, 4), tmp_path, capsys)
    with (
        pytest.raises(OSError, match=r"(?s)before it answered:.*no SavedModel at"),
        serving.server(tmp_path / "no"),
    ):
        pass


@pytest.mark.parametrize("wrong", [{"clients": ()}, {"loads": (0.0,)}, {"seconds": 0.0}])
def test_a_load_test_that_cannot_be(wrong):
    with pytest.raises(ValueError, match="must "):
        serving.Options(**wrong)
