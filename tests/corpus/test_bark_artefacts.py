"""Bark's artefacts become rows in folds that share neither voice nor sentence."""

import json

import numpy as np
import pytest
from datasets import load_from_disk

from hf_bark_semantic import save_audio
from hf_bark_semantic.audio import load_audio
from hf_bark_semantic.cli import prepare_bark_artefacts
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames, num_samples_of_codec_frames
from hf_bark_semantic.corpus.bark_artefacts import (
    ENHANCED_DELAY,
    NUM_FOLDS,
    pair_rows,
    preset_rows,
    prompt_rows,
)
from hf_bark_semantic.corpus.rows import NO_TOKEN, Clip, load_corpus
from hf_bark_semantic.evaluation.encoder import with_truth
from tiny import noise, random_codes

NUM_FRAMES = num_codec_frames(60)
NAMES = ["classic_robot_tts", "en_deadpan", "sing1", "17-27-47 twin", "somebody_new", "v1_en_speaker_0_exact"]
PRESETS = {
    "en_speaker_3": "en",
    "de_speaker_0": "de",
    "de_speaker_1": "de",
    "hi_speaker_5": "hi",
    "xx_speaker_0": "xx",
}
PLAIN_ONLY = "de_speaker_1"


def tokens_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 10_000, 60)


def write_artefacts(folder) -> None:
    (folder / "bark_pairs").mkdir(parents=True)
    (folder / "bark_token_sweep" / "wav").mkdir(parents=True)
    waveform = np.resize(noise(1.0), num_samples_of_codec_frames(NUM_FRAMES))
    manifest = [{"name": name, "audio": f"{name}.flac", "has_fine": i == 0} for i, name in enumerate(NAMES)]
    (folder / "bark_pairs" / "manifest.json").write_text(json.dumps(manifest))
    for seed, name in enumerate(NAMES):
        codes = random_codes(NUM_FRAMES, seed)
        prompt = {"semantic_prompt": tokens_of(seed), "coarse_prompt": codes[:2], "fine_prompt": codes}
        np.savez(folder / "bark_pairs" / f"{name}.npz", **prompt)
        save_audio(folder / "bark_pairs" / f"{name}.flac", waveform, 16_000)
    write_presets(folder / "bark_presets")
    names = ["suno/v2/de_speaker_0.npz", "rsxdalv/somebody.npz", "suno/of_a_pair.npz", "suno/de_speaker_0.npz"]
    names += ["suno/speaker_0.npz", "suno/en_speaker_7.npz", "suno/announcer.npz"]
    prompts = {f"semantic_{i}": tokens_of(seed) for i, seed in enumerate((21, 11, 0, 12, 13, 14, 15))}
    prompts |= {f"fine_{i}": random_codes(NUM_FRAMES, i) for i in range(len(names))}
    np.savez(folder / "bark_prompts.npz", names=np.array(names), **prompts)
    np.savez(folder / "bark_token_sweep" / "semantic.npz", semantic_tokens=np.arange(60)[None])
    save_audio(folder / "bark_token_sweep" / "wav" / "000.flac", waveform, 16_000)
    (folder / "encodec_pairs").mkdir()
    (folder / "encodec_pairs" / "manifest.json").write_text(json.dumps([{"name": "reader"}]))
    np.savez(folder / "encodec_pairs" / "reader.npz", codes=random_codes(NUM_FRAMES, 70).astype(np.int16))
    save_audio(folder / "encodec_pairs" / "reader.flac", waveform, 16_000)


