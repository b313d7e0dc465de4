"""The Grid LSTM: LSTMs along time and along depth that read each other."""

from __future__ import annotations

from typing import Any

from keras import ops

from kerasrnn.cells._base import Step, Tensor, flag
from kerasrnn.cells._kinds import DeepCell, MemoryCell
from kerasrnn.cells._registry import cell

KINDS = ("input", "forget", "candidate", "output")


@cell(paper="https://arxiv.org/abs/1507.01526")
class GridLSTMCell(DeepCell, MemoryCell):
    r"""Grid LSTM: an LSTM along time and one along depth in every layer (Kalchbrenner et al. 2015).

    The input becomes depth's h and m below the first layer: [h, m] = x W + b. In every layer both
    dimensions read H = [h of time, h of depth], each by its own weights:

        i, f, o = sigmoid(H V + b)
        g = tanh(H V_g + b_g)
        m = f * m_prev + i * g
        h = tanh(o * m)

    The output is depth's h above the last layer. Gates (columns) of layer l: time_input_l, time_forget_l,
    time_candidate_l, time_output_l, depth_input_l, ... States: hidden_0, cell_0, ... the h and m of time
    in every layer. `kernel` has the columns hidden, memory; `recurrent_kernel` and `depth_kernel` are the
    rows of V for time's and for depth's h.

    Args:
        depth: Positive integer, the number of layers.
        dimensions: 2 for time and depth; 1 for depth alone: a deep network of gates, the same at each
            step, whose one state is its output, which no step reads.
        tied: Whether all layers have the same weights; their columns go without the layer's number.
        depth_priority: Whether depth reads what time has just computed rather than time's old h.
        units, **kwargs: See `kerasrnn.cells.LSTMCell`.

    Example:

    >>> import keras, kerasrnn
    >>> cell = kerasrnn.cells.GridLSTMCell(4, depth=2, tied=True)
    >>> keras.layers.RNN(cell)(keras.ops.ones((2, 5, 3))).shape == (2, 4)
    True
    """

    input_gates = ("hidden", "memory")

    def __init__(
        self,
        units: int,
        *args: Any,
        depth: int = 1,
        dimensions: int = 2,
        tied: bool = False,
        depth_priority: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, *args, depth=depth, **kwargs)
        if isinstance(dimensions, bool) or dimensions not in (1, 2):
            raise ValueError(
                f"`dimensions` must be 1 (depth) or 2 (time, depth), got {dimensions!r}."
            )
        self.dimensions = int(dimensions)
        self.tied = flag("tied", tied)
        self.depth_priority = flag("depth_priority", depth_priority)

    @property
    def states(self) -> tuple[str, ...]:
        if self.dimensions == 1:
            return ("hidden",)
        return self.at_every_level("hidden", "cell")

    @property
    def layer_gates(self) -> tuple[str, ...]:
        """The gates of each layer, time's before depth's."""
        dimensions = ("time", "depth")[-self.dimensions :]
        return tuple(f"{dimension}_{kind}" for dimension in dimensions for kind in KINDS)

    @property
    def gates(self) -> tuple[str, ...]:
        return self.at_every_level(*self.layer_gates)

    @property
    def depth_gates(self) -> tuple[str, ...]:
        """The columns of `depth_kernel`."""
        return self.layer_gates if self.tied else self.gates

    @property
    def recurrent_gates(self) -> tuple[str, ...]:
        return self.depth_gates if self.dimensions == 2 else ()

    @property
    def bias_gates(self) -> tuple[str, ...]:
        return (*self.input_gates, *self.depth_gates)

    def build_extra(self) -> None:
        shape = (self.units, len(self.depth_gates) * self.units)
        self.depth_kernel = self.add_kernel("depth_kernel", shape, "recurrent")

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        h_depth, m_depth = self.split(x)
        new: list[Any] = []
        gates: dict[str, Any] = {}
        for level in range(self.depth):
            names = tuple(f"{gate}_{level}" for gate in self.layer_gates)
            h_time = None
            below = h_depth
            if self.dimensions == 2:
                h_time, m_time = states[2 * level : 2 * level + 2]
                fresh, m_time = self.advance_one(names[:4], h_time, below, m_time, gates)
                new += [fresh, m_time]
                h_time = fresh if self.depth_priority else h_time
            h_depth, m_depth = self.advance_one(names[-4:], h_time, below, m_depth, gates)
        return Step(h_depth, tuple(new) or (h_depth,), gates)

    def advance_one(
        self,
        names: tuple[str, ...],
        h_time: Tensor | None,
        h_depth: Tensor,
        m: Tensor,
        gates: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """One dimension's new h and m; its gates join `gates`."""
        columns = tuple(name.rpartition("_")[0] for name in names) if self.tied else names
        kernel = ops.convert_to_tensor(self.depth_kernel)
        z = ops.matmul(h_depth, self.columns(kernel, *columns, of=self.depth_gates))
        if h_time is not None:
            z = z + self.recur(h_time, *columns)
        if self.bias is not None:
            z = z + self.biases(*columns)
        i, f, g, o = self.split(z)
        i, f, o = (self.recurrent_activation(gate) for gate in (i, f, o))
        g = self.candidate(g)
        m = f * m + i * g
        gates |= dict(zip(names, (i, f, g, o), strict=True))
        return self.activation(o * m), m
