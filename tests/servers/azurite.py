"""A real Azure Blob endpoint for tests: one Azurite of this process, on 127.0.0.1.

It is of npm, and put into this Python's own folder by the first test that asks. Without npm the
tests are skipped, in CI they fail.
"""

from __future__ import annotations

import atexit
import base64
import email.utils
import fcntl
import functools
import hashlib
import hmac
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.missing import skipped_without
from tests.servers.s3 import end
from tests.waiting import LIMIT_S, free_port, until

ACCOUNT, CONTAINER = "devstoreaccount1", "lake"
KEY = (  # Azurite's own, the same for everybody
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
_PACKAGE = "azurite@3.35.0"
_FOLDER = Path(sys.prefix, _PACKAGE)


@functools.cache
def program() -> str | None:
    """Azurite's program, put there if need be, whole or not at all; None where there is no npm."""
    npm = shutil.which("npm")
    with Path(f"{_FOLDER}.lock").open("w") as lock:  # workers side by side want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _FOLDER.exists() and npm:
            new = tempfile.mkdtemp(prefix="azurite-", dir=sys.prefix)
            command = [npm, "install", "--prefix", new, _PACKAGE, "--ignore-scripts"]
            command += ["--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=5"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"npm cannot install {_PACKAGE}: {done.stderr}"
            os.rename(new, _FOLDER)
    return str(_FOLDER / "node_modules/.bin/azurite-blob") if _FOLDER.exists() else None


@functools.cache
def started() -> str:
    """The endpoint of the one server of this process, with an empty container in it."""
    found = program()
    if found is None:
        skipped_without("Azurite", "apt-get install npm; the tests then fetch it by themselves")
    folder = tempfile.mkdtemp(prefix="hygge-azure-")
    port = free_port()
    command = [found, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    command += ["--disableTelemetry", "--skipApiVersionCheck", "--silent"]
    if setpriv := shutil.which("setpriv"):  # it ends with us, also when we are killed
        command = [setpriv, "--pdeathsig", "TERM", *command]
    log = Path(folder, "log")
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder)
    atexit.register(end, server, folder, os.getpid())

    def made() -> bool:
        assert server.poll() is None, log.read_text()
        return _make(port, CONTAINER) in (201, 409)  # or its answer was too late

    until(made, log.read_text, every_s=0.1)
    return f"http://127.0.0.1:{port}/{ACCOUNT}"


def _make(port: int, container: str) -> int:
    """The status of making a container, which obstore does not do; 0 where nobody answers."""
    path, date = f"/{ACCOUNT}/{container}", email.utils.formatdate(usegmt=True)
    told = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/{ACCOUNT}{path}\nrestype:container"
    signed = hmac.new(base64.b64decode(KEY), f"PUT{chr(10) * 12}{told}".encode(), hashlib.sha256)
    headers = {
        "x-ms-date": date,
        "x-ms-version": "2021-08-06",
        "Content-Length": "0",
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(signed.digest()).decode()}",
    }
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        asking.request("PUT", f"{path}?restype=container", headers=headers)
        return asking.getresponse().status
    except OSError:
        return 0
    finally:
        asking.close()
