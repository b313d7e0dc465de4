"""The task of language modeling: what a run leaves behind, that its numbers are right, what is refused."""

import dataclasses
import functools
import json
import math
import shutil
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.applications._runs import RunFolder
from kerasrnn.applications.language_model import task
from kerasrnn.applications.language_model.config import LanguageModelConfig, PlainDataConfig
from kerasrnn.applications.language_model.data import Encoder, Tokens, Windows
from kerasrnn.datasets import PlainText
from kerasrnn.metrics import Perplexity
from kerasrnn.optimizers import NonMonotonicAveraging
from tests.applications._helpers import (
    LANGUAGE,
    ROOT,
    assert_the_same_run,
    history,
    train_and_copy,
    write_sayings,
)
from tests.applications.test_language_model import log_softmax

TFDS = ROOT.parent / "shared/tfds"
# The lanes' first tokens are read after `CONTEXT` tokens, and not after all that stands before them.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def model(writer):
    return task.load(writer.folder)


@pytest.fixture(scope="module")
def corpus(writer):
    return task.load_corpus(LanguageModelConfig(**writer.settings))


def tokens_of(text: PlainText, model) -> Tokens:
    return Tokens.of(text, Encoder(model.tokens, model.level, model.separate))


def nats(model, numbers) -> float:
    """The mean cross-entropy of a stream, read by a plain call from a state of zeros."""
    scores = log_softmax(model(numbers[None, :-1].astype("int32")))[0]
    return -scores[np.arange(len(scores)), numbers[1:]].mean()


# What a run leaves behind


def test_the_folder_is_complete(writer):
    assert {path.name for path in writer.folder.iterdir()} == {
        "checkpoints",
        "config.json",
        "history.csv",
        "learning_curve.png",
        "metrics.json",
        "model.keras",
        "saved_model",
    }


def test_metrics(writer, corpus, model):
    metrics = json.loads((writer.folder / "metrics.json").read_text("utf-8"))
    config = LanguageModelConfig(out=str(writer.folder), **writer.settings)
    assert metrics == json.loads(json.dumps(writer.metrics))
    assert metrics["config"] == json.loads(json.dumps(dataclasses.asdict(config)))
    assert metrics["keras"] == keras.__version__ and metrics["tensorflow"] == tf.__version__
    parts = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    sizes = {name: len(text_of(part)) for name, part in parts.items()}
    assert metrics["tokens"] == sizes
    assert metrics["predictions"] == sizes["train"] - LANGUAGE["batch_size"]
    assert metrics["parameters"] == model.count_params()
    assert metrics["train_seconds"] > 0
    for part in ("test", "validation"):
        bits = metrics[f"{part}_bits_per_character"]
        assert bits == pytest.approx(metrics[f"{part}_cross_entropy"] / math.log(2))
        assert bits == pytest.approx(math.log2(metrics[f"{part}_perplexity"]))
        assert bits < 1  # The rule is a simple one: of 19 characters few can come.


def text_of(text: PlainText) -> str:
    return b"".join(piece for document in text.documents() for piece in document).decode()


def test_the_best_epoch_is_the_one_that_is_saved(writer, corpus, model):
    """With the averaged weights that validation saw."""
    rows, metrics = history(writer.folder), writer.metrics
    assert [row["epoch"] for row in rows] == [n + 1 for n in range(metrics["epochs"])]
    seen = [row["val_bits_per_character"] for row in rows]
    assert metrics["best_epoch"] == 1 + int(np.argmin(seen))
    assert metrics["validation_bits_per_character"] == min(seen)
    again = nats(model, tokens_of(corpus.validation, model).numbers) / math.log(2)
    assert again == pytest.approx(min(seen), rel=TOLERANCE)


