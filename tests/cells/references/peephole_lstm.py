"""The LSTM with peepholes of Gers, Schraudolph & Schmidhuber (2002).

"Learning Precise Timing with LSTM Recurrent Networks", https://www.jmlr.org/papers/v3/gers02a.html

    i = sigmoid(x W_i + h_prev U_i + p_i * c_prev + b_i)        input gate
    f = sigmoid(x W_f + h_prev U_f + p_f * c_prev + b_f)        forget gate
    g = tanh(x W_g + h_prev U_g + b_g)                          candidate
    c = f * c_prev + i * g
    o = sigmoid(x W_o + h_prev U_o + p_o * c + b_o)             output gate
    h = o * tanh(c)

W is "kernel", U "recurrent_kernel", b "bias", with the blocks input, forget, candidate, output.
p is "peephole_kernel": each cell is seen by its own gates only, so a gate has one row of `units`
weights, multiplied elementwise. The states are (h, c). The tanh of the cell's output is that of
the LSTM without peepholes; the paper itself leaves that squashing out.
"""

from collections.abc import Collection

import numpy as np

from . import Layout, _sigmoid

GATES = ("input", "forget", "candidate", "output")
STATES = ("hidden", "cell")


def layout(
    features: int,
    units: int,
    *,
    peepholes: Collection[str] = ("input", "forget", "output"),
) -> Layout:
    blocked = {
        "kernel": (features, GATES),
        "recurrent_kernel": (units, GATES),
        "bias": (None, GATES),
    }
    others = {"peephole_kernel": (len(peepholes), units)} if peepholes else {}
    return Layout.of(units, STATES, blocked, **others)


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
    *,
    peepholes: Collection[str] = ("input", "forget", "output"),
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates.

    peepholes names the gates that have one.
    """
    h_prev, c_prev = states
    total = x @ weights["kernel"] + h_prev @ weights["recurrent_kernel"]
    if "bias" in weights:
        total = total + weights["bias"]
    total_i, total_f, total_g, total_o = np.split(total, 4, axis=1)
    # The rows are in this order however `peepholes` lists the gates.
    present = [gate for gate in ("input", "forget", "output") if gate in peepholes]
    p = dict(zip(present, weights["peephole_kernel"] if present else (), strict=True))
    i = _sigmoid(total_i + p.get("input", 0.0) * c_prev)
    f = _sigmoid(total_f + p.get("forget", 0.0) * c_prev)
    g = np.tanh(total_g)
    c = f * c_prev + i * g
    o = _sigmoid(total_o + p.get("output", 0.0) * c)  # The new c, unlike the other two gates.
    h = o * np.tanh(c)
    return h, (h, c), {"input": i, "forget": f, "candidate": g, "output": o}
