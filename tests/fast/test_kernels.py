"""The kernels give what the cells' own steps give: values and gradients, compiled and not."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerasrnn
from kerasrnn import cells, fast
from kerasrnn.layers import Recurrent
from tests.cells._helpers import CASES, FEATURES, FOUNDATION, UNITS, randomise
from tests.cells.references import Layout

# Two ways through the same float32 operations, whose sums are taken in another order.
VALUES, GRADIENTS = 1e-6, 1e-5
# The mixed policies: the loop rounds states and gates to 16 bits, the kernels do not.
HALF = {"mixed_float16": 2e-2, "mixed_bfloat16": 1e-1, "float16": 2e-2, "bfloat16": 1e-1}
MIXED = ["mixed_float16", "mixed_bfloat16"]

BATCH, TIME = 5, 6
RIGHT = np.arange(TIME) < np.array([[4], [3], [1], [4], [2]])
ANY = np.array(
    [
        [0, 1, 1, 1, 1, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 1, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0],
    ],
    bool,
)
SCENARIOS = {
    "plain": {},
    "any mask, backwards, dropouts": {
        "mask": ANY,
        "training": True,
        "go_backwards": True,
        "zero_output_for_mask": True,  # as `Bidirectional` has it
        "dropout": 0.3,
        "recurrent_dropout": 0.4,
    },
    "padding, the last output": {
        "mask": RIGHT,
        "return_sequences": False,
        "zero_output_for_mask": True,
    },
    "any mask, any length, learned states": {
        "mask": ANY,
        "initial_state": "learned",
        "dynamic": True,
        "training": True,
    },
    "any mask, any length, the last output": {
        "mask": ANY,
        "return_sequences": False,
        "dynamic": True,
    },
    "nothing but masked steps": {"mask": np.zeros((BATCH, TIME), bool), "training": True},
}
# The cells with a kernel of their own; and one of each kernel, with all that it can have.
OWN = [case for case in CASES if case.name in FOUNDATION]
KINDS = [
    case
    for case in OWN
    if case.use_bias
    and (case.name != "peephole_lstm" or len(case.options["peepholes"]) in (1, 3))
    and case.options.get("peepholes", ("input",)) in (("input",), ("input", "forget", "output"))
]


# The cells that the generic kernel runs, and how. What takes long is done for two, one with a counter and
# one with states that are no outputs; for the others when `-m slow` asks.
OTHERS = [case for case in CASES if case.name not in FOUNDATION]
FEW = ("clockwork_rnn", "nested_lstm")
# Each cell as it is by default, and one with many layers and states that are no outputs.
FIRST = [c for n, c in enumerate(OTHERS) if n == 0 or c.name != OTHERS[n - 1].name]
FIRST += [case for case in OTHERS if str(case) == "grid_lstm-depth=2-depth_priority=True"]
HARD = ("any mask, backwards, dropouts", "any mask, any length, learned states")


def scenarios(cases, quick):
    """Every case in every scenario: at once what `quick` takes, the rest when `-m slow` asks."""
    return pytest.mark.parametrize(
        ("case", "scenario"),
        [
            pytest.param(
                case,
                scenario,
                id=f"{case}-{scenario}",
                marks=() if quick(case, scenario) else pytest.mark.slow,
            )
            for case in cases
            for scenario in SCENARIOS
        ],
    )


def own(case, scenario):
    """Of the kernels of their own: all scenarios for the LSTM, and for the other kinds the hard ones.

    With dropouts those alone that have a product of their own, which the dropped state enters.
    """
    hard = HARD if case.name == "gru" else HARD[1:]
    return case in KINDS and (scenario in hard or case.name == "lstm")


def few(case, scenario):
    """Of the cells that the generic kernel runs."""
    return (str(case), scenario) in zip(FEW, HARD, strict=True)


def each_once(case, scenario):
    """Of these every one in the first of the hard scenarios."""
    return few(case, scenario) or (case in FIRST and scenario == HARD[0])


def run(
    case,
    implementation,
    *,
    mask=None,
    training=False,
    dynamic=False,
    graph=True,
    dropout=0.0,
    recurrent_dropout=0.0,
    dtype="float32",
    shape=(BATCH, TIME),
    units=UNITS,
    arguments=None,
    **options,
):
    """Outputs, final states and the gradients of all that a layer depends on."""
    options = {"return_sequences": True, "initial_state": "zeros", **options}
    layout = case.layout(units)
    if "recurrent_kernel" not in layout.weights:
        recurrent_dropout = 0.0
    rates = {"dropout": dropout, "recurrent_dropout": recurrent_dropout, **(arguments or {})}
    cell = case.cell(units, seed=3, dtype=dtype, **rates)
    features = case.features(FEATURES, units)
    layer = Recurrent(
        cell, implementation=implementation, return_state=True, dtype=dtype, **options
    )
    layer.build((None, None, features))
    randomise(layer)
    random = np.random.default_rng(7)
    wide = "float64" if dtype == "float64" else "float32"
    x = tf.constant(random.normal(size=(*shape, features)), wide)
    states = [
        tf.constant(
            np.zeros((shape[0], size))
            if name in cell.counters
            else random.normal(size=(shape[0], size)),
            wide,
        )
        for name, size in layout.states.items()
    ]
    if options["initial_state"] == "learned":
        states = []
    weights = [weight.value for weight in layer.trainable_weights]

    def both_ways(x, mask, *states):
        with tf.GradientTape() as tape:
            tape.watch([x, *states])
            outputs = layer(x, initial_state=list(states) or None, mask=mask, training=training)
            # Every element with a weight of its own, so that no two errors even out.
            loss = tf.add_n(
                [
                    tf.reduce_sum(tf.cast(y, wide) * _ramp(tf.shape(y), wide, n))
                    for n, y in enumerate(outputs)
                ]
            )
        zeros = tf.UnconnectedGradients.ZERO
        return outputs, tape.gradient(loss, [x, *states, *weights], unconnected_gradients=zeros)

    given = [x, *states] if mask is None else [x, *states, tf.constant(mask)]

    def function(x, *rest):
        return both_ways(x, None if mask is None else rest[-1], *rest[: len(states)])

    if not graph:
        return _numbers(function(*given))
    signature = None
    if dynamic:
        signature = [tf.TensorSpec([None, *a.shape[1:]], a.dtype) for a in given]
        signature[0] = tf.TensorSpec((None, None, features), wide)
        if mask is not None:
            signature[-1] = tf.TensorSpec((None, None), bool)
    return _numbers(tf.function(function, input_signature=signature)(*given))


def _ramp(shape, dtype, seed):
    numbers = tf.range(tf.cast(tf.reduce_prod(shape), "float64"))
    return tf.reshape(tf.cast(tf.sin(numbers + seed), dtype), shape)


def _numbers(results):
    outputs, gradients = results
    return [np.asarray(tf.cast(y, "float64")) for y in outputs], [
        np.asarray(tf.cast(g, "float64")) for g in gradients
    ]


def assert_alike(one, other, values=VALUES, gradients=GRADIENTS):
    for (first, second), tolerance in zip(
        zip(one, other, strict=True), (values, gradients), strict=True
    ):
        for a, b in zip(first, second, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, abs(b).max()))


@scenarios(OWN, own)
def test_an_ordinary_graph_gives_what_the_loop_gives(case, scenario):
    """What runs in eager calls and in exported models."""
    options = SCENARIOS[scenario]
    assert_alike(
        run(case, "fused", graph=False, **options), run(case, "loop", graph=False, **options)
    )


@pytest.mark.parametrize("worth", [0, pytest.param(10**9, marks=pytest.mark.slow)])
def test_inference_on_few_steps_is_not_compiled(worth, monkeypatch):
    """Where the length is known only when it comes. Its gradients are right as well."""
    monkeypatch.setattr(fast._sequence, "WORTH_COMPILING", worth)
    (case,) = (case for case in KINDS if case.name == "lstm")
    for options in ({"mask": ANY, "zero_output_for_mask": True}, {"return_sequences": False}):
        assert_alike(
            run(case, "fused", dynamic=True, **options),
            run(case, "loop", graph=False, **options),
        )


@scenarios(OWN, own)
def test_xla_gives_what_the_loop_gives(case, scenario):
    """What runs in `fit` and `predict`."""
    options = SCENARIOS[scenario]
    assert_alike(run(case, "fused", **options), run(case, "loop", graph=False, **options))


# The generic kernel.


@scenarios(OTHERS, each_once)
def test_the_generic_kernel_gives_what_the_loop_gives(case, scenario):
    options = SCENARIOS[scenario]
    assert_alike(
        run(case, "fused", graph=False, **options), run(case, "loop", graph=False, **options)
    )


@scenarios(OTHERS, few)
def test_the_generic_kernel_in_xla(case, scenario):
    """What runs in `fit`."""
    options = {**SCENARIOS[scenario], "training": True}
    assert_alike(run(case, "auto", **options), run(case, "loop", graph=False, **options))


REGULARISERS = {
    "candidate": {"recurrent_dropout": 0.4, "recurrent_dropout_form": "candidate"},
    "weights": {"recurrent_dropout": 0.4, "recurrent_dropout_form": "weights"},
    "zoneout": {"zoneout": {"hidden": 0.3}},
    "layer_norm": {"layer_norm": True},
}


@pytest.mark.parametrize("graph", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "regulariser"),
    [
        # Of weights that are dropped kernels of their own know as well.
        pytest.param(name, regulariser, marks=() if quick else pytest.mark.slow)
        for name in ("lstm", "gru", "mut1")
        for regulariser in REGULARISERS
        for quick in [name == ("mut1" if regulariser == "weights" else "lstm")]
    ],
)
def test_the_generic_kernel_knows_every_regulariser(name, regulariser, graph):
    case = next(case for case in CASES if case.name == name)
    options = {"arguments": REGULARISERS[regulariser], "mask": ANY, "training": True}
    assert_alike(
        run(case, "fused", graph=graph, **options), run(case, "loop", graph=False, **options)
    )


class OwnCase:
    """A cell of a test's own, in the form in which `run` takes those of the package."""

    @staticmethod
    def features(features, units):
        return features

    @staticmethod
    def layout(units):
        return Layout({"hidden": units}, {"recurrent_kernel": (units, units)}, {})