def test_the_numbers_are_those_of_the_saved_model(writer, corpus, model):
    """Counted anew over the whole stream: so what was measured is what was saved."""
    assert list(model.tokens[1:]) == [
        character for character, _ in Counter(text_of(corpus.train)).most_common()
    ]
    text = text_of(corpus.test)
    numbers = np.array([model.tokens.index(character) for character in text])
    assert nats(model, numbers) == pytest.approx(
        writer.metrics["test_cross_entropy"], rel=TOLERANCE
    )


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile(loss=loss, weighted_metrics=[Perplexity()])


def measured(model, text: PlainText, batch_size: int, **how) -> float:
    """The perplexity by `evaluate`, in windows, with the state carried. The loss says the same."""
    windows = Windows(tokens_of(text, model), batch_size, 50, **how)
    scores = model.evaluate(windows.batches(), return_dict=True, verbose=0)
    assert math.log(scores["perplexity"]) == pytest.approx(scores["loss"], rel=1e-5)
    return scores["perplexity"]


def test_the_perplexity_hardly_depends_on_the_batch_size(model, corpus):
    """Nor on what was measured before: each evaluation begins anew."""
    compiled(model)
    whole = math.exp(nats(model, tokens_of(corpus.test, model).numbers))
    # Most lanes have more than 100 tokens before them.
    for batch_size, context in ((1, 1), (4, 100), (16, 100), (16, task.CONTEXT)):
        found = measured(model, corpus.test, batch_size, context=context)
        assert found == pytest.approx(whole, rel=TOLERANCE), (batch_size, context)
    assert measured(model, corpus.test, 16, context=1) != pytest.approx(whole, rel=10 * TOLERANCE)


@pytest.mark.slow
def test_the_perplexity_of_a_trained_lstm_hardly_depends_on_the_batch_size(tmp_path):
    """On several thousand characters of Python's source; with no context it would."""
    text = PlainText.of([text_of(task.read_parts(LanguageModelConfig())["train"])[:200_000]])
    test, train = text.split(0.04)
    (tmp_path / "a.txt").write_text(text_of(train), "utf-8")
    settings = {"units": 64, "embedding_dim": 64, "learning_rate": 0.01, "epochs": 4}
    run = str(tmp_path / "run")
    task.train(LanguageModelConfig(out=run, dataset=(str(tmp_path / "a.txt"),), **settings))
    lstm = task.load(run)
    compiled(lstm)
    found = {
        (batch_size, context): measured(lstm, test, batch_size, context=context)
        for batch_size, context in ((1, 1), (16, 1), (16, task.CONTEXT))
    }
    assert found[1, 1] < 12
    assert found[16, task.CONTEXT] == pytest.approx(found[1, 1], rel=TOLERANCE)
    assert found[16, 1] != pytest.approx(found[1, 1], rel=10 * TOLERANCE)


def test_the_perplexity_of_single_documents_does_not_depend_on_the_batch_size(model):
    compiled(model)
    texts = ["the cow says moo\n" * 9, "the cat\n", "the dög barks\nthe cow says\n" * 5, "\n"]
    expected, count = 0.0, 0
    for text in texts:
        numbers = np.array(model.numbers(text))
        if len(numbers) > 1:
            expected += nats(model, numbers) * (len(numbers) - 1)
            count += len(numbers) - 1
    for batch_size in (1, 4, 16):
        found = measured(model, PlainText.of(texts), batch_size, reset=True)
        assert math.log(found) == pytest.approx(expected / count, rel=1e-6), batch_size


# Going on


def test_a_killed_run_that_goes_on_ends_as_one_that_was_not_killed(writer, tmp_path, capsys):
    """With every kind of dropout, whose draws go on too; Adam, its cosine and its average."""
    run = tmp_path / "run"
    shutil.copytree(writer.folder.with_name("killed"), run)
    assert len(history(run)) == 2 and not (run / "metrics.json").exists()
    task.train(LanguageModelConfig(out=str(run), resume=True))
    assert "going on after epoch 2" in capsys.readouterr().out
    assert_the_same_run(run, writer.folder, task.load)


