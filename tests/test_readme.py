"""The blocks of README, docs/ and training/README.md run unchanged, or are marked with their requirements."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import result_pictures
import result_tables
import yaml

import hf_bark_semantic
import tiny
from documented_commands import blocks, documented_commands, parsed
from hf_bark_semantic.audio import save_audio
from hf_bark_semantic.cli import main as cli
from hf_bark_semantic.configuration_bark_semantic import SEMANTIC_VOCAB_SIZE, num_codec_frames

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "docs/python.md", "docs/cloning.md")  # whose snippets of Python run, in this order
BLOCKS = ["README.md", "training/README.md"]
BLOCKS += [f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))]
RUNNERS = ("test_readme.py", "test_wheel.py", "cli/test_walk.py", "cli/test_many_machines.py")  # of commands
PROGRAMS = ("accelerate", "bark-semantic", "pip", "python", "torchrun")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "training").glob("*.md"))]


def test_python_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_audio("speech.wav", hf_bark_semantic.load_audio(hf_bark_semantic.example_recording())[:32_000], 16_000)
    tokens = [1] * 250
    hf_bark_semantic.VoicePrompt(tokens, tiny.random_codes(num_codec_frames(250))).save("voice.npz")
    for name in ("me.wav", "somebody_else.wav"):
        shutil.copy("speech.wav", name)
    Path("book.txt").write_text("the dog runs.\n\nthe cat sleeps.\n")
    tiny.tiny_bark(vocab_size=SEMANTIC_VOCAB_SIZE).save_pretrained("suno/bark-small")  # stands in for the Hub's
    tiny.tiny_bark_processor().save_pretrained("suno/bark-small")
    namespace = {}
    for page in PAGES:
        for marker, language, snippet in blocks(page):
            if language == "python" and not marker:
                exec(compile(snippet, page, "exec"), namespace)
    assert len(namespace["result"]["semantic_tokens"]) == 100
    assert namespace["tokens"].semantic_tokens.tolist()[0] == namespace["result"]["semantic_tokens"].tolist()
    assert namespace["from_codes"]["num_tokens"] == 250
    assert namespace["informed"]["num_tokens"] == 100
    assert len(namespace["converted"]["audio"]) and Path("me.npz").exists()
    assert namespace["spoken"].index == 1


@pytest.mark.parametrize("document", BLOCKS)
def test_every_block_runs_or_is_marked_with_what_it_needs(document):
    """A command that is marked is still one that its program takes; a block of text has no command."""
    runners = "".join((ROOT / "tests" / name).read_text("utf-8") for name in RUNNERS)
    gate = re.findall(r"^readme (\w+)", (ROOT / ".ci" / "run").read_text("utf-8"), re.M)
    for marker, language, code in blocks(document):
        kind, _, what = marker.partition(": ")
        if language == "text":
            assert marker in ("", "prints")
            assert [line for line in code.splitlines() if line.split(" ")[0] in PROGRAMS] == []
        elif kind == "needs":
            assert what and language in ("bash", "python")
            if language == "python":
                compile(code, document, "exec")
            for command in commands(code) if language == "bash" else ():
                assert parsed(command)
        elif language == "python":
            assert not marker and document in PAGES
        else:
            assert language == "bash" and kind == "ci", f"{document}: no test runs {code!r}, and no marker says why"
            assert f'"{what}"' in runners or what in gate, f"{document}: no test runs the block {what!r}"


def commands(script: str) -> list[list[str]]:
    """Those of the package in some lines of bash, each as its words; scripts without options need no parser."""
    found = []
    for line in re.split(r"\n| && | \| ", script):
        words = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
        if words and words[0] in PROGRAMS and words[0] != "pip" and words[:2] != ["python", "-c"]:
            assert len(words) > 2 or words[0] == "bark-semantic" or (ROOT / words[1]).is_file(), line
            found += [words] if len(words) > 2 or words[0] == "bark-semantic" else []
    return found


def test_commands_of_the_documentation_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(hf_bark_semantic.nano_recording(), "me.wav")
    save_audio("speech.wav", tiny.noise(2.0), 16_000)
    for command in documented_commands("docs/command_line.md", "commands"):
        assert cli.main(command[1:]) == 0, shlex.join(command)
    assert Path("out.wav").stat().st_size > 10_000


def test_readme_says_what_its_first_snippet_prints(capsys):
    snippet, printed = re.search(r"```python\n(.*?)```\n\n<!-- prints -->\n```text\n(.*?)```", README, re.S).groups()
    exec(compile(snippet, "README.md", "exec"), {})
    assert capsys.readouterr().out == printed


def test_command_that_encodes_prints_an_object_for_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_audio("speech.wav", tiny.noise(2.0), 16_000)
    (command,) = documented_commands("README.md", "encode")
    assert cli.main(command[1:]) == 0
    assert json.loads(capsys.readouterr().out)["num_tokens"] == 100


def test_commands_of_the_four_tasks_are_walked_with_those_of_the_training_page():
    for marker, route in (("train an encoder", "encoder route"), ("fine-tune", "voice route")):
        walked = documented_commands("training/README.md", route)
        assert all(command in walked for command in documented_commands("README.md", marker))


def test_readme_is_short_enough_to_be_read():
    assert len(README.splitlines()) <= 160
    assert all(len(line) <= 119 or line.startswith(("|", "python -m")) for line in README.splitlines())


@pytest.mark.parametrize("document", result_tables.DOCUMENTS, ids=lambda document: document.name)
def test_tables_are_those_of_the_measured_figures(document):
    text = document.read_text(encoding="utf-8")
    assert result_tables.BLOCK.search(text), "no table of figures"
    assert result_tables.with_tables(document) == text, "run python training/results/result_tables.py"


def test_every_stored_figure_is_in_a_table():
    shown = {
        name
        for document in result_tables.DOCUMENTS
        for _, name, _ in result_tables.BLOCK.findall(document.read_text())
    }
    stored = {file.stem for file in result_tables.FOLDER.glob("*.json")} - {"encoder"}
    assert stored <= shown and shown - stored <= set(result_tables.SUMMARIES)
    for name in stored:
        made = result_tables.read_table(name)["made"]
        assert made["command"] and re.fullmatch(r"20\d\d-\d\d-\d\d", made["date"]) and made["commit"], name


def test_pictures_are_small_and_of_the_figures_of_today():
    files = {file.stem: file for file in result_pictures.PICTURES.iterdir()}
    assert all(file.stat().st_size < 200_000 for file in files.values())
    for name in set(result_pictures.DRAWINGS) - set(result_pictures.RASTERS):
        figures = result_pictures.digest(result_pictures.draw(name))
        assert figures in files[name].read_text(), f"run python training/results/result_pictures.py {name}"


def test_texts_are_measured_without_their_code_and_tables():
    pytest.importorskip("pyphen")
    import measure_texts

    prose = "The dog runs. [The cat](x.md) sleeps.\n"
    whole = measure_texts.measures(
        f"# Title\n\n{prose}\n| 12 | incomprehensibilities |\n\n```text\nunpronounceable\n```\n"
    )
    assert whole["Flesch reading ease"] == measure_texts.reading_ease("The dog runs. The cat sleeps.") > 80
    assert measure_texts.reading_ease("Incomprehensibilities accumulate continuously.") < 0
    assert measure_texts.measures("a 1 b 2\n" + "c" * 120)["numbers per 100 words"] == 40
    assert measure_texts.measures("a 1 b 2\n" + "c" * 120)["lines over 119"] == 1


def test_the_version_is_set_in_one_place():
    heads = re.findall(r"^## \[?([\d.]+)\]?", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert heads[0] == hf_bark_semantic.__version__ and heads == sorted(heads, reverse=True)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0" and "version" not in citation
    assert {"message", "title", "authors"} <= set(citation)


def test_reference_has_every_public_name():
    named = re.findall(r"^::: hf_bark_semantic\.(\w+)$", (ROOT / "docs" / "reference.md").read_text("utf-8"), re.M)
    assert sorted(named) == sorted(hf_bark_semantic.__all__)


def test_ci_runs_the_commands_of_the_readme_and_the_linters(tmp_path):
    """`.ci/run` with commands that only say how they were called."""
    gate = Path(__file__).parents[1] / ".ci" / "run"
    (tmp_path / ".ci").mkdir()
    shutil.copy(gate, tmp_path / ".ci" / "run")
    (tmp_path / "bin").mkdir()
    for name in ("python", "python3", "pip", "bark-semantic", "ruff", "mypy"):
        (tmp_path / "bin" / name).write_text('#!/bin/sh\necho "$(basename $0) $*"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(tmp_path)}

    def run(readme: str) -> subprocess.CompletedProcess:
        (tmp_path / "README.md").write_text(readme)
        return subprocess.run(["bash", tmp_path / ".ci" / "run"], capture_output=True, text=True, env=environment)

    ran = run("```bash\nexit 1\n```\n" + README)
    assert ran.returncode == 0, ran.stderr
    called = [line for line in ran.stdout.splitlines() if not line.startswith("+")]
    assert called[2:5] == ["pip install .", "bark-semantic demo", "pip install --quiet .[lint,docs]"]
    assert called[5:] == [
        "ruff check .",
        "ruff format --check .",
        "mypy ",
        "python -m mkdocs build --strict",
        "pip install .[test]",
        "python -m pytest -q -n auto --dist loadfile",
    ]
    without = run(README.replace("<!-- ci: test -->", ""))
    assert without.returncode == 1 and "no block of bash behind <!-- ci: test -->" in without.stderr


def anchors(document: Path) -> set[str]:
    """The names that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CHANGELOG.md", ROOT / "training" / "nano" / "README.md"])
def test_every_file_and_heading_that_the_docs_link_to_exists(document):
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text("utf-8")):
        if target.startswith("http"):
            continue
        file, _, heading = target.partition("#")
        place = document.parent / file if file else document
        assert place.exists(), target
        assert not heading or heading in anchors(place), target


def test_tests_that_documents_name_are_there():
    tests = "".join(file.read_text("utf-8") for file in sorted(Path(__file__).parent.rglob("test_*.py")))
    named = [name for document in DOCUMENTS for name in re.findall(r"`(test_\w+)`", document.read_text("utf-8"))]
    assert len(named) > 20 and [name for name in named if f"def {name}(" not in tests] == []
