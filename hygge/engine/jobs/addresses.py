"""Which cluster is meant, and the address of its dashboard: `--address`, or a variable.

What the command line names wins over every variable.
"""

from __future__ import annotations

import os
import re
from urllib.parse import SplitResult, urlsplit

from hygge.engine.ray import connection
from hygge.errors import UsageError, without_password


def choose_address(given: str | None) -> str | None:
    """Return the cluster that runs are submitted to, or None where flows run from this process.

    `given` is `--address`. Next come an http RAY_ADDRESS and RAY_API_SERVER_ADDRESS. A RAY_ADDRESS
    that is not http names a Ray that this process attaches to by itself, and a process inside a Ray
    job submits its flows to the Ray of that job.
    """
    if given:
        return given
    ray_address = os.environ.get("RAY_ADDRESS", "").strip()
    is_dashboard = ray_address.lower().startswith(("http://", "https://"))
    if connection.is_in_job() or (ray_address and not is_dashboard):
        return None
    return normalize(ray_address, "RAY_ADDRESS") if ray_address else _read_api_server()


def require_address(given: str | None) -> str:
    """Return the cluster whose submitted runs are meant, for `status`, `logs` and `stop`.

    Raises UsageError where there is none.
    """
    address = find_address(given)
    if address is None:
        raise UsageError(
            "no Ray cluster is named",
            "--address http://head:8265, or set RAY_API_SERVER_ADDRESS",
        )
    return address


def find_address(given: str | None) -> str | None:
    """Return the cluster whose submitted runs are meant, or None.

    As `choose_address`, and where that gives None, RAY_API_SERVER_ADDRESS or the Ray that runs on
    this machine.
    """
    address = choose_address(given) or _read_api_server()
    if address is None and connection.find_running() is not None:
        address = connection.connect().dashboard
    return address


def _read_api_server() -> str | None:
    name = "RAY_API_SERVER_ADDRESS"
    text = os.environ.get(name, "").strip()
    return normalize(text, name) if text else None


def normalize(address: str, variable: str = "") -> str:
    """Return the address as a URL; raise UsageError for another scheme, or a password in it.

    It may be copied from a browser, which shows the dashboard at `http://head:8265/#/overview`.
    `variable`: where it stands, unless the command line gives it.
    """
    text = re.split("[?#]", address.strip())[0].rstrip("/")
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
    except ValueError:  # brackets that do not hold an IPv6 address
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not _has_host(parts):
        shown = without_password(text) or "an empty text"
        where = f"{variable}: " if variable else ""
        raise UsageError(
            f"{where}{shown} is no address of Ray's dashboard",
            "name it as --address http://head:8265",
        )
    if parts.username or parts.password:
        raise UsageError(
            "the address holds a user or a password, which would be shown in the process list",
            "a token belongs into RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token",
        )
    return parts.geturl().rstrip("/")


def _has_host(parts: SplitResult) -> bool:
    """Return whether a URL names a host, and a port that may be one, or none.

    `auto` and `local` are what Ray's own code takes for an address.
    """
    try:
        is_port = parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:
        return False
    host = parts.hostname or ""
    is_name = bool(host) and host not in ("auto", "local") and not re.search(r"\s", host)
    return is_port and is_name and not parts.path.startswith("//")
