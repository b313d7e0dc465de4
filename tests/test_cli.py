"""The command line, as its users meet it."""

import ast
import dataclasses
import inspect
import io
import json
import os
import re
import subprocess
import sys

import pytest

import kerasrnn
from kerasrnn import cells, cli
from kerasrnn.applications._runs import RunConfig, said_by_a_fresh_process
from kerasrnn.applications.sentiment import task
from kerasrnn.applications.sentiment.config import SentimentConfig
from tests.applications._helpers import command, environment, write_texts

# A probability on the screen has three digits.
ON_SCREEN = 6e-4
TOLERANCE = 1e-6


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process: `run("cells")` gives its status, output and errors."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_command(*words: object, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kerasrnn", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        capsys.readouterr()
        status: object = 0
        try:
            cli.main()
        except SystemExit as error:
            status = error.code or 0
        return status, *capsys.readouterr()

    return run_command


def plain(text: str) -> str:
    """Without the frames and line breaks of a help page."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


# Help


def described(config_class: type) -> dict[str, str]:
    """What is written below each field in the source."""
    words = {}
    for owner in reversed(config_class.__mro__[:-1]):
        (body,) = ast.parse(inspect.getsource(owner)).body
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                words[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return words


def test_help_shows_every_setting_with_its_meaning_and_default(run):
    status, output, _ = run("train", "sentiment", "--help")
    shown, words = plain(output), described(SentimentConfig)
    assert status == 0
    for field in dataclasses.fields(SentimentConfig):
        flag = field.name.replace("_", "-")
        assert re.search(rf"--(no-)?{flag}\b", shown), field.name
        assert words[field.name] in shown, field.name
        default = field.default
        default = " ".join(default) if isinstance(default, tuple) else default
        assert f"{words[field.name]} (default: {default})" in shown, field.name
    assert set(words) == {field.name for field in dataclasses.fields(SentimentConfig)}
    assert issubclass(SentimentConfig, RunConfig)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((), ["train", "evaluate", "predict", "export", "cells"]),
        (("train",), ["sentiment", "Train a sentiment classifier"]),
        (("evaluate",), ["RUN", "--dataset", "--text-column", "--json", "Print one JSON object."]),
        (("predict",), ["RUN", "--file", "--json", "standard input", "a text on each line"]),
        (("export",), ["RUN", "--out", "--overwrite", "takes raw strings"]),
        (("cells",), ["--features", "--units", "for counting the parameters. (default: 128)"]),
    ],
)
def test_help_of_every_command(run, words, shown):
    status, output, _ = run(*words, "--help")
    assert status == 0
    for text in shown:
        assert text in plain(output)


def test_a_command_or_flag_that_is_not_there(run):
    for words in (("trian",), ("train", "sentiment", "--unit", "4"), ()):
        status, output, errors = run(*words)
        assert status == 2 and "Traceback" not in errors
        assert not output


# The cells


CHOOSY = {"clockwork_rnn", "mut1", "mut2", "sru"}


@pytest.mark.parametrize(("features", "units"), [(128, 128), (10, 7)])
def test_the_table_of_cells(run, features, units):
    _, output, _ = run("cells", "--features", features, "--units", units)
    header, *lines = output.split("\n\n")[0].splitlines()
    columns = re.split(r"  +", header)
    assert columns == [
        "name",
        "layer",
        "what it is",
        "gates",
        "states",
        "parameters",
        "paper",
    ]
    rows = [dict(zip(columns, re.split(r"  +", line), strict=True)) for line in lines]
    assert [row["name"] for row in rows] == list(cells.names())
    for row in rows:
        info = cells.info(row["name"])
        assert row["layer"] == info.layer_name and row["paper"] == info.paper
        assert row["what it is"] == info.summary
        takes_the_sizes = row["parameters"] != "-"
        # Some need as many units as features, or groups of units; they still have their row.
        assert takes_the_sizes or (units != features and row["name"] in CHOOSY)
        cell = cells.get(row["name"], units if takes_the_sizes else 8)
        assert row["gates"].split(", ") == [
            *cell.gates,
            *(f"({gate})" for gate in cell.derived_gates),
        ]
        assert row["states"].split(", ") == list(cell.states)
        if not takes_the_sizes:
            continue
        layer = kerasrnn.layers.Recurrent(cell)
        layer.build((None, None, features))
        assert int(row["parameters"].replace(",", "")) == layer.count_params()


def test_sizes_that_cannot_be(run):
    status, _, errors = run("cells", "--units", "0")
    assert status == 2 and "`units` must be a positive integer, got 0" in errors


# Measuring


def test_evaluate_shows_a_table(run, trained):
    status, output, _ = run("evaluate", trained.folder)
    assert status == 0
    scores = trained.metrics
    summary = f"accuracy {scores['test_accuracy']:.4f}, loss {scores['test_loss']:.4f}, 30 texts"
    assert summary in output
    table = [line.split() for line in output[output.index(summary) :].splitlines()[1:]]
    assert table[0] == ["true", "\\", "verdict", "bad", "good"]
    assert [row[0] for row in table[1:]] == ["bad", "good"]
    assert sum(int(number) for row in table[1:] for number in row[1:]) == 30


def test_evaluate_on_a_table_with_columns_of_its_own(run, trained, tmp_path):
    other = write_texts(tmp_path / "other.csv", count=12)
    content = other.read_text("utf-8").replace("text,label", "body,stars")
    other.write_text(content, "utf-8")
    columns = ("--text-column", "body", "--label-column", "stars")
    status, output, _ = run("evaluate", trained.folder, "--dataset", other, *columns, "--json")
    scores = json.loads(output)
    assert (status, scores["texts"], scores["part"]) == (0, 12, "all")
    status, output, _ = run("evaluate", trained.folder, "--dataset", other, *columns)
    assert f"12 texts (all of {other})" in output


def test_evaluate_prints_one_json_object_and_nothing_else(run, trained):
    status, output, _ = run("evaluate", trained.folder, "--json")
    scores = json.loads(output)
    assert status == 0 and output.count("\n") == 1
    assert scores["accuracy"] == pytest.approx(trained.metrics["test_accuracy"], abs=TOLERANCE)
    assert scores["loss"] == pytest.approx(trained.metrics["test_loss"], abs=TOLERANCE)


# Predicting

LINES = ["a great film", "", "dull", "É? 🙂", "  ", 'say "no"', "words\u2028and\x0cwords", "great"]


def assert_verdicts(output: str, texts: list[str], trained) -> None:
    rows = [json.loads(line) for line in output.removesuffix("\n").split("\n")]
    assert [row["text"] for row in rows] == texts
    for row, verdict in zip(rows, task.load(trained.folder).classify(texts), strict=True):
        assert list(row) == ["text", "label", "confidence", "probabilities"]
        assert row["label"] == verdict.label
        assert row["confidence"] == pytest.approx(verdict.confidence, abs=TOLERANCE)
        assert row["probabilities"] == pytest.approx(verdict.probabilities, abs=TOLERANCE)


def test_predict_prints_a_line_for_each_argument(run, trained):
    texts = ["a great film", "", "dull"]
    status, output, _ = run("predict", trained.folder, *texts)
    lines = output.splitlines()
    assert status == 0 and len(lines) == 3
    for line, text, verdict in zip(
        lines, texts, task.load(trained.folder).classify(texts), strict=True
    ):
        label, percent, shown = re.fullmatch(r" *(\S+) +([\d.]+)%  (.*)", line).groups()
        assert (label, shown) == (verdict.label, text)
        assert float(percent) / 100 == pytest.approx(verdict.confidence, abs=ON_SCREEN)


def test_predict_prints_json_lines_for_arguments(run, trained):
    """Line breaks within an argument are no line breaks of the output."""
    texts = [*LINES, "two\nlines"]
    status, output, _ = run("predict", trained.folder, *texts, "--json")
    assert status == 0
    assert_verdicts(output, texts, trained)
    assert "🙂" in output  # legible, not escaped


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_predict_reads_a_file_and_standard_input_alike(run, trained, tmp_path, ending):
    # With the mark that some programs set at the beginning; without an end of the last line.
    content = b"\xef\xbb\xbf" + ending.join(LINES).encode()
    (tmp_path / "texts.txt").write_bytes(content)
    for words, stdin in ((("--file", tmp_path / "texts.txt"), b""), ((), content)):
        status, output, _ = run("predict", trained.folder, "--json", *words, stdin=stdin)
        assert status == 0
        assert_verdicts(output, LINES, trained)


def test_predict_keeps_the_order_of_many(run, trained):
    texts = [f"film {number} {'great' if number % 3 else 'dull'}" for number in range(150)]
    content = "".join(f"{text}\n" for text in texts).encode()
    status, output, _ = run("predict", trained.folder, "--json", stdin=content)
    assert status == 0
    assert_verdicts(output, texts, trained)


def test_predict_answers_each_line_as_it_comes(trained, tmp_path):
    """A program that writes a line and waits for the verdict gets it."""
    process = subprocess.Popen(
        command("predict", trained.folder, "--json"),
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    for text in ("a great film", "É", "dull"):
        process.stdin.write(f"{text}\n".encode())
        assert json.loads(process.stdout.readline())["text"] == text
    process.stdin.write(b"no line feed")
    process.stdin.close()
    assert json.loads(process.stdout.readline())["text"] == "no line feed"
    assert process.wait() == 0
    process.stdout.close()


def test_predict_nothing(run, trained, tmp_path):
    (tmp_path / "empty.txt").touch()
    assert run("predict", trained.folder, "--json")[:2] == (0, "")
    assert run("predict", trained.folder, "--file", tmp_path / "empty.txt")[:2] == (0, "")


def test_predict_in_a_process_of_its_own(trained, tmp_path):
    """In a pipe, as other programs use it: JSON and nothing else, whatever the locale."""
    env = {name: value for name, value in environment().items() if name != "PYTHONIOENCODING"}
    done = subprocess.run(
        command("predict", trained.folder / "model.keras", "--json"),
        cwd=tmp_path,
        env=env | {"LC_ALL": "C", "LANG": "C"},
        input="\n".join(LINES).encode(),
        capture_output=True,
        check=True,
    )
    assert_verdicts(done.stdout.decode("utf-8"), LINES, trained)


def test_text_that_is_not_utf8(run, trained, tmp_path):
    (tmp_path / "texts.txt").write_bytes(b"fine\ncaf\xe9\n")
    status, output, errors = run("predict", trained.folder, "--file", tmp_path / "texts.txt")
    assert (status, output) == (2, "")
    assert "texts.txt is not UTF-8: byte 0xe9 at offset 8" in errors
    status, _, errors = run("predict", trained.folder, stdin=b"fine\ncaf\xe9\n")
    assert status == 2 and "Standard input, line 2 is not UTF-8" in errors
    # As Python hands on an argument that is not UTF-8.
    status, _, errors = run("predict", trained.folder, "caf\udce9")
    assert status == 2 and "An argument is not UTF-8: 'caf\\udce9'" in errors


def test_texts_and_a_file(run, trained):
    status, _, errors = run("predict", trained.folder, "text", "--file", "texts.txt")
    assert status == 2 and "Give either texts or `--file`, not both." in errors


# Exporting


def test_export(run, trained, tmp_path):
    out = tmp_path / "served"
    status, output, _ = run("export", trained.folder, "--out", out)
    assert (status, output) == (0, f"written to {out}\n")
    status, _, errors = run("export", trained.folder, "--out", out)
    assert status == 2 and f"`out` is there already: {out}" in errors and "--overwrite" in errors
    said = said_by_a_fresh_process(out, ["a great film", "dull"])
    expected = task.load(trained.folder).classify(["a great film", "dull"])
    assert [line.split()[0] for line in said.splitlines()] == [v.label for v in expected]
    assert [line.split("%  ")[1] for line in said.splitlines()] == ["a great film", "dull"]


# Where it starts


@pytest.mark.parametrize("module", ["kerasrnn", "kerasrnn_cli"])
def test_it_runs_as_a_module_and_whatever_backend_is_set(tmp_path, module):
    backend = "tensorflow" if module == "kerasrnn" else "torch"
    done = subprocess.run(
        [sys.executable, "-m", module, "cells"],
        cwd=tmp_path,
        env=environment() | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "peephole_lstm" in done.stdout
    assert module == "kerasrnn" or not done.stderr


def test_what_tensorflow_says_is_shown_when_it_cannot_be_loaded(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os; os.write(2, b'no such instruction'); raise ImportError('broken')"
    )
    env = environment()
    done = subprocess.run(
        command("cells"),
        env=env | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{env['PYTHONPATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no such instruction" in done.stderr and "ImportError: broken" in done.stderr


def test_applications_on_another_backend_are_refused(tmp_path):
    pytest.importorskip("jax", reason="needs the extra `backends`")
    done = subprocess.run(
        [sys.executable, "-c", "import kerasrnn; kerasrnn.applications"],
        cwd=tmp_path,
        env=environment() | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Keras's backend is 'jax'. Set the environment variable KERAS_BACKEND" in done.stderr


# Mistakes


@pytest.mark.parametrize("name", ["evaluate", "predict", "export"])
def test_a_run_that_is_not_there(run, tmp_path, name):
    words = ("--out", tmp_path / "served") if name == "export" else ()
    status, output, errors = run(name, tmp_path / "none", *words)
    assert (status, output) == (2, "")
    assert errors.count("\n") == 1 and "There is no trained model at" in errors
    assert not any(tmp_path.iterdir())


def test_an_unknown_cell_is_one_line_with_the_nearest_names(run, tmp_path):
    out = tmp_path / "run"
    status, _, errors = run("train", "sentiment", "--cell", "couplet_lstm", "--out", out)
    assert status == 2
    assert errors.startswith("kerasrnn: error: Unknown cell: `cell` was 'couplet_lstm'.")
    assert errors.count("\n") == 1 and "Did you mean 'coupled_lstm'" in errors
    assert not out.exists()


def test_a_folder_that_holds_a_run_is_refused(run, trained):
    status, _, errors = run("train", "sentiment", "--out", trained.folder)
    assert status == 2 and "already holds a run" in errors
    assert "--resume" in errors and "--overwrite" in errors
