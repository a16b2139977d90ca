"""What code of the user's prints and logs: passed on line by line, with the flow's name in front.

While a `Speaker` speaks, what the code that it runs writes to stdout and stderr goes to it, and so
does what `logging` writes there. It is known by a context variable: what other flows of this
process write at the same time, in other threads, goes where it went before.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from hygge.run.watch import Silent, Watch

_LONGEST_LINE = 10_000
"""Characters; a longer line is passed on in pieces."""
_MOST_LINES, _SAY_EVERY_S = 100, 0.2
"""Lines that are passed on at once, and how long the first of them waits at most."""
_speaker: ContextVar[Speaker | None] = ContextVar("hygge_speaker", default=None)
_lock = threading.Lock()
_speaking = 0
_streams: dict[str, Any] = {}
"""The streams of this process while some code speaks."""
T = TypeVar("T")


class Speaker:
    """Passes on the lines that one end of a flow writes, several at once."""

    def __init__(self, say: Callable[[list[str]], None]) -> None:
        self.say, self.rest = say, ""
        self.lines: list[str] = []
        self.said_at = 0.0

    def write(self, text: str) -> None:
        """Take a text; pass on the lines of it that are whole, at once or a moment later."""
        *lines, self.rest = (self.rest + text).split("\n")
        if len(self.rest) > _LONGEST_LINE:
            lines, self.rest = [*lines, self.rest], ""
        self.lines += [line.rstrip() for line in lines if line.strip()]
        if len(self.lines) >= _MOST_LINES or time.monotonic() - self.said_at > _SAY_EVERY_S:
            self.pass_on()

    def pass_on(self) -> None:
        """Pass on the lines that wait. What cannot be said never ends a run."""
        lines, self.lines = self.lines, []
        if not lines:
            return
        token = _speaker.set(None)  # who passes them on may write, too
        try:
            with contextlib.suppress(Exception):
                self.say(lines)
        finally:
            _speaker.reset(token)
        self.said_at = time.monotonic()

    def end(self) -> None:
        """Pass on all that was written, also without the end of a line."""
        if self.rest:
            self.write("\n")
        self.pass_on()


def speaker_for(watch: Watch, flow: str) -> Speaker | None:
    """Return what passes lines on to a watch; None where nobody would see them."""
    if isinstance(watch, Silent):
        return None

    def say(lines: list[str]) -> None:
        for line in lines:
            watch.said(flow, line)

    return Speaker(say)


@contextlib.contextmanager
def speaking(speaker: Speaker | None) -> Iterator[None]:
    """Give the speaker what this thread writes meanwhile; None: it goes where it went before."""
    token = _speaker.set(speaker)
    if speaker is not None:
        _listen()
    try:
        yield
    finally:
        if speaker is not None:
            _end_listening()
            speaker.end()
        _speaker.reset(token)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Keep the streams redirected between calls that speak, which is dearer than a small call.

    What is written outside of `speaking` goes where it went before.
    """
    _listen()
    try:
        yield
    finally:
        _end_listening()


def spoken(speaker: Speaker | None, items: Iterator[T]) -> Generator[T]:
    """Yield the items of an iterator, whose code speaks while it makes them."""
    nothing = object()
    try:
        while True:
            with speaking(speaker):
                item = next(items, nothing)
            if item is nothing:
                return
            yield item  # type: ignore[misc]  # it is no sentinel
            del item
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            with speaking(speaker):
                close()


def _listen() -> None:
    global _speaking
    with _lock:
        _speaking += 1
        if _speaking == 1:
            for name in ("stdout", "stderr"):
                _streams[name] = stream = getattr(sys, name)
                setattr(sys, name, listening := _Listening(stream))
                _redirect(stream, listening)


def _end_listening() -> None:
    global _speaking
    with _lock:
        _speaking -= 1
        if not _speaking:
            for name, stream in _streams.items():
                if isinstance(listening := getattr(sys, name), _Listening):
                    setattr(sys, name, stream)
                    _redirect(listening, stream)
            _streams.clear()


def _redirect(old: Any, new: Any) -> None:
    """Have the handlers of `logging` that write to a stream write to another one."""
    root = logging.getLogger()
    for logger in (root, *list(root.manager.loggerDict.values())):
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream is old:
                handler.stream = new


class _Listening:
    """Takes the place of a stream: gives a speaker what it says, all else to the stream.

    It is no `io.TextIOBase`, which closes what it has when nobody holds it any more.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        speaker = _speaker.get()
        if speaker is not None:
            speaker.write(text)
        else:
            self._stream.write(text)
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
