"""What a linear chain of tags is, by brute force: every path is scored, in float64 NumPy."""

import itertools
from typing import NamedTuple

import numpy as np


class Scores(NamedTuple):
    """Of one batch. The fields are as in `kerasrnn.layers._chain.Chain`."""

    potentials: np.ndarray
    transitions: np.ndarray
    start: np.ndarray
    end: np.ndarray
    mask: np.ndarray


class Row(NamedTuple):
    """All that there is to know of one sequence of n steps, without the masked ones.

    Attributes:
        paths: `(paths, n)`, from the one with the lowest last tag, then last but one, on.
        scores: `(paths,)`.
        counts: How often each path uses each score: `(paths, ...)` for each of the potentials, the
            transitions, the start and the end.
    """

    paths: np.ndarray
    scores: np.ndarray
    counts: tuple[np.ndarray, ...]

    @property
    def log_z(self) -> float:
        return float(np.logaddexp.reduce(self.scores))

    @property
    def probabilities(self) -> np.ndarray:
        return np.exp(self.scores - self.log_z)

    @property
    def marginals(self) -> np.ndarray:
        """`(n, tags)`."""
        return np.tensordot(self.probabilities, self.counts[0], 1)

    @property
    def best(self) -> np.ndarray:
        """The best path; of several the one that comes first."""
        return self.paths[np.argmax(self.scores)]

    def number(self, tags: np.ndarray) -> int:
        """The number of a path."""
        return int(np.flatnonzero((self.paths == tags).all(axis=1))[0])

    def loss(self, tags: np.ndarray) -> float:
        return self.log_z - float(self.scores[self.number(tags)])

    def gradients(self, tags: np.ndarray) -> list[np.ndarray]:
        """Of the loss by each of the scores: what is expected of it, less what there is."""
        chosen, expected = self.number(tags), self.probabilities
        return [np.tensordot(expected, count, 1) - count[chosen] for count in self.counts]


def row(scores: Scores, index: int) -> Row:
    """The row of a batch, which must have a step that counts."""
    potentials = scores.potentials[index][scores.mask[index]].astype("float64")
    steps, tags = potentials.shape
    backwards = itertools.product(range(tags), repeat=steps)
    paths = np.array([path[::-1] for path in backwards])
    one_hot = np.eye(tags)[paths]
    counts = (
        one_hot,
        np.einsum("pti,ptj->pij", one_hot[:, :-1], one_hot[:, 1:]),
        one_hot[:, 0],
        one_hot[:, -1],
    )
    total = sum(
        np.tensordot(count, weight.astype("float64"), weight.ndim)
        for count, weight in zip(counts, (potentials, *scores[1:4]), strict=True)
    )
    return Row(paths, total, counts)


def recursion(scores: Scores, tags: np.ndarray) -> np.ndarray:
    """The losses of a batch without masks, of any length: `(batch,)`."""
    potentials, transitions, start, end = (part.astype("float64") for part in scores[:4])
    rows, times = np.indices(tags.shape)
    given = potentials[rows, times, tags].sum(axis=1)
    given += (
        transitions[tags[:, :-1], tags[:, 1:]].sum(axis=1) + start[tags[:, 0]] + end[tags[:, -1]]
    )
    forward = start + potentials[:, 0]
    for step in range(1, potentials.shape[1]):
        entering = np.logaddexp.reduce(forward[:, :, None] + transitions, axis=1)
        forward = entering + potentials[:, step]
    return np.logaddexp.reduce(forward + end, axis=1) - given
