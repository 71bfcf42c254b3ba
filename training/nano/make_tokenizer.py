"""Stage 2. Make the secret tokenizer: k-means on features of Whisper tiny.en's encoder, 500 ids.

    python training/nano/make_tokenizer.py outputs/nano/speech outputs/nano/secret_tokenizer \\
        --whisper outputs/whisper_tiny_en

Like Suno's tokenizer, it is not part of the package: it labels nano's training speech, and evaluations compare with
it. It is saved as a `BarkSemanticEncoderModel` with a linear head, which is equivalent to k-means inference. By
default, the centroids are those of the packaged nano, from the file beside this script; --new makes others, for
another nano.
"""

import argparse
from pathlib import Path

import torch
from labels import waveform_16k
from nano_bark import SEMANTIC_VOCAB_SIZE as VOCAB_SIZE
from safetensors.torch import load_file
from speech import load_speech

from hf_bark_semantic import BarkSemanticEncoderModel, BarkSemanticEncoderProcessor
from hf_bark_semantic.trainers.initial_heads import nearest_centroid, token_means

LAYER = 3
CLIPS, ITERATIONS = 2_500, 20
CENTROIDS = Path(__file__).with_name("secret_centroids.safetensors")  # float16


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--whisper", required=True, help="a Whisper encoder, from `bark-semantic convert`")
    parser.add_argument("--new", action="store_true", help="make centroids from the speech")
    args = parser.parse_args(arguments)
    model = BarkSemanticEncoderModel.from_backbone(
        args.whisper, backbone_layers=[LAYER], normalize_features=True, head_type="linear", vocab_size=VOCAB_SIZE,
        input_level_db=-22.0,
    ).eval()  # fmt: skip
    centroids = new_centroids(model, args.speech) if args.new else packaged_centroids()
    model.head.from_centroids(centroids)
    model.save_pretrained(args.output)
    BarkSemanticEncoderProcessor().save_pretrained(args.output)


@torch.no_grad()
def packaged_centroids() -> torch.Tensor:
    """The centroids of the packaged nano, `(num_tokens, num_features)`."""
    return load_file(CENTROIDS)["centroids"].float()


def new_centroids(model: BarkSemanticEncoderModel, speech: Path) -> torch.Tensor:
    """New centroids `(VOCAB_SIZE, feature_size)` from random clips."""
    generator = torch.Generator().manual_seed(0)
    clips = load_speech(speech)
    clips = [clips[i] for i in torch.randperm(len(clips), generator=generator)[:CLIPS]]
    features = torch.cat([model.features(waveform_16k(clip)[None])[0] for clip in clips])
    return k_means(features, generator)


def k_means(features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Centroids `(VOCAB_SIZE, feature_size)` of features `(tokens, feature_size)`; empty clusters are restarted."""
    everything = torch.ones(VOCAB_SIZE, dtype=torch.bool)
    centroids = features[torch.randperm(len(features), generator=generator)[:VOCAB_SIZE]]
    for iteration in range(ITERATIONS):
        nearest = nearest_centroid(features, centroids, everything)
        means, hit = token_means(features, nearest, VOCAB_SIZE)
        new = features[torch.randint(len(features), (VOCAB_SIZE,), generator=generator)]
        centroids = torch.where(hit[:, None], means, new)
        if iteration % 5 == 4:
            error = (features - centroids[nearest]).square().mean() / features.var()
            print(f"iteration {iteration + 1}: {len(features)} frames, {error:.3f} of the variance left", flush=True)
    return centroids


if __name__ == "__main__":
    main()
