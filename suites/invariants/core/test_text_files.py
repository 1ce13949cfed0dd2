"""Files that people write: read whole, or refused in one line."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.text_files import UnreadableFile, read_json, read_toml

DEEP = 100_000
FORMS = {
    "JSON": (read_json, "[" * DEEP + "]" * DEEP, '{"a": '),
    "TOML": (read_toml, f"a = {'[' * DEEP}{']' * DEEP}", "a = "),
}
every_form = pytest.mark.parametrize("form", FORMS)


def _refusal(read, path) -> str:
    with pytest.raises(UnreadableFile) as refusal:
        read(path)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@every_form
def test_a_damaged_file_is_named(form, tmp_path):
    """A file that is nested too deeply, cut short or no text is refused by its path and why."""
    read, deep, cut = FORMS[form]
    path = tmp_path / "file"
    for content, said in (
        (deep.encode(), f"is not readable as {form}: nested too deeply"),
        (cut.encode(), f"is not readable as {form}: "),
        (b"\xff\xfe\x00", "is no text in UTF-8"),
        (b"\x7fELF\x01\x01\x01\x00", f"is not readable as {form}: "),
        (b"a = " + b"1" * 10_000 if form == "TOML" else b"1" * 10_000, f"is not readable as {form}: "),
    ):
        path.write_bytes(content)
        assert said in _refusal(read, path)


@every_form
def test_what_is_no_file_is_named(form, tmp_path):
    """A folder, a missing file and one that may not be read are refused by their paths."""
    read = FORMS[form][0]
    assert "Is a directory" in _refusal(read, tmp_path)
    assert "No such file" in _refusal(read, tmp_path / "none")
    locked = tmp_path / "locked"
    locked.write_text("a = 1")
    locked.chmod(0)
    if not os.access(locked, os.R_OK):  # root may read all
        assert "Permission denied" in _refusal(read, locked)


@given(st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.lists(st.booleans()))))
def test_json_is_read_back(tmp_path_factory, value):
    """What was written as JSON is read as it was."""
    path = tmp_path_factory.mktemp("json") / "file.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    assert read_json(path) == value
