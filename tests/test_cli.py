"""The command line, as its users meet it."""

import ast
import dataclasses
import functools
import inspect
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

import kerasrnn
from kerasrnn import cells, cli
from kerasrnn.applications._runs import RunConfig, load_model, said_by_a_fresh_process
from kerasrnn.applications.language_model import task as writing
from kerasrnn.applications.language_model.config import LanguageModelConfig
from kerasrnn.applications.sentiment import task
from kerasrnn.applications.sentiment.config import SentimentConfig
from kerasrnn.applications.sequence_labeling import task as labeling
from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig, TagDataConfig
from tests.applications._helpers import (
    command,
    environment,
    flags,
    write_names,
    write_texts,
)

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


@pytest.mark.parametrize("config", [SentimentConfig, SequenceLabelingConfig, LanguageModelConfig])
def test_help_shows_every_setting_with_its_meaning_and_default(run, config):
    status, output, _ = run("train", config.task, "--help")
    shown, words = plain(output), described(config)
    assert status == 0
    for field in dataclasses.fields(config):
        flag = field.name.replace("_", "-")
        assert re.search(rf"--(no-)?{flag}\b", shown), field.name
        assert words[field.name] in shown, field.name
        default = field.default
        default = shlex.join(default if isinstance(default, tuple) else [str(default)])
        assert f"{words[field.name]} (default: {default})" in shown, field.name
    assert set(words) == {field.name for field in dataclasses.fields(config)}
    assert issubclass(config, RunConfig)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((), ["train", "evaluate", "predict", "explain", "export", "cells"]),
        (("train",), ["sentiment", "Train a sentiment classifier", "sequence-labeling"]),
        (("train",), ["language-model", "Train a language model"]),
        (("evaluate",), ["RUN", "--dataset", "--text-column", "--json", "Print one JSON object"]),
        (("predict",), ["RUN", "--file", "--json", "standard input", "a text on each line"]),
        (("predict",), ["--conll", "--token-column", "1 for CoNLL-U"]),
        (("predict",), ["--prompt", "--length", "--temperature", "--top-k", "--top-p", "--seed"]),
        (("predict",), ["--beams", "0 always takes the likeliest. (default: 1.0)"]),
        (("evaluate",), ["--token-column", "--label-column", "--label", "--on-fault"]),
        (("evaluate",), ["--sentences", "a sentence on each line"]),
        (("evaluate",), ["--part", "--dynamic", "--dynamic-window", "by default 20"]),
        (("explain",), ["RUN", "--method", "--label", "--out", "integrated_gradients"]),
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


# Sequence labeling


@functools.cache
def loaded(path: str):
    return load_model(path)


@pytest.fixture
def ask(run, monkeypatch):
    """`run`, where a model is loaded once for all tests: to make its graph is what takes long."""
    monkeypatch.setattr(cli, "load_model", loaded)
    monkeypatch.setattr(labeling, "load", lambda run: loaded(str(run)))
    return run


@pytest.mark.slow
def test_train_a_labeler(run, labeler, tmp_path):
    """A finished run that goes on stays as it is; its SavedModel speaks in a process of its own."""
    out = tmp_path / "run"
    shutil.copytree(labeler.folder, out)
    words = flags(**labeler.settings, out=out, resume=True)
    status, output, _ = run("train", "sequence-labeling", *words)
    assert status == 0
    f1, accuracy = (labeler.metrics[part]["entity_f1"] for part in ("test", "validation"))
    assert f"test entity F1 {f1:.4f} (validation {accuracy:.4f}) on 32 held-out" in output
    said = output.partition("with TensorFlow alone:\n")[2].splitlines()
    model = labeling.load(out)
    for line, example in zip(said, labeling.EXAMPLES, strict=False):
        (given,) = model.label([example.split()])
        assert line == " ".join(map("/".join, zip(given.tokens, given.labels, strict=True)))
    assert (
        said[-1]
        == f'ask it yourself: kerasrnn predict {out} "Dr. Berg works at the University of Leeds."'
    )


