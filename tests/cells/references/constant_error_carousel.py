"""The constant error carousel of Hochreiter & Schmidhuber (1997), by itself.

"Long Short-Term Memory", https://doi.org/10.1162/neco.1997.9.8.1735, section 3.2

    candidate = x W + b
    h = h_prev + candidate

The units are linear and each is connected to itself alone, with a fixed weight of 1, so an error
flows back through any number of steps unchanged. W is "kernel", b "bias", each of one block; there
is no recurrent kernel. The states are (h,).
"""

import numpy as np

from . import Layout

GATES = ("candidate",)


def layout(features: int, units: int) -> Layout:
    return Layout.of(units, ("hidden",), {"kernel": (features, GATES), "bias": (None, GATES)})


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    (h_prev,) = states
    candidate = x @ weights["kernel"] + weights.get("bias", 0.0)
    h = h_prev + candidate
    return h, (h,), {"candidate": candidate}
