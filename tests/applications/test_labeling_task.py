"""The task of labeling: what a run leaves behind, that its numbers are right, and what is refused."""

import dataclasses
import json
import shutil
import struct
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.applications.sequence_labeling import task
from kerasrnn.applications.sequence_labeling.config import SequenceLabelingConfig, TagDataConfig
from kerasrnn.applications.sequence_labeling.data import (
    in_scheme,
    learn_words,
    load_corpus,
    read_parts,
)
from kerasrnn.datasets import TaggedSentences
from tests.applications._helpers import (
    LABELING,
    assert_the_same_run,
    history,
    write_names,
    write_treebank,
)

# A mean over the same tokens in other batches.
TOLERANCE = 1e-6


@pytest.fixture(scope="module", params=["labeler", "tagger"])
def trained(request):
    """Names by a CRF, of one file; and parts of speech by softmax, of three."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def model(trained):
    return task.load(trained.folder)


@pytest.fixture(scope="module")
def corpus(trained):
    return load_corpus(SequenceLabelingConfig(**trained.settings))


@pytest.fixture(scope="module")
def namer(labeler):
    return task.load(labeler.folder)


def score_of(measured) -> tuple[str, float]:
    name = "entity_f1" if "entity_f1" in measured else "token_accuracy"
    return name, measured[name]


# What a run leaves behind


def test_the_folder_is_complete(trained):
    assert {path.name for path in trained.folder.iterdir()} == {
        "checkpoints",
        "config.json",
        "history.csv",
        "learning_curve.png",
        "metrics.json",
        "model.keras",
        "saved_model",
    }


def test_metrics(trained, corpus, model):
    metrics = json.loads((trained.folder / "metrics.json").read_text("utf-8"))
    config = SequenceLabelingConfig(out=str(trained.folder), **trained.settings)
    assert metrics == json.loads(json.dumps(trained.metrics))
    assert metrics["config"] == json.loads(json.dumps(dataclasses.asdict(config)))
    assert metrics["keras"] == keras.__version__ and metrics["tensorflow"] == tf.__version__
    assert metrics["sentences"] == {name: len(part) for name, part in corpus._asdict().items()}
    assert metrics["parameters"] == model.count_params()
    assert metrics["train_seconds"] > 0
    assert score_of(metrics["test"])[1] > 0.6  # the rules are simple ones


def test_the_best_epoch_is_the_one_that_is_saved(trained, corpus, model):
    """By the score that counts, with the averaged weights that validation saw."""
    rows, metrics = history(trained.folder), trained.metrics
    assert [row["epoch"] for row in rows] == [n + 1 for n in range(metrics["epochs"])]
    assert all(np.isfinite(value) for row in rows for value in row.values())
    name, value = score_of(metrics["validation"])
    seen = [row[f"val_{name}"] for row in rows]
    assert metrics["best_epoch"] == 1 + int(np.argmax(seen))
    assert value == pytest.approx(max(seen), abs=TOLERANCE)
    accuracy = rows[metrics["best_epoch"] - 1]["val_token_accuracy"]
    again = task.scores(model, corpus.validation)
    assert again["token_accuracy"] == pytest.approx(accuracy, abs=TOLERANCE)
    assert again == metrics["validation"]


def test_the_numbers_are_those_of_the_saved_model(trained, corpus, model):
    """Counted anew, token by token: so what was measured is what was saved."""
    given = [model.label([tokens])[0].labels for tokens in corpus.test.tokens]
    table = Counter(
        pair
        for rows in zip(corpus.test.labels, given, strict=True)
        for pair in zip(*rows, strict=True)
        if pair[0] != "_"
    )
    measured = trained.metrics["test"]
    assert measured["tokens"] == table.total()
    right = sum(count for (true, label), count in table.items() if true == label)
    assert measured["token_accuracy"] == pytest.approx(right / table.total())
    assert {
        (true, label): count
        for true, row in measured["confusion"].items()
        for label, count in row.items()
        if count
    } == table
    if model.scheme is None:
        assert set(measured["labels"]) == {label for pair in table for label in pair}
        for name, figures in measured["labels"].items():
            actual = sum(count for (true, _), count in table.items() if true == name)
            predicted = sum(count for (_, label), count in table.items() if label == name)
            assert figures["support"] == actual
            assert figures["recall"] == pytest.approx(table[name, name] / max(1, actual))
            assert figures["precision"] == pytest.approx(table[name, name] / max(1, predicted))


class Guessing:
    """In a model's place: gives any labels, ill-formed ones too."""

    labels, scheme = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"), "BIO"

    def label(self, sentences):
        random = np.random.default_rng(0)
        return [
            task.Labelled(row, tuple(map(str, random.choice(self.labels, len(row)))), ())
            for row in sentences
        ]


