"""The task: train, evaluate, score, generate, each in one function."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import keras
import numpy as np
import tensorflow as tf

from kerasrnn import datasets
from kerasrnn.applications._data import TFDS_NAME, held_out, three_parts
from kerasrnn.applications._parts import check_counts, check_numbers
from kerasrnn.applications._runs import RunFolder, load_model, save_model
from kerasrnn.applications._strategy import Team
from kerasrnn.applications._training import averaged, check_settings, cosine, fit, settled
from kerasrnn.applications.language_model.config import LanguageModelConfig, PlainDataConfig
from kerasrnn.applications.language_model.data import Encoder, Tokens, Windows, count_tokens
from kerasrnn.applications.language_model.dynamic import DIVERGED, measure_dynamically
from kerasrnn.applications.language_model.generation import MOST_NATS, NO_PROBABILITIES
from kerasrnn.applications.language_model.model import LanguageModel, Score, TokenCrossEntropy
from kerasrnn.applications.text import BOUNDARIES, UNKNOWN
from kerasrnn.datasets import PlainText
from kerasrnn.metrics import BitsPerCharacter, Perplexity
from kerasrnn.optimizers import AveragedSGD, NonMonotonicAveraging

# The most logits of a batch that is measured: 256 MB of them.
LOGITS = 2**26
# The most logits of a batch that is learned from where nobody has chosen the vocabulary's size: 1 GB of
# them. The step holds as much again several times.
TRAINED_LOGITS = 2**28
# A training by default has as many updates as this at least.
LEAST_UPDATES = 1400
# An epoch with more updates than this lasts half an hour and longer.
LONG_EPOCH = 20_000
# How far a lane reads what stands before its part, so that what is measured hardly depends on their number.
CONTEXT = 500
# After how many tokens dynamic evaluation learns from them: chosen for the characters of Shakespeare.
DYNAMIC_WINDOW = 20

EXAMPLES = (
    "The clouds are in the sky.",
    "The sky is in the clouds.",
    "Sky the in are clouds the.",
)


class Corpus:
    """The three parts of a text, counted: to learn from, to choose the epoch by, and to measure on."""

    def __init__(self, parts: list[PlainText], level: str, separate: bool) -> None:
        self.train, self.validation, self.test = parts
        counted = [count_tokens(part, level, separate) for part in parts]
        self.counts: Counter[str] = counted[0][0]
        self._digests = [digest for _, digest in counted]

    def digest(self) -> str:
        """What tells this corpus, cut as it is, from every other."""
        return hashlib.sha256(json.dumps(self._digests).encode()).hexdigest()


def read_parts(config: PlainDataConfig) -> dict[str, PlainText]:
    """The parts that a data set comes with: `"train"`, and perhaps `"validation"` and `"test"`.

    Raises:
        FileNotFoundError: If it is not there; the message says how to get it.
        ValueError: If none is named, or it is not text.
    """
    names = config.dataset
    if not names:
        raise ValueError("`dataset` must be a name, or files and folders of text; got none.")
    given = {
        part: datasets.plain_text(files)
        for part in ("validation", "test")
        if (files := getattr(config, part, ()))
    }
    if names == ("python",):
        return datasets.python_source() | given
    if len(names) == 1 and not Path(names[0]).exists() and TFDS_NAME.fullmatch(names[0]):
        return datasets.tfds_plain_text(names[0], config.data_dir) | given
    return {"train": datasets.plain_text(names)} | given


def load_corpus(config: LanguageModelConfig) -> Corpus:
    """Find the text that the configuration names, cut off what is held out, and count the tokens.

    Raises:
        FileNotFoundError: If it is not there; the message says how to get it.
        ValueError: If it is not text in UTF-8, or too small for three parts.
    """
    name = " ".join(config.dataset)
    parts = three_parts(read_parts(config), config, name, "text")
    return Corpus(parts, config.level, config.separate)


def learn_vocabulary(counts: Counter[str], config: LanguageModelConfig) -> list[str]:
    """The tokens to know, most frequent first, the boundary among them.

    Raises:
        ValueError: If there are no two of them in the text.
    """
    boundary = BOUNDARIES[config.level]
    least = config.least_count or (2 if config.level == "word" and UNKNOWN not in counts else 1)
    found = [
        token
        for token, count in counts.most_common(config.vocabulary_size)
        if count >= least and token not in (UNKNOWN, boundary)
    ]
    if len(found) + (boundary in counts) < 2:
        raise ValueError(
            f"The data set {' '.join(config.dataset)!r} has too small a vocabulary: there must be two "
            f"{config.level}s to choose from, and of the {len(counts)} in the training text "
            f"{len(found)} beside the boundary {boundary!r} are known by `least_count` "
            f"{least} and `vocabulary_size` {config.vocabulary_size}."
        )
    place = len([token for token in found if counts[token] >= counts[boundary]])
    return [*found[:place], boundary, *found[place:]]


def train(config: LanguageModelConfig) -> dict[str, Any]:
    """Train a model, measure it and write everything into the run's folder.

    Args:
        config: All settings.

    Returns:
        What `metrics.json` holds: `test_perplexity`, `test_cross_entropy` in nats per token, for
        characters `test_bits_per_character`; the same of `validation`; `train_seconds`, `parameters`,
        `epochs`, `best_epoch`, the `tokens` of each part, the `predictions` of an epoch of training
        and the `config`. Nothing in a worker that is not the chief.

    Raises:
        ConnectionError: If another worker cannot be reached, or is lost.
        FileExistsError: If the folder holds another run.
        FileNotFoundError: If the text is not there.
        ValueError: If a setting is wrong; the message names it.
    """
    team = Team.of(config.strategy)
    folder = RunFolder(config.out, team.chief)
    config = folder.check(config)
    _check(config)
    team.meet(config.worker_timeout)
    keras.utils.set_random_seed(config.seed)
    if config.batch_size % team.replicas:
        raise ValueError(
            f"`batch_size` must be a multiple of {team.replicas}, the number of replicas, as each "
            f"carries on the states of its own part of the lanes; got {config.batch_size}."
        )
    corpus = load_corpus(config)
    vocabulary = learn_vocabulary(corpus.counts, config)
    _check_size(config, len(vocabulary) + 1)
    model = build(config, vocabulary)
    encoder = Encoder(model.tokens, config.level, config.separate)
    # The numbers of a large text lie where the run will, on a disk with room for it.
    place = next(path for path in (folder.path, *folder.path.parents) if path.is_dir())
    tokens = [
        Tokens.of(part, encoder, place) for part in (corpus.train, corpus.validation, corpus.test)
    ]
    rows = Windows(
        tokens[0],
        config.batch_size,
        config.window,
        reset=config.reset,
        random_lengths=config.random_windows,
        epoch=config.epoch_updates,
    )
    validation, test = (
        _measured(part, model, config.batch_size, config.window, config.reset, team.replicas)
        for part in tokens[1:]
    )
    updates = rows.count(config.batch_size)
    plan = settled(config, updates, epochs=_epochs(rows))
    compile_model(model, plan, updates)
    folder.start(config, data=corpus.digest(), agree=team.agree)
    sizes, unknown = [len(part.numbers) for part in tokens], _unknown(tokens[2])
    print(
        f"{config.cell}: {model.count_params():,} parameters, {len(model.tokens):,} {config.level}s; "
        f"{sizes[0]:,} to train on, {sizes[1]:,} to validate, {sizes[2]:,} to test, of which "
        f"{unknown:.2%} unknown; "
        f"{plan.epochs} epochs of {updates} updates",
        flush=True,
    )
    if updates > LONG_EPOCH and not config.resume:
        print(
            f"The first checkpoint comes after {updates:,} updates; sooner with --epoch-updates 5000.",
            flush=True,
        )
    monitor = f"val_{_metric(config.level).name}"
    callbacks = _callbacks(plan, folder, monitor)
    best = fit(
        model,
        plan,
        folder,
        rows,
        validation.batches(),
        monitor,
        callbacks=callbacks,
        team=team,
        counted=counted_targets,
    )
    if not team.chief:
        return {}
    scores = model.evaluate(test.batches(), return_dict=True)
    save_model(model, folder.path)
    folder.draw_history()
    measured = {
        **_figures(scores, "test_"),
        **_figures({monitor[4:]: folder.history[best - 1][monitor]}, "validation_"),
        "train_seconds": round(sum(row["seconds"] for row in folder.history), 1),
        "parameters": model.count_params(),
        "epochs": len(folder.history),
        "best_epoch": best,
        "tokens": dict(zip(("train", "validation", "test"), sizes, strict=True)),
        "test_unknown": unknown,
        "predictions": rows.predictions,
    }
    return folder.write_metrics(measured, plan)


def _epochs(rows: Windows) -> int:
    """How many epochs read the text once, and are enough of a training."""
    return math.ceil(max(LEAST_UPDATES, rows.reading) / rows.count(rows.batch_size))


def _check(config: LanguageModelConfig) -> None:
    """Refuse what nothing further on refuses by name."""
    check_settings(
        config, "window", "least_count", "vocabulary_size", "decay_after", "epoch_updates"
    )
    for name, hint in get_type_hints(LanguageModelConfig).items():
        if get_origin(hint) is Literal and getattr(config, name) not in get_args(hint):
            raise ValueError(
                f"`{name}` must be one of {', '.join(get_args(hint))}; got {getattr(config, name)!r}."
            )
    if not 0 < config.decay <= 1:
        raise ValueError(f"`decay` must be more than 0 and at most 1, got {config.decay!r}.")
    check_numbers(weight_decay=config.weight_decay)
    if config.optimizer != "adam" and config.learning_rate == LanguageModelConfig.learning_rate:
        raise ValueError(
            f"`learning_rate` is {config.learning_rate}, which is for Adam; with `optimizer` "
            f"{config.optimizer!r} it must be given, and is 10 to 30 as a rule, with a `clip_norm` of 0.25."
        )
    if config.reset and config.random_windows:
        raise ValueError(
            "`random_windows` moves the cuts within one stream, and `reset` makes a stream of each "
            "document: choose one of them."
        )
    if config.optimizer == "nt_asgd" and config.schedule == "cosine":
        raise ValueError(
            '`optimizer` "nt_asgd" averages the weights of a learning rate that does not fall to nothing: '
            '`schedule` must be another than "cosine", as "constant".'
        )


def _check_size(config: LanguageModelConfig, tokens: int) -> None:
    """Refuse logits that few memories have room for, where they came about by a large text alone."""
    logits = config.batch_size * config.window * tokens
    if logits > TRAINED_LOGITS and not config.sampled and config.vocabulary_size is None:
        raise ValueError(
            f"With all {tokens:,} {config.level}s of the text, a batch of {config.batch_size} windows of "
            f"{config.window} has {logits * 4 / 1e9:.1f} GB of logits, and training needs several times "
            "that. Give `--sampled`, such as 2000, or `--vocabulary-size` (as large as you like, where "
            "there is room), or a smaller `--window` or `--batch-size`."
        )


def build(config: LanguageModelConfig, vocabulary: list[str]) -> LanguageModel:
    """The untrained model that the configuration describes."""
    return LanguageModel(
        vocabulary,
        level=config.level,
        separate=config.separate,
        cell=config.cell,
        units=config.units,
        num_layers=config.num_layers,
        embedding_dim=config.embedding_dim,
        tied=config.tied,
        embedding_dropout=config.embedding_dropout,
        input_dropout=config.input_dropout,
        dropout=config.dropout,
        output_dropout=config.output_dropout,
        recurrent_dropout=config.recurrent_dropout,
        recurrent_dropout_form=config.recurrent_dropout_form,
        activation_regularization=config.activation_regularization,
        temporal_regularization=config.temporal_regularization,
        sampled=config.sampled,
        seed=config.seed,
        dtype=config.precision,
    )


def compile_model(model: Any, plan: LanguageModelConfig, updates: int) -> None:
    """Give the model its optimizer, loss and metric. `plan.epochs` is known."""
    model.compile(
        _optimizer(plan, updates),
        _loss(),
        weighted_metrics=[_metric(plan.level)],
        jit_compile=plan.jit_compile,
    )


def _loss() -> Any:
    """The mean over the steps that count."""
    return TokenCrossEntropy(from_logits=True, reduction="mean_with_sample_weight")


def counted_targets(targets: Any, weights: Any) -> Any:
    """What that mean divides by."""
    return tf.reduce_sum(weights)


def _metric(level: str) -> Any:
    """What a language model is measured by."""
    return Perplexity() if level == "word" else BitsPerCharacter()


def _optimizer(plan: LanguageModelConfig, updates: int) -> Any:
    """The optimizer, for so many updates in an epoch."""
    updates *= plan.epochs or 1
    rate = cosine(plan, updates) if plan.schedule == "cosine" else plan.learning_rate
    options: dict[str, Any] = {
        "global_clipnorm": plan.clip_norm,
        "weight_decay": plan.weight_decay or None,
    }
    if plan.optimizer == "nt_asgd":
        return AveragedSGD(rate, **options)
    kind = keras.optimizers.Adam if plan.optimizer == "adam" else keras.optimizers.SGD
    return kind(rate, **options, **averaged(plan, updates))


def _callbacks(plan: LanguageModelConfig, folder: RunFolder, monitor: str) -> list[Any]:
    """What depends on the epochs that are done, those before an interruption too."""

    def values() -> list[float]:
        return [row[monitor] for row in folder.history]

    def rate(epoch: int) -> float:
        falls = _setbacks(values()) if plan.schedule == "plateau" else epoch + 1 - plan.decay_after
        return plan.learning_rate * plan.decay ** max(0, falls)

    chosen: list[Any] = []
    if plan.schedule in ("plateau", "steps"):
        chosen.append(keras.callbacks.LearningRateScheduler(rate))
    if plan.optimizer == "nt_asgd":
        chosen.append(NonMonotonicAveraging(monitor, history=values()))
    return chosen


def _setbacks(values: list[float]) -> int:
    """How many values are no lower than the lowest before them."""
    return sum(value >= min(values[:place]) for place, value in enumerate(values) if place)


def load(run: str | Path) -> LanguageModel:
    """Load the model of a run's folder, or a `.keras` file. Nothing in it is executed."""
    return load_model(run, LanguageModel)


