"""The files of the package and the files that it opens: all are listed, and none runs code when it is read."""

import ast
import json
import os
import pickle
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModel

from hf_bark_semantic import VoicePrompt, packaged
from hf_bark_semantic.bark.adapter_bundle import load_adapters
from hf_bark_semantic.bark.loading import load_bark_processor
from hf_bark_semantic.cli import main as cli
from hf_bark_semantic.conversion.convert import convert
from hf_bark_semantic.corpus.formats import read_archives, read_npz_folder
from hf_bark_semantic.corpus.pairs import import_pairs
from hf_bark_semantic.evaluation.judges import ResemblyzerEmbedder
from hf_bark_semantic.files import sha256_of_file
from hf_bark_semantic.trainers.checkpoints import resume, save_checkpoint
from hf_bark_semantic.trainers.settings import read_config
from hostile_files import CANARY, Payload, calls_that_run_code
from tiny import save_tiny_encoder, tiny_bark, tiny_bark_processor, tiny_prompt

PACKAGE = packaged.PACKAGE
RELEASE = "find checkpoints recordings -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs sha256sum"


def test_nothing_in_the_package_unpickles_but_through_weights_only():
    files = {file: calls_that_run_code(ast.parse(file.read_text("utf-8"))) for file in PACKAGE.rglob("*.py")}
    assert {str(file.relative_to(PACKAGE)): found for file, found in files.items() if found} == {}
    for line in ("import pickle", "torch.load(f)", "np.load(f, allow_pickle=True)", "yaml.load(f)", "eval('1')"):
        assert calls_that_run_code(ast.parse(line)), line


def test_packaged_files_are_those_that_are_listed():
    listed = (PACKAGE / "checkpoints" / "SHA256SUMS").read_text()
    made = subprocess.run(RELEASE, cwd=PACKAGE, shell=True, check=True, capture_output=True, text=True).stdout
    assert made == listed, f"In hf_bark_semantic: {RELEASE} > checkpoints/SHA256SUMS"


