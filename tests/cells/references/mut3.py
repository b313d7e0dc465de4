"""The third of the three mutated architectures of Jozefowicz et al. (2015), MUT3.

"An Empirical Exploration of Recurrent Network Architectures",
https://proceedings.mlr.press/v37/jozefowicz15.html

    z = sigmoid(x W_z + tanh(h_prev) U_z + b_z)             update gate
    r = sigmoid(x W_r + h_prev U_r + b_r)                   reset gate
    n = tanh((r * h_prev) U_n + x W_n + b_n)                candidate
    h = z * n + (1 - z) * h_prev

W is "kernel", U "recurrent_kernel", b "bias", with the blocks update, reset, candidate. The states
are (h,).
"""

import numpy as np

from . import Layout, _sigmoid, blocks

GATES = ("update", "reset", "candidate")


def layout(features: int, units: int) -> Layout:
    blocked = {
        "kernel": (features, GATES),
        "recurrent_kernel": (units, GATES),
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
    w = blocks(x @ weights["kernel"] + weights.get("bias", 0.0), GATES)
    u = blocks(weights["recurrent_kernel"], GATES)
    z = _sigmoid(w["update"] + np.tanh(h_prev) @ u["update"])
    r = _sigmoid(w["reset"] + h_prev @ u["reset"])
    n = np.tanh((r * h_prev) @ u["candidate"] + w["candidate"])
    h = z * n + (1.0 - z) * h_prev
    return h, (h,), {"update": z, "reset": r, "candidate": n}
