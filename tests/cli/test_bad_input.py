"""Bad input, as a person meets it on the command line: one clear error with a hint, exit code 1
(2 for usage), as early as it can be known, the store byte for byte as it was, no traceback."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hygge import registry
from hygge.cli.main import main
from tests.cli.bad_inputs import CASES, CHECK, HOMES, OWN, RUN, USERS, home_class, parquet


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file and directory below, with its bytes; the journal keeps its own."""
    # SQLite keeps a log of nothing and its index beside a database that was only read.
    passing = ("__pycache__", ".pyc", "-shm", "-wal")
    paths = (
        path
        for path in folder.rglob("*")
        if not path.name.endswith(passing) and ".hygge" not in path.relative_to(folder).parts
    )
    return {str(p): p.read_bytes() if p.is_file() else None for p in paths}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own", None)
    registry.find.cache_clear()


def said(capsys: pytest.CaptureFixture[str], *given: str) -> tuple[int, str]:
    code = main(list(given))
    out, err = capsys.readouterr()
    return code, out + err


def written(home: str, store: str = "out", rest: str = "") -> None:
    Path("flows.yml").write_text(f"flows:\n  f:\n    home: {home}\n    store: {store}\n{rest}")


def refused(capsys: Any, found: int, words: tuple[str, ...]) -> str:
    """check, plan and run: quiet before `found`, then one error with a hint; nothing is changed."""
    before = snapshot(Path.cwd())
    commands = (["check"], ["plan"], ["run", "--inline", "--quiet"])
    for at, command in enumerate(commands):
        code, text = said(capsys, *command, "flows.yml")
        assert code == (1 if at >= found else 0), f"{command}: {text}"
        if at >= found:
            assert text.count("error: ") == 1, text
            for word in words:
                assert any(each in text for each in word.split("|")), (word, text)
            assert "hint: " in text
            assert "Traceback" not in text
            assert "f: " in text or "flow 'f': " in text or "flows.yml:" in text
            assert "hushhush" not in text
        assert snapshot(Path.cwd()) == before
    return text


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bad_input_is_one_clear_error_and_the_store_stays_as_it_was(case, here, capsys):
    if case.store == "out":  # the same flow has filled the store before
        parquet("good.parquet", id=[1, 2])(here)
        written("good.parquet")
        assert main(["flows.yml", "--inline", "--quiet"]) == 0
        capsys.readouterr()
        (here / "good.parquet").unlink()
    case.make(here)
    written(case.home, case.store, case.rest)
    refused(capsys, case.found, case.words)


@pytest.mark.parametrize(("body", "words"), HOMES.values(), ids=HOMES.keys())
def test_an_own_home_that_misbehaves_is_named_with_the_line_that_did_it(body, words, here, capsys):
    (here / "own.py").write_text(home_class(body))
    written("{type: 'own:Mine'}")
    refused(capsys, RUN, words)


@pytest.mark.parametrize(
    ("code", "found", "words"),
    [
        ("class Mine(:\n", CHECK, ("importing own failed: SyntaxError", "own.py, line 3")),
        ("import nowhere_at_all\n", CHECK, ("'nowhere_at_all'", "install what own imports")),
        ("class Other(Home):\n    async def read_batches(self): yield 1\n", CHECK, ("class Mine",)),
        ("class Mine: ...\n", CHECK, ("Mine is not a Home", "derive it")),
        ("class Mine(Home): ...\n", CHECK, ("neither read_batches", "async def read_batches")),
        (
            "class Mine(Home):\n    def __init__(self): raise ValueError('no')\n"
            "    async def read_batches(self): yield 1\n",
            CHECK,
            ("Mine cannot be made: ValueError: no", "own.py:4"),
        ),
        (
            "class Mine(Home):\n    def read_batches(self): return None\n",
            RUN,
            ("gives a NoneType",),
        ),
    ],
)
def test_an_own_class_that_is_no_home_is_refused_by_check(code, found, words, here, capsys):
    (here / "own.py").write_text(OWN + code)
    written("{type: 'own:Mine'}")
    refused(capsys, found, words)