@pytest.mark.parametrize("guessing", [False, True])
def test_scores_are_those_of_seqeval(labeler, namer, guessing):
    seqeval = pytest.importorskip("seqeval.metrics")
    part = load_corpus(SequenceLabelingConfig(**labeler.settings)).test
    model = Guessing() if guessing else namer
    measured = task.scores(model, part)
    true = [list(row) for row in part.labels]
    given = [list(row.labels) for row in model.label(part.tokens)]
    report = seqeval.classification_report(true, given, output_dict=True, zero_division=0)
    for name, figures in measured["labels"].items():
        expected = report[name]
        for ours, theirs in (("precision",) * 2, ("recall",) * 2, ("f1", "f1-score")):
            assert figures[ours] == pytest.approx(expected[theirs]), name
        assert figures["support"] == expected["support"]
    assert set(report) - set(measured["labels"]) == {"micro avg", "macro avg", "weighted avg"}
    whole = report["micro avg"]
    assert measured["entity_f1"] == pytest.approx(whole["f1-score"])
    assert measured["entity_precision"] == pytest.approx(whole["precision"])
    assert measured["entity_recall"] == pytest.approx(whole["recall"])


def test_words_and_characters_come_from_the_training_part_alone(corpus, model):
    config = model.get_config()
    words = learn_words(corpus.train, 1)
    assert (config["vocabulary"], config["characters"]) == (words.folded, words.characters)


