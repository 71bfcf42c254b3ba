"""Accuracy of trained encoders on clips that they were not trained on: scores, tables and plots.

load_encoder        load a folder, a Hub id or a name such as "builtin"
training_record     the fold and the seed of an encoder's training
score_journal       scores of clips in a folder, so that a killed evaluation can continue
score_runs          score every encoder on its held-out fold
held_out_report     accuracy with intervals by kind of clip, for JSON
held_out_blocks     the same as tables and plots of a report
"""

import hashlib
import logging
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from transformers import EncodecModel

from ..configuration_bark_semantic import SAMPLING_RATE
from ..corpus.rows import Clip, split_fold
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from ..packaged import named_encoder
from ..trainers.encoder_batches import Piece, decode_pieces
from ..trainers.records import training_record
from ..trainers.splits import FINGERPRINTED_ROWS, corpus_fingerprint
from .calibration import TEMPERATURES, calibration_lines, calibration_report, calibration_table
from .journal import Journal
from .report_page import MAX_SOUNDS, IntervalPlot, Sound, Table
from .significance import Estimate
from .tokens import ClipScore, accuracy, front_end_agreement, score_clips, summarize

logger = logging.getLogger(__name__)

FIELDS = {"top_1": "top-1", "top_5": "top-5"}


@dataclass(frozen=True)
class RunScore:
    """The score of one clip, with the encoder's place, held-out fold and training seed."""

    encoder: str
    fold: int | None
    seed: int | None
    score: ClipScore

    def as_row(self) -> dict:
        """A flat row, with the accuracy of the clip."""
        row = {"encoder": self.encoder, "fold": self.fold, "training_seed": self.seed, **self.score.as_row()}
        shares = {name: None if row[name] is None else row[name] / row["num_tokens"] for name in FIELDS}
        return {**row, **{f"{name}_accuracy": share for name, share in shares.items()}}


def load_encoder(place: str, input_level_db: float | None = None) -> BarkSemanticEncoderModel:
    """Load an encoder in float32, in evaluation mode, on the device of this process.

    Args:
        place (`str`): a folder, a Hub id, or a name for [`named_encoder`].
        input_level_db (`float`, *optional*): the level to which waveforms are normalized, instead of the config's.
    """
    model = BarkSemanticEncoderModel.from_pretrained(named_encoder(place))
    if input_level_db is not None:
        model.config.input_level_db = input_level_db
    return model.float().eval().to(PartialState().device)


def with_truth(clips: Sequence[Clip]) -> list[Clip]:
    """The clips for accuracy: all with known tokens but the sweep, which is not speech."""
    return [clip for clip in clips if clip.source != "sweep" and clip.has_tokens]


@contextmanager
def score_journal(folder: Path | None, clips: Sequence[Clip], **settings) -> Iterator[Journal]:
    """Open the journal of scores.

    Args:
        folder (`Path`, *optional*): the folder of the scores; without one, they are deleted at the end.
        clips (sequence of `Clip`): the whole corpus; another corpus needs another folder.
        settings: everything else that the scores depend on.
    """
    settings["temperatures"] = TEMPERATURES
    settings["clips"] = zlib.crc32(b"".join(clip.id.encode() + clip.semantic_tokens.tobytes() for clip in clips))
    with tempfile.TemporaryDirectory() as temporary:
        yield Journal(folder or Path(temporary), settings, process=PartialState().process_index)


def score_share(
    model: BarkSemanticEncoderModel,
    clips: Sequence[Clip],
    journal: Journal,
    *,
    known_codebooks: int = 8,
    codec: EncodecModel | None = None,
) -> list[ClipScore]:
    """Score this process's share of the clips, except those in the journal, and return the scores of all clips.

    With a codec, the codes of clips without audio are decoded to audio first.
    """

    def score(clip: Clip) -> list[dict]:
        return [asdict(score) for score in score_clips(model, [with_audio(clip, codec)], known_codebooks)]

    return [ClipScore(**score) for scores in kept_scores(score, clips, journal, digest_of(model)) for score in scores]


