"""A failure of a lane: who caused it, whether another try may succeed, and how to say it."""

from __future__ import annotations

import errno
import re

from ray.exceptions import (
    ActorDiedError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
)

from hygge.errors import DiskFull, HyggeError, Transient, without_password

_RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception): .+", re.MULTILINE)
"""The last line of a traceback in the text of an error of Ray."""
_NO_IMPORT = "failed to import on the worker"
"""Ray's words for an actor or a task whose code cannot be imported on its node."""
SAME_VERSIONS = (
    "install the same hygge, Python and Ray on every node where lanes may run (one image for all), "
    "or keep lanes off the others with `label_selector`"
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXTS = tuple(f"[Errno {number}]" for number in _FULL)


def is_ray_failure(error: BaseException) -> bool:
    """Return whether Ray failed (a dead process, a lost object), and not the code that it ran."""
    if isinstance(find_cause(error), RayError) or _NO_IMPORT in str(error):
        return True
    return isinstance(error, RayError) and not isinstance(error, RayTaskError)


def find_cause(error: BaseException) -> BaseException:
    """Return what user code or a connector raised, taken out of Ray's RayTaskError."""
    while isinstance(error, RayTaskError):
        inner: BaseException | None = error.cause
        if inner is None or inner is error:
            break
        error = inner
    return error


def is_retryable(error: BaseException, cause: BaseException) -> bool:
    """Return whether another try may succeed, also on the same node."""
    return isinstance(cause, Transient) or is_ray_failure(error)


def is_disk_full(cause: BaseException) -> bool:
    """Return whether a disk was full: that of another node may have room."""
    if isinstance(cause, OSError):
        return cause.errno in _FULL
    if isinstance(cause, RuntimeEnvSetupError):  # Ray unpacks what was shipped on each node
        return any(text in str(cause) for text in _FULL_TEXTS)
    return isinstance(cause, DiskFull | OutOfDiskError)


def find_raised(cause: BaseException) -> str:
    """Return the error that ended a worker, as its traceback says it; "" where there is none.

    Such is the import error of a node without hygge, and the error for which Ray could not unpack
    there what was shipped. A process that was killed leaves no traceback.
    """
    is_of_worker = isinstance(cause, ActorDiedError | RuntimeEnvSetupError)
    if not is_of_worker and _NO_IMPORT not in str(cause):
        return ""
    raised = [line for line in _RAISED.findall(str(cause)) if _NO_IMPORT not in line]
    return without_password(raised[-1]) if raised else ""


def describe_failure(error: BaseException, cause: BaseException, end: str) -> str:
    """Return what happened, in one line. `end`: whose call failed, `home`, `store` or ""."""
    if isinstance(cause, HyggeError):
        return cause.message
    if raised := find_raised(cause):
        if is_disk_full(cause):
            return f"the disk with Ray's session folder is full: {raised}"
        return f"its processes cannot run there: {raised}"
    if isinstance(cause, ActorDiedError):
        if "its node has died" in str(cause):
            return "the node died"
        # A call that returned an error ran in a living process: the Inbox is the one that died.
        who = "inbox" if isinstance(error, RayTaskError) else end
        return f"the {who}'s process died" if who else "one of its processes died"
    if isinstance(cause, OutOfMemoryError):
        return "a process was ended because the node ran out of memory"
    if isinstance(cause, ObjectStoreFullError):
        return "Ray's object store is full"
    if isinstance(cause, OutOfDiskError):
        return "the disk with Ray's session folder is full"
    lines = without_password(str(cause)).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0] if lines else ''}"


def suggest_remedy(cause: BaseException) -> str | None:
    """Return the hint of an error; where it has none of its own, a general one."""
    if isinstance(cause, HyggeError):
        return cause.hint
    if is_disk_full(cause):
        return "free some space there, or keep lanes off that node with `label_selector`"
    if find_raised(cause):
        return SAME_VERSIONS
    is_killed = isinstance(cause, ActorDiedError) and "its node has died" not in str(cause)
    if is_killed or isinstance(cause, OutOfMemoryError):
        return (
            "a process that dies without an error was killed from outside, mostly because memory "
            "ran out (`dmesg` tells): lower `lanes` or `memory_per_lane`, then run it again"
        )
    return "look at the workers' logs (`ray logs`); run it again when the cause is gone"