def test_the_picture_is_one(trained):
    data = (trained.folder / "learning_curve.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert width >= 800 and height >= 300
    pixels = tf.io.decode_png(data).numpy()
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 10  # something is drawn


def test_the_saved_model_says_what_the_model_says(trained, model, corpus):
    served = tf.saved_model.load(str(trained.folder / "saved_model")).signatures["serving_default"]
    rows = [*corpus.test.tokens[:5], (), ("nobody", "knows", "this")]
    tokens = tf.ragged.constant(rows, ragged_rank=1, dtype=tf.string).to_tensor("")
    answer = served(tokens=tokens)
    for number, labelled in enumerate(model.label(rows)):
        names = answer["labels"][number, : len(labelled.tokens)].numpy()
        assert tuple(name.decode() for name in names) == labelled.labels
        np.testing.assert_allclose(
            answer["scores"][number, : len(labelled.tokens)], labelled.scores, rtol=0, atol=1e-6
        )


# Going on


def test_a_killed_run_that_goes_on_ends_as_one_that_was_not_killed(labeler, tmp_path, capsys):
    """With every kind of dropout, whose draws go on too."""
    run = tmp_path / "run"
    shutil.copytree(labeler.folder.with_name("killed"), run)
    assert len(history(run)) == 2 and not (run / "metrics.json").exists()
    task.train(SequenceLabelingConfig(out=str(run), resume=True))
    assert "going on after epoch 2" in capsys.readouterr().out
    assert_the_same_run(run, labeler.folder, task.load)


def test_other_data_are_noticed(labeler, tmp_path):
    run, names = tmp_path / "run", tmp_path / "names.conll"
    shutil.copytree(labeler.folder, run)
    content = json.loads((run / "config.json").read_text("utf-8"))
    content["config"]["dataset"] = [str(names)]
    (run / "config.json").write_text(json.dumps(content))
    names.write_text(labeler.dataset.read_text("utf-8") + "\nnobody O\n", "utf-8")
    for measure in (
        lambda: task.evaluate(run, show_progress=False),
        lambda: task.train(SequenceLabelingConfig(out=str(run), resume=True)),
    ):
        with pytest.raises(ValueError, match=r"The data set has changed since the run in .*began"):
            measure()


# How a model is built


def test_word_vectors_are_taken_from_a_file(labeler, tmp_path, capsys):
    path = tmp_path / "glove.txt"
    numbers = " ".join(map(str, range(8)))
    path.write_text(f"oslo {numbers}\nnobody {numbers}\n0000 {numbers}\n")
    settings = labeler.settings | {"word_vectors": str(path), "scheme": "BIOES"}
    config = SequenceLabelingConfig(**settings)
    corpus = load_corpus(config)
    model = task.build(config, corpus)
    words = model.get_config()["vocabulary"]
    table = model.embedding.embeddings.numpy()[2:]
    taken = (table == np.arange(8)).all(-1)
    assert [word for word, one in zip(words, taken, strict=True) if one] == [
        word for word in words if word in ("oslo", "0000")
    ]
    assert np.abs(table[~taken]).max() <= 0.05
    assert f"2 of {len(words)} words have a vector in {path}" in capsys.readouterr().out
    assert model.scheme == "BIOES" and {"S-LOC", "E-PER"} <= set(model.labels)


def test_a_label_that_training_never_saw_counts_as_wrong(labeler, tmp_path, namer):
    """It is in the report, and in the model that was told of it, which never gives it."""
    (tmp_path / "test.conll").write_text("the O\nShell B-ORG\n\nOslo B-LOC\n")
    with pytest.warns(UserWarning, match="never saw the label 'B-ORG'"):
        corpus = load_corpus(
            SequenceLabelingConfig(dataset=(str(labeler.dataset), str(tmp_path / "test.conll")))
        )
    measured = task.scores(namer, corpus.test)
    assert measured["labels"]["ORG"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert sum(measured["confusion"]["B-ORG"].values()) == 1
    assert measured["tokens"] == 3 and measured["token_accuracy"] <= 2 / 3
    assert "B-ORG" in task.report(measured | {"dataset": "x", "part": "all"})
    with pytest.warns(UserWarning, match="'B-ORG'"):
        model = task.build(SequenceLabelingConfig(**labeler.settings), corpus)
    assert model.labels == (*namer.labels, "B-ORG")


# What is refused, before anything is written


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"cell": "peephole_ltsm"}, "`cell` was 'peephole_ltsm'. Did you mean 'peephole_lstm'"),
        ({"units": 0}, "`units` must be a positive integer, got 0"),
        ({"character_units": 0}, "`character_units` must be a positive integer, got 0"),
        ({"max_word_length": 0}, "`max_word_length` must be a positive integer, got 0"),
        ({"epochs": 0}, "`epochs` must be at least 1, got 0"),
        ({"patience": 0}, "`patience` must be at least 1, got 0"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"least_count": 0}, "`least_count` must be at least 1, got 0"),
        ({"least_count": 9999}, "`least_count` is 9999, but no word"),
        ({"learning_rate": float("nan")}, "`learning_rate` must not be negative, got nan"),
        ({"averaging": -1.0}, "`averaging` must not be negative, got -1.0"),
        ({"dropout": 1.0}, "`dropout` must be at least 0 and less than 1, got 1.0"),
        ({"test_fraction": 0.0}, "`test_fraction` must lie between 0 and 1, got 0.0"),
        ({"decoder": "greedy"}, "`decoder` must be one of crf, softmax; got 'greedy'"),
        ({"label_column": 2}, "has no column 2: its rows have 2 columns. `label_column` must be"),
        ({"on_fault": "ignore"}, "`on_fault` must be one of refuse, repair, keep; got 'ignore'"),
        ({"word_vectors": "none.txt"}, "There is no file none.txt"),
        ({"dataset": ("none.conll",)}, "There is no file none.conll"),
        ({"dataset": ("sentences",), "label": "ner"}, "`label` must be one of pos, entity; got"),
        ({"resume": True}, "There is no run in .* to go on with"),
    ],
)
def test_a_wrong_setting_is_named_and_no_folder_is_made(labeler, tmp_path, setting, message):
    out = tmp_path / "run"
    settings = labeler.settings | {"out": str(out), **setting}
    with pytest.raises((ValueError, OSError), match=message):
        task.train(SequenceLabelingConfig(**settings))
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "the 1 2 3 4 5 6 7 8\noslo 1 2 3\n",
            r"glove.txt, line 2: there are 3 numbers.* must be 8",
        ),
        (
            "the 1 2\noslo 3 4\n",
            r"vectors of 2 numbers, and 8 are wanted: .*`embedding_dim`, must be 2",
        ),
        ("", "glove.txt holds no word vectors"),
    ],
)
def test_word_vectors_that_do_not_fit(labeler, tmp_path, content, message):
    (tmp_path / "glove.txt").write_text(content)
    settings = labeler.settings | {"word_vectors": str(tmp_path / "glove.txt")}
    with pytest.raises(ValueError, match=message):
        task.train(SequenceLabelingConfig(out=str(tmp_path / "run"), **settings))
    assert not (tmp_path / "run").exists()


