"""Layers beside their peers, one training step or one forward pass at a time.

python -m benchmarks.layers --help

With KERAS_BACKEND=jax the layers of this package and of Keras run there, under `jax.jit`; with
KERAS_BACKEND=torch on PyTorch, on its CPU.
"""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tyro

import kerasrnn
from benchmarks._measure import Step, in_words, interleaved, where_it_ran, write
from kerasrnn import cells
from kerasrnn._tables import table


class Workload(NamedTuple):
    """The sizes of a batch and of a layer, and whether it runs from both ends."""

    batch: int
    time: int
    features: int
    units: int
    directions: int = 1


WORKLOADS = {
    "S": Workload(32, 100, 128, 128),
    "I": Workload(64, 400, 64, 64),
    "P": Workload(64, 35, 200, 200),
    "M": Workload(20, 35, 650, 650),
    "N": Workload(32, 50, 100, 100),
}
# The steps of `scaling`.
TIMES = (100, 200, 400, 800, 1600)
# The layers whose products with the input and with the state are all that they have.
GATES = {"SimpleRNN": 1, "LSTM": 4, "PeepholeLSTM": 4, "CoupledLSTM": 3, "GRU": 3}
BACKEND = keras.backend.backend()
Maker = Callable[[Workload, bool], Step | None]


@dataclass(frozen=True)
class Options:
    """Measure the recurrent layers beside Keras's, PyTorch's and ONNX Runtime's."""

    workloads: tuple[Literal["S", "I", "P", "M", "N"], ...] = ("S", "I", "P", "M")
    """The sizes (batch, time, features, units): S 32,100,128,128; I 64,400,64,64; P 64,35,200,200;
    M 20,35,650,650; N 32,50,100,100."""
    layers: tuple[str, ...] = ("LSTM", "PeepholeLSTM", "CoupledLSTM", "GRU")
    """Layers of this package, by class name."""
    peers: tuple[Literal["keras", "rnn", "torch", "onnxruntime", "bound"], ...] = (
        "keras",
        "rnn",
        "torch",
        "onnxruntime",
        "bound",
    )
    """keras: `keras.layers.LSTM` and `GRU`, without and with XLA; rnn: `keras.layers.RNN` of this
    package's cells; torch: `torch.nn.LSTM` and `GRU`; onnxruntime: its LSTM, forward only; bound: the
    matrix products alone. Those that are not installed are left out."""
    directions: Literal[1, 2] = 1
    """2: every layer in `keras.layers.Bidirectional`, or as PyTorch has it; and one direction beside it."""
    rounds: int = 9
    """How often each contender has its turn; the medians are reported."""
    scaling: bool = False
    """Measure S at 100 to 1600 steps too."""
    memory: bool = False
    """Measure the peak memory of training too, each contender that Keras runs in a process of its own."""
    out: str = "runs/benchmarks"
    """The folder for layers.json and layers.png."""


# The contenders. Each makes a step for a workload: it runs once, and waits for the result.


