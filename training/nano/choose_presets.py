"""Stage 8. Choose the clones of training voices that become presets, by word error rate.

    python training/nano/choose_presets.py outputs/nano
    python training/nano/choose_presets.py outputs/nano --final
    python training/nano/choose_presets.py outputs/nano --part 1 2     the second of two processes

Clones are made like those of users: nano's encoder encodes a recording. Each clone speaks the same development texts,
none of which is held out for evaluations, and Whisper transcribes them: first a few texts for two recordings of every
voice, then more texts for the best recordings. Reads `bark/`, `encoder/` and `speech/`; writes `presets/VOICE.json`,
then `presets/final/VOICE.json`: word error rates by recording. Finished files are kept. `package.py` uses the best of
the final results.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sentences import is_held_out, random_text
from speech import SAMPLING_RATE, Speech, load_speech
from transformers import AutoModel, BarkModel, BarkProcessor, pipeline

import hf_bark_semantic  # noqa: F401  (registers the encoder)
from hf_bark_semantic import BarkSemanticEncoderProcessor
from hf_bark_semantic.audio import resample
from hf_bark_semantic.bark.loading import check_bark
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.synthesis import synthesize
from hf_bark_semantic.bark.voice_prompt import VoicePrompt
from hf_bark_semantic.configuration_bark_semantic import SAMPLING_RATE as WHISPER_SAMPLING_RATE
from hf_bark_semantic.evaluation.judges import load_transcriber
from hf_bark_semantic.evaluation.sequences import word_errors
from hf_bark_semantic.files import write_json
from hf_bark_semantic.voices.cloning import clone_voice

KINDS = {"digits": 1.0, "sentences": 0.0}  # share of digit strings
TEXTS, FINAL_TEXTS, FINALISTS = 4, 12, 20  # texts of each kind
RECORDINGS, RECORDING_S, PAUSE_S = 2, 7.0, 0.2


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--final", action="store_true", help="measure the best again, with more texts")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help="voices I, I + N, ...")
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    bark = BarkModel.from_pretrained(args.folder / "bark").eval()
    tokenizer = BarkProcessor.from_pretrained(args.folder / "bark", speaker_embeddings_dict_path=None).tokenizer
    encoder, transcribe = encoder_pipeline(AutoModel.from_pretrained(args.folder / "encoder")), load_transcriber()
    clips = load_speech(args.folder / "speech", wanted=lambda row: is_candidate(row["voice"]))
    results, texts = args.folder / "presets", development_texts(TEXTS, 1)
    recordings = {clip.voice: list(range(RECORDINGS)) for clip in clips}
    if args.final:
        recordings = {voice: [number] for voice, number in best_recordings(results, FINALISTS).values()}
        results, texts = results / "final", development_texts(FINAL_TEXTS, 2)
    results.mkdir(exist_ok=True)
    for voice in sorted(recordings)[args.part[0] :: args.part[1]]:
        file, numbers = results / f"{voice}.json", recordings[voice]
        if not file.exists():
            prompts = [cloned(clips, voice, number, encoder, bark) for number in numbers]
            rates = error_rates(bark, tokenizer, prompts, texts, transcribe, args.batch_size)
            write_json(file, dict(zip(numbers, rates, strict=True)))
            print(voice, rates, flush=True)


def is_candidate(voice: str) -> bool:
    """Whether a voice is one of Kokoro's own (`af_heart`); the second letter of the name is the sex."""
    return voice[2:3] == "_" and not {"+", "@", "~"} & set(voice)


def encoder_pipeline(encoder):
    return pipeline("audio-to-bark-semantic", model=encoder.eval(), processor=BarkSemanticEncoderProcessor())


def cloned(clips: list[Speech], voice: str, number: int, encoder, bark: BarkModel) -> VoicePrompt:
    """A clone of the voice from its `number`-th recording of `RECORDINGS`."""
    own = [clip for clip in clips if clip.voice == voice]
    waveform = joined_clips(own[number * len(own) // RECORDINGS :], voice, RECORDING_S)
    recording, histories = {"array": waveform, "sampling_rate": SAMPLING_RATE}, check_bark(bark).history_lengths
    return clone_voice(recording, encoder, codec=bark.codec_model, histories=histories).prompt


def joined_clips(clips: list[Speech], voice: str, seconds: float) -> np.ndarray:
    """A recording of a voice of at least this number of seconds, with pauses."""
    pause, parts = np.zeros(int(PAUSE_S * SAMPLING_RATE), np.int16), []
    for clip in clips:
        if clip.voice == voice and sum(map(len, parts)) < seconds * SAMPLING_RATE:
            parts += [clip.waveform, pause]
    return np.concatenate(parts)


def error_rates(bark, tokenizer, prompts: list[VoicePrompt], texts, transcribe, batch_size: int) -> list[dict]:
    """Word error rate of each prompt in each kind of text."""
    spoken = [(number, kind, text) for number in range(len(prompts)) for kind in KINDS for text in texts[kind]]
    requests = [
        SynthesisRequest(text=text, voice_prompt=prompts[number], seed=seed)
        for seed, (number, _, text) in enumerate(spoken)
    ]
    errors, words = ([dict.fromkeys(KINDS, 0) for _ in prompts] for _ in range(2))
    for result in synthesize(bark, requests, tokenizer=tokenizer, batch_size=batch_size):
        number, kind, text = spoken[result.index]
        said = len(result.waveform) > 0
        transcript = transcribe(resample(result.waveform, result.sampling_rate, WHISPER_SAMPLING_RATE)) if said else ""
        count = word_errors(text, transcript)
        errors[number][kind] += count.errors
        words[number][kind] += count.num_reference
    return [{kind: wrong[kind] / all_[kind] for kind in KINDS} for wrong, all_ in zip(errors, words, strict=True)]


def development_texts(count: int, seed: int) -> dict[str, list[str]]:
    """`count` texts of each kind, none of which is held out."""
    rng, texts = np.random.default_rng(seed), {kind: [] for kind in KINDS}
    for kind, share in KINDS.items():
        while len(texts[kind]) < count:
            text = random_text(rng, share)
            texts[kind] += [] if is_held_out(text) else [text]
    return texts


def best_recordings(results: Path, count: int) -> dict[str, tuple[str, int]]:
    """The voices and recordings with the lowest error rates for `count` presets, half of them women, by name."""
    ranked = []
    for file in sorted(results.glob("*.json")):
        rates = json.loads(file.read_text())
        best = min(rates, key=lambda number: sum(rates[number].values()))
        ranked.append((sum(rates[best].values()), file.stem, int(best)))
    chosen, places = {}, dict.fromkeys("fm", count // 2)
    for _, voice, number in sorted(ranked):
        name = voice.split("_")[1]
        if places[voice[1]] and name not in chosen:
            chosen[name] = (voice, number)
            places[voice[1]] -= 1
    if any(places.values()):
        raise FileNotFoundError(f"{results} has too few voices for {count} presets; run choose_presets.py first.")
    return chosen


if __name__ == "__main__":
    main()