class DrawingCell(cells.Cell):
    """Its step drops something out by itself."""

    gates = ("candidate",)

    def build_extra(self):
        self.drop = keras.layers.Dropout(0.5)

    def step(self, x, states):
        h = self.drop(self.candidate(x + self.recur(states[0])), training=True)
        return cells.Step(h, (h,), {"candidate": h})


class CountingCell(cells.Cell):
    """Its step changes a variable."""

    gates = ("candidate",)

    def build_extra(self):
        self.count = self.add_weight((), "zeros", name="count", trainable=False)

    def step(self, x, states):
        self.count.assign_add(1.0)
        h = self.candidate(x + self.recur(states[0]))
        return cells.Step(h, (h,), {"candidate": h})


@pytest.mark.parametrize("cell_class", [DrawingCell, CountingCell])
def test_a_step_that_is_no_function_runs_in_the_loop(cell_class):
    """The way back would compute it anew: other draws, and the changes once more, or lost."""
    x = np.random.default_rng(0).normal(size=(8, 5, 2)).astype("float32")
    counts = []
    for implementation in ("auto", "loop"):
        own = Recurrent(cell_class(3), implementation=implementation)
        model = keras.Sequential([keras.Input((5, 2)), own, keras.layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=False)
        model.fit(x, x[:, 0, :1], batch_size=8, epochs=2, verbose=0)
        counts.append(float(getattr(own.cell, "count", 1)))
    assert counts[0] == counts[1] > 0
    with pytest.raises(ValueError, match=r'"fused".*cannot be: \w+Cell.step'):
        Recurrent(cell_class(3), implementation="fused")(x)


def test_two_weights_of_one_name_are_two():
    class TwinCell(cells.Cell):
        gates = ("candidate",)

        def build_extra(self):
            self.twins = [self.add_weight((self.units,), "normal", name="twin") for _ in range(2)]

        def step(self, x, states):
            one, other = self.twins
            h = self.candidate(x + self.recur(states[0]) * one + other)
            return cells.Step(h, (h,), {"candidate": h})

    class OneCase(OwnCase):
        cell = staticmethod(TwinCell)

    options = {"training": True, "mask": ANY}
    assert_alike(run(OneCase, "fused", **options), run(OneCase, "loop", graph=False, **options))


@pytest.mark.parametrize("policy", MIXED)
def test_the_generic_kernel_in_sixteen_bits(policy):
    """As the loop it carries the states in 16 bits; it sums up the weights' gradients in 32."""
    case = next(case for case in CASES if case.name == "mut3")
    truth = run(case, "loop", graph=False, mask=ANY, training=True)
    mixed = run(case, "auto", mask=ANY, training=True, dtype=policy)
    assert_alike(mixed, truth, HALF[policy], 2 * HALF[policy])


@pytest.mark.parametrize("trainable", [True, False])
def test_the_generic_kernel_trains_what_is_trainable(trainable):
    own = kerasrnn.layers.MUT3(3, trainable=trainable)
    model = keras.Sequential([keras.Input((5, 2)), own, keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    before = own.get_weights()
    x = np.random.default_rng(0).normal(size=(8, 5, 2))
    model.fit(x, x[:, 0, :1], verbose=0)
    for old, new in zip(before, own.get_weights(), strict=True):
        assert np.any(old != new) == trainable


@pytest.mark.parametrize(
    "case",
    [
        c
        if str(c) in ("lstm", "gru-reset_after=False")
        else pytest.param(c, marks=pytest.mark.slow)
        for c in KINDS
    ],
    ids=str,
)
def test_float64(case):
    options = {"mask": ANY, "dtype": "float64", "recurrent_dropout": 0.3, "training": True}
    for graph in (True, False):
        assert_alike(
            run(case, "fused", graph=graph, **options),
            run(case, "loop", graph=False, **options),
            values=1e-13,
            gradients=1e-12,
        )


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        # float16 for one is enough, unless `-m slow` asks: it takes the same way.
        pytest.param(case, dtype, id=f"{case}-{dtype}", marks=() if quick else pytest.mark.slow)
        for case in KINDS
        for dtype in HALF
        for quick in [
            (case.name == "lstm" and dtype != "float16")
            or (str(case), dtype) == ("gru-reset_after=False", "mixed_bfloat16")
        ]
    ],
)
def test_sixteen_bits(case, dtype):
    """The gates and the carried states in 32 bits: nearer to the truth than the loop."""
    # TensorFlow has no orthogonal matrices of bfloat16 to begin with.
    plain = {"recurrent_initializer": "glorot_uniform"}
    options = {"mask": ANY, "training": True, "arguments": plain}
    truth = run(case, "loop", graph=False, **options)
    mixed = run(case, "fused", dtype=dtype, **options)
    assert_alike(mixed, truth, HALF[dtype], HALF[dtype])


@pytest.mark.parametrize(
    "dtype", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_recurrent_dropout_in_sixteen_bits(dtype):
    """The mask is drawn in 16 bits, and the carried states have 32."""
    case = next(case for case in CASES if case.name == "gru")
    options = {"training": True, "dtype": dtype, "recurrent_dropout": 0.3}
    mixed = run(case, "fused", **options)
    assert_alike(mixed, run(case, "loop", graph=False, **options), HALF[dtype], HALF[dtype])


@pytest.mark.parametrize(
    ("shape", "units"),
    [
        ((1, 1), 1),
        *(
            pytest.param(*size, marks=pytest.mark.slow)
            for size in [((1, 7), 3), ((3, 1), 2), ((2, 5), 1)]
        ),
        ((1000, 2), 2),
        ((2, 3000), 2),
    ],
)
@pytest.mark.parametrize("name", ["peephole_lstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_odd_sizes(name, shape, units):
    """One of everything, more shards than sequences, many sequences, many steps."""
    case = next(case for case in KINDS if case.name == name)
    options = {"shape": shape, "units": units, "training": True}
    # Over 3000 steps rounding adds up, in both.
    tolerance = 1e-4 if shape[1] > 1000 else GRADIENTS
    assert_alike(
        run(case, "fused", **options),
        run(case, "loop", **options),
        values=VALUES * (10 if shape[1] > 1000 else 1),
        gradients=tolerance,
    )


@pytest.mark.parametrize(
    "time", [1, 9, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 5, 17, 33, 100))]
)
def test_any_length_is_rounded_up_without_a_trace(time):
    """For few compilations; `tests/layers` sees to the empty ones with masks."""
    case = next(case for case in KINDS if case.name == "coupled_lstm")
    options = {"shape": (3, time), "dynamic": True, "training": True}
    known = {"shape": (3, time), "training": True, "graph": False}
    assert_alike(run(case, "fused", **options), run(case, "loop", **known))


@pytest.mark.parametrize(
    "batch", [1, 17, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3))]
)
@pytest.mark.parametrize("dynamic", [True, False])
def test_any_batch_is_cut_without_a_trace(batch, dynamic, monkeypatch):
    """Also into more shards than it has sequences."""
    monkeypatch.setattr(fast._sequence, "_cores", lambda: 4)
    monkeypatch.setattr(fast._sequence, "FEWEST_ROWS", 1)
    case = next(case for case in KINDS if case.name == "peephole_lstm")
    options = {"shape": (batch, 5), "training": True, "recurrent_dropout": 0.3}
    assert_alike(
        run(case, "fused", dynamic=dynamic, **options), run(case, "loop", graph=False, **options)
    )


