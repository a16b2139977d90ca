"""Object stores in flows.yml: connections, `root:` and the file itself as URLs, and refusals."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
from obstore.store import from_url

from hygge.config.flows import FlowsFile, build, read_flows
from hygge.errors import ConfigError
from hygge.journal import FlowJournal
from hygge.places.bucket import Bucket
from hygge.places.place import place_at
from tests import forked
from tests.readers.objects import ids_at
from tests.servers.s3 import BUCKET, SECRET, proxy, s3, started  # noqa: F401  # fixtures

LAKE = "connections: {lake: {url: 's3://b/raw', access_key_id: k, secret_access_key: 'hush!'}}\n"


def read(folder: Path, text: str) -> FlowsFile:
    (folder / "flows.yml").write_text(text)
    return read_flows(folder / "flows.yml", {})


def said(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    assert "hush" not in str(caught.value)
    return str(caught.value)


def flow(home: str, store: str = "out") -> str:
    return f"flows: {{a: {{home: {home}, store: {store}}}}}\n"


# What the words mean


@pytest.mark.parametrize(
    ("home", "url"),
    [
        ("{connection: lake, path: users.csv}", "s3://b/raw/users.csv"),
        ("{connection: lake, path: 's3://b/raw/users.csv'}", "s3://b/raw/users.csv"),
        ("'s3://b/raw/users.csv'", "s3://b/raw/users.csv"),
        ("{path: 's3://b/raw/users.csv'}", "s3://b/raw/users.csv"),
    ],
)
def test_a_path_is_reached_by_the_connection_that_it_names_or_lies_below(tmp_path, home, url):
    file = read(tmp_path, LAKE + flow(home, "'s3://b/raw/out'") + "state: s3://b/raw/state\n")
    (spec,) = file.flows
    made, store = build(pickle.loads(pickle.dumps(spec)))
    assert made.path == url
    assert file.state == "s3://b/raw/state"
    for access in (made.path.access, store.target.bucket.access, file.state.access):
        assert access.secret_access_key == "hush!"
    assert "hush" not in f"{file!r}{spec!r}{made!r}{store!r}{made.settings!r}{store.settings!r}"


def test_what_no_connection_is_above_is_reached_by_the_environment(tmp_path):
    file = read(tmp_path, LAKE + flow("'s3://b/rawer/users.csv'", "'gs://b/raw/out'"))
    home, store = build(file.flows[0])
    assert (home.path.access, store.target.bucket.access) == (None, None)


def test_of_several_connections_the_longest_url_reaches_a_path(tmp_path):
    text = (
        "connections:\n  all: {url: 's3://', anonymous: true}\n  b: s3://b\n"
        "  raw: {url: 's3://b/raw/', region: here}\n"
    )
    for url, region, anonymous in (
        ("s3://b/raw/u.csv", "here", False), ("s3://b/u.csv", None, False),
        ("s3://c/u.csv", None, True),
    ):  # fmt: skip
        home, _ = build(read(tmp_path, text + flow(f"'{url}'")).flows[0])
        assert (home.path.access.region, home.path.access.anonymous) == (region, anonymous), url


def test_a_relative_path_lies_below_a_root_in_an_object_store(tmp_path):
    file = read(tmp_path, "root: s3://b/x/\n" + flow("data/../u.csv", "out"))
    home, store = build(file.flows[0])
    assert (home.path, store.path) == ("s3://b/x/u.csv", "s3://b/x/out")
    assert file.state == "s3://b/x/.hygge"
    (tmp_path / "u.csv").write_text("id\n1\n")
    home, store = build(
        read(tmp_path, "root: s3://b/x\n" + flow(tmp_path / "u.csv", "/tmp/o")).flows[0]
    )
    assert (home.path, store.path) == (str(tmp_path / "u.csv"), "/tmp/o")


def test_a_default_connection_is_for_the_ends_that_it_fits(tmp_path):
    text = LAKE.replace("{lake", "{shop: 'sqlite:///s.db', lake") + (
        "defaults: {home: {connection: %s}}\nflows:\n"
        "  a: {home: {path: 's3://b/raw/u.csv'}, store: o1}\n  b: {home: {table: t}, store: o2}\n"
    )
    first, second = read(tmp_path, text % "shop").flows
    assert build(first)[0].path == "s3://b/raw/u.csv"
    assert second.home.settings["connection"].startswith("sqlite:///")
    first, _ = read(tmp_path, (text % "lake").replace("{table: t}", "'shop#t'")).flows
    assert build(first)[0].path.access.access_key_id == "k"


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        (LAKE.replace("access_key_id", "acces_key_id") + flow("u.csv"),
         "does not know 'acces_key_id'", "did you mean 'access_key_id'?"),
        (LAKE.replace("access_key_id: k, ", "") + flow("u.csv"),
         "without 'access_key_id'", "as well"),
        (LAKE.replace("'hush!'", "[hush]") + flow("u.csv"), "a list where text is needed", ""),
        (LAKE.replace("'hush!'", "'hush!', anonymous: true") + flow("u.csv"),
         "'anonymous' stands beside credentials", "keep one"),
        ("connections: {l: {url: 's3://b', endpoint: 'host:9000'}}\n" + flow("u.csv"),
         "'endpoint' is 'host:9000', not a URL", "https://host:9000"),
        ("connections: {l: {url: 's3a://b'}}\n" + flow("u.csv"), "s3a:// is written s3:// here", "gs://"),
        ("connections: {l: {url: 's3://b', max_connections: 3}}\n" + flow("u.csv"),
         "does not know 'max_connections'", "region"),
        ("connections: {l: 's3://b', m: 's3://b'}\n" + flow("'s3://b/u.csv'"),
         "s3://b/u.csv is reached by 'l' and 'm' alike", "say which"),
        (LAKE + flow("{connection: lake}"), "needs a path in it", "path: users"),
        (LAKE + flow("lake"), "'lake' is an object store", "path: users"),
        (LAKE + flow("'lake#t'"), "'lake' is an object store", "path: users"),
        (LAKE + flow("{connection: lake, table: t}"), "has no 'table'", "path: users"),
        (LAKE + flow("{connection: lake, path: 's3://c/u.csv'}"),
         "is not below s3://b/raw", "leave"),
        (LAKE + flow("{connection: lkae, path: u.csv}"),
         "'lkae', which is no object store", "'lake'"),
        ("connections: {l: 's3://'}\n" + flow("{connection: l, path: u.csv}"),
         "for every bucket", "s3://bucket/u.csv"),
        ("root: s3://b\n" + flow("../u.csv"), "leads out of the bucket s3://b", "write the URL"),
        ("root: s3://b\n" + flow("'sqlite:///s.db#t'"), "it has to be on a disk", "absolute path"),
        ("root: http://b\n" + flow("u.csv"), "'root' is 'http://b'", "s3://"),
        (flow("'s3a://b/u.csv'"), "s3a:// is written s3:// here", "s3://"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_what_to_do(tmp_path, text, what, hint):
    (tmp_path / "u.csv").write_text("id\n1\n")
    message = said(tmp_path, text)
    assert what in message
    assert hint in message.partition("hint:")[2]


# Runs


def environment(folder: Path, **environ: str) -> dict[str, str]:
    others = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return {**others, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(folder), **environ}


def hygge(*words: str, folder: Path, **environ: str) -> subprocess.CompletedProcess:
    return forked.hygge(*words, cwd=folder, env=environment(folder, **environ))


def put(url: str, content: bytes) -> None:
    top, _, name = url.rpartition("/")
    from_url(top, client_options={"allow_http": True}).put(name, content)


def test_a_connection_is_all_that_a_run_on_ray_needs_and_its_secret_is_nowhere(s3, tmp_path):  # noqa: F811
    put(f"{s3}/in/a.csv", b"id\n" + b"".join(b"%d\n" % n for n in range(1000)))
    (tmp_path / ".env").write_text(f"LAKE_SECRET={SECRET}\n")
    (tmp_path / "flows.yml").write_text(
        f"connections:\n  lake: {{url: '{s3}', endpoint: '{started()}', region: us-east-1,\n"
        "    access_key_id: hygge, secret_access_key: '${LAKE_SECRET}'}\n"
        f"state: {s3}/state\nflows:\n"
        "  a: {home: {connection: lake, path: in}, store: {connection: lake, path: mid}}\n"
        f"  b: {{home: {s3}/mid, store: {s3}/out, depends_on: [a]}}\n"
    )
    with tempfile.TemporaryDirectory(prefix="hygge-", dir="/tmp") as ray:  # sockets: a short one
        done = subprocess.run(
            [sys.executable, "-m", "hygge", "run", "flows.yml"], cwd=tmp_path, text=True,
            env=environment(tmp_path, RAY_TMPDIR=ray), capture_output=True, check=False,
        )  # fmt: skip
        logs = [each.read_bytes() for each in Path(ray).rglob("*") if each.is_file()]
    assert done.returncode == 0, done.stdout + done.stderr
    assert ids_at(f"{s3}/out") == list(range(1000))
    left = [done.stdout.encode(), done.stderr.encode()]
    place = Bucket(s3)
    left += [place.get(key) for key in place.keys("")]
    assert len(logs) > 10
    assert not any(SECRET.encode() in (each or b"") for each in (*left, *logs))


def test_keys_of_a_profile_are_found_and_one_that_signs_in_is_said(s3, tmp_path):  # noqa: F811
    put(f"{s3}/in.csv", b"id\n1\n2\n")
    (tmp_path / "flows.yml").write_text(flow(f"'{s3}/in.csv'", f"'{s3}/out'"))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(
        f"[profile lake]\nregion = us-east-1\nendpoint_url = {started()}\n"
        "[profile corp]\nsso_session = corp\n"
    )
    (tmp_path / ".aws/credentials").write_text(
        f"[lake]\naws_access_key_id = hygge\naws_secret_access_key = {SECRET}\n"
    )
    words = ("run", "--inline", "flows.yml")
    done = hygge(*words, folder=tmp_path, AWS_PROFILE="lake")
    assert done.returncode == 0, done.stderr
    assert ids_at(f"{s3}/out") == [1, 2]
    for profile, what in (("corp", "it signs in"), ("lkae", "did you mean 'lake'?")):
        done = hygge(*words, folder=tmp_path, AWS_PROFILE=profile)
        assert (done.returncode, what in done.stderr + done.stdout) == (1, True), done.stderr


def test_a_file_in_a_bucket_moves_what_lies_beside_it(s3, tmp_path):  # noqa: F811
    put(f"{s3}/data/in.csv", b"id\n1\n2\n")
    put(f"{s3}/flows.yml", flow("data/in.csv", "lake/out").encode())
    around = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for words in (("check",), ("plan",), ("run", "--inline")):
        done = hygge(*words, f"{s3}/flows.yml", folder=tmp_path, **around)
        assert done.returncode == 0, done.stderr
    assert ids_at(f"{s3}/lake/out") == [1, 2]
    assert FlowJournal(place_at(f"{s3}/.hygge"), "a").open_runs() == []
    assert [each for each in os.listdir(tmp_path) if each != ".cache"] == []
    put(f"{s3}/bad.yml", b"flows:\n  a: {home: data/in.csv, stor: x}\n")
    for name, what in (
        ("bad.yml", f"{s3}/bad.yml:2: flow 'a': 'stor' is not a key"),
        ("flow.yml", f"there is no file {s3}/flow.yml\n\nhint: did you mean {s3}/flows.yml?"),
    ):
        done = hygge("check", f"{s3}/{name}", folder=tmp_path, **around)
        assert (done.returncode, what in done.stderr) == (1, True), done.stderr
    done = hygge("check", "http://host/flows.yml", folder=tmp_path)
    assert (done.returncode, "is no URL that hygge reads a file from" in done.stderr) == (1, True)


# What cannot be written, or read, is one message, and nothing has moved


def test_a_bucket_that_cannot_be_written_is_one_message_before_a_row_moves(s3, proxy, tmp_path):  # noqa: F811
    put(f"{s3}/in.csv", b"id\n1\n")
    around = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}

    def read_only(request) -> int | None:
        return 403 if request.command in ("PUT", "POST", "DELETE") else None

    def unconditional(request) -> None:
        if request.command == "PUT" and request.headers.get("If-None-Match"):
            behind = from_url(
                f"s3://{BUCKET}",
                endpoint=f"http://{proxy.behind}",
                client_options={"allow_http": True},
            )
            behind.delete(request.path.split("/", 2)[2].partition("?")[0].replace("%2E", "."))

    for before, store, given, what in (
        (read_only, f"{s3}/out", {}, "may not be read or written (403)"),
        (unconditional, f"{s3}/out", {}, "lets two runs create the same object"),
        (None, f"s3://no-such-{uuid.uuid4().hex}/out", {}, "there is no bucket s3://no-such"),
        (None, f"{s3}/out", {"AWS_SECRET_ACCESS_KEY": SECRET + "x"}, "SignatureDoesNotMatch"),
        (None, f"{s3}/out", {"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId"),
    ):
        proxy.before = before or (lambda request: None)
        (tmp_path / "in.csv").write_text("id\n1\n")
        (tmp_path / "flows.yml").write_text(flow("in.csv", f"'{store}'"))
        done = hygge("run", "--inline", "flows.yml", folder=tmp_path, **{**around, **given})
        text = done.stdout + done.stderr
        assert (done.returncode, what in text) == (1, True), text
        assert text.count("hint:") == 1, text
        assert SECRET not in text
        proxy.before = lambda request: None
        assert ids_at(f"{s3}/out") == []


def test_a_throttled_run_ends_well_and_says_nothing(s3, proxy, tmp_path):  # noqa: F811
    put(f"{s3}/in.csv", b"id\n" + b"".join(b"%d\n" % n for n in range(1000)))
    (tmp_path / "flows.yml").write_text(flow(f"'{s3}/in.csv'", f"'{s3}/out'") + f"state: {s3}/st\n")
    around = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    asked: list[str] = []

    def slow_down(request) -> int | None:
        asked.append(request.command)
        return 503 if len(asked) % 4 == 1 else None

    proxy.before = slow_down
    done = hygge("run", "--inline", "flows.yml", folder=tmp_path, **around)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(asked) > 20
    assert ids_at(f"{s3}/out") == list(range(1000))
