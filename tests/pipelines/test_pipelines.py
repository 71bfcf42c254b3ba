"""The "audio-to-bark-semantic" pipeline: every kind of input, batches, and how it is built."""

import json

import datasets
import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from hf_bark_semantic import BarkSemanticEncoderProcessor, default_encoder
from hf_bark_semantic.audio import AudioError, LongRecording, load_audio, loading, save_audio
from hf_bark_semantic.bark.voice_prompt import VoicePrompt
from hf_bark_semantic.ensemble import EncoderEnsemble
from hf_bark_semantic.packaged import BUILTIN_ENCODER
from hf_bark_semantic.pipelines import encoding
from hf_bark_semantic.pipelines.encoding import TASK, AudioToBarkSemanticPipeline, register_pipeline
from tiny import noise, random_codes, save_tiny_encoder, tiny_encoder


def row(seconds: float, seed: int = 0) -> dict:
    return {"array": noise(seconds, seed), "sampling_rate": 16_000}


def same(result: dict, other: dict) -> bool:
    tolerance = {"rtol": 0, "atol": 1e-5}
    return np.array_equal(result["semantic_tokens"], other["semantic_tokens"]) and np.allclose(
        result["confidence"], other["confidence"], **tolerance
    )


@pytest.fixture(scope="module")
def encode():
    """Reads audio and codes; windows of 2 s, so that 5 s are long."""
    return pipeline(TASK, model=tiny_encoder(codec_hidden_size=16, window_s=2.0, overlap_s=0.4), device="cpu")


# ---- one input


def test_result_holds_tokens_confidence_and_duration(encode):
    result = encode(row(1.0))
    assert set(result) == {"semantic_tokens", "confidence", "num_tokens", "seconds"}
    assert result["semantic_tokens"].dtype == np.int64
    assert result["confidence"].dtype == np.float32
    assert result["num_tokens"] == len(result["semantic_tokens"]) == len(result["confidence"]) == 50
    assert result["seconds"] == 1.0
    assert ((result["confidence"] > 0) & (result["confidence"] <= 1)).all()


def test_result_is_what_the_model_encodes(encode):
    inputs = encode.processor(audio=noise(5.0))
    expected = encode.model.encode(**inputs, top_k=4)
    result = encode(row(5.0), top_k=4)
    assert np.array_equal(result["semantic_tokens"], expected.semantic_tokens[0].numpy())
    assert np.array_equal(result["top_k_tokens"], expected.top_k_tokens[0].numpy())
    assert result["top_k_confidence"].shape == (result["num_tokens"], 4)
    assert np.array_equal(result["top_k_tokens"][:, 0], result["semantic_tokens"])


def test_every_form_of_a_recording_gives_the_same_tokens(encode, tmp_path):
    path = save_audio(tmp_path / "speech.wav", noise(1.0), 16_000)
    expected = encode(row(1.0))
    for source in (str(path), path, path.read_bytes(), {"path": str(path), "bytes": None}, {"audio": row(1.0)}):
        assert same(encode(source), expected)
    with open(path, "rb") as file:
        assert same(encode(file, source_sampling_rate=16_000), expected)  # the rate is for arrays only
    for samples in (noise(1.0), torch.from_numpy(noise(1.0))):
        assert same(encode(samples, source_sampling_rate=16_000), expected)


def test_other_rates_are_resampled(encode):
    source = {"array": noise(1.0, sampling_rate=44_100), "sampling_rate": 44_100}
    expected = encode(load_audio(source, 16_000), source_sampling_rate=16_000)
    assert same(encode(source), expected)


def test_array_without_rate_is_refused(encode):
    with pytest.raises(AudioError, match="source_sampling_rate="):
        encode(noise(1.0))


