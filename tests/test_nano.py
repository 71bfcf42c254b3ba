"""nano, the packaged miniature Bark: it speaks, clones, and works like any other Bark."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import BarkModel, BarkProcessor, pipeline

import hf_bark_semantic
from hf_bark_semantic import VoicePrompt, load_bark, nano_bark, nano_encoder, nano_recording, synthesize
from hf_bark_semantic.audio import resample
from hf_bark_semantic.bark.configs import bark_generation_configs
from hf_bark_semantic.bark.examples import Utterance, coarse_example, collate, semantic_example
from hf_bark_semantic.bark.loading import load_codec
from hf_bark_semantic.bark.losses import CoarseLoss, SemanticLoss
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.sampling import Sampling
from hf_bark_semantic.cli.main import main
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.evaluation.judges import load_speaker_embedder, load_transcriber
from hf_bark_semantic.evaluation.sequences import word_errors
from hf_bark_semantic.modeling_bark_semantic import BarkSemanticEncoderModel
from hf_bark_semantic.trainers.encoder import new_model
from hf_bark_semantic.trainers.settings import read_config

CHECKPOINTS = nano_bark().parent
DIGITS = ["one seven three.", "four four nine zero.", "two eight five one.", "six three zero seven nine."]
SENTENCE = "The old farmer sells a red chair."
GREEDY = {stage: Sampling(0.0, min_eos_p=None) for stage in ("semantic", "coarse", "fine")}


@pytest.fixture(scope="module")
def nano() -> tuple[BarkModel, BarkProcessor]:
    return load_bark("nano")


@pytest.fixture(scope="module")
def presets(nano) -> dict[str, VoicePrompt]:
    bark, processor = nano
    configs = bark_generation_configs(bark)
    sizes = {"semantic_vocab_size": configs.semantic.semantic_vocab_size, "codebook_size": configs.codebook_size}
    names = processor.available_voice_presets
    arrays = {name: processor(".", voice_preset=name, return_tensors="np")["history_prompt"] for name in names}
    return {name: VoicePrompt.load(dict(prompt), **sizes) for name, prompt in arrays.items()}


@pytest.fixture(scope="module")
def speak():
    return pipeline("voice-cloning", model=str(nano_encoder()), bark="nano")


def test_the_recipe_for_a_corpus_of_nano_takes_the_backbone_of_the_packaged_encoder():
    model = new_model(read_config("nano_corpus")["model"], seed=0).eval()
    packaged = BarkSemanticEncoderModel.from_pretrained(nano_encoder()).eval()
    waveform = torch.from_numpy(hf_bark_semantic.load_audio(nano_recording())[:16_000])[None]
    with torch.no_grad():
        ours, theirs = (encoder.backbone(waveform, None) for encoder in (model, packaged))
    assert len(ours) == max(model.config.backbone_layers) + 1 and all(map(torch.equal, ours, theirs))


@pytest.fixture(scope="module")
def spoken(nano, presets) -> list:
    """Digit strings in the voices of the presets, as they come by default."""
    bark, processor = nano
    voices = list(presets.values())
    requests = [
        SynthesisRequest(text=text, voice_prompt=voices[i % len(voices)], seed=i)
        for i, text in enumerate(DIGITS + DIGITS)
    ]
    return list(synthesize(bark, requests, tokenizer=processor.tokenizer))


def test_all_checkpoints_of_the_package_fit_into_100_mb():
    assert sum(path.stat().st_size for path in CHECKPOINTS.rglob("*") if path.is_file()) <= 100e6
    kinds = {path.suffix or path.name for path in CHECKPOINTS.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".safetensors", ".md", ".npy", "SHA256SUMS"}, "weights without pickles"


def test_a_clone_is_reported_as_nano_reads_it(nano, tmp_path, capsys):
    semantic = bark_generation_configs(nano[0]).semantic
    assert main(["clone", str(nano_recording()), "--bark", "nano", "--output", str(tmp_path / "voice.npz")]) == 0
    shown = capsys.readouterr().out
    assert f"semantic stage reads the last {semantic.max_input_semantic_length} tokens" in shown
    assert "have no effect" not in shown


def test_its_codec_loads_alone(nano):
    codec, (bark, _) = load_codec("nano"), nano
    torch.testing.assert_close(codec.state_dict(), dict(bark.codec_model.state_dict()))


def test_nothing_is_said_of_weights_that_loading_makes_anew():
    program = "from hf_bark_semantic.bark import loading as b; b.load_codec('nano'); b.load_bark('nano')"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "MISSING" not in told.stdout + told.stderr


def test_it_loads_from_its_folder_as_any_bark_does():
    bark, processor = BarkModel.from_pretrained(nano_bark()), BarkProcessor.from_pretrained(nano_bark())
    assert bark.dtype == torch.float32
    longest = bark_generation_configs(bark).semantic.max_input_semantic_length
    audio = bark.generate(
        **processor(DIGITS[0], voice_preset=processor.available_voice_presets[0], max_length=longest),
        semantic_max_new_tokens=20,
    )
    assert torch.isfinite(audio).all() and audio.shape[-1] == 320 * num_codec_frames(20)


def test_none_of_its_ids_is_sunos(nano):
    configs = bark_generation_configs(nano[0])
    semantic, coarse = configs.semantic, configs.coarse
    ids = {semantic.semantic_vocab_size, semantic.eos_token_id, semantic.text_encoding_offset}
    ids |= {semantic.text_pad_token, semantic.semantic_infer_token}
    ids |= {coarse.coarse_semantic_pad_token, coarse.coarse_infer_token}
    assert not ids & {10_000, 10_048, 129_595, 129_599, 12_048, 12_050}


def test_its_presets_are_voice_prompts(presets):
    assert len(presets) >= 8
    for prompt in presets.values():
        assert prompt.num_tokens >= 150 and prompt.audio_codes.shape == (8, num_codec_frames(prompt.num_tokens))


def test_some_of_the_digits_in_the_voices_of_presets_are_understood(spoken):
    """A floor for a few clips, far from chance and from good; `training/evaluate_voice.py` measures."""
    transcribe = load_transcriber()
    errors = words = 0
    for text, result in zip(DIGITS + DIGITS, spoken, strict=True):
        assert result.finish_reason == "eos"
        counts = word_errors(text, transcribe(resample(result.waveform, 24_000, 16_000)))
        errors, words = errors + counts.errors, words + counts.num_reference
    assert errors <= 0.5 * words


def test_the_encoder_finds_the_tokens_that_nano_spoke_from(spoken):
    encode = pipeline("audio-to-bark-semantic", model=str(nano_encoder()))
    equal, total = 0, 0
    for result in spoken:
        found = encode({"array": result.waveform, "sampling_rate": 24_000})["semantic_tokens"]
        length = min(len(found), len(result.semantic_tokens))
        assert abs(len(found) - len(result.semantic_tokens)) <= 1
        equal, total = equal + (found[:length] == result.semantic_tokens[:length]).sum(), total + length
    assert equal >= 0.5 * total


def test_a_voice_that_no_stage_has_heard_is_cloned_from_the_packaged_recording(speak):
    said = speak(str(nano_recording()), "two five eight one three. nine zero four seven six.", seed=1)
    assert said["sampling_rate"] == 24_000 and said["voice_prompt"].num_tokens >= 150
    other = speak(said["voice_prompt"], "two five eight one three.", prompt_mode="none", seed=1)
    embed = load_speaker_embedder()
    voice = embed(hf_bark_semantic.load_audio(nano_recording()))
    near, far = (embed(resample(speech["audio"], 24_000, 16_000)) @ voice for speech in (said, other))
    assert near > 0.6 and near > far


def test_the_same_seed_says_the_same_and_another_seed_something_else(speak):
    prompt = speak(str(nano_recording()))["voice_prompt"]
    first, again, other = (speak(prompt, SENTENCE, seed=seed)["audio"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other) or not np.allclose(first, other)


@pytest.mark.parametrize(("voice", "num_tokens"), [(None, 25), (None, 150), (0, 25), (0, 150), (-1, 440)])
def test_greedy_speech_is_that_of_transformers_to_the_sample(nano, presets, voice, num_tokens):
    bark, processor = nano
    name = None if voice is None else list(presets)[voice]
    longest = bark_generation_configs(bark).semantic.max_input_semantic_length
    inputs = processor(f"{SENTENCE} {DIGITS[3]}", voice_preset=name, max_length=longest)
    waveform = bark.generate(**inputs, do_sample=False, semantic_max_new_tokens=num_tokens, fine_temperature=None)
    request = SynthesisRequest(
        text=f"{SENTENCE} {DIGITS[3]}", voice_prompt=presets.get(name), max_semantic_tokens=num_tokens,
        prompt_mode="none" if name is None else "full", **GREEDY,
    )  # fmt: skip
    (result,) = synthesize(bark, [request], tokenizer=processor.tokenizer, transformers_rules=True)
    assert len(result.semantic_tokens) >= 25
    np.testing.assert_array_equal(result.waveform, waveform[0])


def test_teacher_forcing_says_what_greedy_generation_says(nano, presets):
    bark, processor = nano
    configs, history = bark_generation_configs(bark), next(iter(presets.values()))
    request = SynthesisRequest(text=SENTENCE, voice_prompt=history, max_semantic_tokens=80, **GREEDY)
    (result,) = synthesize(bark, [request], tokenizer=processor.tokenizer, transformers_rules=True)
    ids = processor.tokenizer(SENTENCE, add_special_tokens=False)["input_ids"]
    ended = result.finish_reason == "eos"
    clip = Utterance(np.array(ids), result.semantic_tokens, result.audio_codes, complete=ended)
    past = Utterance(np.array(ids), history.semantic_tokens, history.audio_codes)
    examples = {
        SemanticLoss(bark.semantic, configs): semantic_example(clip, past, configs),
        CoarseLoss(bark.coarse_acoustics, configs): coarse_example(clip, past, configs, past_targets=False),
    }
    for loss, example in examples.items():
        with torch.no_grad():
            logits, classes = loss.eval().target_logits(**collate([example], configs))
        assert len(classes) >= 50 and torch.equal(logits.argmax(-1), classes)


def test_its_cards_give_measured_figures():
    for name in ("nano", "nano-encoder"):
        card = (CHECKPOINTS / name / "README.md").read_text(encoding="utf-8")
        assert re.search(r"\d+\.\d% \[", card) and "whose owners agreed" in card.replace("\n", " ")
