"""What the pages on seeing show runs as it stands, and is in the state that they tell of."""

import re
from pathlib import Path

import numpy as np

DOCS = Path(__file__).parents[2] / "docs"


def run(page):
    """The names that a page's blocks of Python leave behind."""
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    exec(compile("\n".join(blocks), page, "exec"), names)
    return names


def test_the_worked_examples():
    """Their numbers are asserted where they stand."""
    names = run("worked-examples.md")
    np.testing.assert_allclose(names["trace"].states["cell"][0, 0], [1, 1], atol=1e-4)


def test_the_page_on_seeing(capsys):
    names = run("seeing.md")
    # What is printed is what the page shows.
    assert f"```\n{capsys.readouterr().out}```" in (DOCS / "seeing.md").read_text("utf-8")
    assert set(names["norms"]) >= {"SimpleRNN", "LSTM"}


def test_the_pictures_are_small():
    for page in ("seeing.md", "worked-examples.md"):
        pictures = re.findall(r"!\[.+\]\((.+)\)", (DOCS / page).read_text("utf-8"))
        assert pictures
        assert all((DOCS / picture).stat().st_size < 100_000 for picture in pictures)