# Measuring


@pytest.fixture(scope="module")
def measured(trained):
    return task.evaluate(trained.folder, show_progress=False)


def test_evaluate_gives_the_numbers_of_the_training(trained, measured):
    assert measured == trained.metrics["test"] | {
        "dataset": " ".join(trained.settings["dataset"]),
        "part": "test",
    }


@pytest.fixture
def loaded(monkeypatch, namer):
    """A model that is loaded already, in the place of the run's: its graph is made once."""
    monkeypatch.setattr(task, "load", lambda run: namer)


def test_evaluate_on_other_files(labeler, loaded, tmp_path):
    """All of one file; in other columns and another scheme; with faults."""
    plain = write_names(tmp_path / "other.conll", 12)

    def measured(*files, **settings):
        data = TagDataConfig(tuple(map(str, files)), **settings)
        return task.evaluate(labeler.folder, data, show_progress=False)

    whole = measured(plain)
    assert (whole["sentences"], whole["part"], whole["dataset"]) == (12, "all", str(plain))
    other, part = tmp_path / "other.tsv", read_parts(TagDataConfig((str(plain),)))["train"]
    blocks = [
        "".join(f"{label}\t{token}\n" for token, label in zip(*rows, strict=True))
        for rows in zip(part.tokens, in_scheme(part, "BIOES").labels, strict=True)
    ]
    other.write_text("\n".join(blocks), "utf-8")
    again = measured(other, token_column=1, label_column=0)
    assert again | {"dataset": ""} == whole | {"dataset": ""}
    faulty = plain.read_text("utf-8").replace("B-PER", "I-PER", 1) + "\nOslo B-LOC\nOslo I-PER\n"
    plain.write_text(faulty, "utf-8")
    with pytest.raises(
        ValueError, match=r"other.conll, line \d+: I-PER stands where BIO has B-PER"
    ):
        measured(plain)
    assert measured(plain, on_fault="repair")["sentences"] == 13


