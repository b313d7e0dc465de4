"""The clockwork RNN of Koutnik et al. (2014).

"A Clockwork RNN", https://arxiv.org/abs/1402.3511

The units are cut into as many groups of the same size as there are periods, in the order of the
periods T. A unit reads the units of its own group and of all the groups that are not faster:

    candidate = tanh(x W + h_prev U' + b)
    U'[a, b] = U[a, b] if T(group of a) >= T(group of b), else 0
    h = candidate for the groups whose phase is 0, else h_prev
    phase = (phase_prev + 1) mod T, one for each group

W is "kernel", U "recurrent_kernel", b "bias", each of one block. The states are (h, phase). The
candidate is reported for all the units, the resting ones too. A group of the paper is active where
its period divides t; a phase that starts at 0 is the same with the first step as t = 0, so then all
the groups are active. The paper writes no bias, and sorts the periods, so that its U' (for columns)
is an upper triangle of blocks.
"""

import numpy as np

from . import Layout

GATES = ("candidate",)


def layout(features: int, units: int, *, periods: tuple[int, ...] = (1, 2, 4, 8)) -> Layout:
    blocked = {
        "kernel": (features, GATES),
        "recurrent_kernel": (units, GATES),
        "bias": (None, GATES),
    }
    states = {"hidden": units, "phase": len(periods)}
    return Layout.of(units, (), blocked)._replace(states=states)


def starting_states(
    random: np.random.Generator,
    batch: int,
    units: int,
    *,
    periods: tuple[int, ...] = (1, 2, 4, 8),
) -> tuple[np.ndarray, ...]:
    """Random states, of numbers that float32 can hold too; the phases are whole numbers."""
    hidden = random.normal(0.0, 0.7, (batch, units)).astype("float32").astype("float64")
    return hidden, random.integers(0, periods, (batch, len(periods))).astype("float64")


def step(
    x: np.ndarray,
    states: tuple[np.ndarray, ...],
    weights: dict[str, np.ndarray],
    *,
    periods: tuple[int, ...] = (1, 2, 4, 8),
) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """One step; returns the output, the new states and the gates."""
    h_prev, phase_prev = states
    size = h_prev.shape[1] // len(periods)
    period = np.repeat(periods, size)
    recurrent = np.where(period[:, None] >= period[None, :], weights["recurrent_kernel"], 0.0)
    candidate = np.tanh(x @ weights["kernel"] + h_prev @ recurrent + weights.get("bias", 0.0))
    active = np.repeat(phase_prev == 0.0, size, axis=1)
    h = np.where(active, candidate, h_prev)
    phase = (phase_prev + 1.0) % np.array(periods, dtype=np.float64)
    return h, (h, phase), {"candidate": candidate}
