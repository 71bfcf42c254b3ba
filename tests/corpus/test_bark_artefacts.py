"""Bark's artefacts become rows in folds that share neither voice nor sentence."""

import json

import numpy as np
from datasets import load_from_disk

from hf_bark_semantic import save_audio
from hf_bark_semantic.cli import prepare_bark_artefacts
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames, num_samples_of_codec_frames
from hf_bark_semantic.corpus.rows import load_corpus
from tiny import noise, random_codes

NUM_FRAMES = num_codec_frames(60)
NAMES = ["classic_robot_tts", "en_deadpan", "sing1", "17-27-47 twin", "somebody_new"]


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
    names = ["suno/v2/en_speaker_0.npz", "rsxdalv/somebody.npz", "suno/of_a_pair.npz"]
    prompts = {f"semantic_{i}": tokens_of(seed) for i, seed in enumerate((10, 11, 0))}
    prompts |= {f"fine_{i}": random_codes(NUM_FRAMES, i) for i in range(3)}
    np.savez(folder / "bark_prompts.npz", names=np.array(names), **prompts)
    np.savez(folder / "bark_token_sweep" / "semantic.npz", semantic_tokens=np.arange(60)[None])
    save_audio(folder / "bark_token_sweep" / "wav" / "000.flac", waveform, 16_000)


def test_artefacts_become_one_corpus_and_a_clip_of_no_known_group_is_named(tmp_path, capsys):
    write_artefacts(tmp_path / "data")
    prepare_bark_artefacts.main([str(tmp_path / "data"), str(tmp_path / "out")])
    assert "somebody_new is left out" in capsys.readouterr().out
    clips = {clip.id: clip for clip in load_corpus(str(tmp_path / "out"))}
    pairs = [clip for clip in clips.values() if clip.source == "pair"]
    assert [(clip.id, clip.kind, clip.voice, clip.fold) for clip in pairs] == [
        ("classic_robot_tts", "english", "universe", 1), ("en_deadpan", "english", "universe", 1),
        ("sing1", "music", "chicken", 3),
    ]  # fmt: skip
    assert (clips["en_deadpan"].audio_codes[2:] == 1024).all() and (pairs[0].audio_codes < 1024).all()
    prompts = {clip.voice: clip.in_folds for clip in clips.values() if clip.source == "prompt"}
    assert prompts == {"en_speaker_0": True, "somebody": False}
    assert clips["sweep_000"].fold == -1 and clips["sweep_000"].audio_codes is None


def test_by_voice_clips_of_one_sentence_are_dealt_out_to_the_folds(tmp_path):
    write_artefacts(tmp_path / "data")
    prepare_bark_artefacts.main([str(tmp_path / "data"), str(tmp_path / "out"), "--by-voice"])
    rows = load_from_disk(tmp_path / "out").to_list()
    assert [(row["voice"], row["fold"]) for row in rows if row["source"] == "pair"] == [
        ("classic_robot_tts", 0), ("en_deadpan", 1), ("sing1", 2)
    ]  # fmt: skip