def data(w: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs and gradients of the outputs."""
    random = np.random.default_rng(0)
    x = random.normal(size=(w.batch, w.time, w.features)).astype("float32")
    size = (w.batch, w.time, w.directions * w.units)
    return x, random.normal(size=size).astype("float32")


def keras_step(layer: Any, w: Workload, training: bool, jit: bool = False) -> Step:
    """A Keras layer, called as `fit` and `predict` call it."""
    if w.directions == 2:
        layer = keras.layers.Bidirectional(layer)
    layer.build((None, None, w.features))
    step = {"tensorflow": tensorflow_step, "jax": jax_step, "torch": torch_step}[BACKEND]
    return step(layer, w, training, jit)


def torch_step(layer: Any, w: Workload, training: bool, jit: bool) -> Step:
    """A layer of Keras's kind, or of PyTorch's, on PyTorch."""
    import torch

    torch.set_num_threads(where_it_ran()["cores"])
    x, dy = map(torch.from_numpy, data(w))

    def train() -> None:
        leaf = x.detach().requires_grad_()
        layer.zero_grad()
        (layer(leaf) * dy).sum().backward()

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    return train if training else forward


def jax_step(layer: Any, w: Workload, training: bool, jit: bool) -> Step:
    """A Keras layer under `jax.jit`."""
    import jax

    x, dy = data(w)
    fixed = [variable.value for variable in layer.non_trainable_variables]
    weights = [variable.value for variable in layer.trainable_variables]

    def loss(weights: Any, x: Any) -> Any:
        y, _ = layer.stateless_call(weights, fixed, x, training=True)
        return (y * dy).sum()

    def forward(weights: Any, x: Any) -> Any:
        return layer.stateless_call(weights, fixed, x, training=False)[0]

    function = jax.jit(jax.grad(loss, argnums=(0, 1)) if training else forward)
    return lambda: jax.block_until_ready(function(weights, x))


def tensorflow_step(layer: Any, w: Workload, training: bool, jit: bool) -> Step:
    """A Keras layer in a TensorFlow graph."""
    import tensorflow as tf

    x, dy = map(tf.constant, data(w))
    weights = [weight.value for weight in layer.trainable_weights]

    def train(x: Any, dy: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) * dy)
        return tape.gradient(loss, [x, *weights])

    def forward(x: Any, dy: Any) -> Any:
        return [layer(x, training=False)]

    function = tf.function(train if training else forward, jit_compile=jit or None)
    return lambda: [result.numpy() for result in function(x, dy)[:1]]


def own(name: str) -> Maker:
    """A layer of this package."""
    layer = getattr(kerasrnn.layers, name)
    return lambda w, training: keras_step(layer(w.units, return_sequences=True), w, training)


def keras_layer(name: str, jit: bool) -> Maker:
    """A layer of Keras's."""
    layer = getattr(keras.layers, name)
    return lambda w, training: keras_step(layer(w.units, return_sequences=True), w, training, jit)


def keras_rnn(name: str, jit: bool) -> Maker:
    """A cell of this package in Keras's own loop."""

    def make(w: Workload, training: bool) -> Step:
        cell = getattr(cells, f"{name}Cell")(w.units)
        return keras_step(keras.layers.RNN(cell, return_sequences=True), w, training, jit)

    return make


def torch_layer(name: str) -> Maker:
    """A layer of PyTorch's."""

    def make(w: Workload, training: bool) -> Step:
        import torch

        class First(torch.nn.Module):
            """Of the outputs and the states the outputs."""

            def __init__(self) -> None:
                super().__init__()
                self.layer = getattr(torch.nn, name)(
                    w.features, w.units, batch_first=True, bidirectional=w.directions == 2
                )

            def forward(self, x: Any) -> Any:
                return self.layer(x)[0]

        return torch_step(First(), w, training, jit=False)

    return make


def onnx_lstm(w: Workload, training: bool) -> Step | None:
    """ONNX Runtime's LSTM, with peepholes, in one direction. It does not train."""
    if training:
        return None
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> Any:
        values = random.normal(0, 0.1, shape).astype("float32")
        return onnx.numpy_helper.from_array(values, name)

    weights = [
        weight("W", 1, 4 * w.units, w.features),
        weight("R", 1, 4 * w.units, w.units),
        weight("B", 1, 8 * w.units),
        weight("P", 1, 3 * w.units),
    ]
    node = helper.make_node(
        "LSTM", ["x", "W", "R", "B", "", "", "", "P"], ["y"], hidden_size=w.units
    )
    shape = (w.time, w.batch, w.features)
    graph = helper.make_graph(
        [node],
        "lstm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = where_it_ran()["cores"]
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    x = np.ascontiguousarray(data(w)[0].transpose(1, 0, 2))
    return lambda: session.run(None, {"x": x})


def bound(gates: int) -> Maker:
    """The matrix products that every implementation has, by TensorFlow, in one loop and one direction.

    Another library's products, or those of a loop for each core, can be faster.
    """

    def make(w: Workload, training: bool) -> Step:
        import tensorflow as tf

        columns = gates * w.units
        x, dy = map(tf.constant, data(w))
        random = np.random.default_rng(1)
        kernel, recurrent = (
            tf.constant(random.normal(0, 0.01, (rows, columns)).astype("float32"))
            for rows in (w.features, w.units)
        )

        @tf.function(autograph=False)
        def products(x: Any, dy: Any) -> list[Any]:
            flat = tf.reshape(x, [-1, w.features])
            z = tf.matmul(flat, kernel)
            _, h = tf.while_loop(
                lambda t, h: t < w.time,
                lambda t, h: (t + 1, tf.matmul(h, recurrent)[:, : w.units]),
                (0, dy[:, 0]),
            )
            if not training:
                return [h, z]
            _, d = tf.while_loop(
                lambda t, d: t < w.time,
                lambda t, d: (
                    t + 1,
                    tf.matmul(tf.tile(d, [1, gates]), recurrent, transpose_b=True),
                ),
                (0, dy[:, 0]),
            )
            return [
                h,
                d,
                tf.matmul(z, kernel, transpose_b=True),
                tf.matmul(flat, z, transpose_a=True),
                tf.matmul(tf.reshape(dy, [-1, w.units]), z, transpose_a=True),
            ]

        return lambda: [result.numpy() for result in products(x, dy)[:1]]

    return make


def contenders(options: Options) -> tuple[dict[str, Maker], list[str]]:
    """All that is asked for and there, by name; and the names of what is not installed."""
    found: dict[str, Maker] = {f"kerasrnn.layers.{name}": own(name) for name in options.layers}
    if options.directions == 2:
        found |= {f"{key}, one direction": one_direction(make) for key, make in found.items()}
    missing = []
    kinds = ("LSTM", "GRU")
    # On JAX everything is compiled, on PyTorch nothing.
    settings = {"": False, ", jit": True} if BACKEND == "tensorflow" else {"": False}
    for ending, jit in settings.items():
        if "keras" in options.peers:
            found |= {f"keras.layers.{name}{ending}": keras_layer(name, jit) for name in kinds}
        if "rnn" in options.peers:
            names = options.layers
            found |= {f"keras.layers.RNN({n}Cell){ending}": keras_rnn(n, jit) for n in names}
    if "torch" in options.peers:
        if _installed("torch"):
            found |= {f"torch.nn.{name}": torch_layer(name) for name in kinds}
        else:
            missing.append("torch")
    if "onnxruntime" in options.peers and options.directions == 1:
        if _installed("onnx") and _installed("onnxruntime"):
            found["onnxruntime LSTM"] = onnx_lstm
        else:
            missing.append("onnxruntime")
    if "bound" in options.peers and BACKEND == "tensorflow" and options.directions == 1:
        counts = dict.fromkeys(GATES[name] for name in options.layers if name in GATES)
        found |= {f"matrix products, {gates} gates": bound(gates) for gates in counts}
    return found, missing


def one_direction(make: Maker) -> Maker:
    """The same contender, from one end only."""
    return lambda w, training: make(w._replace(directions=1), training)


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


# What is compared with what.


def peers_of(name: str) -> dict[str, list[str]]:
    """The peers that a layer is held against: of several the fastest counts."""
    gru = name == "GRU"
    kind = "GRU" if gru else "LSTM"
    return {
        "keras": [f"keras.layers.{kind}", f"keras.layers.{kind}, jit"],
        "RNN(cell)": [f"keras.layers.RNN({name}Cell)", f"keras.layers.RNN({name}Cell), jit"],
        "torch": [f"torch.nn.{kind}"],
        "onnxruntime": [] if gru else ["onnxruntime LSTM"],
        "products": [f"matrix products, {GATES.get(name)} gates"],
        "one direction": [f"kerasrnn.layers.{name}, one direction"],
    }


def ratios(medians: dict[str, float], options: Options) -> dict[str, dict[str, float]]:
    """For each layer of this package, its time as a multiple of each peer's."""
    result: dict[str, dict[str, float]] = {}
    for name in options.layers:
        mine = medians[f"kerasrnn.layers.{name}"]
        result[name] = {
            peer: mine / min(medians[n] for n in names if n in medians)
            for peer, names in peers_of(name).items()
            if any(n in medians for n in names)
        }
    return result


def measure(options: Options) -> dict[str, Any]:
    """How long a training step and a forward pass take, as it stands in layers.json."""
    makers, missing = contenders(options)
    result: dict[str, Any] = {
        "where": where_it_ran(),
        "directions": options.directions,
        "rounds": options.rounds,
        "not installed": missing,
        "results": {},
    }
    for way, training in (("training", True), ("forward", False)):
        for name in options.workloads:
            workload = WORKLOADS[name]._replace(directions=options.directions)
            made = {n: make(workload, training) for n, make in makers.items()}
            steps = {n: step for n, step in made.items() if step is not None}
            medians, first = interleaved(steps, options.rounds, f"{way} {name}")
            result["results"].setdefault(way, {})[name] = {
                "milliseconds": {n: round(1e3 * s, 3) for n, s in medians.items()},
                "first call, seconds": {n: round(s, 2) for n, s in first.items()},
                "ratios": ratios(medians, options),
            }
    return result


def scaling(options: Options) -> dict[str, dict[int, float]]:
    """Milliseconds of a training step of S, by its number of steps in time."""
    chosen = {f"kerasrnn.layers.{name}": own(name) for name in options.layers}
    chosen["keras.layers.LSTM"] = keras_layer("LSTM", jit=False)
    result: dict[str, dict[int, float]] = {name: {} for name in chosen}
    for time in TIMES:
        workload = WORKLOADS["S"]._replace(time=time, directions=options.directions)
        steps: dict[str, Any] = {name: make(workload, True) for name, make in chosen.items()}
        medians, _ = interleaved(steps, options.rounds, f"{time} steps")
        for name, seconds in medians.items():
            result[name][time] = round(1e3 * seconds, 3)
    return result


def memory(options: Options) -> dict[str, dict[str, float]]:
    """What a process grows by at most while it trains, each contender in its own."""
    result: dict[str, dict[str, float]] = {}
    makers, _ = contenders(options)
    names = [n for n in makers if not n.startswith(("onnxruntime", "matrix", "torch"))]
    for workload in options.workloads:
        for name in names:
            asked = ["--peak", workload, name, str(options.directions)]
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.layers", *asked],
                capture_output=True,
                text=True,
                check=True,
            )
            peak = float(done.stdout.splitlines()[-1])
            result.setdefault(workload, {})[name] = peak
    return result


def peak(workload: str, name: str, directions: str) -> float:
    """The growth of this process, in MB, over a few training steps. Linux only."""
    both: Any = int(directions)
    layers = tuple(info.layer_name for info in _infos())
    makers, _ = contenders(Options(layers=layers, directions=both))
    small = makers[name](Workload(2, 2, 2, 2, both), True)
    assert small
    small()  # What the framework itself takes is not the layer's.
    Path("/proc/self/clear_refs").write_text("5", "utf-8")  # forget the peak so far
    before = _status("VmRSS")
    step = makers[name](WORKLOADS[workload]._replace(directions=both), True)
    assert step
    for _ in range(5):
        step()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    """A line of the process's status, in kB."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise ValueError(f"/proc/self/status has no line {name}.")


def _infos() -> Iterator[Any]:
    return map(cells.info, cells.names())


# What is shown.


def report(result: dict[str, Any], options: Options) -> str:
    """The tables."""
    text = io.StringIO()
    for way, workloads in result["results"].items():
        names = list(dict.fromkeys(n for r in workloads.values() for n in r["milliseconds"]))
        # The first call traces and compiles.
        for figure in ("milliseconds", "first call, seconds"):
            rows = [["", *workloads]]
            rows += [[n, *(f"{r[figure][n]:.1f}" for r in workloads.values())] for n in names]
            print(f"\n{way}, {figure}\n{table(rows)}", file=text)
        print(f"\n{way}, as a multiple of the peer's time (below 1 is faster)", file=text)
        rows = [["", *workloads]]
        for layer in options.layers:
            for peer in next(iter(workloads.values()))["ratios"][layer]:
                values = [f"{r['ratios'][layer][peer]:.2f}" for r in workloads.values()]
                rows.append([f"{layer} to {peer}", *values])
        print(table(rows), file=text)
    for title in ("scaling", "peak memory of training, MB"):
        if title in result:
            columns = result[title]
            names = list(dict.fromkeys(key for column in columns.values() for key in column))
            rows = [["", *map(str, names)]]
            rows += [[n, *(f"{c.get(k, 0):.0f}" for k in names)] for n, c in columns.items()]
            print(f"\n{title}", file=text)
            print(table([list(row) for row in zip(*rows, strict=True)]), file=text)
    if result["not installed"]:
        print(f"\nnot installed, left out: {', '.join(result['not installed'])}", file=text)
    where = in_words(result["where"])
    print(f"\nmedians of {result['rounds']} interleaved rounds; {where}", file=text)
    return text.getvalue()


def draw(result: dict[str, Any], options: Options, path: Path) -> None:
    """Bars: the time of each layer as a multiple of Keras's, for each workload."""
    from matplotlib.figure import Figure

    ways = result["results"]
    figure = Figure(figsize=(5.2 * len(ways), 3.6), layout="constrained")
    for axes, (way, workloads) in zip(
        figure.subplots(1, len(ways), squeeze=False, sharey=True)[0], ways.items(), strict=True
    ):
        width = 0.8 / len(options.layers)
        for number, (layer, hatch) in enumerate(zip(options.layers, cycle(_HATCHES), strict=False)):
            heights = [r["ratios"][layer].get("keras", np.nan) for r in workloads.values()]
            places = np.arange(len(heights)) + (number + 0.5) * width - 0.4
            bars = axes.bar(places, heights, 0.92 * width, label=layer, hatch=hatch)
            axes.bar_label(bars, fmt="%.2f", fontsize=7)
        axes.axhline(1, color="0.3", lw=0.8)
        sizes = [f"{n}\n{','.join(map(str, WORKLOADS[n][:4]))}" for n in workloads]
        axes.set_xticks(range(len(sizes)), sizes, fontsize=8)
        axes.set_title(way)
    figure.supylabel("time, Keras's own layer = 1", fontsize=9)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=150)


_HATCHES = ("", "//", "..", "xx", "--", "oo")


def main(options: Options) -> None:
    """Measure, print, and write layers.json and layers.png."""
    for name in options.layers:
        if not hasattr(kerasrnn.layers, name) or not hasattr(cells, f"{name}Cell"):
            known = ", ".join(info.layer_name for info in _infos())
            sys.exit(f"`layers` must name layers of this package: {known}; got {name!r}.")
    result = measure(options)
    path = write(options.out, "layers", result)
    for wanted, name, extra in (
        (options.scaling, "scaling", scaling),
        (options.memory, "peak memory of training, MB", memory),
    ):
        if wanted:
            result[name] = extra(options)
            write(options.out, "layers", result)
    print(report(result, options))
    if "keras" in options.peers:
        draw(result, options, path.with_suffix(".png"))
        print(f"written to {path} and {path.with_suffix('.png')}")
    else:
        print(f"written to {path}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:  # a process of `memory`
        print(peak(*sys.argv[2:]))
    else:
        main(tyro.cli(Options, config=(tyro.conf.FlagCreatePairsOff,)))
