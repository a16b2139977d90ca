"""One contract for every place of small entries: a folder, and a bucket on a real S3 endpoint."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hygge.errors import HyggeError
from hygge.places.folder import Folder
from hygge.places.place import place_at
from tests.servers.s3 import SECRET, s3  # noqa: F401  # a fixture
from tests.waiting import until


@pytest.fixture(params=["folder", "bucket"])
def url(request, tmp_path) -> str:
    if request.param == "folder":
        return str(tmp_path / "state")
    return request.getfixturevalue("s3")


# What every place promises


def test_a_place_is_checked_and_left_as_it_was(url):
    place = place_at(url)
    place.check()
    place.check()
    assert place.keys("") == []


def test_what_was_put_is_got(url):
    place = place_at(url)
    assert place.get("a/b") is None
    place.put("a/b", b"1")
    place.put("a/b", b"two")
    assert place.get("a/b") == b"two"
    assert place.get("a") is None
    assert place.get("a/b/c") is None
    assert not place.create("a/b", b"3")
    assert place.create("a/c", b"")
    assert (place.get("a/b"), place.get("a/c")) == (b"two", b"")


def test_keys_are_those_below_in_the_order_of_their_names(url):
    place = place_at(url)
    names = ["a/9", "a/10", "a/b/c/d", "ab", "a-b", "a/b.json", "z/%41 +é"]
    for name in names:
        assert place.create(name, name.encode())
    assert place.keys("") == sorted(names)
    assert place.keys("a") == ["a/10", "a/9", "a/b.json", "a/b/c/d"]
    assert place.keys("a/b") == ["a/b/c/d"]
    assert place.keys("nothing") == place.keys("ab") == []
    assert place.get("z/%41 +é") == names[-1].encode()


def test_removing_twice_is_removing_once_and_touches_nothing_beside(url):
    place = place_at(url)
    for name in ("a/1", "a/b/2", "ab", "c"):
        place.put(name, b"x")
    for _ in range(2):
        place.remove("a")
        place.remove("c")
        place.remove("ab/none")
    assert place.keys("") == ["ab"]
    place.put("a/1", b"again")
    assert place.keys("a") == ["a/1"]


def test_a_place_travels_and_is_the_same_place(url):
    place = place_at(url)
    place.put("k", b"v")
    content = pickle.dumps(place)
    assert SECRET.encode() not in content
    assert pickle.loads(content).get("k") == b"v"


@pytest.mark.parametrize("attempt", range(5))
def test_of_sixteen_threads_that_create_a_key_at_once_one_does(url, attempt):
    together = threading.Barrier(16)

    def create(n: int) -> bool:
        place = place_at(url)
        together.wait()
        return place.create("deep/down/one", b"%d" % n)

    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(create, range(16)))
    assert won.count(True) == 1
    assert place_at(url).get("deep/down/one") == b"%d" % won.index(True)


def test_of_processes_that_create_keys_at_once_one_does_each(url):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.starmap(_create_all, [(url, n) for n in range(4)], chunksize=1)
    assert [sum(each) for each in zip(*won, strict=True)] == [1] * 20


def _create_all(url: str, n: int) -> list[bool]:
    place = place_at(url)
    return [place.create(f"race/{key}", b"%d" % n) for key in range(20)]


def test_an_entry_is_never_half_there(url):
    place, done, seen = place_at(url), threading.Event(), set()
    contents = [bytes([65 + n]) * (50_000 + n * 10_000) for n in range(20)]

    def read() -> None:
        eyes = place_at(url)
        while not done.wait(0.005):
            seen.add(eyes.get("big"))
            for key in eyes.keys(""):
                seen.add(eyes.get(key))

    reader = threading.Thread(target=read)
    reader.start()

    def written() -> None:
        for content in contents:
            place.put("big", content)
        assert place.create(f"other-{len(seen)}-{os.urandom(4).hex()}", contents[0])

    try:
        for _ in range(3):
            written()
        until(lambda: len(seen) > 2 or written(), "the reader sees hardly anything")
    finally:
        done.set()
        reader.join()
    assert seen <= {None, *contents}


def test_entries_are_plain_files_and_objects(url):
    place = place_at(url)
    place.put("flows/orders/plan.json", json.dumps({"a": 1}).encode())
    if isinstance(place, Folder):
        assert json.loads(Path(place.path, "flows/orders/plan.json").read_bytes()) == {"a": 1}
    else:
        import obstore

        path = f"{place.prefix}flows/orders/plan.json"
        assert bytes(obstore.get(place._client(), path).bytes()) == b'{"a": 1}'


# A folder


CALLS = {"link", "unlink", "fsync", "replace", "rename", "mkdir", "open", "rmdir", "write"}


@pytest.mark.parametrize("verb", ["create", "put"])
def test_a_writer_that_is_killed_leaves_nothing_visible_or_all(verb, tmp_path):
    points, codes = 0, []
    while not codes or codes[-1] == -signal.SIGKILL:
        path = tmp_path / str(points)
        codes.append(_killed_at(points, lambda p=path: getattr(Folder(p), verb)("a/b", b"whole")))
        place = Folder(str(path))
        assert [place.get(key) for key in place.keys("")] in ([], [b"whole"]), f"point {points}"
        assert place.create("a/b", b"next") == (place.get("a/b") == b"next")
        place.put("a/b", b"last")
        assert place.keys("") == ["a/b"]
        points += 1
    assert codes[-1] == 0
    assert points > 6, "hardly any call was seen"


def test_a_writer_in_place_is_caught(tmp_path):
    def in_place() -> None:
        with open(tmp_path / "entry", "wb", buffering=0) as file:
            file.write(b"half ")
            os.fsync(file.fileno())
            file.write(b"of it")

    seen = set()
    for point in range(9):
        if _killed_at(point, in_place) == 0:
            break
        seen.add(Folder(tmp_path).get("entry"))
    assert b"half " in seen


def _killed_at(point: int, work) -> int:
    """`work` in a fork that dies before its call number `point`; how it ended."""
    child = os.fork()
    if child == 0:
        number = 0

        def before_call(frame, event, what) -> None:
            nonlocal number
            if event == "c_call" and what.__name__ in CALLS:
                number += 1
                if number > point:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(before_call)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_killed_writers_rest_is_no_entry_and_goes_with_its_folder(tmp_path):
    place = Folder(tmp_path)
    place.put("a/b", b"1")
    (tmp_path / "a/.tmp-0123").write_bytes(b"rest")
    assert place.keys("") == ["a/b"]
    place.remove("a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("verb", "call"), [("create", "link"), ("put", "replace")])
def test_a_folder_that_others_remove_is_made_again(verb, call, tmp_path, monkeypatch):
    show, removed = getattr(os, call), []

    def too_late(source, to):
        if len(removed) < 3:
            Folder(tmp_path).remove("runs")
            removed.append(to)
        show(source, to)

    monkeypatch.setattr(os, call, too_late)
    getattr(Folder(tmp_path), verb)("runs/1/plan", b"x")
    assert len(removed) == 3
    assert Folder(tmp_path).get("runs/1/plan") == b"x"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "No space left"),
        (errno.EROFS, "Read-only"),
        (errno.EACCES, "Permission denied"),
    ],
)
def test_a_folder_that_cannot_be_written_says_so(number, said, tmp_path, monkeypatch):
    def refuses(*_, **__):
        raise OSError(number, os.strerror(number), str(tmp_path))

    monkeypatch.setattr(os, "fsync", refuses)
    with pytest.raises(HyggeError, match=f"{tmp_path}.* cannot be written: {said}") as caught:
        Folder(tmp_path).create("a/b", b"1")
    assert caught.value.hint
    assert Folder(tmp_path).keys("") == []
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


FILLS = """
import os, sys, ctypes
from hygge.errors import HyggeError
from hygge.places.folder import Folder
libc = ctypes.CDLL(None, use_errno=True)
if os.getuid() or libc.unshare(0x00020000) or libc.mount(None, b"/", None, 0x44000, None) \\
        or libc.mount(b"tmpfs", sys.argv[1].encode(), b"tmpfs", 0, b"size=64k"):
    sys.exit(77)