@pytest.mark.parametrize("batch", [33, None])
def test_all_shards_have_one_shape(batch, monkeypatch):
    """For which XLA compiles once."""
    monkeypatch.setattr(fast._sequence, "_cores", lambda: 4)
    seen, real = [], fast._loop.passes

    def watched(*kind):
        def forward(x, *given, **options):
            see = tf.py_function(lambda rows: seen.append(int(rows)), [tf.shape(x)[0]], [])
            with tf.control_dependencies([see]):
                return ways.forward(tf.identity(x), *given, **options)

        ways = real(*kind)
        return ways._replace(forward=forward)

    monkeypatch.setattr(fast._loop, "passes", watched)
    layer = kerasrnn.layers.LSTM(3)
    read = tf.function(
        lambda x: layer(x, training=True), input_signature=[tf.TensorSpec((batch, 5, 2))]
    )
    assert read(tf.ones((33, 5, 2))).shape == (33, 3)
    assert seen == [9] * 4


@pytest.mark.parametrize("dtype", MIXED)
def test_the_gradient_of_the_bias_sums_up_thousands_of_steps(dtype):
    """float16 cannot count beyond 2048 by ones."""
    x = np.random.default_rng(0).normal(size=(32, 200, 4)).astype("float32")
    found = {}
    for policy in ("float32", dtype):
        layer = kerasrnn.layers.LSTM(8, return_sequences=True, dtype=policy)
        layer.build(x.shape)
        randomise(layer)

        @tf.function
        def gradient(x, layer=layer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.cast(layer(x, training=True), "float32"))
            return tape.gradient(loss, layer.cell.bias.value)

        found[policy] = np.asarray(tf.cast(gradient(x), "float64"))
    expected = found["float32"]
    assert abs(expected).max() > 500
    np.testing.assert_allclose(found[dtype], expected, rtol=0, atol=5e-3 * abs(expected).max())


