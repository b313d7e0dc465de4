"""The command line: `kerasrnn train | evaluate | predict | explain | export | cells`."""

from __future__ import annotations

import dataclasses
import itertools
import json as json_module
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from kerasrnn import cells, datasets
from kerasrnn._files import written_whole
from kerasrnn.applications import LanguageModel, SentimentClassifier, SequenceLabeler
from kerasrnn.applications._parts import check_counts
from kerasrnn.applications._runs import (
    RunFolder,
    export,
    load_model,
    said_by_a_fresh_process,
)
from kerasrnn.applications._training import TrainingConfig
from kerasrnn.applications.language_model import task as language_model
from kerasrnn.applications.language_model.config import LanguageModelConfig, PlainDataConfig
from kerasrnn.applications.recipes import plain_errors
from kerasrnn.applications.sentiment import explain as explaining
from kerasrnn.applications.sentiment import task as sentiment
from kerasrnn.applications.sentiment.config import DataConfig, SentimentConfig
from kerasrnn.applications.sequence_labeling import task as sequence_labeling
from kerasrnn.applications.sequence_labeling.config import (
    SequenceLabelingConfig,
    TagDataConfig,
)
from kerasrnn.tagging import Scheme

app = tyro.extras.SubcommandApp()
train = tyro.extras.SubcommandApp()
app.command(train, name="train", help="Train a model, measure it on held-out data and save it.")

Run = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


# What each kind of model can do.
TASKS: dict[type, Any] = {
    SentimentClassifier: sentiment,
    SequenceLabeler: sequence_labeling,
    LanguageModel: language_model,
}
# What each is measured on.
DATA = {sentiment: DataConfig, sequence_labeling: TagDataConfig, language_model: PlainDataConfig}


@train.command(name="sentiment", help=SentimentConfig.__doc__)
def train_sentiment(config: SentimentConfig) -> None:
    """Train, then let the SavedModel speak for itself."""
    _train(sentiment, config, '"not bad at all"')


@train.command(name="sequence-labeling", help=SequenceLabelingConfig.__doc__)
def train_sequence_labeling(config: SequenceLabelingConfig) -> None:
    """Train, then let the SavedModel speak for itself."""
    _train(sequence_labeling, config, '"Dr. Berg works at the University of Leeds."')


@train.command(name="language-model", help=LanguageModelConfig.__doc__)
def train_language_model(config: LanguageModelConfig) -> None:
    """Train, then let the SavedModel speak for itself, and the model write some lines."""
    if not _train(language_model, config, '--prompt "..."'):
        return
    print("\nwhat it writes by itself:\n")
    model = language_model.load(config.out)
    _print_stream(model.stream(length=200, temperature=0.7, seed=config.seed))


def _train(task: Any, config: TrainingConfig, question: str) -> bool:
    """Whether this process has the trained model: of several workers it is the chief."""
    metrics = task.train(config)
    if not metrics:
        return False
    folder = Path(config.out)
    names = ("model.keras", "saved_model/", "metrics.json", "history.csv", "learning_curve.png")
    written = ", ".join(name for name in names if (folder / name).exists())
    print(
        f"\n{task.summary(metrics)} after {metrics['train_seconds']:.0f} s of training\n"
        f"written to {folder}: {written}\n"
        "\nwhat the SavedModel says in a fresh process, with TensorFlow alone:"
    )
    print(said_by_a_fresh_process(folder / "saved_model", task.EXAMPLES), end="")
    print(f"\nask it yourself: kerasrnn predict {folder} {question}")
    return True