def evaluate(
    run: str | Path,
    data: PlainDataConfig = PlainDataConfig(),  # noqa: B008
    show_progress: bool = True,
    model: LanguageModel | None = None,
    dynamic: float | None = None,
    dynamic_window: int = DYNAMIC_WINDOW,
    part: Literal["test", "validation"] = "test",
) -> dict[str, Any]:
    """Measure a trained model on text that it has not seen, the state carried through all of it.

    Args:
        run: The folder of a training run, or a `.keras` file.
        data: What to measure on: the test part of a data set, or all of one that has none. By
            default what the run itself held out.
        show_progress: Whether to print a progress bar to standard output.
        model: The run's model, if it is loaded already. It is compiled anew for this, but if `dynamic`.
        dynamic: Dynamic evaluation: the model goes on learning, with this learning rate, from what it has
            been measured on; see `measure_dynamically`. By default it stays as it is.
        dynamic_window: After how many tokens it then learns from them; fewer where the logits of so many
            would take too much memory.
        part: The part to measure on: the test part, or the validation part, to choose settings by.

    Returns:
        `perplexity`, `cross_entropy` in nats per token, for characters `bits_per_character`; `tokens`, how
        many were predicted, and `unknown`, the share of those that the model does not know.
        `dataset` and `part` say what they were measured on, `dynamic` and `dynamic_window` how.

    Raises:
        ValueError: If an argument is wrong; the message names it. Or if the model's weights are not
            numbers.
    """
    if dynamic is not None:
        check_numbers(dynamic=dynamic)
    check_counts(dynamic_window=dynamic_window)
    model = model or load(run)
    found, dataset, text = held_out(run, data, LanguageModelConfig, load_corpus, read_parts, part)
    encoder = Encoder(model.tokens, model.level, model.separate)
    place = Path(run) if Path(run).is_dir() else Path(run).parent
    tokens = Tokens.of(text, encoder, place)
    reset = Path(run).is_dir() and RunFolder(run).saved_config()["reset"]
    metric = _metric(model.level)
    if dynamic is None:
        windows = _measured(tokens, model, 16, 100, reset)
        model.compile(loss=_loss(), weighted_metrics=[metric])
        verbose = "auto" if show_progress else 0
        scores = model.evaluate(windows.batches(), return_dict=True, verbose=verbose)
    else:
        windows = _measured(tokens, model, 1, dynamic_window, reset)
        scores = {metric.name: measure_dynamically(model, windows, metric, dynamic, show_progress)}
    figures = _figures(scores)
    if not math.isfinite(figures["perplexity"]):
        raise ValueError(NO_PROBABILITIES if dynamic is None else DIVERGED.format(dynamic))
    return {
        **figures,
        "tokens": windows.predictions,
        "unknown": _unknown(tokens),
        "dataset": " ".join(dataset),
        "part": found,
        "dynamic": dynamic,
        "dynamic_window": None if dynamic is None else windows.window,
    }


