"""Stages 2b and 3b. Compute the training labels of Bark's models: semantic tokens and audio codes of the speech.

    python training/nano/labels.py tokens outputs/nano/speech outputs/nano/secret_tokenizer outputs/nano/tokens.npz
    python training/nano/labels.py codes outputs/nano/speech outputs/nano/codec outputs/nano/codes.npz

    python training/nano/labels.py codes ... outputs/nano/codes_varied.npz --varied

Writes one array for each clip, by its id. Existing arrays are kept, so that a killed run continues and a corpus can
grow. `--processes` share the clips, with one thread each. `--varied` computes different codes of the same speech, with
shifted frames and another level for every voice.
"""

import argparse
import zlib
from collections import defaultdict
from dataclasses import replace
from functools import cache, partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from speech import SAMPLING_RATE, Speech, load_speech
from train_codec import LEVELS_DB, use_fast_elu
from transformers import AutoModel

import hf_bark_semantic  # noqa: F401  (registers the encoder)
from hf_bark_semantic.audio import resample
from hf_bark_semantic.bark.loading import load_codec
from hf_bark_semantic.configuration_bark_semantic import CODEC_HOP_LENGTH, num_codec_frames, num_semantic_tokens
from hf_bark_semantic.files import atomic_write
from hf_bark_semantic.voices.cloning import encode_codes

SAVE_EVERY = 1_000


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tokens", "codes"])
    parser.add_argument("speech", type=Path)
    parser.add_argument("model", help="folder of the tokenizer or of the codec; 'nano' for the packaged codec")
    parser.add_argument("output", type=Path)
    parser.add_argument("--clips-per-voice", type=int, help="largest number of clips of a voice")
    parser.add_argument("--varied", action="store_true", help="codes of shifted frames, at other levels")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args(arguments)
    arrays = dict(np.load(args.output)) if args.output.exists() else {}
    places = defaultdict(lambda: count(1))

    def is_wanted(row: dict) -> bool:
        place = next(places[row["voice"]])
        return row["id"] not in arrays and (not args.clips_per_voice or place <= args.clips_per_voice)

    try:
        clips = load_speech(args.speech, None, is_wanted)
    except FileNotFoundError:
        if not arrays:
            raise
        clips = []  # all clips have labels
    label = partial(codes_of if args.what == "codes" else tokens_of, args.model)
    if args.varied:
        clips = [varied(clip) for clip in clips]
    with get_context("spawn").Pool(args.processes, torch.set_num_threads, [1]) as pool:
        for done, (clip, array) in enumerate(zip(clips, pool.imap(label, clips, chunksize=20), strict=True), 1):
            arrays[clip.id] = array.astype(np.int16)
            if done % SAVE_EVERY == 0:
                save(args.output, arrays)
    save(args.output, arrays)
    print(f"{len(arrays)} clips, {sum(array.shape[-1] for array in arrays.values())} {args.what}")


def save(file: Path, arrays: dict[str, np.ndarray]):
    with atomic_write(file) as opened:
        np.savez_compressed(opened, **arrays)


@cache
def load_tokenizer(folder: str):
    return AutoModel.from_pretrained(folder).eval()


@cache
def fast_codec(name: str):
    codec = load_codec(name)
    use_fast_elu(codec)
    return codec


@torch.no_grad()
def tokens_of(folder: str, clip: Speech) -> np.ndarray:
    return load_tokenizer(folder).encode(waveform_16k(clip)[None]).semantic_tokens[0].numpy()


def codes_of(name: str, clip: Speech) -> np.ndarray:
    codes = encode_codes(clip.float_waveform(), fast_codec(name))
    return codes[:, : num_codec_frames(num_semantic_tokens(codes.shape[1]))]


def varied(clip: Speech) -> Speech:
    """The clip without a part of its first frame, at one of the levels that the codec was trained on."""
    start = int(np.random.default_rng(zlib.crc32(clip.id.encode())).integers(1, CODEC_HOP_LENGTH))
    gain = 10 ** (np.random.default_rng(zlib.crc32(clip.voice.encode())).uniform(*LEVELS_DB) / 20)
    waveform = np.pad(clip.waveform[start:] * gain, (0, start))
    return replace(clip, waveform=waveform.clip(-32768, 32767).astype(np.int16))


def waveform_16k(clip: Speech) -> torch.Tensor:
    return torch.from_numpy(resample(clip.float_waveform(), SAMPLING_RATE, 16_000))


if __name__ == "__main__":
    main()
