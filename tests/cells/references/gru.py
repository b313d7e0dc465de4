"""The gated recurrent unit of Cho et al. (2014).

"Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation",
https://arxiv.org/abs/1406.1078

    z = sigmoid(x W_z + h_prev U_z + b_z)       update gate
    r = sigmoid(x W_r + h_prev U_r + b_r)       reset gate
    n = tanh(x W_n + (r * h_prev) U_n + b_n)    candidate
    h = (1 - z) * h_prev + z * n

With reset_after (the form of cuDNN) the reset gate acts after the recurrent product, and each
recurrent product may have a bias d of its own:

    z = sigmoid(x W_z + b_z + h_prev U_z + d_z)
    r = sigmoid(x W_r + b_r + h_prev U_r + d_r)
    n = tanh(x W_n + b_n + r * (h_prev U_n + d_n))

W is "kernel", U "recurrent_kernel", b "bias", d "recurrent_bias", with the blocks update, reset,
candidate. The states are (h,). Here z = 1 takes the candidate, as in Chung et al. (2014),
https://arxiv.org/abs/1412.3555; Cho et al. write h = z * h_prev + (1 - z) * n, as Keras, PyTorch
and cuDNN do, which is the same family of functions with the weights of the update gate negated.
"""

import numpy as np

from . import Layout, _sigmoid

GATES = ("update", "reset", "candidate")
STATES = ("hidden",)


def layout(features: int, units: int, *, reset_after: bool = False) -> Layout:
    blocked = {
        "kernel": (features, GATES),
        "recurrent_kernel": (units, GATES),
        "bias": (None, GATES),
    }
    if reset_after:
        blocked["recurrent_bias"] = (None, GATES)
    return Layout.of(units, STATES, blocked)


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
    *,
    reset_after: bool = False,
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    (h_prev,) = states
    from_x, from_h = x @ weights["kernel"], h_prev @ weights["recurrent_kernel"]
    if "bias" in weights:
        from_x = from_x + weights["bias"]
    if reset_after and "recurrent_bias" in weights:
        from_h = from_h + weights["recurrent_bias"]
    x_z, x_r, x_n = np.split(from_x, 3, axis=1)
    h_z, h_r, h_n = np.split(from_h, 3, axis=1)
    z, r = _sigmoid(x_z + h_z), _sigmoid(x_r + h_r)
    if not reset_after:
        recurrent_n = np.split(weights["recurrent_kernel"], 3, axis=1)[2]
        n = np.tanh(x_n + (r * h_prev) @ recurrent_n)
    else:
        n = np.tanh(x_n + r * h_n)
    h = (1.0 - z) * h_prev + z * n
    return h, (h,), {"update": z, "reset": r, "candidate": n}
