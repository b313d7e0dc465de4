"""The depth-gated LSTM, a stack of LSTMs whose memory cells are joined."""

from __future__ import annotations

from typing import Any

from keras import ops

from kerasrnn.cells._base import Step, Tensor, flag
from kerasrnn.cells._kinds import DeepCell, PeepholeCell
from kerasrnn.cells._registry import cell


@cell(paper="https://arxiv.org/abs/1508.03790", alias="DGLSTM")
class DepthGatedLSTMCell(DeepCell, PeepholeCell):
    r"""Depth-gated LSTM: stacked layers whose memory cells feed each other by a gate (Yao et al. 2015).

    In layer l, which reads x or, above the first layer, the output of the layer below:

        i, f = sigmoid(x W + h_prev U + p * c_prev + b)
        g = tanh(x W_g + h_prev U_g + b_g)
        d = sigmoid(x W_d + w_c * c_prev + w_l * c_below + b_d)            above the first layer
        c = f * c_prev + i * g + d * c_below
        o = sigmoid(x W_o + h_prev U_o + p_o * c + b_o)
        h = o * tanh(c)

    Gates (columns) of each layer, as `input_0`: input, forget, candidate, output, and above the first
    depth. States: hidden_0, cell_0, hidden_1, ... `depth_kernel` holds the upper layers' W,
    `peephole_kernel` each layer's p (input, forget, output), `depth_peephole_kernel` each upper layer's
    w_c and w_l. The program that was published couples f = 1 - i, which the paper does not: `coupled=True`.
    It differs from the paper in more, which is not offered: a depth gate below the first layer too,
    on a map of x, whole matrices as peepholes of i and o, and a learned scale of each layer's input.

    Args:
        depth: Positive integer, the number of layers.
        coupled: Whether f = 1 - i.
        units, **kwargs: See `kerasrnn.cells.PeepholeLSTMCell`.

    Example:

    >>> import keras, kerasrnn
    >>> cell = kerasrnn.cells.DepthGatedLSTMCell(4, depth=3)
    >>> keras.layers.RNN(cell)(keras.ops.ones((2, 5, 3))).shape == (2, 4)
    True
    >>> cell.states[-2:]
    ('hidden_2', 'cell_2')
    """

    def __init__(self, units: int, *args: Any, coupled: bool = False, **kwargs: Any) -> None:
        super().__init__(units, *args, **kwargs)
        self.coupled = flag("coupled", coupled)

    @property
    def states(self) -> tuple[str, ...]:
        return self.at_every_level("hidden", "cell")

    @property
    def gates(self) -> tuple[str, ...]:
        return tuple(gate for level in range(self.depth) for gate in self.layer_gates(level))

    def layer_gates(self, level: int) -> tuple[str, ...]:
        """The gates of a layer; the depth gate, where there is one, is the last."""
        kinds = ["input", "forget", "candidate", "output", "depth"]
        return tuple(
            f"{kind}_{level}"
            for kind in kinds
            if not (kind == "forget" and self.coupled) and not (kind == "depth" and level == 0)
        )

    @property
    def derived_gates(self) -> tuple[str, ...]:
        return self.at_every_level("forget") if self.coupled else ()

    @property
    def input_gates(self) -> tuple[str, ...]:
        return self.layer_gates(0)

    @property
    def depth_gates(self) -> tuple[str, ...]:
        """The columns of `depth_kernel`."""
        return self.gates[len(self.input_gates) :]

    @property
    def recurrent_gates(self) -> tuple[str, ...]:
        return tuple(gate for gate in self.gates if not gate.startswith("depth"))

    @property
    def peephole_gates(self) -> tuple[str, ...]:
        return tuple(gate for gate in self.recurrent_gates if not gate.startswith("candidate"))

    def build_extra(self) -> None:
        super().build_extra()
        if self.depth > 1:
            shape = (self.units, len(self.depth_gates) * self.units)
            self.depth_kernel = self.add_kernel("depth_kernel", shape, "kernel")
            shape = (2 * (self.depth - 1), self.units)
            self.depth_peephole_kernel = self.add_kernel("depth_peephole_kernel", shape, "peephole")

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        squash, below = self.recurrent_activation, None
        new: list[Any] = []
        gates: dict[str, Any] = {}
        for level in range(self.depth):
            h, c = states[2 * level : 2 * level + 2]
            names = [name for name in self.layer_gates(level) if name != f"depth_{level}"]
            if level:
                x = self.rise(level, x)
            z = dict(zip(self.layer_gates(level), self.split(x), strict=True))
            for name, share in zip(names, self.split(self.recur(h, *names)), strict=True):
                z[name] = z[name] + share
            i = squash(self.peep(f"input_{level}", z[f"input_{level}"], c))
            f = (
                1 - i
                if self.coupled
                else squash(self.peep(f"forget_{level}", z[f"forget_{level}"], c))
            )
            g = self.candidate(z[f"candidate_{level}"])
            above = f * c + i * g
            if level:
                rows = ops.convert_to_tensor(self.depth_peephole_kernel)
                w_c, w_l = rows[2 * level - 2], rows[2 * level - 1]
                d = gates[f"depth_{level}"] = squash(z[f"depth_{level}"] + w_c * c + w_l * below)
                above = above + d * below
            o = squash(self.peep(f"output_{level}", z[f"output_{level}"], above))
            x, below = o * self.activation(above), above
            new += [x, below]
            gates |= {
                f"input_{level}": i,
                f"forget_{level}": f,
                f"candidate_{level}": g,
                f"output_{level}": o,
            }
        return Step(x, tuple(new), gates)

    def rise(self, level: int, h: Tensor) -> Tensor:
        """The output of the layer below, projected for the gates of this one."""
        names = self.layer_gates(level)
        kernel = self.columns(ops.convert_to_tensor(self.depth_kernel), *names, of=self.depth_gates)
        x = ops.matmul(h, kernel)
        return x if self.bias is None else x + self.biases(*names)
