"""The depth-gated LSTM of Yao et al. (2015): a stack whose cells flow upwards too.

"Depth-Gated LSTM", https://arxiv.org/abs/1508.03790

Each layer l has, with q its input (x in layer 0, else h of the layer below at this step), c_below
the cell of the layer below at this step, and h_prev and c_prev its own states:

    i = sigmoid(q W_i + h_prev U_i + p_i * c_prev + b_i)            input gate
    f = sigmoid(q W_f + h_prev U_f + p_f * c_prev + b_f)            forget gate
    g = tanh(q W_g + h_prev U_g + b_g)                              candidate
    d = sigmoid(q W_d + v_c * c_prev + v_l * c_below + b_d)         depth gate, for l > 0
    c = f * c_prev + i * g + d * c_below                            the last term for l > 0
    o = sigmoid(q W_o + h_prev U_o + p_o * c + b_o)                 output gate
    h = o * tanh(c)

With coupled, f = 1 - i has no weights. A layer's gates are input, forget (unless coupled),
candidate, output and, for l > 0, depth; every block's name ends in the layer's number. W is
"kernel" for layer 0 and "depth_kernel" for the layers above, U "recurrent_kernel", which has no
depth blocks, b "bias"; the layers follow one another. p is "peephole_kernel", with the rows p_i,
p_f (unless coupled) and p_o for each layer, and v "depth_peephole_kernel", with the rows v_c and
v_l for each layer but the first. The states are h and c of each layer, the output is the last h.

The DGLSTM of the DyNet library, which names this paper, is coupled, lets the input and output gates
read the cell through whole matrices, and has a depth gate in layer 0 too, which lets a linear
projection of x into the cell.
"""

import numpy as np

from . import Layout, _sigmoid, blocks


def _gates(layer: int, coupled: bool) -> tuple[str, ...]:
    names = ["input", *([] if coupled else ["forget"]), "candidate", "output"]
    return tuple(f"{name}_{layer}" for name in (*names, *(["depth"] if layer else [])))


def _columns(depth: int, coupled: bool) -> dict[str, tuple[str, ...]]:
    every = [name for layer in range(depth) for name in _gates(layer, coupled)]
    return {
        "kernel": _gates(0, coupled),
        "recurrent_kernel": tuple(name for name in every if not name.startswith("depth")),
        "bias": tuple(every),
        "depth_kernel": tuple(every[len(_gates(0, coupled)) :]),
    }


def layout(features: int, units: int, *, depth: int = 2, coupled: bool = False) -> Layout:
    rows = {"kernel": features, "recurrent_kernel": units, "bias": None, "depth_kernel": units}
    columns = _columns(depth, coupled)
    blocked = {name: (rows[name], columns[name]) for name in rows if columns[name]}
    others = {"peephole_kernel": (depth * (2 if coupled else 3), units)}
    if depth > 1:
        others["depth_peephole_kernel"] = (2 * (depth - 1), units)
    states = [f"{state}_{layer}" for layer in range(depth) for state in ("hidden", "cell")]
    return Layout.of(units, states, blocked, **others)


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
    *,
    depth: int = 2,
    coupled: bool = False,
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    columns = _columns(depth, coupled)
    w, u, b, w_above = (blocks(weights.get(name), names) for name, names in columns.items())
    w.update(w_above)
    peepholes = iter(weights["peephole_kernel"])
    depth_peepholes = iter(weights.get("depth_peephole_kernel", ()))
    below, c_below = x, np.zeros_like(states[1])
    new_states: list[np.ndarray] = []
    gates = {}
    for layer in range(depth):
        h_prev, c_prev = states[2 * layer : 2 * layer + 2]
        total = {name: below @ w[name] + b[name] for name in _gates(layer, coupled)}
        for name in total.keys() & u.keys():
            total[name] = total[name] + h_prev @ u[name]
        i = _sigmoid(total[f"input_{layer}"] + next(peepholes) * c_prev)
        f = 1.0 - i if coupled else _sigmoid(total[f"forget_{layer}"] + next(peepholes) * c_prev)
        g = np.tanh(total[f"candidate_{layer}"])
        c = f * c_prev + i * g
        if layer > 0:
            v_c, v_l = next(depth_peepholes), next(depth_peepholes)
            d = _sigmoid(total[f"depth_{layer}"] + v_c * c_prev + v_l * c_below)
            c = c + d * c_below
            gates[f"depth_{layer}"] = d
        o = _sigmoid(total[f"output_{layer}"] + next(peepholes) * c)  # The new c.
        below, c_below = o * np.tanh(c), c
        new_states += [below, c]
        for name, gate in {"input": i, "forget": f, "candidate": g, "output": o}.items():
            gates[f"{name}_{layer}"] = gate
    return below, tuple(new_states), gates
