"""Tells a server of OpenLineage which data sets flows read and write: `lineage:` of flows.yml.

Each run of a flow (of many: of a table) is a START and then a COMPLETE, a FAIL or an ABORT. They
carry the names of the two data sets as OpenLineage writes them, the columns with their types, and
which column came from which. They are sent by OpenLineage's own library, one after another, beside
the flows. Where that fails it is said once, by the name of the host alone, and changes nothing.
"""

from __future__ import annotations

import os
import queue
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from hygge.config.connectors import build
from hygge.config.specs import FlowsFile, FlowSpec
from hygge.connectors.databases.known import database_of
from hygge.coordinator.schedule import RunFlow
from hygge.engine.jobs.instructions import is_flow_job
from hygge.errors import as_hygge_error
from hygge.journal import history
from hygge.journal.entries import Facts
from hygge.model import Report
from hygge.places.objects import is_object_url
from hygge.places.place import place_at
from hygge.run.recorder import versions
from hygge.run.watch import Watch

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

Named = tuple[str, str]
"""A data set: namespace, and name within it."""
_TIMEOUT_S = 5.0
_MOST_S = 30.0
"""Seconds that the end of all flows waits for events that are not sent yet."""
_RECORDS = 5
_PRODUCER = "https://pypi.org/project/hygge-data/"


class Lineage:
    """The events of the flows of one file; it does nothing where the file asks for none."""

    def __init__(self, file: FlowsFile, identity: Callable[[str], str], watch: Watch) -> None:
        self.file, self.identity, self.watch = file, identity, watch
        self._events: queue.SimpleQueue[Callable[[], RunEvent] | None] = queue.SimpleQueue()
        self._has_failed = False
        self._thread: threading.Thread | None = None
        if file.lineage and not is_flow_job():  # of which the command that submitted it tells
            self._thread = threading.Thread(target=self._send, name="hygge-lineage", daemon=True)
            self._thread.start()

    def around(self, run: RunFlow) -> RunFlow:
        """Return what runs flows as `run` does, and tells of it."""
        if self._thread is None:
            return run

        def run_and_tell(spec: FlowSpec, watch: Watch) -> Sequence[Report]:
            began, run_id = datetime.now(UTC), ""
            if spec.tables is None:  # each of many tells of itself, when its name is known
                run_id = self._start(spec.name, began, None, spec)
            try:
                reports = run(spec, watch)
            except Exception as error:
                reports = [Report(spec.name, "failed", error=as_hygge_error(error).message)]
                self._end(spec, reports, run_id, began)
                raise
            self._end(spec, reports, run_id, began)
            return reports

        return run_and_tell

    def close(self) -> None:
        """Wait for what is being sent, for half a minute at most."""
        if self._thread is not None:
            self._events.put(None)
            self._thread.join(_MOST_S)

    def _start(self, flow: str, at: datetime, report: Report | None, spec: FlowSpec) -> str:

        run_id = str(uuid4())

        def event() -> RunEvent:
            return _event("START", run_id, self.identity(flow), at, _ends(spec, report))

        self._events.put(event)
        return run_id

    def _end(self, spec: FlowSpec, reports: Sequence[Report], run_id: str, began: datetime) -> None:
        for report in reports:
            if report.status == "skipped":
                continue  # it did not begin
            started = datetime.fromtimestamp(report.started_at, UTC) if report.started_at else began
            own = run_id if report.flow == spec.name else ""
            own = own or self._start(report.flow, started, report, spec)
            kind = {"done": "COMPLETE", "failed": "FAIL"}.get(report.status, "ABORT")
            self._events.put(self._later(kind, own, report, spec, datetime.now(UTC)))

    def _later(
        self, kind: str, run_id: str, report: Report, spec: FlowSpec, at: datetime
    ) -> Callable[[], RunEvent]:
        def event() -> RunEvent:
            ends = _ends(spec, report)
            flow = self.identity(report.flow)
            columns = self._columns(flow, report.run)
            is_known = report.flow == spec.name or (spec.tables and not spec.tables.overrides)
            sources = _sources(spec, columns) if is_known else None
            return _event(kind, run_id, flow, at, ends, report, columns, sources)

        return event

    def _columns(self, flow: str, run: str) -> list[list[str]]:
        """Return (name, type in the source, type as moved) of each column, from the history."""
        found: Sequence[Facts] = ()
        with suppress(Exception):  # an event without columns is better than none
            found = history.records(place_at(self.file.state), flow, _RECORDS)
        return next((each.get("columns", []) for each in found if run and each["run"] == run), [])

    def _send(self) -> None:
        client: OpenLineageClient | None = None
        while (event := self._events.get()) is not None:
            try:
                client = client or _client(self.file.lineage)
                client.emit(event())
            except Exception as error:
                if not self._has_failed:
                    self._has_failed = True
                    self.watch.said("", f"warning: lineage: {_why(error, self.file.lineage)}")


def _ends(spec: FlowSpec, report: Report | None) -> tuple[str, str] | None:
    """Return home and store in words; None where the report of another flow does not say them."""
    if report is not None and report.home and report.store:
        return report.home, report.store
    if report is not None and report.flow != spec.name:
        return None
    home, store = build(spec)
    return home.describe(), store.describe()


