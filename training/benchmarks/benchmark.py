"""Measure speeds, side by side in one run.

    python training/benchmarks/benchmark.py encode                          HuBERT-base shapes, random weights
    python training/benchmarks/benchmark.py encode --encoder builtin        the packaged encoder
    python training/benchmarks/benchmark.py encode --dtype bfloat16 --head linear
    python training/benchmarks/benchmark.py synthesis --case prompts        Bark-small shapes, eight voices
    python training/benchmarks/benchmark.py synthesis --case batch --shape large
    python training/benchmarks/benchmark.py synthesis --case single --seconds 3 --beside bark.cpp FOLDER
    python training/benchmarks/benchmark.py profile                         time of the parts of Bark's stages
    python training/benchmarks/benchmark.py train                           the community's training loop and ours
    python training/benchmarks/benchmark.py train --clips 16 --rounds 1 --dtype float32
    python training/benchmarks/benchmark.py speak                           nano, one utterance at a time
    python training/benchmarks/benchmark.py corpus                          a corpus beside the synthesis of its rows
    python training/benchmarks/benchmark.py judges                          the judges of speech, per second of it
    python training/benchmarks/benchmark.py commands                        bark-semantic, alone and on busy cores

`encode` times 64 clips of 2 to 14 s. The other side is common use of transformers: the full backbone with
`output_hidden_states=True`, clip by clip, then the same head (Whisper: on 30 s, its only input length). The sides
alternate, A B A B; the ratio is that of the medians, and the roofline is the time that the machine needs for our
multiplications at its measured rate. `synthesis` is in `benchmark_synthesis.py`, `profile` in
`benchmark_profile.py`, `train` in `benchmark_train.py`, `speak` in `benchmark_speak.py`, `corpus` in
`benchmark_corpus.py`, `judges` in `benchmark_judges.py`, `commands` in `benchmark_commands.py`. Prints one JSON
object.
"""

import argparse
import json
import statistics
import sys
import time

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count
from transformers import HubertConfig, HubertModel, WhisperConfig, WhisperFeatureExtractor, WhisperModel

