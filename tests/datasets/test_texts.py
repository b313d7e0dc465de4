"""Reading tables, folders and TensorFlow Datasets; and what is said of those that are wrong."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from kerasrnn import datasets
from kerasrnn.datasets import LabelledTexts

# Data sets that are prepared already, where there are any: the tests download nothing.
TFDS = Path(__file__).parents[3] / "shared" / "tfds"

needs_imdb = pytest.mark.skipif(
    not (TFDS / "imdb_reviews").is_dir(), reason=f"needs imdb_reviews in {TFDS}"
)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def named(part: LabelledTexts) -> list[tuple[str, str]]:
    return [(t, part.label_names[n]) for t, n in zip(part.texts, part.labels, strict=True)]


# Tables


def test_csv_with_quotes_commas_and_newlines_in_a_text(tmp_path):
    content = 'text,label\n"He said ""no"", twice.",bad\n"one line\nand another",good\nplain,good\n'
    part = datasets.text_table(write(tmp_path / "t.csv", content))
    assert part.label_names == ("bad", "good")
    assert named(part) == [
        ('He said "no", twice.', "bad"),
        ("one line\nand another", "good"),
        ("plain", "good"),
    ]
    assert part.labels.dtype == np.int32


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_csv_with_a_byte_order_mark_and_either_line_ending(tmp_path, ending):
    content = "\ufeff" + ending.join(["text,label", "é 🙂,yes", "b,no"])  # no last line end
    part = datasets.text_table(write(tmp_path / "t.CSV", content))
    assert named(part) == [("é 🙂", "yes"), ("b", "no")]


def test_in_a_tsv_a_quotation_mark_is_a_quotation_mark(tmp_path):
    content = 'text\tlabel\n"Great" film, they said\tbad\nit\'s 12" long\tgood\n"open\tgood\n'
    part = datasets.text_table(write(tmp_path / "t.tsv", content))
    assert part.texts == ['"Great" film, they said', "it's 12\" long", '"open']


def test_other_columns_and_their_order(tmp_path):
    content = "stars,review,id\n 1 ,poor,7\n5,fine,8\n"
    part = datasets.text_table(write(tmp_path / "t.csv", content), "review", "stars")
    assert named(part) == [("poor", "1"), ("fine", "5")]
    assert part.label_names == ("1", "5")


def test_a_missing_column_is_told_with_those_there_are(tmp_path):
    path = write(tmp_path / "t.csv", "body,label\na,b\n")
    with pytest.raises(ValueError, match=r"t.csv.*no column 'text'; .*'body', 'label'"):
        datasets.text_table(path)
    with pytest.raises(ValueError, match=r"no column 'stars'; .*'body', 'label'"):
        datasets.text_table(path, "body", "stars")


def test_a_short_row_is_told_with_its_line(tmp_path):
    path = write(tmp_path / "t.csv", "text,label\na,b\nonly a text\n")
    with pytest.raises(ValueError, match=r"t.csv, line 3: the row ends before the column 'label'"):
        datasets.text_table(path)


def test_a_row_that_is_too_long_is_told_with_its_line(tmp_path):
    """Else a text with a comma would lose all that comes after it."""
    path = write(tmp_path / "t.csv", "label,text\ngood,fine\nbad,dull, and long\n")
    with pytest.raises(ValueError, match=r"t.csv, line 3: the row has more cells than"):
        datasets.text_table(path)


@pytest.mark.parametrize("empty", ["", '""', "   ", '" \n "'])
def test_an_empty_text_is_told_with_file_and_line(tmp_path, empty):
    path = write(tmp_path / "t.csv", f"text,label\na,b\n{empty},b\n")
    line = 3 + empty.count("\n")
    with pytest.raises(ValueError, match=rf"t.csv, line {line}: the text is empty"):
        datasets.text_table(path)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_a_file_that_is_not_utf8_is_told_with_the_offset(tmp_path, name):
    path = write(tmp_path / name, b"text,label\ncaf\xe9,good\n")
    with pytest.raises(ValueError, match=rf"{name} is not UTF-8: byte 0xe9 at offset 14.*iconv"):
        datasets.text_table(path)


@pytest.mark.parametrize("content", ["", "text,label\n", "\n\n"])
def test_a_table_without_rows(tmp_path, content):
    with pytest.raises(ValueError, match=r"t.csv.*no text at all"):
        datasets.text_table(write(tmp_path / "t.csv", content))


def test_a_broken_table_is_told_with_its_line(tmp_path):
    path = write(tmp_path / "t.csv", 'text,label\na,b\n"open,b\nand never closed,c\n')
    with pytest.raises(ValueError, match=r"t.csv, line 4: not a well-formed table"):
        datasets.text_table(path)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none.csv"):
        datasets.text_table(tmp_path / "none.csv")


def test_a_text_longer_than_the_csv_module_likes(tmp_path):
    long = "word " * 40_000
    part = datasets.text_table(write(tmp_path / "t.csv", f"text,label\n{long},good\n"))
    assert part.texts == [long]


def test_an_empty_label_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"t.csv, line 3: the label is empty"):
        datasets.text_table(write(tmp_path / "t.csv", "text,label\ngood film,yes\nwhat film,\n"))


# Folders


def folder(path: Path, **files: str) -> Path:
    """`neg__1="dull"` is the file `neg/1.txt`."""
    for name, text in files.items():
        write(path / (name.replace("__", "/") + ".txt"), text)
    return path


def test_a_folder_for_each_label(tmp_path):
    parts = datasets.text_folder(folder(tmp_path, a__1="one\nmore", a__2="two", b__1="three"))
    assert list(parts) == ["train"]
    assert named(parts["train"]) == [("one\nmore", "a"), ("two", "a"), ("three", "b")]


def test_the_layout_of_the_imdb_archive(tmp_path):
    """With its names made words, and without its texts that have no label."""
    files = {
        f"{part}__{label}__{number}": f"{part} {label} {number}"
        for part, label, number in itertools.product(("train", "test"), ("neg", "pos"), "01")
    }
    write(tmp_path / "train" / "labeledBow.feat", "what the archive holds besides")
    folder(tmp_path, **files, train__unsup__0="no label", train__unsup__1="none either")
    parts = datasets.text_folder(tmp_path)
    assert list(parts) == ["train", "test"]
    for name, part in parts.items():
        assert part.label_names == ("negative", "positive")
        assert named(part) == [
            (f"{name} {short} {number}", label)
            for short, label in (("neg", "negative"), ("pos", "positive"))
            for number in "01"
        ]


def test_train_without_test(tmp_path):
    parts = datasets.text_folder(folder(tmp_path, train__no__1="a", train__yes__1="b"))
    assert list(parts) == ["train"]


def test_an_empty_label_folder_does_not_shift_the_names(tmp_path):
    """Nor is one that holds no text a label."""
    (tmp_path / "a_note").mkdir()
    part = datasets.text_folder(folder(tmp_path, neg__1="dull", pos__1="great"))["train"]
    assert part.label_names == ("negative", "positive")
    assert named(part) == [("dull", "negative"), ("great", "positive")]


def test_a_label_that_only_the_test_part_has(tmp_path):
    folder(tmp_path, train__a__1="x", train__b__1="y", test__a__1="z", test__c__1="w")
    with pytest.raises(ValueError, match=r"1.txt: the label is 'c', not one of a, b"):
        datasets.text_folder(tmp_path)


def test_a_test_part_that_lacks_a_label_keeps_the_numbers(tmp_path):
    folder(tmp_path, train__neg__1="x", train__pos__1="y", test__pos__1="z")
    test = datasets.text_folder(tmp_path)["test"]
    assert named(test) == [("z", "positive")]


def test_an_empty_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"a/2.txt: the text is empty"):
        datasets.text_folder(folder(tmp_path, a__1="x", a__2=" \n"))


def test_a_file_of_a_folder_that_is_not_utf8_is_named(tmp_path):
    write(tmp_path / "a" / "1.txt", b"ab\xff")
    with pytest.raises(ValueError, match=r"1.txt is not UTF-8: byte 0xff at offset 2"):
        datasets.text_folder(tmp_path)


def test_an_empty_folder_and_none_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no texts: there must be a folder for each"):
        datasets.text_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*none"):
        datasets.text_folder(tmp_path / "none")


# Lines


def test_lines_end_where_a_line_feed_is_and_nowhere_else(tmp_path):
    content = "\ufeffone\r\n\ntwo\x0c\x85\u2028two\nlast"
    lines = datasets.lines_utf8(write(tmp_path / "t.txt", content))
    assert list(lines) == ["one", "", "two\x0c\x85\u2028two", "last"]
    assert list(datasets.lines_utf8(write(tmp_path / "none.txt", ""))) == []


# Splitting


def test_a_split_keeps_the_shares_and_every_text(tmp_path):
    labels = np.array([0] * 30 + [1] * 10, np.int32)
    data = LabelledTexts([str(n) for n in range(40)], labels, ("no", "yes"))
    first, rest = data.split(0.2, seed=3)
    assert np.bincount(first.labels).tolist() == [6, 2]
    assert sorted(map(int, [*first.texts, *rest.texts])) == list(range(40))
    for part in (first, rest):
        np.testing.assert_array_equal(part.labels, labels[[int(text) for text in part.texts]])
    assert data.split(0.2, seed=3)[0].texts == first.texts
    assert data.split(0.2, seed=4)[0].texts != first.texts


# TensorFlow Datasets


def test_an_unknown_data_set_is_told_with_the_nearest():
    with pytest.raises(ValueError, match=r"no data set 'imdb_review'. Did you mean 'imdb_reviews'"):
        datasets.tfds_texts("imdb_review")


def test_a_folder_that_lacks_the_data_set_is_told_with_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        datasets.tfds_texts("imdb_reviews", tmp_path)
    message = str(raised.value)
    assert str(tmp_path) in message and "lacks the data set 'imdb_reviews'" in message
    assert "tfds.load('imdb_reviews'" in message
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not (TFDS / "tiny_shakespeare").is_dir(), reason=f"needs sets in {TFDS}")
def test_a_data_set_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"'tiny_shakespeare' must have one text and one label"):
        datasets.tfds_texts("tiny_shakespeare", TFDS)


@pytest.fixture
def sst2(tmp_path):
    """Writes a TFDS data set of the name "glue/sst2": `sst2(train=[("a film", 1)], ...)`."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def write_parts(**parts):
        folder = tmp_path / "glue" / "sst2" / "2.0.0"
        folder.mkdir(parents=True)
        features = tfds.features.FeaturesDict(
            {
                "sentence": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=["negative", "positive"]),
                "idx": tf.int32,
            }
        )
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        for part, rows in parts.items():
            with tf.io.TFRecordWriter(str(folder / f"glue-{part}.tfrecord-00000-of-00001")) as file:
                for number, (text, label) in enumerate(rows):
                    row = {"sentence": text, "label": label, "idx": number}
                    file.write(features.serialize_example(features.encode_example(row)))
        tfds.folder_dataset.write_metadata(
            data_dir=str(folder),
            features=features,
            split_infos=[
                tfds.core.SplitInfo(name=part, shard_lengths=[len(rows)], num_bytes=0)
                for part, rows in parts.items()
            ],
            filename_template=template,
            check_data=False,
        )
        return tmp_path

    return write_parts


