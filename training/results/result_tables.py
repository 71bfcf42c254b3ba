"""Write the tables of figures in README.md and training/RESULTS.md, from the results of evaluations.

    python training/results/result_tables.py            write the tables
    python training/results/result_tables.py --check    print the documents that differ, with exit code 1

A table is between `<!-- table: NAME -->` and `<!-- end of table -->`. NAME is a file of this folder, or one of
`SUMMARIES`, which select from these files and from the packaged encoder's evaluation.json.

    NAME.json   made      the command of the measurement, its date, and the commit that first contained the figures
                columns   name; for figures also unit ("%"), number of decimals and signed
                rows      for each column a text, a figure, [figure, low, high] (95 % interval), or null

To add a table: write NAME.json, put the two comments into a document, and run this script.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hf_bark_semantic.bark.presets import LANGUAGES
from hf_bark_semantic.evaluation.packaging import KINDS
from hf_bark_semantic.packaged import BUILTIN_ENCODER
from hf_bark_semantic.publishing import markdown_table

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "training" / "RESULTS.md")
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.S)
ALL = "all"  # key of all languages together in the evaluation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a table differs")
    check = parser.parse_args().check
    different = {document: text for document in DOCUMENTS if (text := with_tables(document)) != document.read_text()}
    for document, text in different.items():
        print(document.relative_to(ROOT))
        if not check:
            document.write_text(text, encoding="utf-8")
    if check and different:
        raise SystemExit(f"Write the tables of these documents again: python {Path(__file__).relative_to(ROOT)}")


def with_tables(document: Path) -> str:
    """The text of a document with current tables.

    Raises:
        FileNotFoundError: a table has neither a file nor a summary of its name.
    """
    say_how = document.name != "README.md" or document.parent != ROOT  # README links to RESULTS.md

    def block(match: re.Match) -> str:
        table = SUMMARIES[match[2]]() if match[2] in SUMMARIES else read_table(match[2])
        how = f"\n*{how_measured(table['made'])}*\n" if say_how else ""
        return f"{match[1]}{render(table)}\n{how}{match[3]}"

    return BLOCK.sub(block, document.read_text(encoding="utf-8"))


def read_table(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def render(table: Mapping) -> str:
    """A table in Markdown."""
    columns = table["columns"]
    rows = [[cell(value, column) for value, column in zip(row, columns, strict=True)] for row in table["rows"]]
    return markdown_table([column["name"] for column in columns], rows)


def cell(value: str | float | Sequence[float] | None, column: Mapping) -> str:
    """A figure with its interval, such as "28.4% [27.2, 29.7]"; a text unchanged; an empty cell for `None`."""
    if value is None or isinstance(value, str):
        return (value or "").replace("|", "\\|")
    style = f"{'+' if column.get('signed') else ''},.{column.get('digits', 0)}f"
    figure, *interval = value if isinstance(value, Sequence) else [value]
    bounds = f" [{', '.join(format(bound, style) for bound in interval)}]" if interval else ""
    return f"{figure:{style}}{column.get('unit', '')}{bounds}"


def how_measured(made: Mapping[str, str]) -> str:
    machine = f" on {made['machine']}" if "machine" in made else ""
    return f"`{made['command']}`{machine}, {made['date'][:10]}, {made['commit']}"


# ---- the packaged encoder


def evaluation() -> dict:
    """The results of `evaluate_encoder` for the packaged encoder's folds; `made` has command and date."""
    measured = json.loads((BUILTIN_ENCODER / "evaluation.json").read_text(encoding="utf-8"))
    return {**read_table("encoder"), **measured}


def percent(name: str, digits: int = 1, **more) -> dict:
    return {"name": name, "unit": "%", "digits": digits, **more}


def hundredfold(figure: Mapping[str, float] | None) -> list[float] | None:
    """A share with its interval in percent."""
    return None if figure is None else [100 * figure[name] for name in ("mean", "low", "high")]


def held_out_table() -> dict:
    """Accuracy by kind of clip, and by kind of input: audio, codes or both."""
    measured = evaluation()
    rows = []
    for name, row in sorted(measured["table"].items(), key=lambda item: list(KINDS).index(item[0].split(", ")[0])):
        kind, inputs = name.split(", ")
        counts = f"{row['clips']}, {row['tokens']:,}"
        rows.append([KINDS[kind], inputs, hundredfold(row["top_1"]), hundredfold(row["top_5"]), counts])
    columns = [{"name": "clips"}, {"name": "read from"}, percent("top-1"), percent("top-5"), {"name": "clips, tokens"}]
    return {"made": measured["made"], "columns": columns, "rows": rows}


