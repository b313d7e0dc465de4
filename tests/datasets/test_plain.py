"""Plain text: read in pieces, checked, and cut in two; nothing is lost."""

import math
import sysconfig
from pathlib import Path

import pytest

from kerasrnn import datasets
from kerasrnn.datasets import PlainText

# Data sets that are prepared already, where there are any: the tests download nothing.
TFDS = Path(__file__).parents[3] / "shared" / "tfds"

# Characters of one to four bytes, both line ends, and no line end at the end.
MIXED = "one\r\ntwo é\n\n日本語 🙂🙂\n\x00\ufeff end".encode()


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def whole(text: PlainText, *size: int) -> list[bytes]:
    return [b"".join(pieces) for pieces in text.documents(*size)]


# Reading


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 11, 1000])
def test_pieces_end_where_a_line_or_a_character_does(tmp_path, size):
    for text in (datasets.plain_text(write(tmp_path / "a", MIXED)), PlainText.of([MIXED])):
        (document,) = text.documents(size)
        pieces = list(document)
        assert b"".join(pieces) == MIXED
        assert len(text) == len(MIXED)
        for piece in pieces:
            assert piece.decode()
        for piece in pieces[:-1]:
            assert piece.endswith(b"\n") or b"\n" not in piece
    assert max(map(len, pieces)) <= 2 * size + 3


def test_lines_that_fit_are_not_cut():
    (document,) = PlainText.of(["a line\n" * 1000]).documents(100)
    pieces = list(document)
    assert len(pieces) > 50
    assert all(piece.endswith(b"\n") for piece in pieces)


def test_documents_can_be_read_in_any_order_and_again(tmp_path):
    files = [write(tmp_path / name, name * 3) for name in "abc"]
    text = datasets.plain_text(files)
    first, second, third = text.documents(2)
    assert [b"".join(each) for each in (third, first, second)] == [b"ccc", b"aaa", b"bbb"]
    assert whole(text) == [b"aaa", b"bbb", b"ccc"]


def test_only_a_piece_is_read_at_a_time(tmp_path):
    """The second mebibyte is not UTF-8, and that is not seen before it is asked for."""
    content = b"line\n" * 2**18
    text = datasets.plain_text(write(tmp_path / "a.txt", content + b"\xe9\n"))
    (document,) = text.documents()
    assert len(next(document)) <= 2**20
    with pytest.raises(ValueError, match="not UTF-8"):
        list(document)


@pytest.mark.parametrize("size", [1, 3, 8, 1000])
@pytest.mark.parametrize(
    "content, byte, offset",
    [
        ("é\nnaïve café\n".encode() + "é".encode("latin-1") + b" and more", 0xE9, 16),
        ("\ufeffab".encode() + b"\xff", 0xFF, 5),
        ("日本".encode()[:-1], 0xE6, 3),  # cut off within a character
        ("hi".encode("utf-16"), 0xFF, 0),
        (b"a\xed\xa0\x80", 0xED, 1),  # half of a surrogate pair
    ],
)
def test_what_is_not_utf8_is_refused_with_its_place(tmp_path, content, byte, offset, size):
    path = write(tmp_path / "odd.txt", content)
    message = f"{path} is not UTF-8: byte {byte:#04x} at offset {offset}\\."
    with pytest.raises(ValueError, match=message):
        whole(datasets.plain_text(path), size)


def test_the_place_is_the_one_in_the_file_where_a_document_is_a_part_of_it(tmp_path):
    text = datasets.plain_text(write(tmp_path / "a.txt", b"fine\n" * 10 + b"\xe9\n"))
    end, rest = text.split(0.2)
    assert whole(rest)
    with pytest.raises(ValueError, match="byte 0xe9 at offset 50"):
        whole(end)


def test_a_document_in_memory_has_its_number_in_the_message():
    with pytest.raises(ValueError, match="letters 1 is not UTF-8: byte 0xe9 at offset 3"):
        whole(PlainText.of([b"fine", b"caf\xe9"], "letters"))


def test_the_mark_of_byte_order_is_left_out_at_the_start_of_a_file_only(tmp_path):
    files = [write(tmp_path / n, "\ufeffone\n\ufefftwo") for n in "ab"]
    text = datasets.plain_text(files)
    assert whole(text) == ["one\n\ufefftwo".encode()] * 2
    assert len(text) == 20


