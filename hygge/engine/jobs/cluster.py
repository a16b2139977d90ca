"""A Ray cluster as it is reached from outside: through the jobs API of its dashboard, over HTTP.

`Cluster(address)` comes to one, or says in a sentence why it cannot: nobody answers, it is no Ray,
its Ray is another than hygge knows, the token is missing or wrong. A run is a Ray job that runs the
Coordinator; its flows are Ray jobs that name it in their metadata (`engine/jobs/submit.py`). No
secret goes into what is submitted, and Ray's token authentication is only ever switched on.
"""

from __future__ import annotations

import importlib.metadata
import ipaddress
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

from hygge import __version__
from hygge.engine.jobs.following import client_of, short, submitted
from hygge.engine.jobs.shipping import Package
from hygge.engine.jobs.submit import FILE, FLOW, RUN, STOP_WAIT, as_entrypoint
from hygge.engine.ray import connection
from hygge.errors import HyggeError, UsageError, without_password

_ANSWER_WITHIN_S = 10.0
_STOP_WITHIN_S = 60.0
_LOOKS, _LOOK_S = 2, 0.5
VERSION = "HYGGE_SUBMITTED_BY"
"""In the Coordinator's environment: the version of the hygge that submitted it."""


def address_of(asked: str | None) -> str | None:
    """The cluster that runs are to be submitted to, or None: flows then run from this process.

    `--address`, else an http RAY_ADDRESS, else RAY_API_SERVER_ADDRESS. A plain RAY_ADDRESS names
    a Ray that this process attaches to by itself; a job submits its flows to its own.
    """
    if asked:
        return asked
    near = os.environ.get("RAY_ADDRESS", "")
    if connection.in_job() or (near and not near.startswith(("http://", "https://"))):
        return None
    return near or os.environ.get("RAY_API_SERVER_ADDRESS") or None


def any_address(asked: str | None) -> str:
    """For what is only about submitted runs: also beside a RAY_ADDRESS, and a Ray of this machine.

    Raises UsageError where there is none.
    """
    address = address_of(asked) or os.environ.get("RAY_API_SERVER_ADDRESS")
    if address is None and connection.running() is not None:
        address = connection.connect().dashboard
    if address is None:
        raise UsageError(
            "no Ray cluster is named",
            "--address http://head:8265, or set RAY_API_SERVER_ADDRESS",
        )
    return address


