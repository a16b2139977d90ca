"""What must hold when drivers die: each promise tries points of a world, and yields what is wrong.

The same lines find nothing in hygge and something in a broken twin.

A plain append that died is that one run still, until the journal notes its outcome: only then it is
known to be done, though its driver had no time to say so, and one append more is a second one.
Every other mode ends with the rows of the source once, however often it is run.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from tests.crash.power import Image
from tests.crash.scenes import Row
from tests.crash.world import Ended, World

FILES = {0, 1, 2, 3, 4}
"""The splits of a source of files, at stage 1."""


def killed(world: World, points: Iterable[int], changed: bool = False) -> Iterator[str]:
    """A driver dies at each point, and the same command is given again.

    Split for split, nothing that was sealed is read again. `changed`: the source changes meanwhile.
    """
    stage = 2 if changed else 1
    for point in points:
        world.fresh()
        died = world.run({point: "kill"})
        where, between, entries = _at(point, died), world.seen(), world.newest()
        yield from _of_death(world, died, where, between)
        if changed:
            world.grow(stage)
        again = world.run()
        if not again.done:
            yield f"{where}: the next run failed: {again.error}"
            continue
        yield from _differs(world, where, _after(world, between, entries, stage))
        if world.left_behind():
            yield f"{where}: {world.left_behind()} stayed beside the target"
        if not changed and world.scene.source == "files" and "outcome" not in entries:
            sealed = {int(name.split("-")[0]) for name in entries.get("sealed", ())}
            wanted = set() if "decision" in entries else FILES - sealed
            if sorted(again.reads) != sorted(wanted):
                yield f"{where}: {sealed} were sealed, and {again.reads} were read again"


def killed_twice(world: World, pairs: Iterable[tuple[int, int]]) -> Iterator[str]:
    """The driver that sees to a dead one's run dies as well, and a third makes it whole."""
    for first, second in pairs:
        world.fresh()
        died = world.run({first: "kill"})
        where, before = _at(first, died), world.seen()
        expected = _after(world, before, world.newest(), 1)
        died = world.run({second: "kill"})
        where = f"{where}, then {_at(second, died)}"
        between, entries = world.seen(), world.newest()
        if between not in (before, expected):
            yield f"{where}: a reader saw {_short(world, between)}"
        if died.code not in (0, -9):
            yield f"{where}: the second run failed: {died.error}"
        if world.scene.plain and (died.done or "outcome" in entries) and between == expected:
            expected = world.added(expected, 1)
        third = world.run()
        if not third.done:
            yield f"{where}: the third run failed: {third.error}"
        yield from _differs(world, where, expected)


def state_lost(world: World, points: Iterable[int]) -> Iterator[str]:
    """The state is gone after the death: the head in the store wins.

    A plain append has nothing to lean on then: it adds its rows again if, and only if, the run that
    died had committed them.
    """
    for point in points:
        world.fresh()
        died = world.run({point: "kill"})
        where, between = _at(point, died), world.seen()
        yield from _of_death(world, died, where, between)
        world.lose_state()
        again = world.run()
        if not again.done:
            yield f"{where}: the next run failed: {again.error}"
        yield from _differs(world, where, world.added(between, 1))


def woken(world: World, points: Iterable[int], newer: bool = False) -> Iterator[str]:
    """A driver is stopped, the same command is run to its end, and then the stopped one goes on.

    It may find its work done, or be refused; it changes nothing. Only where it was stopped holding
    the lock of a commit, the second run is refused, and the first one's is done. `newer`: the
    source changed and was moved again before it wakes.
    """
    for point in points:
        world.fresh()
        first = world.run({point: "stop"})
        if not first.stopped:
            if not _has_fewer_calls(world, first):
                yield f"point {point}: was not reached: {first.error}"
            continue
        where, between, entries = f"point {point}", world.seen(), world.newest()
        if between not in (world.old, world.new):
            yield f"{where}: a reader saw {_short(world, between)} at the stop"
        second = world.run()
        if not second.done and not second.blocked:
            yield f"{where}: the second run failed: {second.error}"
        expected: Any = _after(world, between, entries, 1)
        if second.done:
            yield from _differs(world, where, expected)
        stage = 1
        if newer and second.done:
            stage = 2
            world.grow(stage)
            third = world.run()
            if not third.done:
                yield f"{where}: the third run failed: {third.error}"
            expected = world.added(expected, stage)
            yield from _differs(world, where, expected)
        woke = world.go_on(first)
        where = f"{where}, and woken ({woke.call})"
        if woke.code not in (0, 1):
            yield f"{where}: ended with {woke.code}: {woke.error}"
        if second.blocked:
            expected = between if "outcome" in entries else world.new
            if not woke.done:
                yield f"{where}: both failed: {second.error}; {woke.error}"
        elif woke.done and woke.run != second.run and "outcome" not in entries:
            # It had not begun when it was stopped: a run of its own, which was asked for, too.
            expected = world.added(expected, stage)
        yield from _differs(world, where, expected)
        last = world.run()
        if not last.done:
            yield f"{where}: the last run failed: {last.error}"
        yield from _differs(world, f"{where}, and run again", world.added(expected, stage))