def presets_table() -> dict:
    """Accuracy on Suno's presets by language, beside the community's English quantizer on the same clips."""
    measured = evaluation()
    columns = {
        "plain_top_1": percent("top-1"),
        "plain_top_5": percent("top-5"),
        "enhanced_top_1": percent("enhanced: top-1"),
        "enhanced_top_5": percent("enhanced: top-5"),
        "community": percent("community: top-1"),
        "difference": percent("enhanced minus community", signed=True),
    }
    rows = [
        [language_name(language), *(hundredfold(row.get(name)) for name in columns), row["compared_clips"]]
        for language, row in measured["presets"]["languages"].items()
    ]
    columns = [{"name": "language"}, *columns.values(), {"name": "voices compared"}]
    return {"made": measured["made"], "columns": columns, "rows": rows}


def language_name(code: str) -> str:
    return "all languages" if code == ALL else LANGUAGES[code]


def calibration_table() -> dict:
    """Expected calibration error of the confidence, before and after temperature scaling fitted to other folds."""
    measured = evaluation()
    kinds = [("all", "all"), *KINDS.items()]
    rows = [
        [words, inputs, 100 * errors[kind]["before"], 100 * errors[kind]["after"]]
        for inputs, errors in ((inputs, row["errors"]) for inputs, row in measured["calibration"].items())
        for kind, words in kinds
        if kind in errors
    ]
    columns = [{"name": "clips"}, {"name": "read from"}, percent("before"), percent("after")]
    return {"made": measured["made"], "columns": columns, "rows": rows}


# ---- tables of README


def accuracy_table() -> dict:
    """The most important rows of the two tables of accuracy, with two digits."""
    measured = evaluation()
    languages, table = measured["presets"]["languages"], measured["table"]

    def of_presets(name: str, row: Mapping) -> list:
        return [name, *(hundredfold(row[field]) for field in ("enhanced_top_1", "enhanced_top_5", "community"))]

    def of_clips(name: str, key: str) -> list:
        return [name, hundredfold(table[key]["top_1"]), hundredfold(table[key]["top_5"]), None]

    rows = [
        of_presets("Bark's 13 languages, enhanced presets", languages[ALL]),
        of_presets("English alone", languages["en"]),
        of_presets("Spanish alone", languages["es"]),
        of_clips("other English speech by Bark", "english, audio"),
        of_clips("voice prompts, from their codes", "prompt, codes"),
        of_clips("music and noise by Bark", "music, audio"),
    ]
    columns = [
        {"name": "speech"},
        percent("top-1 accuracy", 0),
        percent("top-5 accuracy", 0),
        percent("community's quantizer, top-1", 0),
    ]
    return {"made": measured["made"], "columns": columns, "rows": rows}


def speed_table() -> dict:
    """Seconds of audio per second of computation, for this package and transformers."""
    encoding, synthesis = read_table("speed_encoding"), read_table("speed_synthesis")
    rows = []
    for name, (_, ours, theirs, ratio, *_) in zip(ENCODING_CASES, encoding["rows"], strict=True):
        rows.append([name, f"{ours:.2g}", f"{theirs:.2g}", ratio])
    for name, (_, _, theirs, _, ours, ratio, _) in zip(SYNTHESIS_CASES, synthesis["rows"], strict=False):
        rows.append([name, f"{1 / ours:.2g}", f"{1 / theirs:.2g}", ratio])
    columns = [{"name": name} for name in ("seconds of audio per second", "this package", "transformers")]
    return {"made": encoding["made"], "columns": [*columns, {"name": "ratio", "digits": 1}], "rows": rows}


ENCODING_CASES = (
    "encode: packaged encoder, float32",
    "encode: packaged encoder, bfloat16",
    "encode: HuBERT base with the community's LSTM, float32",
    "encode: HuBERT base with the community's LSTM, bfloat16",
)
SYNTHESIS_CASES = (
    "speak: bark-small's size, one text with a voice, bfloat16",
    "speak: bark-small's size, eight texts without a voice, bfloat16",
    "speak: bark-small's size, eight texts with eight voices, bfloat16",
)

SUMMARIES: dict[str, Callable[[], dict]] = {
    "accuracy": accuracy_table,
    "calibration": calibration_table,
    "held_out": held_out_table,
    "presets": presets_table,
    "speed": speed_table,
}


if __name__ == "__main__":
    main()
