"""Stage 4. What Bark's models learn from: semantic tokens and audio codes of the speech.

    python training/nano/labels.py tokens outputs/nano/speech outputs/nano/secret_tokenizer outputs/nano/tokens.npz
    python training/nano/labels.py codes outputs/nano/speech outputs/nano/codec outputs/nano/codes.npz

One array for each clip, under its id. What an existing file holds already is kept, so that a corpus may grow.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from speech import SAMPLING_RATE, Speech, load_speech
from transformers import AutoModel, EncodecModel

import hf_bark_semantic  # noqa: F401  (registers the encoder)
from hf_bark_semantic.audio import resample
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames, num_semantic_tokens
from hf_bark_semantic.voice_cloning import encode_codes


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tokens", "codes"])
    parser.add_argument("speech", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args(arguments)
    arrays = dict(np.load(args.output)) if args.output.exists() else {}
    clips = [clip for clip in load_speech(args.speech, held_out=None) if clip.id not in arrays]
    label = codes_of(args.model) if args.what == "codes" else tokens_of(args.model)
    for clip in clips:
        arrays[clip.id] = label(clip).astype(np.int16)
    new = args.output.with_suffix(".new.npz")
    np.savez_compressed(new, **arrays)
    new.rename(args.output)
    print(f"{len(arrays)} clips, {sum(array.shape[-1] for array in arrays.values())} {args.what}")


def tokens_of(folder: Path):
    tokenizer = AutoModel.from_pretrained(folder).eval()

    def tokens(clip: Speech) -> np.ndarray:
        with torch.no_grad():
            return tokenizer.encode(waveform_16k(clip)[None]).semantic_tokens[0].numpy()

    return tokens


def codes_of(folder: Path):
    codec = EncodecModel.from_pretrained(folder).eval()

    def codes(clip: Speech) -> np.ndarray:
        all_codes = encode_codes(clip.float_waveform(), codec)
        return all_codes[:, : num_codec_frames(num_semantic_tokens(all_codes.shape[1]))]

    return codes


def waveform_16k(clip: Speech) -> torch.Tensor:
    return torch.from_numpy(resample(clip.float_waveform(), SAMPLING_RATE, 16_000))


if __name__ == "__main__":
    main()
