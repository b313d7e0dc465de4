"""A wrong argument is refused where it is given, by a message that names it and what came."""

import contextlib
import inspect

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import cells
from kerasrnn.cells import Step
from tests.cells._helpers import FEATURES, NAMES, UNITS, make

each_name = pytest.mark.parametrize("name", NAMES)


@contextlib.contextmanager
def refused(*parts, error=ValueError):
    """Expect an error whose message holds all the parts."""
    with pytest.raises(error) as raised:
        yield raised
    for part in parts:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("lsmt", "'lstm'"),
        ("peephole", "'peephole_lstm'"),
        ("CoupledLSTN", "'coupled_lstm'"),
        ("gruu", "'gru'"),
    ],
)
def test_an_unknown_name_brings_the_nearest_ones(wrong, nearest):
    for look_up in (cells.info, lambda name: make(name, UNITS)):
        with refused("`cell`", repr(wrong), f"Did you mean {nearest}"):
            look_up(wrong)


def test_a_name_like_no_other_brings_all_of_them():
    with refused("'xyz'", *NAMES) as raised:
        cells.info("xyz")
    assert "Did you mean" not in str(raised.value)


@each_name
def test_a_class_name_is_a_name_too(name):
    cell_class = cells.info(name).cell_class
    assert cells.info(cell_class.__name__) is cells.info(name)
    assert type(make(cell_class.__name__.removesuffix("Cell"), 4)) is cell_class


@pytest.mark.parametrize("units", [0, -1, 2.5, 4.0, True, "8", None, [3], float("nan")], ids=repr)
@each_name
def test_units_must_be_a_positive_integer(name, units):
    with refused("`units`", "positive integer", repr(units)):
        cells.get(name, units)


@each_name
def test_units_may_be_an_integer_of_numpy(name):
    cell = cells.get(name, np.int64(4))
    assert cell.units == 4
    assert type(cell.get_config()["units"]) is int


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, True, "0.5", None, float("nan")], ids=repr)
@pytest.mark.parametrize("argument", ["dropout", "recurrent_dropout"])
@each_name
def test_dropout_must_be_a_fraction(name, argument, rate):
    with refused(f"`{argument}`", "less than 1", repr(rate)):
        make(name, UNITS, **{argument: rate})


@each_name
def test_dropout_may_be_a_number_of_numpy(name):
    rate = make(name, UNITS, dropout=np.float32(0.25)).get_config()["dropout"]
    assert (rate, type(rate)) == (0.25, float)


@pytest.mark.parametrize("peepholes", [["candidate"], ["input", "cell"], "inptu"], ids=repr)
def test_only_gates_have_peepholes(peepholes):
    unknown = [peepholes] if isinstance(peepholes, str) else peepholes[-1:]
    with refused("`peepholes`", "'input', 'forget', 'output'", repr(unknown)):
        cells.PeepholeLSTMCell(UNITS, peepholes=peepholes)


def test_peepholes_come_in_any_order_and_one_alone_as_a_string():
    assert cells.PeepholeLSTMCell(UNITS, peepholes=["output", "input"]).peepholes == (
        "input",
        "output",
    )
    assert cells.PeepholeLSTMCell(UNITS, peepholes="forget").peepholes == ("forget",)


@each_name
def test_an_unknown_argument_is_named(name):
    with pytest.raises((TypeError, ValueError), match="peepwhole"):
        make(name, UNITS, peepwhole=True)


@pytest.mark.parametrize("role", ["activation", "kernel_initializer", "bias_regularizer"])
@each_name
def test_an_unknown_function_is_named(name, role):
    with pytest.raises(ValueError, match="nonesuch"):
        make(name, UNITS, **{role: "nonesuch"})


@each_name
def test_the_number_of_features_must_be_known(name):
    cell = make(name, UNITS)
    with refused(type(cell).__name__, "last dimension of `inputs`", "(None, None)"):
        cell.build((None, None))


@each_name
def test_the_states_must_be_as_many_as_the_cell_has(name):
    cell = make(name, UNITS)
    states = [keras.ops.zeros((2, UNITS))] * (len(cell.states) + 1)
    with refused("`states`", cell.states[-1], f"got {len(states)}"):
        cell(keras.ops.ones((2, FEATURES)), states)