def test_a_compiled_kernel_refuses_a_gradient_of_its_gradient():
    """It has none, and says what has."""
    x = tf.ones((4, 5, 2))

    def second(implementation):
        layer = kerasrnn.layers.LSTM(3, implementation=implementation)
        layer.build(x.shape)
        randomise(layer)

        def gradient(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = tf.reduce_sum(layer(x) ** 2)
                slope = tf.reduce_sum(inner.gradient(y, x) ** 2)
            return outer.gradient(slope, x)

        return gradient

    with pytest.raises(LookupError, match='implementation="loop"'):
        tf.function(second("auto"), autograph=False)(x)
    eager, loop = second("auto")(x), tf.function(second("loop"))(x)
    np.testing.assert_allclose(eager, loop, rtol=1e-4, atol=1e-7)


def test_two_tapes_each_have_their_gradient():
    """As whoever trains two networks against each other has them."""
    x = tf.constant(np.random.default_rng(0).normal(size=(5, 4, 2)), "float32")
    found = []
    for implementation in ("auto", "loop"):
        layer = kerasrnn.layers.LSTM(3, implementation=implementation)
        layer.build(x.shape)
        randomise(layer)
        weights = [weight.value for weight in layer.trainable_weights]

        @tf.function
        def both(x, layer=layer, weights=weights):
            with tf.GradientTape() as one, tf.GradientTape(persistent=True) as other:
                y = layer(x, training=True)
                first, second = tf.reduce_sum(y**2), tf.reduce_sum(tf.sin(y))
            return [*one.gradient(first, weights), *other.gradient(second, weights)]

        found.append(both(x))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=GRADIENTS, atol=GRADIENTS)


