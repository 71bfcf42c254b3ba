"""Stage 6. Generate labelled speech with nano, to train its encoder on.

    python training/nano/speak_corpus.py outputs/nano --minutes 60

Reads `bark/`, `speech/`, `tokens.npz` and `codes.npz` (clips of the training voices are the voice prompts); writes the
`datasets` folder `generated/` with the columns for `training/train_encoder.py`. Blocks of requests are in
`generated_blocks/`: a repeated command continues after the last block, and more minutes add blocks. The labels are the
tokens that nano generated, never those of the secret tokenizer.
"""

import argparse
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from sentences import is_held_out, random_text
from train_bark import load_utterances
from transformers import BarkModel, BarkProcessor

from hf_bark_semantic.audio import resample
from hf_bark_semantic.bark.configs import bark_generation_configs
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.sampling import Sampling
from hf_bark_semantic.bark.synthesis import synthesize
from hf_bark_semantic.bark.voice_prompt import VoicePrompt
from hf_bark_semantic.files import atomic_write

BLOCKS = "generated_blocks"  # all with the same --block-size
UNPROMPTED = 0.1  # share of texts without a voice prompt
UNGUIDED = 0.6  # share without guidance: less clear and more varied speech, which trains a better encoder


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, help="most semantic tokens of an utterance (default: all that fit)")
    parser.add_argument(
        "--block-size", type=int, default=256, help="requests in a block; a tenth must end by themselves"
    )
    parser.add_argument("--processes", type=int, default=2, help="processes of one thread, which share the blocks")
    args = parser.parse_args(arguments)
    (args.folder / BLOCKS).mkdir(exist_ok=True)
    trained = (args.folder / "bark" / "model.safetensors").stat().st_mtime
    if any(file.stat().st_mtime < trained for file in (args.folder / BLOCKS).glob("*.parquet")):
        raise SystemExit(f"{args.folder / BLOCKS} has blocks by an earlier nano. Remove that folder.")
    rows, seconds, first = [], 0.0, 0
    with get_context("spawn").Pool(args.processes, torch.set_num_threads, [1]) as pool:
        while seconds < args.minutes * 60:
            blocks = range(first, first + args.processes)
            for file in pool.starmap(speak_block, [(args, number) for number in blocks], chunksize=1):
                own = Dataset.from_parquet(str(file), keep_in_memory=True).to_list()
                rows += own
                seconds += sum(len(row["audio"]) for row in own) / 16_000
            first += args.processes
            print(f"{first} blocks, {len(rows)} clips, {seconds / 60:.1f} min", flush=True)
    ends = np.cumsum([len(row["audio"]) for row in rows])
    rows = rows[: int(np.searchsorted(ends, args.minutes * 60 * 16_000)) + 1]  # the same for any number of processes
    Dataset.from_list(rows).save_to_disk(args.folder / "generated")
    print(f"{len(rows)} clips, {args.minutes:g} min, {len({row['voice'] for row in rows})} voices")


def speak_block(args, number: int) -> Path:
    """The file with the rows of a block of requests; it is made if it is missing."""
    file = args.folder / BLOCKS / f"{number:05d}.parquet"
    if file.exists():
        return file
    bark, tokenizer, prompts = load_speaker(args.folder)
    names = {}  # seed of a request -> voice
    requests = random_requests(prompts, names, args.max_tokens)
    requests = islice(requests, number * args.block_size, (number + 1) * args.block_size)
    rows = [
        row(result, names[result.request.seed])
        for result in synthesize(bark, requests, tokenizer=tokenizer, batch_size=args.batch_size)
        if result.finish_reason == "eos" and len(result.semantic_tokens) >= 20
    ]
    if len(rows) < args.block_size / 10:
        raise RuntimeError(f"nano ended {len(rows)} of {args.block_size} texts. Train the semantic model longer.")
    with atomic_write(file) as opened:
        Dataset.from_list(rows).to_parquet(opened)
    return file


@cache
def load_speaker(folder: Path):
    """nano, its tokenizer and the voice prompts, loaded once per process."""
    bark = BarkModel.from_pretrained(folder / "bark").eval()
    tokenizer = BarkProcessor.from_pretrained(folder / "bark").tokenizer
    return bark, tokenizer, voice_prompts(folder, tokenizer, bark)


def voice_prompts(folder: Path, tokenizer, bark) -> dict[str, list[VoicePrompt]]:
    """Prompts of at least 3 s by voice, from the training speech of the coarse and fine models."""
    configs = bark_generation_configs(bark)
    prompts = {}
    for utterance in load_utterances(folder, tokenizer, configs, "coarse"):
        if utterance.num_tokens >= 150:
            prompt = VoicePrompt.from_tokens_and_codes(
                utterance.semantic_tokens, utterance.audio_codes,
                semantic_vocab_size=configs.semantic.semantic_vocab_size,
            )  # fmt: skip
            prompts.setdefault(utterance.voice, []).append(prompt)
    return prompts


def random_requests(prompts: dict[str, list[VoicePrompt]], names: dict[int, str], max_tokens: int | None):
    """Yield requests endlessly, and store the voice of each by its seed."""
    rng, voices = np.random.default_rng(0), sorted(prompts)
    seed = 0
    while True:
        seed += 1
        text = " ".join(random_text(rng) for _ in range(rng.integers(1, 4)))
        if is_held_out(text):
            continue
        voice = None if rng.random() < UNPROMPTED else voices[rng.integers(len(voices))]
        prompt = None if voice is None else prompts[voice][rng.integers(len(prompts[voice]))]
        scale = 1.0 if rng.random() < UNGUIDED else None
        guidance = {"guidance_scale": scale, "voice_guidance_scale": scale}
        sampling = [Sampling(float(rng.uniform(0.5, 0.9)), min_eos_p=m, **guidance) for m in (0.2, None)]
        names[seed] = voice or f"own {seed}"
        yield SynthesisRequest(
            text=text, voice_prompt=prompt, prompt_mode="none" if prompt is None else "full", seed=seed,
            semantic=sampling[0], coarse=sampling[1], max_semantic_tokens=max_tokens,
        )  # fmt: skip


def row(result, voice: str) -> dict:
    request = result.request
    return {
        "id": f"nano-{request.seed:06d}", "source": "nano", "kind": "generated", "voice": voice, "text": request.text,
        "fold": request.seed % 20, "in_folds": True, "semantic_tokens": result.semantic_tokens.tolist(),
        "audio_codes": result.audio_codes.tolist(),
        "audio": resample(result.waveform, result.sampling_rate, 16_000),
    }  # fmt: skip


if __name__ == "__main__":
    main()
