"""Sentences with labels: CoNLL files, treebanks, TensorFlow Datasets, the built-in ones, and tokens."""

from pathlib import Path

import pytest

from kerasrnn import datasets, tagging
from kerasrnn.datasets import TaggedSentences

# Data sets that are prepared already, where there are any: the tests download nothing.
TFDS = Path(__file__).parents[3] / "shared" / "tfds"


def needs(name: str):
    return pytest.mark.skipif(not (TFDS / name).is_dir(), reason=f"needs {name} in {TFDS}")


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def file(tmp_path):
    """Writes the file `t.conll`."""
    return lambda content: write(tmp_path / "t.conll", content)


def pairs(data: TaggedSentences) -> list[list[tuple[str, str]]]:
    return [list(zip(*rows, strict=True)) for rows in zip(data.tokens, data.labels, strict=True)]


# What tagged sentences are


def test_the_names_are_sorted_and_outside_comes_first():
    data = TaggedSentences.of([["a", "b", "c", "d"]], [["_", "B-X", "O", "B-A"]], ignored={"_"})
    assert data.label_names == ("O", "B-A", "B-X")
    assert data.ignored == {"_"}
    assert data.documents == [0]


@pytest.mark.parametrize(
    ("tokens", "labels", "message"),
    [
        ([["a"], ["b", "c"]], [["X"], ["X"]], r"Sentence 1 has 2 tokens and 1 labels.*'b c'"),
        ([["a"], []], [["X"], []], r"Sentence 1 has 0 tokens"),
        ([["a"]], [["X"], ["X"]], r"1 sentences, labels for 2 and documents for 1"),
        ([["a"], ["b"]], [["X"], ["Y"]], r"Sentence 1 has the label 'Y', not one of X, _"),
    ],
)
def test_what_is_no_set_of_tagged_sentences(tokens, labels, message):
    with pytest.raises(ValueError, match=message):
        TaggedSentences.of(tokens, labels, label_names=["X"], ignored=["_"])


