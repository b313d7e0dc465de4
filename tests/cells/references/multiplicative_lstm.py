"""The multiplicative LSTM of Krause et al. (2016).

"Multiplicative LSTM for sequence modelling", https://arxiv.org/abs/1609.07959

    m = (x W_m) * (h_prev U_m)                  multiplicative: takes the place of h_prev
    i = sigmoid(x W_i + m U_i + b_i)            input gate
    f = sigmoid(x W_f + m U_f + b_f)            forget gate
    g = tanh(x W_g + m U_g + b_g)               candidate
    o = sigmoid(x W_o + m U_o + b_o)            output gate
    c = f * c_prev + i * g
    h = o * tanh(c)

W is "kernel" and U "recurrent_kernel", with the blocks input, forget, candidate, output,
multiplicative; b is "bias", with the first four. The states are (h, c). The m of the paper may be
of another size than h; here it is of the same.
"""

import numpy as np

from . import Layout, _sigmoid, blocks

GATES = ("input", "forget", "candidate", "output")
BLOCKS = (*GATES, "multiplicative")


def layout(features: int, units: int) -> Layout:
    blocked = {
        "kernel": (features, BLOCKS),
        "recurrent_kernel": (units, BLOCKS),
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
    w = blocks(x @ weights["kernel"], BLOCKS)
    u = blocks(weights["recurrent_kernel"], BLOCKS)
    b = blocks(weights.get("bias"), GATES)
    m = w["multiplicative"] * (h_prev @ u["multiplicative"])
    i, f, o = (_sigmoid(w[k] + m @ u[k] + b[k]) for k in ("input", "forget", "output"))
    g = np.tanh(w["candidate"] + m @ u["candidate"] + b["candidate"])
    c = f * c_prev + i * g
    h = o * np.tanh(c)
    gates = {"input": i, "forget": f, "candidate": g, "output": o, "multiplicative": m}
    return h, (h, c), gates
