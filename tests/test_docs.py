"""What the documents show runs as it stands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def python_blocks(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)


# What comes later in the page on sequence labeling is about a run.
@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("README.md", None),
        ("docs/architecture.md", None),
        pytest.param("docs/interop.md", None, marks=pytest.mark.slow),
        pytest.param("docs/sequence-labeling.md", 2, marks=pytest.mark.slow),
    ],
)
def test_python_in_documents_runs(name, first):
    blocks = python_blocks(name)[:first]
    assert blocks
    # In a process of its own: an example that registers a cell does so for good.
    script = "\n".join(blocks)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_page_on_language_modeling_runs(tmp_path):
    """A run of words as it trains one, what it asks of the run, and a training of one's own."""
    text = "the clouds are in the sky\nthe sky is blue\nthe book is on the table\n"
    (tmp_path / "book.txt").write_text(400 * text, "utf-8")
    (tmp_path / "candidates.txt").write_text(text, "utf-8")
    (tmp_path / "other.txt").write_text(20 * text, "utf-8")
    page = (ROOT / "docs/language-model.md").read_text("utf-8")
    commands = re.findall(r"^kerasrnn (?:predict|evaluate) RUN.*$", page, re.MULTILINE)
    small = "--level word --units 8 --embedding-dim 8 --epochs 2 --batch-size 8 --window 10"
    train = f"kerasrnn train language-model --dataset book.txt {small} --out RUN"
    assert len(commands) == 9
    for command in (train, *commands):
        shell(f"{sys.executable} -m kerasrnn {command.removeprefix('kerasrnn ')}", tmp_path)
    use, served, own = python_blocks("docs/language-model.md")
    script = tmp_path / "script.py"
    for block in (use, served, own):
        script.write_text(block, "utf-8")
        shell(f"{sys.executable} script.py", tmp_path)


def shell(command, folder):
    """Run a command in a folder, with the package that is tested."""
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_a_cell_can_be_added_as_the_page_says(tmp_path):
    """In a copy: the page's files, its lines in the two `__init__.py`, and its tests."""
    skip = shutil.ignore_patterns("__pycache__", ".*", "runs", "build", "*.egg-info")
    for part in ("kerasrnn", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=skip)
    for part in ("kerasrnn_cli.py", "pyproject.toml"):
        shutil.copy(ROOT / part, tmp_path / part)
    cell, reference = python_blocks("CONTRIBUTING.md")
    (tmp_path / "kerasrnn/cells/ugrnn.py").write_text(cell, "utf-8")
    (tmp_path / "tests/cells/references/ugrnn.py").write_text(reference, "utf-8")
    for room, line, name in (
        ("cells", "from kerasrnn.cells.ugrnn import UGRNNCell", "UGRNNCell"),
        ("layers", "UGRNN = layer_for(cells.UGRNNCell)", "UGRNN"),
    ):
        with (tmp_path / "kerasrnn" / room / "__init__.py").open("a", encoding="utf-8") as file:
            file.write(f'\n{line}\n__all__ += ["{name}"]\n')
    tests = [
        "tests/cells/test_every_cell.py",
        "tests/layers/test_every_layer.py",
        "tests/test_laws.py",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-x", *tests, "-k", "ugrnn"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 30


def test_the_table_of_cells_is_current():
    from kerasrnn.cli import cells_table

    shown = (ROOT / "docs" / "cells.md").read_text("utf-8")
    assert shown == cells_table(128, 128, markdown=True) + "\n", (
        "Run `kerasrnn cells --markdown > docs/cells.md`."
    )


def test_links_between_documents_lead_somewhere():
    for document in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("applications/*/*.md"),
        *ROOT.glob("notebooks/*.md"),
    ]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
