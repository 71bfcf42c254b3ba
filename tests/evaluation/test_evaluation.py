"""Metrics on cases with known results."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmark_encoders
from hf_bark_semantic import save_audio
from hf_bark_semantic.bark.examples import Utterance
from hf_bark_semantic.cli import evaluate_encoder
from hf_bark_semantic.evaluation import encoder
from hf_bark_semantic.evaluation.encoder import RunScore
from hf_bark_semantic.evaluation.metric_scripts import METRICS, metric_path
from hf_bark_semantic.evaluation.sequences import (
    codebook_usage,
    error_counts,
    letter_errors,
    normalize_text,
    repetition_share,
    run_lengths,
    word_errors,
)
from hf_bark_semantic.evaluation.significance import paired_difference, ratio_estimate
from hf_bark_semantic.evaluation.tokens import (
    ClipScore,
    accuracy,
    agreement,
    bootstrap_interval,
    embedding_cosine,
    semantic_likelihood,
    summarize,
    top_k_accuracy,
    unigram_distance,
)
from html_page import Page
from tiny import noise, tiny_bark, tiny_bark_processor, tiny_encoder


def score(group, hits, tokens=100, kind="english", inputs="audio"):
    return ClipScore(f"clip-{group}", group, kind, inputs, tokens, hits, min(tokens, 2 * hits))


def test_accuracy_weighs_tokens_not_clips():
    assert accuracy([score("a", 10, 10), score("b", 0, 90)]) == pytest.approx(0.1)


def test_interval_is_a_point_where_groups_agree_and_wide_where_they_do_not():
    same = [score(g, 30) for g in "abcdef"]
    assert bootstrap_interval(same, accuracy) == (0.3, 0.3)
    low, high = bootstrap_interval(
        [score(g, h) for g, h in zip("abcdef", (0, 0, 0, 60, 60, 60), strict=True)], accuracy
    )
    assert low < 0.15 and high > 0.45


def test_summary_keeps_kinds_and_ways_of_reading_apart():
    table = summarize([score("a", 10), score("a", 20, inputs="codes"), score("b", 40, kind="music")])
    assert table["english, audio"]["top_1"]["mean"] == 0.1
    assert table["english, codes"]["top_1"]["mean"] == 0.2
    assert table["music, audio"]["top_5"]["mean"] == 0.8


def test_unigram_distance_is_zero_for_equal_and_one_for_disjoint_samples():
    tokens = np.array([1, 2, 2, 3])
    assert unigram_distance(tokens, tokens, 10) == 0.0
    assert unigram_distance(tokens, np.array([7, 8]), 10) == pytest.approx(1.0)


def test_agreement_counts_equal_positions():
    assert agreement(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 9, 3])) == pytest.approx(2 / 3)


def test_top_k_accuracy_looks_at_so_many_guesses():
    guesses, truth = np.array([[1, 2], [3, 4], [5, 6], [7, 8]]), np.array([1, 4, 6, 0])
    assert (top_k_accuracy(guesses, truth), top_k_accuracy(guesses, truth, 2)) == (0.25, 0.75)
    with pytest.raises(ValueError, match="there are 2 predictions"):
        top_k_accuracy(guesses, truth, 3)
    with pytest.raises(ValueError, match="4 predictions for 3 tokens"):
        top_k_accuracy(guesses, truth[:3])


def test_embedding_cosine_forgives_a_neighbour():
    embeddings = np.array([[1.0, 0], [1, 0.1], [0, 1], [-1, 0]])
    truth = np.array([0, 0])
    values = [embedding_cosine(np.array([0, wrong]), truth, embeddings) for wrong in range(4)]
    assert values[0] == 1 and values == sorted(values, reverse=True) and values[3] == pytest.approx(0)


def test_likelihood_is_that_of_greedy_generation_and_falls_for_noise():
    bark, tokenizer = tiny_bark(), tiny_bark_processor().tokenizer
    from hf_bark_semantic.bark.request import SynthesisRequest
    from hf_bark_semantic.bark.sampling import Sampling
    from hf_bark_semantic.bark.synthesis import text_to_semantic

    text, greedy = "the dog runs", Sampling(temperature=0, min_eos_p=None)
    request = SynthesisRequest(text=text, semantic=greedy, max_semantic_tokens=20)
    ((tokens, reason),) = text_to_semantic(bark, [request], tokenizer=tokenizer)
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])
    spoken = Utterance(ids, tokens, complete=reason == "eos")
    random_tokens = Utterance(ids, np.random.default_rng(0).integers(0, 50, len(tokens)), complete=False)
    mine, foreign = semantic_likelihood(bark, [spoken, random_tokens])
    assert mine.num_correct == mine.num_targets and foreign.num_correct < foreign.num_targets
    assert mine.nll < foreign.nll
    with pytest.raises(ValueError, match="1 histories were passed for 2"):
        semantic_likelihood(bark, [spoken, spoken], [None])


def test_errors_are_the_fewest_edits():
    def edits(first, second):
        counts = error_counts(first, second)
        return counts.substitutions, counts.deletions, counts.insertions

    assert edits("kitten", "sitting") == (2, 0, 1) and edits("", "ab") == (0, 0, 2) and edits("", "") == (0, 0, 0)
    assert edits(np.array([5, 6, 7]), np.array([5, 7])) == (0, 1, 0)
    assert edits(np.array([1, 2, 3, 4]), np.array([1, 9, 3])) == (1, 1, 0)
    assert edits(["the", "dog", "runs"], ["dog", "runs", "the"]) == (0, 1, 1)
    assert error_counts(np.array([1, 2, 3, 4]), np.array([1, 9, 3])).rate == 0.5
    assert (error_counts("", "").rate, error_counts("", "a").rate) == (0.0, 1.0)


@pytest.mark.parametrize(
    "text, words",
    [
        ("3 7 1", "three seven one"),
        ("Three, seven - one!", "three seven one"),
        ("371", "three seven one"),
        ("37,125", "three seven one two five"),
        ("twelve", "one two"),
        ("12", "one two"),
        ("a hundred dogs", "one zero zero dogs"),
        ("twenty-one", "two one"),
        ("two hundred", "two zero zero"),
        ("I'm sad, isn’t it?", "i am sad is not it"),
        ("[laughs] The neighbour's grey cat", "the neighbors gray cat"),
        ("ÜBEN, 你好", "üben 你好"),
        ("", ""),
    ],
)
def test_transcripts_of_the_same_words_are_written_alike(text, words):
    assert normalize_text(text) == words
    assert normalize_text(normalize_text(text)) == words


def test_word_and_letter_errors_look_through_spelling():
    assert word_errors("five zero four.", "504").errors == 0
    assert word_errors("The dog runs.", "the dog ran").rate == pytest.approx(1 / 3)
    assert letter_errors("dog", "dig").rate == pytest.approx(1 / 3)


def test_repetition_is_low_for_speech_and_high_for_a_stuck_model():
    assert repetition_share(list("the dog runs")) == 0
    assert repetition_share(["no", "no"] * 20) > 0.9
    assert repetition_share(np.repeat([1, 2, 3], 10), n=2) == 0  # runs are no repetitions
    assert repetition_share(np.tile([1, 2, 3, 4], 10), n=4) > 0.8 and repetition_share([]) == 0


def test_runs_and_usage_of_a_vocabulary():
    assert run_lengths(np.array([7, 7, 7, 2])).tolist() == [3, 1] and not len(run_lengths(np.array([], int)))
    usage = codebook_usage(np.array([0, 1, 2, 3]), 8)
    assert (usage.used, usage.share, usage.entropy_bits, usage.perplexity) == (4, 0.5, 2.0, 4.0)
    with pytest.raises(ValueError, match="in .0, 3."):
        codebook_usage(np.array([3]), 3)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng, covered, wide = np.random.default_rng(0), 0, []
    groups = np.repeat(np.arange(25), 8)
    for seed in range(100):
        voices = rng.normal(0, 1, 25)  # what a voice's trials have in common
        trials = voices[groups] + rng.normal(0, 0.3, len(groups))
        clustered = ratio_estimate(trials, groups=groups, seed=seed, samples=300)
        covered += clustered.low <= 0 <= clustered.high
        naive = ratio_estimate(trials, seed=seed, samples=300)
        wide.append((clustered.high - clustered.low) / (naive.high - naive.low))
    assert 86 <= covered <= 99
    assert np.mean(wide) > 2  # single trials would look twice as sure


def test_estimate_pools_words_and_repeats_with_its_seed():
    first = ratio_estimate([1, 0, 9], [10, 10, 10], groups=["a", "b", "c"])
    assert first.value == pytest.approx(1 / 3) and (first.count, first.groups) == (3, 3)
    assert first == ratio_estimate([1, 0, 9], [10, 10, 10], groups=["a", "b", "c"])
    assert first.named("wer") == {"wer": first.value, "wer_low": first.low, "wer_high": first.high}
    with pytest.raises(ValueError, match="no trials"):
        ratio_estimate([])
    with pytest.raises(ValueError, match="nothing to divide by"):
        ratio_estimate([1], [0])
    with pytest.raises(ValueError, match="3 numerators, 2 denominators"):
        ratio_estimate([1, 2, 3], [1, 2])


def test_paired_difference_finds_an_effect_and_no_other():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    base = rng.normal(0, 1, 100)
    better = paired_difference(base + 0.5 + rng.normal(0, 0.2, 100), base, groups=groups)
    assert better.low > 0.4 and better.high < 0.6 and better.p_value < 0.001
    p_values = [
        paired_difference(base + rng.normal(0, 1, 100), base, groups=groups, samples=300, seed=seed).p_value
        for seed in range(60)
    ]
    assert 0.3 < np.mean(p_values) < 0.7 and min(p_values) > 0.001
    assert paired_difference([1, 1, 1], [0, 0, 0]).p_value == 2 / 8  # all of 2^3 ways to swap are tried
    assert paired_difference([1, 2], [1, 2]).p_value == 1.0
    with pytest.raises(ValueError, match="are not pairs"):
        paired_difference([1], [1, 2])


@pytest.fixture
def load_metric(tmp_path, monkeypatch):
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return lambda name: evaluate.load(str(metric_path(name)), cache_dir=str(tmp_path / "cache"))


def test_every_metric_loads_offline_and_documents_its_inputs(load_metric):
    names = sorted(folder.name for folder in METRICS.iterdir() if (folder / f"{folder.name}.py").exists())
    assert len(names) == 10
    for name in names:
        metric = load_metric(name)
        assert "predictions" in metric.inputs_description and "Returns" in metric.inputs_description
    with pytest.raises(ValueError, match="there are semantic_nll, speaker_identification"):
        metric_path("bleu")


def test_token_metrics_compute(load_metric):
    tokens = [np.array([1, 2, 3, 4]), np.array([5, 5, 6])]
    guesses = [np.stack([row, row + 1], 1) for row in tokens]
    result = load_metric("token_accuracy").compute(predictions=guesses, references=tokens, top_k=[1, 2])
    assert result["top_1"] == result["top_2"] == 1 and result["num_tokens"] == 7
    result = load_metric("unit_error_rate").compute(predictions=[row[1:] for row in tokens], references=tokens)
    assert result["unit_error_rate"] == pytest.approx(2 / 7) and result["deletions"] == 2
    result = load_metric("token_statistics").compute(predictions=tokens, vocab_size=10)
    assert result["used_tokens"] == 6 and result["longest_run"] == 2
    embeddings = np.random.default_rng(0).standard_normal((10, 4))
    compute = load_metric("token_embedding_cosine").compute
    assert compute(predictions=tokens, references=tokens, embeddings=embeddings)["cosine"] == pytest.approx(1)
    bark = {"bark": tiny_bark(), "tokenizer": tiny_bark_processor().tokenizer}
    result = load_metric("semantic_nll").compute(predictions=tokens, references=["the dog", "a cat"], **bark)
    assert result["nll_low"] <= result["nll"] <= result["nll_high"] and result["num_targets"] == 9


def test_speech_metrics_compute(load_metric):
    result = load_metric("speech_word_errors").compute(
        predictions=["504", "a dog"], references=["Five 0 4", "The dog"]
    )
    assert result["wer"] == pytest.approx(0.2) and result["num_words"] == 5
    voices = np.eye(3)
    candidates = [voices, voices[[1, 0, 2]], voices[[0, 1, 2]]]
    result = load_metric("speaker_identification").compute(predictions=voices, references=candidates)
    assert result["identified"] == pytest.approx(2 / 3)
    first, second = noise(1.0), noise(1.0, seed=1)
    options = {"sampling_rate": 16_000, "model": lambda waveform: waveform[:100]}
    compute = load_metric("speaker_similarity").compute
    assert compute(predictions=[first], references=[first], **options)["similarity"] == pytest.approx(1)
    assert abs(compute(predictions=[first], references=[second], **options)["similarity"]) < 0.5
    options = {"sampling_rate": 16_000, "mos": lambda waveform: 3.0}
    result = load_metric("speech_quality").compute(predictions=[first, second], **options)
    assert result["mos"] == 3 and result["silence_share"] < 0.05
    compute = load_metric("speech_distance").compute
    result = compute(predictions=[first], references=[first], sampling_rate=16_000, aligned=False)
    assert result["mel_cepstral_distortion"] == 0 and result["energy_correlation"] == pytest.approx(1)
    assert result["pitch_correlation"] is None and "pesq" not in result


@pytest.fixture
def runs(tmp_path) -> Path:
    """The same weights as runs of two folds, as an encoder from elsewhere, and as one that has seen all clips."""
    for name, record in (("fold0", 0), ("fold1", 1), ("elsewhere", "nothing"), ("everything", None)):
        tiny_encoder().save_pretrained(tmp_path / "runs" / name)
        if record != "nothing":
            training = json.dumps({"fold": record, "seed": 3, "steps": 1, "clips": {}})
            (tmp_path / "runs" / name / "training.json").write_text(training)
    return tmp_path / "runs"


def test_encoder_report_has_a_row_per_clip_and_its_sounds(runs, corpus, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / "report"
    folds = [str(runs / "fold0"), str(runs / "fold1")]
    evaluate_encoder.main([*folds, "--corpus", corpus, "--output", str(output), "--json", str(tmp_path / "e.json")])
    rows = parquet.read_table(output / "trials.parquet").to_pylist()
    assert {row["id"] for row in rows} == {f"pair-{i}" for i in range(4)} and {row["fold"] for row in rows} == {0, 1}
    report = json.loads((tmp_path / "e.json").read_text())
    assert (report["folds"], report["num_folds"]) == ([0, 1], 2)
    table = report["table"]
    hits, tokens = sum(row["top_1"] for row in rows), sum(row["num_tokens"] for row in rows)
    assert table["english, audio"]["top_1"]["mean"] == pytest.approx(hits / tokens)
    written = json.loads((output / "summary.json").read_text())
    assert written["table"] == table and written["made"]["seeds"]["trainings"] == [3]
    page = Page((output / "report.html").read_text())
    calibration = written["calibration"]["audio"]
    assert calibration["temperature"] in calibration["temperatures_of_folds"] and "Expected calibration" in page.text
    assert set(calibration["errors"]) == {"all", "english"} and 0 <= calibration["errors"]["all"]["after"] <= 1
    assert len(page.of("audio")) == 4 and not page.of("script")
    worst = min(rows, key=lambda row: row["top_1_accuracy"])["id"]
    assert page.text.index(worst) == min(page.text.index(row["id"]) for row in rows)
    assert f"| english | audio | {hits / tokens:.1%} " in (output / "model_card_rows.md").read_text()


def test_a_killed_evaluation_scores_only_what_is_missing(runs, corpus, tmp_path, monkeypatch):
    scored, score_clips = [], encoder.score_clips

    def score(model, clips, known_codebooks):
        if len(scored) == 1 and not whole:
            raise KeyboardInterrupt
        scored.extend(clip.id for clip in clips)
        return score_clips(model, clips, known_codebooks)

    monkeypatch.setattr(encoder, "score_clips", score)
    arguments = [str(runs / "fold0"), str(runs / "fold1"), "--corpus", corpus, "--output"]
    whole = False
    with pytest.raises(SystemExit, match="130"):
        evaluate_encoder.main([*arguments, str(tmp_path / "killed")])
    whole = True
    evaluate_encoder.main([*arguments, str(tmp_path / "killed")])
    assert len(scored) == len(set(scored)) == 8
    evaluate_encoder.main([*arguments, str(tmp_path / "whole")])
    killed, undisturbed = (json.loads((tmp_path / n / "summary.json").read_text()) for n in ("killed", "whole"))
    assert killed["table"] == undisturbed["table"]
    with pytest.raises(SystemExit, match="known_codebooks 8 .now 2.*another --output"):
        evaluate_encoder.main([*arguments, str(tmp_path / "whole"), "--known-codebooks", "2"])


def test_human_report_has_a_row_per_recording_and_change(runs, corpus, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for i in range(3):
        save_audio(tmp_path / f"{i}.wav", noise(1.5, i), 16_000)
    (tmp_path / "human").mkdir()
    for i in range(3):
        (tmp_path / f"{i}.wav").rename(tmp_path / "human" / f"{i}.wav")
    arguments = [str(runs / "everything"), "--corpus", corpus, "--human", str(tmp_path / "human")]
    evaluate_encoder.main([*arguments, "--output", str(tmp_path / "report"), "--seconds", "1"])
    rows = parquet.read_table(tmp_path / "report" / "trials.parquet").to_pylist()
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert len(rows) == 3 * len(summary["agreement_with_clean"]) == 12
    for name, mean in summary["agreement_with_clean"].items():
        assert mean == pytest.approx(np.mean([row["agreement"] for row in rows if row["change"] == name]))
        assert summary["agreement_intervals"][name]["low"] <= mean <= summary["agreement_intervals"][name]["high"]
    assert len(Page((tmp_path / "report" / "report.html").read_text()).of("audio")) == 3


def test_benchmark_scores_every_entry_on_the_same_clips(runs, corpus, tmp_path, capsys):
    entries = [f"ours={runs / 'fold*'}", f"foreign={runs / 'elsewhere'}", f"all={runs / 'everything'}"]
    summary = benchmark_encoders.main([*entries, "--corpus", corpus, "--output", str(tmp_path / "benchmark")])
    ours, foreign, everything = summary["entries"]
    assert ours["table"] == foreign["table"] == everything["table"]  # the same weights on the same clips
    assert ours["table"]["english, audio"]["clips"] == 4
    assert (ours["training"], foreign["training"]) == ("other folds", "unknown")
    assert everything["training"] == "trained on these clips" and not everything["comparable"]
    assert {(row["first"], row["second"]) for row in summary["comparisons"]} == {("ours", "foreign")}
    assert all(row["value"] == 0 and row["p_value"] == 1 and row["count"] == 4 for row in summary["comparisons"])
    printed = capsys.readouterr().out
    assert "To add an encoder" in printed and "trained on these clips" in printed
    page = Page((tmp_path / "benchmark" / "report.html").read_text())
    assert "To add an encoder" in page.text and page.of("svg") and not page.of("script")


def test_benchmark_tells_a_better_encoder_from_a_worse_one():
    def entry(name, hits):
        runs = [RunScore(name, 0, 0, score(voice, hits + i)) for i, voice in enumerate("abcdefgh")]
        return benchmark_encoders.Entry(name, [name], runs=runs)

    first, second = benchmark_encoders.compare_entries([entry("good", 40), entry("bad", 20)])
    assert (first["figure"], second["figure"]) == ("top_1", "top_5")
    assert first["value"] == pytest.approx(0.2) and first["low"] > 0.19 and first["p_value"] == pytest.approx(2 / 2**8)


def test_benchmark_refuses_what_cannot_be_compared(runs, corpus, tmp_path):
    options = ["--corpus", corpus, "--output", str(tmp_path / "benchmark")]
    with pytest.raises(SystemExit, match="same name"):
        benchmark_encoders.main([f"a={runs / 'fold0'}", f"a={runs / 'fold1'}", *options])
    with pytest.raises(SystemExit, match="some of its runs held a fold out"):
        benchmark_encoders.main([f"a={runs / '*'}", *options])
    tiny_encoder(vocab_size=20).save_pretrained(runs / "small")
    with pytest.raises(SystemExit, match="has 20 tokens and the clips hold token 49"):
        benchmark_encoders.main([str(runs / "small"), *options])
