"""How an object store is reached: by what a connection says, else by the environment.

What a connection leaves open is searched where the services' own tools search:

    s3  AWS_*, a web identity, ~/.aws (keys, region, endpoint_url of AWS_PROFILE), a container's or
        an instance's role; a variable goes before a profile, as in the tools of AWS
    gs  GOOGLE_*, gcloud's application default credentials, an instance's account
    az  AZURE_*, an instance's identity, the Azure CLI's where AZURE_USE_AZURE_CLI is true

Each process searches for itself. What a connection says travels inside the Home or the Store, and
is never shown, and never written down.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from pydantic import Field

from hygge.errors import ConfigError, one_of, without_password
from hygge.settings import Settings

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss")
ENVIRONMENT_PREFIXES = ("AWS_", "AZURE_", "GOOGLE_")
"""The beginnings of the environment variables that decide how an object store is reached."""
_RETRY = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"max_backoff": timedelta(seconds=5)},
}
_KEYS = {
    "s3": ("region", "access_key_id", "secret_access_key", "session_token"),
    "gs": ("service_account",),
    "az": ("account_name", "account_key", "sas_key", "tenant_id", "client_id", "client_secret"),
}
_ALWAYS = ("endpoint", "anonymous")
_BEFORE_PROFILES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
_SIGNS_IN = ("sso_session", "sso_start_url", "role_arn", "credential_process")
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN, AWS_REGION and "
    "AWS_ENDPOINT_URL where they are needed), or AWS_PROFILE",
    "gs": "GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS, the path of a key file, or "
    "sign in: gcloud auth application-default login",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_KEY or a "
    "principal (AZURE_CLIENT_ID, …), or AZURE_USE_AZURE_CLI=true after `az login`",
}


class Access(Settings):
    """The keys of a connection of an object store; the rest comes from the environment."""

    endpoint: str | None = None
    """http:// or https://host:port; by default the service's own."""
    anonymous: bool = False
    """Whether requests are not signed: for what is public."""
    region: str | None = None
    """s3: the region of the bucket."""
    access_key_id: str | None = Field(default=None, repr=False)
    """s3: the name of a key; `secret_access_key` goes with it."""
    secret_access_key: str | None = Field(default=None, repr=False)
    """s3: the secret of that key."""
    session_token: str | None = Field(default=None, repr=False)
    """s3: the token of a key that is temporary."""
    service_account: str | None = None
    """gs: the path of a key file."""
    account_name: str | None = None
    """az: the storage account."""
    account_key: str | None = Field(default=None, repr=False)
    """az: a key of that account."""
    sas_key: str | None = Field(default=None, repr=False)
    """az: a shared access signature, instead of the account's key."""
    tenant_id: str | None = None
    """az: the directory of a service principal."""
    client_id: str | None = None
    """az: the id of a service principal; `client_secret` goes with it."""
    client_secret: str | None = Field(default=None, repr=False)
    """az: the secret of that principal."""


class AccessDict(TypedDict, total=False):
    """`Access` as a dict."""

    endpoint: str | None
    anonymous: bool
    region: str | None
    access_key_id: str | None
    secret_access_key: str | None
    session_token: str | None
    service_account: str | None
    account_name: str | None
    account_key: str | None
    sas_key: str | None
    tenant_id: str | None
    client_id: str | None
    client_secret: str | None


class ObjectUrl(str):
    """The URL of an object or a prefix, with its access; only the text is ever shown."""

    access: Access | None

    def __new__(cls, text: str, access: Access | None = None) -> ObjectUrl:
        url = super().__new__(cls, text)
        url.access = access
        return url


def access_of(url: str) -> Access | None:
    """Return how a URL is reached, where a connection says it."""
    return getattr(url, "access", None)


def service(url: str) -> str:
    """Return the service that a URL of an object store means: s3, gs or az."""
    scheme = url.partition("://")[0].lower()
    return {"s3": "s3", "s3a": "s3", "gs": "gs"}.get(scheme, "az")


def keys_of(url: str) -> tuple[str, ...]:
    """Return the keys that a connection of this URL may have."""
    return (*_ALWAYS, *_KEYS[service(url)])


def check(url: str, access: Access) -> None:
    """Raise ConfigError where a connection has keys that do not fit its URL, or each other."""
    known, given = keys_of(url), access.model_fields_set
    for key in sorted(given):
        if key not in known and getattr(access, key) is not None:
            scheme = url.partition("://")[0]
            raise ConfigError(f"{scheme}:// does not know '{key}'", one_of("it knows", key, known))
    for key, other in (
        ("access_key_id", "secret_access_key"),
        ("secret_access_key", "access_key_id"),
        ("client_id", "client_secret"),
        ("client_secret", "client_id"),
    ):
        if getattr(access, key) and not getattr(access, other):
            raise ConfigError(f"'{key}' stands there without '{other}'", f"give '{other}' as well")
    if access.anonymous and given - {"endpoint", "anonymous", "region", "account_name"}:
        raise ConfigError("'anonymous' stands beside credentials", "keep one of them")
    if access.endpoint and not access.endpoint.startswith(("http://", "https://")):
        raise ConfigError(
            f"'endpoint' is {without_password(access.endpoint)!r}, not a URL",
            f"endpoint: https://{without_password(access.endpoint)}",
        )


def credentials(url: str) -> str:
    """Return which credentials are searched in the environment, for messages."""
    return _CREDENTIALS[service(url)]