from benchmark_commands import add_arguments as add_commands_arguments
from benchmark_commands import benchmark_commands
from benchmark_corpus import add_arguments as add_corpus_arguments
from benchmark_corpus import benchmark_corpus
from benchmark_judges import add_arguments as add_judges_arguments
from benchmark_judges import benchmark_judges
from benchmark_profile import add_arguments as add_profile_arguments
from benchmark_profile import benchmark_profile
from benchmark_speak import add_arguments as add_speak_arguments
from benchmark_speak import benchmark_speak
from benchmark_synthesis import CASES, NANO, SHAPES, benchmark_synthesis, machine_rates
from benchmark_train import COMMUNITY_HEAD, PRECISION, add_arguments, benchmark_train
from hf_bark_semantic import BarkSemanticEncoderModel, BarkSemanticEncoderProcessor
from hf_bark_semantic.audio import load_audio
from hf_bark_semantic.configuration_bark_semantic import SAMPLING_RATE, num_semantic_tokens_of_samples, token_frames
from hf_bark_semantic.conversion.quantizer import fold_intermediate
from hf_bark_semantic.packaged import example_recording, named_encoder
from hf_bark_semantic.precision import choose_precision


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    encode = commands.add_parser("encode", help="recordings to semantic tokens")
    encode.add_argument(
        "--encoder", default="hubert", help="'hubert' (random weights), 'builtin', or a Whisper encoder"
    )
    encode.add_argument("--head", default="recurrent", choices=["recurrent", "linear"], help="for --encoder hubert")
    encode.add_argument("--layer", type=int, default=9, help="for --encoder hubert")
    encode.add_argument("--clips", type=int, default=64)
    encode.add_argument("--rounds", type=int, default=2)
    encode.add_argument("--batch-size", type=int)
    encode.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of our side")
    encode.set_defaults(benchmark=benchmark_encode)
    synthesis = commands.add_parser("synthesis", help="text to speech, against transformers")
    synthesis.add_argument("--case", default="prompts", choices=CASES)
    synthesis.add_argument("--shape", default="small", choices=[*SHAPES, NANO])
    synthesis.add_argument("--large", dest="shape", action="store_const", const="large")
    synthesis.add_argument("--utterances", type=int, default=8)
    synthesis.add_argument("--seconds", type=float, default=10.0, help="of each utterance")
    synthesis.add_argument("--batch-size", type=int, default=8, help="of `mixed` and `scaling`")
    synthesis.add_argument(
        "--their-utterances", type=int, help="of `prompts`: time fewer of those that transformers runs one by one"
    )
    synthesis.add_argument(
        "--beside", nargs="+", default=["transformers"], metavar="WHAT", help="transformers, or bark.cpp FOLDER"
    )
    synthesis.add_argument("--coarse-window", type=int, metavar="N", help="of ours; it changes what is said")
    synthesis.add_argument("--rounds", type=int, default=2)
    synthesis.add_argument("--dtype", default="auto", choices=["auto", *PRECISION], help="of both sides")
    synthesis.set_defaults(benchmark=benchmark_synthesis)
    profile = commands.add_parser("profile", help="time of the parts of Bark's stages")
    add_profile_arguments(profile)
    profile.set_defaults(benchmark=benchmark_profile)
    training = commands.add_parser("train", help="training, against the community's loop")
    add_arguments(training)
    training.set_defaults(benchmark=lambda args: benchmark_train(args, clips_of_2_to_14_s(args.clips)))
    speaking = commands.add_parser("speak", help="one utterance at a time, in a cloned voice")
    add_speak_arguments(speaking)
    speaking.set_defaults(benchmark=benchmark_speak)
    generating = commands.add_parser("corpus", help="a corpus beside the synthesis of its rows")
    add_corpus_arguments(generating)
    generating.set_defaults(benchmark=benchmark_corpus)
    judging = commands.add_parser("judges", help="the judges of speech, per second of it")
    add_judges_arguments(judging)
    judging.set_defaults(benchmark=benchmark_judges)
    typing = commands.add_parser("commands", help="waiting time of the commands")
    add_commands_arguments(typing)
    typing.set_defaults(benchmark=benchmark_commands)
    for command in (encode, synthesis, profile, training, speaking, generating, judging):
        command.add_argument("--threads", type=int)
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.dtype == "auto":
        precision, reason = choose_precision("cpu")
        args.dtype = next(dtype for dtype, name in PRECISION.items() if name == precision)
        print(f"{args.dtype}: {reason}", file=sys.stderr)
    print(json.dumps(args.benchmark(args), indent=1))


def benchmark_encode(args) -> dict:
    torch.manual_seed(0)
    waveforms = clips_of_2_to_14_s(args.clips)
    ours, theirs = hubert_sides(args) if args.encoder == "hubert" else whisper_sides(args)
    processor = BarkSemanticEncoderProcessor()
    half = ours if args.dtype == "float32" else None
    if half is None:
        half = BarkSemanticEncoderModel(ours.config)
        half.load_state_dict(ours.state_dict())
        half = half.to(getattr(torch, args.dtype)).eval()

    def our_side():
        result = half.encode(**processor(waveforms), batch_size=args.batch_size)
        return [row[:n].tolist() for row, n in zip(result.semantic_tokens, result.num_tokens.tolist(), strict=True)]

    def their_side():
        return [theirs(waveform) for waveform in waveforms]

    times = {"ours": [], "transformers": []}
    our_tokens = their_tokens = None
    for _ in range(args.rounds):
        for name, side in [("transformers", their_side), ("ours", our_side)]:
            start = time.perf_counter()
            tokens = side()
            times[name].append(time.perf_counter() - start)
            our_tokens, their_tokens = (tokens, their_tokens) if name == "ours" else (our_tokens, tokens)
    equal = [a == b for x, y in zip(our_tokens, their_tokens, strict=True) for a, b in zip(x, y, strict=True)]
    seconds = sum(map(len, waveforms)) / SAMPLING_RATE
    medians = {name: statistics.median(values) for name, values in times.items()}
    with CountedFlops() as counted:
        our_side()
    bound_s = counted.flops / machine_rates(half.dtype)["flop_per_second"]
    return {
        "what": f"{args.encoder}, {ours.config.head_type} head, ours in {args.dtype}, transformers in float32",
        "clips": len(waveforms),
        "audio_seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "audio_seconds_per_second": {name: round(seconds / value, 2) for name, value in medians.items()},
        "times": {name: [round(value, 2) for value in values] for name, values in times.items()},
        "speedup": round(medians["transformers"] / medians["ours"], 2),
        "share_of_roofline": round(bound_s / medians["ours"], 3),
        "equal_tokens": round(float(np.mean(equal)), 5),
    }


