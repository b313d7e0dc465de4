"""The notebooks run, and what is committed of them is what a reader should see.

`python -m tests.test_notebooks` runs them all, or those whose numbers are given, and writes their outputs
into them.
"""

import ast
import io
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
from matplotlib.figure import Figure

from tests.offline.sitecustomize import stay_here

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])

# Enough for every cell to run, and for nothing to be learned.
QUICK = {
    "02": {"steps": 4, "lengths": (5, 6), "units": 2, "batches": 2},
    "03": {"measure_batches": 2, "keep_batches": 2},
    "04": {"epochs": 1, "units": 4},
    "05": {"hello_steps": 2, "share": 0.01, "units": 4},
    "06": {"epochs": 1, "units": 4},
    "07": {"epochs": 1, "units": 4},
}


def tagged(cell) -> bool:
    return "parameters" in cell.metadata.get("tags", [])


def code_cells(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def execute(path: Path):
    """The notebook, run from top to bottom in a kernel of its own, and the seconds that it took.

    The kernel, and what it starts, have no network.
    """
    import nbclient

    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=180,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(ROOT)}},
    )
    begin = time.perf_counter()
    client.execute(env={**offline(), "TF_CPP_MIN_LOG_LEVEL": "3"})
    seconds = time.perf_counter() - begin
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    # What TensorFlow logs of the machine when it is imported is nothing to read.
    first.outputs = [output for output in first.outputs if output.get("name") != "stderr"]
    return notebook, seconds


def offline() -> dict[str, str]:
    """The environment of a process that reaches its own machine only."""
    paths = [str(ROOT / "tests/offline"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def test_no_network_is_none(monkeypatch):
    asks = "import socket; socket.create_connection(('example.org', 80), 5)"
    done = subprocess.run(
        [sys.executable, "-c", asks], env=offline(), capture_output=True, text=True
    )
    assert "OSError: No network here: 'example.org' was asked for." in done.stderr
    stay_here(monkeypatch.setattr)
    for far in (("192.0.2.1", 80), ("2001:db8::1", 80, 0, 0)):
        with (
            socket.socket(socket.AF_INET6 if ":" in far[0] else socket.AF_INET) as one,
            pytest.raises(OSError, match="No network here"),
        ):
            one.connect(far)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_there_are_notebooks():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06", "07"]
    for path in NOTEBOOKS:
        # A notebook that trains says in one cell for how long.
        assert sum(map(tagged, code_cells(path))) == (path.stem[:2] in QUICK)


@pytest.mark.parametrize(
    "path",
    # 02 and 03 compile much; 05 and 06 train what other tests do, and 07 serves in processes of its own.
    [
        pytest.param(p, marks=pytest.mark.slow) if p.stem[:2] in "02 03 05 06 07" else p
        for p in NOTEBOOKS
    ],
    ids=lambda path: path.stem[:2],
)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    """With the smallest budgets, and here: a kernel for each would cost more than its cells do."""
    stay_here(monkeypatch.setattr)
    monkeypatch.setenv("PYTHONPATH", offline()["PYTHONPATH"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names, figures = {"__name__": "__main__"}, 0
    for cell in code_cells(path):
        tree = ast.parse(re.sub("^%.*$", "", cell.source, flags=re.MULTILINE))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, path.name, "exec"), names)
        shown = last and eval(compile(ast.Expression(last.value), path.name, "eval"), names)
        if isinstance(shown, Figure):
            shown.savefig(io.BytesIO(), dpi=30)
            figures += 1
        if tagged(cell):
            small = QUICK[path.stem[:2]]
            assert small.keys() <= names.keys()
            names.update(small)
    committed = sum("image/png" in o.get("data", {}) for c in code_cells(path) for o in c.outputs)
    assert figures == committed


@each_notebook
def test_the_outputs_are_committed(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    # Neither an error nor a warning nor a log.
    assert {o.output_type for o in outputs} <= {"stream", "execute_result", "display_data"}
    assert not [o.text for o in outputs if o.get("name") == "stderr"]
    assert path.stat().st_size < 300_000


@each_notebook
def test_a_notebook_names_no_place_of_a_machine(path):
    seen = re.sub(r'"image/png": "[^"]*"', "", path.read_text("utf-8"))
    places = r"/home/|/Users/|/tmp/|/root/|[A-Z]:\\\\|site-packages"
    assert not re.findall(f"{places}|{re.escape(str(ROOT))}", seen)


@each_notebook
def test_a_notebook_is_a_lesson(path):
    notebook = nbformat.read(path, as_version=4)
    first, *_, last = notebook.cells
    assert first.source.startswith(f"# {int(path.stem[:2])}. ")
    assert last.cell_type == "markdown" and "## What to take" in last.source
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert prose.count("**Question:**") >= 2
    index = (path.parent / "README.md").read_text("utf-8")
    assert f"({path.name})" in index


@pytest.mark.slow
@each_notebook
def test_a_whole_notebook_runs_in_three_minutes(path):
    notebook, seconds = execute(path)
    assert seconds < 180
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert not [o.text for o in outputs if o.get("name") == "stderr"]


if __name__ == "__main__":
    for path in [path for path in NOTEBOOKS if not sys.argv[1:] or path.stem[:2] in sys.argv]:
        notebook, seconds = execute(path)
        nbformat.write(notebook, path)
        print(f"{path.name}: {seconds:.0f} s, {path.stat().st_size / 1e3:.0f} kB")
