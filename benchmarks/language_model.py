"""The language model through `model.fit`, beside the same model in Keras and in PyTorch, and generation.

python -m benchmarks.language_model --help
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tyro

from benchmarks._measure import Step, in_words, interleaved, where_it_ran, write
from kerasrnn._tables import table
from kerasrnn.applications.language_model import task
from kerasrnn.applications.language_model.config import LanguageModelConfig
from kerasrnn.applications.language_model.data import Encoder, Tokens, Windows, count_tokens
from kerasrnn.applications.language_model.model import _Head
from kerasrnn.datasets import plain_text

RATE, CLIP = 1.0, 5.0  # The learning rate, and the norm at which gradients are clipped.
# How the names of a peer's contenders begin: the fastest counts.
PEERS = {"Keras": "keras.layers.LSTM", "PyTorch": "torch.nn.LSTM"}
# How Keras runs the graph of its own model.
GRAPHS = {"": False, ", jit": True}
# PyTorch's threads wait for each other: where others are at work, one alone is faster.
THREADS = {"": where_it_ran()["cores"], ", one thread": 1}


@dataclass(frozen=True)
class Options:
    """Measure how many tokens a second the language model learns from and generates.

    By default it is the small model for the Penn Treebank of Zaremba et al. 2014
    (https://arxiv.org/abs/1409.2329), on made-up tokens that follow Zipf's law.
    """

    units: int = 200
    """Units of each layer, and the size of the embedding."""
    num_layers: int = 2
    """The recurrent layers."""
    batch: int = 20
    """Places in the text that are read side by side."""
    window: int = 35
    """The steps through which the gradient flows back; the state is carried on."""
    tokens: int = 10_000
    """The size of the vocabulary."""
    sampled: int = 0
    """Train the models of this package against so many drawn tokens; the others compare with all of them.
    0 for all."""
    dropout: float = 0.0
    """Dropout of the input, between the layers and of the output: locked in the model of this package, and
    drawn for each step in the others."""
    outputs: tuple[Literal["untied", "tied"], ...] = ("untied", "tied")
    """An output with a table of its own, or with that of the embedding."""
    cells: tuple[str, ...] = ("lstm", "peephole_lstm", "coupled_lstm", "gru")
    """Recurrent cells, by their names in the register."""
    peers: tuple[Literal["keras", "torch"], ...] = ("keras", "torch")
    """keras: `keras.layers.LSTM(stateful=True)`, without and with XLA; torch: `torch.nn.LSTM` in a plain
    loop, on all cores and on one. Those that are not installed are left out."""
    file: str | None = None
    """A text to read in the place of made-up tokens."""
    batches: int = 40
    """The batches of one measurement, the same for all."""
    character_units: int = 256
    """Generation: the units of the model, which has one layer."""
    characters: int = 100
    """Generation: the size of the vocabulary."""
    length: int = 500
    """Generation: the tokens of one measurement."""
    rounds: int = 5
    """How often each contender has its turn; the medians are reported."""
    out: str = "runs/benchmarks"
    """The folder for language_model.json."""


def read(options: Options) -> tuple[list[str], Tokens]:
    """The vocabulary, without the unknown token, and the text: as many tokens as fill all windows."""
    if options.file is None:
        vocabulary = [str(number) for number in range(options.tokens - 2)] + ["<eos>"]
        shares = 1 / np.arange(1, options.tokens + 1)
        numbers = np.random.default_rng(0).choice(
            options.tokens,
            options.batch * (options.batches * options.window + 1),
            p=shares / shares.sum(),
        )
    else:
        text = plain_text(options.file)
        counts, _ = count_tokens(text, "word")
        config = LanguageModelConfig(level="word", vocabulary_size=options.tokens)
        vocabulary = task.learn_vocabulary(counts, config)
        numbers = Tokens.of(text, Encoder(vocabulary, "word")).numbers
    # Of each lane the first token is no target.
    batches = min(options.batches, (len(numbers) // options.batch - 1) // options.window)
    if batches < 1:
        raise ValueError(
            f"`file` must hold at least {options.batch * (options.window + 1)} words, enough for a batch; "
            f"{options.file} has {len(numbers)}."
        )
    numbers = numbers[: options.batch * (batches * options.window + 1)]
    return vocabulary, Tokens(numbers, np.array([0, len(numbers)]))


# The contenders. Each step trains on all batches once.


def own(options: Options, vocabulary: list[str], cell: str, tied: bool) -> Any:
    """The model of this package, compiled."""
    model = task.build(config(options, cell, tied), vocabulary)
    return compiled(model, options)


def config(options: Options, cell: str = "lstm", tied: bool = False) -> LanguageModelConfig:
    """The settings of the model and of its training."""
    return LanguageModelConfig(
        level="word",
        cell=cell,
        units=options.units,
        num_layers=options.num_layers,
        embedding_dim=options.units,
        tied=tied,
        input_dropout=options.dropout,
        dropout=options.dropout,
        output_dropout=options.dropout,
        sampled=options.sampled,
        optimizer="sgd",
        schedule="constant",
        learning_rate=RATE,
        clip_norm=CLIP,
        averaging=0.0,
        epochs=1,
    )


def compiled(model: Any, options: Options) -> Any:
    """Gradient descent, the loss and the metric of the task, alike for all."""
    task.compile_model(model, config(options), options.batches)
    return model


def keras_model(options: Options, tokens: int, tied: bool, jit: bool) -> Any:
    """The same model of Keras's layers, compiled; only the head is that of this package."""
    embedding = keras.layers.Embedding(tokens, options.units)
    layers = [keras.Input(batch_shape=(options.batch, options.window), dtype="int32"), embedding]
    for _ in range(options.num_layers):
        layers.append(keras.layers.Dropout(options.dropout))
        layers.append(keras.layers.LSTM(options.units, return_sequences=True, stateful=True))
    layers.append(keras.layers.Dropout(options.dropout))
    layers.append(_Head(embedding if tied else None, tokens, 0, "float32"))
    model = compiled(keras.Sequential(layers), options)
    model.jit_compile = jit
    return model


def fitting(model: Any, batches: Any) -> Step:
    """A model through `fit`, the input pipeline included."""

    def step() -> None:
        for layer in model.layers:
            if isinstance(layer, keras.layers.RNN) and layer.stateful:
                layer.reset_state()
        model.fit(batches, epochs=1, shuffle=False, verbose=0)

    return step


class TorchModel:
    """The same model in PyTorch, on sequences time first, as it likes them best."""

    def __init__(
        self,
        tokens: int,
        units: int,
        num_layers: int = 1,
        tied: bool = False,
        dropout: float = 0.0,
        threads: int = 1,
    ) -> None:
        import torch

        self.threads = threads
        self.embedding = torch.nn.Embedding(tokens, units)
        # Its own dropout comes after every layer but the last, and it warns where there is but one.
        between = dropout if num_layers > 1 else 0.0
        self.lstm = torch.nn.LSTM(units, units, num_layers, dropout=between)
        self.head = torch.nn.Linear(units, tokens)
        if tied:
            self.head.weight = self.embedding.weight
        self.dropout = torch.nn.Dropout(dropout)
        self.parts = torch.nn.ModuleList([self.embedding, self.lstm, self.head])

    def __call__(self, ids: Any, states: Any = None) -> tuple[Any, Any]:
        """From int64 `(time, batch)` to logits `(time, batch, tokens)` and the new states."""
        x, states = self.lstm(self.dropout(self.embedding(ids)), states)
        return self.head(self.dropout(x)), states

    def training(self, batches: Any) -> Step:
        """A plain loop. The tensors are there beforehand: it has no input pipeline."""
        import torch

        weights = list(self.parts.parameters())
        optimizer, loss_of = torch.optim.SGD(weights, lr=RATE), torch.nn.CrossEntropyLoss()
        pairs = [
            [torch.from_numpy(each.T.astype("int64")) for each in (inputs["ids"], targets)]
            for inputs, targets, _ in batches.as_numpy_iterator()
        ]

        def step() -> float:
            torch.set_num_threads(self.threads)
            states, total = None, 0.0
            for ids, targets in pairs:
                logits, states = self(ids, states)
                loss = loss_of(logits.flatten(0, 1), targets.flatten())
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, CLIP)
                optimizer.step()
                states = tuple(state.detach() for state in states)
                total += loss.item()
            return total

        return step

    def generate(self, length: int) -> Iterator[int]:
        """Draw tokens, one by one."""
        import torch

        torch.set_num_threads(self.threads)
        ids, states = torch.zeros((1, 1), dtype=torch.int64), None
        for _ in range(length):
            with torch.inference_mode():
                logits, states = self(ids, states)
                ids = torch.multinomial(torch.softmax(logits[-1], dim=-1), 1)
            yield int(ids)