@pytest.mark.parametrize("cores", [1, 2])
def test_rows_that_are_gathered_have_their_gradient(cores, monkeypatch):
    """Of a sorted batch, put back in order, TensorFlow has a gradient that is no tensor."""
    monkeypatch.setattr(fast._sequence, "_cores", lambda: cores)
    monkeypatch.setattr(fast._sequence, "FEWEST_ROWS", 1)
    x = tf.constant(np.random.default_rng(0).normal(size=(5, 4, 2)), "float32")
    found = []
    for implementation, graph in (("auto", True), ("auto", False), ("loop", False)):
        layer = kerasrnn.layers.LSTM(3, implementation=implementation)
        layer.build(x.shape)
        randomise(layer)

        def gradient(x, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(x)
                back = tf.gather(layer(x, training=True), [3, 1, 4, 0])
                loss = tf.reduce_sum(back * _ramp((4, 3), "float32", 1))
            return tape.gradient(loss, x)

        found.append((tf.function(gradient) if graph else gradient)(x))
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, rtol=GRADIENTS, atol=GRADIENTS)


def test_states_of_more_rows_than_the_inputs_are_refused():
    """Also where the graph does not know how many there are."""
    layer = kerasrnn.layers.LSTM(3)
    shapes = [tf.TensorSpec((None, 4, 2)), *[tf.TensorSpec((None, 3))] * 2]

    @tf.function(input_signature=shapes)
    def read(x, *states):
        return layer(x, initial_state=list(states), training=True)

    assert read(tf.ones((6, 4, 2)), tf.ones((6, 3)), tf.ones((6, 3))).shape == (6, 3)
    with pytest.raises(tf.errors.InvalidArgumentError):
        read(tf.ones((6, 4, 2)), tf.ones((8, 3)), tf.ones((8, 3)))


