"""What the tests of the cells share: the table of variants, random weights, masks, comparisons."""

import importlib
import itertools
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import cells
from tests.cells import references

BATCH, TIME, FEATURES, UNITS = 5, 6, 4, 5

# How far a value may be from the reference, relatively and, near zero, absolutely. The reference
# sums in another order, so float64 leaves a few units in the last place per step.
RTOL = {"float64": 1e-11, "float32": 1e-5}
ATOL = {"float64": 1e-13, "float32": 1e-6}

# Keras computes in float64 on TensorFlow only; elsewhere its operations fall back to float32.
DTYPES = ["float64", "float32"] if keras.backend.backend() == "tensorflow" else ["float32"]

WRAPPERS = {"keras.RNN": keras.layers.RNN, "Recurrent": kerasrnn.layers.Recurrent}

# The options that change a cell's equations, for the cell and for `references/<name>.py` alike.
# A cell that has none needs no entry; `test_the_variants_name_every_option` sees to the others.
PEEPHOLES = ("input", "forget", "output")
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "peephole_lstm": [
        {"peepholes": chosen}
        for count in (3, 2, 1, 0)
        for chosen in itertools.combinations(PEEPHOLES, count)
    ],
    "coupled_lstm": [{"use_peephole": False}, {"use_peephole": True}],
    "gru": [{"reset_after": False}, {"reset_after": True}],
    "depth_gated_lstm": [{"depth": 2}, {"depth": 1}, {"depth": 3, "coupled": True}],
    "mut1": [{"project_input": True}, {"project_input": False}],
    "mut2": [{"project_input": True}, {"project_input": False}],
    "sru": [{"project_input": True}, {"project_input": False}],
    "grid_lstm": [
        {"depth": 1},
        {"depth": 2, "depth_priority": True},
        {"depth": 2, "tied": True},
        {"depth": 2, "dimensions": 1},
    ],
    "janet": [{"beta": 1.0}, {"beta": 0.0}],
    "nested_lstm": [{"outer_activation": "linear"}, {"outer_activation": "tanh"}],
    "recurrent_highway": [{"depth": 2}, {"depth": 3}],
}

# The five from which all others follow. What is slow is done for these, and for the others when
# `-m slow` asks for it.
FOUNDATION = ("simple_rnn", "lstm", "peephole_lstm", "coupled_lstm", "gru")


def needs(name: str, units: int) -> dict[str, Any]:
    """The arguments without which a cell does not take any number of features and of units."""
    if name in ("mut1", "mut2", "sru"):
        return {"project_input": True}
    if name == "clockwork_rnn":
        return {"periods": tuple(range(1, units + 1))}
    return {}


def make(name: str, units: int = UNITS, **arguments: Any) -> cells.Cell:
    """The cell of a name, whatever its units."""
    return cells.get(name, units, **{**needs(name, units), **arguments})


# Which of the six steps of each of the five sequences count. Right padding stands alone too, as it
# is what fused kernels accept.
MASKS: dict[str, np.ndarray | None] = {
    "no mask": None,
    "right padding": np.arange(TIME) < np.array([[6], [3], [1], [5], [2]]),
    "every kind of mask": np.array(
        [
            [1, 1, 1, 1, 1, 1],
            [1, 1, 1, 0, 0, 0],  # padding on the right
            [0, 0, 1, 1, 1, 1],  # on the left
            [0, 1, 0, 1, 1, 0],  # holes
            [0, 0, 0, 0, 0, 0],
        ],
        dtype=bool,
    ),
}


@dataclass(frozen=True)
class Case:
    """A registered cell with the options that choose its equations."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    use_bias: bool = True

    @property
    def cell_class(self) -> type[cells.Cell]:
        return cells.info(self.name).cell_class

    def cell(self, units: int = UNITS, **arguments: Any) -> cells.Cell:
        return make(self.name, units, **{"use_bias": self.use_bias, **self.options, **arguments})

    @property
    def reference(self) -> Any:
        return importlib.import_module(f"tests.cells.references.{self.name}")

    def features(self, features: int = FEATURES, units: int = UNITS) -> int:
        """The number of features, which may have to be the number of units."""
        return units if self.options.get("project_input") is False else features

    def layout(self, units: int = UNITS, features: int = FEATURES) -> references.Layout:
        features = self.features(features, units)
        layout = self.reference.layout(features, units, **self._options(units))
        if not self.use_bias:
            for described in (layout.weights, layout.columns):
                described.pop("bias", None)
                described.pop("recurrent_bias", None)
        return layout

    def run(self, x: Any, states: Any, *args: Any, **arguments: Any) -> Any:
        options = self._options(states[0].shape[1])

        def step(*args: Any) -> Any:
            return self.reference.step(*args, **options)

        return references.run(step, x, states, *args, **arguments)

    def sequences(
        self, units: int = UNITS, time: int = TIME, features: int = FEATURES
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Random inputs and initial states, of numbers that float32 can hold too."""
        random, features = np.random.default_rng(1), self.features(features, units)
        x = random.normal(size=(BATCH, time, features)).astype("float32").astype("float64")
        return x, starting_states(self.name, random, BATCH, units, self._options(units))

    def _options(self, units: int) -> dict[str, Any]:
        return {**needs(self.name, units), **self.options}

    def __str__(self) -> str:
        options = (
            f"{key}={'+'.join(value) or 'none' if isinstance(value, tuple) else value}"
            for key, value in self.options.items()
        )
        return "-".join([self.name, *options, *([] if self.use_bias else ["no_bias"])])


