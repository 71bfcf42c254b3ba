"""A hook of mkdocs: README, the pages of training/ and the changes are pages of the site, as they are.

Links are written for the repository. Those to a page of the site lead there; those to other files become their names.
"""

import os
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {  # in the repository -> in the site
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "training/README.md": "training/stages.md",
    "training/RESULTS.md": "training/results.md",
    "training/LOG.md": "training/log.md",
    "training/nano/README.md": "training/nano.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def on_files(files: Files, config) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    place = page.file.src_uri
    source = {to: at for at, to in PAGES.items()}.get(place, f"docs/{place}")

    def link(match: re.Match) -> str:
        picture, text, target, heading = match.groups(default="")
        if not target or "://" in target:
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        at = PAGES.get(file, file.removeprefix("docs/") if file.startswith("docs/") else None)
        if at is None:
            return f"{text} (`{file}`)" if text.strip("`") != file else f"`{file}`"
        return f"{picture}[{text}]({os.path.relpath(at, posixpath.dirname(place) or '.')}{heading})"

    return LINK.sub(link, markdown)
