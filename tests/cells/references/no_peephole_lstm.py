"""The LSTM without peepholes (NP).

Greff et al. (2015), "LSTM: A Search Space Odyssey", https://arxiv.org/abs/1503.04069

    i = sigmoid(x W_i + h_prev U_i + b_i)       input gate
    f = sigmoid(x W_f + h_prev U_f + b_f)       forget gate
    g = tanh(x W_g + h_prev U_g + b_g)          candidate
    c = f * c_prev + i * g
    o = sigmoid(x W_o + h_prev U_o + b_o)       output gate
    h = o * tanh(c)

W is "kernel", U "recurrent_kernel", b "bias", with the blocks input, forget, candidate, output.
The states are (h, c).
The equations are those of `lstm`.
"""

import numpy as np

from . import Layout, _sigmoid, blocks

GATES = ("input", "forget", "candidate", "output")


def layout(features: int, units: int) -> Layout:
    blocked = {
        "kernel": (features, GATES),
        "recurrent_kernel": (units, GATES),
        "bias": (None, GATES),
    }
    return Layout.of(units, ("hidden", "cell"), blocked)


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    h_prev, c_prev = states
    total = x @ weights["kernel"] + h_prev @ weights["recurrent_kernel"]
    total = blocks(total + weights.get("bias", 0.0), GATES)
    i = _sigmoid(total["input"])
    f = _sigmoid(total["forget"])
    g = np.tanh(total["candidate"])
    c = f * c_prev + i * g
    o = _sigmoid(total["output"])
    h = o * np.tanh(c)
    return h, (h, c), {"input": i, "forget": f, "candidate": g, "output": o}
