"""Weights of an ensemble are chosen on some voices and measured on others."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_bark_semantic.cli import evaluate_encoder
from hf_bark_semantic.corpus.rows import load_corpus
from hf_bark_semantic.ensemble import EncoderEnsemble
from hf_bark_semantic.evaluation import ensemble
from hf_bark_semantic.evaluation.ensemble import BONUSES, clip_hits, fold_ensembles, in_first_half, weight_grid
from html_page import Page
from tiny import corpus_row, tiny_encoder

LAG = 2


@pytest.fixture
def runs(tmp_path) -> list[str]:
    """Two trainings of two folds, and an encoder from elsewhere."""
    folders = []
    for name, head in (("ours", "transformer"), ("other", "linear")):
        for fold in range(2):
            folders.append(str(tmp_path / name / f"fold{fold}"))
            tiny_encoder(head_type=head, backbone_layers=[1 + fold]).save_pretrained(folders[-1])
            (tmp_path / name / f"fold{fold}" / "training.json").write_text(json.dumps({"fold": fold, "seed": 0}))
    tiny_encoder(head_type="recurrent").save_pretrained(tmp_path / "quantizer")
    return [*folders, str(tmp_path / "quantizer")]


@pytest.fixture
def corpus(tmp_path) -> str:
    """Eight voices of two languages and folds, whose community tokens are right in every other place."""
    rows = []
    for seed in range(8):
        row = corpus_row(seed, 60, source="preset_enhanced", kind="preset_enhanced", fold=seed % 2)
        theirs = np.array(row["semantic_tokens"])
        theirs[::2] = (theirs[::2] + 1) % 50
        row |= {"language": "de" if seed < 4 else "en", "community_tokens": [7] * LAG + theirs.tolist()}
        rows += [row, corpus_row(seed + 8, 60, fold=seed % 2, community_tokens=[], language="")]
    Dataset.from_list(rows).save_to_disk(tmp_path / "presets")
    return str(tmp_path / "presets")


def test_hits_at_every_weight_are_those_of_the_ensemble(corpus):
    members = [tiny_encoder(head_type=head) for head in ("linear", "transformer")]
    clip = load_corpus(corpus)[0]
    inputs, labels = {"input_values": torch.from_numpy(clip.waveform)[None]}, torch.from_numpy(clip.semantic_tokens)
    hits = clip_hits([ensemble._log_probabilities(member, inputs) for member in members], labels)
    assert np.array(hits).shape == (len(weight_grid(2)), 1, 2)
    for weights, ((top_1, top_5),) in zip(weight_grid(2), hits, strict=True):
        used = [(member, weight) for member, weight in zip(members, weights, strict=True) if weight]
        tokens = EncoderEnsemble(*zip(*used, strict=True)).encode(**inputs, top_k=5).top_k_tokens[0] == labels[:, None]
        assert (top_1, top_5) == (int(tokens[:, 0].sum()), int(tokens.any(-1).sum()))


def test_the_communitys_token_is_added_to_the_log_probability_that_it_has():
    torch.manual_seed(0)
    values = (3 * torch.randn(200, 30)).log_softmax(-1)
    labels, community = torch.randint(30, (200,)), torch.randint(-1, 4, (200,))
    community = torch.where(torch.rand(200) < 0.4, labels, community)  # right, wrong and missing
    for bonus, (top_1, top_5) in zip(BONUSES, clip_hits([values], labels, community)[0], strict=True):
        raised = values.clone()
        for position, token in enumerate(community.tolist()):
            if token >= 0:
                raised[position, token] += bonus
        found = raised.topk(5).indices == labels[:, None]
        assert (top_1, top_5) == (int(found[:, 0].sum()), int(found.any(-1).sum()))


def test_grid_has_equal_weights_first_and_every_member_alone():
    for count, size in ((1, 1), (2, 11), (3, 67), (4, 35)):
        grid = weight_grid(count)
        assert len(grid) == size and grid[0] == (1 / count,) * count
        assert all(sum(weights) == pytest.approx(1) for weights in grid)
        assert {tuple(row) for row in np.eye(count).tolist()} <= set(grid)


def test_runs_of_a_fold_and_encoders_trained_without_one_are_an_ensemble(runs, corpus):
    ours, other, quantizer, clips = runs[:2], runs[2:4], runs[4], load_corpus(corpus)
    ensembles = fold_ensembles(runs, clips, unseen=True)
    assert [places for places, _ in ensembles] == [[ours[0], other[0], quantizer], [ours[1], other[1], quantizer]]
    assert [{clip.fold for clip in held_out} for _, held_out in ensembles] == [{0}, {1}]
    assert fold_ensembles([quantizer], clips, unseen=True) == [([quantizer], clips)]
    with pytest.raises(ValueError, match="has no training.json"):
        fold_ensembles(runs, clips)
    with pytest.raises(ValueError, match="fold 0 has 3, fold 1 has 2"):
        fold_ensembles([*ours, other[0], quantizer], clips, unseen=True)


def test_weights_are_chosen_on_one_half_and_measured_on_the_other(runs, corpus, tmp_path, capsys, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / "report"
    arguments = [*runs[:4], "--weights", "--corpus", corpus]
    evaluate_encoder.main([*arguments, "--output", str(output)])
    summary = json.loads((output / "summary.json").read_text())
    assert len(summary["weights"]) == 2 and sum(summary["weights"]) == pytest.approx(1)
    rows = parquet.read_table(output / "trials.parquet").to_pylist()
    clips = {clip.id: clip for clip in load_corpus(corpus)}
    assert len(rows) == len(clips) == 16
    assert all(row["chosen_on"] == in_first_half(clips[row["id"]]) for row in rows)
    measured = [row for row in rows if not row["chosen_on"]]
    total = summary["kinds"]["all"]
    assert total["clips"] == len(measured) < 16 and total["tokens"] == 60 * len(measured)
    hits = sum(row["top_1"] for row in measured)
    assert total["ways"]["chosen"]["top_1"]["mean"] == pytest.approx(hits / total["tokens"])
    alone = total["ways"][summary["best_member"]]["top_1"]["mean"]
    assert total["gain"]["mean"] == pytest.approx(hits / total["tokens"] - alone)
    assert list(total["ways"]) == [*summary["members"], "equal", "chosen"]
    community = summary["community"]
    assert community["lag"] == LAG and community["bonus"] > 0  # which is right much more often than a random encoder
    for row in community["languages"].values():
        assert row["community"]["mean"] == pytest.approx(0.5, abs=0.03)
        assert row["with"]["top_1"]["mean"] - row["without"]["top_1"]["mean"] == pytest.approx(row["gain"]["mean"])
        assert row["gain"]["low"] > 0
    printed = capsys.readouterr().out
    page = Page((output / "report.html").read_text())
    for text in ("Several encoders as one", "With the tokens of the community's quantizer"):
        assert text in page.text
    assert "| all | " in printed and "Chosen on the other half" in printed
    monkeypatch.setattr(ensemble, "clip_hits", lambda *given: pytest.fail("a clip was scored again"))
    evaluate_encoder.main([*arguments, "--output", str(output)])
    again = json.loads((output / "summary.json").read_text())
    assert again["kinds"] == summary["kinds"]


def test_one_encoder_with_the_communitys_tokens(runs, corpus, tmp_path):
    evaluate_encoder.main([*runs[:2], "--weights", "--corpus", corpus, "--json", str(tmp_path / "one.json")])
    report = json.loads((tmp_path / "one.json").read_text())
    (name,) = report["members"]
    assert list(report["kinds"]["all"]["ways"]) == [name] and report["weights"] == [1.0]
    assert report["community"]["languages"]["all"]["gain"]["mean"] > 0.3


def test_weights_that_cannot_be_chosen_are_refused(runs, corpus, tmp_path):
    tiny_encoder(vocab_size=40).save_pretrained(tmp_path / "quantizer")
    for encoders, message in (
        (runs, r"`vocab_size` of these encoders is \[50, 50, 40\]"),
        (runs[:3], "Every fold needs the same members"),
        ([], "--weights needs encoders"),
    ):
        with pytest.raises(SystemExit, match=message):
            evaluate_encoder.main([*encoders, "--weights", "--unseen", "--corpus", corpus])
    prompts = Dataset.from_list([corpus_row(seed, 60, with_audio=False, fold=seed % 2) for seed in range(4)])
    prompts.save_to_disk(tmp_path / "prompts")
    with pytest.raises(SystemExit, match="none of the 2 clips has audio; see --codec"):
        evaluate_encoder.main([*runs[:4], "--weights", "--corpus", str(tmp_path / "prompts")])
    with pytest.raises(ValueError, match="in one half"):
        ensemble.weights_report([(load_corpus(corpus)[0], np.zeros((1, 1, 2), int))], [["a"]])
