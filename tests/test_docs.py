"""What the documents show runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def python_blocks(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_python_in_documents_runs(name):
    blocks = python_blocks(name)
    assert blocks
    # In a process of its own: an example that registers a cell does so for good.
    script = "\n".join(blocks)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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
    ]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
