"""The minimal gated unit of Zhou et al. (2016).

"Minimal Gated Unit for Recurrent Neural Networks", https://arxiv.org/abs/1603.09420

    f = sigmoid(x W_f + h_prev U_f + b_f)               forget gate
    n = tanh(x W_n + (f * h_prev) U_n + b_n)            candidate
    h = (1 - f) * h_prev + f * n

W is "kernel", U "recurrent_kernel", b "bias", with the blocks forget, candidate. The states are
(h,). As in the paper f = 1, despite its name, takes the candidate.
"""

import numpy as np

from . import Layout, _sigmoid, blocks

GATES = ("forget", "candidate")


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
    f = _sigmoid(w["forget"] + h_prev @ u["forget"])
    n = np.tanh(w["candidate"] + (f * h_prev) @ u["candidate"])
    h = (1.0 - f) * h_prev + f * n
    return h, (h,), {"forget": f, "candidate": n}