def test_a_test_part_with_secret_labels_is_not_measured_on(sst2):
    """As GLUE's: every label in it is -1. The validation part takes its place."""
    shown = [("dull", 0), ("great", 1)]
    where = sst2(train=shown * 2, validation=shown, test=[("secret", -1)] * 3)
    parts = datasets.tfds_texts("glue/sst2", where)
    assert {name: len(part) for name, part in parts.items()} == {"train": 4, "test": 2}
    assert named(parts["test"]) == [("dull", "negative"), ("great", "positive")]


def test_a_validation_part_is_one(sst2):
    shown = [("dull", 0), ("great", 1)]
    parts = datasets.tfds_texts("glue/sst2", sst2(train=shown * 3, validation=shown, test=shown))
    assert list(parts) == ["train", "validation", "test"]


def test_secret_labels_without_a_validation_part_and_in_training(sst2, tmp_path):
    where = sst2(train=[("dull", 0), ("great", 1)], test=[("secret", -1)])
    assert list(datasets.tfds_texts("glue/sst2", where)) == ["train"]


def test_secret_labels_in_training_are_refused(sst2):
    with pytest.raises(ValueError, match="keeps the labels of its training part secret"):
        datasets.tfds_texts("glue/sst2", sst2(train=[("secret", -1)]))