def _measured(
    tokens: Tokens, model: Any, lanes: int, window: int, reset: bool, replicas: int = 1
) -> Windows:
    """The windows to measure on, short enough for the logits of a large vocabulary to fit into memory."""
    if not reset:
        # Of a short text many lanes would read little but what stands before their parts.
        lanes = min(lanes, replicas * math.ceil(len(tokens.numbers) / CONTEXT / replicas))
    most = max(1, LOGITS // (lanes * len(model.tokens)))
    return Windows(tokens, lanes, min(window, most), reset=reset, context=CONTEXT)


def _unknown(tokens: Tokens) -> float:
    """The share of the tokens that the model does not know."""
    return 1 - int(np.count_nonzero(tokens.numbers)) / len(tokens.numbers)


def _figures(scores: dict[str, float], prefix: str = "") -> dict[str, float]:
    """One measurement in the units that people use: `perplexity` per token, nats, and bits."""
    if "perplexity" in scores:
        perplexity = scores["perplexity"]
        found = {"perplexity": perplexity, "cross_entropy": math.log(perplexity)}
    else:
        bits = scores["bits_per_character"]
        nats = bits * math.log(2)
        perplexity = math.exp(nats) if nats < MOST_NATS else math.inf
        found = {"perplexity": perplexity, "cross_entropy": nats, "bits_per_character": bits}
    return {f"{prefix}{name}": value for name, value in found.items()}


def report(measured: dict[str, Any]) -> str:
    """What `evaluate` gives, as text."""
    part = "all" if measured["part"] == "all" else f"the {measured['part']} part"
    unknown = f", {measured['unknown']:.2%} of them unknown" if measured["unknown"] else ""
    tokens = f"{measured['tokens']:,} tokens{unknown} ({part} of {measured['dataset']})"
    how = ", by dynamic evaluation" if measured["dynamic"] is not None else ""
    return f"{_in_words(measured)}{how}\n{tokens}"


def _in_words(figures: dict[str, float], prefix: str = "") -> str:
    """The figures of `_figures` in a line."""
    nats = f"{figures[f'{prefix}cross_entropy']:.4f} nats"
    if f"{prefix}bits_per_character" in figures:
        return f"{figures[f'{prefix}bits_per_character']:.4f} bits per character ({nats})"
    return f"perplexity {figures[f'{prefix}perplexity']:.2f} per word ({nats})"


def summary(metrics: dict[str, Any]) -> str:
    """What came out of `train`, in a line."""
    return f"test: {_in_words(metrics, 'test_')} on {metrics['tokens']['test']:,} held-out tokens"


def score(
    model: LanguageModel, texts: Iterable[str], batch_size: int = 64
) -> Iterator[tuple[str, Score]]:
    """Each text with its score, as the texts come."""
    texts = iter(texts)
    while batch := list(islice(texts, batch_size)):
        yield from zip(batch, model.score(batch), strict=True)
