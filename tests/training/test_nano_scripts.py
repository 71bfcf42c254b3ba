"""The stages that make nano, end to end on artificial speech: a few steps each, with a random Whisper."""

import argparse
import gzip
import json
import os
import re
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from accelerate.state import AcceleratorState
from datasets import Dataset, load_from_disk
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    BarkModel,
    BarkProcessor,
    EncodecModel,
    GenerationConfig,
    WhisperConfig,
    WhisperModel,
)

from hf_bark_semantic import VoicePrompt, load_bark, nano_bark
from hf_bark_semantic.bark.configs import bark_generation_configs
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames, num_samples_of_codec_frames
from hf_bark_semantic.evaluation.voice_clips import load_voice_clips
from hf_bark_semantic.trainers.loop import TrainingArguments, new_optimizers

NANO = Path(__file__).parents[2] / "training" / "nano"
VOICES, CLIPS, SAMPLING_RATE = ("af_one", "am_two", "bf_three"), 6, 24_000


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(NANO))
    yield
    sys.path.remove(str(NANO))
    AcceleratorState._reset_state(True)  # the last stage's precision is not the next test file's


@pytest.fixture(scope="module")
def folder(tmp_path_factory, scripts):
    """Buzzing clips in the layout of make_speech.py, and what the stages make of them."""
    import assemble
    import labels
    import make_tokenizer
    import train_bark
    import train_codec
    import tune_decoder

    torch.set_num_threads(1)
    AcceleratorState._reset_state(True)  # each stage is a process of its own otherwise, and the codec's is in bfloat16
    folder = tmp_path_factory.mktemp("nano")
    write_speech(folder / "speech")
    shape = {"encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_layers": 1}
    whisper = WhisperModel(WhisperConfig(d_model=16, decoder_attention_heads=2, decoder_ffn_dim=32, **shape))
    whisper.save_pretrained(folder / "whisper")
    make_tokenizer.ITERATIONS = 5
    speech, secret = str(folder / "speech"), str(folder / "secret_tokenizer")
    make_tokenizer.main([speech, secret, "--whisper", str(folder / "whisper"), "--new"])
    labels.main(["tokens", speech, secret, str(folder / "tokens.npz")])
    train_codec.SEED_BATCHES = 2
    tokens = ["--tokens", str(folder / "tokens.npz")]
    train_codec.main([speech, str(folder / "codec"), *tokens, "--steps", "2", "2", "--filters", "2"])
    labels.main(["codes", speech, str(folder / "codec"), str(folder / "codes.npz")])
    labels.main(["codes", speech, str(folder / "codec"), str(folder / "codes_varied.npz"), "--varied"])
    for stage in ("semantic", "coarse", "fine"):
        AcceleratorState._reset_state(True)
        train_bark.main([stage, str(folder), "--steps", "2", "--num-positions", "1200"])
    AcceleratorState._reset_state(True)
    tune_decoder.main([str(folder), "--steps", "2", "--batch-size", "2"])
    AcceleratorState._reset_state(True)
    assemble.main([str(folder)])
    return folder


