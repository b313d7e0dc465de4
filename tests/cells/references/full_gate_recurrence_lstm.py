"""The LSTM with recurrence between all of its gates (FGR).

Greff et al. (2015), "LSTM: A Search Space Odyssey", https://arxiv.org/abs/1503.04069

    i = sigmoid(x W_i + h_prev U_i + p_i * c_prev + a_prev V_i + b_i)       input gate
    f = sigmoid(x W_f + h_prev U_f + p_f * c_prev + a_prev V_f + b_f)       forget gate
    g = tanh(x W_g + h_prev U_g + b_g)                                      candidate
    c = f * c_prev + i * g
    o = sigmoid(x W_o + h_prev U_o + p_o * c + a_prev V_o + b_o)            output gate
    h = o * tanh(c)

a_prev is [i_prev, f_prev, o_prev], the gates' activations of the step before. W is "kernel", U
"recurrent_kernel", b "bias", with the blocks input, forget, candidate, output. V is "gate_kernel",
with the blocks input, forget, output; its rows belong to the same three, so it holds the nine
matrices of the paper. p is "peephole_kernel", its rows p_i, p_f and p_o. The states are
(h, c, i, f, o).
"""

import numpy as np

from . import Layout, _sigmoid, blocks

GATES = ("input", "forget", "candidate", "output")
RECURRENT_GATES = ("input", "forget", "output")
STATES = ("hidden", "cell", *RECURRENT_GATES)


def layout(features: int, units: int) -> Layout:
    blocked = {
        "kernel": (features, GATES),
        "recurrent_kernel": (units, GATES),
        "bias": (None, GATES),
        "gate_kernel": (3 * units, RECURRENT_GATES),
    }
    return Layout.of(units, STATES, blocked, peephole_kernel=(3, units))


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    h_prev, c_prev, i_prev, f_prev, o_prev = states
    total = x @ weights["kernel"] + h_prev @ weights["recurrent_kernel"]
    total = blocks(total + weights.get("bias", 0.0), GATES)
    a_prev = np.concatenate([i_prev, f_prev, o_prev], axis=1)
    from_gates = blocks(a_prev @ weights["gate_kernel"], RECURRENT_GATES)
    p_i, p_f, p_o = weights["peephole_kernel"]
    i = _sigmoid(total["input"] + p_i * c_prev + from_gates["input"])
    f = _sigmoid(total["forget"] + p_f * c_prev + from_gates["forget"])
    g = np.tanh(total["candidate"])
    c = f * c_prev + i * g
    o = _sigmoid(total["output"] + p_o * c + from_gates["output"])  # The new c.
    h = o * np.tanh(c)
    return h, (h, c, i, f, o), {"input": i, "forget": f, "candidate": g, "output": o}
