"""The fast test of a block of CSV finds no fault exactly where a look at each place finds none."""

import random
from itertools import pairwise

import pytest

from hygge.formats import csv_bits
from hygge.formats.csv_syntax import Check, Dialect, Malformed

VALUES = (b"abc", b"", b'"x""y"', b'""', b'"a,\nb"', b'"a\r\nb"', b'""""', b"a" * 70, b'"' * 66)


def random_text(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        signs = rng.choice([b'ab,"\n', b'a,\r\n"', b'a,"\r\n\0', b"aaaaaaaa,\r\n"])
        return bytes(rng.choices(signs, k=rng.randrange(1, 200)))
    end = rng.choice([b"\n", b"\r\n", b"\r"])
    rows = range(rng.randrange(1, 12))
    text = b"".join(b",".join(rng.choices(VALUES, k=3)) + end for _ in rows)
    if rng.random() < 0.5:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice([b'"', b"\r", b"x", b"\n"]) + text[at + rng.randrange(2) :]
    return text


def checked(blocks: list[bytes], dialect: Dialect, one_column: bool, line_end: str) -> list[object]:
    check = Check(dialect, one_column, True, line_end)
    states: list[object] = []
    try:
        for block in blocks:
            check.feed(block)
            states.append((check.is_inside, check.is_inside and check._opened_at))
        check.finish()
    except Malformed as fault:
        states.append((fault.fault, fault.offset))
    return states


@pytest.mark.parametrize("piece", [64, 128, 1 << 20])
def test_the_fast_test_and_the_look_at_each_place_agree(monkeypatch, piece):
    rng = random.Random(piece)
    monkeypatch.setattr(csv_bits, "_PIECE_BYTES", piece)
    fast = Check._is_surely_right
    was_right = []

    def recorded(self, plain):
        was_right.append(fast(self, plain))
        return was_right[-1]

    for _ in range(2_000):
        text = random_text(rng)
        cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(4)))
        pieces = zip([0, *cuts], [*cuts, len(text)], strict=True)
        blocks = [text[start:end] for start, end in pieces if start < end]
        how = Dialect(",", rng.choice(['"', '"', ""])), rng.random() < 0.3, rng.choice(["", "\n"])
        monkeypatch.setattr(Check, "_is_surely_right", lambda *_: False)
        slowly = checked(blocks, *how)
        monkeypatch.setattr(Check, "_is_surely_right", recorded)
        assert checked(blocks, *how) == slowly, (blocks, how)
    assert sum(was_right) > len(was_right) / 3  # else it tests nothing


@pytest.mark.parametrize("quote", [b"", b'"'])
def test_line_ends_that_are_counted_are_those_that_are_listed(quote):
    rng = random.Random(7)
    for _ in range(300):
        block = random_text(rng) * rng.choice([1, 1, 40])
        listed = csv_bits.line_ends(block, quote).tolist()
        counted = csv_bits.LineEnds(block, quote)
        assert counted.count == len(listed)
        assert [counted.place(n) for n in range(-1, len(listed))] == [-1, *listed], block
        lengths = [after - before for before, after in pairwise([-1, *listed])]
        assert counted.has_short_lines() == any(length <= 2 for length in lengths), block


def test_bytes_are_counted_in_any_part(monkeypatch):
    monkeypatch.setattr(csv_bits, "_PIECE_BYTES", 64)
    block = random_text(random.Random(1)) * 9
    for start, end in ((0, None), (3, 90), (5, 16), (17, len(block))):
        assert csv_bits.count_of(block, b"\n", start, end) == block.count(b"\n", start, end)