def write_speech(folder: Path):
    rng = np.random.default_rng(0)
    for pitch, voice in enumerate(VOICES):
        (folder / voice).mkdir(parents=True)
        rows = []
        for number in range(CLIPS):
            time = np.arange(int(rng.uniform(1.5, 2.5) * SAMPLING_RATE)) / SAMPLING_RATE
            waveform = 0.1 * np.sign(np.sin(2 * np.pi * (100 + 40 * pitch) * time)) * np.sin(5 * time)
            waveform += 0.01 * rng.standard_normal(len(time))
            file = f"{voice}/{number}.flac"
            soundfile.write(folder / file, waveform, SAMPLING_RATE)
            held_out = {"held_out_voice": voice == "bf_three", "held_out_text": voice == "bf_three"}
            rows.append(
                {"id": f"{voice}-{number}", "file": file, "text": "one two three.", "voice": voice, **held_out}
            )
        (folder / f"{voice}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_labels_obey_the_length_rule(folder):
    names = ("tokens.npz", "codes.npz", "codes_varied.npz")
    tokens, codes, varied = (np.load(folder / name) for name in names)
    assert len(tokens.files) == len(codes.files) == len(varied.files) == len(VOICES) * CLIPS
    for name in tokens.files:
        assert codes[name].shape == varied[name].shape == (8, num_codec_frames(len(tokens[name])))
        assert not np.array_equal(codes[name], varied[name])
        assert 0 <= tokens[name].min() <= tokens[name].max() < 500


def test_the_held_out_loss_is_measured_and_finite(folder):
    for stage in ("semantic", "coarse", "fine"):
        figures = json.loads((folder / stage / "held_out.json").read_text())
        assert 0 < figures["loss"] < 20 and figures["targets"] > 100  # untrained heads may be worse than uniform, 6.9


def test_the_assembled_bark_is_an_ordinary_one(folder):
    bark, processor = BarkModel.from_pretrained(folder / "bark"), BarkProcessor.from_pretrained(folder / "bark")
    codec = EncodecModel.from_pretrained(folder / "tuned_codec")
    torch.testing.assert_close(bark.codec_model.state_dict(), codec.state_dict())
    longest = bark.generation_config.semantic_config["max_input_semantic_length"]
    inputs = processor("One two, Zork.", max_length=longest)
    assert inputs["input_ids"].max() + 512 < bark.semantic.config.input_vocab_size
    torch.manual_seed(0)
    audio = bark.generate(**inputs, semantic_max_new_tokens=30)
    assert audio.shape[-1] % 320 == 0 and torch.isfinite(audio).all()


def test_the_package_has_presets_and_only_what_loading_does_not_make_anew(folder, tmp_path, monkeypatch):
    import choose_presets
    import package

    monkeypatch.setattr(package, "NUM_PRESETS", 2)
    monkeypatch.setattr(package, "REFERENCE_VOICE", "bf_three")
    monkeypatch.setattr(choose_presets, "load_transcriber", lambda: lambda waveform: "one two")
    for name in ("TEXTS", "FINAL_TEXTS", "FINALISTS"):
        monkeypatch.setattr(choose_presets, name, 2)
    (folder / "encoder").symlink_to(folder / "secret_tokenizer")
    for part in ("0", "1"):  # the second process has one voice, and finds the first one's done
        choose_presets.main([str(folder), "--part", part, "2"])
    choose_presets.main([str(folder), "--final"])
    rates = json.loads((folder / "presets" / "am_two.json").read_text())
    assert rates.keys() == {"0", "1"}
    assert all(recording[kind] > 0 for recording in rates.values() for kind in ("digits", "sentences"))
    package.main([str(folder), str(tmp_path / "checkpoints")])
    nano = tmp_path / "checkpoints" / "nano"
    bark, processor = load_bark(nano)
    ours, theirs = bark.state_dict(), BarkModel.from_pretrained(folder / "bark").state_dict()
    left_out = ours.keys() - load_file(nano / "model.safetensors").keys()
    assert any("attn.bias" in name for name in left_out) and any("embed_avg" in name for name in left_out)
    for name in ours.keys() - {name for name in left_out if "codebook" in name}:
        torch.testing.assert_close(ours[name].float(), theirs[name].float(), atol=1e-3, rtol=1e-3)
    longest = bark.generation_config.semantic_config["max_input_semantic_length"]
    for name in ("one", "two"):
        inputs = processor("One two.", voice_preset=name, max_length=longest)
        assert torch.isfinite(bark.generate(**inputs, semantic_max_new_tokens=10)).all()
    assert soundfile.info(tmp_path / "recordings" / "nano_reference.flac").duration >= choose_presets.RECORDING_S
    assert AutoModel.from_pretrained(tmp_path / "checkpoints" / "nano-encoder").config.vocab_size == 500


def test_the_best_recordings_of_as_many_women_as_men_become_presets(tmp_path, scripts):
    from choose_presets import best_recordings, development_texts
    from sentences import is_held_out

    rates = {
        "af_a": [0.5, 0.3],
        "bf_b": [0.1, 0.9],
        "am_c": [0.9, 0.8],
        "bm_a": [0.2, 0.2],
        "am_d": [0.9, 1.0],
        "zf_e": [1.0, 1.0],
    }
    for voice, pair in rates.items():
        errors = {number: {"digits": rate, "sentences": 0.1} for number, rate in enumerate(pair)}
        (tmp_path / f"{voice}.json").write_text(json.dumps(errors))
    chosen = best_recordings(tmp_path, 4)  # no second preset "a"
    assert chosen == {"b": ("bf_b", 0), "a": ("bm_a", 0), "c": ("am_c", 1), "e": ("zf_e", 0)}
    with pytest.raises(FileNotFoundError, match="too few voices for 6"):
        best_recordings(tmp_path, 6)
    texts = [text for kind in development_texts(3, 0).values() for text in kind]
    assert texts and not any(map(is_held_out, texts))


def test_tuning_the_decoder_leaves_the_codes_as_they_are(folder):
    codecs = [EncodecModel.from_pretrained(folder / name) for name in ("codec", "tuned_codec")]
    before, after = (codec.state_dict() for codec in codecs)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}


