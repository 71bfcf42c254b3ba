"""Saving, loading and sharing of checkpoints, as in transformers.

A small server on the loopback interface is the stub of the Hub.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Audio, Dataset
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline

from hf_bark_semantic import (
    AudioToBarkSemanticPipeline,
    BarkSemanticEncoderConfig,
    BarkSemanticEncoderModel,
    BarkSemanticEncoderProcessor,
)
from hf_bark_semantic.audio import save_audio
from hf_bark_semantic.pipeline_bark_semantic import TASK
from hf_bark_semantic.publishing import add_code
from stub_hub import hub_environment
from tiny import noise, random_codes, tiny_encoder

ROOT = Path(__file__).parents[1]
HEADS = {
    "linear": {},
    "recurrent": {"intermediate_size": 64},
    "transformer": {"conv_kernel_size": 3},
    "embedding": {"embedding_size": 24},
    "autoregressive": {},
}

# prints the tokens of sys.argv[2] (.npy) by the model of sys.argv[1], and where its class came from
ENCODE = """if True:
    import json, sys
    if sys.argv[3] == "with our package":
        import hf_bark_semantic
    else:
        sys.modules["hf_bark_semantic"] = None  # whoever imports it fails
    import numpy as np
    from transformers import AutoModel, AutoProcessor
    remote = {"trust_remote_code": True} if sys.argv[3] != "with our package" else {}
    model = AutoModel.from_pretrained(sys.argv[1], **remote).eval()
    processor = AutoProcessor.from_pretrained(sys.argv[1], **remote)
    output = model.encode(**processor(audio=np.load(sys.argv[2]), sampling_rate=16_000))
    print(json.dumps([type(model).__module__, type(processor).__module__, output.semantic_tokens.tolist()]))
"""


@pytest.fixture
def waveform(tmp_path) -> Path:
    np.save(tmp_path / "waveform.npy", noise(1.0))
    return tmp_path / "waveform.npy"


def tokens(model, waveform: Path, processor=None) -> list:
    processor = processor or BarkSemanticEncoderProcessor()
    return model.encode(**processor(audio=np.load(waveform))).semantic_tokens.tolist()


def save(folder: Path, **config) -> BarkSemanticEncoderModel:
    model = tiny_encoder(**config)
    model.save_pretrained(folder)
    BarkSemanticEncoderProcessor().save_pretrained(folder)
    return model


def run(tmp_path: Path, code: str, *arguments, isolated: bool = False, **environment) -> list:
    """Run code in another Python, in another folder; give the JSON of its last line."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTHON"))}
    environment = {"HF_HOME": str(tmp_path / "hf_home"), "OMP_NUM_THREADS": "1", **environment}
    environment |= {} if isolated else {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *(["-I"] if isolated else []), "-c", code, *map(str, arguments)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=elsewhere, env={**kept, **environment}, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


# ---- folders


@pytest.mark.parametrize("head_type", HEADS)
def test_saved_model_comes_back_through_the_auto_classes(tmp_path, waveform, head_type):
    model = save(tmp_path / "encoder", head_type=head_type, codec_hidden_size=16, **HEADS[head_type])
    config = AutoConfig.from_pretrained(tmp_path / "encoder")
    assert isinstance(config, BarkSemanticEncoderConfig)
    again = AutoModel.from_pretrained(tmp_path / "encoder")
    processor = AutoProcessor.from_pretrained(tmp_path / "encoder")
    assert isinstance(again, BarkSemanticEncoderModel)
    assert isinstance(processor, BarkSemanticEncoderProcessor)
    assert not again.training
    expected = model.state_dict()
    assert again.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in again.state_dict().items())
    assert tokens(again, waveform, processor) == tokens(model, waveform)


def test_saved_again_is_the_same_file(tmp_path):
    save(tmp_path / "new")  # transformers notes the backbone's dtype when it loads a model
    for source, target in (("new", "first"), ("first", "second")):
        AutoModel.from_pretrained(tmp_path / source).save_pretrained(tmp_path / target)
        AutoProcessor.from_pretrained(tmp_path / source).save_pretrained(tmp_path / target)
    for name in ("model.safetensors", "config.json", "processor_config.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_folder_holds_safetensors_and_no_code(tmp_path):
    model = save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "processor_config.json"}
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()