@dataclasses.dataclass(frozen=True)
class MeasuredData:
    """What to measure on; what is not given is as it was in training."""

    dataset: tuple[str, ...] = ()
    """What to measure on, as in training: its test part, or all of it if it has none. By default what
    the run itself held out."""
    data_dir: str | None = None
    """A TFDS folder that holds the data set already. Without it TFDS downloads what is missing."""
    text_column: str | None = None
    """Sentiment: the column of the texts in a .csv or .tsv file, by its name."""
    label_column: str | None = None
    """The column of the labels in a file: for sentiment its name, for sequence labeling its number."""
    token_column: int | None = None
    """Sequence labeling: the column of the tokens in a file, from 0, or from the end with -1."""
    source_scheme: Scheme | None = None
    """Sequence labeling: the scheme of the labels in a file of columns."""
    label: str | None = None
    """Sequence labeling: which labels of a data set that has several, such as `upos`."""
    on_fault: Literal["refuse", "repair"] | None = None
    """Sequence labeling: what is done with labels that break their scheme."""

    def of(self, kind: type, run: str) -> Any:
        """The same as a task's own class has it, with what the run was trained with where nothing is given.

        Raises:
            ValueError: If something is given that is not for that task.
        """
        given = {name: value for name, value in vars(self).items() if value not in (None, ())}
        fields = {field.name: field for field in dataclasses.fields(kind)}
        for name in given.keys() - fields.keys():
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} says nothing to this kind of model: leave it out.")
        if kind is DataConfig and "dataset" in given:
            if len(self.dataset) > 1:
                raise ValueError(f"`dataset` must be one data set, got {' '.join(self.dataset)}.")
            given["dataset"] = self.dataset[0]
        if kind is TagDataConfig and "label_column" in given:
            if not re.fullmatch(r"-?\d+", given["label_column"]):
                raise ValueError(
                    f"`label_column` must be a number, from 0, got {self.label_column!r}."
                )
            given["label_column"] = int(given["label_column"])
        if given.get("dataset") and Path(run).is_dir():
            saved = RunFolder(run).saved_config()
            inherited = {"text_column", "label_column", "token_column", "source_scheme", "on_fault"}
            if kind is TagDataConfig and tuple(saved["dataset"]) == self.dataset:
                inherited.add("label")  # Of another data set the labels have other names.
            given = {name: saved[name] for name in fields.keys() & inherited & saved.keys()} | given
        return kind(**given)


@app.command
def evaluate(
    run: Run,
    *,
    data: MeasuredData = MeasuredData(),
    sentences: str | None = None,
    part: Literal["test", "validation"] | None = None,
    dynamic: float | None = None,
    dynamic_window: int | None = None,
    json: bool = False,
) -> None:
    """Measure a trained model on what it has not seen.

    Args:
        run: The folder of a training run, or a .keras file.
        data: What to measure on.
        sentences: Language model: a UTF-8 file with a sentence on each line, to print the logarithm of the
            probability of each, the number of its tokens and its perplexity, instead.
        part: Language model: the part to measure on, by default the test part; choose settings by the
            validation part.
        dynamic: Language model: go on learning from what has been measured, with this learning rate, such
            as 0.0003 (dynamic evaluation).
        dynamic_window: Language model: after how many tokens to learn from them, by default 20.
        json: Print one JSON object, or one for each sentence.
    """
    model: Any = load_model(run)
    task = _task_of(model)
    asked = {"part": part, "dynamic": dynamic, "dynamic_window": dynamic_window}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    flags = [f"--{name.replace('_', '-')}" for name in options]
    if sentences is not None:
        if task is not language_model:
            raise ValueError("--sentences is for language models.")
        if data != MeasuredData():
            raise ValueError("Give either `--sentences` or a data set, not both.")
        if flags:
            raise ValueError(f"{flags[0]} is for a data set: leave it out with --sentences.")
        _score(model, sentences, json)
        return
    if flags and task is not language_model:
        raise ValueError(f"{flags[0]} is for language models.")
    if dynamic is None and dynamic_window is not None:
        raise ValueError("--dynamic-window is for --dynamic, which is missing.")
    chosen = data.of(DATA[task], run)
    scores = task.evaluate(run, chosen, show_progress=not json, model=model, **options)
    if json:
        _print_json(scores)
    else:
        print(f"\n{task.report(scores)}")


def _score(model: Any, sentences: str, json: bool) -> None:
    """Print how probable a language model finds each line of a file."""
    if not Path(sentences).is_file():
        raise FileNotFoundError(f"There is no file {sentences}.")
    if not json:
        print(f"{'log p':>10} {'tokens':>6} {'unknown':>7} {'perplexity':>10}")
    for text, found in language_model.score(model, datasets.lines_utf8(Path(sentences))):
        if json:
            _print_json({"text": text, **found._asdict()})
        else:
            counts = f"{found.tokens:6} {found.unknown:7}"
            print(
                f"{found.log_probability:10.3f} {counts} {found.perplexity:10.2f}  {text}",
                flush=True,
            )


@dataclasses.dataclass(frozen=True)
class Continuation:
    """What a language model is asked for."""

    prompt: str | None = None
    """Language model: the beginning that it goes on with; "" for the beginning of a line."""
    length: int = 200
    """Language model: how many tokens to produce."""
    temperature: float = 1.0
    """Language model: below 1 the likely gets likelier; 0 always takes the likeliest."""
    top_k: int | None = None
    """Language model: draw from so many of the likeliest tokens only."""
    top_p: float | None = None
    """Language model: draw from the fewest likeliest tokens only that have this probability together."""
    beams: int | None = None
    """Language model: do not draw, but search for the likeliest continuations, so many side by side."""
    seed: int | None = None
    """Language model: the same seed draws the same text."""
    one_line: bool = False
    """Language model: stop drawing where the line ends. (`beams` always do.)"""

    def refuse(self, why: str, *allowed: str) -> None:
        """Raise a ValueError if anything is given that is not among `allowed`."""
        for field in dataclasses.fields(self):
            if field.name not in allowed and getattr(self, field.name) != field.default:
                raise ValueError(f"--{field.name.replace('_', '-')} {why}.")