def test_blends_are_different_pairs(scripts):
    import make_speech

    names = [f"v{number}" for number in range(20)]
    blends = make_speech.all_blends(names)
    assert len({frozenset(blend.split("+")) for blend in blends}) == len(blends) == make_speech.NUM_BLENDS
    assert blends[: len(make_speech.BLENDS)] == make_speech.BLENDS == make_speech.all_blends(names)[:8]


def test_a_revoiced_clip_is_as_long_as_before_and_has_another_pitch_and_colour(scripts):
    from revoice import KNOTS_HZ, Timbre, revoiced

    time = np.arange(24_000) / 24_000
    buzz = (0.1 * sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 60))).astype(np.float32)

    def strongest(waveform):  # the frequency of the strongest partial below 400 Hz, after the first moments
        return int(np.abs(np.fft.rfft(waveform[:24_000]))[60:400].argmax()) + 60

    plain = Timbre(1.0, 1.0, 1.0, np.zeros(len(KNOTS_HZ)))
    same, higher = (revoiced(buzz, timbre, 24_000) for timbre in (plain, Timbre(1.0, 1.3, 1.0, plain.colour_db)))
    assert len(same) == len(higher) == len(buzz) and np.isfinite(higher).all()
    assert strongest(same) == pytest.approx(120, abs=3) and strongest(higher) == pytest.approx(156, abs=4)
    dark = revoiced(buzz, Timbre(1.0, 1.0, 1.0, np.where(KNOTS_HZ > 1000, -60.0, 0.0)), 24_000)
    spectra = np.abs(np.fft.rfft(same)), np.abs(np.fft.rfft(dark))
    assert spectra[1][4000:6000].sum() < 0.1 * spectra[0][4000:6000].sum()
    assert spectra[1][100:140].sum() > 0.9 * spectra[0][100:140].sum()
    with pytest.raises(ValueError, match="no pitch"):
        revoiced(np.zeros(24_000, np.float32), plain, 24_000)
    voices = [Timbre.of(f"af_alloy~{number}") for number in range(20)]
    assert all(0.83 < voice.formants < 0.95 or 1.05 < voice.formants < 1.21 for voice in voices)
    assert Timbre.of("af_alloy~3").pitch == voices[3].pitch and len({voice.pitch for voice in voices}) == 20