def test_evaluate_on_labels_of_another_kind(labeler, tagger, tmp_path):
    treebank = TagDataConfig((str(write_treebank(tmp_path / "x.conllu", 3, seed=0)),))
    with pytest.raises(ValueError, match=r"'BIO', but the labels are of no scheme: DET, NOUN"):
        task.evaluate(labeler.folder, treebank, show_progress=False)
    names = TagDataConfig((str(labeler.dataset),))
    with pytest.raises(ValueError, match=r"Training had none of the labels .*B-LOC.* It had DET"):
        task.evaluate(tagger.folder, names, show_progress=False)


def test_evaluate_a_keras_file(labeler):
    path = labeler.folder / "model.keras"
    with pytest.raises(ValueError, match=r"`dataset` is needed: .*model.keras does not say"):
        task.evaluate(path, show_progress=False)
    data = TagDataConfig(labeler.settings["dataset"] * 2)
    measured = task.evaluate(path, data, show_progress=False)
    assert (measured["sentences"], measured["part"]) == (128, "test")


def test_scores_of_nothing(namer):
    measured = task.scores(namer, TaggedSentences.of([], []))
    assert (measured["token_accuracy"], measured["entity_f1"], measured["sentences"]) == (0, 0, 0)


def test_the_report(measured):
    head, types, table = task.report(measured).split("\n\n")
    name, value = score_of(measured)
    assert f"{'entity F1' if name == 'entity_f1' else 'token accuracy'} {value:.4f}" in head
    assert (
        f"{measured['tokens']} tokens in {measured['sentences']} sentences (the test part" in head
    )
    rows = [line.split() for line in types.splitlines()]
    assert rows[0][1:] == ["precision", "recall", "F1", "support"]
    for row, (kind, figures) in zip(rows[1:], measured["labels"].items(), strict=True):
        assert row[0] == kind and int(row[4]) == figures["support"]
        assert row[3] == f"{figures['f1']:.4f}"
    rows = [line.split() for line in table.splitlines()]
    assert rows[0][:3] == ["true", "\\", "given"] and rows[0][3:] == list(measured["confusion"])
    for row, (true, counts) in zip(rows[1:], measured["confusion"].items(), strict=True):
        assert row == [true, *map(str, counts.values())]


# Predicting, exporting, loading


def test_predict_makes_sentences_and_tokens_and_takes_texts_as_they_come(namer):
    texts = iter(["Anna Berg was in Oslo. Ole was not!", "", "Ida", "never read"])
    given = task.predict(namer, texts, batch_size=2)
    first = [next(given), next(given)]
    assert [row.tokens for row in first] == [
        ("Anna", "Berg", "was", "in", "Oslo", "."),
        ("Ole", "was", "not", "!"),
    ]
    assert next(texts) == ""
    assert list(task.predict(namer, [" ", "\n"])) == []
    assert first[0].labels == namer.label([first[0].tokens])[0].labels


def test_answers_are_a_line_and_data(namer):
    ((line, data),) = task.answers(namer, ["Oslo was from Leeds"])
    assert list(data) == ["tokens", "labels", "scores", "entities"]
    for entity in data["entities"]:
        assert entity["text"] == " ".join(data["tokens"][entity["start"] : entity["stop"]])
        assert f"[{entity['type']} {entity['text']}]" in line
    assert json.loads(json.dumps(data))["labels"] == list(data["labels"])


def test_a_sentence_on_a_line():
    labelled = task.Labelled(("Anna", "Berg", "in", "Oslo"), ("B-PER", "I-PER", "O", "B-LOC"), ())
    assert task.in_line(labelled, "BIO") == "[PER Anna Berg] in [LOC Oslo]"
    labelled = task.Labelled(("dogs", "bark"), ("NOUN", "VERB"), ())
    assert task.in_line(labelled, None) == "dogs/NOUN bark/VERB"


# Rows of files


class Numbering:
    """In a model's place: labels a token by its sentence and its place in it."""

    def label(self, sentences):
        return [
            task.Labelled(tuple(row), tuple(f"{n}.{place}:{t}" for place, t in enumerate(row)), ())
            for n, row in enumerate(sentences)
        ]


