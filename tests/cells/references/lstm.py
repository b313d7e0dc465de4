"""The LSTM of Hochreiter & Schmidhuber (1997) with the forget gate of Gers et al. (2000).

Gers, Schmidhuber & Cummins, "Learning to Forget: Continual Prediction with LSTM",
https://doi.org/10.1162/089976600300015015

    i = sigmoid(x W_i + h_prev U_i + b_i)       input gate
    f = sigmoid(x W_f + h_prev U_f + b_f)       forget gate
    g = tanh(x W_g + h_prev U_g + b_g)          candidate
    o = sigmoid(x W_o + h_prev U_o + b_o)       output gate
    c = f * c_prev + i * g
    h = o * tanh(c)

W is "kernel", U "recurrent_kernel", b "bias", with the blocks input, forget, candidate, output.
The states are (h, c). Both squashing functions are tanh, as is usual today; the papers scale
logistic functions to [-2, 2] for the candidate and to [-1, 1] for the cell's output.
"""

import numpy as np

from . import Layout, _sigmoid

GATES = ("input", "forget", "candidate", "output")
STATES = ("hidden", "cell")


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
    h_prev, c_prev = states
    total = x @ weights["kernel"] + h_prev @ weights["recurrent_kernel"]
    if "bias" in weights:
        total = total + weights["bias"]
    total_i, total_f, total_g, total_o = np.split(total, 4, axis=1)
    i, f, o = _sigmoid(total_i), _sigmoid(total_f), _sigmoid(total_o)
    g = np.tanh(total_g)
    c = f * c_prev + i * g
    h = o * np.tanh(c)
    return h, (h, c), {"input": i, "forget": f, "candidate": g, "output": o}
