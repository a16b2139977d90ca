"""One step ahead in a thread, and bytes of a socket in large pieces."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from hygge.connectors.sql import socket_reader as reading
from hygge.connectors.sql.prefetch import prefetched
from hygge.connectors.sql.socket_reader import SocketReader
from tests.waiting import LIMIT_S, until


def never(view):
    return False


def threads():
    return [each for each in threading.enumerate() if each.name == "hygge-prefetch"]


def test_the_next_item_is_made_while_one_is_in_use_and_no_other():
    made = []

    def items():
        for n in range(4):
            made.append(n)
            yield n

    for n in prefetched(items()):
        wanted = list(range(min(4, n + 2)))
        until(lambda: made == wanted, lambda: str(made))  # noqa: B023  # asked here and now
        time.sleep(0.01)
        assert made == wanted
    assert made == [0, 1, 2, 3]
    assert threads() == []


def test_what_an_item_raises_is_raised_after_those_before_it():
    def items():
        yield 1
        raise ZeroDivisionError("here")

    came = []
    with pytest.raises(ZeroDivisionError, match="here"):
        for item in prefetched(items()):
            came.append(item)
    assert came == [1]
    assert threads() == []


def test_who_leaves_early_has_the_items_given_up_and_waits_for_the_thread():
    left = threading.Event()

    def items():
        yield 1
        yield 2
        left.wait(LIMIT_S)
        raise AssertionError("nobody hears this")

    came = prefetched(items(), left.set)
    assert next(came) == 1
    assert next(came) == 2
    time.sleep(0.05)
    came.close()
    assert left.is_set()
    assert threads() == []


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_bytes_that_come_in_drops_are_taken_together_and_not_waited_for_for_ever(
    family, monkeypatch
):
    with pair(family) as (ours, theirs):
        reader, room = SocketReader(ours), memoryview(bytearray(1 << 20))
        with monkeypatch.context() as patch:
            patch.setattr(reading, "_PATIENCE_S", LIMIT_S)

            def drip():
                for _ in range(100):
                    theirs.sendall(b"x" * 1000)
                    time.sleep(0.002)

            dripping = threading.Thread(target=drip)
            dripping.start()
            assert reader.into(room, lambda view: len(view) == 100_000) == 100_000
            dripping.join()
            theirs.sendall(b"the end")
            assert reader.into(room, lambda view: bytes(view).endswith(b"the end")) == 7
        theirs.sendall(b"a few")
        assert reader.into(room, never) == 5
        theirs.close()
        assert reader.into(room, never) == 0
        reader.close()
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


def pair(family):
    if family == socket.AF_UNIX:
        return _Both(*socket.socketpair())
    with socket.create_server(("127.0.0.1", 0)) as door:
        ours = socket.create_connection(door.getsockname())
        return _Both(ours, door.accept()[0])


class _Both:
    def __init__(self, *both):
        self.both = both

    def __enter__(self):
        return self.both

    def __exit__(self, *_):
        for each in self.both:
            each.close()
