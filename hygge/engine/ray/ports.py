"""What answers at a port of a Ray cluster.

Ray has three ports that people mix up: the dashboard's (8265, HTTP), by which jobs are submitted;
the GCS's (6379, gRPC), by which processes on the cluster's nodes join; and Ray Client's (10001,
gRPC), which hygge does not use. Ray's own code waits for minutes, or aborts the process, at a port
that is not the one it expects. So a port is looked at first.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Literal

from hygge.errors import HyggeError, UsageError, without_password

if TYPE_CHECKING:
    import grpc

Answer = Literal["dashboard", "gcs", "client", "http", "other"]
_CONNECT_WITHIN_S = 5.0
_ANSWER_WITHIN_S = 5.0
_QUESTIONS: tuple[tuple[Answer, str], ...] = (
    ("gcs", "/ray.rpc.NodeInfoGcsService/CheckAlive"),
    ("client", "/ray.rpc.RayletDriver/ClusterInfo"),
)
_NAMES = {
    "dashboard": "the dashboard of a Ray cluster",
    "gcs": "the port by which the nodes of a Ray cluster join it (GCS)",
    "client": "Ray Client, which hygge does not use",
    "http": "a web server that is no Ray dashboard",
    "other": "something that is no Ray",
}


def describe(answer: Answer) -> str:
    """Return what answers at a port, in words for people."""
    return _NAMES[answer]


def look_at(host: str, port: int) -> Answer:
    """Return what answers at a port; it takes 15 s at most.

    Raises OSError when nobody listens there.
    """
    with socket.create_connection((host, port), timeout=_CONNECT_WITHIN_S) as connection:
        connection.settimeout(_ANSWER_WITHIN_S)
        request = f"GET /api/version HTTP/1.0\r\nHost: {host}\r\n\r\n"
        text = b""
        try:
            connection.sendall(request.encode())
            while len(text) < 4096 and (part := connection.recv(4096)):
                text += part
        except OSError:
            pass  # gRPC closes the connection, and others wait for another question
    if text.startswith(b"HTTP/"):
        is_ray = b"ray_version" in text or b" 401 " in text.splitlines()[0]
        return "dashboard" if is_ray else "http"
    return _ask_by_grpc(host, port)


def _ask_by_grpc(host: str, port: int) -> Answer:
    """Return which of Ray's gRPC services answers; a service that asks for a token counts."""
    import grpc

    unknown = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    with _open_channel(host, port) as channel:
        for answer, method in _QUESTIONS:
            try:
                channel.unary_unary(method)(b"", timeout=_ANSWER_WITHIN_S)
            except grpc.RpcError as error:
                if error.code() in unknown:
                    return "other"
                if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                    continue
            return answer
    return "other"


def _open_channel(host: str, port: int) -> grpc.Channel:
    import grpc

    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])


def is_open(address: str) -> bool:
    """Return whether the GCS at host:port answers without a token; False where nobody answers."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return False
    import grpc

    with _open_channel(host.strip("[]"), int(port)) as channel:
        try:
            channel.unary_unary(_QUESTIONS[0][1])(b"", timeout=_ANSWER_WITHIN_S)
        except grpc.RpcError:
            return False
    return True


def check_gcs(address: str) -> None:
    """Check that `address`, the host:port of RAY_ADDRESS, is a cluster that has this machine.

    Raises HyggeError where nobody or something else answers there, UsageError where this machine is
    no node of a cluster: only processes on its nodes can join it.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    shown = without_password(address)
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(
            f"RAY_ADDRESS is {shown}, which is no host:port",
            "on a node of the cluster: RAY_ADDRESS=head:6379; from elsewhere: "
            "RAY_API_SERVER_ADDRESS=http://head:8265",
        )
    try:
        answer = look_at(host, int(port))
    except OSError as error:
        raise HyggeError(
            f"RAY_ADDRESS is {shown}, and nobody listens there: {error.strerror or error}",
            "start that cluster, name the port of its GCS (6379 unless told otherwise), or unset "
            "RAY_ADDRESS to use a private Ray",
        ) from error
    if answer == "other" and os.environ.get("RAY_USE_TLS"):
        return  # it is asked in clear here, so that a port with TLS says nothing
    if answer != "gcs":
        raise HyggeError(
            f"RAY_ADDRESS is {shown}, and there is {describe(answer)}",
            f"submit to it instead: --address http://{address}"
            if answer == "dashboard"
            else "on a node of the cluster name its GCS, RAY_ADDRESS=head:6379; from elsewhere its "
            "dashboard, --address http://head:8265",
        )
    if not _has_node_here(address):
        raise UsageError(
            f"RAY_ADDRESS is {shown}, and this machine is no node of that cluster, so that no "
            "process here can join it",
            f"submit to its dashboard instead, with RAY_ADDRESS unset: --address http://{host}:8265",
        )
    _check_loopback(host, int(port), shown)


def _check_loopback(host: str, port: int, shown: str) -> None:
    """Raise HyggeError where Ray would ask for the cluster at another address, and hang there.

    In place of 127.0.0.1 Ray takes the outer address of this machine.
    """
    from ray._private.services import resolve_ip_for_localhost

    joined = resolve_ip_for_localhost(host)
    if joined == host:
        return
    try:
        socket.create_connection((joined, port), timeout=_CONNECT_WITHIN_S).close()
    except OSError as error:
        raise HyggeError(
            f"RAY_ADDRESS is {shown}, which Ray takes for {joined}:{port}, and that cluster "
            "listens on 127.0.0.1 alone",
            "set what its nodes were started with, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0, or submit "
            "to its dashboard: --address http://127.0.0.1:8265",
        ) from error


def _has_node_here(address: str) -> bool:
    """Return whether a process of this machine can join the cluster; True where it is not known.

    It joins by the socket of a node, which is a file. Where there is none, Ray ends the process, or
    waits for minutes, also when a node of another cluster runs here. Raises HyggeError where the
    cluster does not take this process's token.
    """
    from ray._private.authentication.http_token_authentication import (
        get_auth_headers_if_auth_enabled,
    )
    from ray._private.services import find_gcs_addresses
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # it is compiled
    from ray.core.generated.gcs_pb2 import GcsNodeInfo
    from ray.exceptions import AuthenticationError

    if not find_gcs_addresses():
        return False
    try:
        get_auth_headers_if_auth_enabled({})  # without a token, the next line ends the process
    except (RuntimeError, AuthenticationError) as error:
        raise _without_token(address) from error
    try:
        nodes = GcsClient(address=address).get_all_node_info(timeout=_ANSWER_WITHIN_S).values()
    except AuthenticationError as error:
        raise _without_token(address) from error
    except Exception:  # an answer that is late, for one: `ray.init` has more patience
        return True
    alive = [node.raylet_socket_name for node in nodes if node.state == GcsNodeInfo.ALIVE]
    return any(os.path.exists(name) for name in alive) or not alive


def _without_token(address: str) -> HyggeError:
    return HyggeError(
        f"the Ray at {without_password(address)} asks for a token, and this process has another "
        "one, or none that can be read",
        "put the cluster's token into ~/.ray/auth_token, or name its file with "
        "RAY_AUTH_TOKEN_PATH; `ray get-auth-token` on the head prints it",
    )
