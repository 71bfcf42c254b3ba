"""Voice prompts from recordings, with a tiny encoder and a tiny codec."""

import numpy as np
import pytest
import torch
from transformers import EncodecModel, pipeline
from transformers.utils import logging

from hf_bark_semantic.audio import loading, resample, save_audio
from hf_bark_semantic.bark.configs import HistoryLengths
from hf_bark_semantic.bark.loading import load_codec
from hf_bark_semantic.bark.text_informed import TextInformedDecoder
from hf_bark_semantic.bark.voice_prompt import VoicePromptError
from hf_bark_semantic.pipelines.encoding import TASK
from hf_bark_semantic.voices.cloning import clearest_window, clone_voice, encode_codes
from tiny import noise, tiny_bark, tiny_bark_processor, tiny_codec_config, tiny_encoder


@pytest.fixture(scope="module")
def encode():
    return pipeline(TASK, model=tiny_encoder(), device="cpu")


@pytest.fixture(scope="module")
def codec() -> EncodecModel:
    torch.manual_seed(0)
    return EncodecModel(tiny_codec_config()).eval()


def test_codes_are_bark_s_eight_codebooks(codec):
    codes = encode_codes(noise(1.0, sampling_rate=24_000), codec)
    assert codes.shape == (8, 75)
    assert codes.dtype == np.int64


def test_cloned_voice_holds_tokens_and_codes_of_the_best_window(encode, codec):
    recording = noise(9.0, sampling_rate=24_000)
    voice = clone_voice({"array": recording, "sampling_rate": 24_000}, encode, codec=codec)
    (window,) = voice.windows
    assert 5.1 < window.end_s - window.start_s < 6.9
    clip = window.cut(recording, 24_000)
    codes = encode_codes(clip, codec)
    assert np.array_equal(voice.prompt.audio_codes, codes[:, : voice.prompt.num_frames])
    tokens = encode({"array": clip, "sampling_rate": 24_000})["semantic_tokens"]
    assert np.array_equal(voice.prompt.semantic_tokens, tokens[: voice.prompt.num_tokens])
    assert voice.report.sound is not None
    assert 0 < voice.confidence < 1


def test_of_windows_that_sound_alike_the_one_is_taken_of_which_the_encoder_is_surest(codec):
    phrase, pause, asked = noise(5.6, 0, 24_000), np.zeros(4_800, np.float32), []
    recording = np.concatenate([phrase, pause, phrase + np.float32(0.05), pause, phrase, pause])

    class Encoder:
        model = tiny_encoder()

        def __call__(self, inputs, **options):
            asked.extend(map(len, inputs))
            return [{"confidence": np.full(10, 0.9 if clip.mean() > 0.04 else 0.1)} for clip in inputs]

    window = clearest_window(recording, Encoder(), codec=codec, min_s=5.13, max_s=5.9)
    assert len(asked) > 2
    assert 5.7 < window.start_s < window.end_s < 11.7


def test_a_long_recording_gives_the_voice_that_it_gives_at_once(encode, codec, tmp_path, monkeypatch):
    quiet, loud = noise(10.0, sampling_rate=24_000) * 0.02, noise(8.0, 1, 24_000)
    file = save_audio(tmp_path / "long.flac", np.concatenate([quiet] * 4 + [loud] + [quiet] * 3), 24_000)
    expected = clone_voice(file, encode, codec=codec)
    monkeypatch.setattr(loading, "LONG_S", 10.0)
    voice = clone_voice(file, encode, codec=codec)
    assert 39 < voice.windows[0].start_s < 48
    assert voice.windows == expected.windows
    assert voice.prompt == expected.prompt
    assert voice.report == expected.report


