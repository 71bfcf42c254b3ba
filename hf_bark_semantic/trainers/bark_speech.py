"""Speech of a Bark in training: samples to listen to, and a probe whose loss shows how much it forgets."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from accelerate import Accelerator, PartialState
from transformers import BarkProcessor

from ..audio import save_audio
from ..bark.configs import BarkGenerationConfigs
from ..bark.examples import Utterance
from ..bark.request import SynthesisRequest, SynthesisResult
from ..bark.voice_prompt import VoicePrompt
from ..corpus.rows import row_features
from ..corpus.shards import write_shard
from ..corpus.utterances import load_utterances
from ..corpus.voices import NO_VOICE, load_voices
from .bark_batches import utterance_of
from .bark_config import ProbeArguments

PROBE_VOICES = 4  # evenly spaced presets, if the config names no voices
PROBE_COLUMNS = ("id", "text", "voice", "semantic_tokens", "audio_codes", "finish_reason")

Speak = Callable[[Sequence[SynthesisRequest]], Iterator[SynthesisResult]]


class Probe(NamedTuple):
    """An utterance of the original Bark, its kind ("songs", "sounds" or "other voices") and its voice."""

    kind: str
    utterance: Utterance
    history: Utterance | None


def speak_probe(
    speak: Speak,
    arguments: ProbeArguments,
    folder: Path,
    *,
    processor: BarkProcessor,
    configs: BarkGenerationConfigs,
    state: PartialState,
) -> list[Probe]:
    """The probe's texts, spoken by the original Bark at its own temperatures, or read from the folder."""
    if not arguments.texts:
        return []
    presets = processor.available_voice_presets
    names = arguments.voices or presets[:: max(1, len(presets) // PROBE_VOICES)][:PROBE_VOICES] or [NO_VOICE]
    voices = load_voices(names, processor, configs.vocabularies, log=state.print)
    if state.is_main_process and not any(folder.glob("data/*.parquet")):
        pairs = [(text, voice) for text in arguments.texts for voice in voices]
        requests = [
            SynthesisRequest(text=text, voice_prompt=voices[voice], seed=seed)
            for seed, (text, voice) in enumerate(pairs)
        ]
        rows = [
            {
                "id": f"{_kind_of(pairs[result.index][0])} {result.index}",
                "text": pairs[result.index][0],
                "voice": pairs[result.index][1],
                "semantic_tokens": result.semantic_tokens,
                "audio_codes": list(result.audio_codes),
                "finish_reason": result.finish_reason,
            }
            for result in speak(requests)
            if len(result.semantic_tokens)
        ]
        write_shard(folder, 0, rows, {"planned_rows": len(pairs), "rejected": []}, row_features(PROBE_COLUMNS))
    state.wait_for_everyone()
    utterances = load_utterances(folder, processor.tokenizer, configs)
    histories = {name: prompt and utterance_of(prompt) for name, prompt in voices.items()}
    return [Probe(u.id.rpartition(" ")[0], u, histories.get(u.voice)) for u in utterances]


def speak_samples(
    speak: Speak,
    texts: Sequence[str],
    voice_prompt: VoicePrompt,
    folder: Path,
    *,
    label: str,
    accelerator: Accelerator,
) -> None:
    """Speak the sample texts in the voice of the recordings, to `folder/LABEL-NUMBER.wav` and the trackers."""
    files = [folder / f"{label}-{number}.wav" for number in range(len(texts))]
    if accelerator.is_main_process and not all(file.exists() for file in files):
        folder.mkdir(parents=True, exist_ok=True)
        requests = [SynthesisRequest(text=text, voice_prompt=voice_prompt) for text in texts]
        for result, file in zip(speak(requests), files, strict=True):
            if len(result.waveform):
                save_audio(file, result.waveform, result.sampling_rate)
                _log_audio(accelerator, file.stem, result)
    accelerator.wait_for_everyone()


def _kind_of(text: str) -> str:
    return "songs" if "♪" in text else "sounds" if "[" in text else "other voices"


def _log_audio(accelerator: Accelerator, name: str, result: SynthesisResult) -> None:
    """Log the waveform to the trackers that can play audio."""
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.writer.add_audio(name, result.waveform, sample_rate=result.sampling_rate)
        elif tracker.name == "wandb":
            import wandb

            tracker.log({name: wandb.Audio(result.waveform, sample_rate=result.sampling_rate)})


__all__ = ["Probe", "speak_probe", "speak_samples"]
