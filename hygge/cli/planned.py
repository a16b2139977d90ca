"""The flows of a file, one after the other, for commands that look at each of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from hygge.errors import as_hygge_error

if TYPE_CHECKING:
    from hygge.config.specs import FlowSpec
    from hygge.coordinator.coordinator import Coordinator

OnError = Callable[["FlowSpec", Exception], None]


def each_flow(
    coordinator: Coordinator, on_error: OnError, say: Callable[[str], None] = lambda text: None
) -> Iterator[tuple[FlowSpec, Sequence[FlowSpec]]]:
    """Yield each selected flow with its tables, whose snapshot is held meanwhile.

    A flow without `tables` is the only one of its own. `on_error` is told why the tables of a flow
    cannot be listed, and `say` what there is to say of them.
    """
    for spec in coordinator.file.flows:
        if spec.tables is None:
            yield spec, (spec,)
            continue
        with contextlib.ExitStack() as stack:
            try:
                opened = coordinator.open_tables(spec, planning=True, say=say)
                tables = stack.enter_context(opened)
            except Exception as error:
                on_error(spec, error)
                continue
            yield spec, tables


class Failures:
    """What went wrong with some flows; printed when all of them have been looked at."""

    def __init__(self, debug: bool) -> None:
        self.debug = debug
        self.texts: list[str] = []

    def add(self, spec: FlowSpec, error: Exception) -> None:
        """Note why a flow failed; with `--debug` its traceback is printed at once."""
        if self.debug:
            from hygge.cli.say import print_traceback

            print_traceback(error)
        self.texts.append(f"error: {spec.name}: {as_hygge_error(error)}")

    def print(self) -> int:
        """Print them to standard error; return the exit code."""
        if self.texts:
            print("\n\n".join(self.texts), file=sys.stderr)
        return 1 if self.texts else 0