def test_a_shard_has_no_rows_but_those_of_the_batch(monkeypatch):
    """A step need not have a gradient where all is zero."""
    monkeypatch.setattr(fast._sequence, "_cores", lambda: 4)
    monkeypatch.setattr(fast._sequence, "FEWEST_ROWS", 1)

    class NormCell(cells.Cell):
        gates = ("candidate",)

        def step(self, x, states):
            z = x + self.recur(states[0])
            h = z / keras.ops.sqrt(keras.ops.sum(z * z, axis=-1, keepdims=True))
            return cells.Step(h, (h,), {"candidate": h})

    class OneCase(OwnCase):
        cell = staticmethod(NormCell)

    for dynamic in (False, True):
        options = {"training": True, "arguments": {"use_bias": False}}
        ours = run(OneCase, "fused", dynamic=dynamic, **options)
        assert_alike(ours, run(OneCase, "loop", graph=False, **options))


def test_two_directions_share_the_cores(monkeypatch):
    """Each is cut into half as many shards as a layer by itself; and in the graph neither waits."""
    monkeypatch.setattr(fast._sequence, "_cores", lambda: 4)
    cut = []
    real = fast._sequence._shards
    monkeypatch.setattr(fast._sequence, "_shards", lambda *a: cut.append(real(*a)) or cut[-1])
    both = keras.layers.Bidirectional(kerasrnn.layers.LSTM(3), name="both")
    alone = kerasrnn.layers.LSTM(3)
    x = tf.ones((64, 5, 2))
    read = tf.function(lambda x: (alone(x), both(x), alone(x)))
    graph = read.get_concrete_function(x).graph
    assert cut[-4:] == [4, 2, 2, 4]  # weights are made in a trace of their own
    forward, backward = (
        [op for op in graph.get_operations() if f"/{way}_lstm" in op.name and "Call" in op.type]
        for way in ("forward", "backward")
    )
    assert forward and backward
    for one, other in ((forward, backward), (backward, forward)):
        waited_for = list(one)
        for op in waited_for:
            assert op not in other
            waited_for += [tensor.op for tensor in op.inputs if tensor.op not in waited_for]


def test_few_lengths_are_compiled():
    """Of all lengths up to 400 no more than 35 are left, and none grows by more than a quarter."""
    lengths = set()
    for time in range(1, 401):
        (inputs,) = fast.padded([tf.zeros((1, time, 1))])
        lengths.add(inputs.shape[1])
        assert time <= inputs.shape[1] <= max(time * 1.25, time + 1)
    assert len(lengths) <= 35


# Which kernel, and when.


def xla_is_used(function) -> bool:
    graph = function.graph.as_graph_def()
    called = [f.attr["_XlaMustCompile"].b for f in graph.library.function]
    return any(called)


@pytest.mark.parametrize("case", OWN, ids=str)
def test_the_cells_of_the_foundation_have_a_kernel_of_their_own(case):
    cell = case.cell()
    cell.build((None, FEATURES))
    assert fast.kernel_for(cell) is not None


def test_a_subclass_does_not_inherit_a_kernel():
    """It may have other equations."""

    class Other(cells.LSTMCell):
        def step(self, x, states):
            done = super().step(x, states)
            return done._replace(output=2 * done.output)

    assert fast.kernel_for(Other(3)) is None
    x = np.ones((2, 3, 4), "float32")
    one, other = Recurrent(cells.LSTMCell(3)), Recurrent(Other(3))
    one.build(x.shape), other.build(x.shape)
    other.set_weights(one.get_weights())
    np.testing.assert_allclose(other(x), 2 * one(x), rtol=1e-6)


@pytest.mark.parametrize("arguments", [{"activation": "relu"}, {"recurrent_activation": "relu"}])
def test_other_squashings_have_no_kernel(arguments):
    cell = cells.GRUCell(3, **arguments)
    cell.build((None, 2))
    assert fast.kernel_for(cell) is None