def kept_scores(score: Callable[[Clip], Any], clips: Sequence[Clip], journal: Journal, digest: str) -> list[Any]:
    """Call `score` for this process's share of the clips, except those in the journal, and return all results.

    Args:
        score (`Callable`): returns the result for a clip, JSON-serializable.
        digest (`str`): digest of the encoders that are scored.
    """
    state = PartialState()
    by_id = {f"{digest} {number} {clip.id}": clip for number, clip in enumerate(clips)}
    done = journal.records()
    for name in list(by_id)[state.process_index :: state.num_processes]:
        if name not in done:
            journal.add({"id": name, "scores": score(by_id[name])})
    state.wait_for_everyone()
    done = journal.records()
    return [done[name]["scores"] for name in by_id]


def with_audio(clip: Clip, codec: EncodecModel | None) -> Clip:
    """The clip; if it has codes but no audio, with audio that the codec decodes."""
    if codec is None or clip.waveform is not None or clip.audio_codes is None:
        return clip
    (waveform,) = decode_pieces([Piece(clip, 0, clip.num_tokens, 0)], codec)
    return replace(clip, waveform=waveform)


def digest_of(model: BarkSemanticEncoderModel) -> str:
    """A digest of config and weights, so that a changed model is scored again."""
    digest = hashlib.sha256(model.config.to_json_string().encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def score_runs(
    encoders: Sequence[str],
    clips: Sequence[Clip],
    journal: Journal,
    *,
    known_codebooks: int = 8,
    input_level_db: float | None = None,
    codec: EncodecModel | None = None,
    unseen: bool = False,
) -> Iterator[tuple[list[RunScore], float | None]]:
    """Score each encoder on the fold that it was trained without; only the main process receives the scores.

    Args:
        codec (`EncodecModel`, *optional*): decodes the codes of clips without audio, like `batches.codec` of a
            training config.
        unseen (`bool`): the caller guarantees that the encoders were trained on none of the clips; all are scored.

    Yields:
        For each encoder, its scores, and the share of tokens that are equal from audio and from codes (`None` if it
            does not read both).

    Raises:
        ValueError: an encoder's held-out fold is unknown, it was trained on all folds, the fold has no clips, or the
            encoder can read none of them.
    """
    for place in encoders:
        record = training_record(place)
        held_out = with_truth(held_out_clips(place, record, clips, unseen=unseen))
        fold, seed = (None, None) if record is None else (record["fold"], record["seed"])
        model = load_encoder(place, input_level_db)
        scores = score_share(model, held_out, journal, known_codebooks=known_codebooks, codec=codec)
        if unread := len(held_out) - len({score.id for score in scores}):
            reason = (
                "they have no audio. --codec facebook/encodec_24khz (or the Bark that made them) decodes their codes."
            )
            if not scores:
                raise ValueError(f"{place} can read none of the {len(held_out)} clips: {reason}")
            logger.warning("%s cannot read %d of %d clips: %s", place, unread, len(held_out), reason)
        if PartialState().is_main_process:
            reads_both = model.codec_front_end is not None and model.backbone is not None
            both = [clip for clip in held_out if clip.waveform is not None and clip.audio_codes is not None]
            pairs = [clip for clip in both if clip.source == "pair"] or both
            runs = [RunScore(place, fold, seed, score) for score in scores]
            yield runs, front_end_agreement(model, pairs) if reads_both and pairs else None


def held_out_clips(place: str, record: Mapping | None, clips: Sequence[Clip], *, unseen: bool) -> list[Clip]:
    """The clips that an encoder was trained without.

    Args:
        place (`str`), record (`Mapping`, *optional*): the encoder, and its [`training_record`].
        clips (sequence of `Clip`): the whole corpus.
        unseen (`bool`): as in [`score_runs`].

    Raises:
        ValueError: there are none, or the held-out fold is unknown.
    """
    fold = None if record is None else record["fold"]
    if fold is not None:
        if unseen:
            raise ValueError(f"{place} was trained without fold {fold}, which it is measured on: omit --unseen.")
        _, held_out = split_fold(clips, fold)
        if not held_out:
            raise ValueError(f"{place} was trained without fold {fold}, but no clip of this corpus is in that fold.")
        return held_out
    same = {corpus_fingerprint(list(part)) for part in (clips, clips[:FINGERPRINTED_ROWS])}
    if record is not None and record.get("corpus_fingerprint") in same:
        raise ValueError(
            f"{place} was trained without holding a fold out, on every clip of this corpus. Train another one "
            "with train_encoder --fold N for each fold, or measure it with --unseen on a corpus made later."
        )
    if unseen:
        return list(clips)
    if record is None:
        raise ValueError(
            f"{place} has no training.json, so its held-out fold is unknown. Name folders of "
            "train_encoder, or add --unseen if none of these clips was in its training."
        )
    raise ValueError(
        f"{place} was trained on all of {record.get('corpus', 'its corpus')!r}, without holding a fold out. Add "
        "--unseen if none of these clips was in that corpus; otherwise train with --fold N for each fold."
    )


def run_line(runs: Sequence[RunScore]) -> str:
    """A sentence with the accuracy of one encoder on English audio, or else on the first kind of clips."""
    names = dict.fromkeys((run.score.kind, run.score.inputs) for run in runs)
    kind, inputs = next((name for name in names if name == ("english", "audio")), next(iter(names)))
    chosen = [run.score for run in runs if (run.score.kind, run.score.inputs) == (kind, inputs)]
    top_1, top_5 = (accuracy(chosen, field) for field in FIELDS)
    of_fold = "unseen clips" if runs[0].fold is None else f"fold {runs[0].fold}"
    return f"{runs[0].encoder}: {of_fold}, {kind.capitalize()} from {inputs} {top_1:.1%} / {top_5:.1%}"


def held_out_report(runs: Sequence[RunScore], agreements: Sequence[float]) -> dict:
    """The pooled accuracy of all runs, JSON-serializable.

    Args:
        runs (sequence of `RunScore`): from [`score_runs`].
        agreements (sequence of `float`): the agreement of each run that reads audio and codes.
    """
    table = summarize([run.score for run in runs])
    for name, row in table.items():
        row["top_1_of_seeds"] = accuracy_of_seeds(runs, name)
    report = {"table": table, "clips": [run.score.as_row() for run in runs]}
    report["calibration"] = calibration_report([run.score for run in runs], [run.fold for run in runs])
    report["folds"] = sorted({run.fold for run in runs} - {None})
    report["seeds"] = sorted({run.seed for run in runs} - {None})
    if agreements:
        report["agreement_of_audio_and_codes"] = float(np.mean(agreements))
    return report


def accuracy_of_seeds(runs: Sequence[RunScore], name: str) -> list[float]:
    """Top-1 accuracy of each training seed, for one row of the table."""
    by_seed = {}
    for run in runs:
        if f"{run.score.kind}, {run.score.inputs}" == name:
            by_seed.setdefault(run.seed, []).append(run.score)
    return [accuracy(scores) for scores in by_seed.values()]


def report_lines(report: Mapping) -> list[str]:
    """The figures of [`held_out_report`] as lines of text."""
    lines = []
    for name, row in report["table"].items():
        top_1, top_5 = (f"{row[k]['mean']:6.1%} [{row[k]['low']:.1%}, {row[k]['high']:.1%}]" for k in FIELDS)
        counts = f"({row['clips']} clips, {row['groups']} groups, {row['tokens']} tokens)"
        seeds = [f"{value:.1%}" for value in row["top_1_of_seeds"]]
        lines.append(f"{name:24s} top-1 {top_1}  top-5 {top_5}  {counts}{f'  seeds {seeds}' * (len(seeds) > 1)}")
    if "agreement_of_audio_and_codes" in report:
        share = report["agreement_of_audio_and_codes"]
        lines.append(f"audio and codes of a held-out clip give equal tokens: {share:.1%}")
    return lines + calibration_lines(report["calibration"])


def held_out_blocks(report: Mapping, runs: Sequence[RunScore], clips: Sequence[Clip]) -> list[Table | IntervalPlot]:
    """Tables and plots of [`held_out_report`]; the first is the one for model cards."""
    table = report["table"]
    plots = [
        IntervalPlot(f"Top-{k} accuracy", [(name, as_estimate(row, f"top_{k}")) for name, row in table.items()], True)
        for k in (1, 5)
    ]
    return [
        accuracy_table(table),
        *plots,
        calibration_table(report["calibration"]),
        runs_table(runs),
        clips_table(runs, clips),
    ]


def accuracy_table(table: Mapping[str, dict], title: str = "Accuracy on held-out voices and sentences") -> Table:
    """The rows of `summarize` as a table."""
    rows = []
    for name, row in table.items():
        cells = [format_interval(row[field]) if field in row else "" for field in FIELDS]
        counts = [f"{row[field]:,}" for field in ("clips", "groups", "tokens")]
        rows.append([*name.rsplit(", ", 1), *cells, *counts])
    note = "Free-running, over every token of a clip; intervals by bootstrap over voices."
    return Table(title, ["clips", "read from", "top-1", "top-5", "clips", "voices", "tokens"], rows, note)


def format_interval(figure: Mapping[str, float]) -> str:
    return f"{figure['mean']:.1%} [{figure['low']:.1%}, {figure['high']:.1%}]"


def as_estimate(row: Mapping, field: str) -> Estimate:
    """A figure of a row of `summarize` as an [`Estimate`]."""
    figure = row[field]
    return Estimate(figure["mean"], figure["low"], figure["high"], row["tokens"], row["groups"])


def runs_table(runs: Sequence[RunScore]) -> Table:
    """A table of all runs, each on its held-out fold."""
    rows = {}
    for run in runs:
        key = run.encoder, run.fold, run.seed, f"{run.score.kind}, {run.score.inputs}"
        rows.setdefault(key, []).append(run.score)
    lines = [
        [encoder, str(fold), str(seed), name, *(f"{accuracy(scores, field):.1%}" for field in FIELDS)]
        for (encoder, fold, seed, name), scores in rows.items()
    ]
    return Table("Runs", ["run", "fold", "training seed", "clips", *FIELDS.values()], lines)


def clips_table(runs: Sequence[RunScore], clips: Sequence[Clip]) -> Table:
    """A table of all clips, the least accurate first, with their audio."""
    waveforms = {clip.id: clip.waveform for clip in clips}
    lines = []
    for run in sorted(runs, key=lambda run: run.score.top_1 / run.score.num_tokens):
        score = run.score
        waveform = waveforms.pop(score.id, None)
        hits = [getattr(score, field) for field in FIELDS]
        shares = ["" if count is None else f"{count / score.num_tokens:.1%}" for count in hits]
        sound = None if waveform is None else Sound(waveform, sampling_rate=SAMPLING_RATE)
        names = [score.id, score.group, score.kind, score.inputs, run.encoder]
        lines.append([*names, *shares, str(score.num_tokens), sound])
    columns = ["clip", "voice", "kind", "read from", "encoder", "top-1", "top-5", "tokens", "sound"]
    note = f"Lowest top-1 accuracy first. At most {MAX_SOUNDS} have audio here; trials.parquet contains every row."
    return Table("Clips", columns, lines, note)


__all__ = [
    "FIELDS",
    "RunScore",
    "accuracy_table",
    "as_estimate",
    "clips_table",
    "digest_of",
    "format_interval",
    "held_out_blocks",
    "held_out_clips",
    "held_out_report",
    "kept_scores",
    "load_encoder",
    "report_lines",
    "run_line",
    "score_journal",
    "score_runs",
    "score_share",
    "training_record",
    "with_audio",
    "with_truth",
]