# Words, small and with one layer, as most of the time goes into making the graphs.
WORDS = LANGUAGE | {
    "level": "word",
    "units": 8,
    "num_layers": 1,
    "embedding_dim": 8,
    "window": 4,
    "epochs": 7,
    "patience": 7,
}
AVERAGED = {"optimizer": "nt_asgd", "learning_rate": 4.0, "clip_norm": 0.25}


@pytest.fixture
def sayings(tmp_path):
    """Lines of words, some of them unknown from the start."""
    path = write_sayings(tmp_path / "sayings.txt", count=120)
    path.write_text(path.read_text("utf-8").replace("the cow", "<unk> cow"), "utf-8")
    return path


@pytest.fixture
def train_twice(tmp_path, monkeypatch, sayings):
    """Train, once as a whole and once with an interruption after the fourth epoch."""
    # Averages from the first setback on, where the default waits for more epochs than a test has.
    averaging = functools.partial(NonMonotonicAveraging, patience=0)
    monkeypatch.setattr(task, "NonMonotonicAveraging", averaging)

    def train(**settings):
        run, killed = tmp_path / "run", tmp_path / "killed"
        settings = {"dataset": (str(sayings),)} | WORDS | settings
        config = LanguageModelConfig(out=str(run), **settings)
        metrics = train_and_copy(task.train, config, killed, epochs=4)
        assert metrics["epochs"] == 7 and len(history(killed)) == 4
        task.train(LanguageModelConfig(out=str(killed), resume=True))
        assert_the_same_run(killed, run, task.load)
        return run

    return train


def falls(run: Path) -> list[float]:
    """The learning rates of the epochs, as fractions of the first."""
    rates = [row["learning_rate"] for row in history(run)]
    return [rate / rates[0] for rate in rates]


@pytest.mark.slow
def test_words_sampled_averaged_and_decayed_on_a_plateau(train_twice):
    """NT-ASGD against drawn tokens; the history goes on with the run."""
    counts = {"sampled": 3, "vocabulary_size": 6, "epoch_updates": 9}  # 11 updates read the text
    run = train_twice(**AVERAGED, schedule="plateau", decay=0.5, **counts)
    rows = history(run)
    seen = [row["val_perplexity"] for row in rows]
    setbacks = [n for n in range(1, 7) if seen[n] >= min(seen[:n])]
    assert setbacks and setbacks[0] < 6, "no epoch is worse than the best before it"
    assert falls(run) == [0.5 ** sum(n < epoch for n in setbacks) for epoch in range(7)]
    # Training does not compute the perplexity over all tokens; validation does.
    assert "perplexity" not in rows[0] and seen[-1] < seen[0]
    assert (run / "learning_curve.png").read_bytes().startswith(b"\x89PNG\r\n")
    model, found = task.load(run), task.evaluate(run, show_progress=False)
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    assert found["perplexity"] == pytest.approx(metrics["test_perplexity"], rel=TOLERANCE)
    assert "bits_per_character" not in found
    # Of the six most frequent words one is `<unk>` itself.
    assert len(model.tokens) == 6 and model.tokens[0] == "<unk>"
    text = text_of(task.load_corpus(LanguageModelConfig(**metrics["config"])).test)
    words = text.replace("\n", " <eos> ").split()
    assert found["unknown"] == np.mean([word not in model.tokens[1:] for word in words]) > 0