class SomeCell(cells.Cell):
    """A cell whose step gives what a test says."""

    gates = ("update", "candidate")
    given: Step

    def step(self, x, states):
        return self.given


@pytest.mark.parametrize(
    ("count", "gates"),
    [
        (1, ("update",)),
        (1, ("update", "candidate", "reset")),
        (1, ("update", "new")),
        (2, SomeCell.gates),
    ],
)
@pytest.mark.parametrize("wrapper", [keras.layers.RNN, kerasrnn.layers.Recurrent])
def test_a_step_must_give_what_the_class_declares(wrapper, count, gates):
    cell = SomeCell(UNITS)
    h = keras.ops.zeros((2, UNITS))
    cell.given = Step(h, (h,) * count, dict.fromkeys(gates, h))
    with refused("SomeCell.step", "('update', 'candidate')", f"got {count} states", repr(gates)):
        wrapper(cell)(keras.ops.ones((2, 3, FEATURES)))


def test_a_cell_without_equations_says_so():
    class EmptyCell(cells.Cell):
        gates = ("candidate",)

    with refused("EmptyCell", "`step(x, states)`", error=NotImplementedError):
        EmptyCell(UNITS)(keras.ops.ones((2, FEATURES)), keras.ops.ones((2, UNITS)))


def test_two_cells_cannot_have_one_name():
    known = cells.info("lstm")

    class LSTMCell(cells.LSTMCell):
        pass

    with refused("'lstm'", "registered already", "kerasrnn.cells.lstm.LSTMCell"):
        cells.cell(paper="https://example.org")(LSTMCell)
    assert cells.info("lstm") is known
    assert keras.saving.get_registered_object("kerasrnn>LSTMCell") is known.cell_class


@pytest.mark.parametrize("thing", [3, "GRUCell", keras.layers.GRUCell, cells.GRUCell(3)], ids=type)
def test_only_cells_can_be_registered(thing):
    with refused("@cell", "kerasrnn.cells.Cell", error=TypeError):
        cells.cell(paper="https://example.org")(thing)


def test_a_cell_without_gates_cannot_be_registered():
    class GatelessCell(cells.Cell):
        pass

    with refused("GatelessCell", "`gates`", error=TypeError):
        cells.cell(paper="https://example.org")(GatelessCell)
    assert "gateless" not in cells.names()


@each_name
def test_states_of_a_wrong_size_are_refused(name):
    cell = make(name, UNITS)
    x = np.zeros((2, FEATURES), "float32")
    wrong = [np.zeros((2, UNITS + 1), "float32")] * len(cell.states)
    with refused("`states`", f"(batch, {UNITS})", str(UNITS + 1)):
        cell(x, wrong)
    with refused("`states`", f"{len(cell.states)} tensors"):
        cell(x, [np.zeros((2, UNITS), "float32")] * (len(cell.states) + 1))


def test_a_subclass_has_a_signature_of_its_own():
    class Doubled(cells.LSTMCell):
        def __init__(self, units, twice=True, **kwargs):
            super().__init__(units, **kwargs)
            self.twice = twice

    shown = inspect.signature(Doubled).parameters
    assert {"units", "twice", "unit_forget_bias", "recurrent_dropout"} <= set(shown)
    assert "twice" not in inspect.signature(cells.LSTMCell).parameters
    assert not hasattr(Doubled(2), "__signature__")


@pytest.mark.parametrize("peepholes", [3, None, 0.5])
def test_peepholes_are_a_list(peepholes):
    with refused("`peepholes` must be a list of gates", repr(peepholes)):
        cells.PeepholeLSTMCell(UNITS, peepholes=peepholes)


# The options of the family.


@pytest.mark.parametrize(
    "periods",
    [(), [], (1, 2, 1, 4), "124", 4, None, 3.5, {1, 2}, {1: 2}, np.array([], int)],
    ids=repr,
)
def test_periods_are_integers_each_once(periods):
    with refused("`periods`", "none of them twice", repr(periods)):
        cells.ClockworkRNNCell(4, periods=periods)


