"""The LSTM whose input gate is coupled to its forget gate.

The coupling is discussed by Greff et al. (2015), "LSTM: A Search Space Odyssey" (there CIFG),
https://arxiv.org/abs/1503.04069

    f = sigmoid(x W_f + h_prev U_f + p_f * c_prev + b_f)        forget gate
    i = 1 - f                                                   input gate
    g = tanh(x W_g + h_prev U_g + b_g)                          candidate
    c = f * c_prev + i * g
    o = sigmoid(x W_o + h_prev U_o + p_o * c + b_o)             output gate
    h = o * tanh(c)

W is "kernel", U "recurrent_kernel", b "bias", with the blocks forget, candidate, output. p is
"peephole_kernel", its rows p_f and p_o; without peepholes both are zero. The states are (h, c).
The forget gate is the one that has weights; Greff et al. learn the input gate, f = 1 - i, which is
the same family of functions with the weights of that gate negated.
"""

import numpy as np

from . import Layout, _sigmoid

GATES = ("forget", "candidate", "output")
STATES = ("hidden", "cell")


def layout(features: int, units: int, *, use_peephole: bool = False) -> Layout:
    blocked = {
        "kernel": (features, GATES),
        "recurrent_kernel": (units, GATES),
        "bias": (None, GATES),
    }
    others = {"peephole_kernel": (2, units)} if use_peephole else {}
    return Layout.of(units, STATES, blocked, **others)


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
    *,
    use_peephole: bool = False,
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    h_prev, c_prev = states
    total = x @ weights["kernel"] + h_prev @ weights["recurrent_kernel"]
    if "bias" in weights:
        total = total + weights["bias"]
    total_f, total_g, total_o = np.split(total, 3, axis=1)
    p_f, p_o = weights["peephole_kernel"] if use_peephole else (0.0, 0.0)
    f = _sigmoid(total_f + p_f * c_prev)
    i = 1.0 - f
    g = np.tanh(total_g)
    c = f * c_prev + i * g
    o = _sigmoid(total_o + p_o * c)  # The new c, unlike the forget gate.
    h = o * np.tanh(c)
    return h, (h, c), {"input": i, "forget": f, "candidate": g, "output": o}
