"""The nested LSTM of Moniz & Krueger (2017): the cell of an LSTM is itself one.

"Nested LSTMs", https://arxiv.org/abs/1801.10308

    i = sigmoid(x W_i + h_prev U_i + b_i)           input gate
    f = sigmoid(x W_f + h_prev U_f + b_f)           forget gate
    g = tanh(x W_g + h_prev U_g + b_g)              candidate
    o = sigmoid(x W_o + h_prev U_o + b_o)           output gate

The inner LSTM has the input a and the hidden state s, in the place of the sum c = s + a:

    a, s = i * g, f * c_prev
    i' = sigmoid(a W'_i + s U'_i + b'_i)            inner input gate
    f' = sigmoid(a W'_f + s U'_f + b'_f)            inner forget gate
    g' = tanh(a W'_g + s U'_g + b'_g)               inner candidate
    o' = sigmoid(a W'_o + s U'_o + b'_o)            inner output gate
    m = f' * m_prev + i' * g'
    c = o' * tanh(m)
    h = o * tanh(c)

W is "kernel" and U "recurrent_kernel", with the blocks input, forget, candidate, output; W' is
"inner_kernel" and U' "inner_recurrent_kernel", with the blocks inner_input, inner_forget,
inner_candidate, inner_output; b, then b', is "bias", with all eight. The states are (h, c, m). All
squashing functions but the gates' are tanh here; some implementations make the outer candidate g
linear and say that the paper does.
"""

import numpy as np

from . import Layout, _sigmoid, blocks

OUTER = ("input", "forget", "candidate", "output")
INNER = tuple(f"inner_{gate}" for gate in OUTER)


def layout(features: int, units: int, *, outer_activation: str = "linear") -> Layout:
    blocked = {
        "kernel": (features, OUTER),
        "recurrent_kernel": (units, OUTER),
        "bias": (None, OUTER + INNER),
        "inner_kernel": (units, INNER),
        "inner_recurrent_kernel": (units, INNER),
    }
    return Layout.of(units, ("hidden", "cell", "inner_cell"), blocked)


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
    *,
    outer_activation: str = "linear",
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    h_prev, c_prev, m_prev = states
    b = blocks(weights.get("bias"), OUTER + INNER)
    outer = blocks(x @ weights["kernel"] + h_prev @ weights["recurrent_kernel"], OUTER)
    i, f, o = (_sigmoid(outer[gate] + b[gate]) for gate in ("input", "forget", "output"))
    g = outer["candidate"] + b["candidate"]
    g = np.tanh(g) if outer_activation == "tanh" else g
    a, s = i * g, f * c_prev
    inner = blocks(a @ weights["inner_kernel"] + s @ weights["inner_recurrent_kernel"], INNER)
    inner_i = _sigmoid(inner["inner_input"] + b["inner_input"])
    inner_f = _sigmoid(inner["inner_forget"] + b["inner_forget"])
    inner_g = np.tanh(inner["inner_candidate"] + b["inner_candidate"])
    inner_o = _sigmoid(inner["inner_output"] + b["inner_output"])
    m = inner_f * m_prev + inner_i * inner_g
    c = inner_o * np.tanh(m)
    h = o * np.tanh(c)
    activations = (i, f, g, o, inner_i, inner_f, inner_g, inner_o)
    return h, (h, c, m), dict(zip(OUTER + INNER, activations, strict=True))
