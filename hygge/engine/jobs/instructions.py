"""Instructions of a Coordinator for the Ray job of a flow, in the variable HYGGE_FLOW_JOB.

The text is small JSON without secrets, because Ray shows a job's environment to everybody who may
list jobs. In a process without the variable every instruction has its default.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from hygge.engine.jobs.restarts import read_try
from hygge.errors import without_password
from hygge.model import from_facts
from hygge.run.driver import Attempt

FLOW_JOB = "HYGGE_FLOW_JOB"
REQUEST = "HYGGE_REQUEST"
"""Environment variable of a command: the name of what is asked for. Who starts the command again
after a failure gives the same name, and what is done is not done again."""
_SECRET = re.compile(r"PASS|PWD|SECRET|TOKEN|KEY|CREDENTIAL|SIGNATURE|SAS", re.IGNORECASE)


@dataclass(frozen=True)
class Instructions:
    """The fields are the JSON keys: a job of another version of hygge must still read them."""

    request: str = ""
    """The command that asked for this flow; the same for every try."""
    number: int = 1
    """The number of this try, from 1."""
    connections: Mapping[str, int] = field(default_factory=dict)
    """Connection name → how many the job may open; the file's number for all others."""
    parallel: int | None = None
    """The number of the flow's tables that may run at once; None: as the file says."""
    store_share: float = 1.0
    """The part of the nodes' object stores that lanes of this job may fill, 0 to 1."""

    command: str = ""
    """The id of the command's request for all of its flows; empty: it has none."""
    earlier: str = ""
    """When the earlier run of the command began that did not end that request; empty: none did."""

    start_from: str | None = None
    """The value of the cursor that the flow starts from, where its store knows none."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """Name of each variable in the file → digest of the value that the Coordinator saw."""
    is_named: bool = False
    """Whether the request is the HYGGE_REQUEST of the command."""

    @property
    def attempt(self) -> Attempt:
        """The request and the number; all flows of a job share them, each has its own journal."""
        return Attempt(self.request, self.number, self.is_named, self.command)

    def to_json(self) -> str:
        """Return the text of the environment variable."""
        return json.dumps(asdict(self))


def digest(name: str, value: str) -> str:
    """Return 16 bits that tell whether two values differ, and not what they are.

    The bits are the same in every run, so many runs reveal no more than one. Of a variable that is
    named like a secret, and of a password in a URL, only whether it is set enters the digest.
    """
    value = "set" if value and is_named_like_a_secret(name) else without_password(value)
    return hashlib.sha256(f"{name}={value}".encode()).hexdigest()[:4]


def is_named_like_a_secret(name: str) -> bool:
    """Return whether the name of a variable says that its value is a secret."""
    return bool(_SECRET.search(name))


def is_flow_job() -> bool:
    """Return whether a Coordinator submitted this process as the job of a flow."""
    return bool(os.environ.get(FLOW_JOB))


def instructions() -> Instructions:
    """Return the instructions of this process; keys that only another version knows are skipped.

    In a command, which has none, the request is HYGGE_REQUEST. One that is started again when it is
    killed has the request of its first try.
    """
    if is_flow_job():
        return from_facts(Instructions, json.loads(os.environ[FLOW_JOB]))
    name = os.environ.get(REQUEST, "").strip()
    own = read_try()
    if own is None:
        return Instructions(name, is_named=bool(name))
    return Instructions(name or own.request, own.number, is_named=bool(name))
