"""Ray on hosts of `hosts.py`: `ray start --node-ip-address` in each, the first is the head."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

from hosts import Host, Network

MIB = 1024 * 1024
PORT, WEB_PORT = 6379, 8265
START_S = 180.0
LOOK_S = 0.1


class RayHosts:
    """A Ray node a host. `settings`: the environment of each node, and of what is run there.

    The `folder` is seen by all; `folder/disk` is each host's own, with Ray's session in it.
    """

    def __init__(
        self, folder: Path, settings: dict[str, str], cpus: int, store_mib: int, dashboard: bool
    ) -> None:
        self.folder, self.disk = folder, folder / "disk"
        self.cpus, self.store_mib, self.dashboard = cpus, store_mib, dashboard
        self.settings = {**settings, "RAY_TMPDIR": str(self.disk)}
        self.network = Network()
        self.nodes: list[tuple[Host, subprocess.Popen[bytes]]] = []

    @property
    def head(self) -> Host:
        return self.nodes[0][0]

    @property
    def addresses(self) -> dict[str, str]:
        """Where Ray is: for processes on the head, and for everybody who reaches its port."""
        web = f"http://{self.head.address}:{WEB_PORT}"
        found = {"RAY_ADDRESS": f"{self.head.address}:{PORT}"}
        return found | ({"RAY_API_SERVER_ADDRESS": web} if self.dashboard else {})

    def add(
        self,
        cpus: int | None = None,
        settings: dict[str, str] | None = None,
        resources: dict[str, float] | None = None,
    ) -> Host:
        """A host with a Ray node on it, which the head knows when this returns.

        `settings`: environment variables of this node alone. `resources`: what Ray may hand out of
        it, beside CPUs and memory. Raises OSError where Ray does not start; nothing is left of it.
        """
        # Ray wants its store to fit; a tenth more is for what else lies there.
        host = self.network.add(self.disk, self.store_mib + self.store_mib // 10 + 8)
        words = [str(Path(sys.executable).with_name("ray")), "start", "--block"]
        words += [f"--node-ip-address={host.address}", "--disable-usage-stats"]
        words += [f"--num-cpus={self.cpus if cpus is None else cpus}"]
        words += [f"--object-store-memory={self.store_mib * MIB}"]
        words += [f"--resources={json.dumps(resources or {})}"]
        if not self.nodes:
            words += ["--head", f"--port={PORT}", f"--include-dashboard={self.dashboard}"]
            words += [f"--dashboard-host={host.address}", f"--dashboard-port={WEB_PORT}"]
        else:
            words += [f"--address={self.head.address}:{PORT}"]
        log = self.folder / f"{host.name}.log"
        with log.open("wb") as out:
            started = subprocess.Popen(
                host.inside(*words), env=os.environ | self.settings | (settings or {}),
                stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.nodes.append((host, started))
        until = time.monotonic() + START_S
        # What `ray start` writes last, as this host sees its own disk.
        written = Path(f"/proc/{host.pid}/root{self.disk}/ray/ray_current_cluster")
        gcs = f"{self.head.address}:{PORT}"
        while host.address not in alive(gcs) or not written.exists():
            if started.poll() is not None or time.monotonic() > until:
                self.nodes.pop()
                host.die()
                started.wait()
                raise OSError(f"Ray does not start on {host.name}: {log.read_text()[-800:]}")
            time.sleep(LOOK_S)
        return host

    @property
    def environment(self) -> dict[str, str]:
        """Of a command that is run `inside` a host and uses the cluster."""
        return os.environ | self.settings | self.addresses

    def down(self) -> None:
        """End all of it; safe twice."""
        self.network.down()
        for _, started in self.nodes:
            started.wait()


def alive(address: str) -> list[str]:
    """The addresses of the nodes that the head at `address` takes for alive; [] if none answers."""
    host, _, port = address.rpartition(":")
    if not _listens(host, int(port)):  # Ray's own client would wait, and then end the process
        return []
    from ray._raylet import GcsClient
    from ray.core.generated.gcs_pb2 import GcsNodeInfo

    try:
        nodes = GcsClient(address=address).get_all_node_info(timeout=5).values()
    except Exception:  # it listens, and is not ready
        return []
    return [each.node_manager_address for each in nodes if each.state == GcsNodeInfo.ALIVE]


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def token_settings(folder: Path) -> dict[str, str]:
    """A token of their own for the nodes in `folder`, and for whoever uses them."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        # What a batch gave back is free at once, as in the image.
        "RAY_free_objects_period_milliseconds": "0",
        # A job's entrypoint finds the `python` and `hygge` of this environment.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