class Cluster:
    """One that answers and fits; raises UsageError or HyggeError."""

    def __init__(self, address: str) -> None:
        self.address = _url(address)
        self.version = _ray_of(self.address)
        self._client = _client(self.address)

    @property
    def client(self) -> Any:
        """Ray's own, for whoever follows a job."""
        return self._client

    def warnings(self) -> list[str]:
        """What people should know before they submit to it."""
        import ray

        host = urlsplit(self.address).hostname or ""
        said = []
        far = self.address.startswith("http://") and not _is_loopback(host)
        if far and not connection.has_token():
            said.append(
                f"{self.address} is another host, reached in clear and without a token: whoever "
                "reaches it runs any code there. Switch on Ray's token authentication "
                "(`ray get-auth-token`), and go through https or a tunnel"
            )
        if self.version != ray.__version__:
            said.append(f"the cluster runs Ray {self.version}, and here is Ray {ray.__version__}")
        return said

    def submit(self, job: str, file: str, words: Sequence[str], package: Package | None) -> None:
        """Start the Coordinator of `file`, in what `package` ships; the id is the caller's."""
        for name in ("ray", "ray.dashboard.modules.dashboard_sdk"):
            logging.getLogger(name).setLevel(logging.WARNING)
        shipped: dict[str, Any] = {}
        if package is not None:
            shipped = {"working_dir": str(package.folder), "excludes": list(package.excludes)}
        env = {VERSION: __version__, STOP_WAIT: "15"}
        try:
            submitted(
                self._client,
                job,
                entrypoint=as_entrypoint(["hygge", "run", file, *words]),
                runtime_env={"env_vars": env, **shipped},
                metadata={FILE: file.rpartition("/")[2], "hygge_version": __version__},
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise HyggeError(
                f"{self.address} did not take the job: {short(error)}",
                f"what it did not take is not running; `hygge status {job}` asks it",
            ) from error

    def jobs(self) -> list[Any]:
        """Every job that was submitted, Ray's own words."""
        try:
            return [each for each in self._client.list_jobs() if each.submission_id]
        except (RuntimeError, OSError) as error:
            raise _unanswered(self.address, error) from error

    def job(self, name: str) -> Any:
        """One of them; raises HyggeError where there is none of that id."""
        known = self.jobs()
        for each in known:
            if each.submission_id == name:
                return each
        ours = [each.submission_id for each in known if is_ours(each)]
        hint = f"the newest: {', '.join(ours[-5:])}" if ours else "nothing was submitted there yet"
        flows = [each for each in known if (each.metadata or {}).get(RUN) == name]
        if flows:  # a run that a command drives from its own machine
            return None
        raise HyggeError(f"{self.address} knows no run and no flow '{name}'", hint)

    def flows_of(self, run: str) -> list[Any]:
        """The flows' jobs of a run, oldest first."""
        found = [each for each in self.jobs() if (each.metadata or {}).get(RUN) == run]
        return sorted(found, key=lambda each: each.start_time or 0)

    def ask_to_stop(self, run: str) -> None:
        """Ray then stops it; raises HyggeError where it cannot be asked."""
        try:
            self._client.stop_job(run)
        except (RuntimeError, OSError) as error:
            raise HyggeError(
                f"{run} was not stopped: {_unanswered(self.address, error).message}",
                f"it goes on; `hygge stop {run}` stops it when the cluster answers again",
            ) from error

    def stop(self, name: str) -> list[str]:
        """Stop a run and what is left of its flows; gives the ids of those that were running.

        The run itself first, so that it starts no other flow; its flows also where it was killed.
        """
        job = self.job(name)
        stopped = [*self._ended([job] if job is not None else [])]
        looks = 0
        while looks < _LOOKS:  # one that was just being submitted is there a moment later
            left = self._ended(self.flows_of(name))
            looks = 0 if left else looks + 1
            stopped += left
            time.sleep(_LOOK_S if looks < _LOOKS else 0)
        return stopped

    def _ended(self, jobs: Iterable[Any]) -> list[str]:
        running = [each.submission_id for each in jobs if not each.status.is_terminal()]
        until = time.monotonic() + _STOP_WITHIN_S
        try:
            for each in running:
                self._client.stop_job(each)
            for each in running:
                while not self._client.get_job_status(each).is_terminal():
                    if time.monotonic() > until:
                        raise HyggeError(
                            f"Ray job {each} was asked to stop, and runs still",
                            f"look at it with `hygge logs {each}`, then stop it again",
                        )
                    time.sleep(0.2)
        except (RuntimeError, OSError) as error:
            raise _unanswered(self.address, error) from error
        return running


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, and 127.example.com is one
        return host == "localhost"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib would take the token along to whatever host it is sent to."""

    def redirect_request(self, *_: Any) -> None:
        return None


def is_ours(job: Any) -> bool:
    """Whether hygge submitted a job."""
    return FILE in (job.metadata or {}) or FLOW in (job.metadata or {})


def _url(address: str) -> str:
    url = address.rstrip("/") if "://" in address else f"http://{address.rstrip('/')}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"{without_password(address)} is no address of Ray's dashboard",
            "name it as --address http://head:8265",
        )
    if parts.username or parts.password:
        raise UsageError(
            "the address holds a user or a password, which would be shown in the process list",
            "a token belongs into RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token",
        )
    return url


def _ray_of(address: str) -> str:
    """The version of the Ray there; raises HyggeError where there is none, or none that fits."""
    request = urllib.request.Request(f"{address}/api/version", headers=_token_header())
    try:
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(request, timeout=_ANSWER_WITHIN_S) as answer:
            version = str(json.loads(answer.read(100_000))["ray_version"])
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise _unauthorized(address, error.code == 401) from error
        if 300 <= error.code < 400:
            raise _elsewhere(address, error.headers.get("Location") or "") from error
        raise _not_a_ray(address, f"it answered with status {error.code}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _not_a_ray(address, "it answered, in other words than Ray's") from error
    except OSError as error:
        raise _unanswered(address, getattr(error, "reason", error)) from error
    if not _fits(version):
        import ray

        raise HyggeError(
            f"the cluster at {address} runs Ray {version}; hygge {__version__} needs "
            f"{_needed()}, and here is Ray {ray.__version__}",
            "let the cluster's image and this machine install the same hygge: it chooses its Ray",
        )
    return version


def _needed() -> str:
    """Which Ray hygge needs, as its package says: `>=2.60,<2.62`."""
    for each in importlib.metadata.requires("hygge-data") or ():
        found = re.match(r"ray\[default\]\s*\(?([^;)]+)", each)
        if found:
            return ",".join(sorted(found[1].strip().split(","), reverse=True))
    return ">=2.60"


def _fits(version: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(_needed()).contains(version, prereleases=True)


def _token_header() -> dict[str, str]:
    """Ray's own way to find the token; also what makes its client offer it."""
    if connection.has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray._private.authentication.http_token_authentication import (
        get_auth_headers_if_auth_enabled,
    )
    from ray.exceptions import AuthenticationError

    try:
        found: dict[str, str] = get_auth_headers_if_auth_enabled({})
    except (RuntimeError, AuthenticationError) as error:
        raise HyggeError(
            f"Ray's token cannot be read: {short(error)}",
            "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH and ~/.ray/auth_token are where it may be",
        ) from error
    return found


def _client(address: str) -> Any:
    try:
        return client_of(address)
    except (RuntimeError, OSError) as error:
        raise _unanswered(address, error) from error


def _unanswered(address: str, error: object) -> HyggeError:
    return HyggeError(
        f"there is no answer from {address}: {short(error)}",
        "is it the address of the dashboard (port 8265), does it listen for other hosts "
        "(--dashboard-host), and is the tunnel or port-forward up?",
    )


def _not_a_ray(address: str, why: str) -> HyggeError:
    return HyggeError(
        f"there is no Ray dashboard at {address}: {why}",
        "name the dashboard's port, 8265 unless told otherwise: --address http://head:8265",
    )


def _elsewhere(address: str, location: str) -> HyggeError:
    parts = urlsplit(urljoin(address, location))
    there = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return HyggeError(
        f"{address} redirects to {there}, and Ray's token is not taken along",
        f"if that is your cluster, name it: --address {there}",
    )


def _unauthorized(address: str, none_given: bool) -> HyggeError:
    return HyggeError(
        f"{address} asks for a token, and "
        + ("none was given" if none_given else "the one that was given is another cluster's"),
        "put the cluster's token into ~/.ray/auth_token, or name its file with "
        "RAY_AUTH_TOKEN_PATH; `ray get-auth-token` on the head prints it",
    )
