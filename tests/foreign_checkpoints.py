"""Small checkpoints of other programs, with the original names; community quantizers are in quantizers.py.

autoregressive_file   github.com/huynhnhathao: a HuBERT and a decoder
whisper_file          a Whisper in CTranslate2 format; `write_ctranslate2` writes any variables
saved_encodec         facebookresearch/encodec
"""

import struct
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import EncodecConfig, EncodecModel, HubertConfig, HubertModel

from quantizers import VOCAB, seeded
from tiny import backbone_config

TINY_ENCODEC = EncodecConfig(num_filters=4, hidden_size=16, target_bandwidths=[1.5, 6.0])  # 8 codebooks


def tiny_hubert(num_layers: int = 3) -> HubertModel:
    torch.manual_seed(0)
    config = backbone_config("hubert")
    config.num_hidden_layers = num_layers
    return HubertModel(config).eval()


class Autoregressive(nn.Module):
    """The parts and names of github.com/huynhnhathao's model."""

    def __init__(self, config: HubertConfig, vocab_size=VOCAB, num_layers=2, intermediate_size=48):
        super().__init__()
        width = config.hidden_size
        self.hubert = nn.Module()
        self.hubert.model = HubertModel(config)
        self.decoder_embedding = nn.Embedding(vocab_size + 3, width)
        self.pos_embedding = nn.Parameter(torch.zeros(1, 2_000, width))
        layer = nn.TransformerDecoderLayer(width, 8, intermediate_size, 0.1, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, num_layers)
        self.fc = nn.Linear(width, vocab_size + 3)
        self.vocab_size = vocab_size

    def greedy(self, waveform: torch.Tensor, num_tokens: int) -> torch.Tensor:
        memory = self.hubert.model(waveform, output_hidden_states=True).hidden_states[11]
        tokens = torch.tensor([[self.vocab_size]])  # the start token
        for _ in range(num_tokens):
            length = tokens.shape[1]
            states = self.decoder_embedding(tokens) + self.pos_embedding[:, :length]
            mask = nn.Transformer.generate_square_subsequent_mask(length)
            scores = self.fc(self.decoder(states, memory, tgt_mask=mask))[:, -1, : self.vocab_size]
            tokens = torch.cat([tokens, scores.argmax(-1, keepdim=True)], dim=1)
        return tokens[0, 1:]


def autoregressive_model() -> Autoregressive:
    model = Autoregressive(tiny_hubert(12).config)
    seeded(model.decoder), seeded(model.decoder_embedding), seeded(model.fc)
    with torch.no_grad():
        model.pos_embedding.normal_(generator=torch.Generator().manual_seed(2))
        for module in model.decoder.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
    return model.eval()


def autoregressive_file(folder: Path, *, old_names: bool = False, **changes) -> Path:
    state = autoregressive_model().state_dict()
    if old_names:  # of torch's weight norm before 2.0
        state = {
            name.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): weight
            for name, weight in state.items()
        }
    content = {"epoch": 3, "model_state_dict": state, "train_result": {"loss": 1.5}, "eval_result": {"accuracy": 0.83}}
    torch.save(content | {"config": {"lr": 8e-5}} | changes, folder / "model.pt")
    return folder / "model.pt"


def write_ctranslate2(path: Path, variables: dict[str, np.ndarray], aliases=(), version=6, spec="WhisperSpec") -> Path:
    kinds = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}

    def name_of(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    content = struct.pack("<I", version) + name_of(spec) + struct.pack("<II", 3, len(variables))
    for name, values in variables.items():
        values = np.asarray(values)
        content += name_of(name) + struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
        content += struct.pack("<BI", kinds[values.dtype.name], values.nbytes) + values.tobytes()
    content += struct.pack("<I", len(aliases)) + b"".join(name_of(alias) + name_of(name) for alias, name in aliases)
    path.write_bytes(content)
    return path


def whisper_variables(width=32, wide=48, layers=2, bins=80, positions=1_500) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {"conv1/weight": (width, bins, 3), "conv1/bias": (width,), "conv2/weight": (width, width, 3)}
    shapes |= {"conv2/bias": (width,), "position_encodings/encodings": (positions, width)}
    shapes |= {"layer_norm/gamma": (width,), "layer_norm/beta": (width,)}
    for layer in range(layers):
        for part in ("self_attention", "ffn"):
            shapes |= {f"layer_{layer}/{part}/layer_norm/{name}": (width,) for name in ("gamma", "beta")}
        for name, shape in {
            "self_attention/linear_0": (3 * width, width),
            "self_attention/linear_1": (width, width),
            "ffn/linear_0": (wide, width),
            "ffn/linear_1": (width, wide),
        }.items():
            shapes |= {f"layer_{layer}/{name}/weight": shape, f"layer_{layer}/{name}/bias": shape[:1]}
    variables = {"encoder/num_heads": np.int16(4), "decoder/num_heads": np.int16(4)}
    for name, shape in shapes.items():
        variables[f"encoder/{name}"] = (0.2 * generator.standard_normal(shape)).astype(np.float16)
    return variables


def whisper_file(folder: Path, *, aliases=(), version=6, spec="WhisperSpec", **changes) -> Path:
    variables = whisper_variables() | {name.replace("__", "/"): values for name, values in changes.items()}
    variables = {name: values for name, values in variables.items() if values is not None}
    return write_ctranslate2(folder / "model.bin", variables, aliases, version, spec)


def saved_encodec(folder: Path) -> Path:
    """Names and shapes of the `encodec` package, without needing it."""
    state = {}
    for name, weight in EncodecModel(TINY_ENCODEC).state_dict().items():
        side = name.split(".")[0]
        name = name.replace(f"{side}.layers.", f"{side}.model.", 1)
        transposed = side == "decoder" and name.split(".")[2] in ("3", "6", "9", "12")
        name = name.replace(".conv.", ".convtr.convtr." if transposed else ".conv.conv.", 1)
        name = name.replace("parametrizations.weight.original0", "weight_g")
        name = name.replace("parametrizations.weight.original1", "weight_v")
        name = name.replace("quantizer.model.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
        state[name] = weight
    torch.save(state, folder / "encodec.th")
    return folder / "encodec.th"