@app.command
def predict(
    run: Run,
    texts: tyro.conf.Positional[tuple[str, ...]] = (),
    *,
    continuation: Continuation = Continuation(),
    file: str | None = None,
    conll: bool = False,
    token_column: int = 0,
    json: bool = False,
) -> None:
    """Give what a trained model says of texts: arguments, a file, or standard input; or how a language
    model goes on with `--prompt`.

    Args:
        run: The folder of a training run, or a .keras file.
        texts: The texts. Without any, the lines of `file` or of standard input.
        continuation: What a language model is asked for.
        file: A UTF-8 file with a text on each line.
        conll: Sequence labeling: read a token on each line, with a blank line after each sentence, and
            print the lines with the label as one more column.
        token_column: The column of the tokens with `conll`, from 0; 1 for CoNLL-U.
        json: Print a JSON line for each text, or each of its sentences.
    """
    if texts and file:
        raise ValueError("Give either texts or `--file`, not both.")
    if conll and (texts or json):
        raise ValueError("`--conll` reads a file or standard input, and prints no JSON.")
    _check_encoding(texts)
    model: Any = load_model(run)
    task = _task_of(model)
    if task is language_model:
        if texts or file or conll:
            raise ValueError(
                "A language model goes on with one `--prompt`; it reads no other texts."
            )
        _continue(model, continuation, json)
        return
    continuation.refuse("is for language models")
    sources: Iterable[Iterable[str]] = _lines_of_stdin()
    if texts or file:
        if file and not Path(file).is_file():
            raise FileNotFoundError(f"There is no file {file}.")
        sources = [datasets.lines_utf8(Path(file)) if file else texts]
    if conll:
        if task is not sequence_labeling:
            raise ValueError("`--conll` is for models that label tokens.")
        lines = itertools.chain.from_iterable(sources)
        for line in sequence_labeling.label_rows(model, lines, token_column):
            print(line, flush=True)
        return
    for source in sources:
        for line, data in task.answers(model, source):
            if json:
                _print_json(data)
            else:
                print(line, flush=True)


def _continue(model: Any, asked: Continuation, json: bool) -> None:
    """Print how a language model goes on, as it is produced."""
    if asked.prompt is None:
        raise ValueError('A language model needs `--prompt`, such as --prompt "The ".')
    prompt = asked.prompt
    _check_encoding((prompt,))
    if asked.beams is not None:
        check_counts(beams=asked.beams)
        asked.refuse("is for drawing, and --beams draws nothing", "prompt", "length", "beams")
        for beam in model.beam_search(prompt, length=asked.length, width=asked.beams):
            if json:
                _print_json({"prompt": prompt, **beam._asdict()})
            else:
                print(f"{beam.log_probability:10.3f}  {prompt}{beam.text}", flush=True)
        return
    pieces = model.stream(
        prompt,
        asked.length,
        asked.temperature,
        asked.top_k,
        asked.top_p,
        asked.seed,
        stop_at_boundary=asked.one_line,
    )
    if json:
        _print_json({"prompt": prompt, "text": "".join(pieces)})
    else:
        _print_stream(itertools.chain([prompt], pieces))


def _print_stream(pieces: Iterable[str]) -> None:
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