@pytest.mark.parametrize(
    ("tokens", "epoch", "epochs"),
    [(50_001, None, 1), (50_001, 300, 9), (1001, None, 28), (1001, 7, 200)],
)
def test_the_epochs_by_default_read_the_text_once_and_are_enough(tokens, epoch, epochs):
    text = Tokens(np.zeros(tokens, np.uint8), np.array([0, tokens]))
    windows = Windows(text, batch_size=2, window=10, epoch=epoch)
    assert windows.reading == tokens // 20
    assert task._epochs(windows) == epochs


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule": "plateau"}, [8, 8, 8, 4, 4, 2, 1]),
        ({"schedule": "plateau", "decay": 0.1}, [8, 8, 8, 0.8, 0.8, 0.08, 0.008]),
        ({"schedule": "steps", "decay_after": 2}, [8, 8, 4, 2, 1, 0.5, 0.25]),
        ({"schedule": "constant", "optimizer": "nt_asgd"}, [8] * 7),
    ],
)
def test_the_learning_rate_after_epochs_that_are_done(tmp_path, settings, expected):
    """Also of a run that goes on, which has read them from its folder. Averages know them too."""
    seen = [9.0, 7.0, 7.5, 6.0, 6.0, 6.5]  # The third, the fifth and the sixth are no better.
    settings = {"clip_norm": 0.25, "weight_decay": 1e-6, **settings}
    plan = LanguageModelConfig(level="word", learning_rate=8.0, epochs=7, **settings)
    folder = RunFolder(tmp_path)
    for epoch, rate in enumerate(expected):
        folder.history = [{"val_perplexity": value} for value in seen[:epoch]]
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(task._optimizer(plan, 10), "mse")
        for callback in task._callbacks(plan, folder, "val_perplexity"):
            callback.set_model(model)
            callback.on_epoch_begin(epoch)
            assert getattr(callback, "history", seen[:epoch]) == seen[:epoch]
        assert float(model.optimizer.learning_rate) == pytest.approx(rate)
        assert model.optimizer.global_clipnorm == 0.25
        assert model.optimizer.weight_decay == 1e-6


@pytest.mark.slow  # The one above is the quick form.
@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "steps", "decay_after": 2, "optimizer": "sgd", "random_windows": True},
        {"schedule": "plateau", "reset": True, "tied": False},
        AVERAGED | {"schedule": "constant", "weight_decay": 1e-4, "separate": True},
        {"cell": "lstm", "precision": "mixed_bfloat16"},
        {"cell": "coupled_lstm", "precision": "mixed_float16", "level": "character"},
    ],
)
def test_other_runs_go_on_too(train_twice, settings):
    run = train_twice(**settings)
    if settings.get("schedule") == "steps":
        assert falls(run) == [1, 1, *(0.5**n for n in range(1, 6))]


@pytest.mark.slow  # That a window is padded is in the tests of the windows.
def test_text_that_is_shorter_than_a_window(tmp_path):
    (tmp_path / "text.txt").write_text("one line\n")
    settings = WORDS | {"level": "character", "dataset": (str(tmp_path / "text.txt"),)}
    metrics = task.train(
        LanguageModelConfig(out=str(tmp_path / "run"), **settings | {"window": 99})
    )
    assert metrics["tokens"] == {"train": 5, "validation": 2, "test": 2}
    assert np.isfinite(metrics["test_perplexity"])


def test_other_text_is_noticed(writer, tmp_path):
    run, other = tmp_path / "run", tmp_path / "other.txt"
    shutil.copytree(writer.folder, run)
    content = json.loads((run / "config.json").read_text("utf-8"))
    content["config"]["dataset"] = [str(other)]
    (run / "config.json").write_text(json.dumps(content))
    other.write_text(writer.dataset.read_text("utf-8") + "the end\n", "utf-8")
    for measure in (
        lambda: task.evaluate(run, show_progress=False),
        lambda: task.train(LanguageModelConfig(out=str(run), resume=True)),
    ):
        with pytest.raises(ValueError, match=r"The data set has changed since the run in .*began"):
            measure()


# The text and its parts


def test_parts_by_fractions_are_the_ends_of_the_text(writer, corpus):
    parts = [text_of(part) for part in (corpus.train, corpus.validation, corpus.test)]
    whole = "".join(parts)
    assert whole == writer.dataset.read_text("utf-8")
    assert all(part.endswith("\n") for part in parts)
    assert len(parts[2]) == pytest.approx(0.2 * len(whole), abs=20)
    assert len(parts[1]) == pytest.approx(0.25 * 0.8 * len(whole), abs=20)