def write_presets(folder) -> None:
    (folder / "enhanced").mkdir(parents=True)
    num_samples, manifest = num_samples_of_codec_frames(NUM_FRAMES, 24_000), []
    for i, (name, language) in enumerate(PRESETS.items()):
        entry = {"name": name, "language": language, "audio": f"{name}.flac"}
        arrays = {"semantic_prompt": tokens_of(20 + i), "fine_prompt": random_codes(NUM_FRAMES, i)}
        waveform = np.resize(noise(2.0, i), num_samples)
        save_audio(folder / f"{name}.flac", waveform, 24_000)
        if name != PLAIN_ONLY:
            entry["enhanced"] = f"enhanced/{name}.flac"
            late = np.pad(waveform, (ENHANCED_DELAY, 0))[:num_samples]
            save_audio(folder / entry["enhanced"], late, 24_000)
            arrays["community_semantic"] = tokens_of(40 + i)[:59]
            arrays["encodec_codes"] = random_codes(NUM_FRAMES + 1, 60 + i)  # of the longer, late rendering
        np.savez(folder / f"{name}.npz", **arrays)
        manifest.append(entry)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def clips(tmp_path, capsys) -> dict[str, Clip]:
    write_artefacts(tmp_path / "data")
    prepare_bark_artefacts.main([str(tmp_path / "data"), str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "somebody_new is left out" in printed and "xx_speaker_0 is left out" in printed
    return {clip.id: clip for clip in load_corpus(str(tmp_path / "out"))}


def test_artefacts_become_one_corpus_and_a_clip_of_no_known_group_is_named(clips):
    pairs = [clip for clip in clips.values() if clip.source == "pair"]
    assert [(clip.id, clip.kind, clip.voice, clip.fold) for clip in pairs] == [
        ("classic_robot_tts", "english", "universe", 1), ("en_deadpan", "english", "universe", 1),
        ("sing1", "music", "chicken", 3), ("v1_en_speaker_0_exact", "preset", "en_speaker_0", 4),
    ]  # fmt: skip
    assert (clips["en_deadpan"].audio_codes[2:] == 1024).all() and (pairs[0].audio_codes < 1024).all()
    assert "suno/of_a_pair.npz" not in clips and not clips["rsxdalv/somebody.npz"].in_folds
    assert clips["sweep_000"].fold == -1 and clips["sweep_000"].audio_codes is None


def test_by_voice_clips_of_one_sentence_are_dealt_out_to_the_folds(tmp_path):
    write_artefacts(tmp_path / "data")
    prepare_bark_artefacts.main([str(tmp_path / "data"), str(tmp_path / "out"), "--by-voice"])
    rows = load_from_disk(tmp_path / "out").to_list()
    assert [(row["voice"], row["fold"]) for row in rows if row["source"] == "pair"] == [
        ("classic_robot_tts", 0), ("en_deadpan", 1), ("sing1", 2), ("en_speaker_0", 4)
    ]  # fmt: skip


def test_codes_of_speech_are_rows_without_tokens(clips, tmp_path):
    """The front end for codes learns from them; a preset's codes are held out with the preset."""
    preset, reader = clips["de_speaker_0_codec"], clips["reader"]
    assert (preset.source, preset.voice, preset.fold) == ("codec", "de_speaker_0", clips["de_speaker_0"].fold)
    assert (reader.source, reader.fold, reader.in_folds) == ("codec", -1, True)
    assert not clips["hi_speaker_5_codec"].in_folds and f"{PLAIN_ONLY}_codec" not in clips
    for clip in (preset, reader):
        num_frames = num_codec_frames(clip.num_tokens)
        assert (clip.semantic_tokens == NO_TOKEN).all() and clip.audio_codes.shape == (8, num_frames)
        assert num_frames >= NUM_FRAMES and len(clip.waveform) == num_samples_of_codec_frames(num_frames)
    late = load_audio(tmp_path / "data" / "bark_presets" / "enhanced" / "de_speaker_0.flac")
    assert np.array_equal(preset.waveform[: len(late)], late)
    assert with_truth([preset, reader, clips["sweep_000"], clips["en_deadpan"]]) == [clips["en_deadpan"]]


def test_a_preset_is_a_row_of_each_rendering_and_both_sound_at_the_same_time(clips, tmp_path):
    plain, enhanced = clips["de_speaker_0"], clips["de_speaker_0_enhanced"]
    assert (plain.source, plain.kind, plain.voice) == ("preset", "preset", "de_speaker_0")
    assert (enhanced.source, enhanced.voice, enhanced.language) == ("preset_enhanced", "de_speaker_0", "de")
    assert np.array_equal(plain.semantic_tokens, enhanced.semantic_tokens)
    assert plain.audio_codes.shape == (8, NUM_FRAMES) and enhanced.audio_codes is None
    assert plain.community_tokens is None
    assert np.array_equal(enhanced.community_tokens, tokens_of(41)[:59])
    heard = len(plain.waveform) - 2 * ENHANCED_DELAY * 16_000 // 24_000
    assert np.allclose(plain.waveform[:heard], enhanced.waveform[:heard], atol=1e-3)
    late = load_audio(tmp_path / "data" / "bark_presets" / "enhanced" / "de_speaker_0.flac")
    assert not np.allclose(plain.waveform[:heard], late[:heard], atol=1e-3)
    assert f"{PLAIN_ONLY}_enhanced" not in clips


def test_all_presets_and_prompts_of_a_language_are_in_one_fold(clips):
    folds = {}
    for clip in clips.values():
        if clip.language:
            folds.setdefault(clip.language, set()).add(clip.fold)
    assert folds == {"en": {4}, "de": {2}, "hi": {4}, "zh": {0}}
    assert [clips[f"suno/{name}.npz"].language for name in ("de_speaker_0", "speaker_0", "en_speaker_7")] == [
        "de", "zh", "en"
    ]  # fmt: skip
    assert clips["suno/announcer.npz"].language == "" and clips["v1_en_speaker_0_exact"].fold == 4
    in_folds = [clip for clip in with_truth(clips.values()) if clip.in_folds and clip.fold >= 0]
    for key in (lambda clip: clip.voice, lambda clip: clip.semantic_tokens.tobytes()):
        assert all(len({c.fold for c in in_folds if key(c) == key(clip)}) == 1 for clip in in_folds)
    assert not clips["hi_speaker_5"].in_folds and not clips["hi_speaker_5_enhanced"].in_folds


def test_no_voice_sentence_or_tokens_of_the_real_artefacts_are_in_two_folds(real_data, tmp_path):
    if not (real_data / "bark_presets").is_dir():
        pytest.skip("the presets' audio is not here")
    pairs = list(pair_rows(real_data / "bark_pairs"))
    tokens_of_pairs = {tuple(row["semantic_tokens"]) for row in pairs}
    prompts = list(prompt_rows(real_data / "bark_prompts.npz", tokens_of_pairs))
    presets = list(preset_rows(real_data / "bark_presets"))
    assert len(presets) == 241 and {row["voice"] for row in presets} <= {row["voice"] for row in prompts}
    rows = [row for row in pairs + prompts + presets if row["in_folds"]]
    assert {row["fold"] for row in rows} == set(range(NUM_FOLDS))
    for key in ("voice", "language", "semantic_tokens"):
        folds = {}
        for row in rows:
            if row[key]:
                folds.setdefault(str(row[key]), set()).add(row["fold"])
        assert all(len(found) == 1 for found in folds.values())