@app.command(name="explain")
def explain_verdict(
    run: Run,
    text: tyro.conf.Positional[str],
    *,
    method: explaining.Method = "integrated_gradients",
    steps: int = 64,
    label: str | None = None,
    out: str | None = None,
    json: bool = False,
) -> None:
    """Show which words of a text moved the verdict of a sentiment model, and draw a picture of it.

    Args:
        run: The folder of a training run, or a .keras file.
        text: The text.
        method: Integrated gradients, which add up to what the text does to the verdict; or occlusion, which
            hides each word in turn.
        steps: How finely the gradients are integrated.
        label: The label to explain, by default the likeliest.
        out: The picture: a .png, .pdf or .svg file, by default `explain.png` in the run's folder.
        json: Print one JSON object.
    """
    _check_encoding((text,))
    place = Path(run)
    path = Path(out) if out else (place if place.is_dir() else place.parent) / "explain.png"
    if path.suffix.lower() not in (".png", ".pdf", ".svg") or path.is_dir():
        raise ValueError(
            f"`out` must be a file that ends in .png, .pdf or .svg, got {str(path)!r}."
        )
    found = explaining.explain(load_model(run), text, method, steps=steps, label=label)
    said = ""
    if found.tokens:
        with warnings.catch_warnings():
            # A sign that the font has not is a box in the picture, which says it.
            warnings.filterwarnings("ignore", "Glyph", UserWarning)
            try:
                picture = explaining.picture(found)
            except ImportError as error:
                said = f"no picture: {error}"
                if json:
                    print(said, file=sys.stderr)
            else:
                with written_whole(path) as beside:
                    picture.savefig(beside, dpi=150)
                said = f"picture: {path}"
    if json:
        _print_json({"text": text, **explaining.data(found)})
        return
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(explaining.view(found, shutil.get_terminal_size().columns, colour))
    if said:
        print(f"\n{said}")


@app.command(name="export")
def export_model(run: Run, *, out: str, overwrite: bool = False) -> None:
    """Write the SavedModel of a trained model, which takes raw strings.

    Args:
        run: The folder of a training run, or a .keras file.
        out: The folder to write.
        overwrite: Replace what is there.
    """
    export(run, out, overwrite)
    print(f"written to {out}")


def _task_of(model: Any) -> Any:
    if type(model) not in TASKS:
        known = ", ".join(kind.__name__ for kind in TASKS)
        raise ValueError(f"The model is a {type(model).__name__}, none of {known}.")
    return TASKS[type(model)]


@app.command(name="cells")
def list_cells(*, features: int = 128, units: int = 128, markdown: bool = False) -> None:
    """List every registered cell: gates, states, parameters and paper.

    Args:
        features: The size of the input, for counting the parameters.
        units: The size of the state, for counting the parameters.
        markdown: Print a Markdown table, such as `docs/cells.md` holds.
    """
    print(cells_table(features, units, markdown))


def cells_table(features: int, units: int, markdown: bool = False) -> str:
    """The table of all registered cells, as text."""
    header = ("name", "layer", "what it is", "gates", "states", "parameters", "paper")
    rows: list[tuple[str, ...]] = [header]
    cells.SimpleRNNCell(units).build((None, features))  # Sizes that no cell takes are refused here.
    for name in cells.names():
        info = cells.info(name)
        try:
            cell = info.cell_class(units)
            cell.build((None, features))
            parameters = f"{cell.count_params():,}"
        except ValueError:  # It takes no such sizes.
            cell, parameters = info.cell_class(8), "-"
        gates = ", ".join((*cell.gates, *(f"({gate})" for gate in cell.derived_gates)))
        rows.append(
            (
                name,
                info.layer_name,
                info.summary,
                gates,
                ", ".join(cell.states),
                parameters,
                info.paper,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if markdown:
        rows.insert(1, tuple("-" * width for width in widths))
    lines = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in rows]
    if markdown:
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    else:
        table = "\n".join("  ".join(line).rstrip() for line in lines)
    return (
        f"{table}\n\nParameters for {features} features and {units} units, with the default options. "
        "A gate in brackets follows from the others and has no weights. Without a number: the cell "
        "takes no such sizes with its default options."
    )


def _check_encoding(texts: Iterable[str]) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"An argument is not UTF-8: {text!r}.") from None


def _print_json(content: object) -> None:
    print(json_module.dumps(content, ensure_ascii=False), flush=True)


def _lines_of_stdin() -> Iterator[list[str]]:
    """The lines of standard input, as many at a time as are there: who waits for a verdict gets it."""
    number, rest = 0, b""
    stdin: Any = sys.stdin.buffer
    while chunk := stdin.read1():
        *whole, rest = (rest + chunk).split(b"\n")
        yield [_decoded(line, number) for number, line in enumerate(whole, start=number + 1)]
        number += len(whole)
    if rest:
        yield [_decoded(rest, number + 1)]


def _decoded(line: bytes, number: int) -> str:
    try:
        # A byte-order mark may stand at the very beginning.
        return line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
    except UnicodeDecodeError as error:
        raise ValueError(f"Standard input, line {number} is not UTF-8: {error}.") from None


def main() -> None:
    """Run the command line."""
    with plain_errors("kerasrnn"):
        app.cli(
            prog="kerasrnn",
            description="The recurrent networks that Keras 3 does not have.",
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )


if __name__ == "__main__":
    main()