def dataset_of(text: str) -> Named:
    """Return namespace and name of an end as `describe` gives it, by OpenLineage's rules."""
    scheme, is_url, rest = text.partition("://")
    if not is_url:
        return ("file", text) if os.path.isabs(text) else ("hygge", text)
    if is_object_url(text):
        bucket, _, key = rest.partition("/")
        return f"{scheme}://{bucket}", key or "/"
    authority, _, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    within, _, table = path.partition("#")
    if not host:  # the file of a database
        return "file", f"{within}/{table}" if table else within
    database = database_of(text)
    if database.port and not re.search(r":\d+$", host):
        host += f":{database.port}"
    if database.default_schema and table and "." not in table:
        table = f"{database.default_schema}.{table}"
    is_whole = database.schema_is_database and "." in table
    word = (*database.aliases, *database.backends)[0]
    return f"{word}://{host}", table if is_whole else ".".join(filter(None, (within, table)))


def _sources(spec: FlowSpec, columns: Sequence[Sequence[str]]) -> dict[str, str] | None:
    """Return column of the store → column of the source; None: that is not known."""
    shape = spec.shape
    if shape is None:
        return {name: name for name, *_ in columns}
    if shape.transform is not None or shape.flatten or shape.names == "snake":
        return None
    chosen = {choice.target or choice.name: choice.name for choice in shape.columns or ()}
    added = shape.add or {}
    return {name: chosen.get(name, name) for name, *_ in columns if name not in added}


def _event(
    kind: str,
    run_id: str,
    flow: str,
    at: datetime,
    ends: tuple[str, str] | None,
    report: Report | None = None,
    columns: Sequence[Sequence[str]] = (),
    sources: Mapping[str, str] | None = None,
) -> RunEvent:
    from openlineage.client.event_v2 import (
        InputDataset,
        Job,
        OutputDataset,
        Run,
        RunEvent,
        RunState,
    )
    from openlineage.client.generated.error_message_run import ErrorMessageRunFacet
    from openlineage.client.generated.processing_engine_run import ProcessingEngineRunFacet

    facets: dict[str, Any] = {
        "processing_engine": ProcessingEngineRunFacet(versions()["hygge"], name="hygge")
    }
    if report is not None and report.error:
        facets["errorMessage"] = ErrorMessageRunFacet(report.error, "PYTHON")
    inputs, outputs = list[InputDataset](), list[OutputDataset]()
    if ends is not None:
        home, store = map(dataset_of, ends)
        source, target = _data_sets(home, store, report, columns, sources)
        inputs, outputs = [source], [target]
    return RunEvent(
        eventTime=at.isoformat(),
        producer=_PRODUCER,
        run=Run(run_id, facets),
        job=Job(os.environ.get("OPENLINEAGE_NAMESPACE", "hygge"), flow),
        eventType=RunState(kind),
        inputs=inputs,
        outputs=outputs,
    )


def _data_sets(
    home: Named,
    store: Named,
    report: Report | None,
    columns: Sequence[Sequence[str]],
    sources: Mapping[str, str] | None,
) -> tuple[InputDataset, OutputDataset]:
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.generated import input_statistics_input_dataset as read
    from openlineage.client.generated import output_statistics_output_dataset as written
    from openlineage.client.generated.column_lineage_dataset import (
        ColumnLineageDatasetFacet,
        Fields,
        InputField,
    )

    about_source, about_target = dict[str, Any](), dict[str, Any]()
    source = InputDataset(*home, facets=about_source)
    target = OutputDataset(*store, facets=about_target)
    if columns:
        about_target["schema"] = _schema([(name, word) for name, _, word in columns])
    if sources:
        types = [(sources[n], native or word) for n, native, word in columns if n in sources]
        about_source["schema"] = _schema(types)
        fields = {name: Fields([InputField(*home, field)]) for name, field in sources.items()}
        about_target["columnLineage"] = ColumnLineageDatasetFacet(fields)
    if report is not None and report.status == "done":
        rows = read.InputStatisticsInputDatasetFacet(rowCount=report.rows_read)
        source.inputFacets = {"inputStatistics": rows}
        applied = written.OutputStatisticsOutputDatasetFacet(rowCount=report.applied)
        target.outputFacets = {"outputStatistics": applied}
    return source, target


def _schema(columns: Sequence[tuple[str, str]]) -> Any:
    from openlineage.client.generated.schema_dataset import (
        SchemaDatasetFacet,
        SchemaDatasetFacetFields,
    )

    return SchemaDatasetFacet([SchemaDatasetFacetFields(name, kind) for name, kind in columns])


def _client(url: str) -> OpenLineageClient:
    """Return a client for a server, or for the whole URL that takes the events."""
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport

    parts = urlsplit(url)
    options: dict[str, Any] = {"url": f"{parts.scheme}://{parts.netloc}", "timeout": _TIMEOUT_S}
    if parts.path.strip("/"):
        options["endpoint"] = parts.path + (f"?{parts.query}" if parts.query else "")
    config = HttpConfig(**options)
    config.retry = {**config.retry, "total": 0, "read": 0, "connect": 0}  # it logs each, with URLs
    if key := os.environ.get("OPENLINEAGE_API_KEY"):
        config.auth = ApiKeyTokenProvider({"api_key": key})
    return OpenLineageClient(transport=HttpTransport(config))


def _why(error: Exception, url: str) -> str:
    if isinstance(error, ImportError):
        return "the library for it is not here: pip install 'openlineage-python>=1.40,<2'"
    answer = getattr(getattr(error, "response", None), "status_code", None)
    reason = f"the answer has code {answer}" if answer else type(error).__name__
    return f"an event could not be sent to {urlsplit(url).hostname}: {reason}"
