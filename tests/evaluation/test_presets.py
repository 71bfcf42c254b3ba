"""Accuracy by language, and the community's quantizer on the same clips at its lag."""

import json
import re

import numpy as np
import pytest
from datasets import Dataset

import benchmark_encoders
from hf_bark_semantic.cli import evaluate_encoder
from hf_bark_semantic.corpus.rows import load_corpus
from hf_bark_semantic.evaluation.presets import community_hits, preset_blocks, preset_report
from hf_bark_semantic.evaluation.tokens import ClipScore
from html_page import Page
from tiny import corpus_row, save_tiny_encoder, tiny_encoder

NUM_TOKENS = 180
LAG = 3


@pytest.fixture
def corpus(tmp_path) -> str:
    """Four presets of two languages; of three the community's tokens, right by half and three tokens late."""
    rows = []
    for seed, language in enumerate(["de", "de", "en", "en"]):
        columns = {"language": language, "voice": f"{language}_speaker_{seed}", "fold": seed % 2}
        plain = corpus_row(seed, source="preset", kind="preset", **columns)
        rows.append({**plain, "community_tokens": []})
        if seed:
            late = np.roll(plain["semantic_tokens"], LAG)
            late[:LAG] = 99
            late[LAG + NUM_TOKENS // 2 :] = 99
            enhanced = {**plain, "id": f"{plain['id']}_enhanced", "source": "preset_enhanced"}
            rows.append({**enhanced, "kind": "preset_enhanced", "community_tokens": late.tolist()})
    Dataset.from_list(rows).save_to_disk(tmp_path / "presets")
    return str(tmp_path / "presets")


def scores_of(clips, hits):
    """`hits` by the source of the clip."""
    return [
        ClipScore(clip.id, clip.voice, clip.kind, inputs, clip.num_tokens, hits[clip.source], 2 * hits[clip.source])
        for clip in clips
        for inputs in ("audio", "codes")
    ]


def test_the_communitys_tokens_count_at_the_best_lag_and_are_wrong_beyond_their_end(corpus):
    clip = next(clip for clip in load_corpus(corpus) if clip.community_tokens is not None)
    assert community_hits(clip, LAG) == NUM_TOKENS // 2 > 5 * community_hits(clip, 0)
    clip.community_tokens[:] = clip.semantic_tokens
    assert [community_hits(clip, lag) for lag in (0, NUM_TOKENS - 1)] == [
        NUM_TOKENS, int(clip.semantic_tokens[0] == clip.semantic_tokens[-1])
    ]  # fmt: skip


def test_every_language_has_both_renderings_and_the_difference_to_the_community(corpus):
    clips = load_corpus(corpus)
    report = preset_report(scores_of(clips, {"preset": 45, "preset_enhanced": 72}), clips)
    rows = report["languages"]
    assert report["lag"] == LAG and list(rows) == ["de", "en", "all"]
    assert [(row["clips"], row["compared_clips"]) for row in rows.values()] == [(2, 1), (2, 2), (4, 3)]
    for row in rows.values():
        assert (row["plain_top_1"]["mean"], row["plain_top_5"]["mean"]) == (0.25, 0.5)
        assert row["enhanced_top_1"]["mean"] == pytest.approx(0.4) and row["community"]["mean"] == 0.5
        assert row["difference"]["low"] <= row["difference"]["mean"] == pytest.approx(-0.1)
        assert row["community_lag_0"]["mean"] < 0.1
    table, plot = preset_blocks(report)
    assert [label for label, _ in plot.rows] == ["de", "en", "all"]
    assert table.rows[0][0] == "de" and "-10.0% [-10.0%, -10.0%]" in table.rows[0]


def test_several_trainings_count_alike_and_clips_of_no_fold_do_not_count(corpus):
    clips = load_corpus(corpus)
    hits = [{"preset": 18, "preset_enhanced": 18}, {"preset": 54, "preset_enhanced": 54}]
    report = preset_report([score for h in hits for score in scores_of(clips, h)], clips)
    row = report["languages"]["all"]
    assert row["plain_top_1"]["mean"] == pytest.approx(0.2) and row["clips"] == 4
    assert row["difference"]["mean"] == pytest.approx(-0.3)
    usable = [clip for clip in clips if clip.language == "en"]
    for clip in clips:
        object.__setattr__(clip, "in_folds", clip.language == "en")
    assert list(preset_report(scores_of(usable, hits[0]), clips)["languages"]) == ["en", "all"]
    assert preset_report([], [clip for clip in clips if clip.language == "de"]) is None


def test_the_evaluation_prints_and_writes_the_languages_and_the_community_alone(corpus, tmp_path, capsys):
    run = tmp_path / "fold0"
    tiny_encoder().save_pretrained(run)
    (run / "training.json").write_text(json.dumps({"fold": 0, "seed": 3, "steps": 1, "clips": {}}))
    output = tmp_path / "report"
    evaluate_encoder.main([str(run), "--corpus", corpus, "--output", str(output)])
    summary, printed = json.loads((output / "summary.json").read_text()), capsys.readouterr().out
    row = summary["presets"]["languages"]["en"]
    assert row["clips"] == row["compared_clips"] == 1 and row["community"]["mean"] == 0.5
    line = next(line for line in printed.splitlines() if line.startswith("| en |"))
    assert "50.0%" in line and line in (output / "model_card_rows.md").read_text().replace("\\", "")
    assert "| preset | audio |" in (output / "model_card_rows.md").read_text()
    assert "Suno's presets by language" in Page((output / "report.html").read_text()).text
    evaluate_encoder.main(["--corpus", corpus, "--json", str(tmp_path / "community.json")])
    alone = json.loads((tmp_path / "community.json").read_text())["presets"]["languages"]["all"]
    assert alone["community"]["mean"] == 0.5 and "difference" not in alone and "plain_top_1" not in alone
    assert "community: top-1" in capsys.readouterr().out


def test_without_an_encoder_there_must_be_something_to_measure(tmp_path):
    Dataset.from_list([corpus_row(0)]).save_to_disk(tmp_path / "pairs")
    with pytest.raises(SystemExit, match="no tokens of the community's quantizer, so name an encoder"):
        evaluate_encoder.main(["--corpus", str(tmp_path / "pairs")])
    with pytest.raises(SystemExit, match="--human needs an encoder"):
        evaluate_encoder.main(["--corpus", str(tmp_path / "pairs"), "--human", str(tmp_path)])


def test_benchmark_sets_an_encoder_beside_the_communitys_tokens_at_the_best_lag_and_at_none(corpus, tmp_path, capsys):
    entries = [f"ours={save_tiny_encoder(tmp_path / 'encoder')}", "community_semantic"]
    summary = benchmark_encoders.main([*entries, "--corpus", corpus, "--output", str(tmp_path / "benchmark")])
    names = [f"community_semantic, lag {lag}" for lag in (LAG, 0)]
    assert [entry["name"] for entry in summary["entries"]] == ["ours", *names]
    (row,) = summary["entries"][1]["table"].values()
    assert row["top_1"]["mean"] == 0.5 > summary["entries"][2]["table"]["preset_enhanced, audio"]["top_1"]["mean"]
    assert row["clips"] == 3 and "top_5" not in row
    compared = [(row["second"], row["clips"], row["figure"], row["count"]) for row in summary["comparisons"]]
    assert compared == [(name, "preset_enhanced, audio", "top_1", 3) for name in names]
    assert re.search(r"community_semantic, lag 3 +preset_enhanced +audio +50.0%", capsys.readouterr().out)
    with pytest.raises(SystemExit, match="The corpus has no community_semantic"):
        benchmark_encoders.parse_entry("community_semantic", load_corpus(corpus)[:1])