def test_every_form_of_codes_gives_the_same_tokens(encode, tmp_path):
    prompt = VoicePrompt(np.arange(50), random_codes(75))
    expected = encode({"audio_codes": prompt.audio_codes})
    path = prompt.save(tmp_path / "voice.npz")
    for source in (prompt, path, str(path), prompt.to_dict(), {"audio_codes": torch.from_numpy(random_codes(75))}):
        assert same(encode(source), expected)
    assert expected["num_tokens"] == 50
    assert expected["seconds"] == 1.0


def test_audio_and_codes_are_read_together(encode):
    both = encode({"audio": row(1.0), "audio_codes": random_codes(75)})
    expected = encode.model.encode(**encode.processor(audio=noise(1.0), audio_codes=random_codes(75)))
    assert np.allclose(both["confidence"], expected.confidence[0].numpy(), atol=1e-6)
    assert not same(both, encode(row(1.0)))


def test_codes_of_one_axis_are_refused(encode):
    with pytest.raises(ValueError, match=r"must be \(codebooks, frames\)"):
        encode({"audio_codes": np.arange(75)})


def test_encoder_without_codec_front_end_refuses_codes():
    encode = pipeline(TASK, model=tiny_encoder(), device="cpu")
    with pytest.raises(ValueError, match="no codec front end"):
        encode({"audio_codes": random_codes(75)})


def test_codes_only_encoder_refuses_audio():
    encode = pipeline(TASK, model=tiny_encoder(None, codec_hidden_size=16), device="cpu")
    assert encode({"audio_codes": random_codes(75)})["num_tokens"] == 50
    with pytest.raises(ValueError, match="reads codes only"):
        encode(row(1.0))


# ---- many inputs


def test_batched_equals_single(encode):
    inputs = [row(1.0), {"audio_codes": random_codes(120)}, row(5.0, 1), row(0.5, 2)]
    inputs += [
        {"audio": row(1.0, 3), "audio_codes": random_codes(75, 1)},
        VoicePrompt(np.arange(50), random_codes(75)),
    ]
    singly = [encode(item, top_k=2) for item in inputs]
    for batch_size in (None, 2, 4, 6):
        batched = encode(inputs, batch_size=batch_size, top_k=2)
        assert len(batched) == len(inputs)
        assert all(same(a, b) for a, b in zip(batched, singly, strict=True))


def test_batch_size_of_the_pipeline_is_that_of_its_calls(encode):
    batched = pipeline(TASK, model=encode.model, device="cpu", batch_size=3, top_k=2)
    inputs = [row(1.0, seed) for seed in range(4)]
    results = batched(inputs)
    assert all(same(a, b) for a, b in zip(results, encode(inputs), strict=True))
    assert all(result["top_k_tokens"].shape == (50, 2) for result in results)


def test_generator_is_read_as_its_results_are_taken(encode):
    taken = []

    def recordings():
        for seed in range(6):
            taken.append(seed)
            yield row(0.5, seed)

    results = encode(recordings(), batch_size=2)
    first = next(iter(results))
    assert len(taken) < 6
    assert same(first, encode(row(0.5, 0)))


def test_tuple_is_many_inputs_and_none_is_none(encode):
    assert len(encode((row(0.5), row(0.6)))) == 2
    assert encode([]) == []


