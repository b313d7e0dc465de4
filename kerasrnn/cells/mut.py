"""The three best of ten thousand architectures that were found by mutation."""

from __future__ import annotations

from keras import ops

from kerasrnn.cells._base import Step, Tensor
from kerasrnn.cells._kinds import GatedCell, RawInputCell
from kerasrnn.cells._registry import cell

PAPER = "https://proceedings.mlr.press/v37/jozefowicz15.html"
GATES = ("update", "reset", "candidate")


@cell(paper=PAPER)
class MUT1Cell(RawInputCell):
    r"""MUT1: a GRU whose update gate reads the input only (Jozefowicz et al. 2015).

        z = sigmoid(x W_z + b_z)
        r = sigmoid(x W_r + h_prev U_r + b_r)
        n = tanh((r * h_prev) U_n + tanh(x) + b_n)
        h = z * n + (1 - z) * h_prev

    Gates: update, reset, candidate. `kernel` has the columns update, reset; `recurrent_kernel` reset,
    candidate; `bias` all. States: hidden. With `project_input=True` it is tanh(x W_n), and `kernel` has
    all columns.

    Args:
        units: Positive integer, the size of the state; the number of features must be the same.
        activation: In the place of both tanh.
        recurrent_activation, **kwargs: See `kerasrnn.cells.GRUCell`.
        project_input: Whether a learned map stands before x where it enters as it is.

    Example:

    >>> import keras, kerasrnn
    >>> layer = keras.layers.RNN(kerasrnn.cells.MUT1Cell(3))
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 3)
    True
    """

    gates = blocks = GATES
    raw = "candidate"
    recurrent_gates = ("reset", "candidate")

    def project(self, inputs: Tensor) -> Tensor:
        z, r, n = self.split(self.input_share(inputs))
        x = ops.concatenate([z, r, self.activation(n)], axis=-1)
        return x if self.bias is None else x + self.bias

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        (h,) = states
        z, r, n = self.split(x)
        z = self.recurrent_activation(z)
        r = self.recurrent_activation(r + self.recur(h, "reset"))
        n = self.candidate(n + self.recur(r * h, "candidate"))
        h = z * n + (1 - z) * h
        return Step(h, (h,), {"update": z, "reset": r, "candidate": n})


@cell(paper=PAPER)
class MUT2Cell(RawInputCell):
    r"""MUT2: a GRU whose reset gate adds the input as it is (Jozefowicz et al. 2015).

        z = sigmoid(x W_z + h_prev U_z + b_z)
        r = sigmoid(x + h_prev U_r + b_r)
        n = tanh((r * h_prev) U_n + x W_n + b_n)
        h = z * n + (1 - z) * h_prev

    Gates: update, reset, candidate. `kernel` has the columns update, candidate; the others all. States:
    hidden. With `project_input=True` it is x W_r, and `kernel` has all columns.

    Args:
        units, activation, recurrent_activation, project_input, **kwargs: See `MUT1Cell`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = keras.layers.RNN(kerasrnn.cells.MUT2Cell(4, project_input=True))
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 4)
    True
    """

    gates = blocks = GATES
    raw = "reset"

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        return update(self, x, states[0], states[0])


@cell(paper=PAPER)
class MUT3Cell(GatedCell):
    r"""MUT3: a GRU whose update gate reads the state squashed once more (Jozefowicz et al. 2015).

        z = sigmoid(x W_z + tanh(h_prev) U_z + b_z)
        r = sigmoid(x W_r + h_prev U_r + b_r)
        n = tanh((r * h_prev) U_n + x W_n + b_n)
        h = z * n + (1 - z) * h_prev

    Gates (columns): update, reset, candidate. States: hidden.

    Args:
        units: Positive integer, the size of the state and of the output.
        activation: In the place of both tanh.
        recurrent_activation, **kwargs: See `kerasrnn.cells.GRUCell`.

    Example:

    >>> import keras, kerasrnn
    >>> layer = keras.layers.RNN(kerasrnn.cells.MUT3Cell(4))
    >>> layer(keras.ops.ones((2, 5, 3))).shape == (2, 4)
    True
    """

    gates = GATES

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        return update(self, x, states[0], self.activation(states[0]))


def update(cell: GatedCell, x: Tensor, h: Tensor, seen: Tensor) -> Step:
    """What MUT2 and MUT3 have in common: `seen` is what the update gate sees of the state."""
    z, r, n = cell.split(x)
    z = cell.recurrent_activation(z + cell.recur(seen, "update"))
    r = cell.recurrent_activation(r + cell.recur(h, "reset"))
    n = cell.candidate(n + cell.recur(r * h, "candidate"))
    h = z * n + (1 - z) * h
    return Step(h, (h,), {"update": z, "reset": r, "candidate": n})
