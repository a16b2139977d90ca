"""A Ray cluster reached from outside, through the jobs API of its dashboard, over HTTP.

`Cluster(address)` connects to it, or says in a sentence why it cannot: nobody answers, it is no
Ray, hygge does not support its Ray, the token is missing or wrong. A run is then a Ray job that
runs the Coordinator, and its flows are Ray jobs that name the run in their metadata. What is
submitted contains no secret. Ray's token authentication is only ever switched on here, never off.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import ipaddress
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

from hygge import __version__
from hygge.engine.jobs.addresses import normalize
from hygge.engine.jobs.client import (
    FILE,
    NAME,
    RUN,
    STOP_WAIT,
    JobClient,
    JobDetails,
    is_from_hygge,
    make_entrypoint,
    metadata_of,
    open_client,
    shorten_error,
    submit_job,
)
from hygge.engine.jobs.instructions import REQUEST
from hygge.engine.jobs.shipping import Package
from hygge.engine.ray import connection
from hygge.engine.ray.ports import describe, look_at
from hygge.errors import HyggeError

_ANSWER_WITHIN_S = 10.0
_STOP_WITHIN_S = 60.0
_LOOKS, _LOOK_S = 2, 0.5
VERSION = "HYGGE_SUBMITTED_BY"
"""Environment variable of the Coordinator: the version of the hygge that submitted it."""


class Cluster:
    """A cluster that answers and whose Ray fits; raises UsageError or HyggeError otherwise."""

    def __init__(self, address: str) -> None:
        self.address = normalize(address)
        self.version = _check_version(self.address)
        self._client = _open_client(self.address)

    @property
    def client(self) -> JobClient:
        """The client of Ray's jobs API, for following a job."""
        return self._client

    def warnings(self) -> list[str]:
        """Return what people should know before they submit to this cluster."""
        import ray

        host = urlsplit(self.address).hostname or ""
        texts = []
        is_far = self.address.startswith("http://") and not _is_loopback(host)
        if is_far and not connection.has_token():
            texts.append(
                f"{self.address} is another host, reached in clear and without a token: whoever "
                "reaches it runs any code there. Switch on Ray's token authentication "
                "(`ray get-auth-token`), and go through https or a tunnel"
            )
        if self.version != ray.__version__:
            texts.append(f"the cluster runs Ray {self.version}, and here is Ray {ray.__version__}")
        return texts

    def submit(
        self,
        job: str,
        file: str,
        words: Sequence[str],
        package: Package | None,
        runtime_env: Mapping[str, Any] | None = None,
        verb: str = "run",
    ) -> None:
        """Start a job that runs `hygge run`, or another `verb`, inside what `package` ships.

        The caller chooses the id `job`; `words` follow the name of the file. `runtime_env` is what
        Ray installs on the nodes first, perhaps hygge itself. Only what runs is listed as a run.
        """
        for name in ("ray", "ray.dashboard.modules.dashboard_sdk"):
            logging.getLogger(name).setLevel(logging.WARNING)
        name = file.rpartition("/")[2]
        shipped: dict[str, Any] = dict(runtime_env or {})
        if package is not None:
            shipped["working_dir"] = str(package.folder)
            shipped["excludes"] = list(package.excludes)
        variables = {**(shipped.get("env_vars") or {}), VERSION: __version__, STOP_WAIT: "15"}
        if request := os.environ.get(REQUEST):
            variables[REQUEST] = request
        # Where Ray brings hygge to the nodes there is no script of that name.
        command = ["python", "-m", "hygge"] if runtime_env else ["hygge"]
        metadata = {FILE: name, NAME: name, "hygge_version": __version__}
        if verb != "run":
            metadata = {NAME: f"{verb} {name}"}
        try:
            submit_job(
                self._client,
                job,
                entrypoint=make_entrypoint([*command, verb, file, *words]),
                runtime_env={**shipped, "env_vars": variables},
                metadata=metadata,
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise HyggeError(
                f"{self.address} did not take the job: {shorten_error(error)}",
                f"what it did not take is not running; `hygge status {job}` asks it",
            ) from error

    def list_jobs(self) -> list[JobDetails]:
        """Return every job that was submitted; drivers without a submission id are left out."""
        try:
            return [job for job in self._client.list_jobs() if job.submission_id]
        except (RuntimeError, OSError) as error:
            raise _no_answer(self.address, error) from error

    def find_job(self, name: str) -> JobDetails | None:
        """Return the job with this id, or None for a run that a command elsewhere drives.

        Such a run has no job of its own, only those of its flows. Raises HyggeError where neither
        exists.
        """
        jobs = self.list_jobs()
        for job in jobs:
            if job.submission_id == name:
                return job
        if any(metadata_of(job).get(RUN) == name for job in jobs):
            return None
        ours = [job.submission_id for job in jobs if is_from_hygge(job)]
        hint = f"the newest: {', '.join(ours[-5:])}" if ours else "nothing was submitted there yet"
        raise HyggeError(f"{self.address} knows no run and no flow '{name}'", hint)

    def list_flow_jobs(self, run: str) -> list[JobDetails]:
        """Return the jobs of the flows of a run, oldest first."""
        jobs = [job for job in self.list_jobs() if metadata_of(job).get(RUN) == run]
        return sorted(jobs, key=lambda job: job.start_time or 0)

    def request_stop(self, run: str) -> None:
        """Ask Ray to stop a run, and do not wait; raise HyggeError when Ray does not answer."""
        try:
            self._client.stop_job(run)
        except (RuntimeError, OSError) as error:
            raise HyggeError(
                f"{run} was not stopped: {_no_answer(self.address, error).message}",
                f"it goes on; `hygge stop {run}` stops it when the cluster answers again",
            ) from error

    def stop(self, name: str) -> list[str]:
        """Stop a run and its flows, wait for their end, and return the ids of those that ran.

        The run is stopped first, so that it starts no further flow. Its flows are stopped also
        where the run was killed and could not stop them.
        """
        job = self.find_job(name)
        stopped = self._stop_jobs([job]) if job is not None else []
        looks = 0
        while looks < _LOOKS:  # a flow that was just being submitted appears a moment later
            remaining = self._stop_jobs(self.list_flow_jobs(name))
            looks = 0 if remaining else looks + 1
            stopped += remaining
            time.sleep(_LOOK_S if looks < _LOOKS else 0)
        return stopped

    def _stop_jobs(self, jobs: Iterable[JobDetails]) -> list[str]:
        running = [job.submission_id for job in jobs if not job.status.is_terminal()]
        until = time.monotonic() + _STOP_WITHIN_S
        try:
            for name in running:
                self._client.stop_job(name)
            for name in running:
                while not self._client.get_job_status(name).is_terminal():
                    if time.monotonic() > until:
                        raise HyggeError(
                            f"Ray job {name} was asked to stop, and runs still",
                            f"look at it with `hygge logs {name}`, then stop it again",
                        )
                    time.sleep(0.2)
        except (RuntimeError, OSError) as error:
            raise _no_answer(self.address, error) from error
        return running


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, and 127.example.com is one
        return host == "localhost"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would send the token to the host that the answer names."""

    def redirect_request(self, *_: object) -> None:
        return None


def _check_version(address: str) -> str:
    """Return the cluster's version of Ray; raise HyggeError without a Ray that hygge supports."""
    request = urllib.request.Request(f"{address}/api/version", headers=_token_header())
    try:
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(request, timeout=_ANSWER_WITHIN_S) as answer:
            version = str(json.loads(answer.read(100_000))["ray_version"])
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise _unauthorized(address, error.code == 401) from error
        if 300 <= error.code < 400:
            raise _redirected(address, error.headers.get("Location") or "") from error
        raise _not_a_ray(address, f"it answered with status {error.code}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _not_a_ray(address, "it answered, in other words than Ray's") from error
    except (OSError, http.client.HTTPException) as error:
        raise _no_dashboard(address, getattr(error, "reason", error)) from error
    if not _is_supported(version):
        import ray

        raise HyggeError(
            f"the cluster at {address} runs Ray {version}; hygge {__version__} needs "
            f"{_required_ray()}, and here is Ray {ray.__version__}",
            "let the cluster's image and this machine install the same hygge: it chooses its Ray",
        )
    return version


def _required_ray() -> str:
    """Return the versions of Ray that hygge's package requires, as `>=2.52.1,<2.61`."""
    for requirement in importlib.metadata.requires("hygge-data") or ():
        match = re.match(r"ray\[default\]\s*\(?([^;)]+)", requirement)
        if match:
            return ",".join(sorted(match[1].strip().split(","), reverse=True))
    return ">=2.52.1"


def _is_supported(version: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(_required_ray()).contains(version, prereleases=True)


def _token_header() -> dict[str, str]:
    """Return the header with the token that Ray finds; this also makes Ray's client send it."""
    if connection.has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray._private.authentication.http_token_authentication import (
        get_auth_headers_if_auth_enabled,
    )
    from ray.exceptions import AuthenticationError

    try:
        headers: dict[str, str] = get_auth_headers_if_auth_enabled({})
    except (RuntimeError, AuthenticationError) as error:
        raise HyggeError(
            f"Ray's token cannot be read: {shorten_error(error)}",
            "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH and ~/.ray/auth_token are where it may be",
        ) from error
    return headers


def _open_client(address: str) -> JobClient:
    try:
        return open_client(address)
    except (RuntimeError, OSError) as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str, error: object) -> HyggeError:
    return HyggeError(
        f"there is no answer from {address}: {shorten_error(error)}",
        "is it the address of the dashboard (port 8265), does it listen for other hosts "
        "(--dashboard-host), and is the tunnel or port-forward up?",
    )


def _no_dashboard(address: str, error: object) -> HyggeError:
    """Return the error for a URL that gives no answer by HTTP; it says what its port is for."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        answer = look_at(parts.hostname or "", port)
    except (OSError, ValueError):
        return _no_answer(address, error)
    if answer in ("dashboard", "http") or parts.scheme == "https":
        return _no_answer(address, error)
    return _not_a_ray(address, f"at that port is {describe(answer)}")


def _not_a_ray(address: str, why: str) -> HyggeError:
    return HyggeError(
        f"there is no Ray dashboard at {address}: {why}",
        "name the dashboard's port, 8265 unless told otherwise: --address http://head:8265",
    )


def _redirected(address: str, location: str) -> HyggeError:
    parts = urlsplit(urljoin(address, location))
    there = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return HyggeError(
        f"{address} redirects to {there}, and Ray's token is not taken along",
        f"if that is your cluster, name it: --address {there}",
    )


def _unauthorized(address: str, is_missing: bool) -> HyggeError:
    which = "none was given" if is_missing else "the one that was given is another cluster's"
    return HyggeError(
        f"{address} asks for a token, and {which}",
        "put the cluster's token into ~/.ray/auth_token, or name its file with "
        "RAY_AUTH_TOKEN_PATH; `ray get-auth-token` on the head prints it",
    )