def test_doctor_names_a_file_that_was_changed_or_lost_or_added(tmp_path, monkeypatch, capsys):
    package = tmp_path / "package"
    for folder in ("checkpoints/nano", "recordings"):
        (package / folder).mkdir(parents=True)
    for name in ("checkpoints/nano/a.json", "checkpoints/nano/b.json", "recordings/c.flac"):
        (package / name).write_text(name)
    names = sorted(path for path in package.rglob("*") if path.is_file())
    lines = [f"{sha256_of_file(path)}  {path.relative_to(package).as_posix()}\n" for path in names]
    (package / "checkpoints" / "SHA256SUMS").write_text("".join(lines))
    monkeypatch.setattr(packaged, "PACKAGE", package)
    monkeypatch.setattr(packaged, "DIGESTS", package / "checkpoints" / "SHA256SUMS")
    assert packaged.changed_files() == []
    (package / "checkpoints/nano/a.json").write_text("other")
    (package / "recordings/c.flac").rename(package / "recordings/d.flac")
    assert cli.main(["doctor", "--verify", "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert len(problems) == 3
    for name, flaw in (
        ("recordings/c.flac", "is missing"),
        ("recordings/d.flac", "not a file of"),
        ("checkpoints/nano/a.json", "is not"),
    ):
        assert any(problem.startswith(name) and flaw in problem for problem in problems), name


# --- a bomb in every format that something is read from


def pickled(folder: Path, name: str) -> Path:
    (folder / name).write_bytes(pickle.dumps(Payload(folder)))
    return folder / name


def saved_by_torch(folder: Path, name: str, **weights) -> Path:
    torch.save({"bomb": Payload(folder), **weights}, folder / name)
    return folder / name


def array_of_objects(folder: Path, name: str) -> Path:
    np.save(folder / name, np.array([Payload(folder)], dtype=object), allow_pickle=True)
    return folder / name


def voice_prompt(folder: Path) -> None:
    names = ("semantic_prompt", "coarse_prompt", "fine_prompt")
    np.savez(folder / "voice.npz", **dict.fromkeys(names, np.array([Payload(folder)], dtype=object)))
    VoicePrompt.load(folder / "voice.npz")


def pickled_voice_prompt(folder: Path) -> None:
    VoicePrompt.load(pickled(folder, "voice.npz"))


def preset_of_a_bark(folder: Path) -> None:
    arrays = {key: value.astype(np.uint16) for key, value in tiny_prompt().to_dict().items()}
    tiny_bark().save_pretrained(folder)
    tiny_bark_processor({"a": arrays}, folder).save_pretrained(str(folder))
    for file in [file for file in folder.rglob("*.npy") if "semantic" in file.name]:
        array_of_objects(folder, str(file.relative_to(folder)))
    load_bark_processor(str(folder))("the dog", voice_preset="a")


def checkpoint_of(name: str) -> Callable[[Path], None]:
    return lambda folder: convert(saved_by_torch(folder, name), folder / "converted")


def pickled_checkpoint(folder: Path) -> None:
    convert(pickled(folder, "quantizer.pth"), folder / "converted")


def encoder_with_a_bin(folder: Path) -> None:
    save_tiny_encoder(folder)
    (folder / "model.safetensors").unlink()
    saved_by_torch(folder, "pytorch_model.bin")
    AutoModel.from_pretrained(folder)


def bundle_of_adapters(folder: Path) -> None:
    (folder / "semantic").mkdir()
    saved_by_torch(folder / "semantic", "adapter_model.bin")
    content = {"format": 1, "base_model": "tiny", "ranks": {"semantic": 4}, "base": {}}
    (folder / "bundle.json").write_text(json.dumps(content))
    load_adapters(tiny_bark(), folder)


def training_checkpoint(file: str) -> Callable[[Path], None]:
    """Of a training, with the digests that it should have."""

    def read(folder: Path) -> None:
        accelerator = Accelerator(cpu=True)
        model, average = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        prepared, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
        save_checkpoint(accelerator, folder, 1, average)
        (bomb,) = (folder / "checkpoint").glob(file)
        torch.save({"bomb": Payload(folder)}, bomb)
        state = json.loads((folder / "checkpoint" / "step.json").read_text())
        state["digests"][bomb.name] = sha256_of_file(bomb)
        (folder / "checkpoint" / "step.json").write_text(json.dumps(state))
        resume(accelerator, folder, average)

    return read


def judge(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_bark_semantic.evaluation.judges._package_folder", lambda *names: folder)
        saved_by_torch(folder, "pretrained.pt")
        ResemblyzerEmbedder()


def archive_of_pairs(folder: Path) -> None:
    array = array_of_objects(folder, "0.npy").read_bytes()
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        archive.writestr("semantic/0.npy", array)
        archive.writestr("wav/0.wav", b"RIFF")
    import_pairs(read_archives(folder / "all.zip"), folder / "out")


def folder_of_pairs(folder: Path) -> None:
    (folder / "in").mkdir()
    shutil.move(pickled(folder, "0.npz"), folder / "in" / "0.npz")
    (folder / "in" / "0.wav").write_bytes(b"RIFF")
    import_pairs(read_npz_folder(folder / "in"), folder / "out")


def config_of_a_training(folder: Path) -> None:
    (folder / "config.yaml").write_text(f"training: !!python/object/apply:os.mkdir ['{folder / CANARY}']\n")
    read_config(folder / "config.yaml")


def recording(folder: Path) -> None:
    cli.main(["encode", str(pickled(folder, "speech.wav"))])


def codes_of_a_recording(folder: Path) -> None:
    cli.main(["encode", str(array_of_objects(folder, "codes.npy"))])


STATES = ("optimizer.bin", "random_states_0.pkl", "average.pt")
DOORS = {
    "voice prompt with objects": voice_prompt,
    "pickle named .npz": pickled_voice_prompt,
    "preset of a Bark": preset_of_a_bark,
    **{f"converted {ending}": checkpoint_of(f"weights{ending}") for ending in (".pth", ".pt", ".th", ".bin", ".ckpt")},
    "pickle named .pth": pickled_checkpoint,
    "pytorch_model.bin of an encoder": encoder_with_a_bin,
    "adapter_model.bin of a bundle": bundle_of_adapters,
    **{f"{file} of a checkpoint": training_checkpoint(file) for file in STATES},
    "weights of a judge": judge,
    "archive of pairs": archive_of_pairs,
    "folder of pairs": folder_of_pairs,
    "config of a training": config_of_a_training,
    "recording": recording,
    "codes of a recording": codes_of_a_recording,
}  # fmt: skip

# `encode` answers with an exit code; accelerate goes on without random states, which follow from the step here
UNHEARD = ("recording", "codes of a recording", "random_states_0.pkl of a checkpoint")


@pytest.mark.parametrize("door", DOORS)
def test_a_pickle_bomb_does_not_go_off(door, tmp_path):
    refused = None
    try:
        DOORS[door](tmp_path)
    except Exception as error:  # what it says is asserted where that door is tested
        refused = error
    assert not (tmp_path / CANARY).exists(), f"it ran code, and raised {refused!r}"
    assert refused is not None or door in UNHEARD, "it was read without a word"


def test_the_bomb_is_one(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path)))
    assert os.path.isdir(tmp_path / CANARY)