def test_copies_say_what_their_voice_said_and_none_is_of_a_held_out_one(tmp_path, scripts, monkeypatch):
    import make_speech

    names = [f"{name}.bin" for name in (*make_speech.HELD_OUT, "af_a", "af_b", "am_c")]
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setattr(make_speech, "BLENDS", ["af_a+af_b"])
    monkeypatch.setattr(make_speech, "NUM_BLENDS", 2)
    copies = [voice for engine, voice, _ in make_speech.planned_voices(tmp_path) if engine == "copy"]
    assert {"af_a@0.88", "af_a~0", "af_a~2", "af_a+af_b~0", "hibari@0.8~5"} <= set(copies)
    assert not any(name in voice for voice in copies for name in make_speech.HELD_OUT)
    write_speech(tmp_path / "speech")
    (tmp_path / "speech" / "af_one.jsonl").rename(tmp_path / "speech" / "hibari@0.8.jsonl")
    monkeypatch.setattr(make_speech, "HIBARI_PARTS", 2)
    slices = [make_speech.copy_voice(f"hibari@0.8~{number}", tmp_path / "speech") for number in range(2)]
    assert [len(rows) for rows in slices] == [CLIPS // 2] * 2
    rows = make_speech.copy_voice("bf_three~0", tmp_path / "speech")
    assert len(rows) == CLIPS and all(row["held_out_text"] and row["text"] == "one two three." for row in rows)
    assert {row["id"] for row in rows} == {f"bf_three~0-{number}" for number in range(CLIPS)}
    files = [tmp_path / "speech" / voice / "0.flac" for voice in ("bf_three~0", "bf_three")]
    copied, original = (soundfile.read(file)[0] for file in files)
    assert len(copied) == len(original) and not np.allclose(copied, original, atol=0.01)


def test_some_examples_of_the_coarse_model_lack_their_tokens(folder, scripts):
    import nano_bark
    import train_bark

    bark, tokenizer = BarkModel.from_pretrained(folder / "bark"), nano_bark.text_tokenizer()
    configs = bark_generation_configs(bark)
    clips = train_bark.load_utterances(folder, tokenizer, configs, "coarse")
    batches = [train_bark.UtteranceBatches(clips, configs, "coarse", steps=40, num_positions=3_000) for _ in range(2)]
    dropped, rows, length = 0, 0, configs.coarse.max_coarse_input_length
    for step in range(40):
        for plain, part in zip(batches[0][step], train_bark.TokenDropout(batches[1], configs)[step], strict=True):
            empty = (part["input_ids"][:, :length] == configs.coarse.coarse_semantic_pad_token).all(1)
            torch.testing.assert_close(part["input_ids"][~empty], plain["input_ids"][~empty])
            torch.testing.assert_close(part["input_ids"][:, length:], plain["input_ids"][:, length:])
            torch.testing.assert_close(part["labels"], plain["labels"])
            dropped, rows = dropped + int(empty.sum()), rows + len(empty)
    assert 0.5 < dropped / rows / train_bark.TOKEN_DROPOUT < 2


def test_histories_are_misheard_as_tokens_that_are_near(folder, scripts):
    import nano_bark
    import train_bark

    tokenizer = nano_bark.text_tokenizer()
    configs = bark_generation_configs(BarkModel.from_pretrained(folder / "bark"))
    clips = train_bark.load_utterances(folder, tokenizer, configs, "coarse")
    centroids = train_bark.load_centroids(folder)
    assert len(centroids) == 500
    batches = train_bark.NoisyHistories(centroids, clips, configs, "coarse", steps=1)
    distances = torch.cdist(centroids, centroids).fill_diagonal_(torch.inf)
    farthest = distances.sort(1).values[:, train_bark.SIMILAR - 1]  # of those that may be heard; several may be as far
    shares = []
    for seed in range(200):
        true, heard = (
            kind.history([0], np.random.default_rng(seed)) for kind in (super(type(batches), batches), batches)
        )
        np.testing.assert_array_equal(heard.audio_codes, true.audio_codes)
        wrong = heard.semantic_tokens != true.semantic_tokens
        said = true.semantic_tokens[wrong]
        assert (distances[said, heard.semantic_tokens[wrong]] <= farthest[said]).all()
        shares.append(wrong.mean())
    shares = np.array(shares)
    assert 0.35 < (shares == 0).mean() < 0.65 and 0.2 < shares[shares > 0].mean() < 0.4 and shares.max() < 0.7


def test_training_goes_on_from_a_whole_bark(folder, tmp_path):
    import train_bark

    for name in ("speech", "tokens.npz"):
        (tmp_path / name).symlink_to(folder / name)
    AcceleratorState._reset_state(True)
    still = ["--steps", "1", "--num-positions", "1200", "--learning-rate", "1e-12"]
    train_bark.main(["semantic", str(tmp_path), *still, "--init", str(folder / "bark")])
    first, again = (load_file(place / "semantic" / "model.safetensors") for place in (folder, tmp_path))
    torch.testing.assert_close(again, first, atol=1e-6, rtol=0)


def test_a_nano_that_never_ends_a_text_is_found_out(folder):
    import speak_corpus

    args = argparse.Namespace(folder=folder, block_size=6, batch_size=2, max_tokens=4)
    with pytest.raises(RuntimeError, match="nano ended 0 of 6 texts"):
        speak_corpus.speak_block(args, 1_000)


def test_a_corpus_is_spoken_with_guidance_and_without(scripts):
    import speak_corpus

    tokens = np.zeros(150, np.int64)
    prompt = VoicePrompt.from_tokens_and_codes(tokens, np.zeros((8, 225), np.int64), semantic_vocab_size=500)
    requests = list(islice(speak_corpus.random_requests({"af": [prompt]}, {}, None), 60))
    scales = [request.coarse.guidance_scale for request in requests]
    assert set(scales) == {1.0, None}
    assert abs(scales.count(1.0) / len(scales) - speak_corpus.UNGUIDED) < 0.2
    assert all(request.coarse.voice_guidance_scale == scale for request, scale in zip(requests, scales, strict=True))


def test_a_corpus_goes_on_behind_its_blocks_whatever_the_number_of_processes(tmp_path, scripts):
    import speak_corpus

    (tmp_path / "bark").mkdir()
    (tmp_path / "bark" / "model.safetensors").touch()
    (tmp_path / "generated_blocks").mkdir()
    for block in range(4):
        rows = [
            {"id": f"nano-{seed:06d}", "voice": "af", "audio": [0.0] * 16_000 * 20}
            for seed in range(3 * block, 3 * block + 3)
        ]
        Dataset.from_list(rows).to_parquet(tmp_path / "generated_blocks" / f"{block:05d}.parquet")
    ids = []
    for minutes, processes in ((1.5, 1), (1.5, 2), (3.0, 1)):
        speak_corpus.main([str(tmp_path), "--minutes", str(minutes), "--processes", str(processes)])
        ids.append(load_from_disk(tmp_path / "generated")["id"][:])
    assert [len(found) for found in ids] == [5, 5, 9]
    assert ids[0] == ids[1] == ids[2][:5]
    os.utime(tmp_path / "bark" / "model.safetensors", (2**32, 2**32))
    with pytest.raises(SystemExit, match="an earlier nano"):
        speak_corpus.main([str(tmp_path), "--minutes", "1"])


def test_a_persons_prompts_are_learnt_and_her_digits_tested(tmp_path, scripts):
    av = pytest.importorskip("av")
    import human_speech

    def write(name: str, seconds: float):
        file = tmp_path / "asterisk" / human_speech.SOUNDS / f"{name}.g722"
        file.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(file), "w", format="g722") as container:
            stream = container.add_stream("g722", rate=16_000, layout="mono")
            samples = (3_000 * np.sin(np.arange(int(16_000 * seconds)) / 8)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate = 16_000
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)

    texts = ["; a comment", "hello: Hello.", "sub/bye: Good: bye.", "beep: [a tone]", "short: No.", "absent: Gone."]
    table = tmp_path / "asterisk" / human_speech.TEXTS
    table.parent.mkdir(parents=True)
    table.write_bytes(gzip.compress("\n".join(texts).encode()))
    for name, seconds in [("hello", 1.5), ("sub/bye", 2.0), ("beep", 2.0), ("short", 0.4)]:
        write(name, seconds)
    for digit in range(10):
        write(f"digits/{digit}", 0.5)
    human_speech.main([str(tmp_path / "asterisk"), str(tmp_path / "human")])
    clips = load_voice_clips(tmp_path / "human" / "human.csv")
    prompts = {clip.audio.name: clip.text for clip in clips if not clip.held_out_text}
    assert prompts == {"hello.flac": "Hello.", "sub-bye.flac": "Good: bye."}
    strings = [clip for clip in clips if clip.held_out_text]
    assert len({clip.text for clip in strings}) == 40
    for clip in strings:
        assert clip.kind == "digits"
        assert clip.seconds == pytest.approx(0.5 * len(clip.text.split()), abs=0.1)