@pytest.fixture
def own_register():
    """Cells that a test registers are forgotten after it."""
    before = dict(cells._registry._REGISTER)
    yield
    cells._registry._REGISTER.clear()
    cells._registry._REGISTER.update(before)


@pytest.fixture
def ran(monkeypatch):
    """The kernels that ran a sequence, as they did."""
    kernels, real = [], fast.run

    def watched(kernel, *given, **options):
        kernels.append(kernel)
        return real(kernel, *given, **options)

    monkeypatch.setattr(fast, "run", watched)
    return kernels


def test_a_user_may_write_a_kernel(own_register):
    @cells.cell(paper="https://example.org/leaky", package="test_kernels")
    class LeakyCell(cells.Cell):
        gates = ("candidate",)

        def step(self, x, states):
            h = 0.9 * states[0] + 0.1 * self.activation(x + self.recur(states[0]))
            return cells.Step(h, (h,), {"candidate": h})

    class LeakyKernel(fast.Kernel):
        states, saved, parts = 1, 1, (1,)

        def forward(self, x, states, w):
            (n,) = map(tf.tanh, w.added(x, states[0]))
            return (0.9 * states[0] + 0.1 * n,), (n,)

        def backward(self, saved, before, after, d_after, w):
            d = 0.1 * d_after[0] * (1 - saved[0] * saved[0])
            return fast.Back(d, (0.9 * d_after[0] + w.recur_back(d),))

    kernel = LeakyKernel()
    fast.kernel(LeakyCell)(lambda cell: (kernel, {}))

    class OneCase(OwnCase):
        cell = staticmethod(LeakyCell)

    for scenario in SCENARIOS.values():
        assert_alike(
            run(OneCase, "fused", **scenario), run(OneCase, "loop", graph=False, **scenario)
        )


def test_a_kernel_for_a_cell_that_is_unlike_the_others(own_register, ran):
    """No tanh, a projection of its own, and a vector in the place of the recurrent kernel."""

    @cells.cell(paper="https://example.org/slow", package="test_kernels")
    class SlowCell(cells.Cell):
        gates = ("candidate",)
        recurrent_gates = ()

        def build_extra(self):
            self.pace = self.add_kernel("pace", (self.units,), "recurrent", "uniform")

        def project(self, inputs):
            return 2.0 * super().project(inputs)

        def step(self, x, states):
            h = self.activation(x + self.pace * states[0])
            return cells.Step(h, (h,), {"candidate": h})

    class SlowKernel(fast.Kernel):
        states, saved, parts, sums = 1, 0, (), (1,)

        def forward(self, x, states, w):
            return (tf.nn.relu(x[0] + w.others["pace"] * states[0]),), ()

        def backward(self, saved, before, after, d_after, w):
            d = tf.where(after[0] > 0, d_after[0], 0.0)
            return fast.Back(d, (w.others["pace"] * d,), (), (d * before[0],))

        def weight_gradients(self, dx, h, kept, sums):
            return None, {"pace": tf.reduce_sum(sums[0], axis=0)}

    def maker(cell):
        return (SlowKernel(), {"pace": cell.pace}) if cell.activation is relu else None

    relu = keras.activations.relu
    fast.kernel(SlowCell, any_activation=True)(maker)
    assert fast.kernel_for(SlowCell(3)) is None

    class OneCase(OwnCase):
        cell = staticmethod(functools.partial(SlowCell, activation="relu"))

    for scenario in SCENARIOS.values():
        given = {**scenario, "recurrent_dropout": 0.0}
        assert_alike(run(OneCase, "fused", **given), run(OneCase, "loop", graph=False, **given))
    assert ran and all(isinstance(kernel, SlowKernel) for kernel in ran)


