"""Community encoders by name: download from a stub Hub, conversion, and errors of the Hub."""

import json
import pickletools
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import HubertModel, pipeline

from hf_bark_semantic.audio import save_audio
from hf_bark_semantic.cli import main as cli
from hf_bark_semantic.conversion.community import COMMUNITY, community_encoder, community_source
from hf_bark_semantic.conversion.hubert import HUBERT_BASE
from hf_bark_semantic.evaluation.encoder import load_encoder
from hf_bark_semantic.packaged import named_encoder
from hf_bark_semantic.pipelines.encoding import TASK
from hf_bark_semantic.trainers.distillation import check_encoders
from hf_bark_semantic.trainers.initial_heads import take_over_head
from hub_layouts import save_pickled
from quantizers import SIZES, Quantizer, save_as_gitmylo, seeded
from tiny import backbone_config, noise, tiny_encoder


def tiny_hubert() -> HubertModel:
    """Of as many layers as HuBERT base has."""
    torch.manual_seed(0)
    config = backbone_config("hubert")
    config.num_hidden_layers = 12
    return HubertModel(config).eval()


def quantizer_of(name: str) -> Quantizer:
    return seeded(Quantizer(version=int(name == "en-large")), 1.0)


def bytes_of(name: str, folder: Path) -> bytes:
    """A quantizer's file; that of version 0 has no `.info`, as the first ones of its program."""
    info = {**SIZES, "version": 1} if name == "en-large" else SIZES if name != "en" else None
    return save_as_gitmylo(folder / COMMUNITY[name].file, quantizer_of(name), info).read_bytes()


@pytest.fixture
def published(online, tmp_path, monkeypatch):
    """The stub Hub with HuBERT and the quantizers; a file without `.info` is of the sizes `SIZES`."""
    monkeypatch.setattr("hf_bark_semantic.conversion.quantizer.QUANTIZER_SIZES", SIZES)
    save_pickled(tiny_hubert(), tmp_path / "hubert")
    online.publish(HUBERT_BASE, tmp_path / "hubert")
    for name, encoder in COMMUNITY.items():
        online.repositories.setdefault(encoder.repository, {})[encoder.file] = bytes_of(name, tmp_path)
    return online


@pytest.mark.parametrize("name", ["en", "en-large", "de"])
def test_a_named_encoder_gives_the_tokens_that_its_author_s_program_gives(published, name):
    encode = pipeline(TASK, model=named_encoder(f"community:{name}"))
    waveform = noise(4.0)
    with torch.no_grad():
        states = tiny_hubert()(torch.from_numpy(waveform)[None], output_hidden_states=True).hidden_states[9]
        theirs = quantizer_of(name)(states)[0].argmax(-1).numpy()
    ours = encode(waveform, source_sampling_rate=16_000)["semantic_tokens"]
    common = min(len(ours), len(theirs))
    assert common >= 198 and len(set(theirs)) > 3
    assert np.array_equal(ours[:common], theirs[:common])


def test_files_of_the_program_hold_three_kinds_of_objects(tmp_path):
    bytes_of("en-large", tmp_path)
    with zipfile.ZipFile(tmp_path / COMMUNITY["en-large"].file) as archive:
        records = {Path(name).name: archive.read(name) for name in archive.namelist()}
    assert json.loads(records[".info"]) == {**SIZES, "version": 1}
    operations = list(pickletools.genops(records["data.pkl"]))
    assert {argument for operation, argument, _ in operations if operation.name == "GLOBAL"} == {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch FloatStorage",
    }
    strings = {argument for _, argument, _ in operations if isinstance(argument, str)}
    assert {"cuda:0", "_metadata"} <= strings


def test_what_was_fetched_is_recorded_and_is_not_fetched_again(published, monkeypatch):
    encoder = COMMUNITY["en"]
    folder = community_encoder("en")
    assert {file.name for file in folder.iterdir()} == {
        "config.json", "model.safetensors", "processor_config.json", "source.json"
    }  # fmt: skip
    source = community_source("en")
    assert source["repository"] == "GitMylo/bark-voice-cloning" and source["revision"] == encoder.revision
    assert source["backbone"] == HUBERT_BASE and source["backbone_revision"] == published.commit
    assert len(source["sha256"]) == 64
    community_encoder("ja")
    assert community_source("ja")["revision"] == published.commit and community_source("pl") is None
    num_requests = len(published.requests)
    published.repositories.clear()
    assert named_encoder(["community:en", "community:ja"]) == [str(folder), str(community_encoder("ja"))]
    assert len(published.requests) == num_requests


