"""The "voice-cloning" pipeline on a tiny Bark none of whose ids is Suno's."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    BarkConfig,
    BarkModel,
    BarkProcessor,
    EncodecModel,
    GenerationConfig,
    PreTrainedModel,
    pipeline,
)
from transformers.models.bark.generation_configuration_bark import BarkSemanticGenerationConfig
from transformers.pipelines import PIPELINE_REGISTRY

import hf_bark_semantic
from hf_bark_semantic.audio import AudioError, save_audio
from hf_bark_semantic.bark.loading import (
    check_bark,
    load_bark,
    load_bark_codec,
    load_bark_processor,
    load_codec,
    load_configs,
)
from hf_bark_semantic.bark.voice_prompt import VoicePrompt, VoicePromptError
from hf_bark_semantic.pipelines import cloning as voice_cloning_pipeline
from hf_bark_semantic.pipelines.cloning import VOICE_CLONING_TASK, VoiceCloningPipeline, register_pipeline
from hf_bark_semantic.voices.cloning import clone_voice, encode_codes
from hf_bark_semantic.voices.speaking import Speech, SpeechOptions, prompt_from_transcript, speak_text
from tiny import (
    noise,
    random_codes,
    save_tiny_encoder,
    tiny_bark,
    tiny_bark_processor,
    tiny_codec_config,
    tiny_encoder,
    tiny_prompt,
)

SIZES = {"semantic_vocab_size": 50, "codebook_size": 1024}
TEXT = "the dog runs"


def recording(seconds: float = 2.0, seed: int = 0) -> dict:
    return {"array": noise(seconds, seed, 24_000), "sampling_rate": 24_000}


@pytest.fixture(scope="module")
def speak(bark_folder) -> VoiceCloningPipeline:
    return pipeline("voice-cloning", model=tiny_encoder(), bark=bark_folder, device="cpu")


# ---- what comes out


def test_list_of_encoders_clones_as_one(speak, bark_folder):
    members = [tiny_encoder(), tiny_encoder(head_type="recurrent")]
    several = pipeline("voice-cloning", model=members, weights=[2, 1], bark=bark_folder, device="cpu")
    prompt = several(recording())["voice_prompt"]
    assert prompt == clone_voice(recording(), several.encoder, codec=speak.bark.codec_model).prompt
    assert prompt != speak(recording())["voice_prompt"]
    with pytest.raises(ValueError, match="vocabulary of 40"):
        pipeline("voice-cloning", model=[tiny_encoder(vocab_size=40)] * 2, bark=bark_folder, device="cpu")


def test_recording_and_text_give_speech_and_the_voice_prompt(speak):
    result = speak(recording(), TEXT, seed=1)
    assert set(result) == {"audio", "sampling_rate", "voice_prompt", "warnings"}
    assert result["audio"].dtype == np.float32
    assert result["audio"].ndim == 1
    assert (result["sampling_rate"], result["warnings"]) == (24_000, ())
    assert result["voice_prompt"] == clone_voice(recording(), speak.encoder, codec=speak.bark.codec_model).prompt
    assert result["voice_prompt"].semantic_vocab_size == 50
    expected = speak_text(
        speak.bark,
        TEXT,
        result["voice_prompt"],
        tokenizer=speak.bark_processor.tokenizer,
        options=SpeechOptions(seed=1),
    )
    assert np.array_equal(result["audio"], expected.waveform)


def test_bark_of_suno_s_ids_goes_the_same_way():
    stages = ("semantic_config", "coarse_acoustics_config", "fine_acoustics_config")
    shape = {"num_layers": 1, "num_heads": 2, "hidden_size": 8}  # the vocabularies are transformers' defaults: Suno's
    config = BarkConfig(**{stage: dict(shape) for stage in stages}, codec_config=tiny_codec_config().to_dict())
    config.semantic_config.input_vocab_size = BarkSemanticGenerationConfig().semantic_infer_token + 1
    config.coarse_acoustics_config.input_vocab_size = config.coarse_acoustics_config.output_vocab_size = 12_096
    config.fine_acoustics_config.input_vocab_size = config.fine_acoustics_config.output_vocab_size = 1_056
    bark = BarkModel(config)
    parts = {**{stage: {} for stage in stages}, "semantic_config": {"max_new_tokens": 40}}
    bark.generation_config = GenerationConfig(**parts, codebook_size=1024, sample_rate=24_000)
    encoder = tiny_encoder(vocab_size=BarkSemanticGenerationConfig().semantic_vocab_size)
    speak = pipeline("voice-cloning", model=encoder, bark=bark, bark_processor=tiny_bark_processor(), device="cpu")
    result = speak(recording(), TEXT)
    assert result["voice_prompt"].semantic_vocab_size == encoder.config.vocab_size
    assert len(result["audio"])


def test_recording_alone_gives_its_voice_prompt(speak):
    result = speak(recording())
    assert set(result) == {"voice_prompt"}
    assert result["voice_prompt"].num_tokens == 100


def test_recording_converts_into_the_voice(speak):
    result = speak(tiny_prompt(), convert=recording(1.5, seed=1))
    assert abs(len(result["audio"]) / 24_000 - 1.5) < 0.05
    with pytest.raises(ValueError, match="not both"):
        speak(tiny_prompt(), TEXT, convert=recording())


def test_stream_is_the_call_piece_by_piece(speak):
    text = "The dog runs to the house. A cat sleeps! One, two, three. The man laughs at the dog."
    for voice, options in ((recording(), {"seed": 3}), (None, {"prompt_mode": "none", "batch_size": 2})):
        pieces = list(speak.stream(voice, text, **options))
        whole = speak(voice, text, **options)
        assert len(pieces) > 2
        assert np.array_equal(np.concatenate([piece["audio"] for piece in pieces]), whole["audio"])
        assert [piece["number"] for piece in pieces] == [*range(1, pieces[0]["num_pieces"] + 1)]
        assert all(piece["voice_prompt"] == whole["voice_prompt"] for piece in pieces)
        assert {piece["sampling_rate"] for piece in pieces} == {whole["sampling_rate"]}
    (converted,) = speak.stream(tiny_prompt(), convert=recording(1.5, seed=1))
    assert np.array_equal(converted["audio"], speak(tiny_prompt(), convert=recording(1.5, seed=1))["audio"])


def test_what_cannot_be_streamed_is_refused_before_anything_is_spoken(speak):
    with pytest.raises(ValueError, match="nothing to speak"):
        speak.stream(tiny_prompt())
    with pytest.raises(ValueError, match="not both"):
        speak.stream(tiny_prompt(), TEXT, convert=recording())
    with pytest.raises(VoicePromptError, match="no voice"):
        speak.stream(text=TEXT)
    with pytest.raises(TypeError, match="no option `sed`"):
        speak.stream(tiny_prompt(), TEXT, sed=1)


def test_every_form_of_a_voice_prompt_speaks_alike(speak, tmp_path):
    path = tiny_prompt().save(tmp_path / "voice.npz")
    expected = speak(tiny_prompt(), TEXT)
    for voice in (path, str(path), tiny_prompt().to_dict(), VoicePrompt.load(path), "v2/en_a", "announcer"):
        result = speak(voice, TEXT)
        assert result["voice_prompt"] == tiny_prompt()
        assert result["voice_prompt"].semantic_vocab_size == 50
        assert np.array_equal(result["audio"], expected["audio"])


def test_every_form_of_a_recording_gives_the_same_voice(speak, tmp_path):
    path = save_audio(tmp_path / "me.wav", noise(2.0, 0, 24_000), 24_000)
    expected = speak(recording())["voice_prompt"]
    for voice in (path, str(path), path.read_bytes(), [path], (str(path),)):
        assert speak(voice)["voice_prompt"] == expected
    for samples in (noise(2.0, 0, 24_000), torch.from_numpy(noise(2.0, 0, 24_000))):
        assert speak(samples, source_sampling_rate=24_000)["voice_prompt"] == expected


def test_several_recordings_make_one_voice(speak):
    assert 190 < speak([recording(2.0, 0), recording(2.0, 1)])["voice_prompt"].num_tokens <= 200


# ---- options


def test_options_of_the_pipeline_are_those_of_its_calls(speak, monkeypatch):
    seen = []
    spoken = Speech(np.zeros(1, np.float32), 24_000, ())
    monkeypatch.setattr(voice_cloning_pipeline, "speak_text", lambda *args, **kwargs: seen.append(kwargs) or spoken)
    of_pipeline = pipeline(
        "voice-cloning", model=speak.model, processor=speak.processor, bark=speak.bark,
        bark_processor=speak.bark_processor, device="cpu", batch_size=3, seed=7, fine_temperature=0.1,
    )  # fmt: skip
    of_pipeline(tiny_prompt(), TEXT)
    of_pipeline(tiny_prompt(), TEXT, batch_size=2, seed=8, long_form="rolling", prompt_mode="semantic")
    assert [call["batch_size"] for call in seen] == [3, 2]
    assert seen[0]["options"] == SpeechOptions(seed=7, fine_temperature=0.1)
    assert seen[1]["options"] == SpeechOptions(
        seed=8, fine_temperature=0.1, long_form="rolling", prompt_mode="semantic"
    )


def test_speech_without_a_prompt_needs_no_voice(speak):
    result = speak(None, TEXT, prompt_mode="none")
    assert result["voice_prompt"] is None
    for unused in (recording(), tiny_prompt(), "v2/en_a"):
        spoken = speak(unused, TEXT, prompt_mode="none")
        assert spoken["voice_prompt"] is None
        assert np.array_equal(spoken["audio"], result["audio"])
    with pytest.raises(VoicePromptError, match="no voice"):
        speak(text=TEXT)


def test_transcript_replaces_the_encoder(speak, monkeypatch):
    monkeypatch.setattr(voice_cloning_pipeline, "clone_voice", None)
    result = speak(recording(), TEXT, prompt_mode="acoustic", reference_text="the cat sleeps", seed=2)
    codes = encode_codes(noise(2.0, 0, 24_000), speak.bark.codec_model)
    options = SpeechOptions(seed=2)
    tokenizer = speak.bark_processor.tokenizer
    expected = prompt_from_transcript(speak.bark, "the cat sleeps", codes, tokenizer=tokenizer, options=options)
    assert result["voice_prompt"] == expected
    spoken = speak_text(speak.bark, TEXT, expected, tokenizer=tokenizer, options=options)
    assert np.array_equal(result["audio"], spoken.waveform)


@pytest.mark.parametrize("prompt_mode", ["full", "semantic"])
def test_known_words_of_a_recording_inform_its_tokens(speak, prompt_mode):
    result = speak(recording(), TEXT, prompt_mode=prompt_mode, reference_text="the cat sleeps", seed=2)
    prompt, bark = result["voice_prompt"], (speak.bark, speak.bark_processor)
    plain, informed = (speak.encoder(recording(), **words)["semantic_tokens"] for words in
                       ({}, {"text": "the cat sleeps", "bark": bark}))  # fmt: skip
    assert np.array_equal(prompt.semantic_tokens, informed[: prompt.num_tokens])
    assert not np.array_equal(prompt.semantic_tokens, plain[: prompt.num_tokens])
    assert np.array_equal(result["audio"], speak(prompt, TEXT, prompt_mode=prompt_mode, seed=2)["audio"])


@pytest.mark.parametrize(
    ("voice", "options", "message"),
    [
        (recording(), {"prompt_mode": "none"}, "not for 1 recordings and prompt_mode='none'"),
        (recording(), {"reference_text": " "}, "text"),
        ([recording(), recording()], {"prompt_mode": "acoustic"}, "2 recordings"),
        (tiny_prompt(), {"prompt_mode": "acoustic"}, "0 recordings"),
        (recording(14.1), {"prompt_mode": "acoustic"}, "lasts 14.1 s"),
    ],
)
def test_transcript_is_for_one_short_recording(speak, voice, options, message):
    with pytest.raises(ValueError, match=message):
        speak(voice, TEXT, **{"reference_text": "the cat", **options})


def test_unknown_options_are_refused(speak, bark_folder):
    with pytest.raises(TypeError, match="no option `temperature`; there are prompt_mode, semantic_temperature"):
        speak(tiny_prompt(), TEXT, temperature=0.5)
    with pytest.raises(TypeError, match="no option `speed`"):
        pipeline("voice-cloning", model=tiny_encoder(), bark=bark_folder, device="cpu", speed=2)


# ---- voices that cannot be used


def test_voice_that_is_nowhere_names_the_presets(speak):
    with pytest.raises(AudioError, match=r"no file 'v2/en_b' and no such preset; this Bark has 2 presets \(v2/en_a, "):
        speak("v2/en_b", TEXT)


def test_prompt_of_another_bark_is_refused(speak):
    with pytest.raises(VoicePromptError, match="for a Bark of 20 semantic tokens, and this is a Bark of 50"):
        speak(VoicePrompt([3] * 60, random_codes(90), semantic_vocab_size=20), TEXT)
    with pytest.raises(VoicePromptError, match="for Suno's Bark, and this is a Bark of 50"):
        speak(VoicePrompt([777] * 60, random_codes(90)), TEXT)


@pytest.mark.parametrize(("text", "error"), [("", ValueError), (["a", "b"], TypeError)])
def test_text_is_one_text(speak, text, error):
    with pytest.raises(error, match="`text` is"):
        speak(tiny_prompt(), text)


# ---- building it


def test_encoder_of_other_tokens_is_refused(bark_folder):
    with pytest.raises(ValueError, match="vocabulary of 40 semantic tokens and the Bark one of 50.*trained for this"):
        pipeline("voice-cloning", model=tiny_encoder(vocab_size=40), bark=bark_folder, device="cpu")


def test_bark_model_is_taken_as_it_is(speak, bark_folder):
    bark, processor = load_bark(bark_folder)
    of_model = pipeline("voice-cloning", model=speak.model, processor=speak.processor, bark=bark)
    assert of_model.bark is bark
    assert of_model.voice_presets == processor.available_voice_presets == ["v2/en_a", "announcer"]
    assert np.array_equal(of_model("announcer", TEXT)["audio"], speak("announcer", TEXT)["audio"])
    with pytest.raises(ValueError, match="Pass bark_processor="):
        pipeline("voice-cloning", model=speak.model, processor=speak.processor, bark=tiny_bark())
    with pytest.raises(TypeError, match="`bark` is a EncodecModel"):
        pipeline("voice-cloning", model=speak.model, processor=speak.processor, bark=bark.codec_model)


def test_models_are_swapped_neither_for_encoders_nor_for_each_other(bark_folder):
    with pytest.raises(TypeError, match="needs a BarkSemanticEncoderModel"):
        pipeline("voice-cloning", model=tiny_bark(), bark=bark_folder, device="cpu")


def test_dtype_is_that_of_both_models_but_the_codec(bark_folder, tmp_path):
    save_tiny_encoder(tmp_path)
    half = pipeline("voice-cloning", model=str(tmp_path), bark=bark_folder, device="cpu", dtype=torch.bfloat16)
    assert half.model.dtype == half.bark.semantic.dtype == torch.bfloat16
    assert half.bark.codec_model.dtype == torch.float32
    assert half(recording(), TEXT)["audio"].dtype == np.float32


def test_saved_pipeline_is_the_encoder(speak, bark_folder, tmp_path):
    speak.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "processor_config.json"}
    again = pipeline("voice-cloning", model=str(tmp_path), bark=bark_folder, device="cpu")
    assert again(recording())["voice_prompt"] == speak(recording())["voice_prompt"]


def test_nano_and_its_encoder_are_the_default(package_with_nano):
    speak = pipeline("voice-cloning", device="cpu")
    assert speak.model.config.name_or_path == str(package_with_nano / "NANO_ENCODER")
    assert speak.voice_presets == ["v2/en_a", "announcer"]
    assert speak(recording())["voice_prompt"].semantic_vocab_size == 50
    with_name = pipeline("voice-cloning", bark="nano", device="cpu")
    assert with_name.model.config.name_or_path == speak.model.config.name_or_path


def test_without_a_model_the_packaged_encoder_that_fits_is_taken(package_with_nano, tmp_path, caplog):
    bark = tiny_bark(vocab_size=40)
    speak = pipeline("voice-cloning", bark=bark, bark_processor=tiny_bark_processor(), device="cpu")
    assert speak.model.config.name_or_path == str(package_with_nano / "BUILTIN_ENCODER")
    assert "takes the place" in caplog.text
    assert speak(recording())["voice_prompt"].semantic_vocab_size == 40


def test_without_a_fitting_encoder_prompts_and_presets_still_speak(package_with_nano):
    bark = tiny_bark(vocab_size=30)
    speak = pipeline("voice-cloning", bark=bark, bark_processor=tiny_bark_processor(), device="cpu")
    voice = VoicePrompt([3] * 60, random_codes(90), semantic_vocab_size=30)
    assert len(speak(voice, TEXT)["audio"])
    for arguments in ((recording(), TEXT), (voice, None, recording())):
        with pytest.raises(ValueError, match="vocabulary of 50 semantic tokens and the Bark one of 30"):
            speak(*arguments[:2], convert=arguments[2] if len(arguments) == 3 else None)


def test_registering_again_changes_nothing():
    before = PIPELINE_REGISTRY.supported_tasks[VOICE_CLONING_TASK]
    register_pipeline()
    assert PIPELINE_REGISTRY.supported_tasks[VOICE_CLONING_TASK] is before


# ---- loading a Bark


def test_package_without_nano_says_so(tmp_path, monkeypatch):
    for name, find in (
        ("NANO_BARK", hf_bark_semantic.nano_bark),
        ("NANO_ENCODER", hf_bark_semantic.nano_encoder),
        ("NANO_RECORDING", hf_bark_semantic.packaged.nano_recording),
    ):
        monkeypatch.setattr(f"hf_bark_semantic.packaged.{name}", tmp_path / f"{name}.flac")
        with pytest.raises(FileNotFoundError, match="This installation has no .*Name .*or reinstall"):
            find()
    for load in (load_bark, load_bark_processor, load_codec, load_configs):
        with pytest.raises(FileNotFoundError, match="--bark"):
            load("nano")


def test_loading_leaves_the_classes_of_transformers_as_they_were(bark_folder):
    bark, codec = load_bark(bark_folder)[0], load_codec(bark_folder)
    assert (type(bark), type(codec)) == (BarkModel, EncodecModel)
    for kind in (BarkModel, EncodecModel):
        assert kind._keys_to_ignore_on_load_missing == PreTrainedModel._keys_to_ignore_on_load_missing


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_codec_is_loaded_with_all_that_recordings_need_and_without_the_rest_of_its_bark(
    bark_folder, tmp_path, monkeypatch, file
):
    bark = load_bark(bark_folder)[0]
    folder = shutil.copytree(bark_folder, tmp_path / "bark")
    (folder / "model.safetensors").unlink()
    weights = {f"codec_model.{name}": weight for name, weight in bark.codec_model.state_dict().items()}
    weights["semantic.lm_head.weight"] = torch.zeros(1)  # which would not fit
    if file.endswith(".bin"):
        torch.save(weights, folder / file)
    else:
        save_file(weights, folder / file, metadata={"format": "pt"})
    monkeypatch.setattr(BarkModel, "__init__", None)
    codec, processor, configs = load_bark_codec(folder)
    assert type(codec) is EncodecModel and not codec.training
    loaded = codec.state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in bark.codec_model.state_dict().items())
    assert processor.available_voice_presets == ["v2/en_a", "announcer"]
    assert configs.vocabularies == check_bark(bark).vocabularies


def test_what_is_no_bark_is_refused(tmp_path, bark_folder):
    EncodecModel(tiny_codec_config()).save_pretrained(tmp_path / "codec")
    for load in (load_bark, load_bark_codec):
        with pytest.raises(ValueError, match="'encodec' model. Name a Bark"):
            load(tmp_path / "codec")
    with pytest.raises(OSError, match="Cannot load the Bark 'nobody/bark'.*hf download nobody/bark"):
        load_bark("nobody/bark", cache_dir=tmp_path)
    tiny_bark().save_pretrained(tmp_path / "mute")
    with pytest.raises(OSError, match=r"no tokenizer in .*pass bark_processor="):
        load_bark(tmp_path / "mute")
    for folder in (bark_folder, tmp_path / "mute"):
        assert load_configs(folder).semantic.semantic_vocab_size == 50


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("semantic_config", "semantic_rate_hz", 50.0),
        ("coarse_acoustics_config", "coarse_rate_hz", 50),
        ("fine_acoustics_config", "n_fine_codebooks", 4),
        (None, "sample_rate", 16_000),
        (None, "codebook_size", 512),
    ],
)
def test_bark_of_other_rates_is_refused(part, name, value):
    bark = tiny_bark()
    values = bark.generation_config.to_dict()
    (values if part is None else values[part])[name] = value
    bark.generation_config = GenerationConfig(**values)
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        check_bark(bark)


def test_processor_with_a_damaged_preset_says_which(bark_folder, tmp_path):
    bark, processor = load_bark(bark_folder)
    listed = json.loads((Path(bark_folder) / "speaker_embeddings_path.json").read_text())
    listed["announcer"]["fine_prompt"] = "nowhere.npy"
    processor = BarkProcessor(processor.tokenizer, speaker_embeddings={**listed, "repo_or_path": bark_folder})
    speak = pipeline("voice-cloning", model=tiny_encoder(), bark=bark, bark_processor=processor, device="cpu")
    with pytest.raises(VoicePromptError, match="preset 'announcer' cannot be read"):
        speak("announcer", TEXT)


def test_adapter_changes_the_speech_and_brings_its_voice(bark_folder, tmp_path):
    pytest.importorskip("peft")
    from hf_bark_semantic.bark.adapter_bundle import save_adapters
    from hf_bark_semantic.bark.adapters import add_adapters, lora_config, set_adapters

    bark, processor = load_bark(bark_folder)
    torch.manual_seed(0)
    add_adapters(bark, {stage: lora_config(rank=4) for stage in ("semantic", "coarse")}, name="a")
    with torch.no_grad():
        for name, weight in bark.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 5)
    save_adapters(bark, tmp_path / "bundle", name="a", base_model=bark_folder, voice_prompt=tiny_prompt())
    options = {"model": tiny_encoder(), "bark": bark_folder, "device": "cpu"}
    plain = pipeline("voice-cloning", **options)
    adapted = pipeline("voice-cloning", **options, adapter=str(tmp_path / "bundle"))
    speech = adapted(text="the dog runs")
    assert speech["voice_prompt"] == tiny_prompt()
    unadapted = plain(tiny_prompt(), "the dog runs")
    assert not np.array_equal(speech["audio"], unadapted["audio"])
    set_adapters(adapted.bark, {})
    np.testing.assert_array_equal(adapted(text="the dog runs")["audio"], unadapted["audio"])
