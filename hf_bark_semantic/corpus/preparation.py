"""Encode recordings with transcripts as a corpus of tokens and codes; a killed run can be continued.

    prepared/ corpus.json              encoder, Bark and sizes: a run that continues must have the same
              data/train-00000.parquet rows: id, text, voice, semantic_tokens, audio_codes, ...
              shards/00000.json        recordings that were left out, and why; written last

Transcripts are stored as text; the Bark's tokenizer makes ids of them when the utterances are loaded.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from tqdm import tqdm
from transformers import EncodecModel

from ..audio import AudioError, LongRecording, read_audio
from ..bark.configs import BarkGenerationConfigs
from ..bark.prompting import check_text, longest_recording_s, text_to_ids
from ..bark.text_informed import TextInformedDecoder
from ..bark.voice_prompt import VoicePrompt, VoicePromptError
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE
from ..voices.cloning import SemanticEncoder, encode_clips
from ..voices.splitting import estimate_duration_s
from ..voices.window import MAX_SILENCE_SHARE, measure_sound
from .flaws import RecordingFlaw
from .recordings import Recording
from .rows import RECORDING_COLUMNS, row_features
from .shards import missing_shards, open_corpus, remove_shards, shard_records, write_shard

SOURCE = "recording"  # value of the column `source`
MIN_DURATION_S = 0.5  # about one word
MAX_PACE = 3.0  # largest ratio of the text's estimated duration to the recording's, or the reverse ...
MAX_PACE_DIFFERENCE_S = 3.0  # ... where they differ by more than this
BATCH_S = 120.0  # of audio in a batch, with padding ...
CPU_BATCH_S = 8.0  # ... on a CPU, where larger batches are slower


def prepare_recordings(
    recordings: Sequence[Recording],
    folder: str | os.PathLike,
    *,
    encoder: SemanticEncoder,
    codec: EncodecModel,
    tokenizer: Any,
    configs: BarkGenerationConfigs,
    description: Mapping[str, Any],
    decoder: TextInformedDecoder | None = None,
    rows_per_shard: int = 16,
) -> list[tuple[str, str, str]]:
    """Encode recordings into a folder. A repeated call continues a killed one; changed inputs are processed again.

    Several processes share the work. Rows and their order depend neither on the number of processes nor on kills.

    Args:
        recordings (`Sequence[Recording]`): recordings may be appended, or changed, before a later call.
        folder (`str` or `Path`): new, empty, or that of an earlier run.
        encoder (`SemanticEncoder`): an encoder to the Bark's tokens.
        codec (`EncodecModel`): Bark's codec.
        tokenizer: Bark's tokenizer.
        configs (`BarkGenerationConfigs`): of the Bark that is to be trained.
        description (`Mapping`): names of encoder and Bark; a folder with other names is refused.
        decoder (`TextInformedDecoder`, *optional*): uses the transcript to choose tokens.
        rows_per_shard (`int`): recordings of a shard; this many a crash can cost each process, and among this many,
            batches are sorted by length.

    Returns:
        `list[tuple[str, str, str]]`: id, kind of flaw and description for every recording that was left out.

    Raises:
        ValueError: the folder contains something else.
    """
    state = PartialState()
    parts = [recordings[start : start + rows_per_shard] for start in range(0, len(recordings), rows_per_shard)]
    description = {**description, "vocabularies": configs.vocabularies, "rows_per_shard": rows_per_shard}
    if decoder is not None:
        description["text_informed"] = decoder.description()
    if state.is_main_process:
        open_corpus(folder, description)
    state.wait_for_everyone()
    folder, digests = Path(folder), [_digest(part) for part in parts]
    done = {record.get("shard"): record.get("recordings") for record in shard_records(folder)}
    unchanged = {shard: len(part) for shard, part in enumerate(parts) if done.get(shard) == digests[shard]}
    missing = sorted({*range(len(parts))} - unchanged.keys() | {*missing_shards(folder, unchanged)})
    mine = missing[state.process_index :: state.num_processes]
    preparation = _Preparation(encoder, codec, tokenizer, configs, decoder)
    total = sum(len(parts[shard]) for shard in mine)  # the first process has the most shards and ends last
    with tqdm(total=total, unit="recording", disable=not state.is_main_process) as bar:
        for shard in mine:
            rows, rejected = preparation.rows_of(parts[shard])
            record = {"planned_rows": len(parts[shard]), "rejected": rejected, "shard": shard}
            record["recordings"] = digests[shard]
            write_shard(folder, shard, rows, record, row_features(RECORDING_COLUMNS))
            bar.update(len(parts[shard]))
    if state.is_main_process:
        remove_shards(folder, from_shard=len(parts))
    state.wait_for_everyone()
    rejected = [row for record in shard_records(folder) for row in record["rejected"]]
    return [(row["id"], row["failed_filters"][0], row["reason"]) for row in rejected]


def _digest(part: Sequence[Recording]) -> str:
    return hashlib.sha256(json.dumps([(r.id, r.text, r.voice, r.stamp) for r in part]).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class _Clip:
    """A checked recording: its transcript, and its waveform `(num_samples,)` at 24 kHz."""

    recording: Recording
    text: str
    waveform: np.ndarray


@dataclass(frozen=True, eq=False)
class _Preparation:
    """Encodes recordings to rows, with the models of one run."""

    encoder: SemanticEncoder
    codec: EncodecModel
    tokenizer: Any
    configs: BarkGenerationConfigs
    decoder: TextInformedDecoder | None

    def rows_of(self, recordings: Sequence[Recording]) -> tuple[list[dict], list[dict]]:
        """The rows of recordings, and the records of those that are left out, both in order."""
        made: list[dict | RecordingFlaw] = [{}] * len(recordings)
        clips: dict[int, _Clip] = {}
        for i, recording in enumerate(recordings):
            try:
                clips[i] = self._read(recording)
            except RecordingFlaw as flaw:
                made[i] = flaw
        for batch in self._batches(clips):
            for i, encoded in zip(batch, self._encode([clips[i] for i in batch]), strict=True):
                try:
                    made[i] = self._row(clips[i], encoded)
                except RecordingFlaw as flaw:
                    made[i] = flaw
        flaws = [(r.id, flaw) for r, flaw in zip(recordings, made, strict=True) if isinstance(flaw, RecordingFlaw)]
        rejected = [{"id": id, "failed_filters": [flaw.kind], "reason": str(flaw)} for id, flaw in flaws]
        return [row for row in made if isinstance(row, dict)], rejected

    def _read(self, recording: Recording) -> _Clip:
        text = " ".join(recording.text.split())
        num_ids = len(text_to_ids(text, self.tokenizer))
        if not num_ids:
            raise RecordingFlaw("no transcript", "There is no transcript.")
        try:
            check_text(num_ids, self.configs, "The transcript")
        except ValueError as error:
            raise RecordingFlaw("text too long", str(error)) from error
        try:
            waveform = read_audio(recording.read(), CODEC_SAMPLING_RATE)
        except AudioError as error:
            raise RecordingFlaw("audio", str(error)) from error
        _check_audio(waveform, text, longest_recording_s(self.configs))
        return _Clip(recording, text, waveform[:])

    def _batches(self, clips: Mapping[int, _Clip]) -> Iterator[list[int]]:
        """Batches of clips of similar length, by their keys."""
        batch_s = CPU_BATCH_S if self.codec.device.type == "cpu" else BATCH_S
        batch: list[int] = []
        for i, clip in sorted(clips.items(), key=lambda item: len(item[1].waveform)):
            if batch and (len(batch) + 1) * len(clip.waveform) > batch_s * CODEC_SAMPLING_RATE:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _encode(self, clips: Sequence[_Clip]) -> list[dict[str, np.ndarray]]:
        encoder = self.encoder
        if self.decoder is not None:
            encoder = _InformedEncoder(encoder, [clip.text for clip in clips], self.decoder)
        return encode_clips([clip.waveform for clip in clips], encoder, codec=self.codec)

    def _row(self, clip: _Clip, encoded: Mapping[str, np.ndarray]) -> dict:
        try:  # checks lengths and ids for this Bark
            prompt = VoicePrompt.from_tokens_and_codes(
                encoded["semantic_tokens"], encoded["audio_codes"], **self.configs.vocabularies
            )
        except VoicePromptError as error:
            raise RecordingFlaw("lengths", str(error)) from error
        return {
            "id": clip.recording.id,
            "source": SOURCE,
            "text": clip.text,
            "voice": clip.recording.voice,
            "semantic_tokens": prompt.semantic_tokens,
            "audio_codes": list(prompt.audio_codes),
            "confidence": float(encoded["confidence"].mean()),
        }


@dataclass(frozen=True)
class _InformedEncoder:
    """An encoder that also passes the text of each clip and the Bark on, for text-informed tokens."""

    encoder: SemanticEncoder
    texts: list[str]
    decoder: TextInformedDecoder

    @property
    def model(self):
        return self.encoder.model

    def __call__(self, inputs: list, **options) -> list[dict]:
        return self.encoder(inputs, text=self.texts, bark=self.decoder, **options)


def _check_audio(waveform: np.ndarray | LongRecording, text: str, longest_s: float) -> None:
    duration_s, spoken_s = len(waveform) / CODEC_SAMPLING_RATE, estimate_duration_s(text)
    if duration_s < MIN_DURATION_S:
        raise RecordingFlaw("too short", f"It is {duration_s:.2f} s long; the minimum is {MIN_DURATION_S} s.")
    if duration_s > longest_s:
        raise RecordingFlaw("too long", f"It is {duration_s:.1f} s long; Bark can generate {longest_s:.1f} s at once.")
    silence = measure_sound(waveform[:], CODEC_SAMPLING_RATE).silence_share
    if silence > MAX_SILENCE_SHARE:
        raise RecordingFlaw("silence", f"{silence:.0%} of it is silence, which Bark would learn to imitate.")
    pace = max(spoken_s, 1e-3) / duration_s
    if abs(spoken_s - duration_s) > MAX_PACE_DIFFERENCE_S and not 1 / MAX_PACE <= pace <= MAX_PACE:
        says = f"It is {duration_s:.1f} s long; speaking its transcript takes about {spoken_s:.1f} s."
        raise RecordingFlaw("pace", says)


__all__ = ["prepare_recordings"]
