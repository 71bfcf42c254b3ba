"""Reports are self-contained files, which hostile texts cannot break."""

import base64
import io
import json
import re
import subprocess

import numpy as np
import pytest

from hf_bark_semantic.evaluation import report
from hf_bark_semantic.evaluation.report import card_rows, how_made, write_results, write_trials
from hf_bark_semantic.evaluation.report_page import IntervalPlot, Sound, Table, Text, render_report
from hf_bark_semantic.evaluation.significance import Estimate
from html_page import Page
from tiny import noise

pytest.importorskip("matplotlib"), pytest.importorskip("pyarrow")

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)> \" ' & | ` \x00\u202e"
MADE = how_made("train.py", ["--name", "a b"], seeds={"choices": 7})


def content(address: str) -> io.BytesIO:
    return io.BytesIO(base64.b64decode(address.partition("base64,")[2], validate=True))


def test_page_needs_nothing_beside_itself_and_runs_nothing():
    blocks = [Table("t", ["sound"], [[Sound(noise(0.5), "a", 16_000)]]), Text("x", "see https://example.org/a.png")]
    page = Page(render_report("title", blocks, MADE))
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"}
    addresses = [a[name] for _, a in page.tags for name in ("src", "href", "srcset", "data") if name in a]
    assert len(addresses) == 2 and all(address.startswith("data:") for address in addresses)
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "script" not in policy
    assert not re.search(r"url\(|@import", render_report("title", blocks, MADE))


def test_hostile_text_stays_text_wherever_it_stands():
    rows = [[HOSTILE, Sound(noise(0.3), HOSTILE, 16_000), None]]
    plot = IntervalPlot(HOSTILE, [(HOSTILE[:30], Estimate(0.5, 0.4, 0.6, 1, 1))], note=HOSTILE)
    blocks = [Table(HOSTILE, [HOSTILE], rows, HOSTILE), plot, Text(HOSTILE, HOSTILE)]
    html = render_report(HOSTILE, blocks, how_made("train.py", [HOSTILE], seeds={HOSTILE: HOSTILE}))
    page = Page(html)
    assert not page.of("script") and len(page.of("img")) == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "\x00" not in html and page.text.count("<script>alert(1)</script>") >= 9


def test_sounds_and_pictures_can_be_opened():
    import soundfile
    from PIL import Image

    waveform = 2 * np.sin(np.arange(24_000) / 10).astype(np.float32)
    page = Page(render_report("t", [Table("t", ["a"], [[Sound(waveform, "loud", 24_000, 0.25, 0.5)]])], MADE))
    samples, rate = soundfile.read(content(page.of("audio")[0]["src"]))
    assert rate == 24_000 and len(samples) == 12_000
    assert np.allclose(samples, waveform[6_000:18_000] / np.abs(waveform[6_000:18_000]).max(), atol=1e-4)
    picture = np.asarray(Image.open(content(page.of("img")[0]["src"])).convert("L"), float)
    assert picture.shape == (64, 26)  # mel bands, 20 ms each
    assert picture[-32:].mean() > 2 * picture[:32].mean()  # 382 Hz: the low bands, which lie below
    assert "1/2.00 of its level" in page.text


def test_no_more_sounds_than_allowed_and_the_page_says_so(tmp_path):
    rows = [[Sound(noise(0.2, seed), f"sound {seed}", 16_000)] for seed in range(5)]
    page = Page(render_report("t", [Table("t", ["a"], rows)], MADE, max_sounds=2))
    assert len(page.of("audio")) == 2 and "2 of 5 recordings are in this file (at most 2" in page.text
    assert "sound 4" in page.text and page.text.count("not in this file") == 3
    missing = Page(render_report("t", [Table("t", ["a"], [[Sound(tmp_path / "gone.wav", "lost")]])], MADE))
    assert "No such file" in missing.text and "lost" in missing.text and not missing.of("audio")


def test_long_tables_are_cut_and_say_so():
    page = Page(render_report("t", [Table("t", ["a"], [[str(i)] for i in range(9)], max_rows=4)], MADE))
    assert "The first 4 of 9 rows." in page.text and len(page.of("tr")) >= 5 and "\n8\n" not in page.text


def test_plot_places_values_between_their_bounds_and_leaves_out_what_is_none():
    rows = [("good", Estimate(0.5, 0.25, 1.0, 3, 2)), ("nothing", Estimate(float("nan"), 0, 1, 1, 1))]
    page = Page(render_report("t", [IntervalPlot("p", rows, percent=True)], MADE))
    [point], bars = page.of("circle"), [line for line in page.of("line") if line.get("stroke") == "#36c"]
    low, value, high = float(bars[0]["x1"]), float(point["cx"]), float(bars[0]["x2"])
    assert low < value < high and (value - low) / (high - low) == pytest.approx(1 / 3, abs=0.01)
    assert "good: 50.0% [25.0%, 100.0%]" in page.text and len(bars) == 1
    assert "No figures." in Page(render_report("t", [IntervalPlot("p", rows[1:])], MADE)).text


def test_how_it_was_made_names_the_commit_of_a_checkout_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "CHECKOUT", tmp_path)
    assert how_made("x", [], seeds={})["commit"] is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "file").write_text("a")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-qm", "a"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    made = how_made("x", [], seeds={})["commit"]
    assert len(made) >= 7 and commit.startswith(made)
    (tmp_path / "file").write_text("b")
    assert how_made("x", [], seeds={})["commit"] == f"{made}-dirty"


def test_page_tells_how_it_was_made():
    text = Page(render_report("t", [], MADE)).text
    assert "python train.py --name 'a b'" in text and MADE["date"] in text and "seed of choices" in text
    assert np.__version__ in text and MADE["packages"]["torch"] in text


def test_trials_of_different_columns_become_one_table(tmp_path):
    from pyarrow import parquet

    rows = [{"id": "a", "wer": 1, "others": ["x"]}, {"id": "b\ud800", "wer": 0.5, "mos": None, "failed": True}]
    write_trials(tmp_path / "t.parquet", rows)
    table = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert table[0] == {"id": "a", "wer": 1.0, "others": ["x"], "mos": None, "failed": None}
    assert table[1] == {"id": "b?", "wer": 0.5, "others": None, "mos": None, "failed": True}


def test_markdown_rows_keep_their_columns():
    lines = card_rows(["a", "b"], [["x | y\nz", "<b>*"], [None, "1.0% [0, 2]"]]).splitlines()
    assert lines[1] == "| --- | --- |" and len(lines) == 4
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines)
    assert lines[2] == "| x \\| y z | &lt;b>\\* |"


def test_results_are_four_files(tmp_path):
    table = Table("t", ["a"], [["1"]])
    write_results(
        tmp_path / "out", "T", made=MADE, summary={"x": 1}, trials=[{"id": 1}], blocks=[table], cards=[table]
    )
    names = {"summary.json", "trials.parquet", "report.html", "model_card_rows.md"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == names
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == {"made": MADE, "x": 1}


def test_a_missing_package_is_named_with_the_cure(monkeypatch):
    monkeypatch.setattr(report, "NEEDED", ("jinja2", "matplotlib_that_nobody_has"))
    with pytest.raises(ImportError, match=r"matplotlib_that_nobody_has.*hf_bark_semantic\[eval\]"):
        report.required_packages()
