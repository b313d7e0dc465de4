"""The second of the three mutated architectures of Jozefowicz et al. (2015), MUT2.

"An Empirical Exploration of Recurrent Network Architectures",
https://proceedings.mlr.press/v37/jozefowicz15.html

    z = sigmoid(x W_z + h_prev U_z + b_z)                   update gate
    r = sigmoid(x + h_prev U_r + b_r)                       reset gate
    n = tanh((r * h_prev) U_n + x W_n + b_n)                candidate
    h = z * n + (1 - z) * h_prev

W is "kernel", with the blocks update, candidate; U "recurrent_kernel" and b "bias", with the blocks
update, reset, candidate. The states are (h,). As in the paper x is added to the units themselves,
so it must have as many features; with project_input, which the paper has not, x W_r takes the place
of x and the kernel's blocks are update, reset, candidate.
"""

import numpy as np

from . import Layout, _sigmoid, blocks

GATES = ("update", "reset", "candidate")


def layout(features: int, units: int, *, project_input: bool = False) -> Layout:
    blocked = {
        "kernel": (features, GATES if project_input else ("update", "candidate")),
        "recurrent_kernel": (units, GATES),
        "bias": (None, GATES),
    }
    return Layout.of(units, ("hidden",), blocked)


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
    *,
    project_input: bool = False,
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    (h_prev,) = states
    w = blocks(x @ weights["kernel"], GATES if project_input else ("update", "candidate"))
    u = blocks(weights["recurrent_kernel"], GATES)
    b = blocks(weights.get("bias"), GATES)
    z = _sigmoid(w["update"] + h_prev @ u["update"] + b["update"])
    from_x = w["reset"] if project_input else x
    r = _sigmoid(from_x + h_prev @ u["reset"] + b["reset"])
    n = np.tanh((r * h_prev) @ u["candidate"] + w["candidate"] + b["candidate"])
    h = z * n + (1.0 - z) * h_prev
    return h, (h,), {"update": z, "reset": r, "candidate": n}