def test_shards_are_joined(tmp_path, waveform):
    model = tiny_encoder()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert tokens(AutoModel.from_pretrained(tmp_path), waveform) == tokens(model, waveform)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtype_on_loading_is_that_of_the_weights(tmp_path, waveform, dtype):
    save(tmp_path / "encoder", codec_hidden_size=16)
    model = AutoModel.from_pretrained(tmp_path / "encoder", dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert len(tokens(model, waveform)[0]) == 50
    model.save_pretrained(tmp_path / "half")
    assert AutoModel.from_pretrained(tmp_path / "half").dtype == dtype


@pytest.mark.parametrize("device_map", ["cpu", {"": "cpu"}])
def test_device_map_places_the_model(tmp_path, waveform, device_map):
    pytest.importorskip("accelerate")
    model = save(tmp_path / "encoder")
    placed = AutoModel.from_pretrained(tmp_path / "encoder", device_map=device_map)
    assert {parameter.device.type for parameter in placed.parameters()} == {"cpu"}
    assert tokens(placed, waveform) == tokens(model, waveform)


# ---- code that travels


# prints what the pipeline of sys.argv[1] finds in the recordings, codes and datasets of the folder sys.argv[2]
PIPELINE = """if True:
    import json, os, sys
    sys.modules["hf_bark_semantic"] = None  # whoever imports it fails
    import numpy as np
    from datasets import load_from_disk
    from transformers import pipeline
    encode = pipeline(*sys.argv[3:], model=sys.argv[1], trust_remote_code=True, device="cpu")
    os.chdir(sys.argv[2])
    samples, codes = np.load("waveform.npy"), np.load("codes.npy")
    row = {"array": samples, "sampling_rate": 16_000}
    content = open("speech.wav", "rb").read()
    inputs = [row, "speech.wav", content, {"bytes": content}]
    inputs += [{"audio_codes": codes}, {"audio": row, "audio_codes": codes}]
    inputs += [{"array": np.stack([samples, samples]).repeat(2, 1), "sampling_rate": 32_000}]
    results = [encode(source, top_k=2) for source in inputs]
    results += [*encode(inputs, batch_size=4), *encode(load_from_disk("dataset"))]
    encode.save_pretrained("saved")
    tokens = [result["semantic_tokens"].tolist() for result in results]
    print(json.dumps([type(encode).__module__, results[0]["seconds"], results[0]["top_k_tokens"].shape, tokens]))
"""


@pytest.fixture
def recordings(tmp_path) -> Path:
    """A second of sound in every form in which a pipeline receives it."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    np.save(folder / "waveform.npy", noise(1.0))
    np.save(folder / "codes.npy", random_codes(75))
    save_audio(folder / "speech.wav", noise(1.0), 16_000)
    dataset = Dataset.from_dict({"audio": [str(folder / "speech.wav")]}).cast_column("audio", Audio())
    dataset.save_to_disk(folder / "dataset")
    return folder


@pytest.mark.parametrize("task", [[TASK], []])
def test_pipeline_of_a_published_encoder_needs_no_package(tmp_path, recordings, task):
    folder = tmp_path / "encoder"
    model = save(folder, codec_hidden_size=16, head_type="transformer")
    add_code(folder)
    found = run(tmp_path, PIPELINE, folder, recordings, *task, isolated=True, HF_HUB_OFFLINE="1")
    module, seconds, shape, found_tokens = found
    assert module.startswith("transformers_modules.") and seconds == 1.0 and shape == [50, 2]
    ours = pipeline(TASK, model=model, device="cpu")
    audio, codes = {"array": noise(1.0), "sampling_rate": 16_000}, random_codes(75)
    inputs = [audio] * 4 + [{"audio_codes": codes}, {"audio": audio, "audio_codes": codes}]
    expected = [result["semantic_tokens"].tolist() for result in ours(inputs)]
    assert found_tokens[:6] == found_tokens[7:13] == expected and found_tokens[-1] == expected[0]
    assert found_tokens[6] == found_tokens[13] and len(found_tokens[6]) == 50


def test_installed_package_takes_the_place_of_a_published_pipeline(tmp_path):
    save(tmp_path / "encoder")
    add_code(tmp_path / "encoder")
    for options in ({}, {"trust_remote_code": True}):
        encode = pipeline(TASK, model=str(tmp_path / "encoder"), device="cpu", **options)
        assert type(encode) is AudioToBarkSemanticPipeline and type(encode.model) is BarkSemanticEncoderModel


def test_saved_code_needs_no_package(tmp_path, waveform):
    folder = tmp_path / "encoder"
    model = save(folder, codec_hidden_size=16, head_type="transformer")
    add_code(folder)
    found = run(tmp_path, ENCODE, folder, waveform, "alone", isolated=True, HF_HUB_OFFLINE="1")
    model_module, processor_module, found_tokens = found
    assert model_module.startswith("transformers_modules.")
    assert processor_module.startswith("transformers_modules.")
    assert found_tokens == tokens(model, waveform)


def test_installed_package_is_used_instead_of_saved_code(tmp_path, waveform):
    model = save(tmp_path / "encoder")
    add_code(tmp_path / "encoder")
    again = AutoModel.from_pretrained(tmp_path / "encoder")
    assert type(again) is BarkSemanticEncoderModel
    assert tokens(again, waveform) == tokens(model, waveform)


# ---- the Hub


PUSH = """if True:
    import sys
    import hf_bark_semantic
    from transformers import AutoModel, AutoProcessor
    AutoModel.from_pretrained(sys.argv[1]).push_to_hub("someone/encoder")
    AutoProcessor.from_pretrained(sys.argv[1]).push_to_hub("someone/encoder")
    print("[]")
"""


def test_pushed_model_arrives_whole_and_loads_from_the_hub(tmp_path, waveform, hub):
    folder = tmp_path / "encoder"
    save(tmp_path / "new")
    model = AutoModel.from_pretrained(tmp_path / "new")
    model.save_pretrained(folder)
    BarkSemanticEncoderProcessor().save_pretrained(folder)
    run(tmp_path, PUSH, folder, **hub_environment(hub))
    files = hub.repositories["someone/encoder"]
    assert {"config.json", "model.safetensors", "processor_config.json"} <= files.keys()
    for name in ("config.json", "model.safetensors", "processor_config.json"):
        assert files[name] == (folder / name).read_bytes()
    assert not any(name.endswith(".py") for name in files)
    assert hub.tokens == {"Bearer hf_stub"}

    found = run(tmp_path, ENCODE, "someone/encoder", waveform, "with our package", **hub_environment(hub))
    assert found == ["hf_bark_semantic.modeling_bark_semantic", "hf_bark_semantic.processing_bark_semantic"] + [
        tokens(model, waveform)
    ]
    assert hub.unknown == []


TASK_OF_MODEL = """if True:
    import json, sys
    import hf_bark_semantic
    from transformers import pipeline
    print(json.dumps(type(pipeline(model=sys.argv[1])).__name__))
"""


def test_transformers_chooses_the_task_by_the_card(tmp_path, hub):
    save(tmp_path / "encoder")
    files = {file.name: file.read_bytes() for file in (tmp_path / "encoder").iterdir()}
    card = (ROOT / "model_cards" / "encoder.md").read_bytes()
    hub.repositories["someone/encoder"] = {**files, "README.md": card}
    chosen = run(tmp_path, TASK_OF_MODEL, "someone/encoder", **hub_environment(hub))
    assert chosen == "AudioToBarkSemanticPipeline"


def test_code_on_the_hub_runs_where_the_package_is_not(tmp_path, recordings, hub):
    model = save(tmp_path / "encoder", codec_hidden_size=16)
    add_code(tmp_path / "encoder")
    hub.repositories["someone/encoder"] = {f.name: f.read_bytes() for f in (tmp_path / "encoder").iterdir()}
    waveform = recordings / "waveform.npy"
    found = run(tmp_path, ENCODE, "someone/encoder", waveform, "alone", isolated=True, **hub_environment(hub))
    assert found[0].startswith("transformers_modules.someone.encoder.")
    assert found[2] == tokens(model, waveform)
    found = run(tmp_path, PIPELINE, "someone/encoder", recordings, TASK, isolated=True, **hub_environment(hub))
    assert found[0].startswith("transformers_modules.someone.encoder.")
    assert [found[3][0]] == tokens(model, waveform)
