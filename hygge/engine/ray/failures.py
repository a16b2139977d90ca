"""A failure of a lane: who caused it, whether another try may succeed, and how to say it."""

from __future__ import annotations

from ray.exceptions import (
    ActorDiedError,
    ObjectStoreFullError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
)

from hygge.errors import HyggeError, Transient, without_password


def is_ray_failure(error: BaseException) -> bool:
    """Return whether Ray failed (a dead process, a lost object), and not the code that it ran."""
    if isinstance(find_cause(error), RayError):
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
    """Return whether another try may succeed."""
    return isinstance(cause, Transient) or is_ray_failure(error)


def describe_failure(error: BaseException, cause: BaseException, end: str) -> str:
    """Return what happened, in one line. `end`: whose call failed, `home`, `store` or ""."""
    if isinstance(cause, HyggeError):
        return cause.message
    if isinstance(cause, ActorDiedError):
        # A call that returned an error ran in a living process: the Inbox is the one that died.
        who = "inbox" if isinstance(error, RayTaskError) else end
        return f"the {who}'s process died" if who else "one of its processes died"
    if isinstance(cause, OutOfMemoryError):
        return "a process was ended because the node ran out of memory"
    if isinstance(cause, ObjectStoreFullError):
        return "Ray's object store is full"
    lines = without_password(str(cause)).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0] if lines else ''}"


def suggest_remedy(cause: BaseException) -> str | None:
    """Return the hint of an error; where it has none of its own, a general one."""
    if isinstance(cause, HyggeError):
        return cause.hint
    if isinstance(cause, ActorDiedError | OutOfMemoryError):
        return (
            "a process that dies without an error was killed from outside, mostly because memory "
            "ran out (`dmesg` tells): lower `lanes` or `memory_per_lane`, then run it again"
        )
    return "look at the workers' logs (`ray logs`); run it again when the cause is gone"
