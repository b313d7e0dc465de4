"""The eight variants of the vanilla LSTM in which Greff et al. took one thing away or changed it."""

from __future__ import annotations

from keras import ops

from kerasrnn.cells._base import Step, Tensor
from kerasrnn.cells._kinds import PeepholeCell
from kerasrnn.cells._registry import cell

PAPER = "https://arxiv.org/abs/1503.04069"


class VanillaLSTMCell(PeepholeCell):
    r"""The LSTM with peepholes, `PeepholeLSTMCell`, in parts of which each variant changes one.

    A gate that is not in `gates` is wide open. `peephole_kernel` has a row for each gate that is.

    Args:
        units: Positive integer, the size of the states and of the output.
        activation: The squashing of the candidate g and of the memory cell on its way out.
        recurrent_activation: The squashing of the gates.
        peephole_initializer, peephole_regularizer, peephole_constraint: For `peephole_kernel`.
        unit_forget_bias: Whether a forget gate's bias starts one higher.
        **kwargs: See `kerasrnn.cells.Cell`.
    """

    gates: tuple[str, ...] = ("input", "forget", "candidate", "output")

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        h, c = states
        z = dict(zip(self.gates, self.split(x + self.recur(h)), strict=True))
        i = self.gate("input", z, c)
        f = self.forget_gate(i, z, c)
        g = self.candidate(z["candidate"])
        c = f * c + i * g
        o = self.gate("output", z, c)
        h = o * self.read(c)
        gates = {"input": i, "forget": f, "candidate": g, "output": o}
        reported = (*self.gates, *self.derived_gates)
        return Step(h, (h, c), {name: gates[name] for name in reported})

    def gate(self, name: str, z: dict[str, Tensor], c: Tensor) -> Tensor:
        """A gate, or 1 where there is none."""
        return self.recurrent_activation(self.peep(name, z[name], c)) if name in z else 1.0

    def forget_gate(self, i: Tensor, z: dict[str, Tensor], c: Tensor) -> Tensor:
        """How much of the memory cell is kept."""
        return self.gate("forget", z, c)

    def read(self, c: Tensor) -> Tensor:
        """What the output gate sees of the memory cell."""
        return self.activation(c)


@cell(paper=PAPER, alias="NIG")
class NoInputGateLSTMCell(VanillaLSTMCell):
    """NIG: the LSTM without an input gate, i = 1 (Greff et al. 2015).

    >>> import kerasrnn
    >>> kerasrnn.cells.NoInputGateLSTMCell(4).gates
    ('forget', 'candidate', 'output')
    """

    gates = ("forget", "candidate", "output")


@cell(paper=PAPER, alias="NFG")
class NoForgetGateLSTMCell(VanillaLSTMCell):
    """NFG: the LSTM without a forget gate, f = 1 (Greff et al. 2015).

    `unit_forget_bias` has no effect.

    >>> import kerasrnn
    >>> kerasrnn.cells.NoForgetGateLSTMCell(4).gates
    ('input', 'candidate', 'output')
    """

    gates = ("input", "candidate", "output")


@cell(paper=PAPER, alias="NOG")
class NoOutputGateLSTMCell(VanillaLSTMCell):
    """NOG: the LSTM without an output gate, o = 1 (Greff et al. 2015).

    >>> import kerasrnn
    >>> kerasrnn.cells.NoOutputGateLSTMCell(4).gates
    ('input', 'forget', 'candidate')
    """

    gates = ("input", "forget", "candidate")


@cell(paper=PAPER, alias="NIAF")
class NoInputActivationLSTMCell(VanillaLSTMCell):
    """NIAF: the LSTM whose candidate is not squashed, g = x W_g + h_prev U_g + b_g (Greff et al. 2015).

    >>> import kerasrnn
    >>> kerasrnn.cells.info("NIAF").layer_name
    'NoInputActivationLSTM'
    """

    def candidate(self, z: Tensor) -> Tensor:
        return self.dropped(z)


@cell(paper=PAPER, alias="NOAF")
class NoOutputActivationLSTMCell(VanillaLSTMCell):
    """NOAF: the LSTM whose memory cell is read as it is, h = o * c (Greff et al. 2015).

    >>> import kerasrnn
    >>> kerasrnn.cells.info("NOAF").layer_name
    'NoOutputActivationLSTM'
    """

    def read(self, c: Tensor) -> Tensor:
        return c


@cell(paper=PAPER, alias="CIFG")
class InputCoupledLSTMCell(VanillaLSTMCell):
    """CIFG: the LSTM that forgets as much as it writes, f = 1 - i (Greff et al. 2015).

    Here the input gate is learned, as in the paper; `CoupledLSTMCell` learns the forget gate. They are
    one family of functions: the one's gate with its weights negated is the other's.

    `unit_forget_bias` says whether the input gate's bias starts one lower.

    >>> import kerasrnn
    >>> kerasrnn.cells.InputCoupledLSTMCell(4).peephole_gates
    ('input', 'output')
    """

    gates = ("input", "candidate", "output")
    derived_gates = ("forget",)

    @property
    def bias_offsets(self) -> dict[str, float]:
        return {"input": -float(self.unit_forget_bias)}

    def forget_gate(self, i: Tensor, z: dict[str, Tensor], c: Tensor) -> Tensor:
        return 1 - i


@cell(paper=PAPER, alias="NP")
class NoPeepholeLSTMCell(VanillaLSTMCell):
    """NP: the LSTM without peepholes, which is `LSTMCell` (Greff et al. 2015).

    >>> import kerasrnn
    >>> kerasrnn.cells.NoPeepholeLSTMCell(4).peephole_gates
    ()
    """

    peephole_gates = ()


@cell(paper=PAPER, alias="FGR")
class FullGateRecurrenceLSTMCell(VanillaLSTMCell):
    """FGR: the LSTM whose gates also read all gates of the step before (Greff et al. 2015).

    Before they are squashed [i, f, o] also get [i_prev, f_prev, o_prev] `gate_kernel`, nine matrices in
    one, `(3 units, 3 units)`.

    >>> import kerasrnn
    >>> kerasrnn.cells.FullGateRecurrenceLSTMCell(4).states
    ('hidden', 'cell', 'input', 'forget', 'output')
    """

    states = ("hidden", "cell", "input", "forget", "output")
    recurrent_kernels = ("recurrent_kernel", "gate_kernel")

    def build_extra(self) -> None:
        super().build_extra()
        self.gate_kernel = self.add_kernel(
            "gate_kernel", (3 * self.units, 3 * self.units), "recurrent"
        )

    def step(self, x: Tensor, states: tuple[Tensor, ...]) -> Step:
        before = ops.concatenate(states[2:], axis=-1)
        i, f, o = self.split(ops.matmul(before, self.recurrent_weights("gate_kernel")))
        x = x + ops.concatenate([i, f, ops.zeros_like(i), o], axis=-1)
        done = super().step(x, states[:2])
        gates = [done.gates[name] for name in self.states[2:]]
        return done._replace(states=(*done.states, *gates))
