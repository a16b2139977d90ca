"""Ray's jobs API, as `submit`, `following` and `cluster` use it.

`open_client` gives a client whose requests time out. `submit_job` submits a job exactly once, also
when an answer is lost. The names of metadata keys are declared here, because the process that
submits a job and the command that lists jobs must agree on them.
"""

from __future__ import annotations

import re
import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from hygge.errors import Stopped, without_password
from hygge.run.engines import backoff_s

RUN, FLOW, FILE, TRY = "hygge_run", "hygge_flow", "hygge_file", "hygge_try"
"""Keys of a job's metadata. The run is the submission id of its Coordinator, where it has one."""
NAME = "job_name"
"""The key of a job's metadata whose value Ray's dashboard shows as the name of the job."""
STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
"""Environment variable: seconds between SIGTERM and SIGKILL when Ray stops a job."""
_SUBMIT_WITHIN_S = 60.0
_REQUEST_WITHIN_S = 60.0
_NOT_YET = re.compile(r"No available agent|not yet been started|try again later", re.I)


class JobStatus(Protocol):
    """Ray's status of a job; `value` is one of PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED."""

    value: str

    def is_terminal(self) -> bool: ...


class JobDetails(Protocol):
    """The facts that Ray keeps about one job."""

    submission_id: str
    status: JobStatus
    message: str | None
    driver_exit_code: int | None
    driver_node_id: str | None
    metadata: Mapping[str, str] | None
    entrypoint: str
    start_time: int | None
    end_time: int | None
    """Both in milliseconds since 1970."""


class JobClient(Protocol):
    """The verbs of Ray's JobSubmissionClient that hygge uses.

    Each raises RuntimeError when Ray refuses the request, and OSError when it does not answer.
    """

    def submit_job(
        self,
        *,
        entrypoint: str,
        submission_id: str,
        runtime_env: dict[str, object] | None,
        metadata: dict[str, str] | None,
        entrypoint_num_cpus: float | None = None,
        entrypoint_memory: int | None = None,
        entrypoint_resources: dict[str, float] | None = None,
        entrypoint_label_selector: dict[str, str] | None = None,
    ) -> str: ...
    def stop_job(self, job: str, /) -> bool: ...
    def get_job_status(self, job: str, /) -> JobStatus: ...
    def get_job_info(self, job: str, /) -> JobDetails: ...
    def get_job_logs(self, job: str, /) -> str: ...
    def list_jobs(self) -> list[JobDetails]: ...


def open_client(url: str) -> JobClient:
    """Return a client of the Ray whose dashboard is at `url`; Ray's own client differs in two ways.

    Its requests have no time limit, and it connects to what RAY_API_SERVER_ADDRESS or RAY_ADDRESS
    names, whatever it is given. Raises RuntimeError or OSError; PermissionError means that Ray did
    not accept the token.
    """
    import ray
    from ray.dashboard.modules.dashboard_sdk import SubmissionClient
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def __init__(self) -> None:
            self._client_ray_version = ray.__version__
            SubmissionClient.__init__(self, url)  # past the variables
            self._check_connection_and_version()

        def _do_request(self, *arguments: object, **options: object) -> object:
            try:
                # A redirect would send the token to the host that it names.
                only_here = {"timeout": _REQUEST_WITHIN_S, "allow_redirects": False}
                return super()._do_request(*arguments, **only_here, **options)
            except AuthenticationError as error:
                raise PermissionError(str(error).splitlines()[0]) from error

    client: JobClient = Client()
    return client


def submit_job(
    client: JobClient,
    job: str,
    stop: threading.Event | None = None,
    *,
    entrypoint: str,
    runtime_env: dict[str, object] | None = None,
    metadata: dict[str, str] | None = None,
    takes: Mapping[str, float] | None = None,
    selector: Mapping[str, str] | None = None,
) -> None:
    """Submit the job under the id `job`, once; wait while a Ray that just started is not ready.

    `takes` are the amounts that its driver takes of a node, by Ray's names; without, Ray places it
    on the head. `selector` selects nodes by their labels, where the Ray can do so.

    Raises RuntimeError or OSError when Ray did not accept it, Stopped when `stop` was set first.
    """
    stop = stop or threading.Event()
    until, retries = time.monotonic() + _SUBMIT_WITHIN_S, 0
    placement: dict[str, Any] = {}
    if takes:
        others = {name: n for name, n in takes.items() if name not in ("CPU", "memory")}
        placement["entrypoint_num_cpus"] = takes.get("CPU")
        placement["entrypoint_memory"] = int(takes["memory"]) if "memory" in takes else None
        placement["entrypoint_resources"] = others or None
    if selector:
        placement["entrypoint_label_selector"] = dict(selector)
    while True:
        try:
            client.submit_job(
                submission_id=job,
                entrypoint=entrypoint,
                runtime_env=runtime_env,
                metadata=metadata,
                **placement,
            )
            return
        except (RuntimeError, OSError) as error:
            text = str(error)
            if retries and "already exists" in text:  # an earlier request arrived, its answer not
                return
            is_lost = isinstance(error, OSError) and not isinstance(error, PermissionError)
            if is_lost and _is_known(client, job):
                return
            may_succeed = _NOT_YET.search(text) or is_lost
            if not may_succeed or time.monotonic() > until:
                raise
            retries += 1
            if stop.wait(backoff_s(retries)):
                with suppress(RuntimeError, OSError):
                    client.stop_job(job)
                raise Stopped("stopped before Ray took its job") from error


def _is_known(client: JobClient, job: str) -> bool:
    """Return whether Ray has the job, although the answer to its submission did not arrive."""
    try:
        client.get_job_info(job)
    except (RuntimeError, OSError):
        return False  # or nobody answers: then it is submitted again, under the same id
    return True


def metadata_of(job: JobDetails) -> Mapping[str, str]:
    """Return the job's metadata; empty when it was submitted without."""
    return job.metadata or {}


def is_from_hygge(job: JobDetails) -> bool:
    """Return whether hygge submitted the job."""
    return FILE in metadata_of(job) or FLOW in metadata_of(job)


def end_pending_job(job: str) -> None:
    """End a job whose driver waits for a node; Ray's own request to stop waits for it, too."""
    import ray
    from ray.dashboard.modules.job import common

    name = common.JOB_ACTOR_NAME_TEMPLATE.format(job_id=job)
    with suppress(ValueError):  # it has ended
        ray.kill(ray.get_actor(name, namespace=common.SUPERVISOR_ACTOR_RAY_NAMESPACE))


def is_of(job: JobDetails, run: str, flow: str) -> bool:
    """Return whether a job runs this flow for this run."""
    metadata = metadata_of(job)
    return metadata.get(RUN) == run and flow in flow_names(job)


def flow_names(job: JobDetails) -> list[str]:
    """Return the names of the flows of a job; small ones may share it."""
    return metadata_of(job).get(FLOW, "").split(",")


def make_entrypoint(words: Sequence[str]) -> str:
    """Return the shell command of a job. `exec` lets it replace the shell that Ray starts.

    So Ray signals the command itself, waits for it, and reports its exit code.
    """
    return f"exec {shlex.join(words)}"


def shorten_error(error: object) -> str:
    """Return what went wrong in one line without passwords; of a traceback, its last line."""
    lines = [*filter(str.strip, without_password(str(error)).splitlines())]
    if not lines:
        return type(error).__name__
    before, traceback, _ = lines[0].partition("Traceback")
    text = f"{before.strip()} {lines[-1].strip()}" if traceback else lines[0].strip()
    return text[:300]
