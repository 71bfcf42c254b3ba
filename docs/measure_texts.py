"""Words, numbers per hundred words, lines over 119 columns and Flesch reading ease of texts in Markdown.

    python docs/measure_texts.py README.md training/README.md docs/*.md

Words and numbers are those of the whole file. The reading ease (Flesch, 1948: 60 to 70 is plain English) is that of
the prose: without code, tables and headings, and with the text of a link in the place of the link. Syllables are
counted by pyphen, which comes with the extra `docs`.
"""

import argparse
import re
from pathlib import Path

import pyphen

from hf_bark_semantic.publishing import markdown_table

MAX_COLUMNS = 119
HYPHENATION = pyphen.Pyphen(lang="en_US", left=1, right=1)


def prose(markdown: str) -> str:
    """The sentences of a text: without code, tables, headings and comments; a code span counts as one word."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "", markdown, flags=re.S | re.M)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "code", text))
    blocks = [block for block in re.split(r"\n\s*\n", text) if not re.match(r"\s*(#|\||<)", block)]
    return "\n".join(re.sub(r"^\s*([-*]|\d+\.)\s+", "", re.sub(r"[*_]{1,2}", "", block)) for block in blocks)


def reading_ease(text: str) -> float:
    """Flesch's reading ease: 206.835 - 1.015 words per sentence - 84.6 syllables per word."""
    words = re.findall(r"[A-Za-z][A-Za-z'’]*", text)
    sentences = re.findall(r"[.!?:;](?:\s|$)", text)
    syllables = sum(len(HYPHENATION.positions(word)) + 1 for word in words)
    return 206.835 - 1.015 * len(words) / max(1, len(sentences)) - 84.6 * syllables / max(1, len(words))


def measures(markdown: str) -> dict[str, float]:
    """The measures of the module's docstring, by name."""
    words = re.findall(r"\b\w[\w'.,-]*", markdown)
    numbers = [word for word in words if word[0].isdigit()]
    return {
        "lines": len(markdown.splitlines()),
        "words": len(words),
        "numbers per 100 words": 100 * len(numbers) / max(1, len(words)),
        f"lines over {MAX_COLUMNS}": sum(len(line) > MAX_COLUMNS for line in markdown.splitlines()),
        "Flesch reading ease": reading_ease(prose(markdown)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    rows = {file: measures(file.read_text(encoding="utf-8")) for file in parser.parse_args().files}
    names = list(next(iter(rows.values())))
    cells = {file: [f"{n:,}" if isinstance(n, int) else f"{n:.1f}" for n in rows[file].values()] for file in rows}
    print(markdown_table(["text", *names], [[str(file), *cells[file]] for file in rows]))


if __name__ == "__main__":
    main()
