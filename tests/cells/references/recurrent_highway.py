"""The recurrent highway network of Zilly et al. (2016).

"Recurrent Highway Networks", https://arxiv.org/abs/1607.03474

From s = h_prev, in each layer l of the highway within a step:

    n = tanh([x W_n] + s R_n + b_n)             candidate, x W_n for l = 0 alone
    t = sigmoid([x W_t] + s R_t + b_t)          transform gate, x W_t for l = 0 alone
    s = t * n + (1 - t) * s

and then h = s. W is "kernel", with the blocks candidate_0, transform_0; R is "recurrent_kernel" and
b "bias", with the blocks candidate, transform for each layer, named with its number. The states are
(h,). The carry gate is 1 - t, the coupling that the paper uses in its experiments.
"""

import numpy as np

from . import Layout, _sigmoid, blocks


def _gates(depth: int) -> tuple[str, ...]:
    return tuple(f"{gate}_{layer}" for layer in range(depth) for gate in ("candidate", "transform"))


def layout(features: int, units: int, *, depth: int = 2) -> Layout:
    blocked = {
        "kernel": (features, _gates(1)),
        "recurrent_kernel": (units, _gates(depth)),
        "bias": (None, _gates(depth)),
    }
    return Layout.of(units, ("hidden",), blocked)


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
    *,
    depth: int = 2,
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    (s,) = states
    w = blocks(x @ weights["kernel"], _gates(1))
    r = blocks(weights["recurrent_kernel"], _gates(depth))
    b = blocks(weights.get("bias"), _gates(depth))
    gates = {}
    for layer in range(depth):
        n, t = (
            w.get(name, 0.0) + s @ r[name] + b[name]
            for name in (f"candidate_{layer}", f"transform_{layer}")
        )
        n, t = np.tanh(n), _sigmoid(t)
        s = t * n + (1.0 - t) * s
        gates |= {f"candidate_{layer}": n, f"transform_{layer}": t}
    return s, (s,), gates