def test_starting_the_quantizer_leaves_the_codec_as_it_is(scripts):
    import train_codec

    torch.manual_seed(0)
    training = train_codec.CodecTraining(EncodecModel(train_codec.codec_config(filters=2))).eval()
    codec, noise = training.codec, 0.1 * torch.randn(4, 4, 6_400)
    batches = [{"waveform": waveform, "tokens": torch.randint(500, (4, 20))} for waveform in noise]
    train_codec.rescale_to_unit_output(codec, noise[0])
    with torch.no_grad():
        latents = codec.encoder(noise[0][:, None])
        before, guesses = codec.decoder(latents), training.predictor(batches[0]["tokens"], latents)
        train_codec.start_quantizer(training, batches)
        scaled = codec.encoder(noise[0][:, None])
        after = codec.decoder(scaled)
        guesses_after = training.predictor(batches[0]["tokens"], scaled)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    rows = [states.transpose(1, 2).flatten(0, 1).double() for states in (latents, scaled, guesses, guesses_after)]
    scaling = torch.linalg.lstsq(rows[0], rows[1]).solution
    torch.testing.assert_close(rows[2] @ scaling, rows[3], atol=1e-2, rtol=1e-2)
    assert not torch.allclose(scaled, latents)


def test_muon_turns_rows_and_transformers_gets_its_own_weights_back(scripts, tmp_path):
    import train_codec

    torch.manual_seed(0)
    codec = train_codec.CodecTraining(EncodecModel(train_codec.codec_config(filters=2))).eval().codec
    _, muon = new_optimizers(codec, TrainingArguments("unused", optimizer="muon"))
    turned = {id(parameter) for group in muon.param_groups for parameter in group["params"]}
    convolutions = train_codec.convolutions_of(codec)
    assert all(id(convolution.parametrizations.weight.original0) in turned for convolution in convolutions)
    noise = 0.1 * torch.randn(1, 1, 6_400)
    with torch.no_grad():
        before = codec.decoder(codec.encoder(noise))
        train_codec.weights_as_transformers_has_them(codec)
        codec.save_pretrained(tmp_path)
        loaded = EncodecModel.from_pretrained(tmp_path).eval()
        after = loaded.decoder(loaded.encoder(noise))
    torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-4)