def test_torch_dataset_is_encoded(encode):
    class Recordings(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return row(0.5, index)

    results = list(encode(Recordings(), batch_size=2))
    assert all(same(result, encode(row(0.5, seed))) for seed, result in enumerate(results))
    assert len(results) == 3


def test_datasets_dataset_is_encoded(encode, tmp_path):
    paths = [str(save_audio(tmp_path / f"{seed}.wav", noise(0.5, seed), 16_000)) for seed in range(3)]
    dataset = datasets.Dataset.from_dict(
        {"audio": [{"path": path, "bytes": None} for path in paths], "text": list("abc")}
    )
    results = list(encode(dataset, batch_size=2))
    assert [same(a, encode(path)) for a, path in zip(results, paths, strict=True)] == [True] * 3


@pytest.mark.parametrize("streaming", [False, True])
def test_audio_columns_are_read_without_torchcodec(encode, tmp_path, monkeypatch, streaming):
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", False)
    paths = [str(save_audio(tmp_path / f"{seed}.wav", noise(0.5, seed), 16_000)) for seed in range(3)]
    dataset = datasets.Dataset.from_dict({"audio": paths, "text": list("abc")})
    dataset = dataset.cast_column("audio", datasets.Audio(sampling_rate=24_000))
    with pytest.raises(ImportError, match="torchcodec"):
        dataset[0]
    expected = [encode(path) for path in paths]
    forms = [dataset.to_iterable_dataset()] if streaming else [dataset, KeyDataset(dataset, "audio")]
    for form in forms:
        results = list(encode(form, batch_size=2))
        assert [same(a, b) for a, b in zip(results, expected, strict=True)] == [True] * 3


def test_recordings_that_differ_much_in_length_do_not_share_a_batch(encode):
    rows = [(noise(seconds), None) for seconds in (1.0, 1.9, 30.0, 1.5)] + [(None, random_codes(75))]
    assert encode._alike(rows) == [[0, 1, 3], [2], [4]]


# ---- building it


def test_pipeline_takes_the_processor_from_the_folder(tmp_path):
    processor = BarkSemanticEncoderProcessor()
    processor.feature_extractor.do_normalize = True
    tiny_encoder().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    encode = pipeline(TASK, model=str(tmp_path), device="cpu")
    assert isinstance(encode, AudioToBarkSemanticPipeline)
    assert encode.processor.feature_extractor.do_normalize
    of_loaded_model = pipeline(TASK, model=encode.model, device="cpu")
    assert of_loaded_model.processor.feature_extractor.do_normalize


def test_folder_without_processor_is_refused_with_the_way_out(tmp_path):
    tiny_encoder().save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"processor=BarkSemanticEncoderProcessor\(\)"):
        pipeline(TASK, model=str(tmp_path), device="cpu")