def test_empty_texts_of_a_data_set_are_left_out_and_counted(sst2):
    where = sst2(train=[("dull", 0), (" ", 1), ("", 0), ("great", 1)])
    with pytest.warns(UserWarning, match="2 texts of the part 'train' are empty"):
        parts = datasets.tfds_texts("glue/sst2", where)
    assert named(parts["train"]) == [("dull", "negative"), ("great", "positive")]


@needs_imdb
def test_the_first_of_the_official_imdb_reviews(tmp_path):
    """The real data set, cut to its first rows, through TFDS as every other."""
    import tensorflow as tf

    count, version = 20, Path("imdb_reviews", "plain_text", "1.0.0")
    source, target = TFDS / version, tmp_path / version
    for name in ("features.json", "label.labels.txt"):
        write(target / name, (source / name).read_bytes())
    info = json.loads((source / "dataset_info.json").read_text("utf-8"))
    records = {}
    for split in info["splits"]:
        split["shardLengths"] = [str(count)]
        name = f"imdb_reviews-{split['name']}.tfrecord-00000-of-00001"
        records[split["name"]] = list(tf.data.TFRecordDataset(str(source / name)).take(count))
        with tf.io.TFRecordWriter(str(target / name)) as writer:
            for record in records[split["name"]]:
                writer.write(record.numpy())
    write(target / "dataset_info.json", json.dumps(info))

    parts = datasets.tfds_texts("imdb_reviews", tmp_path)
    assert list(parts) == ["train", "test"]  # and nothing of the reviews without a label
    for name, part in parts.items():
        assert part.label_names == ("negative", "positive")
        rows = [tf.train.Example.FromString(row.numpy()).features.feature for row in records[name]]
        assert part.texts == [row["text"].bytes_list.value[0].decode() for row in rows]
        assert part.labels.tolist() == [row["label"].int64_list.value[0] for row in rows]


@needs_imdb
@pytest.mark.slow
def test_the_official_imdb_reviews():
    """Read whole."""
    parts = datasets.tfds_texts("imdb_reviews", TFDS)
    assert {name: len(part) for name, part in parts.items()} == {"train": 25000, "test": 25000}
    for part in parts.values():
        assert np.bincount(part.labels).tolist() == [12500, 12500]
