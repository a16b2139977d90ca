"""Build the site of the documents: build/docs/site/, which a browser opens without a network.

README.md is its first page, and hygge itself prints those in PRINTED. Links to files that are no
pages become plain text. A browser that opens a file, and no server's page, needs the package
`iframe-worker` of npm for the search; Zensical would have it loaded from another host.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hygge.cli.arguments import make_parser
from hygge.report.connectors import DescribedEnd, connector_names, describe_connector

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "build" / "docs"
SITE = SOURCE / "site"
WORKER = "iframe-worker@1.0.4"
ELSEWHERE = "https://unpkg.com/iframe-worker/shim"
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
LOADED = re.compile(
    r"""<(?:script|img|iframe)[^>]+src=["']?(https?:[^"'> ]+)"""
    r"""|<link[^>]+stylesheet[^>]+(https?:[^"'> ]+)"""
)


def main() -> int:
    """Build the site; return 0, or 1 where a page would load something of another host."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    pages = SOURCE / "pages"
    shutil.copytree(ROOT / "docs", pages, ignore=shutil.ignore_patterns("*.py", "*.toml"))
    shutil.copy(ROOT / "docs" / "zensical.toml", SOURCE)
    (pages / "index.md").write_text(first_page((ROOT / "README.md").read_text()))
    for name, print_page in PRINTED.items():
        (pages / name).write_text(print_page())
    for page in pages.rglob("*.md"):
        page.write_text(only_links_to_pages(page, pages))
    subprocess.run([sys.executable, "-m", "zensical", "build", "--clean"], cwd=SOURCE, check=True)
    keep_the_worker_here()
    if loaded := sorted(set(loaded_from_elsewhere())):
        print("pages load from other hosts:", *loaded, sep="\n  ", file=sys.stderr)
        return 1
    print(f"open {SITE / 'index.html'}")
    return 0


def first_page(readme: str) -> str:
    """Return the README as it stands beside the other pages."""
    return readme.replace("](docs/", "](")


def connectors_page() -> str:
    """Return the page of every connector, from its class and the model of its settings."""
    parts = ["# Every connector", "What `hygge connectors NAME` prints, of this version of hygge."]
    for name in connector_names():
        about = describe_connector(name)
        parts += [f"## {name}", as_text(about.title), facts(about.facts)]
        for end in about.ends:
            parts += [f"### {name} as {end.side}", f"In Python: `{end.cls}`."]
            parts += [
                facts(end.traits),
                table(("setting", "type", "default", "meaning"), settings(end)),
            ]
    return "\n\n".join(filter(None, parts)) + "\n"


def settings(end: DescribedEnd) -> Iterator[Sequence[str]]:
    """Yield a row for each setting; an option has the name of its setting before it."""
    above: list[str] = []
    for each in end.settings:
        above = [*above[: each.depth], each.key]
        yield code(".".join(above)), code(each.kind), code(each.default), as_text(each.meaning)


def commands_page() -> str:
    """Return the page of every command, from the parser of the command line."""
    parts = ["# Every command", "What `hygge COMMAND --help` prints, of this version of hygge."]
    commands = make_parser()._subparsers._group_actions[0]
    for listed in commands._get_subactions():
        command = commands.choices[listed.dest]
        parts += [f"## hygge {listed.dest}", as_text(command.description)]
        parts.append(table(("argument", "values", "meaning"), arguments(command)))
    return "\n\n".join(parts) + "\n"


def arguments(command: argparse.ArgumentParser) -> Iterator[Sequence[str]]:
    """Yield a row for each argument and option of a command; not for --help."""
    for each in command._actions:
        if each.dest == "help" or each.help == argparse.SUPPRESS:
            continue
        name = each.option_strings[0] if each.option_strings else each.metavar or each.dest
        values = " | ".join(each.choices) if each.choices else ""
        if each.option_strings and each.nargs != 0:
            values = values or each.metavar or each.dest.upper()
        optional = "may be left out; " if each.nargs == "?" and not each.option_strings else ""
        yield code(name), code(values), as_text(optional + each.help)


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {word}: {as_text(text)}" for word, text in pairs)


def table(heads: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """Return a table; "" without rows."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return (
        "\n".join(["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", *lines])
        if lines
        else ""
    )


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def as_text(text: str) -> str:
    """Return text in which only its `code` has a form, and no URL is a link."""
    parts = text.split("`")
    for number in range(0, len(parts), 2):
        parts[number] = re.sub(
            r"[|<*_\[]|:(?=//)", lambda found: f"&#{ord(found[0])};", parts[number]
        )
    return "`".join(parts)


PRINTED = {"every_connector.md": connectors_page, "every_command.md": commands_page}
"""Pages of the site that stand in no file, so that they are never stale."""


def only_links_to_pages(page: Path, pages: Path) -> str:
    """Return a page whose links to other files of the repository are plain text."""

    def kept(link: re.Match[str]) -> str:
        text, to = link.groups()
        path = to.partition("#")[0]
        if "://" in to or not path or to.startswith("mailto:"):
            return link[0]
        if (page.parent / path).resolve() == pages.parent / "README.md":
            return f"[{text}]({'../' * len(page.relative_to(pages).parent.parts)}index.md)"
        return link[0] if (page.parent / path).exists() else text

    return LINK.sub(kept, page.read_text())


def keep_the_worker_here() -> None:
    """Put the worker of the search into the site, and name it in each page."""
    folder = SOURCE / "npm"
    folder.mkdir()
    command = ["npm", "pack", "--silent", WORKER]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as package:
        shim = package.extractfile("package/shim/index.js")
        assert shim is not None
        (SITE / "assets" / "iframe-worker.js").write_bytes(shim.read())
    for page in SITE.rglob("*.html"):
        up = "../" * len(page.relative_to(SITE).parent.parts)
        page.write_text(page.read_text().replace(ELSEWHERE, f"{up}assets/iframe-worker.js"))


def loaded_from_elsewhere() -> list[str]:
    """Return the URLs of other hosts that a page loads something from."""
    return [
        f"{page.relative_to(SITE)}: {one or other}"
        for page in SITE.rglob("*.html")
        for one, other in LOADED.findall(page.read_text())
    ]


if __name__ == "__main__":
    sys.exit(main())
