"""`benchmark.py train`: audio seconds per second of training, beside the loop of the community's quantizers.

Both sides train on the same clips, with the same frozen HuBERT of base shape and random weights. Theirs: one clip per
step, all twelve layers with `output_hidden_states=True`, layer 9, a two-layer LSTM with a second projection
(gitmylo, version 1), cross-entropy, Adam at 1e-3. Ours: `trainers.loop.train` on batches of crops, nine layers,
in two variants: from the waveform, and from cached features. Our head is the LSTM with its two projections folded into
one, as by `bark-semantic convert`, or the transformer of the recipes.

The variant with cached features has two figures: the steps only, and the steps with the computation of the features
for `--passes` passes over the clips.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import HubertConfig, HubertModel

from hf_bark_semantic import BarkSemanticEncoderModel
from hf_bark_semantic.configuration_bark_semantic import (
    SEMANTIC_RATE_HZ,
    num_codec_frames,
    num_samples_of_codec_frames,
    num_semantic_tokens_of_samples,
)
from hf_bark_semantic.corpus.rows import Clip
from hf_bark_semantic.heads_bark_semantic import RecurrentHead
from hf_bark_semantic.trainers.encoder import HeadOnFeatures
from hf_bark_semantic.trainers.encoder_batches import BatchPlan, CropBatches, FeatureBatches
from hf_bark_semantic.trainers.loop import TrainingArguments, train

LAYER = 9
COMMUNITY_HEAD = {  # version 1 quantizers
    "head_type": "recurrent",
    "hidden_size": 1_024,
    "num_hidden_layers": 2,
    "intermediate_size": 4_096,
}
OUR_HEADS = {
    "recurrent": {**COMMUNITY_HEAD, "intermediate_size": 0},
    "transformer": {"head_type": "transformer", "num_hidden_layers": 2, "conv_kernel_size": 3},
}
PRECISION = {"float32": "no", "bfloat16": "bf16"}


def add_arguments(parser):
    parser.add_argument("--clips", type=int, default=64, help="of 2 to 14 s")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, help="of ours in a round; by default one pass over the clips")
    parser.add_argument("--crops", type=int, default=16, help="of 256 tokens, in a batch of ours")
    parser.add_argument("--head", default="recurrent", choices=list(OUR_HEADS), help="of ours")
    parser.add_argument("--dtype", default="auto", choices=["auto", *PRECISION], help="of ours; theirs is float32")
    parser.add_argument("--passes", type=int, default=20, help="over the clips, that the features are computed for")


def benchmark_train(args, waveforms: Sequence[np.ndarray], hubert_config: HubertConfig | None = None) -> dict:
    """Time both sides on `waveforms` (16 kHz); see the module."""
    torch.manual_seed(0)
    hubert = HubertModel(hubert_config or HubertConfig()).eval().requires_grad_(False)
    clips = labelled_clips(waveforms)
    seconds = sum(clip.num_tokens for clip in clips) / SEMANTIC_RATE_HZ
    layer = min(LAYER, hubert.config.num_hidden_layers)
    model = BarkSemanticEncoderModel.from_backbone(hubert, backbone_layers=[layer], **OUR_HEADS[args.head])
    model.freeze_backbone()
    plan = BatchPlan(crops={"clip": args.crops})
    steps = args.steps or max(1, round(seconds * SEMANTIC_RATE_HZ / args.crops / plan.num_tokens))
    batches = CropBatches(clips, plan, steps=steps, seed=0, codebook_size=model.config.codebook_size, inputs=["audio"])
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bfloat16"):  # as in a training
        features = FeatureBatches(model, batches, copies={"clip": 1})
    features_s = time.perf_counter() - start
    sides = {
        "community": community_loop(hubert, layer, clips),
        "ours": lambda: our_loop(model, batches, args.dtype),
        "ours, features cached": lambda: our_loop(HeadOnFeatures(model), features, args.dtype),
    }
    audio_s = {"community": seconds, "ours": seconds_of(batches), "ours, features cached": seconds_of(features)}
    times = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - start)
    cost = {name: statistics.median(values) / audio_s[name] for name, values in times.items()}  # per second of audio
    whole = f"ours, features cached and computed, {args.passes} passes"
    cost[whole] = cost["ours, features cached"] + features_s / seconds / args.passes
    speeds = {name: round(1 / value, 2) for name, value in cost.items()}
    head = sum(weight.numel() for weight in model.head.parameters())
    return {
        "what": f"community: float32, its LSTM; ours: {args.dtype}, {args.head} head of {head / 1e6:.1f} M weights, "
        f"batches of {args.crops} x {plan.num_tokens} tokens",
        "clips": len(clips),
        "audio_seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "audio_seconds_per_second": speeds,
        "speedup": {name: round(cost["community"] / value, 2) for name, value in cost.items() if name != "community"},
        "feature_seconds": round(features_s, 2),
        "times": {name: [round(value, 2) for value in values] for name, values in times.items()},
    }


def labelled_clips(waveforms: Sequence[np.ndarray]) -> list[Clip]:
    """Cut to whole codec frames, with random tokens."""
    rng, clips = np.random.default_rng(0), []
    for number, waveform in enumerate(waveforms):
        num_tokens = num_semantic_tokens_of_samples(len(waveform))
        num_samples = num_samples_of_codec_frames(num_codec_frames(num_tokens))
        waveform = np.pad(waveform, (0, max(0, num_samples - len(waveform))))[:num_samples]
        tokens = rng.integers(0, 10_000, num_tokens)
        clips.append(Clip(str(number), "clip", "", "", -1, True, tokens, None, waveform))
    return clips


def community_loop(hubert: HubertModel, layer: int, clips: Sequence[Clip]):
    """One pass, a step for each clip."""
    config = BarkSemanticEncoderModel.config_class(
        backbone_config=copy.deepcopy(hubert.config), backbone_layers=[layer], **COMMUNITY_HEAD
    )
    head = RecurrentHead(config)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)

    def run():
        for clip in clips:
            with torch.no_grad():
                output = hubert(torch.from_numpy(clip.waveform)[None], output_hidden_states=True)
            states = output.hidden_states[layer]  # (1, num_frames, width)
            count = min(states.shape[1], clip.num_tokens)  # a frame for a token, what is left over is cut off
            logits = head(states[:, :count])
            loss = F.cross_entropy(logits[0], torch.from_numpy(clip.semantic_tokens[:count]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def our_loop(model: nn.Module, batches, dtype: str):
    with tempfile.TemporaryDirectory() as folder:
        rates = {"backbone": 0.0} if hasattr(model, "backbone") else {}
        arguments = TrainingArguments(
            folder,
            steps=len(batches),
            learning_rates=rates,
            mixed_precision=PRECISION[dtype],
            checkpoint_every=0,
            log_every=0,
        )
        train(model, batches, arguments)


def seconds_of(batches) -> float:
    """Of the audio in all batches, without padding."""
    tokens = sum(int((part["labels"] != -100).sum()) for step in range(len(batches)) for part in batches[step])
    return tokens / SEMANTIC_RATE_HZ