def test_a_kernel_for_a_cell_with_fewer_recurrent_columns(own_register, ran):
    """Which takes the recurrent kernel among the further weights, and drops none of them."""

    @cells.cell(paper="https://example.org/half", package="test_kernels")
    class HalfCell(cells.Cell):
        gates = ("update", "candidate")
        recurrent_gates = bias_gates = ("candidate",)

        def step(self, x, states):
            u, n = self.split(x)
            n = self.activation(n + self.recur(states[0]))
            u = 0.5 * keras.ops.tanh(0.5 * u) + 0.5
            h = u * states[0] + (1 - u) * n
            return cells.Step(h, (h,), {"update": u, "candidate": n})

    class HalfKernel(fast.Kernel):
        states, saved, parts, kept = 1, 2, (), (1,)

        def forward(self, x, states, w):
            u = 0.5 * tf.tanh(0.5 * x[0]) + 0.5
            n = tf.tanh(x[1] + w.masked(states[0]) @ w.others["recurrent_kernel"])
            return (u * states[0] + (1 - u) * n,), (u, n)

        def backward(self, saved, before, after, d_after, w):
            (u, n), (d,) = saved, d_after
            du, dn = d * (before[0] - n) * u * (1 - u), d * (1 - u) * (1 - n * n)
            back = w.masked(tf.matmul(dn, w.others["recurrent_kernel"], transpose_b=True))
            return fast.Back(tf.concat([du, dn], 1), (d * u + back,), (w.masked(before[0]),))

        def weight_gradients(self, dx, h, kept, sums):
            dn = dx[:, kept[0].shape[1] :]
            return None, {"recurrent_kernel": tf.matmul(kept[0], dn, transpose_a=True)}

    fast.kernel(HalfCell)(lambda cell: (HalfKernel(), {"recurrent_kernel": cell.recurrent_kernel}))

    class OneCase(OwnCase):
        cell = staticmethod(HalfCell)

    for form, kind in (("state", HalfKernel), ("weights", fast.GenericKernel)):
        for scenario in SCENARIOS.values():
            given = {**scenario, "arguments": {"recurrent_dropout_form": form}}
            if form == "weights":
                given |= {"training": True, "recurrent_dropout": 0.4}
            assert_alike(run(OneCase, "fused", **given), run(OneCase, "loop", graph=False, **given))
        assert {type(kernel) for kernel in ran} == {kind}
        ran.clear()


def test_dropped_weights_that_a_step_does_not_read():
    class DeafCell(cells.Cell):
        gates = ("candidate",)

        def step(self, x, states):
            h = self.candidate(x + states[0])
            return cells.Step(h, (h,), {"candidate": h})

    class OneCase(OwnCase):
        cell = staticmethod(DeafCell)

    options = {"training": True, "arguments": {"recurrent_dropout_form": "weights"}}
    fused = run(OneCase, "fused", recurrent_dropout=0.5, **options)
    assert_alike(fused, run(OneCase, "loop", graph=False, **options))


def test_fit_compiles_and_an_eager_call_does_not(monkeypatch):
    seen = []
    real = fast._loop.passes

    def watched(kernel, names, dropout, compiled, *sizes):
        seen.append(compiled)
        return real(kernel, names, dropout, compiled, *sizes)

    monkeypatch.setattr(fast._loop, "passes", watched)
    model = keras.Sequential([kerasrnn.layers.GRU(3), keras.layers.Dense(1)])
    x, y = np.ones((4, 5, 2), "float32"), np.ones((4, 1), "float32")
    model(x)
    assert seen == [False]
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(x, y, verbose=0)
    model.predict(x, verbose=0)
    assert all(seen[1:]) and len(seen) > 2


def test_an_exported_model_runs_where_xla_is_not_linked(tmp_path):
    inputs = keras.Input((None, 2))
    shared = keras.layers.Bidirectional(kerasrnn.layers.PeepholeLSTM(3))
    model = keras.Model(inputs, shared(inputs))
    x = np.random.default_rng(0).normal(size=(4, 5, 2)).astype("float32")
    expected = model.predict(x, verbose=0)  # which compiles
    for name, export in (
        ("keras", lambda path: model.export(path, verbose=False)),
        ("tensorflow", lambda path: tf.saved_model.save(model, path)),
    ):
        export(str(tmp_path / name))
        loaded = tf.saved_model.load(str(tmp_path / name))
        function = loaded.signatures["serving_default"]
        ops = {
            node.op for f in function.graph.as_graph_def().library.function for node in f.node_def
        }
        assert not xla_is_used(function) and not any(op.startswith("Xla") for op in ops)
        (output,) = function(tf.constant(x)).values()
        np.testing.assert_allclose(output, expected, atol=1e-6)


@pytest.mark.parametrize("implementation", ["auto", "fused", "loop"])
def test_the_choice_is_saved_and_survives(implementation, tmp_path):
    layer = kerasrnn.layers.LSTM(3, implementation=implementation)
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.Bidirectional(layer)])
    model.save(tmp_path / "model.keras")
    for other in (
        model,
        keras.models.clone_model(model),
        keras.models.load_model(tmp_path / "model.keras"),
    ):
        both = other.layers[0]
        assert both.forward_layer.implementation == implementation
        assert both.backward_layer.implementation == implementation
