"""Hosts on this machine: each with an address, a /dev/shm, a disk and processes of its own.

Life: a switch, which is a network namespace with a bridge, and a cable from it to this machine → a
host each: network, mount, process and name spaces of their own, and a cable to the switch → what
runs in a host is started through `inside` → the end.

Every namespace is held by a process and by nothing else, and each of these dies with the one that
made it (PR_SET_PDEATHSIG). So whatever ends us, SIGKILL too, the kernel takes down processes,
mounts, cables and bridge: nothing has a name that could stay behind. Needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

NET = 10, 213
PREFIX = 24
HERE = "10.213.254.254"
"""This machine, as every host reaches it; known before there is one. Listen there, not on all."""
START_S = 10.0
FILLS = 8
PROGRAMS = "ip", "nsenter", "setpriv", "unshare", "mount"
# The first process of a host waits for whoever lost a parent, as an init does.
INIT = "sh", "-c", "sleep infinity & while :; do wait; done"


@functools.cache
def can_stand() -> bool:
    """Whether this user and this machine have what hosts need; tried once.

    Root in a container has neither namespaces nor cables unless it was given the capabilities.
    """
    if os.geteuid() != 0 or not all(shutil.which(program) for program in PROGRAMS):
        return False
    cable = "ip link add hyg0 type veth peer name hyg1"
    words = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork"]
    words += ["--kill-child", "--mount-proc"]
    return not subprocess.run([*words, "sh", "-c", cable], capture_output=True).returncode


@dataclass
class Host:
    """One machine, as the others see it. `pid`: its first process; kill it, and all of it ends."""

    name: str
    address: str
    pid: int
    holder: subprocess.Popen[bytes]
    port: str
    """Its end of the cable at the switch."""
    disk: Path

    def inside(self, *command: str) -> list[str]:
        """The command that runs `command` in the host, in the same folder."""
        spaces = ["--net", "--mount", "--uts", "--ipc", "--pid"]
        return ["nsenter", f"--target={self.pid}", *spaces, f"--wdns={os.getcwd()}", *command]

    def die(self) -> None:
        """As a machine that loses its power: every process at once, and what its disk held."""
        self.holder.kill()
        self.holder.wait()


class Network:
    """A switch and the hosts that hang on it; `address` is this machine's in their net."""

    def __init__(self) -> None:
        self.third = _free_third()
        self.address = self._address(1)
        self.hosts: list[Host] = []
        self.made = 0
        self.holder, self.switch = _held("--net")
        _at(self.switch, "ip link set lo up; ip link add switch type bridge; ip link set switch up")
        cable = f"hyg{self.switch}"
        _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "out")
        _run("ip", "link", "set", "out", "netns", str(self.switch))
        _at(self.switch, "ip link set out master switch up")
        _run("ip", "addr", "add", f"{self.address}/{PREFIX}", "dev", cable)
        _run("ip", "addr", "add", f"{HERE}/32", "dev", cable)
        _run("ip", "link", "set", cable, "up")

    def _address(self, last: int) -> str:
        return f"{NET[0]}.{NET[1]}.{self.third}.{last}"

    def add(self, disk: Path, shm_mib: int) -> Host:
        """A new host; `disk` is an empty folder there, and another one in each of the others."""
        self.made += 1
        name, address = f"host{self.made}", self._address(self.made + 1)
        holder, pid = _held("--net", "--mount", "--uts", "--ipc", "--pid", "--mount-proc")
        host = Host(name, address, pid, holder, name, disk)
        self.hosts.append(host)
        _run("ip", "link", "add", host.port, "netns", str(self.switch), "type", "veth",
             "peer", "name", "eth0", "netns", str(pid))  # fmt: skip
        _at(self.switch, f"ip link set {host.port} master switch up")
        setup = [
            f"hostname {name}",
            "ip link set lo up",
            f"ip addr add {address}/{PREFIX} dev eth0",
            "ip link set eth0 up",
            # Programs find their own address by it. It leads here only, so nobody asks for names.
            f"ip route add default via {self.address}",
            f"mount -t tmpfs -o size={shm_mib}m tmpfs /dev/shm",
            f"mkdir -p {shlex.quote(str(disk))}",
            f"mount -t tmpfs tmpfs {shlex.quote(str(disk))}",
            f"touch {shlex.quote(f'{disk}/resolv.conf')}",
            f"mount --bind {shlex.quote(f'{disk}/resolv.conf')} /etc/resolv.conf",
        ]
        _run(*host.inside("sh", "-ec", "\n".join(setup)))
        return host

    def cut(self, host: Host) -> None:
        """Take the cable out: nothing comes in or goes out, and nobody is told."""
        _at(self.switch, f"ip link set {host.port} down")

    def mend(self, host: Host) -> None:
        """Put it back."""
        _at(self.switch, f"ip link set {host.port} up")

    def fill_disk(self, host: Host) -> None:
        """Make the disk as small as what is on it, so that nothing more can be written there."""
        for tries in range(1, FILLS + 1):
            disk = os.statvfs(f"/proc/{host.pid}/root{host.disk}")
            used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
            try:
                _run(*host.inside("mount", "-o", f"remount,size={used}", str(host.disk)))
                return
            except OSError:  # something was written meanwhile, and the size is too small
                if tries == FILLS:
                    raise

    def down(self) -> None:
        """End every host and the switch; safe twice."""
        for holder in [host.holder for host in self.hosts] + [self.holder]:
            holder.kill()
            holder.wait()


def _held(*spaces: str) -> tuple[subprocess.Popen[bytes], int]:
    """Namespaces, the process that holds them, and the pid under which they are entered."""
    pids = "--pid" in spaces
    last = ["--fork", "--kill-child", *INIT] if pids else ["sleep", "infinity"]
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, *last]
    before = _spaces(os.getpid())
    holder = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    until = time.monotonic() + START_S
    while time.monotonic() < until and holder.poll() is None:
        for pid in _children(holder.pid) if pids else [holder.pid]:
            with contextlib.suppress(OSError):
                comm = Path(f"/proc/{pid}/comm").read_text().strip()
                if _spaces(pid) != before and comm in ("sh", "sleep"):
                    return holder, pid
        time.sleep(0.01)
    holder.kill()
    raise OSError(f"`{shlex.join(command)}` ended with {holder.wait()}")


def _spaces(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(w) for w in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _at(pid: int, script: str) -> None:
    _run("nsenter", f"--target={pid}", "--net", "sh", "-ec", script)


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise OSError(f"`{shlex.join(command)}` ended with {ran.returncode}: {ran.stderr.strip()}")


def _free_third() -> int:
    """Which 10.213.x.0/24 no interface and no route of this machine has."""
    taken = subprocess.run(
        ["ip", "-4", "route", "show", "table", "all"], capture_output=True, text=True
    ).stdout
    first = os.getpid() % 200
    for third in [*range(first, 250), *range(first)]:
        if f"{NET[0]}.{NET[1]}.{third}." not in taken:
            return third
    raise OSError(f"every {NET[0]}.{NET[1]}.x.0/24 of this machine is taken")
