"""A Ray cluster of n nodes on this machine, for as long as this process lives.

Life: make a private folder (session, logs, spilled objects, token) → start the head, then the other
nodes → say how to use them → wait for Ctrl-C, SIGTERM, `--for` or the end of `--run` → end every
process that came from here, by its pid → remove the folder.

As root on Linux each node is a host of its own, as far as the kernel can make it one: an address,
a /dev/shm, a disk, processes (`hosts.py`). Else, or with `--loopback`, all of them are processes on
127.0.0.1 with the disk of this machine.

Who can reach a node still needs the token, since Ray's jobs API runs any code it is given.
Other Rays on the machine are neither found nor stopped, and none of them finds this one by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import hosts
from ray_hosts import RayHosts, token_settings

MIB = 1024 * 1024
GRACE_S = 10.0
PR_SET_CHILD_SUBREAPER = 36
SIGNALLED: list[int] = []
PORT_NAMES: list[socket.socket] = []
EXAMPLES = """\
examples:
  python cluster/local.py 3                          3 nodes until Ctrl-C
  python cluster/local.py 2 --for 600                2 nodes for ten minutes
  python cluster/local.py 2 --run hygge flows.yml    2 nodes for one command, exits with its code
"""


def main(argv: list[str] | None = None) -> int:
    asked = parse(argv)
    listen()
    adopt_orphans()
    # A short path: the sockets of a session live below it, and a socket's path has 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="hygge-ray-", dir="/tmp"))
    nodes: OnLoopback | OnHosts | None = None
    ready = False
    try:
        os.environ.pop("RAY_ADDRESS", None)
        own = not asked.loopback and hosts.can_stand()
        nodes = OnHosts(asked, folder) if own else OnLoopback(asked, folder)
        for number in range(asked.nodes):
            nodes.add(head=number == 0)
        settings = nodes.outside()
        exports = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
        (folder / "env").write_text("".join(exports))
        ready = True
        if asked.run:
            return run(*nodes.inside(asked.run))
        print(welcome(asked, nodes, folder), flush=True)
        threading.Event().wait(asked.seconds)
    except KeyboardInterrupt:
        return 0 if ready else 130
    except OSError as error:
        print(f"error: the nodes do not stand: {error}", file=sys.stderr)
        return 1
    finally:
        take_down(nodes)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


class OnLoopback:
    """The nodes are processes of this machine, bound to 127.0.0.1 (`ray.cluster_utils`)."""

    where = "on 127.0.0.1"
    on_head = ""

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        self.asked, self.settings = asked, private_settings(folder)
        os.environ.update(self.settings)
        from ray.cluster_utils import Cluster  # only now: `import ray` reads the environment

        self.cluster = Cluster(shutdown_at_exit=True)
        self.pids: list[tuple[str, int]] = []

    def add(self, *, head: bool) -> None:
        node = add_node(self.cluster, self.asked, head=head)
        raylet = node.all_processes["raylet"][0].process.pid
        self.pids.append((f"127.0.0.1:{node.node_manager_port}", raylet))

    def outside(self) -> dict[str, str]:
        """The environment of whoever uses it from another shell."""
        return self.settings | addresses(self.cluster)

    def inside(self, command: list[str]) -> tuple[list[str], dict[str, str]]:
        """What runs a command on the head, and its environment."""
        return command, os.environ | self.outside()

    def shutdown(self) -> None:
        self.cluster.shutdown()


class OnHosts:
    """Each node is a host of its own."""

    where = "on hosts of their own"

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        settings = token_settings(folder)
        os.environ.update(settings)
        web = not asked.no_dashboard
        self.ray = RayHosts(folder, settings, asked.cpus, asked.store_mib, web)
        self.pids: list[tuple[str, int]] = []

    def add(self, *, head: bool) -> None:
        host = self.ray.add()
        self.pids.append((host.address, host.pid))

    @property
    def on_head(self) -> str:
        ray = f"RAY_ADDRESS={self.ray.addresses['RAY_ADDRESS']}"
        return shlex.join(self.ray.head.inside("env", ray)) + " "

    def outside(self) -> dict[str, str]:
        """A driver must stand where a node is; from outside, there is the jobs API."""
        found = self.ray.addresses
        return self.ray.settings | {n: text for n, text in found.items() if n != "RAY_ADDRESS"}

    def inside(self, command: list[str]) -> tuple[list[str], dict[str, str]]:
        return self.ray.head.inside(*command), self.ray.environment

    def shutdown(self) -> None:
        self.ray.down()


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python cluster/local.py",
        description="Stand up a Ray cluster of n nodes on this machine; nobody else reaches it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("nodes", type=at_least(1), help="how many nodes, the head included")
    add("--cpus", type=at_least(1), default=2, help="logical CPUs of each node (2)")
    # Ray refuses a smaller object store than 80 MiB.
    add("--store-mib", type=at_least(80), default=512, help="object store of each node (512)")
    add("--loopback", action="store_true", help="all on 127.0.0.1, also where root could do more")
    add("--no-dashboard", action="store_true", help="quicker; `ray job submit` needs the dashboard")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="end after these")
    help_run = "run CMD against the cluster and exit with its code; stands last"
    end.add_argument("--run", nargs=argparse.REMAINDER, metavar="CMD", help=help_run)
    asked = parser.parse_args(argv)
    if asked.run == []:
        parser.error("--run needs a command, such as: --run hygge flows.yml")
    return asked


def at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {text}")
        return int(text)

    return number


def private_settings(folder: Path) -> dict[str, str]:
    """The environment that the nodes and whoever uses them must share."""
    return token_settings(folder) | {
        # Makes 127.0.0.1 the address of a node. Without it a node binds every interface, and a
        # client reads "127.0.0.1" as "the outer address of this machine".
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_TMPDIR": str(folder),
    }


def add_node(cluster: Any, asked: argparse.Namespace, *, head: bool) -> Any:
    web = {"include_dashboard": not asked.no_dashboard, "dashboard_host": "127.0.0.1"}
    if head and not asked.no_dashboard:
        web["dashboard_port"] = free_port(8265)
        # Jobs go through this one. It is below the ports that systems give out by themselves: where
        # somebody was given it meanwhile, the agent goes on without it, and takes no job.
        web["dashboard_agent_listen_port"] = free_port(8365)
    size = {"num_cpus": asked.cpus, "object_store_memory": asked.store_mib * MIB}
    with own_handlers():
        node = cluster.add_node(**size, **(web if head else {}))
    if SIGNALLED:  # raised where Python could only print it, in a callback of Ray's
        raise KeyboardInterrupt(SIGNALLED[0])
    return node


def free_port(wanted: int) -> int:
    """Return the port that is wanted, or the next one that no other cluster of this machine has.

    Not any that the system gives: Ray asks it for ports as well, and may be given the same. On
    Linux this process holds the port's name, a socket without a file, as long as it lives: of two
    clusters that start at once, each has a port before either listens.
    """
    for port in range(wanted, wanted + 50):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            if sys.platform == "linux":
                name = socket.socket(socket.AF_UNIX)
                PORT_NAMES.append(name)
                name.bind(f"\0hygge-cluster-port-{port}")
            return port
    return wanted


@contextlib.contextmanager
def own_handlers() -> Iterator[None]:
    """Keep ours: a Ray node installs a SIGTERM handler of its own, which drains for 30 s."""
    install = signal.signal

    def keep(number: int, handler: Any) -> Any:
        ours = number in (signal.SIGINT, signal.SIGTERM)
        return signal.getsignal(number) if ours else install(number, handler)

    signal.signal = keep  # type: ignore[assignment]  # for the moment of a start
    try:
        yield
    finally:
        signal.signal = install


def addresses(cluster: Any) -> dict[str, str]:
    web = cluster.head_node.webui_url
    found = {"RAY_ADDRESS": str(cluster.address)}
    return found | ({"RAY_API_SERVER_ADDRESS": f"http://{web}"} if web else {})


def welcome(asked: argparse.Namespace, nodes: OnLoopback | OnHosts, folder: Path) -> str:
    settings = nodes.outside()
    web = settings.get("RAY_API_SERVER_ADDRESS")
    address = settings.get("RAY_ADDRESS")
    many = f"{asked.nodes} Ray node(s) {nodes.where} with {asked.cpus} CPU(s) each"
    lines = [
        f"{many}; Ctrl-C takes them down",
        *([f"  address:    {address}"] if address else []),
        f"  dashboard:  {f'{web} (token: {folder}/token)' if web else 'none'}",
        *(f"  node:       {where} (ends with `kill -9 {pid}`)" for where, pid in nodes.pids),
        "in another shell:",
        f"  . {folder}/env    # where it is, and the token",
        f"  {nodes.on_head}hygge flows.yml",
        *(["  ray job submit --working-dir . -- hygge flows.yml"] if web else []),
    ]
    return "\n".join(lines)


def run(command: list[str], environment: dict[str, str]) -> int:
    try:
        child = subprocess.Popen(command, env=environment)
    except OSError as error:
        print(f"cannot run {command[0]!r}: {error.strerror}", file=sys.stderr)
        return 127
    try:
        child.wait()
    except KeyboardInterrupt as stop:
        if stop.args == (signal.SIGTERM,):  # a Ctrl-C has reached the command already
            terminate(child.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):  # `take_down` ends it then
            child.wait(GRACE_S)
    code = -signal.SIGKILL if child.returncode is None else child.returncode
    return code if code >= 0 else 128 - code


def terminate(pid: int) -> None:
    """SIGTERM to a command, or to what runs in a host behind `nsenter`, which passes none on."""
    import psutil  # type: ignore[import-untyped]  # comes with ray

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        behind = process.children() if process.name() == "nsenter" else []
        for each in behind or [process]:
            each.terminate()


def listen() -> None:
    def stop(number: int, _: object) -> NoReturn:
        SIGNALLED.append(number)
        raise KeyboardInterrupt(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def adopt_orphans() -> None:
    if sys.platform == "linux":  # a process whose parent died becomes ours, and stays in sight
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def take_down(nodes: Any) -> None:
    """End `nodes` and what descends from this process; another Ctrl-C does not interrupt it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if nodes is None:
        return
    import psutil

    left = set(descendants())
    with contextlib.suppress(Exception):  # whatever this does not end is ended by pid
        nodes.shutdown()
    while left := {process for process in left | set(descendants()) if process.is_running()}:
        for process in left:  # psutil tells a reused pid from the process that it saw
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=GRACE_S)


def descendants() -> list[Any]:
    """Every process that came from here."""
    import psutil

    return list(psutil.Process().children(recursive=True))


if __name__ == "__main__":
    sys.exit(main())