def test_parts_by_files(tmp_path):
    """And the validation part alone: then what is measured on is cut off."""
    paths = [tmp_path / name for name in ("a.txt", "b.txt", "valid.txt", "test.txt")]
    for number, path in enumerate(paths):
        path.write_text(f"{number}\n" * 50)
    names = list(map(str, paths))
    config = LanguageModelConfig(dataset=tuple(names[:2]), validation=(names[2],), test=(names[3],))
    corpus = task.load_corpus(config)
    assert text_of(corpus.train) == "0\n" * 50 + "1\n" * 50
    assert text_of(corpus.validation) == "2\n" * 50 and text_of(corpus.test) == "3\n" * 50
    assert corpus.counts == {"\n": 100, "0": 50, "1": 50}
    digest = corpus.digest()
    corpus = task.load_corpus(dataclasses.replace(config, test=(), test_fraction=0.1))
    assert text_of(corpus.test) == "1\n" * 10 and text_of(corpus.validation) == "2\n" * 50
    assert corpus.digest() != digest


@pytest.mark.skipif(not (TFDS / "tiny_shakespeare").is_dir(), reason=f"needs sets in {TFDS}")
def test_parts_of_a_tfds_set():
    config = LanguageModelConfig(dataset=("tiny_shakespeare",), data_dir=str(TFDS))
    parts = task.read_parts(config)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 1003854,
        "validation": 55770,
        "test": 55770,
    }


def test_the_source_of_python_is_the_default():
    parts = task.read_parts(LanguageModelConfig())
    assert list(parts) == ["train"] and len(parts["train"]) > 10**6


def test_the_vocabulary_is_that_of_the_training_text():
    counts = Counter({"the": 9, "<eos>": 4, "<unk>": 4, "cat": 4, "dog": 2})

    def learned(level="word", **settings):
        return task.learn_vocabulary(counts, LanguageModelConfig(level=level, **settings))

    assert learned() == ["the", "cat", "<eos>", "dog"]
    assert learned(least_count=3) == ["the", "cat", "<eos>"]
    assert learned(vocabulary_size=1) == ["the", "<eos>"]
    # One word, and where lines end: that can be told apart.
    counts = Counter({"word": 9, "<eos>": 3})
    assert learned() == ["word", "<eos>"]
    # The boundary is known even if the text has none.
    assert task.learn_vocabulary(Counter("abba"), LanguageModelConfig()) == ["a", "b", "\n"]


# What is refused, before anything is written


def test_logits_that_no_memory_holds_are_refused(tmp_path, sayings, monkeypatch):
    """But not where the vocabulary's size is given, or most of them are not computed."""
    monkeypatch.setattr(task, "TRAINED_LOGITS", 8 * 4 * 10 - 1)
    config = LanguageModelConfig(
        out=str(tmp_path / "run"), dataset=(str(sayings),), **WORDS | {"least_count": 1}
    )
    with pytest.raises(
        ValueError, match=r"With all 1\d words .* of 8 windows of 4 has .* `--sampled`"
    ):
        task.train(config)
    assert not (tmp_path / "run").exists()
    for chosen in ({"sampled": 3}, {"vocabulary_size": 9}, {"window": 1}):
        task._check_size(dataclasses.replace(config, **chosen), 10)
    with pytest.raises(ValueError, match=r"has 0\.0 GB of logits"):
        task._check_size(config, 10)


