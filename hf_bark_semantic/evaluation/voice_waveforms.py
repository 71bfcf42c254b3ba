"""Make the waveforms of trials: recordings, recordings after the codec, and Bark's speech with presets and clones."""

import time
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from transformers import BarkModel, BarkProcessor, EncodecModel

from ..audio import load_audio
from ..bark.loading import check_bark
from ..bark.synthesis import SynthesisRequest, synthesize
from ..bark.voice_prompt import VoicePrompt
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE
from ..voices.cloning import SemanticEncoder, clone_voice, encode_codes
from ..voices.speaking import SpeechOptions
from .voice_casting import CastVoice
from .voice_clips import joined_waveform
from .voice_trials import Trial

SPOKEN = ("presets", "clone")  # the parts that Bark generates
SWAPPED = ("random", "shuffled")  # semantic tokens of another voice, or its own in random order


class Maker:
    """Makes the waveforms of trials.

    Args:
        codec (`EncodecModel`): Bark's codec.
        voices (sequence of `CastVoice`): the voices to clone.
        bark (`BarkModel`, *optional*), processor (`BarkProcessor`, *optional*): for presets and clones.
        encoder (`SemanticEncoder`, *optional*): for clones.
    """

    def __init__(
        self,
        codec: EncodecModel,
        voices: Sequence[CastVoice],
        *,
        bark: BarkModel | None = None,
        processor: BarkProcessor | None = None,
        encoder: SemanticEncoder | None = None,
    ):
        self.codec, self.bark, self.processor, self.encoder = codec, bark, processor, encoder
        self.voices = {voice.name: voice for voice in voices}
        self.presets = list(processor.available_voice_presets) if processor is not None else []
        self.preset, self.cloned = cache(self.preset), cache(self.cloned)

    def make(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, np.ndarray, dict]]:
        """Yield each trial with its waveform (24 kHz) and values for the journal, recordings first."""
        for trial in trials:
            if trial.part not in SPOKEN:
                recording = load_audio(trial.clip.audio, CODEC_SAMPLING_RATE)
                yield trial, codec_trip(recording, self.codec) if trial.part == "codec" else recording, {}
        spoken = [trial for trial in trials if trial.part in SPOKEN]
        if not spoken:
            return
        requests = [self.request(trial) for trial in spoken]
        started = time.perf_counter()
        results = list(synthesize(self.bark, requests, tokenizer=self.processor.tokenizer, batch_size=len(spoken)))
        seconds = time.perf_counter() - started
        samples = sum(len(result.waveform) for result in results)
        for trial, result in zip(spoken, results, strict=True):
            facts = {"finish_reason": result.finish_reason, "num_tokens": len(result.semantic_tokens)}
            facts["synthesis_s"] = round(seconds * len(result.waveform) / max(1, samples), 4)
            yield trial, result.waveform, facts

    def request(self, trial: Trial) -> SynthesisRequest:
        if trial.part == "presets":
            prompt, mode = self.preset(trial.voice), "full"
        else:
            prompt, mode = self.condition(trial)
        options = SpeechOptions(seed=trial.seed, prompt_mode=mode)
        return options.request(text=trial.clip.text, voice_prompt=prompt)

    def condition(self, trial: Trial) -> tuple[VoicePrompt | None, str]:
        """Prompt and prompt mode of a clone. Random semantic tokens are those of the first distractor."""
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
        arrays = self.processor(".", voice_preset=name, return_tensors="np")["history_prompt"]
        return VoicePrompt.load(dict(arrays), **check_bark(self.bark).vocabularies)


def codec_trip(waveform: np.ndarray, codec: EncodecModel) -> np.ndarray:
    """Encode and decode a 24 kHz waveform `(num_samples,)`, without changing its length."""
    codes = torch.from_numpy(encode_codes(waveform, codec)).to(codec.device)
    with torch.no_grad():
        decoded = codec.decode(codes[None, None], [None]).audio_values[0, 0]  # codes: (chunks, batch, 8, num_frames)
    return decoded.float().cpu().numpy()[: len(waveform)]


__all__ = ["SPOKEN", "SWAPPED", "Maker", "codec_trip"]
