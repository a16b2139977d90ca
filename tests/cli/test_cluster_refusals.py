"""Obstacles between a laptop and a cluster: each is one message with a hint, and exit code 1.

Also which files of a folder are shipped, and which are not.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.job_submission import JobStatus

from hygge import __version__
from hygge.engine.jobs.client import RUN, submit_job
from hygge.engine.jobs.cluster import _required_ray
from hygge.engine.jobs.following import Following
from hygge.engine.jobs.shipping import _heeds_rayignore, make_package
from hygge.errors import HyggeError, Stopped
from hygge.report.events import parse_event
from tests.forked import hygge
from tests.servers.standing import OUTSIDE, standing_ray


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flows.yml").write_text(
        "state: /none/state\nflows: {one: {home: users.csv, store: /none/out}}\n"
    )
    (tmp_path / "users.csv").write_text("id\n1\n")
    return tmp_path


def refused(folder: Path, *words: str, code: int = 1, **variables: str) -> str:
    environ = {**OUTSIDE, "HOME": str(folder.parent / "nobody"), **variables}
    ran = hygge(*words, cwd=folder, env=environ)
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert ran.stdout == ""
    assert ran.stderr.count("error: ") == ran.stderr.count("hint: ") == 1, ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stderr


@contextlib.contextmanager
def answering(status: int, text: str, **headers: str) -> Iterator[str]:
    """The address of somebody who says the same to everybody."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_address_where_nobody_answers_is_named(folder):
    with socket.socket() as taken:  # bound, and listening to nobody
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refused(folder, "flows.yml", "--address", address)
    assert f"there is no answer from http://{address}: " in said
    assert "port 8265" in said


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (404, "what?", "it answered with status 404"),
        (200, "<html>hello</html>", "in other words than Ray's"),
        (200, json.dumps({"ray_version": "2.9.0"}), "runs Ray 2.9.0; hygge"),
        (200, json.dumps({"ray_version": "3.1.0"}), f"needs {_required_ray()}"),
    ],
)
def test_an_address_that_is_no_ray_or_another_ray_is_refused(folder, status, text, words):
    with answering(status, text) as address:
        assert words in refused(folder, "flows.yml", "--address", address)


def test_the_token_is_missing_or_wrong_and_is_never_done_without(folder):
    address = standing_ray().environ["RAY_API_SERVER_ADDRESS"]
    said = refused(folder, "flows.yml", "--address", address)
    assert "asks for a token, and none was given" in said
    said = refused(folder, "flows.yml", "--address", address, RAY_AUTH_TOKEN="another-1234")
    assert "is another cluster's" in said
    assert "another-1234" not in said
    none = {"RAY_AUTH_TOKEN_PATH": str(folder / "none"), "RAY_AUTH_MODE": "token"}
    said = refused(folder, "flows.yml", "--address", address, **none)
    assert "Ray's token cannot be read" in said
    said = refused(folder, "flows.yml", RAY_ADDRESS=standing_ray().environ["RAY_ADDRESS"],
                   **none)  # fmt: skip
    assert "asks for a token, and this process has another one, or none" in said


def test_an_id_that_nobody_knows_and_a_cluster_that_nobody_named(folder):
    standing = standing_ray().environ
    kept = {name: standing[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")}
    for command in ("status", "logs", "stop"):
        words = (command, "hygge-none-00", "--address", standing["RAY_API_SERVER_ADDRESS"])
        assert "knows no run and no flow 'hygge-none-00'" in refused(folder, *words, **kept)
    (folder / "tmp").mkdir()
    said = refused(folder, "submit", "flows.yml", code=2, TMPDIR=str(folder / "tmp"))
    assert "no Ray cluster is named" in said
    said = refused(folder, "flows.yml", "--address", "ray://head:10001", code=2)
    assert "ray://head:10001 is no address of Ray's dashboard" in said
    said = refused(folder, "flows.yml", "--inline", "--address", "head", code=2)
    assert "--inline is for a run on this machine" in said


def test_the_token_does_not_follow_a_redirect_to_another_host(folder):
    seen: list[dict[str, str]] = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            self.send_error(500)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        there = f"http://localhost:{other.server_port}"
        with answering(302, "", Location=f"{there}/api/version?signature=s3cr3t") as address:
            said = refused(folder, "flows.yml", "--address", address, RAY_AUTH_TOKEN="one-1234")
        other.shutdown()
    assert f"{address} redirects to {there}, and Ray's token is not taken along" in said
    assert f"--address {there}\n" in said
    assert "s3cr3t" not in said
    assert seen == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://AKIA:s3cr3t@bucket/flows.yml", "holds a user, a password or a signature"),
        ("gs://bucket/flows.yml?signature=s3cr3t", "holds a user, a password or a signature"),
        ("https://u:s3cr3t@host/flows.yml", "https:// is no URL that hygge reads a file from"),
    ],
)
def test_a_secret_in_the_url_of_the_file_is_not_submitted(folder, url, words):
    said = refused(folder, "submit", url, "--address", "http://127.0.0.1:1", code=2)
    assert words in said
    assert "s3cr3t" not in said


