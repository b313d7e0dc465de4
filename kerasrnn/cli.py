"""The command line: `kerasrnn train | evaluate | predict | export | cells`."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro

from kerasrnn import cells, datasets
from kerasrnn.applications.sentiment import task as sentiment
from kerasrnn.applications.sentiment.config import DataConfig, SentimentConfig

app = tyro.extras.SubcommandApp()
train = tyro.extras.SubcommandApp()
app.command(train, name="train", help="Train a model, measure it on held-out data and save it.")

Run = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@train.command(name="sentiment", help=SentimentConfig.__doc__)
def train_sentiment(config: SentimentConfig) -> None:
    """Train, then let the SavedModel speak for itself."""
    metrics = sentiment.train(config)
    folder = Path(config.out)
    print(
        f"\ntest accuracy {metrics['test_accuracy']:.4f} on {metrics['texts']['test']:,} held-out texts "
        f"after {metrics['train_seconds']:.0f} s of training\n"
        f"written to {folder}: model.keras, saved_model/, metrics.json, history.csv, learning_curve.png\n"
        "\nwhat the SavedModel says in a fresh process, with TensorFlow alone:"
    )
    print(sentiment.verdicts_of_a_fresh_process(folder / "saved_model"), end="")
    print(f'\nask it yourself: kerasrnn predict {folder} "not bad at all"')


@app.command
def evaluate(
    run: Run,
    *,
    data: DataConfig = DataConfig(),  # noqa: B008
    json: bool = False,
) -> None:
    """Measure a trained model on held-out texts.

    Args:
        run: The folder of a training run, or a .keras file.
        data: What to measure on.
        json: Print one JSON object.
    """
    scores = sentiment.evaluate(run, data, show_progress=not json)
    if json:
        _print_json(scores)
        return
    print(
        f"\naccuracy {scores['accuracy']:.4f}, loss {scores['loss']:.4f}, {scores['texts']:,} texts "
        f"({'the test part' if scores['part'] == 'test' else 'all'} of {scores['dataset']})"
    )
    labels = list(scores["confusion"])
    width = max(map(len, [*labels, "true \\ verdict"])) + 2
    print("".join(name.rjust(width) for name in ("true \\ verdict", *labels)))
    for label, row in scores["confusion"].items():
        print(label.rjust(width) + "".join(f"{row[other]:>{width},}" for other in labels))


@app.command
def predict(
    run: Run,
    texts: tyro.conf.Positional[tuple[str, ...]] = (),
    *,
    file: str | None = None,
    json: bool = False,
) -> None:
    """Give the verdict of a trained model on texts: arguments, a file, or standard input.

    Args:
        run: The folder of a training run, or a .keras file.
        texts: The texts. Without any, the lines of `file` or of standard input.
        file: A UTF-8 file with a text on each line.
        json: Print a JSON line for each text.
    """
    if texts and file:
        raise ValueError("Give either texts or `--file`, not both.")
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"An argument is not UTF-8: {text!r}.") from None
    model = sentiment.load(run)
    sources: Iterable[Iterable[str]] = _lines_of_stdin()
    if texts or file:
        sources = [datasets.lines_utf8(Path(file)) if file else texts]
    for source in sources:
        for text, verdict in sentiment.predict(model, source):
            if json:
                _print_json({"text": text, **verdict._asdict()})
            else:
                print(f"{verdict.label:>10} {verdict.confidence:6.1%}  {text}", flush=True)


@app.command
def export(run: Run, *, out: str, overwrite: bool = False) -> None:
    """Write the SavedModel of a trained model, which takes raw strings.

    Args:
        run: The folder of a training run, or a .keras file.
        out: The folder to write.
        overwrite: Replace what is there.
    """
    sentiment.export(run, out, overwrite)
    print(f"written to {out}")


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
    """Run the command line. A user's mistake is one clear line and exit status 2."""
    try:
        app.cli(
            prog="kerasrnn",
            description="The recurrent networks that Keras 3 does not have.",
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    except KeyboardInterrupt:
        sys.exit("\nkerasrnn: stopped. A training run goes on with --resume.")
    except BrokenPipeError:
        sys.stderr.close()  # The reader has gone, as `head` does; there is nobody to tell.
    except (ValueError, OSError) as error:
        print(f"kerasrnn: error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
