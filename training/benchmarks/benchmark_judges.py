"""`benchmark.py judges`: what the judges of `evaluate_voice` cost for each second of speech."""

import statistics
import time

import torch

from hf_bark_semantic.audio import load_audio
from hf_bark_semantic.configuration_bark_semantic import SAMPLING_RATE
from hf_bark_semantic.evaluation.judges import (
    MOS_PREDICTORS,
    SPEAKER_EMBEDDERS,
    TRANSCRIBERS,
    load_mos_predictor,
    load_speaker_embedder,
    load_transcriber,
)
from hf_bark_semantic.packaged import example_recording

LOADERS = {
    **dict.fromkeys(TRANSCRIBERS, load_transcriber),
    **dict.fromkeys(SPEAKER_EMBEDDERS, load_speaker_embedder),
    **dict.fromkeys(MOS_PREDICTORS, load_mos_predictor),
}


def add_arguments(parser):
    parser.add_argument("recordings", nargs="*", help="speech; by default the packaged example")
    parser.add_argument("--judges", nargs="+", choices=LOADERS, default=list(LOADERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.set_defaults(dtype="float32")


def benchmark_judges(args) -> dict:
    waveforms = [load_audio(place, SAMPLING_RATE) for place in args.recordings or [example_recording()]]
    seconds = sum(map(len, waveforms)) / SAMPLING_RATE
    costs = {}
    for name in args.judges:
        judge = LOADERS[name](name)
        judge(waveforms[0])  # the first call also allocates and compiles
        rounds = []
        for _ in range(args.rounds):
            start = time.process_time()
            for waveform in waveforms:
                judge(waveform)
            rounds.append((time.process_time() - start) / seconds)
        costs[name] = round(statistics.median(rounds), 4)
    return {
        "audio_seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "cpu_seconds_per_second": costs,
        "cpu_seconds_per_second_of_all": round(sum(costs.values()), 4),
    }