def training(options: Options, output: str, peers: Sequence[str]) -> tuple[dict[str, Step], int]:
    """The contenders by name, and how many tokens each step predicts."""
    vocabulary, text = read(options)
    windows = Windows(text, options.batch, options.window)
    batches, tied, tokens = windows.batches(), output == "tied", len(vocabulary) + 1
    drawn = ", sampled" if options.sampled else ""
    found = {
        f"kerasrnn {cell}{drawn}": fitting(own(options, vocabulary, cell, tied), batches)
        for cell in options.cells
    }
    if "keras" in peers:
        ids = batches.map(lambda inputs, targets, weights: (inputs["ids"], targets, weights))
        for name, jit in GRAPHS.items():
            model = keras_model(options, tokens, tied, jit)
            found[f"keras.layers.LSTM{name}"] = fitting(model, ids)
    if "torch" in peers:
        for name, threads in THREADS.items():
            network = TorchModel(
                tokens, options.units, options.num_layers, tied, options.dropout, threads
            )
            found[f"torch.nn.LSTM{name}"] = network.training(batches)
    return found, windows.predictions


def generation(options: Options, peers: Sequence[str]) -> dict[str, Step]:
    """The contenders by name; each step draws `length` characters, one after the other."""
    vocabulary = ["\n", *map(chr, range(ord("!"), ord("!") + options.characters - 2))]
    size = options.character_units

    def streaming(cell: str) -> Step:
        settings = LanguageModelConfig(cell=cell, units=size, embedding_dim=size)
        model = task.build(settings, vocabulary)
        return lambda: list(model.stream("", options.length, seed=0))

    def drawing(threads: int) -> Step:
        network = TorchModel(options.characters, size, tied=True, threads=threads)
        return lambda: list(network.generate(options.length))

    found = {f"kerasrnn {cell}": streaming(cell) for cell in options.cells}
    if "torch" in peers:
        found |= {f"torch.nn.LSTM{name}": drawing(threads) for name, threads in THREADS.items()}
    return found


