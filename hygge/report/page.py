"""A report as one page of HTML: no script, no file beside it, no request to any host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from html import escape

from hygge.errors import rows_text
from hygge.journal.entries import Facts
from hygge.model import Report
from hygge.report import charts
from hygge.report.charts import Bar
from hygge.report.progress import bytes_text, duration_text
from hygge.report.text import equation_text

_SPLITS_SHOWN = 200
_STYLE = """
:root { --ground: #fbfaf7; --card: #fff; --ink: #1d2228; --dim: #69717c; --line: #e3e0d8;
  --done: #3b7d4f; --failed: #b3372f; --other: #a67a1e; --rate: #2f6690; --lanes: #8a6fae; }
@media (prefers-color-scheme: dark) { :root { --ground: #15181c; --card: #1d2126; --ink: #e6e4df;
  --dim: #98a0aa; --line: #30363d; --done: #6bbd82; --failed: #ec7a70; --other: #dcb35c;
  --rate: #74b3de; --lanes: #b79ddb; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1, h2 { overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; color: var(--dim); font-weight: 600; }
p { margin: .25rem 0; } .dim, caption { color: var(--dim); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .75rem 1rem; overflow-x: auto; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; }
.facts b { display: block; font-size: 1.25rem; }
.badge { padding: .05rem .5rem; border-radius: 1rem; color: var(--card); background: var(--other);
  font-size: .9rem; } .badge.done { background: var(--done); }
.badge.failed { background: var(--failed); }
.error { border-color: var(--failed); white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; } th, td { text-align: left; padding: .2rem .75rem .2rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; }
.number { text-align: right; } code { overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; max-width: 38rem; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); } svg .end { text-anchor: end; }
svg .dim { fill: var(--dim); } svg .axis { stroke: var(--line); } svg .track { fill: var(--line); }
svg .rate { fill: var(--rate); } svg .lanes { fill: var(--lanes); } svg .done { fill: var(--done); }
svg .failed { fill: var(--failed); } svg .staged { fill: var(--done); }
svg .given_up { fill: var(--card); stroke: var(--other); stroke-width: 1.5; }
@media (max-width: 30rem) { svg text { font-size: 14px; } svg .lane { font-size: 13px; }
  .card { padding: .5rem; } }
.key span { white-space: nowrap; }
.key span::before { content: ""; display: inline-block; width: .8em; height: .8em; margin: 0 .3em;
  border: 2px solid var(--done); background: var(--done); }
.key .failed::before { background: var(--failed); border-color: var(--failed); }
.key .given_up::before { background: none; border-color: var(--other); }
svg .open, svg .stopped, svg .skipped { fill: var(--other); }
"""


@dataclass(frozen=True)
class FlowRun:
    """What is known of one run of one flow."""

    attempts: Sequence[Facts]
    """Its records, the newest first."""
    splits: Sequence[Facts] = ()
    earlier: Sequence[Facts] = field(default_factory=tuple)
    """Records of earlier runs of the flow, the newest first."""


def page(title: str, runs: Sequence[FlowRun]) -> str:
    """Return a page about some runs, each of its own flow."""
    newest = [run.attempts[0] for run in runs]
    parts = [f"<h1>{escape(title)}</h1>", _overview(newest)]
    parts += [_flow(run) for run in runs]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{chr(10).join(filter(None, parts))}\n</body></html>\n"
    )


def _overview(newest: Sequence[Facts]) -> str:
    if len(newest) == 1:
        return ""
    done = sum(record["status"] == "done" for record in newest)
    rows = sum(record.get("rows", 0) for record in newest)
    began = min(record["started_at"] for record in newest)
    ended = max(_ended(record) for record in newest)
    facts = [
        (f"{done} of {len(newest)}", "flows done"),
        (f"{rows:,}", f"row{'s'[: rows != 1]}"),
        (bytes_text(sum(record.get("bytes", 0) for record in newest)), "in Arrow"),
        (duration_text(ended - began), _moment(began)),
    ]
    ran = [
        Bar(
            record["flow"], record["started_at"], _ended(record), _outcome(record), record["status"]
        )
        for record in sorted(newest, key=lambda record: float(record["started_at"]))
    ]
    return f"{_facts(facts)}<h3>When each flow ran</h3>{_card(charts.bars(ran, 'flows over time'))}"


def _flow(run: FlowRun) -> str:
    record = run.attempts[0]
    status = str(record["status"])
    points = record.get("over_time", {}).get("points", [])
    parts = [
        f'<h2>{escape(record["flow"])} <span class="badge {escape(status)}">{escape(status)}</span>'
        "</h2>",
        f'<p class="dim"><code>{escape(record.get("home", ""))}</code> → '
        f"<code>{escape(record.get('store', ''))}</code></p>",
        _error(record),
        _facts(_numbers(record)),
        f"<p>{escape(equation(record))}</p>" if status == "done" and "applied" in record else "",
        _titled("Rows in a second", _card(charts.throughput(points))),
        _titled("Lanes at work", _card(charts.lanes(points))),
        _titled("What each lane did", _lanes(record)),
        _titled("Who waited for whom", _card(charts.bars(_waits(record), "waiting"))),
        _titled("Columns", _columns(record)),
        _titled("What it said", _said(record)),
        _titled("Splits", _splits(run.splits)),
        _titled("Attempts", _attempts(run.attempts)),
        _titled("Time of the last runs", _card(charts.columns(_earlier(run), "last runs"))),
        _versions(record),
    ]
    return f"<section>{''.join(filter(None, parts))}</section>"


def _error(record: Facts) -> str:
    if not record.get("error"):
        return ""
    advice = f"\n\nhint: {record['hint']}" if record.get("hint") else ""
    return f'<div class="card error">{escape(str(record["error"]) + advice)}</div>'


def _numbers(record: Facts) -> list[tuple[str, str]]:
    seconds = record.get("seconds")
    rows = record.get("rows", 0)
    staged = f"row{'s'[: rows != 1]} staged"
    facts = [(f"{rows:,}", staged), (bytes_text(record.get("bytes", 0)), "in Arrow")]
    if seconds is not None:
        facts.append((duration_text(seconds), _moment(record["started_at"])))
        if rows and seconds:
            facts.append((f"{rows / seconds:,.0f}", "rows/s"))
    facts.append((str(record.get("mode", "")), str(record.get("guarantee", ""))))
    for key, words in (("lanes", "lane{}"), ("retries", "retried"), ("resumed", "split{} kept")):
        if record.get(key):
            facts.append((f"{record[key]:,}", words.format("s"[: record[key] != 1])))
    return facts


def equation(record: Facts) -> str:
    """Return how the counts go together, as the report of the run said it."""
    known = {each.name for each in fields(Report)}
    return equation_text(Report(**{name: value for name, value in record.items() if name in known}))


def _lanes(record: Facts) -> str:
    """Return the attempts at splits as a chart, and what its colours say."""
    points = record.get("over_time", {}).get("points") or [[0.0, 0, 0, 0, 0]]
    chart = charts.gantt(record.get("split_attempts", {}), float(points[-1][0]))
    if not chart:
        return ""
    colours = "".join(f'<span class="{kind}">{words}</span> ' for kind, words in charts.HOW.items())
    kept = len({bar[0] for bar in record["split_attempts"]["bars"]})
    ran = max(record.get("lanes", 0), *(point[4] for point in points))
    left = f"· the first {kept} of {ran} lanes" if ran > kept else ""
    return _card(f'<p class="dim key">attempts at splits: {colours}{left}</p>{chart}')


def _waits(record: Facts) -> list[Bar]:
    waits = dict(record.get("waited_s", {}))
    for key, words in (
        ("wait_home_s", "homes waited for the store, all lanes"),
        ("wait_store_s", "the store waited for homes, all lanes"),
    ):
        if record.get(key):
            waits[words] = record[key]
    return [
        Bar(what, 0.0, float(seconds), duration_text(seconds), "lanes")
        for what, seconds in waits.items()
        if seconds >= 0.1
    ]


def _columns(record: Facts) -> str:
    rows = record.get("columns", [])
    return _table(("column", "in the source", "as moved"), rows) if rows else ""


def _said(record: Facts) -> str:
    rows = [(f"{at:.1f}\N{NO-BREAK SPACE}s", text) for at, text in record.get("messages", ())]
    rows += [("change", text) for text in record.get("changes", ())]
    rows += [("note", text) for text in (record.get("note") or "").split("; ") if text]
    return _table(("when", "what"), rows) if rows else ""


def _splits(splits: Sequence[Facts]) -> str:
    if not splits:
        return ""
    rows = [
        (str(each["split"]), f"{each['rows']:,}", bytes_text(each["bytes"]), str(each["tries"]))
        for each in splits[:_SPLITS_SHOWN]
    ]
    left = f"the first {_SPLITS_SHOWN} of {len(splits)}" if len(splits) > _SPLITS_SHOWN else ""
    return _table(("split", "rows", "bytes", "tries"), rows, left)


def _attempts(attempts: Sequence[Facts]) -> str:
    if len(attempts) < 2:
        return ""
    rows = [
        (_moment(each["started_at"]), each["status"], _outcome(each), str(each.get("error") or ""))
        for each in attempts
    ]
    return _table(("began", "outcome", "moved", "error"), rows)


def _earlier(run: FlowRun) -> list[Bar]:
    records = [run.attempts[0], *run.earlier]
    if len(records) < 2:
        return []
    return [
        Bar(_moment(each["started_at"]), 0.0, float(each.get("seconds", 0.0)), _outcome(each),
            str(each["status"]))
        for each in reversed(records)
    ]  # fmt: skip


def _versions(record: Facts) -> str:
    texts = [f"{name} {text}" for name, text in record.get("versions", {}).items()]
    return f'<p class="dim">run {escape(record["id"])} · {escape(" · ".join(texts))}</p>'


def _outcome(record: Facts) -> str:
    seconds = record.get("seconds")
    took = f", {duration_text(seconds)}" if seconds is not None else ""
    return f"{rows_text(record.get('rows', 0))}{took}"


def _ended(record: Facts) -> float:
    return float(record.get("done_at") or record["started_at"] + record.get("seconds", 0.0))


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}"


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f'<div class="card"><b>{escape(value)}</b><span class="dim">{escape(words)}</span></div>'
        for value, words in facts
    )
    return f'<div class="facts">{cells}</div>'


def _card(content: str) -> str:
    return f'<div class="card">{content}</div>' if content else ""


def _titled(title: str, content: str) -> str:
    return f"<h3>{escape(title)}</h3>{content}" if content else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="card"><table>{said}<thead><tr>{head}</tr></thead>{body}</table></div>'