def test_an_own_store_that_raises_is_named_with_the_line_that_did_it(here, capsys):
    (here / "own.py").write_text(
        f"{OWN}class Mine(Store):\n    async def write(self, df):\n        df['no']\n"
    )
    USERS(here)
    written("u.parquet", "{type: 'own:Mine'}")
    refused(capsys, RUN, ("Mine raised KeyError: 'no'", "own.py:5"))


def test_debug_shows_the_traceback_and_the_error(here, capsys):
    (here / "own.py").write_text(home_class("raise ValueError('boom')\n        yield"))
    written("{type: 'own:Mine'}")
    code, text = said(capsys, "flows.yml", "--inline", "--debug")
    assert code == 1
    assert "Traceback (most recent call last)" in text
    assert "raise ValueError('boom')" in text
    assert "error: f: Mine raised ValueError: boom" in text


F = "flows:\n  f: {home: u.parquet, store: out}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flows:\n\tf: {}\n", ("flows.yml:2: a tab", "use spaces")),
        (F + "  f: {home: x, store: y}\n", ("flows.yml:3", "'f' stands twice")),
        (F + "    home: x\n", ("flows.yml:3",)),
        ("flows:\n  f: {home: u.parquet, stor: out}\n", ("flows.yml:2", "'stor'", "mean 'store'?")),
        ("flows:\n  f: {home: u.parquet, store: out, lanes: many}\n", ("'lanes' is 'many'",)),
        ("flows:\n  f: {home: ${HOME_DIR}x/{a}, store: out}\n", ("flows.yml:2", "quotes")),
        ("flows:\n  f: {home: '${NOT_SET_AT_ALL}', store: out}\n", ("NOT_SET_AT_ALL is not set",)),
        (
            "flows:\n  f: {home: u.parquet, store: a, depends_on: [g]}\n"
            "  g: {home: u.parquet, store: b, depends_on: [f]}\n",
            ("in a circle: f → g → f", "take one"),
        ),
        ("flows:\n  f: {home: 'hdfs://b/x', store: out}\n", ("not built yet",)),
        ("flows:\n  f: {home: u.parquet, store: out, on_value: as_text}\n", ("no end of this",)),
        ("\x00\x01", ("a control character",)),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_error_and_exit_code_1(text, words, here, capsys):
    USERS(here)
    Path("flows.yml").write_text(text)
    refused(capsys, CHECK, words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], ("nothing to do", "hygge flows.yml")),
        (["flows.yml", "--inlin"], ("no option --inlin of `hygge run`", "mean '--inline'?")),
        (["check", "flows.yml", "--inline"], ("no option --inline of `hygge check`", "--select")),
        (["flows.yml", "more.yml"], ("'more.yml' is one argument too many", "one file")),
        (["flows.yml", "--jobs", "many"], ("'many'", "hygge run --help")),
        (["chek"], ("no command and no file 'chek'", "mean 'check'?")),
        (["unpack"], ("no command and no file 'unpack'", "commands: bad, check, completion")),
        (["flow.yml"], ("there is no file flow.yml", "did you mean `hygge flows.yml`?")),
        (["none/flow.yml"], ("there is no file", "hygge flows.yml")),
        (["run", "."], (". is a directory", "flows.yml")),
        (["check"], ("file",)),
        (["flows.yml", "--select", "g"], ("has no flow 'g'", "flows: f")),
        (["flows.yml", "--select", ""], ("--select names no flow",)),
        (["flows.yml", "--address", ""], ("--address is empty", "or leave --address out")),
        (["submit", "flows.yml", "--runtime-env="], ("--runtime-env is empty",)),
        (["plan", "flows.yml", "--select", "ff"], ("no flow 'ff'", "did you mean 'f'?")),
    ],
)
def test_wrong_usage_is_said_with_the_nearest_right_one_and_exit_code_2(given, words, here, capsys):
    Path("flows.yml").write_text(F)
    code, text = said(capsys, *given)
    assert code == 2, text
    assert text.startswith("error: ")
    assert "hint: " in text
    for word in words:
        assert word in text