@pytest.mark.slow
def test_a_hundred_thousand_words(tmp_path):
    # Each of them twice, so that those of the held-out end are known.
    random = np.random.default_rng(1)
    words = [f"w{number}" for _ in range(2) for number in random.permutation(110_000)]
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{' '.join(words[n : n + 20])}\n" for n in range(0, len(words), 20)))
    settings = WORDS | {
        "window": 35,
        "batch_size": 32,
        "epochs": 1,
        "least_count": 1,
        "sampled": 500,
    }
    fractions = {"test_fraction": 0.02, "validation_fraction": 0.02}
    run = str(tmp_path / "run")
    metrics = task.train(LanguageModelConfig(out=run, dataset=(str(path),), **settings | fractions))
    assert len(task.load(run).tokens) > 100_000
    # Any word is as likely as any other, but it has learned where lines end.
    assert metrics["test_unknown"] == 0 and metrics["test_perplexity"] < 100_000


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"cell": "peephole_ltsm"}, "`cell` was 'peephole_ltsm'. Did you mean 'peephole_lstm'"),
        ({"units": 0}, "`units` must be a positive integer, got 0"),
        ({"window": 0}, "`window` must be at least 1, got 0"),
        ({"epochs": 0}, "`epochs` must be at least 1, got 0"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"least_count": 0}, "`least_count` must be at least 1, got 0"),
        ({"vocabulary_size": 0}, "`vocabulary_size` must be at least 1, got 0"),
        ({"least_count": 9999}, "too small a vocabulary.* known by `least_count` 9999"),
        ({"decay_after": 0}, "`decay_after` must be at least 1, got 0"),
        ({"decay": 0.0}, "`decay` must be more than 0 and at most 1, got 0.0"),
        ({"weight_decay": math.nan}, "`weight_decay` must be a number of at least 0, got nan"),
        ({"clip_norm": 0.0}, "`clip_norm` must be positive, got 0.0"),
        ({"learning_rate": -1.0}, "`learning_rate` must not be negative, got -1.0"),
        ({"embedding_dropout": 1.0}, "`embedding_dropout` must be at least 0 and less than 1"),
        ({"recurrent_dropout": 1.0}, "`recurrent_dropout` must be .*1.0"),
        ({"activation_regularization": -1.0}, "`activation_regularization` must .*-1.0"),
        ({"sampled": 99}, "`sampled` must be less than the number of tokens, 19; got 99"),
        ({"sampled": -1}, "`sampled` must be a whole number, at least 0, got -1"),
        ({"validation_fraction": 1.0}, "`validation_fraction` must lie between 0 and 1, got 1.0"),
        ({"level": "byte"}, "`level` must be one of character, word; got 'byte'"),
        ({"optimizer": "rmsprop"}, "`optimizer` must be one of adam, sgd, nt_asgd; got 'rmsprop'"),
        ({"schedule": "linear"}, "`schedule` must be one of cosine, steps, plateau, constant; got"),
        ({"optimizer": "sgd", "learning_rate": 0.002}, "`learning_rate` is 0.002, .* for Adam"),
        ({"optimizer": "nt_asgd"}, '`optimizer` "nt_asgd" .* `schedule` must be another than'),
        ({"reset": True, "random_windows": True}, "`random_windows` moves the cuts .* `reset`"),
        ({"dataset": ()}, "`dataset` must be a name, or files and folders of text; got none"),
        ({"dataset": ("none.txt",)}, "There is no file or folder none.txt"),
        ({"test": ("none.txt",)}, "There is no file or folder none.txt"),
        ({"resume": True}, "There is no run in .* to go on with"),
    ],
)
def test_a_wrong_setting_is_named_and_no_folder_is_made(writer, tmp_path, setting, message):
    out = tmp_path / "run"
    settings = writer.settings | {"out": str(out), **setting}
    with pytest.raises((ValueError, OSError), match=message):
        task.train(LanguageModelConfig(**settings))
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "setting", "message"),
    [
        (b"", {}, r"There is no text in .*text.txt"),
        (b"a", {}, r"text.txt' is too small: no text is left for validation"),
        (b"abcd", {}, r"text.txt is too short: it has 1 tokens"),
        (b"a\nb\nc\nd\n" * 9, {"window": 99, "test": ("x.txt",)}, r"x.txt is too short: .* 1 tok"),
        (b"aaaaaaaa" * 40, {}, r"too small a vocabulary: .* two characters to choose from"),
        (b"\n" * 400, {"level": "word"}, r"too small a vocabulary: .* two words to choose from"),
        (b"fine\n" * 9 + b"caf\xe9\n", {}, r"text.txt is not UTF-8: byte 0xe9 at offset 48"),
    ],
)
def test_text_that_nothing_can_be_learned_from(tmp_path, monkeypatch, content, setting, message):
    """It is named, and no folder is made."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_bytes(content)
    Path("x.txt").write_bytes(b"a")
    settings = WORDS | {"level": "character", "dataset": ("text.txt",), **setting}
    with pytest.raises(ValueError, match=message):
        task.train(LanguageModelConfig(out="run", **settings))
    assert not Path("run").exists()


# Measuring


def test_evaluate_gives_the_numbers_of_the_training(writer):
    """But for the batches, which are of another size."""
    found = task.evaluate(writer.folder, show_progress=False)
    metrics = writer.metrics
    for name in ("perplexity", "cross_entropy", "bits_per_character"):
        assert found[name] == pytest.approx(metrics[f"test_{name}"], rel=TOLERANCE)
    rest = {"tokens": metrics["tokens"]["test"] - 1, "unknown": 0, "part": "test"}
    assert found == found | rest | {"dataset": str(writer.dataset)}
    report = task.report(found)
    assert report.splitlines() == [
        f"{found['bits_per_character']:.4f} bits per character ({found['cross_entropy']:.4f} nats)",
        f"{rest['tokens']:,} tokens (the test part of {writer.dataset})",
    ]


def test_evaluate_on_other_files(writer, model, tmp_path):
    """All of them, one after the other as one stream, with characters that the model does not know."""
    texts = ["the cow says moo\n", "zebra!\n"]
    for name, text in zip("ab", texts, strict=True):
        (tmp_path / f"{name}.txt").write_text(text)
    files = tuple(str(tmp_path / f"{name}.txt") for name in "ab")
    found = task.evaluate(writer.folder, PlainDataConfig(files), show_progress=False, model=model)
    numbers = np.array(model.numbers("".join(texts)))
    assert found["cross_entropy"] == pytest.approx(nats(model, numbers), rel=TOLERANCE)
    assert found["unknown"] == pytest.approx(np.mean(numbers == 0)) and found["unknown"] > 0
    assert (found["tokens"], found["part"]) == (len(numbers) - 1, "all")
    assert found["dataset"] == " ".join(files)
    assert f"{found['unknown']:.2%} of them unknown (all of" in task.report(found)
    with pytest.raises(ValueError, match=r"`dataset` is needed: .*model.keras does not say"):
        task.evaluate(writer.folder / "model.keras", show_progress=False, model=model)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"a.txt is too short: it has 1 tokens"):
        task.evaluate(writer.folder, PlainDataConfig(files[:1]), model=model)


def test_dynamic_evaluation(writer, model, tmp_path):
    """At 0 it measures as ever; else it learns what it has measured, by steps of Adam, and no sooner."""
    text = "zzz qqq\n" * 30
    (tmp_path / "a.txt").write_text(text)
    evaluate = functools.partial(
        task.evaluate,
        writer.folder,
        PlainDataConfig((str(tmp_path / "a.txt"),)),
        show_progress=False,
        model=model,
    )
    before = model.get_weights()
    plain, still, learning = evaluate(), evaluate(dynamic=0.0), evaluate(dynamic=0.003)
    assert still["cross_entropy"] == pytest.approx(plain["cross_entropy"], rel=1e-5)
    assert learning["cross_entropy"] < 0.9 * plain["cross_entropy"]
    assert learning["tokens"] == plain["tokens"] == len(text) - 1
    assert "nats), by dynamic evaluation\n" in task.report(learning)
    for weight, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, was)
    # The same by hand, and by a loss that is computed otherwise.
    twin, adam = task.load(writer.folder), keras.optimizers.Adam(0.003)
    numbers, states, found = np.array(twin.numbers(text)), twin.initial_states(1), []
    for start in range(0, len(numbers) - 1, task.DYNAMIC_WINDOW):
        part = numbers[start : start + task.DYNAMIC_WINDOW + 1]
        with tf.GradientTape() as tape:
            logits, states = twin.advance(tf.constant(part[None, :-1], tf.int32), states)
            scores = tf.gather(tf.nn.log_softmax(logits[0]), part[1:], batch_dims=1)
            loss = -tf.reduce_mean(scores)
        found += [-float(score) for score in scores]
        weights = twin.trainable_variables
        adam.apply(tape.gradient(loss, [weight.value for weight in weights]), weights)
    assert learning["cross_entropy"] == pytest.approx(np.mean(found), rel=1e-3)
    with pytest.raises(ValueError, match=r"`dynamic` must be a number of at least 0, got -1"):
        evaluate(dynamic=-1.0)
    with pytest.raises(ValueError, match=r"`part` must be 'test' or 'validation', got 'train'"):
        evaluate(part="train")


def test_evaluate_reads_documents_apart_if_training_did(writer, model, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    content = json.loads((writer.folder / "config.json").read_text("utf-8"))
    content["config"]["reset"] = True
    (run / "config.json").write_text(json.dumps(content))
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("the cow says moo\n")
    data = PlainDataConfig((str(tmp_path),))
    found = task.evaluate(run, data, show_progress=False, model=model)
    expected = nats(model, np.array(model.numbers("the cow says moo\n")))
    assert found["cross_entropy"] == pytest.approx(expected, rel=1e-6)
    assert found["tokens"] == 2 * 16
    # Dynamically too: where nothing is learned, the figure is the same.
    still = task.evaluate(run, data, show_progress=False, model=model, dynamic=0.0)
    assert still["cross_entropy"] == pytest.approx(expected, rel=1e-6)
    assert still["tokens"] == 2 * 16


def test_a_short_text_is_read_in_few_lanes(writer, model, tmp_path, monkeypatch):
    """Many would read little but what stands before their parts. With replicas each has as many."""
    made, kind = [], task.Windows
    monkeypatch.setattr(task, "Windows", lambda *a, **k: made.append(kind(*a, **k)) or made[-1])
    monkeypatch.setattr(model, "evaluate", lambda *a, **k: {"bits_per_character": 1.0})
    for lines in (1, 64, 1000):
        (tmp_path / "a.txt").write_text("the cow says moo\n" * lines)
        task.evaluate(writer.folder, PlainDataConfig((str(tmp_path / "a.txt"),)), model=model)
    assert [windows.batch_size for windows in made] == [1, 3, 16]
    assert task._measured(made[1].tokens, model, 16, 9, reset=False, replicas=2).batch_size == 4
    assert task._measured(made[1].tokens, model, 16, 9, reset=True).batch_size == 16


def test_a_model_that_gives_no_numbers_is_no_measurement(writer):
    broken = task.load(writer.folder)
    broken.head.bias.assign(np.full(len(broken.tokens), np.nan))
    with pytest.raises(ValueError, match=r"The model gives no probabilities"):
        task.evaluate(writer.folder, show_progress=False, model=broken)


def test_figures_of_words_are_perplexities():
    assert task.summary(
        {"test_perplexity": 80.0, "test_cross_entropy": math.log(80), "tokens": {"test": 82430}}
    ) == ("test: perplexity 80.00 per word (4.3820 nats) on 82,430 held-out tokens")


def test_score_takes_texts_as_they_come(model):
    texts = iter(["the cow says moo", "", "moo says", "never read"])
    given = task.score(model, texts, batch_size=2)
    first = [next(given), next(given)]
    assert next(texts) == "moo says"
    assert [text for text, _ in first] == ["the cow says moo", ""]
    assert [found for _, found in first] == model.score(["the cow says moo", ""])
    assert list(task.score(model, [])) == []


def test_the_settings_of_these_tests_are_settings():
    assert set(LANGUAGE) <= {field.name for field in dataclasses.fields(LanguageModelConfig)}
