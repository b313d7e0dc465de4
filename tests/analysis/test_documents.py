"""What the pages on seeing show runs as it stands, and is in the state that they tell of.

`python -m tests.analysis.test_documents` draws the pages' pictures anew, by their own blocks of Python.
"""

import re
import struct
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("seeing.md", "worked-examples.md")
DPI = 80


def run(page):
    """The names that a page's blocks of Python leave behind, and the figure of each of its pictures.

    The pictures below a block are the last figures that it has made, in their order.
    """
    names, figures = {}, {}
    text = (DOCS / page).read_text("utf-8")
    for code, below in re.findall(r"```python\n(.*?)```(.*?)(?=```python|\Z)", text, re.DOTALL):
        before = dict(names)
        exec(compile(code, page, "exec"), names)
        new = [
            value
            for name, value in names.items()
            if isinstance(value, Figure) and value is not before.get(name)
        ]
        pictures = re.findall(r"!\[.+\]\((.+)\)", below)
        figures |= zip(pictures, new[len(new) - len(pictures) :], strict=True)
    return names, figures


def assert_current(figures):
    """The pictures are small, and of the size that the code gives them now."""
    assert figures
    for picture, figure in figures.items():
        data = (DOCS / picture).read_bytes()
        expected = figure.get_size_inches() * DPI
        np.testing.assert_allclose(struct.unpack(">II", data[16:24]), expected, atol=1)
        assert len(data) < 100_000


def test_the_worked_examples():
    """Their numbers are asserted where they stand."""
    names, figures = run("worked-examples.md")
    np.testing.assert_allclose(names["trace"].states["cell"][0, 0], [1, 1], atol=1e-4)
    assert_current(figures)


def test_the_page_on_seeing(capsys):
    names, figures = run("seeing.md")
    # What is printed is what the page shows.
    assert f"```\n{capsys.readouterr().out}```" in (DOCS / "seeing.md").read_text("utf-8")
    assert set(names["norms"]) >= {"SimpleRNN", "LSTM"}
    assert_current(figures)


if __name__ == "__main__":
    for page in PAGES:
        for picture, figure in run(page)[1].items():
            figure.savefig(DOCS / picture, dpi=DPI)
            print(f"{picture}: {(DOCS / picture).stat().st_size / 1e3:.0f} kB")
