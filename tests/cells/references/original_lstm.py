"""The LSTM of Hochreiter & Schmidhuber (1997), which has no forget gate.

"Long Short-Term Memory", https://doi.org/10.1162/neco.1997.9.8.1735

    i = sigmoid(x W_i + h_prev U_i + b_i)               input gate
    g = 4 sigmoid(x W_g + h_prev U_g + b_g) - 2         candidate, in [-2, 2]
    o = sigmoid(x W_o + h_prev U_o + b_o)               output gate
    c = c_prev + i * g
    h = o * (2 sigmoid(c) - 1)

W is "kernel", U "recurrent_kernel", b "bias", with the blocks input, candidate, output. The states
are (h, c). Each memory cell has gates of its own; in the paper the cells of a block share them, and
a network may also feed the gates' own activations back, as full_gate_recurrence_lstm does.
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
    i, o = _sigmoid(total["input"]), _sigmoid(total["output"])
    g = 4.0 * _sigmoid(total["candidate"]) - 2.0
    c = c_prev + i * g
    h = o * (2.0 * _sigmoid(c) - 1.0)
    return h, (h, c), {"input": i, "candidate": g, "output": o}