# What is shown.


def compare(title: str, steps: Mapping[str, Step], tokens: int, rounds: int) -> dict[str, Any]:
    """Measure, and print the table."""
    medians, first = interleaved(steps, rounds, title)
    rivals = {
        peer: min(seconds)
        for peer, name in PEERS.items()
        if (seconds := [medians[n] for n in medians if n.startswith(name)])
    }
    ratios = {n: {peer: r / s for peer, r in rivals.items()} for n, s in medians.items()}
    lines = [[title, "tokens per second", *(f"to {peer}" for peer in rivals), "first round, s"]]
    lines += [
        [n, f"{tokens / s:.0f}", *(f"{r:.2f}" for r in ratios[n].values()), f"{first[n]:.1f}"]
        for n, s in medians.items()
    ]
    print(f"{table(lines)}\n")
    return {
        "tokens": tokens,
        "tokens per second": {n: round(tokens / s, 1) for n, s in medians.items()},
        "to": {n: {peer: round(r, 3) for peer, r in found.items()} for n, found in ratios.items()},
        "first call, seconds": {n: round(s, 2) for n, s in first.items()},
    }


def main(options: Options) -> None:
    """Measure, print and write language_model.json."""
    missing = [peer for peer in options.peers if importlib.util.find_spec(peer) is None]
    peers = [peer for peer in options.peers if peer not in missing]
    where = where_it_ran()
    result: dict[str, Any] = {"where": where, "options": vars(options), "not installed": missing}
    result["training"] = {}
    for output in options.outputs:
        steps, tokens = training(options, output, peers)
        result["training"][output] = compare(f"training, {output}", steps, tokens, options.rounds)
    steps = generation(options, peers)
    result["generation"] = compare("generation", steps, options.length, options.rounds)
    path = write(options.out, "language_model", result)
    if missing:
        print(f"not installed, left out: {', '.join(missing)}\n")
    print(
        f"{options.num_layers} layers of {options.units} units, {options.tokens} tokens, batches of "
        f"{options.batch} x {options.window}; above 1 is faster\n"
        f"medians of {options.rounds} interleaved rounds; {in_words(where)}\nwritten to {path}"
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks.language_model: error: {error}")