def test_the_part_that_is_taken_is_transcribed_and_its_words_inform_its_tokens(encode, codec):
    given, heard, said = noise(9.0, sampling_rate=24_000), [], iter(["the cat sleeps ", " "])
    recording = {"array": given, "sampling_rate": 24_000}
    decoder = TextInformedDecoder(tiny_bark(max_new_tokens=400), tiny_bark_processor().tokenizer)

    def transcribe(waveform):
        heard.append(waveform)
        return next(said)

    options = {"codec": codec, "histories": HistoryLengths(100, 240, 200)}
    plain = clone_voice(recording, encode, **options)
    voice, silent = (clone_voice(recording, encode, **options, transcribe=transcribe, bark=decoder) for _ in "ab")
    clip = resample(voice.windows[0].cut(given, 24_000), 24_000, 16_000)
    assert plain.windows == voice.windows and np.array_equal(heard[0], clip)
    assert (plain.texts, voice.texts, silent.texts) == ((), ("the cat sleeps",), ("",))
    informed = encode(clip, source_sampling_rate=16_000, text="the cat sleeps", bark=decoder)["semantic_tokens"]
    assert np.array_equal(voice.prompt.semantic_tokens, informed[: voice.prompt.num_tokens])
    assert np.array_equal(voice.prompt.audio_codes, plain.prompt.audio_codes)
    assert silent.prompt == plain.prompt != voice.prompt


def test_several_recordings_share_the_prompt(encode, codec):
    recordings = [{"array": noise(6.0, seed, 24_000), "sampling_rate": 24_000} for seed in range(3)]
    voice = clone_voice(recordings, encode, codec=codec)
    assert len(voice.windows) == len(voice.reports) == 3
    assert all(window.end_s - window.start_s < 6.83 / 3 + 0.02 for window in voice.windows)
    assert 250 < voice.prompt.num_tokens <= 341


def test_codes_only_encoder_clones_from_codes(codec):
    encode = pipeline(TASK, model=tiny_encoder(None, codec_hidden_size=16), device="cpu")
    recording = {"array": noise(6.0, sampling_rate=24_000), "sampling_rate": 24_000}
    assert clone_voice(recording, encode, codec=codec).prompt.num_tokens > 250


def test_several_encoders_clone_as_one(codec):
    members = [tiny_encoder(), tiny_encoder(head_type="recurrent")]
    recording = {"array": noise(9.0, sampling_rate=24_000), "sampling_rate": 24_000}
    encode = pipeline(TASK, model=members, device="cpu")
    voice = clone_voice(recording, encode, codec=codec)
    tokens = encode({"array": voice.windows[0].cut(recording["array"], 24_000), "sampling_rate": 24_000})
    assert np.array_equal(voice.prompt.semantic_tokens, tokens["semantic_tokens"][: voice.prompt.num_tokens])
    alone = [clone_voice(recording, pipeline(TASK, model=model, device="cpu"), codec=codec) for model in members]
    assert voice.prompt not in [other.prompt for other in alone]


@pytest.mark.parametrize("count", [0, 9])
def test_number_of_recordings_is_limited(encode, codec, count):
    with pytest.raises(VoicePromptError, match="needs 1 to 8"):
        clone_voice([noise(1.0)] * count, encode, codec=codec)


def test_codec_is_loaded_from_encodec_and_from_bark_alike(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.get_logger("transformers"), "propagate", True)  # or caplog receives nothing
    bark = tiny_bark()
    bark.save_pretrained(tmp_path / "bark")
    bark.codec_model.save_pretrained(tmp_path / "encodec")
    expected = bark.codec_model.state_dict()
    for name in ("bark", "encodec"):
        with caplog.at_level("WARNING"):
            loaded = load_codec(tmp_path / name)
        assert not loaded.training
        assert loaded.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    assert "UNEXPECTED" not in caplog.text


def test_codec_of_other_models_is_refused(tmp_path):
    EncodecModel(tiny_codec_config(upsampling_ratios=[8, 5, 4, 4])).save_pretrained(tmp_path / "slow")
    with pytest.raises(ValueError, match="75"):
        load_codec(tmp_path / "slow")
    tiny_encoder().config.backbone_config.save_pretrained(tmp_path / "hubert")
    with pytest.raises(ValueError, match="'hubert' model; Bark's codec is an EnCodec"):
        load_codec(tmp_path / "hubert")


def test_codec_that_is_not_cached_says_what_to_type(tmp_path):
    with pytest.raises(OSError, match="hf download nobody/encodec"):
        load_codec("nobody/encodec", cache_dir=tmp_path)
