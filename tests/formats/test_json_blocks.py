"""What is seen of a block of JSON lines before it is parsed, beside a plain definition of it."""

from __future__ import annotations

import random
import re

from hygge.formats import json_blocks

_RUN, _EXPONENT = re.compile(rb"[0-9.]+"), re.compile(rb"[eE][-+]?[0-9]+")


def test_lines_and_doubtful_numbers_are_found_wherever_the_pieces_of_a_block_end(monkeypatch):
    monkeypatch.setattr(json_blocks, "_PIECE", 16)
    dice = random.Random(5)
    for _ in range(3_000):
        signs = dice.choice([b"{\n", b"{}\n\n0123456789.eE-+ ax", b"0123456789.eE ", b"01234567 x"])
        block = b"{" + bytes(dice.choices(signs, k=dice.choice([0, 1, 5, 17, 40, 90])))
        lines = block.removesuffix(b"\n").split(b"\n")
        are_objects = all(line.startswith(b"{") for line in lines)
        assert json_blocks.count_objects(block) == (len(lines) if are_objects else None), block
        runs = [(run[0], _EXPONENT.match(block, run.end())) for run in _RUN.finditer(block)]
        found = [
            (run + (exponent[0] if exponent else b"")).decode()
            for run, exponent in runs
            if exponent or len(run) > 15
        ]
        assert json_blocks.doubtful_numbers(block) == found, block
