"""What reaches the disk is whole, or not there: the functions that everything is written with."""

import re

import pytest

from unet.files import check_writable, replacing, vacant


def names(directory):
    return sorted(p.name for p in directory.iterdir())


def test_a_file_takes_the_place_of_the_one_before(tmp_path):
    path, before = tmp_path / "new" / "a.txt", tmp_path / "new" / "before.txt"
    for text in ("one", "two"):
        with replacing(path) as partial:
            partial.write_text(text)
            assert partial != path and partial.suffix == ".txt" and partial.parent == path.parent
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text and names(path.parent) == ["a.txt"]
    with replacing(path, before) as partial:
        partial.write_text("three")
    assert (path.read_text(), before.read_text()) == ("three", "two")
    with replacing(tmp_path / "first.txt", tmp_path / "none.txt") as partial:
        partial.write_text("one")
    assert names(tmp_path) == ["first.txt", "new"]  # nothing was there that could be kept


def test_what_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("two")
        raise ZeroDivisionError
    with pytest.raises(OSError, match=f"^{re.escape(str(path))} can't be written"), replacing(path):
        pass  # nobody wrote
    assert path.read_text() == "one" and names(tmp_path) == ["a.txt"]


def test_a_directory_is_made_or_refused_by_name(tmp_path):
    check_writable(tmp_path / "a" / "b")
    check_writable(tmp_path / "a")
    assert names(tmp_path / "a") == ["b"]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/c can't be written to"):
        check_writable(tmp_path / "file" / "c")


def test_a_vacant_name_is_held_from_the_start(tmp_path):
    path = tmp_path / "new" / "a.png"
    with vacant(path) as first, vacant(path) as second, vacant(path) as third:
        assert [p.name for p in (first, second, third)] == ["a.png", "a-2.png", "a-3.png"]
        assert names(path.parent) == ["a-2.png", "a-3.png", "a.png"]
        second.write_text("picture")
    assert names(path.parent) == ["a-2.png"]  # nothing came of the others
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match="file/a.png can't be written"),
        vacant(tmp_path / "file/a.png"),
    ):
        pass
