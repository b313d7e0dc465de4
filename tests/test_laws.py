"""The rules of the house (docs/architecture.md), read from the source wherever that is possible."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import keras
import pytest

import kerasrnn
from kerasrnn import cells

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kerasrnn"
FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
# The package's own: the examples in the docstrings register cells as well.
NAMES = [n for n in cells.names() if cells.info(n).cell_class.__module__.startswith("kerasrnn.")]
each_name = pytest.mark.parametrize("name", NAMES)

FLOORS = {
    "_files": 0,
    "_keras": 0,
    "_tables": 0,
    "_version": 0,
    "tagging": 1,
    "cells": 1,
    "fast": 2,
    "layers": 3,
    "analysis": 4,
    "interop": 4,
    "metrics": 4,
    "optimizers": 4,
    "datasets": 4,
    "applications": 5,
    "cli": 6,
    "__main__": 7,
}
# An application has several files, which know each other and what all applications share.
OPEN_WITHIN = {"applications"}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def imports(file: Path) -> set[str]:
    """The modules that a file imports, wherever in the file, by their full names."""
    found = set()
    package = module_name(file).split(".")
    if file.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            # `from kerasrnn import cells` imports the module `kerasrnn.cells`.
            inner = {f"{origin}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= inner or {origin}
    return found


def may_import(file: Path, other: str) -> bool:
    parts, here = other.split("."), file.relative_to(PACKAGE)
    if len(parts) == 1:
        return False  # The package itself imports everything: what is above included.
    room, target = parts[1], MODULES[other]
    own = here.with_suffix("").parts[0]
    if FLOORS[room] != FLOORS[own] or room != own:
        return FLOORS[room] < FLOORS[own]
    if file.name == "__init__.py" and target.is_relative_to(file.parent):
        return True  # A folder's front door opens to all that is in it.
    in_reach = file.parent.is_relative_to(target.parent)
    return in_reach and (room in OPEN_WITHIN or parts[-1].startswith("_"))


# Floors.


def test_every_file_stands_on_a_floor():
    rooms = {file.relative_to(PACKAGE).with_suffix("").parts[0] for file in FILES}
    assert rooms - {"__init__"} <= FLOORS.keys()


@each_file
def test_a_file_imports_from_lower_floors_only(file):
    if file == PACKAGE / "__init__.py":
        pytest.skip("the front door of the house")
    wrong = {
        name
        for name in imports(file)
        if name.split(".")[0] == "kerasrnn" and not may_import(file, name)
    }
    assert not wrong


def test_the_law_of_floors_has_teeth():
    """It must see what it forbids, and allow what the house needs."""
    lstm, task = PACKAGE / "cells/lstm.py", PACKAGE / "applications/sentiment/task.py"
    assert may_import(lstm, "kerasrnn.cells._base")
    assert not may_import(lstm, "kerasrnn.cells.gru")
    assert not may_import(lstm, "kerasrnn.layers")
    assert not may_import(lstm, "kerasrnn")
    assert may_import(PACKAGE / "layers/_recurrent.py", "kerasrnn._keras")
    assert may_import(task, "kerasrnn.applications.sentiment.model")
    assert not may_import(PACKAGE / "applications/text.py", "kerasrnn.applications.sentiment.model")
    assert not may_import(task, "kerasrnn.cli")


@each_file
def test_only_one_file_knows_keras_and_tensorflow_from_inside(file):
    inside = ("keras.src", "keras._", "tensorflow.python", "tensorflow.compiler")
    private = {name for name in imports(file) if name.startswith(inside)}
    text = file.read_text("utf-8")
    if file == PACKAGE / "_keras.py":
        assert private
    else:
        assert not private
        assert "keras.src" not in text


# The register.


FAMILIES = {
    "greff": {
        "no_input_gate_lstm",
        "no_forget_gate_lstm",
        "no_output_gate_lstm",
        "no_input_activation_lstm",
        "no_output_activation_lstm",
        "input_coupled_lstm",
        "no_peephole_lstm",
        "full_gate_recurrence_lstm",
    },
    "mut": {"mut1", "mut2", "mut3"},
}


@each_name
def test_every_cell_has_a_reference_a_layer_a_paper_and_an_example(name):
    info = cells.info(name)
    reference = importlib.import_module(f"tests.cells.references.{name}")
    assert callable(reference.step)
    assert callable(reference.layout)
    layer = getattr(kerasrnn.layers, info.layer_name)
    assert issubclass(layer, kerasrnn.layers.CellLayer)
    assert layer.cell_class is info.cell_class
    assert info.layer_name in kerasrnn.layers.__all__
    assert info.cell_class.__name__ in cells.__all__
    paper = urlparse(info.paper)
    assert paper.scheme == "https"
    assert paper.netloc
    assert paper.path.strip("/")
    for documented in (info.cell_class, layer):
        assert ">>> " in documented.__doc__
    # A variant's arguments may be described with what it is a variant of.
    assert any("Args:" in (base.__doc__ or "") for base in info.cell_class.__mro__[:2])
    assert "Args:" in layer.__doc__
    # A cell's file is named as the cell is: one architecture, one file, and a family in one.
    home = info.cell_class.__module__.removeprefix("kerasrnn.cells.")
    assert home == name or name in FAMILIES[home]
    for own in (info.cell_class, layer):
        assert keras.saving.get_registered_name(own) == f"kerasrnn>{own.__name__}"


def test_every_reference_is_of_a_cell():
    references = {file.stem for file in (ROOT / "tests/cells/references").glob("[!_]*.py")}
    assert references == set(NAMES)


# What an import brings.

HEAVY = ["tensorflow_datasets", "matplotlib", "tyro", "tqdm", "onnx", "torch", "jax"]
LAZY = [f"kerasrnn.{part}" for part, floor in FLOORS.items() if floor > 3]


def test_importing_the_package_is_light():
    script = (
        "import keras, sys; was = set(sys.modules); import kerasrnn; print(*set(sys.modules) - was)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {*HEAVY, *LAZY}


def test_lazy_parts_can_be_reached():
    for name in set(kerasrnn.__all__) - {"__version__", "plot", "trace"}:
        assert importlib.import_module(f"kerasrnn.{name}") is getattr(kerasrnn, name)
    assert kerasrnn.plot is importlib.import_module("kerasrnn.analysis.plot")
    assert kerasrnn.trace is importlib.import_module("kerasrnn.analysis").trace
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = kerasrnn.nothing_of_the_kind


# Examples.


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # What an example registers is forgotten after it.
    monkeypatch.setattr(cells._registry, "_REGISTER", dict(cells._registry._REGISTER))
    loaded = importlib.import_module(module)
    tests = doctest.DocTestFinder(exclude_empty=True).find(loaded)
    assert tests or ">>> " not in MODULES[module].read_text("utf-8")
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    report: list[str] = []
    for test in tests:
        runner.run(test, out=report.append)
    assert not runner.summarize(verbose=False).failed, "".join(report)


# Data is data.

RUNS_DATA = {"eval", "exec", "compile", "__import__"}
UNPICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@each_file
def test_nothing_that_is_read_is_executed(file):
    assert not {name.split(".")[0] for name in imports(file)} & UNPICKLES
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else None
            assert called not in RUNS_DATA, f"line {node.lineno}"
            for argument in node.keywords:
                allowed = isinstance(argument.value, ast.Constant) and not argument.value.value
                if argument.arg == "allow_pickle":
                    assert allowed, f"line {node.lineno}"
                if argument.arg == "safe_mode":
                    assert not allowed, f"line {node.lineno}"