def test_saved_pipeline_loads_again_without_code(encode, tmp_path):
    encode.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "processor_config.json"}
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())
    again = pipeline(TASK, model=str(tmp_path), device="cpu")
    assert same(again(row(1.0)), encode(row(1.0)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtype_is_that_of_the_model(encode, tmp_path, dtype):
    encode.save_pretrained(tmp_path)
    half = pipeline(TASK, model=str(tmp_path), device="cpu", dtype=dtype)
    assert half.model.dtype == dtype
    result = half([row(1.0), {"audio_codes": random_codes(75)}], batch_size=2)
    assert [item["confidence"].dtype for item in result] == [np.float32] * 2
    assert [item["num_tokens"] for item in result] == [50, 50]


def test_model_is_put_into_evaluation_mode():
    assert not pipeline(TASK, model=tiny_encoder(dropout=0.5).train(), device="cpu").model.training


def test_list_of_encoders_reads_as_one_with_their_weights(tmp_path):
    members = [tiny_encoder(), save_tiny_encoder(tmp_path / "community", head_type="recurrent", window_s=5.0)]
    encode = pipeline(TASK, model=members, weights=[3, 1], device="cpu", dtype=torch.float32)
    expected = pipeline(TASK, model=EncoderEnsemble([members[0], encode.model.members[1]], [0.75, 0.25]), device="cpu")
    for result, other in zip(*(pipe([row(1.0), row(7.0, 1)], top_k=20) for pipe in (encode, expected)), strict=True):
        assert all(np.array_equal(result[name], other[name]) for name in result)
    assert not same(encode(row(7.0)), pipeline(TASK, model=members, device="cpu")(row(7.0)))  # which has equal ones
    half = pipeline(TASK, model=[members[1]] * 2, device="cpu", dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16
    assert np.array_equal(half(row(1.0))["semantic_tokens"], half([row(1.0)])[0]["semantic_tokens"])


def test_list_that_makes_no_ensemble_is_refused(tmp_path):
    normalizing = BarkSemanticEncoderProcessor()
    normalizing.feature_extractor.do_normalize = True
    folder = save_tiny_encoder(tmp_path / "normalizing")
    normalizing.save_pretrained(folder)
    with pytest.raises(ValueError, match="processors of these encoders differ"):
        pipeline(TASK, model=[tiny_encoder(), folder], device="cpu")
    assert pipeline(TASK, model=[tiny_encoder(), folder], processor=normalizing, device="cpu").processor is normalizing
    with pytest.raises(ValueError, match="2 encoders and the weights"):
        pipeline(TASK, model=[folder, folder], weights=[1], device="cpu")
    with pytest.raises(ValueError, match="given for one encoder"):
        pipeline(TASK, model=folder, weights=[1], device="cpu")


def test_other_models_are_refused():
    config = HubertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64)
    with pytest.raises(TypeError, match="needs a BarkSemanticEncoderModel, not a HubertModel"):
        pipeline(TASK, model=HubertModel(config), device="cpu")


def test_registering_again_changes_nothing(recwarn):
    from transformers.pipelines import PIPELINE_REGISTRY

    before = PIPELINE_REGISTRY.supported_tasks[TASK]
    register_pipeline()
    assert PIPELINE_REGISTRY.supported_tasks[TASK] is before


def test_default_encoder_is_there_or_says_what_to_do():
    if (BUILTIN_ENCODER / "config.json").is_file():
        assert default_encoder() == BUILTIN_ENCODER
    else:
        with pytest.raises(FileNotFoundError, match="--encoder"):
            default_encoder()


# ---- recordings of hours


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("changes", [{}, {"input_level_db": -22.0}, {"head_type": "recurrent"}])
def test_a_long_recording_has_the_tokens_that_it_has_at_once(changes, normalize, tmp_path, monkeypatch):
    model = tiny_encoder(window_s=2.4, overlap_s=0.4, **changes)
    processor = BarkSemanticEncoderProcessor()
    processor.feature_extractor.do_normalize = normalize
    encode = pipeline(TASK, model=model, processor=processor, device="cpu")
    file = save_audio(tmp_path / "long.wav", noise(61.0) * np.linspace(0.05, 1, 61 * 16_000, dtype="f4") + 0.1, 16_000)
    finished = []
    expected = encode(file, top_k=3, on_tokens=finished.append)
    assert len(finished) > 3 and sum(finished) == expected["num_tokens"]
    monkeypatch.setattr(loading, "LONG_S", 10.0)
    assert isinstance(encode.preprocess(file)["audio"], LongRecording)
    lengths = []
    inner = model.encode
    monkeypatch.setattr(
        model, "encode", lambda **inputs: lengths.append(inputs["input_values"].shape) or inner(**inputs)
    )
    finished.clear()
    releases = []
    monkeypatch.setattr(encoding, "release_freed_memory", lambda: releases.append(len(lengths)))
    result = encode(file, top_k=3, on_tokens=finished.append)
    assert set(releases) == set(range(1, 7))  # behind every few windows of each part
    assert len(finished) == 6 and sum(finished) == result["num_tokens"]
    assert len(lengths) == 6 and max(lengths) < (1, 13 * 16_000)  # parts begin every 10 s
    assert same(result, expected)
    assert np.array_equal(result["top_k_tokens"], expected["top_k_tokens"])
    assert (result["num_tokens"], result["seconds"]) == (expected["num_tokens"], 61.0)


def test_long_and_short_recordings_of_a_list_and_of_an_ensemble_are_encoded(monkeypatch):
    members = [tiny_encoder(window_s=3.0, input_level_db=-22.0), tiny_encoder(head_type="recurrent", window_s=4.0)]
    encode = pipeline(TASK, model=members, device="cpu")
    inputs = [row(1.0), row(24.0, 1), row(2.0, 2)]
    expected = encode(inputs)
    monkeypatch.setattr(loading, "LONG_S", 10.0)
    for batch_size in (1, 3):
        for result, other in zip(encode(inputs, batch_size=batch_size), expected, strict=True):
            assert same(result, other)
