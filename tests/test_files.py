"""Files and folders that are whole or absent."""

import pytest

from kerasrnn._files import written_whole


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "result.txt"
    with written_whole(path) as beside:
        beside.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    with written_whole(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "half"
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["result.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("bug")])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_writer_that_fails_leaves_what_was_there(tmp_path, error, kind):
    path = tmp_path / "result"
    inside = path if kind == "file" else path / "part"
    with written_whole(path) as beside:
        (beside if kind == "file" else beside / "part").parent.mkdir(exist_ok=True)
        (beside if kind == "file" else beside / "part").write_text("old")
    with pytest.raises(type(error)) as raised, written_whole(path) as beside:
        if kind == "folder":
            beside.mkdir()
        (beside if kind == "file" else beside / "part").write_text("half")
        raise error
    assert inside.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result"]
    if isinstance(error, OSError):
        assert str(path) in str(raised.value) and "No space left on device" in str(raised.value)
        assert "what was there is kept" in str(raised.value)


def test_a_folder_that_cannot_be_put_in_its_place_leaves_the_old_one_there(tmp_path):
    """As when the new one is not there to be renamed."""
    path = tmp_path / "result"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(OSError, match="what was there is kept"), written_whole(path):
        pass
    assert (path / "old").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result"]


def test_a_folder_replaces_a_folder(tmp_path):
    for content in ("one", "two"):
        with written_whole(tmp_path / "result") as beside:
            beside.mkdir()
            (beside / content).write_text(content)
    assert [p.name for p in (tmp_path / "result").iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["result"]
