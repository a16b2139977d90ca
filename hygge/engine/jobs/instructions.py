"""What a Coordinator tells the job of a flow that it submits, in one environment variable.

Small and without a secret: Ray shows the environment of a job to whoever asks. Where the variable
is not set, this process is no such job, and everything has its default.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from hygge.errors import without_password
from hygge.model import known
from hygge.run.driver import Attempt

CHILD = "HYGGE_FLOW_JOB"
_SECRET = re.compile(r"PASS|PWD|SECRET|TOKEN|KEY|CREDENTIAL|SIGNATURE|SAS", re.IGNORECASE)


@dataclass(frozen=True)
class Told:
    """`connections`: how many of each the job may take; the others as in the file."""

    request: str = ""
    number: int = 1
    connections: Mapping[str, int] = field(default_factory=dict)
    parallel: int | None = None
    """How many of its tables may run at once; None: as the file says."""
    store_share: float = 1.0
    """What part of the nodes' object stores the lanes of this process may fill."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables that the file names → the digest of what they were for the Coordinator."""

    @property
    def attempt(self) -> Attempt:
        """The same for each flow of the job: each has a journal of its own."""
        return Attempt(self.request, self.number)

    def text(self) -> str:
        """For the variable."""
        return json.dumps(asdict(self))


def digest(name: str, value: str) -> str:
    """Enough to see that a value is another one, and too little to find out which it is.

    Sixteen bits, the same ones in each run: whoever reads many runs learns no more than that. Of a
    password, or what is named like one, not a single one: only whether it is set.
    """
    value = "set" if value and _SECRET.search(name) else without_password(value)
    return hashlib.sha256(f"{name}={value}".encode()).hexdigest()[:4]


def is_child() -> bool:
    """Whether a Coordinator submitted this process as the job of a flow."""
    return bool(os.environ.get(CHILD))


def told() -> Told:
    """What this process was told; what only another version says is passed over."""
    return known(Told, json.loads(os.environ.get(CHILD) or "{}"))
