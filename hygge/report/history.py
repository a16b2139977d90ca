"""Past runs in words for people: a line a run, and all that is known of one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from hygge.errors import rows_text
from hygge.journal.entries import Facts
from hygge.report.progress import bytes_text, count_text, duration_text

_SPLITS_SHOWN = 20
_BARS = "▁▂▃▄▅▆▇█"
_BAR_COLUMNS = 40


def history_lines(records: Sequence[Facts]) -> list[str]:
    """Return a line for each record, below a heading; none without records."""
    if not records:
        return []
    rows = [("began", "flow", "outcome", "rows", "time", "run", "")]
    for record in records:
        notes = []
        if record.get("resumed"):
            kept = record["resumed"]
            notes.append(f"{kept} split{'s'[: kept != 1]} staged before")
        if record.get("resumed_from"):
            notes.append(f"goes on after: {record['resumed_from']}")
        if record.get("retries"):
            notes.append(f"{record['retries']} retried")
        if record.get("error"):
            notes.append(str(record["error"]).splitlines()[0])
        rows.append(
            (
                _time(record),
                record["flow"],
                record["status"],
                f"{record['rows']:,}" if record["status"] == "done" else "-",
                duration_text(record["seconds"]) if "seconds" in record else "-",
                record["id"],
                "; ".join(notes),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return [
        "  ".join(
            cell.rjust(width) if column in (3, 4) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, [*widths, 0], strict=True))
        ).rstrip()
        for row in rows
    ]


def show_text(attempts: Sequence[Facts], splits: Sequence[Facts]) -> str:
    """Return all that is known of a run: its attempts, the newest first, and its splits."""
    newest = attempts[0]
    lines = [f"{newest['flow']}  {newest['id']}"]
    for name in ("mode", "home", "store"):
        if newest.get(name):
            lines.append(f"  {name:<8} {newest[name]}")
    for number, attempt in enumerate(attempts):
        lines += ["", *_attempt_lines(attempt, len(attempts) - number, len(attempts))]
    if splits:
        lines += [
            "",
            f"receipts of {len(splits)} split{'s'[: len(splits) != 1]}",
            "  split        rows     bytes  tries",
        ]
        for split in splits[:_SPLITS_SHOWN]:
            aside = f"  {split['set_aside']:,} set aside" if split["set_aside"] else ""
            counts = f"{split['rows']:>10,}  {bytes_text(split['bytes']):>8}  {split['tries']:>5}"
            lines.append(f"  {split['split']:>5}  {counts}{aside}")
        if len(splits) > _SPLITS_SHOWN:
            lines.append(f"  and {len(splits) - _SPLITS_SHOWN} more: --json has all of them")
    return "\n".join(lines)


def _attempt_lines(attempt: Facts, number: int, count: int) -> list[str]:
    which = f"attempt {number} of {count}: " if count > 1 else ""
    took = f" after {duration_text(attempt['seconds'])}" if "seconds" in attempt else ""
    lines = [f"{which}{attempt['status']}{took}, began {_time(attempt)}"]
    if attempt["status"] == "open":
        lines.append("  it runs now, or its driver died; running it again goes on with it")
    if attempt.get("error"):
        lines.append(f"  error    {attempt['error']}")
    if attempt.get("rows"):
        parts = [rows_text(attempt["rows"]), bytes_text(attempt["bytes"])]
        lanes = attempt.get("lanes", 0)
        parts += [f"{lanes} lane{'s'[: lanes != 1]}"] if lanes else []
        for name in ("resumed", "retries", "filtered", "superseded", "set_aside"):
            if attempt.get(name):
                parts.append(f"{attempt[name]:,} {name.replace('_', ' ')}")
        lines.append(f"  moved    {' · '.join(parts)}")
    if rates := rates_text(attempt):
        lines.append(f"  rate     {rates}")
    waits = dict(attempt.get("waited_s", {}))
    for end, seconds in (("the store", "wait_home_s"), ("the home", "wait_store_s")):
        if attempt.get(seconds):
            waits[f"{end}, over all lanes"] = attempt[seconds]
    lines += [f"  waited   {duration_text(s)} for {what}" for what, s in waits.items() if s >= 0.1]
    lines += [f"  changed  {change}" for change in attempt.get("changes", ())]
    if attempt.get("note"):
        lines.append(f"  note     {attempt['note']}")
    lines += [f"  {at:>7.1f} s  {text}" for at, text in attempt.get("messages", ())]
    if attempt.get("messages_left_out"):
        lines.append(f"  and {attempt['messages_left_out']} more messages")
    if versions := attempt.get("versions"):
        lines.append("  with     " + ", ".join(f"{name} {text}" for name, text in versions.items()))
    return lines


def rates_text(record: Facts) -> str:
    """Return the rows in a second over time as small bars, with the highest; "" where none are."""
    points = record.get("over_time", {}).get("points", [])
    rates = []
    for before, after in pairwise(points):
        passed_s = after[0] - before[0]
        if passed_s > 0:
            rates.append(max(0.0, (after[1] - before[1]) / passed_s))
    if len(rates) < 3 or max(rates) <= 0:
        return ""
    step = -(-len(rates) // _BAR_COLUMNS)
    means = [
        sum(rates[at : at + step]) / len(rates[at : at + step]) for at in range(0, len(rates), step)
    ]
    highest = max(means)
    bars = "".join(_BARS[round(rate / highest * (len(_BARS) - 1))] for rate in means)
    return f"{bars}  {count_text(round(highest))} rows/s at most"


def _time(record: Facts) -> str:
    return f"{datetime.fromtimestamp(record['started_at']).astimezone():%Y-%m-%d %H:%M:%S}"