def test_a_file_that_became_shorter_is_told(tmp_path):
    path = write(tmp_path / "a.txt", "abcdef")
    text = datasets.plain_text(path)
    path.write_bytes(b"abc")
    with pytest.raises(ValueError, match=r"a\.txt became shorter"):
        whole(text, 2)


def test_a_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        PlainText.of(["a"]).documents(0)


# Files and folders


def test_a_folder_stands_for_its_texts_sorted(tmp_path):
    for name in ("b.txt", "a/z.txt", "c/d/e.txt", "a/y.md", "readme"):
        write(tmp_path / "texts" / name, name)
    other = write(tmp_path / "last.md", "last")
    text = datasets.plain_text([tmp_path / "texts", str(other)])
    assert whole(text) == [b"a/z.txt", b"b.txt", b"c/d/e.txt", b"last"]
    assert text.name == f"{tmp_path / 'texts' / 'a' / 'z.txt'} and 3 more"
    assert datasets.plain_text(str(other)).name == str(other)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nowhere"):
        datasets.plain_text([tmp_path, tmp_path / "nowhere"][1:])
    write(tmp_path / "empty" / "a.md", "text")
    with pytest.raises(FileNotFoundError, match=r"empty holds no texts: .*\.txt"):
        datasets.plain_text(tmp_path / "empty")


def test_empty_files_are_left_out_and_nothing_at_all_is_refused(tmp_path):
    empty, mark = write(tmp_path / "a.txt", ""), write(tmp_path / "b.txt", "\ufeff")
    assert whole(datasets.plain_text([empty, mark, write(tmp_path / "c.txt", "c")])) == [b"c"]
    with pytest.raises(ValueError, match=r"no text in .*a.txt, .*b.txt"):
        datasets.plain_text([empty, mark])
    with pytest.raises(ValueError, match="no text in `paths`"):
        datasets.plain_text([])
    with pytest.raises(ValueError, match="no text in letters"):
        PlainText.of(["", b""], "letters")


# Cutting


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3, 0.5, 0.77, 0.99])
def test_the_end_and_the_rest_are_the_whole(tmp_path, fraction, in_file):
    lines = [f"line {n} é{'.' * (7 * n % 13)}\n" for n in range(100)]
    content = "".join(lines).encode()
    text = (
        datasets.plain_text(write(tmp_path / "a", content)) if in_file else PlainText.of([content])
    )
    end, rest = text.split(fraction, seed=3)
    (first,), (second,) = whole(rest), whole(end)
    assert first + second == content
    assert first.endswith(b"\n")
    assert len(end) == len(second)
    assert abs(len(end) - fraction * len(text)) <= 12 + len("line 99 é\n")
    assert text.split(fraction, seed=4) == (end, rest)


def test_a_part_can_be_cut_again(tmp_path):
    content = "".join(f"{n}\n" for n in range(1000))
    text = datasets.plain_text(write(tmp_path / "a", "\ufeff" + content))
    test, rest = text.split(0.2)
    validation, train = rest.split(0.1)
    assert b"".join(whole(train) + whole(validation) + whole(test)).decode() == content
    assert all(map(len, (test, validation, train)))


def test_documents_stay_whole_where_they_can():
    text = PlainText.of(["a" * 10, "b" * 10, "c" * 10, "d" * 10])
    for fraction, expected in ((0.25, "d"), (0.3, "d"), (0.45, "cd"), (0.9, "bcd")):
        end, rest = text.split(fraction)
        assert whole(end) == [letter.encode() * 10 for letter in expected]
        assert whole(rest) + whole(end) == whole(text)


def test_one_long_line_is_cut_between_two_characters(tmp_path):
    content = "日🙂" * 100
    for text in (PlainText.of([content]), datasets.plain_text(write(tmp_path / "a", content))):
        for fraction in (0.1, 0.101, 0.102, 0.103, 0.104, 0.105):
            end, rest = text.split(fraction)
            assert (b"".join(whole(rest)) + b"".join(whole(end))).decode() == content
            (second,) = whole(end)
            assert second.decode()  # begins with a whole character
            assert abs(len(end) - fraction * len(text)) <= 4
    # A line end that is far off does not count.
    end, _ = PlainText.of(["short\n" + "long" * 1000]).split(0.1)
    assert 395 <= len(end) <= 405
    end, _ = PlainText.of(["short", "long" * 1000]).split(0.1)
    assert 395 <= len(end) <= 405


