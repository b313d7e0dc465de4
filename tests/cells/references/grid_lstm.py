"""The Grid LSTM of Kalchbrenner et al. (2015), over time and depth or over depth alone.

"Grid Long Short-Term Memory", https://arxiv.org/abs/1507.01526

The input becomes the depth's hidden and memory vectors below layer 0:

    h_d = x W_hidden + b_hidden
    m_d = x W_memory + b_memory

Each layer has two dimensions, time (t), whose h_t and m_t come from the step before, and depth (d),
whose h_d and m_d come from the layer below. Each dimension applies an LSTM of its own to its m:

    i = sigmoid(h_t U_i + h_d V_i + b_i)        input gate
    f = sigmoid(h_t U_f + h_d V_f + b_f)        forget gate
    g = tanh(h_t U_g + h_d V_g + b_g)           candidate
    o = sigmoid(h_t U_o + h_d V_o + b_o)        output gate
    m = f * m_prev + i * g
    h = tanh(o * m)

with the output gate inside the tanh, as in the paper. W is "kernel", with the blocks hidden,
memory. U is "recurrent_kernel" and V "depth_kernel", with the blocks input, forget, candidate,
output of time, then of depth, for each layer: "time_input_0". With tied all the layers share one
set of blocks, whose names have no number. b is "bias", with the kernel's blocks before those of the
gates; the paper writes none. With depth_priority the depth's gates read the time's new h_t. The
states are h_t and m_t of each layer, the output is the h_d of the last layer. With dimensions = 1
the depth is alone: there is no h_t, and the one state is the output, which nothing reads.
"""

import numpy as np

from . import Layout, _sigmoid, blocks

LSTM_GATES = ("input", "forget", "candidate", "output")


def _blocks(depth: int, dimensions: int, tied: bool) -> tuple[str, ...]:
    return tuple(
        f"{dimension}_{gate}{suffix}"
        for suffix in ([""] if tied else [f"_{layer}" for layer in range(depth)])
        for dimension in (["time", "depth"] if dimensions == 2 else ["depth"])
        for gate in LSTM_GATES
    )


def layout(
    features: int,
    units: int,
    *,
    depth: int = 1,
    dimensions: int = 2,
    tied: bool = False,
    depth_priority: bool = False,
) -> Layout:
    names = _blocks(depth, dimensions, tied)
    recurrent = {"recurrent_kernel": (units, names)} if dimensions == 2 else {}
    blocked = {
        "kernel": (features, ("hidden", "memory")),
        **recurrent,
        "bias": (None, ("hidden", "memory", *names)),
        "depth_kernel": (units, names),
    }
    states = [f"{state}_{layer}" for layer in range(depth) for state in ("hidden", "cell")]
    return Layout.of(units, states if dimensions == 2 else ("hidden",), blocked)


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
    *,
    depth: int = 1,
    dimensions: int = 2,
    tied: bool = False,
    depth_priority: bool = False,
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    names = _blocks(depth, dimensions, tied)
    u, v = (blocks(weights.get(name), names) for name in ("recurrent_kernel", "depth_kernel"))
    b = blocks(weights.get("bias"), ("hidden", "memory", *names))
    from_x = blocks(x @ weights["kernel"], ("hidden", "memory"))
    h_d, m_d = from_x["hidden"] + b["hidden"], from_x["memory"] + b["memory"]
    new_states: list[np.ndarray] = []
    gates = {}

    def lstm(
        dimension: str, layer: int, h_t: np.ndarray | None, m_prev: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        for gate in LSTM_GATES:
            name = f"{dimension}_{gate}" if tied else f"{dimension}_{gate}_{layer}"
            total = h_d @ v[name] + b[name]
            if h_t is not None:
                total = total + h_t @ u[name]
            activation = np.tanh if gate == "candidate" else _sigmoid
            gates[f"{dimension}_{gate}_{layer}"] = activation(total)
        i, f, g, o = (gates[f"{dimension}_{gate}_{layer}"] for gate in LSTM_GATES)
        m = f * m_prev + i * g
        return np.tanh(o * m), m

    for layer in range(depth):
        h_t = None
        if dimensions == 2:
            h_t, m_t = states[2 * layer : 2 * layer + 2]
            new_states += lstm("time", layer, h_t, m_t)
            if depth_priority:
                h_t = new_states[-2]
        h_d, m_d = lstm("depth", layer, h_t, m_d)
    return h_d, tuple(new_states) or (h_d,), gates
