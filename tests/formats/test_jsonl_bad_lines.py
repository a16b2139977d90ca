"""A line that is no JSON is named in plain words, with what to do about it."""

from __future__ import annotations

import pytest

from hygge.errors import UnfitValue
from tests.formats.test_jsonl import read

BAD_LINES = {
    "utf-16 without a byte order mark": ('{"a":1}\n'.encode("utf-16-le"), "a NUL", "utf-16-le"),
    "an array": (b'[{"a":1},\n{"a":2}]\n', "no JSON from character 10 on", "jq -c '.[]'"),
    "an object on several lines": (b'{\n "a": 1\n}\n', "no JSON from character 2 on", "jq -c"),
    "two objects on a line": (b'{"a":1}{"a":2}\n', "more stands after", "nothing after it"),
    "a carriage return alone": (b'{"a":1}\r{"a":2}\r', "more stands after", "nothing after it"),
    "a comma after an object": (b'{"a":1},\n', "more stands after", "nothing after it"),
    "a line that is cut off": (b'{"a":1', "no JSON from character 7 on", "cut off"),
    "a mark within": (b'\xef\xbb\xbf\xef\xbb\xbf{"a":1}\n', "a byte order mark", "join"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_line_that_is_no_json_is_named_in_plain_words(tmp_path, case):
    content, message, hint = BAD_LINES[case]
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(UnfitValue, match=f"line 1: {message}") as caught:
        read(path)
    assert hint in caught.value.hint
