"""The LSTM with layer normalisation of Ba et al. (2016).

"Layer Normalization", https://arxiv.org/abs/1607.06450

    N(v) = (v - mean(v)) / sqrt(variance(v) + 1e-5)         over the whole row v
    a = N(x W) * gain_x + N(h_prev U) * gain_h + b          the four gates side by side
    i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)      input, forget and output gate
    g = tanh(a_g)                                           candidate
    c = f * c_prev + i * g
    h = o * tanh(N(c) * gain_c + shift_c)

W is "kernel", U "recurrent_kernel", b "bias", gain_x "input_gain", gain_h "recurrent_gain", with
the blocks input, forget, candidate, output: the mean and the variance are those of all four blocks
together. gain_c is "cell_gain", shift_c "cell_shift". The states are (h, c), where c is not
normalised. The paper has a shift in each of the three normalisations; those of the first two would
only add to b. It has no 1e-5 under the root.
"""

import numpy as np

from . import Layout, _sigmoid, blocks

GATES = ("input", "forget", "candidate", "output")


def layout(features: int, units: int) -> Layout:
    blocked = {
        "kernel": (features, GATES),
        "recurrent_kernel": (units, GATES),
        "bias": (None, GATES),
        "input_gain": (None, GATES),
        "recurrent_gain": (None, GATES),
    }
    states = ("hidden", "cell")
    return Layout.of(units, states, blocked, cell_gain=(units,), cell_shift=(units,))


def _normalised(row: np.ndarray) -> np.ndarray:
    centred = row - row.mean(axis=1, keepdims=True)
    result: np.ndarray = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    return result


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    h_prev, c_prev = states
    from_x = _normalised(x @ weights["kernel"]) * weights["input_gain"]
    from_h = _normalised(h_prev @ weights["recurrent_kernel"]) * weights["recurrent_gain"]
    total = blocks(from_x + from_h + weights.get("bias", 0.0), GATES)
    i, f, o = (_sigmoid(total[gate]) for gate in ("input", "forget", "output"))
    g = np.tanh(total["candidate"])
    c = f * c_prev + i * g
    h = o * np.tanh(_normalised(c) * weights["cell_gain"] + weights["cell_shift"])
    return h, (h, c), {"input": i, "forget": f, "candidate": g, "output": o}