@pytest.mark.slow
def test_train_a_labeler_with_no_more_than_its_defaults(tmp_path):
    done = subprocess.run(
        command("train", "sequence-labeling", "--epochs", 2, "--units", 20),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "test entity F1" in done.stdout and "Anna/" in done.stdout
    assert (tmp_path / "runs/sequence-labeling/saved_model/saved_model.pb").is_file()


def test_evaluate_a_labeler(ask, labeler, tagger):
    status, output, _ = ask("evaluate", labeler.folder)
    assert status == 0
    measured = labeler.metrics["test"]
    assert f"entity F1 {measured['entity_f1']:.4f} (precision" in output
    rows = [line.split() for line in output.splitlines()]
    for name, figures in measured["labels"].items():
        (row,) = [row for row in rows if row and row[0] == name]
        assert row[3:] == [f"{figures['f1']:.4f}", str(figures["support"])]
    assert ["true", "\\", "given", *measured["confusion"]] in rows
    status, output, _ = ask("evaluate", tagger.folder, "--json")
    assert status == 0 and output.count("\n") == 1
    expected = tagger.metrics["test"] | {"dataset": " ".join(tagger.settings["dataset"])}
    assert json.loads(output) == expected | {"part": "test"}


def test_evaluate_a_labeler_on_a_file(ask, labeler, tmp_path):
    path = tmp_path / "names.tsv"
    path.write_text("B-LOC\tOslo\nO\twas\n")
    words = ("--dataset", path, "--label-column", "0", "--token-column", "-1", "--json")
    status, output, _ = ask("evaluate", labeler.folder, *words)
    measured = json.loads(output)
    assert (status, measured["tokens"], measured["part"]) == (0, 2, "all")
    assert measured["labels"]["LOC"]["support"] == 1


@pytest.mark.slow
def test_evaluate_a_labeler_on_conll2003(run, labeler):
    tfds = pytest.importorskip("tensorflow_datasets")
    if not tfds.builder("conll2003").is_prepared():
        pytest.skip("TFDS has not prepared conll2003 on this machine")
    status, output, _ = run("evaluate", labeler.folder, "--dataset", "conll2003", "--json")
    assert status == 0 and json.loads(output)["sentences"] == 3453


def test_what_is_not_given_to_evaluate_is_as_it_was_in_training(labeler, tmp_path):
    """But for which labels: those of another data set have other names."""
    content = json.loads((labeler.folder / "config.json").read_text("utf-8"))
    content["config"] |= {"token_column": 2, "label_column": 1, "label": "pos", "dataset": ["a"]}
    content["config"]["source_scheme"] = "BIOES"
    (tmp_path / "config.json").write_text(json.dumps(content))
    for given, label in (("a", "pos"), ("b", None)):
        data = cli.MeasuredData((given,), label_column="3").of(TagDataConfig, str(tmp_path))
        assert data == TagDataConfig(
            (given,), label=label, token_column=2, label_column=3, source_scheme="BIOES"
        )


def test_flags_of_the_other_task_are_refused(ask, labeler, trained, tmp_path):
    file = write_names(tmp_path / "names.conll", 4)
    for words, message in (
        (
            ("evaluate", labeler.folder, "--text-column", "text"),
            "--text-column says nothing to this",
        ),
        (("evaluate", trained.folder, "--token-column", 0), "--token-column says nothing to this"),
        (("evaluate", trained.folder, "--on-fault", "repair"), "--on-fault says nothing to this"),
        (
            ("evaluate", trained.folder, "--dataset", "a", "b"),
            "`dataset` must be one data set, got a b",
        ),
        (("evaluate", labeler.folder, "--label-column", "tag"), "`label_column` must be a number"),
        (
            ("predict", trained.folder, "--conll", "--file", file),
            "`--conll` is for models that label",
        ),
        (
            ("predict", labeler.folder, "--conll", "a text"),
            "`--conll` reads a file or standard input",
        ),
        (
            ("predict", labeler.folder, "--conll", "--json"),
            "`--conll` reads a file or standard input",
        ),
    ):
        status, output, errors = ask(*words)
        assert (status, output) == (2, ""), words
        assert errors.count("\n") == 1 and message in errors


def test_predict_labels_each_sentence(ask, labeler, tagger):
    texts = ["Ole was in Oslo. Ida was not!", "", "É 🙂"]
    tokens = [["Ole", "was", "in", "Oslo", "."], ["Ida", "was", "not", "!"], ["É", "🙂"]]
    expected = labeling.load(labeler.folder).label(tokens)
    status, output, _ = ask("predict", labeler.folder, *texts)
    assert status == 0
    assert output.splitlines() == [labeling.in_line(row, "BIO") for row in expected]
    stdin = "\n".join(texts).encode()
    status, output, _ = ask("predict", labeler.folder, "--json", stdin=stdin)
    rows = [json.loads(line) for line in output.splitlines()]
    assert [row["tokens"] for row in rows] == tokens
    for row, labelled in zip(rows, expected, strict=True):
        assert tuple(row["labels"]) == labelled.labels
        assert row["scores"] == pytest.approx(labelled.scores, abs=TOLERANCE)
        assert all(set(entity) == {"type", "start", "stop", "text"} for entity in row["entities"])
    status, output, _ = ask("predict", tagger.folder, "the dog sees")
    assert status == 0
    assert re.fullmatch(r"the/[A-Z]+ dog/[A-Z]+ sees/[A-Z]+\n", output)


TREEBANK = """\
# newdoc
# text = Ida was in Leeds
1-2\tIda was\t_
1\tIda\t_
2\twas\t_
3\tin\t_
3.1\tnothing\t_
4\tLeeds\t_

1\tOslo\t_
"""


def test_predict_reads_and_writes_columns(ask, labeler, tmp_path):
    """CoNLL-U from standard input, and columns with documents from a file."""
    model = labeling.load(labeler.folder)
    one, other = (row.labels for row in model.label([["Ida", "was", "in", "Leeds"], ["Oslo"]]))
    words = ("predict", labeler.folder, "--conll")
    status, output, _ = ask(*words, "--token-column", "1", stdin=TREEBANK.encode())
    assert status == 0
    given = [line.split("\t") for line in output.splitlines()]
    lines = [line.split("\t") for line in TREEBANK.splitlines()]
    assert [row[:3] for row in given] == lines
    added = [(number, row[3]) for number, row in enumerate(given) if len(row) > 3]
    assert added == list(zip((3, 4, 5, 7, 9), (*one, *other), strict=True))
    (tmp_path / "x.conll").write_text("-DOCSTART- -X-\n\nOslo X\n")
    status, output, _ = ask(*words, "--file", tmp_path / "x.conll")
    assert output == f"-DOCSTART- -X-\n\nOslo X {other[0]}\n"
    status, _, errors = ask(*words, "--token-column", "2", stdin=b"Oslo X\n")
    assert status == 2 and "Line 1 has no token in column 2, named by `token_column`" in errors
    # What comes out can be read again, and holds what the model said.
    status, output, _ = ask(*words, "--file", write_names(tmp_path / "names.conll", 6))
    (tmp_path / "again.conll").write_text(output, "utf-8")
    part = kerasrnn.datasets.conll_file(tmp_path / "again.conll")
    assert [row.labels for row in model.label(part.tokens)] == part.labels


def test_export_a_labeler(run, labeler, tmp_path):
    out = tmp_path / "served"
    assert run("export", labeler.folder, "--out", out)[:2] == (0, f"written to {out}\n")
    assert (out / "saved_model.pb").is_file()
    status, _, errors = run("export", labeler.folder, "--out", out)
    assert status == 2 and f"`out` is there already: {out}" in errors


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("Anna B-PER\nran\n", (), "names.conll, line 2: the row has 1 columns"),
        ("Anna B-PER\n\na O\nOslo I-LOC\n", (), "names.conll, line 4: I-LOC stands where"),
        ("", (), "names.conll holds no sentence at all"),
        ("caf\udce9 O\n", (), "names.conll is not UTF-8: byte 0xe9 at offset 3"),
        ("a O\n", ("--label-column", 4), "names.conll has no column 4"),
        ("a O\n\n" * 20, (), "must have at least two labels, got ('O',)"),
        ("a X\n\nb Y\n\n" * 9, ("--scheme", "BIO"), "`scheme` is 'BIO', but the labels are of no"),
        ("a X\n\nb Y\n\n" * 9, ("--cell", "lsmt"), "`cell` was 'lsmt'. Did you mean 'lstm'"),
        ("a X\n\nb Y\n\n" * 9, ("--word-vectors", "WIDE"), "`embedding_dim`, must be 3"),
        ("a X\n\nb Y\n\n" * 9, ("--word-vectors", "RAGGED"), "RAGGED, line 2: there are 1 numbers"),
    ],
)
def test_what_a_labeler_cannot_learn_from(run, tmp_path, monkeypatch, content, words, message):
    """One line that says where, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.conll").write_text(content, "utf-8", errors="surrogateescape")
    (tmp_path / "WIDE").write_text("a 1 2 3\n")
    (tmp_path / "RAGGED").write_text("a 1 2\nb 3\n")
    before = sorted(tmp_path.iterdir())
    small = ("--units", 2, "--embedding-dim", 2, "--out", "run")
    status, output, errors = run(
        "train", "sequence-labeling", "--dataset", "names.conll", *small, *words
    )
    assert (status, output) == (2, "")
    assert errors.startswith("kerasrnn: error: ") and errors.count("\n") == 1 and message in errors
    assert sorted(tmp_path.iterdir()) == before


def test_settings_of_a_labeler_that_cannot_be(run):
    for words in (("--decoder", "greedy"), ("--on-fault", "keep"), ("--text-column", "text")):
        status, output, errors = run("train", "sequence-labeling", *words)
        assert (status, output) == (2, "") and words[0] in errors
    status, _, errors = run("train", "sequence-labeling", "--dataset")
    assert status == 2 and "`dataset` must be a name, or up to three files" in plain(errors)


# Language modeling


@pytest.mark.slow
def test_train_a_language_model(run, writer, tmp_path):
    """A finished run that goes on stays as it is; its SavedModel speaks in a process of its own."""
    out = tmp_path / "run"
    shutil.copytree(writer.folder, out)
    words = flags(**writer.settings, out=out, resume=True)
    status, output, errors = run("train", "language-model", *words)
    assert status == 0, errors
    metrics, model = writer.metrics, writing.load(out)
    bits, nats = metrics["test_bits_per_character"], metrics["test_cross_entropy"]
    held_out = f"on {metrics['tokens']['test']} held-out tokens"
    assert f"test: {bits:.4f} bits per character ({nats:.4f} nats) {held_out}" in output
    *said, _, ask, _, title = output.partition("with TensorFlow alone:\n")[2].split("\n")[:7]
    for line, text, score in zip(
        said, writing.EXAMPLES, model.score(writing.EXAMPLES), strict=True
    ):
        log_probability, perplexity, shown = line.split(maxsplit=2)
        assert shown == text
        assert float(log_probability) == pytest.approx(score.log_probability, abs=0.02)
        assert float(perplexity) == pytest.approx(score.perplexity, abs=0.02)
    assert ask == f'ask it yourself: kerasrnn predict {out} --prompt "..."'
    # It need not know any character that a prompt might have.
    written = model.generate(length=200, temperature=0.7, seed=writer.settings["seed"])
    assert title == "what it writes by itself:" and output.endswith(f"\n\n{written}\n")


@pytest.mark.slow
def test_train_a_language_model_with_no_more_than_its_defaults(tmp_path):
    done = subprocess.run(
        command("train", "language-model", "--epochs", 1, "--units", 20, "--embedding-dim", 20),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "bits per character" in done.stdout and "what it writes by itself" in done.stdout
    assert (tmp_path / "runs/language-model/saved_model/saved_model.pb").is_file()


def test_predict_goes_on_with_a_prompt(ask, writer):
    model = loaded(str(writer.folder))
    drawing = ("--length", 40, "--temperature", 0.8, "--top-k", 5, "--top-p", 0.9)
    for seed in (1, 2):
        expected = model.generate("the ", 40, 0.8, 5, 0.9, seed)
        words = ("predict", writer.folder, "--prompt", "the ", *drawing, "--seed", seed)
        assert ask(*words) == (0, f"the {expected}\n", "")
        status, output, _ = ask(*words, "--json")
        assert status == 0 and output.count("\n") == 1
        assert json.loads(output) == {"prompt": "the ", "text": expected}
    # Temperature 0 needs no seed.
    words = ("predict", writer.folder, "--prompt", "the dög", "--temperature", 0, "--length", 7)
    assert ask(*words) == (0, "the dög barks\n\n", "")
    words = ("predict", writer.folder, "--prompt", "the dög", "--temperature", 0, "--one-line")
    assert ask(*words) == (0, "the dög barks\n", "")
    # A prompt may be longer than a window, or empty.
    status, output, _ = ask("predict", writer.folder, "--prompt", "the cow " * 50, "--length", 3)
    assert status == 0 and len(output) == 400 + 3 + 1
    status, output, _ = ask("predict", writer.folder, "--prompt", "", "--length", 3)
    assert status == 0 and len(output) == 3 + 1
    status, output, _ = ask("predict", writer.folder, "--prompt", "the", "--length", 0)
    assert (status, output) == (0, "the\n")


def test_text_is_shown_as_it_is_produced(monkeypatch):
    shown = []
    screen = io.StringIO()
    screen.flush = lambda: shown.append(screen.getvalue())
    monkeypatch.setattr(sys, "stdout", screen)

    def produced():
        yield "The"
        assert shown == ["The"]
        yield " cow"
        assert shown == ["The", "The cow"]

    cli._print_stream(produced())
    assert screen.getvalue() == "The cow\n"


def test_predict_searches_with_beams(ask, writer):
    model = loaded(str(writer.folder))
    expected = model.beam_search("the dög ", length=8, width=3)
    words = ("predict", writer.folder, "--prompt", "the dög ", "--length", 8, "--beams", 3)
    status, output, _ = ask(*words, "--json")
    rows = [json.loads(line) for line in output.splitlines()]
    assert status == 0 and rows == [{"prompt": "the dög ", **beam._asdict()} for beam in expected]
    status, output, _ = ask(*words)
    assert output.startswith(f"{expected[0].log_probability:10.3f}  the dög {expected[0].text}")
    assert expected[0].text == "barks\n"


def test_evaluate_a_language_model(ask, writer, tmp_path):
    status, output, _ = ask("evaluate", writer.folder, "--json")
    found = json.loads(output)
    assert status == 0 and output.count("\n") == 1
    bits = writer.metrics["test_bits_per_character"]
    assert found["bits_per_character"] == pytest.approx(bits, rel=1e-4)
    (tmp_path / "other.txt").write_text("the cow says moo\n" * 9)
    status, output, _ = ask("evaluate", writer.folder, "--dataset", tmp_path / "other.txt")
    assert status == 0
    assert re.search(
        r"\n0\.\d{4} bits per character \(0\.\d{4} nats\)\n152 tokens \(all of", output
    )


def test_evaluate_goes_on_learning(ask, writer, tmp_path):
    """Of the validation part too; but a figure that is none is an error, and no JSON."""
    other = tmp_path / "other.txt"
    other.write_text("zzz qqq\n" * 9)
    words = ("evaluate", writer.folder, "--dataset", other, "--dynamic", 0.003)
    status, output, _ = ask(*words)
    assert status == 0
    assert re.search(
        r"\n\d+\.\d{4} bits per character \(.* nats\), by dynamic evaluation\n71 ", output
    )
    status, output, _ = ask(*words, "--dynamic-window", 9, "--json")
    found = json.loads(output)
    assert status == 0 and (found["dynamic"], found["dynamic_window"]) == (0.003, 9)
    plain = json.loads(ask(*words[:4], "--json")[1])
    assert found["bits_per_character"] < plain["bits_per_character"]
    status, output, errors = ask(*words[:5], 1e4, "--json")
    assert (status, output) == (2, "") and "diverged at the learning rate 10000.0" in errors
    status, output, _ = ask("evaluate", writer.folder, "--part", "validation")
    assert status == 0 and "(the validation part of" in output
    bits = writer.metrics["validation_bits_per_character"]
    assert float(output.split("\n")[-3].split()[0]) == pytest.approx(bits, abs=1e-3)


def test_evaluate_scores_sentences(ask, writer, tmp_path):
    """The likelier ones have more; a carriage return and a mark at the beginning are none of theirs."""
    texts = ["the dög barks", "barks the dög", "", "zebra \u2028 É"]
    file = tmp_path / "sentences.txt"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(texts).encode())
    expected = loaded(str(writer.folder)).score(texts)
    assert expected[0].log_probability > expected[1].log_probability
    status, output, _ = ask("evaluate", writer.folder, "--sentences", file, "--json")
    rows = [json.loads(line) for line in output.removesuffix("\n").split("\n")]
    assert status == 0 and [row.pop("text") for row in rows] == texts
    for row, score in zip(rows, expected, strict=True):
        assert row == pytest.approx(score._asdict(), rel=TOLERANCE)
    status, output, _ = ask("evaluate", writer.folder, "--sentences", file)
    head, *lines = output.removesuffix("\n").split("\n")
    assert (status, head.split()) == (0, ["log", "p", "tokens", "unknown", "perplexity"])
    for line, text, score in zip(lines, texts, expected, strict=True):
        log_probability, tokens, unknown, perplexity, shown = re.fullmatch(
            r" *(\S+) +(\d+) +(\d+) +(\S+)  (.*)", line
        ).groups()
        assert (int(tokens), int(unknown), shown) == (score.tokens, score.unknown, text)
        assert float(log_probability) == pytest.approx(score.log_probability, abs=ON_SCREEN)
        assert float(perplexity) == pytest.approx(score.perplexity, abs=0.006)


def test_what_a_language_model_cannot_do(ask, writer, trained, tmp_path):
    latin, model, other = tmp_path / "latin.txt", writer.folder, trained.folder
    latin.write_bytes(b"fine\ncaf\xe9\n")
    go_on, draws = ("predict", model, "--prompt", "the "), "is for drawing"
    for words, message in (
        (("predict", model), "needs `--prompt`"),
        (("predict", model, "the cow"), "goes on with one `--prompt`; it reads no other texts"),
        (("predict", model, "--file", latin), "goes on with one `--prompt`"),
        (("predict", model, "--prompt", "caf\udce9"), "An argument is not UTF-8"),
        (
            ("predict", model, "--prompt", "the Zoo"),
            "the character 'Z' at place 4, which the model",
        ),
        ((*go_on, "--length", -1), "`length` must be a whole number, at least 0, got -1"),
        ((*go_on, "--temperature", -1), "`temperature` must be a number of at least 0, got -1.0"),
        ((*go_on, "--temperature", "nan"), "`temperature` must be a number of at least 0, got nan"),
        ((*go_on, "--top-k", -3), "`top_k` must be a positive integer, got -3"),
        ((*go_on, "--top-p", 1.5), "`top_p` must be more than 0 and at most 1, got 1.5"),
        ((*go_on, "--seed", -1), "`seed` must be a whole number, at least 0, or None; got -1"),
        (("evaluate", other, "--dynamic", 0.1), "--dynamic is for language models"),
        (("evaluate", other, "--part", "validation"), "--part is for language models"),
        (("evaluate", model, "--dynamic", -1), "`dynamic` must be a number of at least 0, got -1"),
        (
            ("evaluate", model, "--dynamic", "inf"),
            "`dynamic` must be a number of at least 0, got inf",
        ),
        (("evaluate", model, "--dynamic-window", 5), "--dynamic-window is for --dynamic, which is"),
        (
            ("evaluate", model, "--dynamic", 0.1, "--dynamic-window", 0),
            "`dynamic_window` must be a positive integer, got 0",
        ),
        (
            ("evaluate", model, "--dataset", latin, "--part", "validation"),
            "`part` is 'validation', but the data set has only train",
        ),
        (
            ("evaluate", model, "--sentences", latin, "--dynamic", 0.1),
            "--dynamic is for a data set: leave it out with --sentences",
        ),
        ((*go_on, "--beams", 0), "`beams` must be a positive integer, got 0"),
        ((*go_on, "--beams", 2, "--seed", 1), f"--seed {draws}, and --beams draws nothing"),
        ((*go_on, "--beams", 2, "--temperature", 0), f"--temperature {draws}"),
        (("predict", other, "--prompt", "the "), "--prompt is for language models"),
        (("predict", other, "film", "--top-k", 3), "--top-k is for language models"),
        (("evaluate", other, "--sentences", latin), "--sentences is for language models"),
        (("evaluate", model, "--sentences", tmp_path / "none"), "There is no file"),
        (
            ("evaluate", model, "--sentences", latin, "--dataset", latin),
            "Give either `--sentences` or a data set",
        ),
        (("evaluate", model, "--text-column", "text"), "--text-column says nothing to this"),
        (("evaluate", model, "--label", "upos"), "--label says nothing to this"),
        (("evaluate", model, "--dataset", latin), "latin.txt is not UTF-8: byte 0xe9 at offset 8"),
        (("evaluate", model, "--dataset", "none.txt"), "There is no file or folder none.txt"),
        (("explain", model, "the cow"), "LanguageModel"),
    ):
        status, output, errors = ask(*words)
        assert (status, output) == (2, ""), words
        assert errors.startswith("kerasrnn: error: ") and errors.count("\n") == 1
        assert message in errors
    status, _, errors = ask("evaluate", model, "--sentences", latin)
    assert status == 2 and "latin.txt is not UTF-8: byte 0xe9 at offset 8" in errors


def test_export_a_language_model(run, writer, tmp_path):
    """What it says in a process of its own, `train` shows above."""
    out = tmp_path / "served"
    assert run("export", writer.folder, "--out", out)[:2] == (0, f"written to {out}\n")
    assert (out / "saved_model.pb").is_file()
    status, _, errors = run("export", writer.folder, "--out", out)
    assert status == 2 and f"`out` is there already: {out}" in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dataset", "latin.txt"), "latin.txt is not UTF-8: byte 0xe9 at offset 8"),
        (("--dataset", "empty.txt"), "There is no text in empty.txt"),
        (("--dataset", "none.txt"), "There is no file or folder none.txt"),
        (("--dataset",), "`dataset` must be a name, or files and folders of text; got none"),
        (("--dataset", "a.txt"), "too small a vocabulary: there must be two characters"),
        (("--reset", "--random-windows"), "`random_windows` moves the cuts"),
        (("--optimizer", "nt_asgd"), "`learning_rate` is 0.002, which is for Adam"),
        (("--window", 0), "`window` must be at least 1, got 0"),
        (("--cell", "lsmt", "--dataset", "ab.txt"), "`cell` was 'lsmt'. Did you mean 'lstm'"),
    ],
)
def test_what_a_language_model_cannot_learn_from(run, tmp_path, monkeypatch, words, message):
    """One line that says where, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"fine\ncaf\xe9\n" * 9)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "a.txt").write_text("a" * 200)
    (tmp_path / "ab.txt").write_text("ab" * 200)
    before = sorted(tmp_path.iterdir())
    status, output, errors = run("train", "language-model", "--out", "run", *words)
    assert (status, output) == (2, "")
    assert errors.startswith("kerasrnn: error: ") and errors.count("\n") == 1 and message in errors
    assert sorted(tmp_path.iterdir()) == before
