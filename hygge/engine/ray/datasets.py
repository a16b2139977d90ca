"""Ray Data: `ray_dataset` reads a Home as a Dataset, and `RayDataHome` is a Dataset as a Home.

`ray_dataset` plans once, as a run does, and each split of that plan is a read task. The rows go
from the source to the workers of Ray Data, and the driver does not gather them. (Those of MariaDB
pass a port of it: see `hygge/connectors/mariadb/snapshot.py`.)

Life of a `RayDataHome`: `open` has the Dataset carried out (`materialize`), which fixes its blocks.
A worker reads each block once for its fingerprint, where the block lies. A block is a split, and
its fingerprint is the version of the split: `read` compares it, since a block that was lost is made
again by Ray, and code that is random makes another one. Its references are kept by an actor of the
driver: the Home that travels to other processes has a handle of it, so that a block is freed when
the run ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.bad_rows import is_bad
from hygge.batches import reached_of
from hygge.connectors.files.home import FileHome
from hygge.engine.ray import connection
from hygge.engine.reading import read_split
from hygge.errors import ConfigError, HomeError, SourceChanged
from hygge.formats.json_columns import to_text
from hygge.home import Home
from hygge.model import MIB, Column, Limits, Plan, Split, Watermark
from hygge.run.engines import schema_of
from hygge.run.shaping import shaped_home
from hygge.shape.bound import bind
from hygge.shape.settings import Shape, ShapeDict, as_shape

if TYPE_CHECKING:
    from ray.data import Dataset
    from ray.data.datasource import Datasource


def ray_dataset(
    home: Home,
    *,
    shape: Shape | ShapeDict | None = None,
    until: ExitStack | None = None,
    concurrency: int | None = None,
    batch_bytes: int = 32 * MIB,
) -> Dataset:
    """Return the rows of a Home as a `ray.data.Dataset` that is read when it is used.

    It is planned now: its schema is known, and all of it is of this moment, as far as the plan of
    the Home says so. Each split is a read task, which gives tables of about `batch_bytes`. `shape`
    is that of a flow; at most `concurrency` tasks read at once.

    What the plan holds (a snapshot of PostgreSQL) is let go when `until` is closed; without it,
    when nothing refers to the Dataset any more, nor to one that was made of it.

    Raises what planning a run raises. An error of a read task is raised by Ray Data as a
    `RayTaskError` that is also an instance of its class.
    """
    connection.connect()
    import ray

    chosen = as_shape(shape)
    home = copy(home) if chosen is None else shaped_home(home, chosen)
    home.lanes = concurrency or max(1, int(ray.cluster_resources().get("CPU", 1)))
    with ExitStack() as own:
        plan = own.enter_context(home.open(None))
        schema = schema_of(plan)
        if schema is not None and home.shape is not None:
            home.bound = bind(home.shape, schema, home.describe(), to_text)
            schema = home.bound.schema
        held = _Held()
        source = _datasource(home, plan.splits, schema, Limits(batch_bytes=batch_bytes), held)
        most = [each for each in (concurrency, home.traits.max_lanes) if each is not None]
        with warnings.catch_warnings():  # `max_retries` has no other place yet
            warnings.simplefilter("ignore", DeprecationWarning)
            dataset = ray.data.read_datasource(
                source,
                override_num_blocks=len(plan.splits),
                concurrency=min(most) if most else None,
                ray_remote_args=None if _gives_rows_in_order(home) else {"max_retries": 0},
            )
        opened = own.pop_all()
    if until is None:
        weakref.finalize(held, _let_go, opened)
    else:
        until.push(opened)
    return dataset


def _gives_rows_in_order(home: Home) -> bool:
    """Return whether a split that is read again gives its rows in the same order.

    Ray goes on with a task that died at the block where it died. Files have an order; a database
    may give the rows of a split in another one.
    """
    return isinstance(home, FileHome) and (home.shape is None or home.shape.transform is None)


class _Held:
    """What all Datasets of one plan refer to; copies of it are the same object."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Held:
        return self

    def __reduce__(self) -> tuple[type[_Held], tuple[()]]:
        return _Held, ()  # another process holds nothing


def _let_go(stack: ExitStack) -> None:
    with contextlib.suppress(Exception):  # nobody is there to be told
        stack.close()


def _datasource(
    home: Home, splits: Sequence[Split], schema: pa.Schema | None, limits: Limits, held: _Held
) -> Datasource:
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class HyggeDatasource(Datasource):
        """The splits of one plan."""

        def __init__(self) -> None:
            super().__init__()
            self.held = held

        def estimate_inmemory_data_size(self) -> int | None:
            sizes = [split.bytes for split in splits if split.bytes is not None]
            return sum(sizes) if len(sizes) == len(splits) else None

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
        ) -> list[ReadTask]:
            return [
                ReadTask(
                    _Read(home, split, schema, limits),
                    # The rows that a plan tells may be estimated: Ray takes them for exact.
                    BlockMetadata(
                        num_rows=None, size_bytes=split.bytes, input_files=None, exec_stats=None
                    ),
                    schema=schema,
                    per_task_row_limit=per_task_row_limit,
                )
                for split in splits
            ]

    return HyggeDatasource()


