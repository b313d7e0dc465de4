"""The other backends of Keras, each in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("backend", "which"),
    [
        ("jax", "not slow"),
        ("torch", "not slow"),
        pytest.param("tensorflow", "not slow", marks=SLOW),
        pytest.param("jax", "slow", marks=SLOW),
        pytest.param("torch", "slow", marks=SLOW),
    ],
)
def test_everything_holds_on(backend, which):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: `pip install kerasrnn[backends]`")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--tb=short"]
    done = subprocess.run(
        [*command, "-m", which, "tests/layers/backend_checks.py"],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
