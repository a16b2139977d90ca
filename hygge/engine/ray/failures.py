"""What went wrong in a lane: whose failure it was, whether a retry may mend it, and its words."""

from __future__ import annotations

from hygge.errors import HyggeError, Transient, without_password


def is_ray(error: BaseException) -> bool:
    """Whether Ray itself failed (a dead process, a lost object), and not the code it ran."""
    from ray.exceptions import RayError, RayTaskError

    return isinstance(cause_of(error), RayError) or (
        isinstance(error, RayError) and not isinstance(error, RayTaskError)
    )


def cause_of(error: BaseException) -> BaseException:
    """What the user's code or a connector raised, out of Ray's wrapping."""
    from ray.exceptions import RayTaskError

    while isinstance(error, RayTaskError):
        inner: BaseException | None = error.cause
        if inner is None or inner is error:
            break
        error = inner
    return error


def may_be_mended(error: BaseException, cause: BaseException) -> bool:
    """Whether another try may go well."""
    return isinstance(cause, Transient) or is_ray(error)


def said_of(error: BaseException, cause: BaseException, who: str) -> str:
    """What happened, in one line; `who` is the end of a lane that was called."""
    from ray.exceptions import (
        ActorDiedError,
        ObjectStoreFullError,
        OutOfMemoryError,
        RayTaskError,
    )

    if isinstance(cause, HyggeError):
        return cause.message
    if isinstance(cause, ActorDiedError):
        # An end that lives to tell of a death tells of its Inbox's.
        who = "inbox" if isinstance(error, RayTaskError) else who
        return f"the {who}'s process died" if who else "one of its processes died"
    if isinstance(cause, OutOfMemoryError):
        return "a process was ended because the node ran out of memory"
    if isinstance(cause, ObjectStoreFullError):
        return "Ray's object store is full"
    first = without_password(str(cause)).strip().splitlines()
    return f"{type(cause).__name__}: {first[0] if first else ''}"


def hint_of(cause: BaseException) -> str:
    """What to do about an error that has no hint of its own."""
    from ray.exceptions import ActorDiedError, OutOfMemoryError

    if isinstance(cause, ActorDiedError | OutOfMemoryError):
        return (
            "a process that dies without an error was killed from outside, mostly because memory "
            "ran out (`dmesg` tells): lower `lanes` or `memory_per_lane`, then run it again"
        )
    return "look at the workers' logs (`ray logs`); run it again when the cause is gone"