def test_a_ray_that_cannot_be_used_as_it_is_named(folder):
    said = refused(folder, "flows.yml", RAY_ADDRESS="ray://head:10001", code=2)
    assert "hygge does not go through Ray Client" in said


def test_another_version_of_hygge_submitted_it(folder):
    environ = OUTSIDE | {"HYGGE_SUBMITTED_BY": "0.0.9"}
    ran = hygge("flows.yml", cwd=folder, env=environ)
    event = parse_event(ran.stderr)  # in the log of a job, which the submitter reads
    assert event is not None
    assert (ran.returncode, event["code"]) == (1, 1)
    words = f"the cluster has hygge {__version__}, and hygge 0.0.9 submitted this run"
    assert event["text"].startswith(words)


def test_a_module_that_is_not_there_is_named_by_the_cluster(folder):
    (folder / "flows.yml").write_text(
        "state: /none/state\nflows:\n  two: {home: {type: 'nowhere:Home'}, store: /none/two}\n"
    )
    standing = standing_ray().environ
    kept = {name: standing[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")}
    words = ("flows.yml", "--quiet", "--address", standing["RAY_API_SERVER_ADDRESS"])
    ran = hygge(*words, cwd=folder, env=OUTSIDE | kept)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "nowhere" in ran.stderr
    assert ran.stderr.count("hint: ") == 1
    assert "Traceback" not in ran.stderr


def test_too_much_to_ship_is_refused_with_the_largest_files_named(folder):
    (folder / "big.bin").write_bytes(bytes(300_000))
    with answering(200, json.dumps({"ray_version": "2.60.0"})) as address:
        said = refused(
            folder, "flows.yml", "--address", address, RAY_max_grpc_message_size="200000"
        )
    assert "holds 0.3 MB to be shipped with the job, and Ray takes 0.2 MB" in said
    assert "the largest: big.bin (0.3 MB), " in said


def test_over_plain_http_to_another_host_without_a_token_there_is_a_warning(folder, monkeypatch):
    from hygge.engine.jobs.cluster import Cluster

    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    cluster = Cluster.__new__(Cluster)
    cluster.version = "2.60.0"
    warned = {}
    addresses = ("http://head:8265", "http://127.evil.com", "https://head",
                 "http://127.0.0.1:8265", "http://[::1]:1")  # fmt: skip
    for address in addresses:
        cluster.address = address
        warned[address] = any("without a token" in each for each in cluster.warnings())
    assert list(warned.values()) == [True, True, False, False, False]
    monkeypatch.setenv("RAY_AUTH_TOKEN", "one")
    cluster.address = "http://head:8265"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert not any("without a token" in each for each in cluster.warnings())
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert any("without a token" in each for each in cluster.warnings()), "it is not sent"


@pytest.mark.ray_versions
def test_secrets_rubbish_and_what_is_ignored_stay_and_all_else_is_shipped(folder):
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n"
    stay = {
        ".env": "A=b", ".env.production": "A=b", "deep/id_rsa": key, "tls.key": key,
        "service.json": json.dumps({"private_key": key}), ".netrc": "", ".pgpass": "",
        ".my.cnf": "", ".aws/credentials": "", "odd [name]!.txt": key,
    }  # fmt: skip
    rubbish = {
        ".git/config": "", ".hygge/flows/x": "", "env2/pyvenv.cfg": "", "env2/bin/python": "",
        "__pycache__/a.pyc": "", "data/ignored.csv": "", "big/one.csv": "",
        "models/deep/one": "", "one.bak": "",
    }  # fmt: skip
    goes = {"flows.yml": "", "users.csv": "", "models/mine.py": "x = 1", "odd [name].txt": "",
            ".gitignore": "data/\n", ".rayignore": "big/\n*.bak\n!two.bak\n", "keys.csv": "a",
            "models/.rayignore": "deep/one\n", "deep/one": "", "two.bak": ""}  # fmt: skip
    for name, text in {**stay, **rubbish, **goes}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    package = make_package(folder / "flows.yml")
    assert set(package.secrets) == set(stay)
    from ray._private.runtime_env.packaging import create_package

    zipped = folder.parent / f"{folder.name}.zip"
    heeds = {"include_gitignore": True} if _heeds_rayignore() else {}
    create_package(str(folder), zipped, excludes=list(package.excludes), **heeds)
    with zipfile.ZipFile(zipped) as opened:
        there = {each for each in opened.namelist() if not each.endswith("/")}
    assert there == set(goes)


def test_a_home_directory_is_not_shipped_nor_a_file_that_would_stay(folder, monkeypatch):
    (folder / ".gitignore").write_text("*.yml\n")
    with pytest.raises(HyggeError, match="flows.yml would not be shipped"):
        make_package(folder / "flows.yml")
    monkeypatch.setenv("HOME", str(folder))
    with pytest.raises(HyggeError, match="all of it would be shipped"):
        make_package(folder / "flows.yml")


class Starting:
    """A Ray that has just started, and loses an answer: neither can be had when it is wanted."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), []

    def submit_job(self, **words: object) -> None:
        self.asked.append(words["submission_id"])
        if self.answers:
            raise RuntimeError(self.answers.pop(0))


def test_a_ray_that_has_just_started_is_asked_again_under_the_same_id():
    none = "Request failed with status code 500: No available agent to submit job, please try again"
    client = Starting(none, none)
    submit_job(client, "a", entrypoint="true")
    assert client.asked == ["a"] * 3
    client = Starting(none, "Job with submission_id a already exists.")
    submit_job(client, "a", entrypoint="true")
    assert client.asked == ["a"] * 2
    with pytest.raises(RuntimeError, match="already exists"):
        submit_job(Starting("Job with submission_id a already exists."), "a", entrypoint="true")


class Deaf(Starting):
    """It takes a job, and its answer gets lost."""

    def __init__(self, takes: bool) -> None:
        super().__init__()
        self.takes, self.stopped = takes, []

    def submit_job(self, **words: object) -> None:
        super().submit_job(**words)
        raise ConnectionError("reset")

    def get_job_info(self, job: str) -> None:
        if not self.takes:
            raise RuntimeError(f"Request failed with status code 404: {job}")

    def stop_job(self, job: str) -> None:
        self.stopped.append(job)


def test_a_job_that_was_taken_is_not_submitted_again_and_a_stop_is_heard_meanwhile():
    client = Deaf(takes=True)
    submit_job(client, "a", entrypoint="true")
    assert client.asked == ["a"]
    client, stop = Deaf(takes=False), threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        submit_job(client, "a", stop, entrypoint="true")
    assert (client.asked, client.stopped) == (["a"], ["a"])


def test_stop_also_ends_a_flow_that_was_just_being_submitted(monkeypatch):
    from hygge.engine.jobs import cluster as remote

    monkeypatch.setattr(remote, "_LOOK_S", 0)
    late = SimpleNamespace(
        submission_id="late", status=JobStatus.RUNNING, metadata={RUN: "run"}, start_time=1
    )

    class Busy:
        def __init__(self) -> None:
            self.looks = 0

        def list_jobs(self) -> list[SimpleNamespace]:
            self.looks += 1
            return [late] if self.looks > 2 else []  # the run's own look is the first

        def stop_job(self, job: str) -> None:
            assert job == "late"
            late.status = JobStatus.STOPPED

        def get_job_status(self, job: str) -> JobStatus:
            return late.status

    cluster = remote.Cluster.__new__(remote.Cluster)
    cluster.address, cluster._client = "http://head", Busy()
    monkeypatch.setattr(cluster, "find_job", lambda name: (cluster.list_jobs(), None)[1])
    assert cluster.stop("run") == ["late"]
    assert cluster._client.looks == 5, "twice nothing, one after the other"


def test_a_lost_connection_is_waited_for_and_no_line_is_told_twice():
    class Flaky:
        text = "one\ntw"
        status = JobStatus.RUNNING
        message, driver_exit_code, driver_node_id = "", 0, None

        def __init__(self) -> None:
            self.up = True

        def get_job_info(self, _: str) -> Flaky:
            if not self.up:
                raise ConnectionError("no route to host")
            return self

        def get_job_logs(self, _: str) -> str:
            return self.text

    client = Flaky()
    following = Following(client, "a")
    assert following.read_lines() == ["one"]
    client.up = False
    assert following.read_lines() == []
    assert following.silent_s > 0
    client.up, client.text, client.status = True, "one\ntwo\n\nthree", JobStatus.SUCCEEDED
    assert following.read_lines() == ["two", "", "three"]
    assert following.ended is not None
    assert following.ended.status == "SUCCEEDED"
    assert following.silent_s == 0
