"""The time and output of importing the package, and the checks of the doctor."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import hf_bark_semantic
from hf_bark_semantic import environment

ROOT = Path(__file__).parents[1]


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([*environment.pop("first", "").split(os.pathsep), str(ROOT)]).strip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, timeout=300
    )


REGISTERED = """
import hf_bark_semantic as package
from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY
config = AutoConfig.for_model("bark_semantic_encoder", codec_hidden_size=16)
assert type(config) is package.BarkSemanticEncoderConfig
assert AutoModel._model_mapping[type(config)] is package.BarkSemanticEncoderModel
tasks = PIPELINE_REGISTRY.supported_tasks
assert tasks["audio-to-bark-semantic"]["impl"] is package.AudioToBarkSemanticPipeline
assert tasks["voice-cloning"]["impl"] is package.VoiceCloningPipeline
assert type(AutoProcessor.from_pretrained(package.nano_encoder())) is package.BarkSemanticEncoderProcessor
"""


@pytest.mark.parametrize(
    "imports",
    [
        "from transformers import pipeline; import hf_bark_semantic",
        "from transformers import AutoModel; import hf_bark_semantic; from transformers import pipeline",
        "import hf_bark_semantic; from transformers import pipeline, AutoModel",
        "from hf_bark_semantic.backbones_bark_semantic import build_backbone",
        "from hf_bark_semantic.pipelines.cloning import VoiceCloningPipeline",
        "from hf_bark_semantic import *",
    ],
)
def test_encoder_and_tasks_are_registered_in_every_order_of_imports(imports):
    result = run(imports + REGISTERED)
    assert result.returncode == 0, result.stderr


def test_import_loads_no_other_package_until_a_name_is_asked_for():
    code = """if True:
        import json, sys
        def loaded(*names):
            return sorted({module.partition(".")[0] for module in sys.modules} & set(names))
        import hf_bark_semantic
        at_first = loaded("torch", "transformers", "numpy", "huggingface_hub", "safetensors")
        from transformers import AutoConfig, AutoModel, AutoProcessor, BatchFeature, Pipeline, PreTrainedModel
        from transformers import ProcessorMixin, Wav2Vec2FeatureExtractor
        optional = "accelerate", "datasets", "encodec", "evaluate", "peft", "soundfile", "torchaudio", "tqdm"
        before = loaded(*optional)
        for name in hf_bark_semantic.__all__:
            getattr(hf_bark_semantic, name)
        print(json.dumps([at_first, sorted(set(loaded(*optional)) - set(before))]))
    """
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [[], []]


def test_every_public_name_is_there():
    names = hf_bark_semantic.__all__
    assert len(names) > 20 and set(names) <= set(dir(hf_bark_semantic))
    assert all(getattr(hf_bark_semantic, name).__name__ == name for name in names)
    with pytest.raises(AttributeError, match="nothing"):
        hf_bark_semantic.nothing  # noqa: B018


def broken_torchaudio(folder: Path, error: str) -> Path:
    """A torchaudio that is installed, as far as its metadata say, and breaks when it is imported."""
    (folder / "torchaudio").mkdir()
    (folder / "torchaudio" / "__init__.py").write_text(f"raise {error}\n")
    info = folder / "torchaudio-2.9.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchaudio\nVersion: 2.9.0\n")
    return folder


@pytest.mark.parametrize(
    ("use", "error"),
    [
        ("hf_bark_semantic.load_bark", 'OSError("_torchaudio.abi3.so: undefined symbol: _ZN3c104cuda9SetDeviceEa")'),
        ("from transformers import pipeline", 'RuntimeError("Detected that PyTorch and TorchAudio were compiled")'),
        ("from transformers import AutoModel", 'ImportError("libcudart.so.12: cannot open shared object file")'),
    ],
)
def test_broken_torchaudio_is_named_with_its_cure(tmp_path, use, error):
    result = run(f"import hf_bark_semantic; {use}", first=str(broken_torchaudio(tmp_path, error)))
    assert result.returncode == 1
    message = result.stderr[result.stderr.rindex("\nImportError: ") :]
    assert "pip install --force-reinstall torch torchaudio" in message
    assert "torchaudio 2.9.0" in message
    assert error.split('"')[1] in message


def test_other_import_errors_pass_unchanged(tmp_path):
    (tmp_path / "transformers.py").write_text("raise OSError('disk on fire')\n")
    result = run("import hf_bark_semantic; hf_bark_semantic.load_bark", first=str(tmp_path))
    assert result.stderr.strip().splitlines()[-1] == "OSError: disk on fire"


@pytest.mark.parametrize(
    ("torch_version", "option"),
    [("2.9.0+cpu", "whl/cpu"), ("2.9.0+cu128", "whl/cu128"), ("2.9.0", ""), ("2.9.0+git123", "")],
)
def test_cure_names_the_index_of_torch(monkeypatch, torch_version, option):
    monkeypatch.setattr(environment, "installed_version", {"torch": torch_version, "torchaudio": "2.9.0"}.get)
    monkeypatch.setattr(environment.importlib, "import_module", _raise(OSError("undefined symbol")))
    assert environment.torchaudio_problem().split("torch torchaudio")[-1].endswith(option)


def test_working_torchaudio_is_no_problem():
    pytest.importorskip("torchaudio")
    assert environment.torchaudio_problem() is None


@pytest.mark.parametrize(
    ("package", "version"), [("transformers", "5.17.0"), ("transformers", "5.24.0"), ("torch", "2.6.0+cu124")]
)
def test_a_release_that_is_excluded_is_a_problem(monkeypatch, package, version):
    found = environment.installed_version
    monkeypatch.setattr(environment, "installed_version", lambda name: version if name == package else found(name))
    (problem,) = environment.inspect_environment().problems
    assert problem.startswith(f"{package} {version} does not work")
    assert f'pip install "{package}>=' in problem


def test_cached_models_are_listed_by_their_ids(tmp_path):
    (tmp_path / "models--suno--bark-small" / "snapshots").mkdir(parents=True)
    (tmp_path / "models--gpt2" / "snapshots").mkdir(parents=True)
    (tmp_path / "models--half--loaded").mkdir()
    (tmp_path / "datasets--a--b" / "snapshots").mkdir(parents=True)
    assert environment._cached_models(str(tmp_path)) == ["gpt2", "suno/bark-small"]
    assert environment._cached_models(str(tmp_path / "nowhere")) == []


def _raise(error: Exception):
    def fail(*_):
        raise error

    return fail


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone it is known how it keeps memory")
def test_memory_that_was_freed_is_given_back():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    blocks = [b"x" * 100_000 for _ in range(400)]  # 40 MB on the heap, the last of which stays
    del blocks[:-1]
    before = resident()
    environment.release_freed_memory()
    assert resident() < before - 20_000_000
