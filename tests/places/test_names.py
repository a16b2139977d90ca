"""Names of files and folders: of a flow, the fixed part of a pattern, a hint for a wrong one."""

from __future__ import annotations

import os

import pytest

from hygge.places.names import file_name, fixed_prefix, hint_for_missing


def test_two_flows_never_share_a_file_name():
    flows = ["orders", "a/b", "a-b", "a b", "ä", "..", ".", "x" * 200, "x" * 201]
    names = [file_name(flow) for flow in flows]
    assert len(set(names)) == len(flows)
    assert names[0] == "orders"
    assert all("/" not in name and name.strip(".") and len(name) < 200 for name in names)


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [("/lake/*.csv", "/lake"), ("/lake/y=*/a.csv", "/lake"), ("a/b.csv", "a/b.csv"), ("*", "")],
)
def test_the_fixed_part_of_a_pattern_is_the_folder_above_its_first_wildcard(pattern, folder):
    assert fixed_prefix(pattern) == folder


def test_a_missing_path_is_hinted_at_by_the_nearest_name(tmp_path):
    (tmp_path / "users.csv").touch()
    assert hint_for_missing(f"{tmp_path}/user.csv") == f"did you mean {tmp_path}/users.csv?"
    assert hint_for_missing(f"{tmp_path}/zzz") == f"{tmp_path} holds users.csv"


def test_what_is_there_and_no_file_is_not_hinted_at_as_its_own_nearest_name(tmp_path):
    os.mkfifo(tmp_path / "p.db")
    said = "is a pipe, a device or a socket, and no file: give the path of a file"
    assert hint_for_missing(f"{tmp_path}/p.db") == f"{tmp_path}/p.db {said}"
    assert "is a folder, and no file" in hint_for_missing(str(tmp_path))


def test_a_missing_folder_is_hinted_at_by_what_is_above_it(tmp_path):
    missing = f"there is no folder {tmp_path}/a; {tmp_path}"
    assert hint_for_missing(f"{tmp_path}/a/b.csv") == f"{missing} is empty"
    for n in range(9):
        (tmp_path / f"{n}.csv").touch()
    shown = ", ".join(f"{n}.csv" for n in range(8))
    assert hint_for_missing(f"{tmp_path}/a/zzz") == f"{missing} holds {shown}, …"