# The package's own cells only: doctests register cells as well.
NAMES = [n for n in cells.names() if cells.info(n).cell_class.__module__.startswith("kerasrnn.")]
CASES = [
    Case(name, options, use_bias)
    for name in NAMES
    for number, options in enumerate(VARIANTS.get(name, [{}]))
    # The subsets of the peepholes have nothing to do with the bias: once without is enough.
    for use_bias in ((True, False) if name != "peephole_lstm" or number == 0 else (True,))
]


# The foundation's cells as they are by default.
DEFAULTS = [next(case for case in CASES if case.name == name) for name in FOUNDATION]


def each(*parameters: tuple[str, list[Any], Any], without_bias: bool = True) -> Any:
    """Every case with every combination of the parameters, each `(name, values, the essential ones)`.

    All combinations for the foundation's cells as they are by default; for their variants and the other
    cells those of the essential values, and the rest when `-m slow` asks for them. So also with the cases
    that have no bias, unless they are wanted at once.
    """
    names, values, essential = zip(*parameters, strict=True)
    combinations = []
    for case in CASES:
        for chosen in itertools.product(*values):
            quick = case in DEFAULTS or (
                (without_bias or case.use_bias)
                and all(one in few for one, few in zip(chosen, essential, strict=True))
            )
            marks = () if quick else (pytest.mark.slow,)
            label = "-".join(map(_label, (case, *chosen)))
            combinations.append(pytest.param(case, *chosen, marks=marks, id=label))
    return pytest.mark.parametrize(("case", *names), combinations)


def _label(value: Any) -> str:
    return "+".join(value) if isinstance(value, dict) else str(value)


def randomise(cell: cells.Cell, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw every weight of a built cell anew; gives the weights by name, as the references want."""
    random = np.random.default_rng(seed)
    for weight in cell.trainable_weights:
        weight.assign(random.normal(0.0, 0.6, weight.shape))
    return {weight.name: numpy64(weight) for weight in cell.trainable_weights}


def starting_states(
    name: str, random: np.random.Generator, batch: int, units: int, options: dict[str, Any]
) -> tuple[np.ndarray, ...]:
    """Random states of a cell: what its reference draws, if not any number will do."""
    reference = importlib.import_module(f"tests.cells.references.{name}")
    if hasattr(reference, "starting_states"):
        return reference.starting_states(random, batch, units, **options)
    sizes = reference.layout(units, units, **options).states.values()
    return tuple(
        random.normal(0.0, 0.7, (batch, size)).astype("float32").astype("float64") for size in sizes
    )


def sequences(cell: cells.Cell) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Random inputs and initial states for a cell that takes any."""
    name = next(n for n in cells.names() if cells.info(n).cell_class is type(cell))
    return Case(name).sequences(cell.units)


def skip_where_keras_differs(mask: np.ndarray | None) -> None:
    """Keras's own loop on JAX starts a masked sequence with the initial state as its output."""
    if mask is not None and keras.backend.backend() == "jax":
        pytest.skip("Keras's masked loop gives other outputs on JAX")


def tensors(arrays: Any, dtype: str) -> list[Any]:
    return [keras.ops.convert_to_tensor(array, dtype=dtype) for array in arrays]


def numpy64(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor).astype("float64")


def assert_close(actual: Any, expected: np.ndarray, dtype: str = "float64", what: str = "") -> None:
    actual = keras.ops.convert_to_numpy(actual)
    assert actual.dtype == dtype, f"{what} came in {actual.dtype}, not in {dtype}"
    np.testing.assert_allclose(actual, expected, RTOL[dtype], ATOL[dtype], err_msg=what)