def test_what_nobody_foresees_shrinks(scripts):
    import train_codec

    generator = torch.Generator().manual_seed(0)
    predictable, surprise = (torch.randn(4_000, 3, generator=generator) for _ in range(2))
    mix = torch.randn(6, 6, generator=generator)
    latents = torch.cat([predictable, surprise], 1) @ mix
    errors = torch.cat([torch.zeros_like(predictable), surprise], 1) @ mix
    latents, errors = latents - latents.mean(0), errors - errors.mean(0)
    forward, backward = train_codec.quantizer_scaling(latents, errors)
    torch.testing.assert_close(forward @ backward, torch.eye(6), atol=1e-4, rtol=0)
    share = (errors @ forward).var(0) / (latents @ forward).var(0)
    assert (share[:3] < 0.02).all() and (share[3:] > 0.9).all()
    assert (latents @ forward).var(0)[:3].min() > 2 * (latents @ forward).var(0)[3:].max()


def test_nano_says_which_words_it_was_trained_on(scripts):
    from sentences import all_words, random_text

    semantic = bark_generation_configs(GenerationConfig.from_pretrained(nano_bark())).semantic
    assert semantic.trained_words == all_words()
    texts = [random_text(np.random.default_rng(seed)) for seed in range(300)]
    assert {word for text in texts for word in re.findall("[a-z]+", text.lower())} <= set(all_words())