def test_periods_may_come_in_any_order_and_form():
    for periods in ((4, 1), [4, 1], np.array([4, 1]), iter([4, 1])):
        cell = cells.ClockworkRNNCell(4, periods=periods)
        assert cell.periods == (4, 1)
        assert type(cell).from_config(cell.get_config()).periods == (4, 1)


@pytest.mark.parametrize("period", [0, -2, 1.5, "2", [2]], ids=repr)
def test_a_period_is_a_positive_integer(period):
    with refused("`periods`", "positive integer", repr(period)):
        cells.ClockworkRNNCell(4, periods=(1, period))


def test_the_periods_must_divide_the_units():
    with refused("`units` must be a multiple", "units=6", "4 periods (1, 2, 4, 8)"):
        cells.ClockworkRNNCell(6)


@pytest.mark.parametrize(("dtype", "most"), [("float16", 2048), ("mixed_bfloat16", 256)])
def test_a_period_must_be_countable_in_the_dtype(dtype, most):
    assert cells.ClockworkRNNCell(2, periods=(1, most), dtype=dtype).periods == (1, most)
    with refused("`periods`", f"at most {most}", f"got {most + 1}"):
        cells.ClockworkRNNCell(2, periods=(1, most + 1), dtype=dtype)


@pytest.mark.parametrize("name", ["mut1", "mut2", "sru"])
def test_the_units_must_be_the_features_where_the_input_enters_as_it_is(name):
    cell = cells.get(name, UNITS)
    with refused("`units`", f"units={UNITS}", f"{UNITS + 1} features", "`project_input=True`"):
        cell.build((None, UNITS + 1))
    cells.get(name, UNITS).build((None, UNITS))
    cells.get(name, UNITS, project_input=True).build((None, UNITS + 1))


@pytest.mark.parametrize("depth", [0, -1, 1.5, "2", None], ids=repr)
@pytest.mark.parametrize("name", ["depth_gated_lstm", "grid_lstm", "recurrent_highway"])
def test_depth_is_a_positive_integer(name, depth):
    with refused("`depth`", "positive integer", repr(depth)):
        cells.get(name, UNITS, depth=depth)


@pytest.mark.parametrize("value", ["x", None, float("nan"), [1], True], ids=repr)
@pytest.mark.parametrize(
    ("name", "argument"), [("janet", "beta"), ("recurrent_highway", "transform_bias")]
)
def test_a_number_is_one(name, argument, value):
    with refused(f"`{argument}` must be a number", repr(value)):
        cells.get(name, UNITS, **{argument: value})


@pytest.mark.parametrize("value", ["no", 1, None], ids=repr)
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("lstm", "layer_norm"),
        ("lstm", "unit_forget_bias"),
        ("depth_gated_lstm", "coupled"),
        ("grid_lstm", "tied"),
        ("grid_lstm", "depth_priority"),
        ("mut1", "project_input"),
    ],
)
def test_a_flag_is_true_or_false(name, argument, value):
    with refused(f"`{argument}` must be True or False", repr(value)):
        cells.get(name, UNITS, **{argument: value})


@pytest.mark.parametrize("name", [3, None, cells.GRUCell], ids=repr)
def test_a_name_is_a_string(name):
    with refused("`cell` must be a registered name", repr(name)):
        cells.info(name)


@pytest.mark.parametrize("dimensions", [0, 3, "2", True], ids=repr)
def test_a_grid_has_one_or_two_dimensions(dimensions):
    with refused("`dimensions`", "1 (depth) or 2 (time, depth)", repr(dimensions)):
        cells.GridLSTMCell(UNITS, dimensions=dimensions)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("NIG", "no_input_gate_lstm"),
        ("CIFG", "input_coupled_lstm"),
        ("cec", "constant_error_carousel"),
    ],
)
def test_the_literature_s_names_are_names_too(alias, name):
    assert cells.info(alias).name == name


@pytest.mark.parametrize(("wrong", "nearest"), [("CIGF", "input_coupled_lstm"), ("mut4", "mut1")])
def test_an_unknown_variant_brings_the_nearest_ones(wrong, nearest):
    with refused("`cell`", repr(wrong), "Did you mean", repr(nearest)):
        cells.info(wrong)
