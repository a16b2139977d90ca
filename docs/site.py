"""Build the site of the documents: build/docs/site/, which a browser opens without a network.

README.md is its first page. Links to files that are no pages become plain text. A browser that
opens a file, and no server's page, needs the package `iframe-worker` of npm for the search;
Zensical would have it loaded from another host.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

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
