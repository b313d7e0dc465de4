"""The simple recurrent unit of Lei et al. (2017), as the first version of the paper has it.

"Training RNNs as Fast as CNNs", https://arxiv.org/abs/1709.02755v1

    n = x W_n                               candidate
    f = sigmoid(x W_f + b_f)                forget gate
    r = sigmoid(x W_r + b_r)                reset gate
    c = f * c_prev + (1 - f) * n
    output = r * tanh(c) + (1 - r) * x

W is "kernel", with the blocks candidate, forget, reset; b "bias", with the blocks forget, reset.
There is no recurrent kernel. The states are (c,). Since x is added to the units themselves, it must
have as many features; with project_input x W_x takes the place of that x, and highway is the
kernel's fourth block. Later versions of the paper let the gates read c_prev too.
"""

import numpy as np

from . import Layout, _sigmoid, blocks

GATES = ("candidate", "forget", "reset")


def layout(features: int, units: int, *, project_input: bool = False) -> Layout:
    names = (*GATES, "highway") if project_input else GATES
    blocked = {"kernel": (features, names), "bias": (None, ("forget", "reset"))}
    return Layout.of(units, ("cell",), blocked)


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
    *,
    project_input: bool = False,
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    (c_prev,) = states
    w = blocks(x @ weights["kernel"], (*GATES, "highway") if project_input else GATES)
    b = blocks(weights.get("bias"), ("forget", "reset"))
    n = w["candidate"]
    f = _sigmoid(w["forget"] + b["forget"])
    r = _sigmoid(w["reset"] + b["reset"])
    c = f * c_prev + (1.0 - f) * n
    output = r * np.tanh(c) + (1.0 - r) * (w["highway"] if project_input else x)
    return output, (c,), {"candidate": n, "forget": f, "reset": r}