def endpoint(url: str, access: Access | None) -> str:
    """Return the endpoint that requests for a URL go to; '' for the service's own."""
    if access is not None and access.endpoint:
        return access.endpoint
    names = {
        "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "gs": ("GOOGLE_BASE_URL",),
        "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    }[service(url)]
    endpoint = next((os.environ[name] for name in names if os.environ.get(name)), "")
    without_profile = access is not None and (access.anonymous or access.access_key_id)
    if endpoint or without_profile or service(url) != "s3":
        return endpoint
    return _profile()[1].get("endpoint_url", "")


def client(root: str, access: Access | None, once: bool) -> ObjectStore:
    """Return obstore's client of one bucket, `s3://bucket`. With `once` it does not retry."""
    from obstore.store import AzureStore, GCSStore, S3Store

    access = access or Access()
    url = endpoint(root, access)
    more: dict[str, Any] = {
        "client_options": {
            "timeout": timedelta(seconds=120),
            "allow_http": url.startswith("http://"),
        },
        "retry_config": {**_RETRY, "max_retries": 0} if once else _RETRY,
    }
    if access.anonymous:
        more["skip_signature"] = True
    host = root.partition("://")[2]
    if service(root) == "s3":
        return S3Store(host, **_s3(access, url), **more)
    if service(root) == "gs":
        options = _without_empty(base_url=url, service_account=access.service_account)
        return GCSStore(host, **options, **more)
    container, _, account = host.partition("@")
    return AzureStore(
        container,
        **_without_empty(
            endpoint=url,
            account_name=_account(account) or access.account_name,
            account_key=access.account_key,
            sas_key=access.sas_key,
            tenant_id=access.tenant_id,
            client_id=access.client_id,
            client_secret=access.client_secret,
        ),
        **more,
    )


def storage_options(url: str, access: Access | None) -> dict[str, str]:
    """Return how a URL is reached, in the words that table libraries give to `object_store`.

    What a connection leaves open they find in the environment by themselves.
    """
    access = access or Access()
    at = endpoint(url, access)
    found = {"allow_http": "true"} if at.startswith("http://") else {}
    if access.anonymous:
        found["skip_signature"] = "true"
    if service(url) == "s3":
        options = _s3(access, at)
        keys = options.pop("credential_provider", dict)()
        names = {"access_key_id": "access_key_id", "secret_access_key": "secret_access_key"}
        names |= {"token": "session_token"}
        given = {f"aws_{names[key]}": keys[key] for key in names if keys.get(key)}
        given |= {f"aws_{key}": value for key, value in options.items()}
        return {**found, **given, "aws_conditional_put": "etag"}
    if service(url) == "gs":
        given = _without_empty(google_base_url=at, google_service_account=access.service_account)
        return {**found, **given}
    keys_of_azure = ("account_name", "account_key", "tenant_id", "client_id", "client_secret")
    given = {f"azure_storage_{key}": getattr(access, key) for key in keys_of_azure}
    given |= {"azure_storage_sas_key": access.sas_key, "azure_storage_endpoint": at}
    return {**found, **_without_empty(**given)}


def _without_empty(**options: str | None) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value}


def _s3(access: Access, url: str) -> dict[str, Any]:
    name = ""
    profile: Mapping[str, str] = {}
    if not (access.access_key_id or access.anonymous):
        name, profile = _profile()
    if "aws_access_key_id" not in profile and any(key in profile for key in _SIGNS_IN):
        raise ConfigError(
            f"the profile '{name}' in ~/.aws has no keys of its own: it signs in",
            "sign in, and hand the keys on: "
            f'eval "$(aws configure export-credentials --profile {name} --format env)"',
        )
    keys = {
        "access_key_id": access.access_key_id or profile.get("aws_access_key_id"),
        "secret_access_key": access.secret_access_key or profile.get("aws_secret_access_key"),
        "token": access.session_token or profile.get("aws_session_token"),
        "expires_at": None,
    }
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    region = access.region or region or profile.get("region")
    options = _without_empty(endpoint=url, region=region)
    if keys["access_key_id"]:
        # All of them together: a token of the environment belongs to other keys.
        options["credential_provider"] = lambda: keys
    return options


def _account(host: str) -> str:
    """Return the account that `container@account.dfs.core.windows.net` names."""
    name, _, domain = host.partition(".")
    if domain and domain not in ("dfs.core.windows.net", "blob.core.windows.net"):
        raise ConfigError(
            f"abfss://…@{host} is in a cloud that hygge does not know",
            f"write az://container/prefix, with a connection of it: {{account_name: {name}, "
            f"endpoint: https://{host.replace('.dfs.', '.blob.')}}}",
        )
    return name


def _profile() -> tuple[str, Mapping[str, str]]:
    """Return AWS_PROFILE and its keys in ~/.aws; nothing where a variable goes before it."""
    if any(os.environ.get(name) for name in _BEFORE_PROFILES):
        return "", {}
    wanted = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    name = wanted or "default"
    config = _ini("AWS_CONFIG_FILE", "~/.aws/config")
    keys = _ini("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    section = name if name == "default" else f"profile {name}"
    profile = {**config.get(section, {}), **keys.get(name, {})}
    if wanted and not profile:
        known = {*keys, *(other.removeprefix("profile ") for other in config)}
        hint = one_of("profiles", name, known)
        raise ConfigError(f"there is no profile '{name}' in ~/.aws", hint)
    return name, profile


def _ini(variable: str, default: str) -> dict[str, dict[str, str]]:
    """Read a file of AWS: the one that a variable names, else `default`."""
    path = os.path.expanduser(os.environ.get(variable) or default)
    parser = configparser.ConfigParser(interpolation=None, strict=False, default_section="")
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: it is not as AWS writes it",
            "mend it, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ) from error
    return {name: dict(parser[name]) for name in parser.sections()}