place = Folder(sys.argv[1])
place.put("small", b"x")
try:
    for n in range(100):
        place.create(f"a/{n}", b"x" * 10_000)
except HyggeError as error:
    print(error)
assert place.get("small") == b"x"
assert all(len(place.get(key)) == 10_000 for key in place.keys("a"))
libc.mount(None, sys.argv[1].encode(), None, 0x21, None)
try:
    place.put("small", b"y")
except HyggeError as error:
    print(error)
"""


def test_a_disk_that_is_full_or_read_only_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FILLS, str(tmp_path)], capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip("only root may mount a disk of its own")
    assert done.returncode == 0, done.stderr
    assert "cannot be written: No space left on device\n\nhint: make room" in done.stdout
    assert "cannot be written: Read-only file system\n\nhint: " in done.stdout


def test_a_file_where_a_folder_is_needed_is_an_error(tmp_path):
    (tmp_path / "state").write_text("mine")
    with pytest.raises(HyggeError, match="cannot be written"):
        Folder(tmp_path / "state").create("a/b", b"1")
    assert Folder(tmp_path / "state").get("a/b") is None
    assert Folder(tmp_path / "state").keys("a") == []
    assert (tmp_path / "state").read_text() == "mine"


def test_a_disk_where_link_is_not_exclusive_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda source, to: os.replace(source, to))
    with pytest.raises(HyggeError, match="lets two runs create the same file") as caught:
        Folder(tmp_path).check()
    assert caught.value.hint


def test_a_new_folder_ignores_itself_in_git_and_one_of_yours_does_not(tmp_path):
    (tmp_path / "yours").mkdir()
    for name in (".hygge", "yours"):
        Folder(str(tmp_path / name)).check()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for name in (".hygge", "yours"):
        (tmp_path / name / "run.json").write_text("{}")
    status = ["git", "-C", tmp_path, "status", "--porcelain", "-uall"]
    seen = subprocess.run(status, check=True, capture_output=True, text=True).stdout
    assert seen.split() == ["??", "yours/run.json"]


@pytest.mark.parametrize("first", ["check", "create"])
def test_a_state_that_is_new_ignores_itself_in_git_and_a_folder_of_others_does_not(tmp_path, first):
    (tmp_path / "theirs").mkdir()
    for name in ("new", "theirs"):
        place = Folder(str(tmp_path / name))
        place.check() if first == "check" else place.create("requests/a", b"1")
    assert (tmp_path / "new" / ".gitignore").read_text().endswith("\n*\n")
    assert not (tmp_path / "theirs" / ".gitignore").exists()
