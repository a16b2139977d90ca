"""Ranges of bytes own lines, and files become one."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hygge.formats.text import (
    SUFFIX_OF,
    CompressedFile,
    Compression,
    TextReader,
    byte_ranges,
    concatenate,
    owned_lines,
)


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.text("ab,é", max_size=12), max_size=30),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    borders=st.lists(st.integers(0, 400), max_size=6),
)
def test_ranges_with_any_borders_own_each_line_once(tmp_path_factory, lines, end, last, borders):
    path = tmp_path_factory.mktemp("r") / "a.txt"
    content = ("head" + end + end.join(lines) + (end if last else "")).encode()
    path.write_bytes(content)
    first = min(len(content), 4 + len(end))
    at = sorted({first, len(content), *(b for b in borders if first < b < len(content))})
    parts = [owned_lines(str(path), a, b, first) for a, b in pairwise(at)]
    assert b"".join(content[a:b] for a, b in parts) == content[first:]
    assert all(a == first or content[a - 1 : a] == b"\n" for a, b in parts if a < b)


def test_cut_covers_everything_once():
    assert list(byte_ranges(5, 5, 10)) == [(5, 5)]
    assert list(byte_ranges(0, 10, 4)) == [(0, 3), (3, 6), (6, 10)]


@pytest.mark.parametrize("compression", get_args(Compression))
def test_parts_without_a_head_become_one_text(tmp_path, compression):
    paths = [str(tmp_path / f"{n}.txt{SUFFIX_OF[compression]}") for n in range(4)]
    for path, content in zip(paths[:3], [b"a\n", b"", b"b\nc"], strict=True):
        out = CompressedFile(path, compression)
        out.stream.write(content)
        out.close()
    concatenate(paths[:3], paths[3], compression)
    with TextReader(paths[3]) as text:
        assert [text.readline(), text.readline(), text.readline(), text.readline()] == [
            b"a\n", b"b\n", b"c", b""
        ]  # fmt: skip


def test_a_line_end_of_two_signs_on_the_border_of_a_read_is_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * (64 * 1024 - 1) + b"\r\nlast\r")
    with TextReader(str(path)) as text:
        assert [len(line) for line in iter(text.readline, b"")] == [64 * 1024 + 1, 5]
