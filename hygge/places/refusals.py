"""Explain why an object store refused a request, without the URL, which may be signed."""

from __future__ import annotations

import re
from urllib.parse import unquote

from hygge.errors import HyggeError, Transient, without_password
from hygge.places.access import Access, credentials, endpoint

HINT = "see what the object store says about it"
"""The hint of an error of which nothing is known here."""
_WRONG_REGION = "AuthorizationHeaderMalformed"
_MISSING_BUCKET = re.compile(
    "<Code>NoSuchBucket|ContainerNotFound|bucket does not exist|bucket not found"
)
_UNFIT_CREDENTIALS = re.compile(
    "credential error|Invalid Access Key|Unable to decode", re.IGNORECASE
)
_NO_CREDENTIALS = re.compile(
    "token request|InstanceProfile|must be specified|169\\.254\\.169\\.254|metadata\\.google"
)


def is_missing_bucket(error: Exception) -> bool:
    """Whether the bucket is missing, not only the key; both answer 404."""
    return _MISSING_BUCKET.search(str(error)) is not None


def problem(root: str, place: str, error: Exception, access: Access | None) -> HyggeError:
    """Return an error of obstore as a HyggeError; `place` is a URL in the bucket `root`."""
    text = str(error)
    status = _first(r"status code: (\d{3} [A-Za-z ]+)", text)
    code = _first(r"<Code>([^<]+)</Code>", text)
    message = _first(r"<Message>([^<\n]+)", text) or _first(r'"message": ?"([^"]+)', text)
    number_and_code = " ".join(filter(None, (status[:3], code)))
    reason = ": ".join(filter(None, (number_and_code, message)))
    if "NoSuchUpload" in code:
        return Transient(
            f"{place}: the object store ended its upload before it was whole ({reason})",
            "run it again; a lifecycle rule that ends uploads has to leave them a day",
        )
    if is_missing_bucket(error) or (status.startswith("404") and not code):
        return HyggeError(
            f"there is no bucket {root} ({reason})",
            "create it, or correct the URL (and the endpoint, where it is elsewhere: "
            "AWS_ENDPOINT_URL, or `endpoint` of its connection)",
        )
    if _NO_CREDENTIALS.search(text):
        return HyggeError(
            f"there are no credentials for {root}",
            f"set {credentials(root)}; or name them in a connection of the file; or say there "
            "`anonymous: true`",
        )
    if _UNFIT_CREDENTIALS.search(text):
        return HyggeError(f"the credentials for {root} are none", f"check {_asked(root, access)}")
    if code in ("ExpiredToken", "InvalidToken", "TokenRefreshRequired"):
        return HyggeError(
            f"the temporary keys for {root} ran out, or are none ({reason})",
            f"get new ones, in {_asked(root, access)}; a role of the machine or of the pod renews "
            "its keys by itself, also in a long run",
        )
    if code == "RequestTimeTooSkewed":
        return HyggeError(
            f"{root} refuses the time of this machine ({reason})",
            "set its clock (timedatectl set-ntp true), then run it again",
        )
    if status.startswith(("401", "403")):
        return HyggeError(
            f"{place} may not be read or written ({reason})",
            f"check the permissions of the bucket, and {_asked(root, access)}",
        )
    expected = _first(r"expecting '([\w-]+)'", text) if code == _WRONG_REGION else ""
    if status.startswith(("301", "307")) or "redirect without LOCATION" in text or expected:
        which = f" to {expected}" if expected else ""
        return HyggeError(
            f"{root} is in another region" + (f" ({reason})" if expected else ""),
            f"set AWS_REGION{which}, or `region` of its connection",
        )
    if status.startswith(("429", "5", "408")):
        return Transient(
            f"{place}: the object store is throttling or down ({reason})",
            "wait a little and run it again; with fewer lanes it is asked less often",
        )
    if "HTTP error" in text or "error sending request" in text or "timed out" in text:
        where = endpoint(root, access)
        return Transient(
            f"{root} cannot be reached" + (f" at {without_password(where)}" if where else ""),
            "check the network and the endpoint (AWS_ENDPOINT_URL, or `endpoint` of its "
            "connection), then run it again",
        )
    line = re.sub(r"https?://\S+", "its URL", text.strip().split("\n")[0])
    return HyggeError(f"{place}: {reason or without_password(line)}", HINT)


def _asked(root: str, access: Access | None) -> str:
    """Return which credentials were tried."""
    if access is not None and access.model_fields_set - {"endpoint", "region"}:
        return "the credentials of its connection"
    return credentials(root)


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return unquote(match[1]).strip() if match else ""