def test_a_split_keeps_every_sentence_with_what_belongs_to_it():
    numbers = range(40)
    data = TaggedSentences.of(
        [[str(n)] for n in numbers],
        [[f"L{n % 3}"] for n in numbers],
        documents=[n // 10 for n in numbers],
    )
    first, rest = data.split(0.2, seed=3)
    assert (len(first), len(rest)) == (8, 32)
    for part in (first, rest):
        places = [int(token) for (token,) in part.tokens]
        assert places == sorted(places)
        assert part.labels == [(f"L{n % 3}",) for n in places]
        assert part.documents == [n // 10 for n in places]
        assert part.label_names == data.label_names
    assert sorted([*first.tokens, *rest.tokens]) == sorted(data.tokens)
    assert data.split(0.2, seed=3)[0] == first
    assert data.split(0.2, seed=4)[0] != first


# CoNLL files

CONLL2003 = """\
-DOCSTART- -X- -X- O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC
British JJ B-NP B-MISC

-DOCSTART- -X- -X- O

# # I-NP O
1 CD I-NP O
Peter NNP I-NP I-PER
-DOCSTART- -X- -X- O
Bonn NNP I-NP I-LOC
"""
ENTITIES = [
    [("EU", "I-ORG"), ("rejects", "O"), ("German", "I-MISC"), ("British", "B-MISC")],
    [("#", "O"), ("1", "O"), ("Peter", "I-PER")],
    [("Bonn", "I-LOC")],
]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n \n"])
def test_a_file_as_of_2003(file, ending, start):
    """Documents, line ends, a byte order mark, no blank line at the end, and `#` as a token."""
    data = datasets.conll_file(file(start + CONLL2003.rstrip().replace("\n", ending)))
    assert pairs(data) == ENTITIES
    assert data.documents == [0, 1, 2]
    assert data.label_names == ("O", "B-MISC", "I-LOC", "I-MISC", "I-ORG", "I-PER")


def test_other_columns(file):
    path = file(CONLL2003)
    assert datasets.conll_file(path, label_column=1).labels[0] == ("NNP", "VBZ", "JJ", "JJ")
    data = datasets.conll_file(path, token_column=-3, label_column=2)
    assert pairs(data)[0][:2] == [("NNP", "I-NP"), ("VBZ", "I-VP")]


def test_another_scheme(file):
    path = file(CONLL2003)
    data = datasets.conll_file(path, target_scheme="BIO")
    assert data.labels[0] == ("B-ORG", "O", "B-MISC", "B-MISC")
    assert data.label_names == ("O", "B-LOC", "B-MISC", "B-ORG", "B-PER")
    bioes = datasets.conll_file(path, scheme="IOB1", target_scheme="BIOES").labels
    assert bioes[0] == ("S-ORG", "O", "S-MISC", "S-MISC")


def test_labels_that_break_their_scheme(file):
    rows = ["a O", "b B-PER", "c I-PER", "", "", "d O", "e I-LOC", "f B-LOC", "", "g B-LOC"]
    path = file("\n".join(rows))
    for scheme in (None, "BIO"):  # BIO fits best: it is found as well.
        with pytest.raises(ValueError, match=r"t.conll, line 7: I-LOC stands where BIO has B-LOC"):
            datasets.conll_file(path, scheme=scheme)
    repaired = datasets.conll_file(path, on_fault="repair")
    assert repaired.labels == [("O", "B-PER", "I-PER"), ("O", "B-LOC", "B-LOC"), ("B-LOC",)]
    kept = datasets.conll_file(path, on_fault="keep")
    assert kept.labels[1] == ("O", "I-LOC", "B-LOC")
    converted = datasets.conll_file(path, target_scheme="BIO", on_fault="keep")
    assert converted.labels == repaired.labels


def test_labels_of_no_scheme(file):
    path = file("the DET\ncat NOUN\n\nran VERB\n")
    assert datasets.conll_file(path).labels == [("DET", "NOUN"), ("VERB",)]
    with pytest.raises(ValueError, match=r"cannot be told from them: DET, NOUN, VERB.*`scheme`"):
        datasets.conll_file(path, target_scheme="BIO")
    with pytest.raises(ValueError, match=r"t.conll, line 1: 'DET' is not a lab"):
        datasets.conll_file(path, scheme="BIO")
    outside = file("the O\ncat O\n")
    assert datasets.conll_file(outside, target_scheme="BIOES").labels == [("O", "O")]


def test_comments_in_a_file_with_tabs(file):
    """`#` with a tab is a token; a token may have spaces, and a space that does not break."""
    content = (
        "# newdoc id = a\n# text = x\n\n#\tO\n10 000\tO\n\n"
        "# newdoc\n#\tO\nà\u00a0la\tB-X\n\n#x\ny\tO\n"
    )
    data = datasets.conll_file(file(content))
    assert pairs(data) == [
        [("#", "O"), ("10 000", "O")],
        [("#", "O"), ("à\u00a0la", "B-X")],
        [("y", "O")],
    ]
    assert data.documents == [0, 1, 1]
    spaced = datasets.conll_file(file("à\u00a0la  B-X\n\u00a0 \t O \n"))
    assert pairs(spaced) == [[("à\u00a0la", "B-X"), ("\u00a0", "O")]]


def test_comments_as_they_are_asked_for(file):
    germeval = "#\tn-tv.de [2005-02-26]\n1\tSchartau\tB-PER\n2\tsagte\tO\n"
    data = datasets.conll_file(file(germeval), token_column=1, comment="#\t")
    assert pairs(data) == [[("Schartau", "B-PER"), ("sagte", "O")]]
    with pytest.raises(ValueError, match=r"line 2: the row has 3 columns, separated by tabs, and"):
        datasets.conll_file(file(germeval), token_column=1)
    spaced = "# part 1\na O\n\n#begin\n# O\n"
    with pytest.raises(ValueError, match=r"line 2: .* by spaces, and must have 3: 'a O'. If it is"):
        datasets.conll_file(file(spaced))
    assert pairs(datasets.conll_file(file(spaced), comment="#")) == [[("a", "O")]]


@pytest.mark.parametrize("row", ["c", "c N O O", "# c"])
def test_a_ragged_row_is_told_with_its_line(file, row):
    path = file(f"-DOCSTART-\n\na N O\n\nb N O\n{row}\nd N O\n")
    with pytest.raises(ValueError, match=r"t.conll, line 6: the row has \d columns.* must have 3"):
        datasets.conll_file(path)


def test_an_empty_cell_is_told_with_its_line(file):
    with pytest.raises(ValueError, match=r"t.conll, line 3: the label is empty"):
        datasets.conll_file(file("# x\na\tO\nb\t\nc\tO\n"))
    with pytest.raises(ValueError, match=r"t.conll, line 2: the token is empty"):
        datasets.conll_file(file("a\tO\n\tO\n"))


def test_columns_that_are_not_there(file):
    path = file("a N O\n")
    with pytest.raises(
        ValueError, match=r"has no column 3: .* 3 columns. `label_column` .*-3 to 2"
    ):
        datasets.conll_file(path, label_column=3)
    with pytest.raises(ValueError, match=r"has no column -4: .*`token_column`"):
        datasets.conll_file(path, token_column=-4)
    with pytest.raises(ValueError, match=r"`token_column` 2 and `label_column` -1 are the same"):
        datasets.conll_file(path, token_column=2)


def test_a_file_that_is_none_or_holds_nothing(file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none"):
        datasets.conll_file(tmp_path / "none")
    for content in ("", "\n\n", "-DOCSTART- O\n"):
        with pytest.raises(ValueError, match=r"t.conll holds no sentence at all"):
            datasets.conll_file(file(content))
    with pytest.raises(ValueError, match=r"t.conll is not UTF-8: byte 0xf1 at offset 7"):
        datasets.conll_file(file(b"a O\nEspa\xf1a B-LOC\n"[1:]))


def test_arguments_that_are_none_of_those_there_are(file):
    path = file("a O\n")
    with pytest.raises(
        ValueError, match=r"`on_fault` must be one of refuse, repair, keep; got 'x'"
    ):
        datasets.conll_file(path, on_fault="x")
    with pytest.raises(ValueError, match=r"scheme must be one of .*'BOI'"):
        datasets.conll_file(path, target_scheme="BOI")
    with pytest.raises(ValueError, match=r"`label` must be one of upos, xpos.*got 'lemma'"):
        datasets.conllu_file(path, "lemma")
    with pytest.raises(ValueError, match=r"`label` must be one of pos, entity; got 'ner'"):
        datasets.sentences("ner")


# CoNLL-U


def conllu(*rows: str) -> str:
    """`"1 Dogs NOUN NNS Number=Plur"`: ID, form, UPOS, and then, if given, XPOS and features."""
    lines = []
    for row in rows:
        if row.startswith("#") or not row:
            lines.append(row)
            continue
        number, form, upos, xpos, feats = (row.split(" ") + ["_"] * 2)[:5]
        lines.append(
            "\t".join([number, form, "_", upos, xpos, feats, "0", f"rel{number}", "_", "_"])
        )
    return "\n".join([*lines, ""])


TREEBANK = conllu(
    "# newdoc id = one",
    "# text = I don't.",
    "1 I PRON PRP Case=Nom",
    "2-3 don't _",
    "2 do AUX VBP",
    "3 n't PART",
    "3.1 go VERB VB",
    "",
    "# sent_id = 2",
    "1 # SYM",
    "2 _ X FW",
    "",
    "# newdoc id = two",
    "1 Go VERB VB Mood=Imp",
)


def test_the_words_of_a_treebank(file):
    data = datasets.conllu_file(file(TREEBANK))
    assert data.tokens == [("I", "do", "n't"), ("#", "_"), ("Go",)]
    assert data.labels == [("PRON", "AUX", "PART"), ("SYM", "X"), ("VERB",)]
    assert data.documents == [0, 0, 1]
    assert data.label_names == ("AUX", "PART", "PRON", "SYM", "VERB", "X")


def test_other_labels_of_a_treebank(file):
    path = file(TREEBANK)
    xpos = datasets.conllu_file(path, "xpos")
    assert xpos.labels == [("PRP", "VBP", "_"), ("_", "FW"), ("VB",)]
    assert xpos.label_names == ("FW", "PRP", "VB", "VBP")
    assert xpos.ignored == {"_"}
    feats = datasets.conllu_file(path, "feats")
    assert feats.label_names == ("Case=Nom", "Mood=Imp", "_")
    assert not feats.ignored
    assert datasets.conllu_file(path, "deprel").labels[0] == ("rel1", "rel2", "rel3")


def test_a_sentence_of_ranges_alone(file):
    path = file(conllu("1 I PRON", "", "1-2 don't _"))
    with pytest.raises(ValueError, match="line 3: the sentence has no syntactic word"):
        datasets.conllu_file(path)


def test_treebanks_that_are_wrong(file):
    with pytest.raises(ValueError, match=r"line 4: the row has 9 columns, separated by tabs.* 10"):
        datasets.conllu_file(file("# a\n" + conllu("1 a X", "2 b X") + "3" + "\t_" * 8))
    with pytest.raises(ValueError, match=r"line 3: the ID is 'b'; it must be a number"):
        datasets.conllu_file(file("# a\n" + conllu("1 a X", "b b X")))
    with pytest.raises(ValueError, match=r"line 1: the row has 1 columns"):
        datasets.conllu_file(file("1 a _ X _ _ 0 root _ _\n"))


# The built-in sentences


def test_the_built_in_sentences():
    entities, parts_of_speech = datasets.sentences(), datasets.sentences("pos")
    types = {f"{letter}-{kind}" for letter in "BI" for kind in ("PER", "LOC", "ORG")}
    for name in ("train", "validation", "test"):
        part, tagged = entities[name], parts_of_speech[name]
        assert len(part) >= 40
        assert part.tokens == tagged.tokens
        assert part.label_names == ("O", *sorted(types))
        assert tagged.label_names == parts_of_speech["train"].label_names
        assert {"NOUN", "VERB", "PUNCT"} < set(tagged.label_names)
        assert not any(tagging.faults(row, "BIO") for row in part.labels)
    assert list(entities) == list(parts_of_speech) == ["train", "validation", "test"]


def test_the_built_in_sentences_are_divided_as_the_tokenizer_does():
    rows = [row for part in datasets.sentences().values() for row in part.tokens]
    same = [tuple(datasets.tokenize(" ".join(row))) == row for row in rows]
    assert sum(same) >= 0.97 * len(rows)


# TensorFlow Datasets


@pytest.fixture
def tfds_set(tmp_path):
    """Writes a TFDS data set: `tfds_set("conll2003", train=[row, ...])`."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def write_parts(name, **parts):
        info = tfds.builder(name, data_dir=str(tmp_path)).info
        folder = Path(info.data_dir)
        folder.mkdir(parents=True)
        for part, rows in parts.items():
            file = folder / f"{info.name}-{part}.tfrecord-00000-of-00001"
            with tf.io.TFRecordWriter(str(file)) as writer:
                for row in rows:
                    blank = {
                        key: [] if feature.shape else "" for key, feature in info.features.items()
                    }
                    encoded = info.features.encode_example({**blank, **row})
                    writer.write(info.features.serialize_example(encoded))
        tfds.folder_dataset.write_metadata(
            data_dir=str(folder),
            features=info.features,
            split_infos=[
                tfds.core.SplitInfo(name=part, shard_lengths=[len(rows)], num_bytes=0)
                for part, rows in parts.items()
            ],
            filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            check_data=False,
        )
        return tmp_path

    return write_parts


def test_conll2003_of_tfds(tfds_set):
    """With the sentence of no token that TFDS has in every part, and with a "dev" part."""
    rows = [
        {"tokens": ["Zoë", "ran"], "pos": ["NNP", "VBD"], "ner": ["B-PER", "O"]},
        {},
        {"tokens": ["Oslo"], "pos": ["NNP"], "ner": ["B-LOC"]},
    ]
    where = tfds_set("conll2003", train=rows, dev=rows[:2], test=rows[1:])
    parts = datasets.tfds_tags("conll2003", where)
    assert list(parts) == ["train", "validation", "test"]
    assert pairs(parts["train"]) == [[("Zoë", "B-PER"), ("ran", "O")], [("Oslo", "B-LOC")]]
    assert pairs(parts["validation"]) == [[("Zoë", "B-PER"), ("ran", "O")]]
    assert pairs(parts["test"]) == [[("Oslo", "B-LOC")]]
    assert {part.label_names for part in parts.values()} == {("O", "B-LOC", "B-PER")}
    assert parts["train"].documents == [0, 1]
    assert datasets.tfds_tags("conll2003", where, "pos")["train"].labels[0] == ("NNP", "VBD")
    with pytest.raises(ValueError, match=r"'conll2003' are .*ner.*: `label` .* got 'upos'"):
        datasets.tfds_tags("conll2003", where, "upos")


def test_a_treebank_of_tfds(tfds_set):
    """The words alone, as of a file: no undivided spelling, no empty node."""
    row = {
        "tokens": ["I", "don't", "do", "n't", "go", "x"],
        "upos": ["PRON", "_", "AUX", "PART", "VERB", "_"],
        "xpos": ["PRP", "None", "VBP", "None", "VB", "FW"],
        "head": ["0", "None", "1", "1", "None", "1"],
    }
    where = tfds_set("universal_dependencies/en_ewt", train=[row])
    (part,) = datasets.tfds_tags("universal_dependencies/en_ewt", where).values()
    assert pairs(part) == [[("I", "PRON"), ("do", "AUX"), ("n't", "PART"), ("x", "_")]]
    assert part.label_names == ("AUX", "PART", "PRON")
    assert part.ignored == {"_"}
    (part,) = datasets.tfds_tags("universal_dependencies/en_ewt", where, "xpos").values()
    assert part.labels == [("PRP", "VBP", "_", "FW")]
    assert part.label_names == ("FW", "PRP", "VBP")


def test_data_sets_that_tfds_or_the_folder_lacks(tmp_path):
    with pytest.raises(ValueError, match=r"no data set 'conll2004'. Did you mean .*'conll2003'"):
        datasets.tfds_tags("conll2004")
    with pytest.raises(
        FileNotFoundError, match=r"lacks the data set 'conll2003'.*tfds.load\('conll"
    ):
        datasets.tfds_tags("conll2003", tmp_path)


@needs("tiny_shakespeare")
def test_a_data_set_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"'tiny_shakespeare' must have `tokens` and a sequence"):
        datasets.tfds_tags("tiny_shakespeare", TFDS)


@pytest.mark.slow
@needs("conll2003")
def test_the_official_conll2003(tmp_path):
    """The sizes that the literature gives; and a file of it is read as TFDS reads it."""
    parts = datasets.tfds_tags("conll2003", TFDS)
    sizes = {name: (len(part), sum(map(len, part.tokens))) for name, part in parts.items()}
    assert sizes == {
        "train": (14_041, 203_621),
        "validation": (3_250, 51_362),
        "test": (3_453, 46_435),
    }
    spans = [span for row in parts["test"].labels for span in tagging.spans(row, "BIO")]
    kinds = [span.type for span in spans]
    counts = {kind: kinds.count(kind) for kind in ("LOC", "MISC", "ORG", "PER")}
    assert counts == {"LOC": 1668, "MISC": 702, "ORG": 1661, "PER": 1617}
    train = parts["train"]
    rows = [
        "\n".join(map(" ".join, zip(tokens, tagging.convert(labels, "BIO", "IOB1"), strict=True)))
        for tokens, labels in zip(train.tokens, train.labels, strict=True)
    ]
    again = datasets.conll_file(write(tmp_path / "t.conll", "\n\n".join(rows)), target_scheme="BIO")
    assert again.tokens == train.tokens
    assert again.labels == train.labels


@pytest.mark.slow
@needs("universal_dependencies")
def test_the_official_english_treebank():
    """Its words are as many as the treebank says of itself."""
    parts = datasets.tfds_tags("universal_dependencies/en_ewt", TFDS)
    sizes = {name: (len(part), sum(map(len, part.tokens))) for name, part in parts.items()}
    assert sizes == {
        "train": (12_544, 204_577),
        "validation": (2_001, 25_147),
        "test": (2_077, 25_094),
    }
    assert len(parts["train"].label_names) == 17
    assert "_" not in {label for row in parts["train"].labels for label in row}


# Plain text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("I don't, can't and won't.", "I do n't , ca n't and wo n't ."),
        ("It\u2019s Anna's; they'll've gone.", "It \u2019s Anna 's ; they 'll 've gone ."),
        ("DON'T! I cannot. We're gonna go", "DO N'T ! I can not . We 're gon na go"),
        ("the dogs' well-known rock'n'roll", "the dogs ' well - known rock'n'roll"),
        ("O'Brien's 1990s", "O'Brien 's 1990s"),
        ("$1,000.50, 12% at 10:30", "$ 1,000.50 , 12 % at 10:30"),
        ("won 6-4 on 3/4, the 3rd", "won 6-4 on 3/4 , the 3rd"),
        ("Mr. A. Berg of the U.S. left at 5 p.m.", "Mr. A. Berg of the U.S. left at 5 p.m."),
        ("milk, etc. Well... no?!", "milk , etc. Well ... no ? !"),
        ("(see https://a.org/b?c=1), a.b@c.org.", "( see https://a.org/b?c=1 ) , a.b@c.org ."),
        ("21 °C \u2013 naïve “Zoë”", "21 °C \u2013 naïve “ Zoë ”"),
        (" \n", ""),
    ],
)
def test_tokens(text, tokens):
    assert datasets.tokenize(text) == tokens.split()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? four.", ["One.", "Two!", "Three? four."]),
        ('He said "No." She left. 3 stayed.', ['He said "No."', "She left.", "3 stayed."]),
        (
            "Dr. B. Berg of the U.S. Navy, Oct. 3. Yes",
            ["Dr. B. Berg of the U.S. Navy, Oct. 3.", "Yes"],
        ),
        (
            "A headline\n\nand the\ntext... Éva (yes.) (No.)",
            ["A headline", "and the\ntext...", "Éva (yes.)", "(No.)"],
        ),
        ("3.5 and e.g. this", ["3.5 and e.g. this"]),
        ("  ", []),
    ],
)
def test_sentences_of_a_text(text, sentences):
    assert datasets.split_sentences(text) == sentences
    assert "".join("".join(sentences).split()) == "".join(text.split())


@pytest.mark.slow
@needs("universal_dependencies")
def test_the_tokenizer_on_the_english_treebank():
    """What its docstring says."""
    import tensorflow_datasets as tfds

    builder = tfds.builder("universal_dependencies/en_ewt", data_dir=str(TFDS))
    both = found = true = 0
    for row in tfds.as_numpy(builder.as_dataset(split="train")):
        words = [word.decode() for word in row["tokens"][row["head"] != b"None"]]
        ours, theirs = (_ends(rows) for rows in (datasets.tokenize(row["text"].decode()), words))
        both, found, true = both + len(ours & theirs), found + len(ours), true + len(theirs)
    assert 2 * both / (found + true) > 0.985


def _ends(tokens: list[str]) -> set[tuple[int, int]]:
    """Where the tokens begin and end in the text without its spaces."""
    places, place = set(), 0
    for token in tokens:
        size = len("".join(token.split()))
        places.add((place, place + size))
        place += size
    return places
