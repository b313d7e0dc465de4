"""The LSTM without a forget gate (NFG).

Greff et al. (2015), "LSTM: A Search Space Odyssey", https://arxiv.org/abs/1503.04069

    i = sigmoid(x W_i + h_prev U_i + p_i * c_prev + b_i)        input gate
    g = tanh(x W_g + h_prev U_g + b_g)                          candidate
    c = c_prev + i * g
    o = sigmoid(x W_o + h_prev U_o + p_o * c + b_o)             output gate
    h = o * tanh(c)

W is "kernel", U "recurrent_kernel", b "bias", with the blocks input, candidate, output.
p is "peephole_kernel", its rows p_i and p_o. The states are (h, c).
The paper sets the forget gate to 1; it is not reported as a gate.
"""

import numpy as np

from . import Layout, _sigmoid, blocks

GATES = ("input", "candidate", "output")


def layout(features: int, units: int) -> Layout:
    blocked = {
        "kernel": (features, GATES),
        "recurrent_kernel": (units, GATES),
        "bias": (None, GATES),
    }
    return Layout.of(units, ("hidden", "cell"), blocked, peephole_kernel=(2, units))


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    h_prev, c_prev = states
    total = x @ weights["kernel"] + h_prev @ weights["recurrent_kernel"]
    total = blocks(total + weights.get("bias", 0.0), GATES)
    p_i, p_o = weights["peephole_kernel"]
    i = _sigmoid(total["input"] + p_i * c_prev)
    g = np.tanh(total["candidate"])
    c = c_prev + i * g
    o = _sigmoid(total["output"] + p_o * c)  # The new c.
    h = o * np.tanh(c)
    return h, (h, c), {"input": i, "candidate": g, "output": o}
