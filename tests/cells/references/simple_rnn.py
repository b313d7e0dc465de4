"""The simple recurrent network of Elman (1990), "Finding Structure in Time".

https://doi.org/10.1207/s15516709cog1402_1

The hidden units read the input and the context units, a copy of the previous hidden units:

    candidate = tanh(x W + h_prev U + b)
    h = candidate

W is "kernel", U "recurrent_kernel", b "bias", each of one block. The states are (h,).
"""

import numpy as np

from . import Layout

GATES = ("candidate",)
STATES = ("hidden",)


def layout(features: int, units: int) -> Layout:
    blocked = {
        "kernel": (features, GATES),
        "recurrent_kernel": (units, GATES),
        "bias": (None, GATES),
    }
    return Layout.of(units, STATES, blocked)


def step(
    x: np.ndarray, states: tuple[np.ndarray, ...], weights: dict[str, np.ndarray]
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    (h_prev,) = states
    total = x @ weights["kernel"] + h_prev @ weights["recurrent_kernel"]
    if "bias" in weights:
        total = total + weights["bias"]
    h = np.tanh(total)
    return h, (h,), {"candidate": h}