def test_held_out_texts_are_a_function_of_their_words(scripts):
    from sentences import is_held_out, random_text

    rng = np.random.default_rng(0)
    texts = [random_text(rng) for _ in range(600)]
    share = np.mean([is_held_out(text) for text in texts])
    assert 0.04 < share < 0.14
    assert all(is_held_out(text) == is_held_out(text.upper().replace(".", "!")) for text in texts)


def test_the_tokenizer_spells(scripts):
    from nano_bark import text_tokenizer

    tokenizer = text_tokenizer()
    assert tokenizer.tokenize("The zork 7") == ["t", "##h", "##e", "z", "##o", "##r", "##k", "7"]
    assert tokenizer.unk_token_id not in tokenizer("Hello, [laughs] ♪ café…")["input_ids"]


def test_the_laboratory_computes_a_kind_of_head_once(folder, tmp_path, monkeypatch):
    import laboratory

    for name in ("speech", "bark", "secret_tokenizer"):
        (tmp_path / name).symlink_to(folder / name)
    rng = np.random.default_rng(0)
    tokens, codes = (np.load(folder / name) for name in ("tokens.npz", "codes.npz"))
    rows = [
        {
            "id": name, "source": "nano", "kind": "generated", "voice": f"voice {number}", "text": "one.",
            "fold": 18 + number % 2, "in_folds": True,
            "semantic_tokens": tokens[name].tolist(), "audio_codes": codes[name].tolist(),
            "audio": rng.standard_normal(num_samples_of_codec_frames(codes[name].shape[1])) * 0.1,
        }
        for number, name in enumerate(tokens.files)
    ]  # fmt: skip
    Dataset.from_list(rows).save_to_disk(tmp_path / "generated")
    (tmp_path / "human").mkdir()
    soundfile.write(tmp_path / "human" / "somebody-1.flac", rng.standard_normal(32_000) * 0.1, 16_000)
    config = yaml.safe_load((NANO.parent / "configs" / "nano.yaml").read_text())
    config["model"] |= {"backbone": str(folder / "whisper"), "backbone_layers": [1]}
    (tmp_path / "nano.yaml").write_text(yaml.safe_dump(config))
    people = ["--human", str(tmp_path / "human"), "--digits", str(tmp_path / "human")]
    run = [str(tmp_path), str(tmp_path / "nano.yaml"), *people, "--steps", "1", "--heads"]
    laboratory.main([*run, "k-means: token means"])
    table = json.loads((tmp_path / "heads.json").read_text())
    assert list(table) == ["k-means: token means, 1 steps"]
    kinds = table["k-means: token means, 1 steps"]
    assert len(kinds) == 4 and all(0 <= row["top_1"]["mean"] <= row["top_5"]["mean"] <= 1 for row in kinds.values())
    asked = []
    monkeypatch.setattr(laboratory, "heads", lambda names, args, clips: asked.extend(names) or [])
    laboratory.main([*run, "k-means: token means", "linear"])
    assert asked == ["linear"] and json.loads((tmp_path / "heads.json").read_text()) == table
    (tmp_path / "encoder").symlink_to(folder / "secret_tokenizer")
    laboratory.main([*run[:-1], "--own", str(tmp_path / "generated")])
    table = json.loads((tmp_path / "laboratory.json").read_text())
    heard = table["the secret tokenizer"]["generated, audio"]
    assert heard["clips"] == len(rows) and heard == table["nano's encoder"]["generated, audio"]
