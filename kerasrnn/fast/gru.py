"""The gated recurrent unit, with the reset before and after the recurrent product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerasrnn import cells
from kerasrnn.fast._kernel import Back, Kernel, Tensor, Weights, kernel, sigmoid


@dataclass(frozen=True)
class GRUKernel(Kernel):
    """Columns: update, reset, candidate. The reset gate closes the state before the product."""

    states = 1
    saved = 3
    parts = (2, 1)
    kept = (1,)

    def forward(
        self, x: tuple[Tensor, ...], states: tuple[Tensor, ...], w: Weights
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        (h,) = states
        z, r = map(sigmoid, w.added(x[:2], h))
        n = tf.tanh(x[2] + w.recur(r * h, 1))
        return (h + z * (n - h),), (z, r, n)

    def backward(
        self,
        saved: tuple[Tensor, ...],
        before: tuple[Tensor, ...],
        after: tuple[Tensor, ...],
        d_after: tuple[Tensor, ...],
        w: Weights,
    ) -> Back:
        z, r, n = saved
        (h,), (dh,) = before, d_after
        dn = dh * z * (1 - n * n)
        d_reset = w.recur_back(dn, 1)
        dz = dh * (n - h) * z * (1 - z)
        dr = d_reset * h * r * (1 - r)
        d_zr = tf.concat([dz, dr], axis=1)
        dh = dh * (1 - z) + d_reset * r + w.recur_back(d_zr, 0)
        return Back(tf.concat([d_zr, dn], axis=1), (dh,), (w.masked(r * h),))

    def weight_gradients(
        self, dx: Tensor, h: Tensor | None, kept: tuple[Tensor, ...], sums: tuple[Tensor, ...]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        (reset,) = kept
        units = reset.shape[1]
        gates = tf.matmul(h, dx[:, : 2 * units], transpose_a=True)
        candidate = tf.matmul(reset, dx[:, 2 * units :], transpose_a=True)
        return tf.concat([gates, candidate], axis=1), {}


@dataclass(frozen=True)
class ResetAfterGRUKernel(Kernel):
    """Columns: update, reset, candidate. The reset gate closes the product: cuDNN's form.

    Attributes:
        use_bias: Whether there is a `recurrent_bias`, which the reset gate closes too.
    """

    use_bias: bool = True
    states = 1
    saved = 4
    parts = (3,)
    kept = (1,)

    @property
    def sums(self) -> tuple[int, ...]:
        return (3,) if self.use_bias else ()

    def forward(
        self, x: tuple[Tensor, ...], states: tuple[Tensor, ...], w: Weights
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        (h,) = states
        u = tf.split(w.recur(h), 3, axis=1)
        if self.use_bias:
            u = map(tf.add, u, tf.split(w.others["recurrent_bias"], 3))
        u_z, u_r, u_n = u
        z, r = sigmoid(x[0] + u_z), sigmoid(x[1] + u_r)
        n = tf.tanh(x[2] + r * u_n)
        return (h + z * (n - h),), (z, r, n, u_n)

    def backward(
        self,
        saved: tuple[Tensor, ...],
        before: tuple[Tensor, ...],
        after: tuple[Tensor, ...],
        d_after: tuple[Tensor, ...],
        w: Weights,
    ) -> Back:
        z, r, n, u_n = saved
        (h,), (dh,) = before, d_after
        dn = dh * z * (1 - n * n)
        dz = dh * (n - h) * z * (1 - z)
        dr = dn * u_n * r * (1 - r)
        du_n = dn * r
        du = tf.concat([dz, dr, du_n], axis=1)
        dh = dh * (1 - z) + w.recur_back(du)
        dx = tf.concat([dz, dr, dn], axis=1)
        return Back(dx, (dh,), (du_n,), (du,) if self.use_bias else ())

    def weight_gradients(
        self, dx: Tensor, h: Tensor | None, kept: tuple[Tensor, ...], sums: tuple[Tensor, ...]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        (du_n,) = kept
        gates = tf.matmul(h, dx[:, : 2 * du_n.shape[1]], transpose_a=True)
        recurrent = tf.concat([gates, tf.matmul(h, du_n, transpose_a=True)], axis=1)
        others = {"recurrent_bias": tf.reduce_sum(sums[0], axis=0)} if self.use_bias else {}
        return recurrent, others


@kernel(cells.GRUCell)
def _gru(cell: Any) -> tuple[Kernel, dict[str, Tensor]]:
    if not cell.reset_after:
        return GRUKernel(), {}
    if cell.recurrent_bias is None:
        return ResetAfterGRUKernel(use_bias=False), {}
    return ResetAfterGRUKernel(), {"recurrent_bias": cell.recurrent_bias}
