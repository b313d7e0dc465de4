"""JANET, "just another network", of van der Westhuizen & Lasenby (2018): a forget gate alone.

"The unreasonable effectiveness of the forget gate", https://arxiv.org/abs/1804.04849

    s = x W_f + h_prev U_f + b_f
    f = sigmoid(s)                                  forget gate
    i = 1 - sigmoid(s - beta)                       input gate
    n = tanh(x W_n + h_prev U_n + b_n)              candidate
    h = f * h_prev + i * n

W is "kernel", U "recurrent_kernel", b "bias", with the blocks forget, candidate; the input gate has
no weights. The states are (h,). The paper calls its state c and has h = c.
"""

import numpy as np

from . import Layout, _sigmoid, blocks

GATES = ("forget", "candidate")


def layout(features: int, units: int, *, beta: float = 1.0) -> Layout:
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
    *,
    beta: float = 1.0,
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    (h_prev,) = states
    total = x @ weights["kernel"] + h_prev @ weights["recurrent_kernel"]
    total = blocks(total + weights.get("bias", 0.0), GATES)
    f = _sigmoid(total["forget"])
    i = 1.0 - _sigmoid(total["forget"] - beta)
    n = np.tanh(total["candidate"])
    h = f * h_prev + i * n
    return h, (h,), {"forget": f, "candidate": n, "input": i}