def test_a_fraction_of_nothing_leaves_all():
    text = PlainText.of(["one\n", "two\n"])
    assert [len(part) for part in text.split(0.0)] == [0, 8]
    assert [len(part) for part in text.split(1.0)] == [8, 0]
    assert text.split(0.0)[0].name == "an empty text"
    for fraction in (1.5, -0.5, math.nan):
        with pytest.raises(
            ValueError, match=rf"`fraction` must lie between 0 and 1, got {fraction}"
        ):
            text.split(fraction)


@pytest.mark.parametrize("text", ["abc", b"abc"])
def test_one_text_is_no_list_of_documents(text):
    with pytest.raises(
        ValueError, match=f"`texts` must be a list of documents, got the one text {text!r}"
    ):
        PlainText.of(text)


# What there is


def test_the_source_of_python():
    parts = datasets.python_source()
    assert list(parts) == ["train"]
    text = parts["train"]
    names = [Path(source.name).name for source in text.sources]
    assert names == sorted(names)
    assert {"argparse.py", "typing.py"} <= set(names)
    assert len(text) > 1_000_000
    shown = dict(zip(names, text.documents(), strict=True))
    module = Path(sysconfig.get_paths()["stdlib"]) / "argparse.py"
    assert b"".join(shown["argparse.py"]) == module.read_bytes()


def test_the_source_of_python_without_what_is_no_text(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    for name, content in (("b.py", "b\n"), ("a.py", "a\n"), ("empty.py", ""), ("odd.py", b"\xe9")):
        write(tmp_path / name, content)
    write(tmp_path / "package" / "c.py", "c\n")
    assert whole(datasets.python_source()["train"]) == [b"a\n", b"b\n"]
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path / "python.zip")})
    with pytest.raises(FileNotFoundError, match=r"python\.zip has no source in it"):
        datasets.python_source()


@pytest.mark.skipif(not (TFDS / "tiny_shakespeare").is_dir(), reason=f"needs sets in {TFDS}")
def test_tiny_shakespeare():
    parts = datasets.tfds_plain_text("tiny_shakespeare", TFDS)
    sizes = {name: len(part) for name, part in parts.items()}
    assert sizes == {"train": 1003854, "validation": 55770, "test": 55770}
    (document,) = whole(parts["train"])
    assert document.startswith(b"First Citizen:\nBefore we proceed")
    assert parts["test"].name == "tiny_shakespeare test 0"


@pytest.fixture
def prepared(tmp_path):
    """Writes a TFDS data set: `prepared("lm1b", "1.1.0", train=[{"text": "a line"}])`."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def write_parts(name, version, **parts):
        folder = tmp_path / name / version
        folder.mkdir(parents=True)
        features = tfds.features.FeaturesDict(
            dict.fromkeys(next(iter(parts.values()))[0], tfds.features.Text())
        )
        for part, rows in parts.items():
            with tf.io.TFRecordWriter(
                str(folder / f"{name}-{part}.tfrecord-00000-of-00001")
            ) as file:
                for row in rows:
                    file.write(features.serialize_example(features.encode_example(row)))
        tfds.folder_dataset.write_metadata(
            data_dir=str(folder),
            features=features,
            split_infos=[
                tfds.core.SplitInfo(name=part, shard_lengths=[len(rows)], num_bytes=0)
                for part, rows in parts.items()
            ],
            filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            check_data=False,
        )
        return tmp_path

    return write_parts


def test_each_row_of_a_tfds_set_is_a_document(prepared):
    rows = [{"text": text} for text in ("one é", "", "two\n", "three")]
    where = prepared("lm1b", "1.1.0", train=rows, test=rows[2:], other=rows)
    parts = datasets.tfds_plain_text("lm1b", where)
    assert list(parts) == ["train", "test"]
    assert whole(parts["train"]) == ["one é".encode(), b"two\n", b"three"]
    assert whole(parts["test"]) == [b"two\n", b"three"]


def test_a_tfds_set_without_one_text_or_something_to_train_on_is_refused(prepared):
    rows = [{"title": "a", "description": "b"}]
    where = prepared("ag_news_subset", "1.0.0", train=rows)
    with pytest.raises(
        ValueError, match=r"must have one text .* got texts \['title', 'description"
    ):
        datasets.tfds_plain_text("ag_news_subset", where)
    where = prepared("lm1b", "1.1.0", test=[{"text": "a"}])
    with pytest.raises(ValueError, match=r"a part 'train', .* the parts \['test'\]"):
        datasets.tfds_plain_text("lm1b", where)


def test_a_tfds_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="lacks the data set 'lm1b'"):
        datasets.tfds_plain_text("lm1b", tmp_path)