class _Read:
    """A read task: it travels to a worker of Ray Data."""

    def __init__(self, home: Home, split: Split, schema: pa.Schema | None, limits: Limits) -> None:
        self.home, self.split, self.schema, self.limits = home, split, schema, limits

    def __call__(self) -> Iterator[pa.Table]:
        has_rows, schema = False, self.schema
        with contextlib.closing(read_split(self.home, self.split, schema, self.limits)) as tables:
            for table in tables:
                if reached_of(table) is not None or is_bad(table):
                    continue
                schema = schema or table.schema
                if table.num_rows:
                    has_rows = True
                    yield table
                del table
        if not has_rows and schema is not None:
            yield schema.empty_table()


class RayDataHome(Home):
    """`RayDataHome(dataset)`: the rows of a `ray.data.Dataset`, for a Flow into any Store.

    The Dataset is carried out when the run is planned, and its blocks stay in Ray's object store
    until the run ends.
    """

    def __init__(self, dataset: Dataset, name: str | None = None) -> None:
        if not callable(getattr(dataset, "materialize", None)):
            raise ConfigError(
                f"RayDataHome was given a {type(dataset).__name__}, which is no ray.data.Dataset",
                "give it what `ray.data.read_…`, `map_batches` or `hygge.ray_dataset` returns",
            )
        self.name = name
        self.dataset: Dataset | None = dataset
        self.keeper: Any = None

    def describe(self) -> str:
        return f"the Ray Dataset {self.name}" if self.name else "a Ray Dataset"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "dataset": None}  # its blocks are enough for a lane

    @contextmanager
    def open(self, since: Watermark = None) -> Iterator[Plan]:
        import ray

        if self.dataset is None:
            raise HomeError(f"{self.describe()} is read in the process that made it alone")
        with _in_order(self.dataset):
            done = self.dataset.materialize()
        refs = done.to_arrow_refs()
        looked = ray.remote(num_cpus=0)(_look_at)
        found = ray.get([looked.remote(ref) for ref in refs])
        keeper = ray.remote(num_cpus=0)(_Keeper).remote([[ref] for ref in refs])
        self.keeper, before = keeper, self.keeper  # a plan may be open while another one is made
        try:
            schema = _united([facts["schema"] for facts in found], self.describe())
            full = [(at, facts) for at, facts in enumerate(found) if facts["rows"]] or [
                (at, facts) for at, facts in enumerate(found[:1])
            ]
            splits = [
                Split(
                    index, facts["version"], {"block": at}, f"block {at}", facts["rows"],
                    facts["bytes"],
                )
                for index, (at, facts) in enumerate(full)
            ]  # fmt: skip
            columns = None
            if schema is not None:
                columns = tuple(
                    Column(f.name, f.type, nullable=f.nullable, metadata=f.metadata or {})
                    for f in schema
                )
            yield Plan(
                columns,
                tuple(splits) or (Split(0, "", {"block": None}, "no block"),),
                reason=f"{len(splits)} of its blocks, which stay as they are until the run ends",
                dead_driver="its blocks are gone with it: the Dataset is carried out again, and "
                "blocks that come out as they were are not staged again",
            )
        finally:
            self.keeper = before
            ray.kill(keeper)

    def read(self, split: Split) -> Iterator[pa.Table]:
        import ray

        at = split.where["block"]
        if at is None:
            return
        try:
            (ref,) = ray.get(self.keeper.block.remote(at))
            table = ray.get(ref)
        except ray.exceptions.RayError as error:
            raise HomeError(
                f"{self.describe()}: block {at} is lost: {error}",
                "run it again; a Dataset whose steps are costly is written to files first",
            ) from error
        if _version(table) != split.version:
            raise SourceChanged(
                f"{self.describe()}: block {at} was lost, and Ray made another one in its place",
                "run it again; let its steps give the same rows each time (a seed for what is "
                "random), or write it to files first",
            )
        yield table


@contextmanager
def _in_order(dataset: Dataset) -> Iterator[None]:
    """Have the blocks of a Dataset in its own order, and not in that in which they were done.

    A run goes on with the splits of the one before by their numbers.
    """
    options = dataset.context.execution_options
    before, options.preserve_order = options.preserve_order, True
    try:
        yield
    finally:
        options.preserve_order = before


class _Keeper:
    """The actor that keeps the references of the blocks as long as a run lasts."""

    def __init__(self, refs: list[list[Any]]) -> None:
        self.refs = refs

    def block(self, at: int) -> list[Any]:
        """Return the reference of a block, in a list, so that no block is sent."""
        return self.refs[at]


def _look_at(table: pa.Table) -> dict[str, Any]:
    """Return what a plan needs to know of a block; runs where the block lies."""
    return {
        "version": _version(table), "rows": table.num_rows, "bytes": table.nbytes,
        "schema": table.schema.remove_metadata(),
    }  # fmt: skip


class _Digest:
    """A file that only remembers the fingerprint of what is written."""

    closed = False

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def _version(table: pa.Table) -> str:
    """Return the fingerprint of all that a block holds."""
    digest = _Digest()
    with pa.PythonFile(digest, "w") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return digest.hash.hexdigest()


def _united(schemas: Sequence[pa.Schema], who: str) -> pa.Schema | None:
    """Return the schema of all blocks; a column that is only NULL in one has the type of another.

    Raises HomeError where two blocks differ.
    """
    if not schemas:
        return None
    try:
        return pa.unify_schemas([each for each in schemas if each.names] or schemas[:1])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise HomeError(
            f"{who}: its blocks have different columns: {error}",
            "let its steps give each block the same columns of the same types",
        ) from error