def added(text, token_column=0) -> str:
    return "\n".join(task.label_rows(Numbering(), text.split("\n"), token_column))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("\n\n", "\n\n"),
        ("a\nb\n\nc\n", "a 0.0:a\nb 0.1:b\n\nc 1.0:c\n"),
        ("a NN\n \nb NN", "a NN 0.0:a\n \nb NN 1.0:b"),
        ("a\tNN\n\nb\tNN", "a\tNN\t0.0:a\n\nb\tNN\t1.0:b"),
        # Documents begin with a line of their own, with or without blank lines.
        ("-DOCSTART- -X- O\n\na X O", "-DOCSTART- -X- O\n\na X O 0.0:a"),
        ("a X\n-DOCSTART- X\nb X", "a X 0.0:a\n-DOCSTART- X\nb X 1.0:b"),
        # `#` is a token where it is in a row like the others, and a comment where it is not.
        ("# a comment\na\tX\n#\tX\n\n#\tX", "# a comment\na\tX\t0.0:a\n#\tX\t0.1:#\n\n#\tX\t1.0:#"),
        ("# X\na X\n# X\n\n# X", "# X 0.0:#\na X 0.1:a\n# X 0.2:#\n\n# X 1.0:#"),
        ("# a long comment\na X\n", "# a long comment\na X 0.0:a\n"),
        ("#\na\n", "# 0.0:#\na 0.1:a\n"),
        # A space that does not break is part of a token; several that do part two columns.
        ("1\u00a0000  NN\n\u2028 X", "1\u00a0000  NN 0.0:1\u00a0000\n\u2028 X 0.1:\u2028"),
    ],
)
def test_rows_of_columns(text, expected):
    assert added(text) == expected


def test_rows_of_a_treebank():
    """Ranges and empty nodes are no words, and do not end a sentence."""
    rows = [
        "# text = don't go",
        "1-2\tdon't\t_",
        "1\tdo\t_",
        "2\tn't\t_",
        "2.1\tx\t_",
        "3\tgo\t_",
        "",
        "# sent_id = 2",
        "1\t#\t_",
        "",
    ]
    labels = {2: "0.0:do", 3: "0.1:n't", 5: "0.2:go", 8: "1.0:#"}
    expected = [
        f"{row}\t{labels[number]}" if number in labels else row for number, row in enumerate(rows)
    ]
    assert added("\n".join(rows), token_column=1).split("\n") == expected


def test_rows_with_the_token_at_the_end():
    assert added("NN a\nNN b", token_column=-1) == "NN a 0.0:a\nNN b 0.1:b"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("a X\nb\n", 0, "Line 2 has 1 columns, and the first row 2: 'b'"),
        ("a\n", 3, "Line 1 has no token in column 3, named by `token_column`: 'a'"),
        ("a\n", -2, "Line 1 has no token in column -2, named by `token_column`: 'a'"),
        ("\n1\ta\n2\t \n", 1, "Line 3 has no token in column 1, named by `token_column`"),
    ],
)
def test_a_row_without_a_token_is_told_with_its_line(text, column, message):
    with pytest.raises(ValueError, match=message):
        added(text, column)


def test_many_sentences_are_labelled_some_at_a_time():
    lines = [line for number in range(150) for line in (f"w{number}", "x", "")]
    rows = task.label_rows(Numbering(), lines, batch_size=64)
    assert [row.partition(" ")[0] for row in rows] == lines
    endless = (word for number in range(10**9) for word in (f"w{number}", ""))
    assert next(task.label_rows(Numbering(), endless, batch_size=2)) == "w0 0.0:w0"


def test_load_says_what_is_missing_or_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no trained model at .*none"):
        task.load(tmp_path / "none")
    other = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    other.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="holds a Sequential, not a SequenceLabeler"):
        task.load(tmp_path)


def test_the_settings_of_these_tests_are_settings():
    assert set(LABELING) <= {field.name for field in dataclasses.fields(SequenceLabelingConfig)}