def test_named_encoders_are_read_wherever_an_encoder_is_named(published, tmp_path, capsys):
    save_audio(tmp_path / "a.wav", noise(2.0), 16_000)
    command = ["encode", str(tmp_path / "a.wav"), "--json", "--encoder", "community:en"]
    assert cli.main(command) == 0
    alone = json.loads(capsys.readouterr().out)["semantic_tokens"]
    assert cli.main([*command, "community:en-large", "--encoder-weights", "1e9", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["semantic_tokens"] == alone
    assert load_encoder("community:en").config.vocab_size == 50
    student = tiny_encoder(head_type="recurrent", hidden_size=24, num_hidden_layers=2, intermediate_size=0)
    assert take_over_head(student, "community:en") == ["head"]
    assert len(check_encoders(["community:en"], None)["community:en"]) == 64
    assert cli.main(["encoders", "--json"]) == 0
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows.keys() == {"builtin", "nano-encoder", *(f"community:{name}" for name in COMMUNITY)}
    assert rows["community:en"]["fetched"]["revision"] == COMMUNITY["en"].revision
    assert rows["community:de"]["fetched"] is None and rows["community:de"]["measured"] is None
    assert "35.4%" in rows["community:en"]["measured"]
    assert all(re.search(r"\d\d\.\d%", rows[name]["measured"]) for name in ("builtin", "nano-encoder"))


FAULTS = {
    "gone": ((401, "RepoNotFound"), "no such repository any more, or it is private"),
    "gated": ((403, "GatedRepo"), "asks you to accept conditions: do so on https://huggingface.co/Hobis/"),
    "refused": ((401, ""), r"refuses the token that was sent \(401\). Type `hf auth login`"),
    "too many requests": ((429, ""), r"too many requests from here \(429\). Repeat"),
    "a fault of the Hub": ((503, ""), "answered with the status 503"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("repository", [COMMUNITY["pl"].repository, HUBERT_BASE])
def test_a_repository_that_is_not_given_is_a_sentence(published, fault, repository):
    published.refused[repository], sentence = FAULTS[fault]
    with pytest.raises(OSError, match=sentence.replace("Hobis", repository.split("/")[0])) as caught:
        community_encoder("pl")
    assert repository in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert community_source("pl") is None
    published.refused.clear()
    assert (community_encoder("pl") / "model.safetensors").is_file()


def test_a_file_that_is_gone_cut_off_or_out_of_reach_is_a_sentence(published, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub waits before it tries again
    encoder = COMMUNITY["tr"]
    content = published.repositories[encoder.repository].pop(encoder.file)
    command = ["encode", "--example", "--encoder", "community:tr"]

    def told() -> str:
        assert cli.main(command) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return next(line for line in error.splitlines() if line.startswith("bark-semantic:"))

    assert f"{encoder.file} of {encoder.repository}: the repository has no such file any more" in told()
    published.repositories[encoder.repository][encoder.file] = content
    published.cut_off.add(encoder.file)
    assert f"Cannot fetch {encoder.file} of {encoder.repository}:" in told()
    published.cut_off.clear()
    published.repositories[encoder.repository][encoder.file] = b"<!DOCTYPE html>"
    assert "is not a checkpoint: this is a web page" in told()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    command[-1] = "community:ja"
    assert "not in the cache, and HF_HUB_OFFLINE forbids the download" in told()
    command[-1] = "community:klingon"
    assert "There is no community encoder 'klingon'; there are en, en-large, de" in told()


def test_a_hubert_without_weights_is_a_sentence(published):
    del published.repositories[HUBERT_BASE]["pytorch_model.bin"]
    with pytest.raises(OSError, match=f"{HUBERT_BASE} does not appear to have a file named pytorch_model.bin"):
        community_encoder("es")


def test_no_network_is_a_sentence(published, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # where nothing answers
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(OSError, match="not in the cache, and the Hub cannot be reached"):
        community_encoder("pt")
