"""The independently recurrent network of Li et al. (2018), IndRNN.

"Independently Recurrent Neural Network (IndRNN): Building A Longer and Deeper RNN",
https://arxiv.org/abs/1803.04831

    candidate = relu(x W + u * h_prev + b)
    h = candidate

W is "kernel", u "recurrent_kernel", a vector, for each unit reads of the state only itself; b is
"bias". Each has one block. The states are (h,).
"""

import numpy as np

from . import Layout

GATES = ("candidate",)


def layout(features: int, units: int) -> Layout:
    blocked = {
        "kernel": (features, GATES),
        "recurrent_kernel": (None, GATES),
        "bias": (None, GATES),
    }
    return Layout.of(units, ("hidden",), blocked)


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    (h_prev,) = states
    total = x @ weights["kernel"] + weights["recurrent_kernel"] * h_prev
    h = np.maximum(total + weights.get("bias", 0.0), 0.0)
    return h, (h,), {"candidate": h}