def test_plan_tells_of_every_flow_and_names_the_wrong_ones(here, capsys):
    USERS(here)
    flows = "  {}: {{home: {}.parquet, store: out/{}}}\n"
    named = (("a", "none"), ("b", "u"), ("c", "nowhere"))
    Path("flows.yml").write_text("flows:\n" + "".join(flows.format(n, h, n) for n, h in named))
    code, text = said(capsys, "plan", "flows.yml")
    assert code == 1
    for part in ("error: a: there is no file", "error: c: there is no file", "b: replace"):
        assert part in text


KINDS = {
    "directory": "t/o",
    "file": "t/o.csv",
    "parquet": "t/o.parquet",
    "db": "'sqlite:///t/o.db#u'",
}


@pytest.fixture
def mounted(here: Path) -> Iterator[Callable[[str], None]]:
    """Mounts a disk of 1 MB at `t`."""
    (here / "t").mkdir()

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", f"size=1m,{options}", "tmpfs", str(here / "t")]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip(
                "mount is not permitted here, so there is no disk that is full or read-only"
            )

    yield mount
    subprocess.run(["umount", str(here / "t")], capture_output=True)


def large_home_after_a_small_one(store: str, capsys: Any) -> None:
    USERS(Path())
    written("u.parquet", store)
    assert main(["flows.yml", "--inline", "--quiet"]) == 0
    capsys.readouterr()
    parquet("u.parquet", id=list(range(8000)), name=[os.urandom(150).hex() for _ in range(8000)])(
        Path()
    )


@pytest.mark.parametrize("store", KINDS.values(), ids=KINDS.keys())
def test_a_full_disk_is_said_and_what_was_there_stays(store, here, mounted, capsys):
    mounted("rw")
    large_home_after_a_small_one(store, capsys)
    refused(capsys, RUN, ("t/o", "disk is full"))


@pytest.mark.parametrize("store", KINDS.values(), ids=KINDS.keys())
def test_a_path_that_is_not_writable_is_said_before_rows_move(store, here, mounted, capsys):
    mounted("ro")
    USERS(here)
    written("u.parquet", store)
    refused(capsys, CHECK, ("t/o", "Read-only file system"))


@pytest.mark.parametrize("store", KINDS.values(), ids=KINDS.keys())
def test_a_limit_on_the_size_of_files_is_said_and_what_was_there_stays(store, here, capsys):
    (here / "t").mkdir()
    large_home_after_a_small_one(store, capsys)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        refused(capsys, RUN, ("t/o", "File too large|disk I/O error", "ulimit -f"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


ON_RAY = (
    "raises in a library",
    "raises what cannot travel",
    "yields a dict",
    "yields differing columns",
)


@pytest.mark.usefixtures("ray_here")
def test_on_ray_own_homes_are_named_in_the_same_words(here, capsys):
    text = "flows:\n"
    homes = [HOMES[name] for name in ON_RAY]
    for at, (body, _) in enumerate(homes):
        (here / f"own{at}.py").write_text(home_class(body))
        text += f"  f{at}: {{home: {{type: 'own{at}:Mine'}}, store: out}}\n".replace(
            "out", f"o{at}"
        )
    Path("flows.yml").write_text(text)
    before = snapshot(here)
    code, text = said(capsys, "flows.yml", "--quiet")
    assert code == 1
    for at, (_, words) in enumerate(homes):
        (mine,) = [each for each in text.split("error: ") if each.startswith(f"f{at}: ")]
        for word in words:
            assert word.replace("own.py", f"own{at}.py") in mine
    assert text.count("hint: ") == len(homes)
    assert "Traceback" not in text
    assert snapshot(here) == before


def test_the_hint_for_files_that_differ_holds_the_common_columns_can_be_moved(here, capsys):
    CASES["files that differ in columns"].make(here)
    written("{path: d, columns: [id]}")
    code, text = said(capsys, "flows.yml", "--inline")
    assert (code, "done  2 rows" in text) == (0, True), text
