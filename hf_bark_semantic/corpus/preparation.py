"""Recordings with transcripts to a corpus of tokens and codes, through any crash; what is unfit stays out.

    prepared/ corpus.json              encoder, Bark and sizes: whoever goes on must have the same
              data/train-00000.parquet rows: id, text, voice, semantic_tokens, audio_codes, ...
              shards/00000.json        what was left out and why; written last

Text is kept as text: ids are made by the Bark's own tokenizer when the utterances are loaded.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import EncodecModel

from ..audio import AudioError, load_audio
from ..bark.configs import BarkGenerationConfigs
from ..bark.prompting import check_text, longest_recording_s, text_to_ids
from ..bark.text_informed import TextInformedDecoder
from ..bark.voice_prompt import VoicePrompt, VoicePromptError
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE
from ..voices.cloning import SemanticEncoder, encode_clip
from ..voices.splitting import estimate_duration_s
from ..voices.window import MAX_SILENCE_SHARE, measure_sound
from .recordings import Recording, RecordingFlaw
from .rows import RECORDING_COLUMNS, row_features
from .shards import finished_shards, open_corpus, remove_shards, shard_records, write_shard

SOURCE = "recording"  # the column `source` of prepared rows
MIN_DURATION_S = 0.5  # a word
MAX_PACE = 3.0  # times that the text may take longer or shorter to say than the recording lasts ...
MAX_PACE_DIFFERENCE_S = 3.0  # ... unless it is by less than this


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
    on_row: Callable[[Recording], None] = lambda recording: None,
) -> list[tuple[str, str, str]]:
    """Encode recordings into a folder. Killed, it goes on where it was; what has changed since is done again.

    Args:
        recordings (`Sequence[Recording]`): rows may be added at the end, or changed, later.
        folder (`str` or `Path`): new, empty, or that of an earlier run.
        encoder (`SemanticEncoder`), codec (`EncodecModel`): of the Bark's tokens, and Bark's.
        tokenizer: Bark's.
        configs (`BarkGenerationConfigs`): of the Bark that is to be trained.
        description (`Mapping`): names of encoder and Bark; a folder of others is refused.
        decoder (`TextInformedDecoder`, *optional*): finds tokens that the transcript makes likely, too.
        rows_per_shard (`int`): recordings that a crash can cost.
        on_row: called after each recording, for a progress bar.

    Returns:
        `list[tuple[str, str, str]]`: id, kind of flaw and its description, of every recording that was left out.

    Raises:
        ValueError: the folder holds something else.
    """
    parts = [recordings[start : start + rows_per_shard] for start in range(0, len(recordings), rows_per_shard)]
    description = {**description, "vocabularies": configs.vocabularies, "rows_per_shard": rows_per_shard}
    if decoder is not None:
        description["text_informed"] = decoder.description()
    folder = open_corpus(folder, description)

    def encode(waveform: np.ndarray, text: str) -> dict[str, np.ndarray]:
        informed = encoder if decoder is None else _InformedEncoder(encoder, text, decoder)
        return encode_clip(waveform, informed, codec=codec)

    finished = set(finished_shards(folder, {shard: len(part) for shard, part in enumerate(parts)}))
    records = {record.get("shard"): record for record in shard_records(folder)}
    for shard, part in enumerate(parts):
        digest = hashlib.sha256(json.dumps([(r.id, r.text, r.voice, r.stamp) for r in part]).encode()).hexdigest()
        if shard in finished and records[shard].get("recordings") == digest:
            for recording in part:
                on_row(recording)
            continue
        rows, rejected = [], []
        for recording in part:
            try:
                rows.append(_prepared_row(recording, encode, tokenizer, configs))
            except RecordingFlaw as flaw:
                rejected.append({"id": recording.id, "failed_filters": [flaw.kind], "reason": str(flaw)})
            on_row(recording)
        record = {"planned_rows": len(part), "rejected": rejected, "shard": shard, "recordings": digest}
        write_shard(folder, shard, rows, record, row_features(RECORDING_COLUMNS))
    remove_shards(folder, from_shard=len(parts))
    rejected = [row for record in shard_records(folder) for row in record["rejected"]]
    return [(row["id"], row["failed_filters"][0], row["reason"]) for row in rejected]


def _prepared_row(
    recording: Recording,
    encode: Callable[[np.ndarray, str], Mapping[str, np.ndarray]],
    tokenizer: Any,
    configs: BarkGenerationConfigs,
) -> dict:
    text = " ".join(recording.text.split())
    num_ids = len(text_to_ids(text, tokenizer))
    if not num_ids:
        raise RecordingFlaw("no transcript", "There is no transcript.")
    try:
        check_text(num_ids, configs, "The transcript")
    except ValueError as error:
        raise RecordingFlaw("text too long", str(error)) from error
    try:
        waveform = load_audio(recording.read(), CODEC_SAMPLING_RATE)
    except AudioError as error:
        raise RecordingFlaw("audio", str(error)) from error
    _check_audio(waveform, text, longest_recording_s(configs))
    encoded = encode(waveform, text)
    try:  # the rule of lengths, and ids of this Bark
        prompt = VoicePrompt.from_tokens_and_codes(
            encoded["semantic_tokens"], encoded["audio_codes"], **configs.vocabularies
        )
    except VoicePromptError as error:
        raise RecordingFlaw("lengths", str(error)) from error
    return {
        "id": recording.id,
        "source": SOURCE,
        "text": text,
        "voice": recording.voice,
        "semantic_tokens": prompt.semantic_tokens,
        "audio_codes": list(prompt.audio_codes),
        "confidence": float(encoded["confidence"].mean()),
    }


@dataclass(frozen=True)
class _InformedEncoder:
    """An encoder that is passed what is said, and a Bark that expects tokens of it."""

    encoder: SemanticEncoder
    text: str
    decoder: TextInformedDecoder

    @property
    def model(self):
        return self.encoder.model

    def __call__(self, inputs: Any, **options) -> dict:
        return self.encoder(inputs, text=self.text, bark=self.decoder, **options)


def _check_audio(waveform: np.ndarray, text: str, longest_s: float) -> None:
    duration_s, spoken_s = len(waveform) / CODEC_SAMPLING_RATE, estimate_duration_s(text)
    if duration_s < MIN_DURATION_S:
        raise RecordingFlaw("too short", f"It lasts {duration_s:.2f} s; at least {MIN_DURATION_S} s are needed.")
    if duration_s > longest_s:
        raise RecordingFlaw(
            "too long",
            f"It lasts {duration_s:.1f} s, and Bark generates {longest_s:.1f} s at once. Cut it at pauses, and its "
            "transcript at the same words; when each of them is said is not known here.",
        )
    silence = measure_sound(waveform, CODEC_SAMPLING_RATE).silence_share
    if silence > MAX_SILENCE_SHARE:
        raise RecordingFlaw("silence", f"{silence:.0%} of it is silence, which Bark would learn. Cut it off.")
    pace = max(spoken_s, 1e-3) / duration_s
    if abs(spoken_s - duration_s) > MAX_PACE_DIFFERENCE_S and not 1 / MAX_PACE <= pace <= MAX_PACE:
        raise RecordingFlaw(
            "pace",
            f"It lasts {duration_s:.1f} s, and its transcript takes about {spoken_s:.1f} s to say. Do they belong "
            "together?",
        )


__all__ = ["prepare_recordings"]