class CountedFlops(TorchDispatchMode):
    """Sum up the floating-point operations of products, convolutions, attention and recurrent layers on a CPU."""

    def __init__(self):
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        output = function(*arguments, **(keywords or {}))
        operator = function._overloadpacket
        if operator is torch.ops.aten.mkldnn_rnn_layer:
            inputs, *weights = arguments[:3]
            self.flops += 2 * inputs.shape[:-1].numel() * sum(weight.numel() for weight in weights)
        elif operator is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
            self.flops += sdpa_flop_count(*(part.shape for part in arguments[:3]))
        elif operator in flop_registry:
            self.flops += flop_registry[operator](*arguments, **(keywords or {}), out_val=output)
        return output


def clips_of_2_to_14_s(count: int) -> list[np.ndarray]:
    """Pieces of the packaged recording, repeated and with faint noise, of lengths spread evenly over 2 to 14 s."""
    speech = np.tile(load_audio(example_recording()), 2)
    rng = np.random.default_rng(0)
    clips = []
    for length in rng.permutation(np.linspace(2, 14, count)):
        start = rng.integers(len(speech) - int(length * SAMPLING_RATE))
        clip = speech[start : start + int(length * SAMPLING_RATE)]
        clips.append((clip + 1e-3 * rng.standard_normal(len(clip))).astype(np.float32))
    return clips


def hubert_sides(args):
    """Our side has the head from `bark-semantic convert`, theirs the published one with two linear layers."""
    full = HubertModel(HubertConfig()).eval()
    recurrent = args.head == "recurrent"
    settings = {"backbone_layers": [args.layer], **(COMMUNITY_HEAD if recurrent else {"head_type": "linear"})}
    model = BarkSemanticEncoderModel.from_backbone(full, **settings).eval()
    published = model.head
    if recurrent:
        model = BarkSemanticEncoderModel.from_backbone(full, **{**settings, "intermediate_size": 0}).eval()
        weights = {name.replace("output.", "fc."): weight for name, weight in published.state_dict().items()}
        folded = {name.replace("fc.", "output."): weight for name, weight in fold_intermediate(weights).items()}
        model.head.load_state_dict(folded)

    @torch.inference_mode()
    def theirs(waveform):
        states = full(torch.from_numpy(waveform)[None], output_hidden_states=True).hidden_states[args.layer]
        return _tokens(model.config, published, [states], len(waveform))

    return model, theirs


def whisper_sides(args):
    model = BarkSemanticEncoderModel.from_pretrained(named_encoder(args.encoder))
    model = model.float().eval()
    config = WhisperConfig(**{**model.config.backbone_config.to_dict(), "decoder_layers": 1})
    full = WhisperModel(config).encoder.eval()
    full.load_state_dict({**full.state_dict(), **model.backbone.model.state_dict()})
    extractor = WhisperFeatureExtractor(feature_size=config.num_mel_bins)

    @torch.inference_mode()
    def theirs(waveform):
        features = extractor(waveform, sampling_rate=SAMPLING_RATE, return_tensors="pt").input_features
        states = full(features, output_hidden_states=True).hidden_states
        return _tokens(
            model.config, model.head, [states[layer] for layer in model.config.backbone_layers], len(waveform)
        )

    return model, theirs


def _tokens(config, head, states, num_samples):
    """The tokens of one clip by the same head on transformers' features."""
    if config.normalize_features:
        states = [F.layer_norm(state, state.shape[-1:]) for state in states]
    states = torch.cat(states, dim=-1)
    tokens = torch.arange(num_semantic_tokens_of_samples(num_samples))
    index = token_frames(tokens, config.frame_offset)
    return head(states[:, index.clamp(0, states.shape[1] - 1)])[0].argmax(-1).tolist()


if __name__ == "__main__":
    main()