def crossed(world: World, points: Iterable[int], until: str, dies: str) -> Iterator[str]:
    """Of two living drivers one is stopped at `until`, the other at each point.

    The first goes on, and is killed when it `dies`; then the second goes on. One of them shows its
    rows, and not both: the second is the first one's run again.
    """
    for point in points:
        world.fresh()
        first = world.run({until: "stop", dies: "kill"})
        second = world.run({point: "stop"})
        if not first.stopped:
            yield f"{until} was not reached: {first.error}"
            break
        woke = world.go_on(first)
        if second.stopped:
            second = world.go_on(second)
        where = f"point {point} ({second.call})"
        if world.seen() != world.new:
            yield f"{where}: {_short(world, world.seen())}; {woke.error}; {second.error}"
        if not second.done:
            again = world.run()
            if not again.done:
                yield f"{where}: the last run failed: {again.error}"
            yield from _differs(world, f"{where}, and run again", world.new)


def power_cut(world: World, points: Iterable[int | None]) -> Iterator[str]:
    """The power fails at each point, or (None) just after a run said that it is done."""
    for point in points:
        world.fresh()
        image, log = Image(world.here, world.kept), world.logs / "first"
        died = world.run({} if point is None else {point: "kill"}, log=log)
        image.learn(log, world.here)
        image.restore(world.here)
        shutil.rmtree(world.logs)
        where, between, entries = _at(point, died), world.seen(), world.newest()
        if died.done and between != world.new:
            yield f"{where}: {_short(world, between)}, though it was said to be done"
        yield from _of_cut(world, where, between, entries)


def power_cut_after_a_death(
    world: World, points: Iterable[int], then: dict[str, str] | None = None
) -> Iterator[str]:
    """A driver dies, the next one says that it is done, or dies as `then` says; the power fails."""
    for point in points:
        world.fresh()
        image = Image(world.here, world.kept)
        died = world.run({point: "kill"}, log=world.logs / "first")
        entries = world.newest()
        expected = _after(world, world.seen(), entries, 1)
        image.learn(world.logs / "first", world.here)
        again = world.run(then, log=world.logs / "second")
        image.learn(world.logs / "second", world.here)
        image.restore(world.here)
        shutil.rmtree(world.logs)
        where, between = _at(point, died), world.seen()
        if again.done and between != expected:
            found = _short(world, between, expected)
            yield f"{where}: {found}, though the next run was said to be done"
        if "outcome" not in entries:
            yield from _of_cut(world, where, between, world.newest())


def _of_cut(world: World, where: str, between: Any, entries: dict[str, Any]) -> Iterator[str]:
    if between not in (world.old, world.new):
        yield f"{where}: a reader saw {_short(world, between)} after the cut"
    again = world.run()
    if not again.done:
        yield f"{where}: the next run failed: {again.error}"
    else:
        yield from _differs(world, where, _after(world, between, entries, 1))


def _after(world: World, between: Any, entries: dict[str, Any], stage: int) -> list[Row]:
    """What the same command makes of a view, after the run of these entries."""
    if "outcome" in entries:
        return world.added(between, stage)
    if world.scene.plain and "prepared" in entries.get("decision", ()):
        return world.new
    return world.added(world.old, stage)


def _has_fewer_calls(world: World, run: Ended) -> bool:
    """Threads that seal at once make a folder once or twice: the last points may not be reached."""
    return run.done and world.points - 8 <= run.points < world.points


def _of_death(world: World, died: Ended, where: str, between: Any) -> Iterator[str]:
    if died.code != -9 and not _has_fewer_calls(world, died):
        yield f"{where}: the driver ended by itself with {died.code}: {died.error}"
    if between not in (world.old, world.new):
        yield f"{where}: a reader saw {_short(world, between)} after the death"


def _differs(world: World, where: str, expected: list[Row]) -> Iterator[str]:
    found = world.seen()
    if found != expected:
        yield f"{where}: there are {_short(world, found, expected)}"


def _short(world: World, found: list[Row] | str, expected: list[Row] | None = None) -> str:
    """What is too much, and what is missing."""
    if isinstance(found, str):
        return found
    has, wanted = Counter(found), Counter(world.new if expected is None else expected)
    more, less = list((has - wanted).elements()), list((wanted - has).elements())
    return f"{len(found)} rows, {len(more)} too many {more[:2]}, {len(less)} missing {less[:2]}"


def _at(point: int | None, died: Ended) -> str:
    return f"point {point} ({died.call})" if point is not None else "at the end"
