"""The long commands at tiny sizes: inputs, call, and the parts of the output that must be equal."""

import atexit
import fnmatch
import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import yaml
from datasets import Dataset
from safetensors.numpy import load_file
from transformers import AutoModel

from buzzing_voices import Counting, save_voices
from hf_bark_semantic import VoicePrompt, save_audio
from hf_bark_semantic.app.shelf import Shelf
from hf_bark_semantic.cli import (
    evaluate_encoder,
    evaluate_voice,
    finetune_bark,
    generate_corpus,
    import_corpus,
    package_encoder,
    publish,
    train_encoder,
)
from hf_bark_semantic.configuration_bark_semantic import (
    num_codec_frames,
    num_samples_of_codec_frames,
)
from hf_bark_semantic.files import atomic_write, sha256_of_file
from stub_hub import StubHub, running_hub, use_hub
from tiny import (
    backbone_config,
    corpus_row,
    noise,
    random_codes,
    save_tiny_encoder,
    tiny_bark,
    tiny_bark_processor,
)

CLOCKS = ("compute_s", "seconds_per_step", "made", "real_time_factor", "synthesis_s")


@dataclass(frozen=True)
class Stage:
    """A command that must survive all disturbances.

    Args:
        name (`str`): the name of the command.
        make_inputs (`Callable`): `folder -> None` writes its inputs.
        run (`Callable`): `(inputs, output, *options) -> None`.
        outcome (`Callable`): `output -> values` that must be equal, JSON-serializable.
        num_processes (`tuple[int, ...]`): possible numbers of processes; the undisturbed run has the last one.
        other_settings (`tuple[str, ...]`): options with which a run must not be continued, ...
        refusal (`str`): ... and the name in the error.
        refuses_a_second (`bool`): whether it locks its folder while it is running.
        writes (`bool`): whether it writes its results; otherwise, this file writes them.
        unlike (`tuple[str, ...]`): patterns of files that may differ between runs.
        start (`Callable`): prepares everything that the processes need.
    """

    name: str
    make_inputs: Callable[[Path], None]
    run: Callable[..., Any]
    outcome: Callable[[Path], dict[str, Any]]
    num_processes: tuple[int, ...] = (1,)
    other_settings: tuple[str, ...] = ()
    refusal: str = ""
    refuses_a_second: bool = True
    writes: bool = True
    unlike: tuple[str, ...] = ()
    start: Callable[[], Any] = lambda: None

    def may_differ(self, name: str) -> bool:
        patterns = (*self.unlike, "set_aside/*")  # damaged files are kept there
        return any(fnmatch.fnmatch(name, f"output/{pattern}") for pattern in patterns)


def without_clocks(value: Any) -> Any:
    """A JSON value without parts that depend on time."""
    if isinstance(value, Mapping):
        return {str(k): without_clocks(v) for k, v in value.items() if not str(k).startswith(CLOCKS)}
    return [without_clocks(part) for part in value] if isinstance(value, list) else value


def read_json(file: Path) -> Any:
    return without_clocks(json.loads(file.read_text()))


def read_lines(file: Path) -> list:
    return [without_clocks(json.loads(line)) for line in file.read_text().splitlines()]


def digests(folder: Path, *patterns: str) -> dict[str, str]:
    """Digests of the files of these patterns, by name."""
    return {name: sha256_of_file(file) for name, file in _files(folder, *patterns)}


def weights(folder: Path, *patterns: str) -> dict[str, dict[str, np.ndarray]]:
    return {name: load_file(file) for name, file in _files(folder, *patterns)}


def sounds(folder: Path) -> dict[str, np.ndarray]:
    """Samples, by name: libsndfile writes the time into the header of float WAV."""
    return {name: soundfile.read(file)[0] for name, file in _files(folder, "**/*.wav")}


def tables(folder: Path, *patterns: str) -> dict[str, list]:
    """The rows of Parquet files, with decoded audio."""
    return {name: [_row(row) for row in pq.read_table(file).to_pylist()] for name, file in _files(folder, *patterns)}


def _files(folder: Path, *patterns: str) -> list[tuple[str, Path]]:
    files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    return [(str(file.relative_to(folder)), file) for file in files]


def _row(row: dict) -> dict:
    if isinstance(row.get("audio"), dict):
        row["audio"] = soundfile.read(io.BytesIO(row["audio"]["bytes"]))[0]
    return without_clocks(row)


def outcome_of_corpus(output: Path) -> dict[str, Any]:
    records = {file.name: read_json(file) for file in sorted(output.glob("shards/*.json"))}
    for record in records.values():
        for name in ("bytes", "digest"):  # they follow from the rows, which are compared
            record.pop(name)
    return {"corpus": read_json(output / "corpus.json"), "records": records, **tables(output, "data/*.parquet")}


# --- corpora


def save_bark(folder: Path, max_new_tokens: int = 20) -> None:
    preset = VoicePrompt(np.arange(40) % 50, random_codes(num_codec_frames(40)), semantic_vocab_size=50)
    (folder / "bark").mkdir()
    tiny_bark(max_new_tokens=max_new_tokens).save_pretrained(folder / "bark")
    presets = {"v2/en_a": preset.to_dict(), "announcer": preset.to_dict()}
    tiny_bark_processor(presets, folder / "bark").save_pretrained(str(folder / "bark"))


def inputs_of_generation(folder: Path) -> None:
    save_bark(folder)
    (folder / "texts.txt").write_text("".join(f"{a} {b}.\n" for a in ("A dog", "One cat") for b in ("runs", "sleeps")))


def generate(inputs: Path, output: Path, *options: str) -> None:
    arguments = ["--bark", str(inputs / "bark"), "--texts", str(inputs / "texts.txt"), "--voices", "presets", "none"]
    arguments += ["--rows", "8", "--rows-per-shard", "2", "--batch-size", "2", "--filters", "off", "--audio"]
    generate_corpus.main([*arguments, "--license", "cc0-1.0", "--output", str(output), *options])


def inputs_of_import(folder: Path) -> None:
    (folder / "pairs").mkdir()
    for number in range(140):
        num_frames = num_codec_frames(50)
        tokens = np.random.default_rng(number).integers(0, 10_000, 50)
        VoicePrompt(tokens, random_codes(num_frames, number)).save(folder / "pairs" / f"{number:03d}.npz")
        waveform = np.resize(noise(1.1, number, 24_000), num_samples_of_codec_frames(num_frames, 24_000))
        save_audio(folder / "pairs" / f"{number:03d}.wav", waveform, 24_000)


def import_pairs(inputs: Path, output: Path, *options: str) -> None:
    import_corpus.main(["npz", str(inputs / "pairs"), "--output", str(output), *options])


def inputs_of_preparation(folder: Path) -> None:
    save_bark(folder, max_new_tokens=100)  # so that the recordings are not too long for it
    save_tiny_encoder(folder / "encoder")
    texts = ["the dog runs.", "the cat sleeps.", "the dog sleeps.", "the cat runs."] * 10
    (folder / "voice").mkdir()
    for number in range(len(texts)):
        save_audio(folder / "voice" / f"{number}.wav", noise(1.0 + number % 5 / 10, number), 16_000)
    table = [f"{number}.wav,{text}" for number, text in enumerate(texts)]
    (folder / "voice" / "metadata.csv").write_text("\n".join(["file_name,text", *table]))


def prepare(inputs: Path, output: Path, *options: str) -> None:
    arguments = ["prepare", str(inputs / "voice"), "--bark", str(inputs / "bark"), "--device", "cpu"]
    finetune_bark.main([*arguments, "--encoder", str(inputs / "encoder"), "--output", str(output), *options])


# --- trainings


def inputs_of_training(folder: Path) -> None:
    rows = [
        corpus_row(seed, num_tokens=90 + seed, fold=seed % 3, voice=f"voice-{seed % 6}", text=f"Sentence {seed}.")
        for seed in range(12)
    ]
    Dataset.from_list(rows).save_to_disk(folder / "corpus")
    torch.manual_seed(0)
    AutoModel.from_config(backbone_config("hubert")).save_pretrained(folder / "hubert")
    model = {"backbone": str(folder / "hubert"), "backbone_layers": [1], "head_type": "transformer", "hidden_size": 32}
    model |= {"num_attention_heads": 4, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 50}
    training = {"steps": 16, "learning_rates": {"backbone": 0}, "checkpoint_every": 3, "log_every": 2}
    training |= {"mixed_precision": "no", "average": 0.9}
    config = {"corpus": str(folder / "corpus"), "model": model, "training": training}
    config |= {
        "batches": {"crops": {"pair": 3}, "num_tokens": 40},
        "validation": {"fold": 1, "every": 6, "patience": 20},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def train(inputs: Path, output: Path, *options: str) -> None:
    train_encoder.main([str(inputs / "config.yaml"), "--fold", "0", "--output", str(output), *options])


def outcome_of_training(output: Path) -> dict[str, Any]:
    figures = {name: read_json(output / name) for name in ("training.json", "validation.json")}
    trained = weights(output, "*.safetensors", "best/*.safetensors", "last/*.safetensors")
    return {"losses": read_lines(output / "log.jsonl"), **figures, **trained}


def inputs_of_tuning(folder: Path) -> None:
    save_bark(folder)
    rows = []
    for number in range(12):
        rng, num_tokens = np.random.default_rng(number), 40 + number
        text = " ".join(rng.choice(["the", "dog", "cat", "runs"], 4))
        row = {"id": str(number), "text": text, "voice": "anna"}
        row["semantic_tokens"] = rng.integers(0, 4, num_tokens).tolist()
        rows.append({**row, "audio_codes": (random_codes(num_codec_frames(num_tokens), number) % 4).tolist()})
    (folder / "corpus" / "data").mkdir(parents=True)
    Dataset.from_list(rows).to_parquet(folder / "corpus" / "data" / "train-00000.parquet")
    config = {"bark": str(folder / "bark"), "data": str(folder / "corpus"), "output_dir": "run", "lora": {"rank": 4}}
    config["training"] = {"steps": 6, "learning_rate": 0.01, "checkpoint_every": 2, "log_every": 1}
    config["training"]["mixed_precision"] = "no"
    config |= {"batches": {"num_positions": 800}, "validation": {"share": 0.25, "every": 3, "patience": 4}}
    config |= {"probe": {"texts": ["the dog [laughs]"], "voices": ["announcer"]}, "samples": ["the dog runs"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))


def tune(inputs: Path, output: Path, *options: str) -> None:
    finetune_bark.main(["train", str(inputs / "config.yaml"), "--output", str(output), *options])


def outcome_of_tuning(output: Path) -> dict[str, Any]:
    losses = {stage: read_lines(output / stage / "log.jsonl") for stage in ("semantic", "coarse", "fine")}
    trained = weights(output, "adapter/*/*.safetensors", "*/best/*")
    voice = digests(output, "adapter/voice.npz")
    return {"losses": losses, "report": read_json(output / "report.json"), **trained, **voice, **sounds(output)}


# --- evaluations and what is published


def inputs_of_evaluation(folder: Path) -> None:
    rows = [corpus_row(seed, fold=seed % 2, voice=f"voice-{seed}", text=f"Text {seed}.") for seed in range(16)]
    Dataset.from_list(rows).save_to_disk(folder / "corpus")
    for fold in range(2):
        save_tiny_encoder(folder / f"run{fold}")
        record = {"fold": fold, "seed": 0, "steps": 1, "corpus_fingerprint": "none"}
        (folder / f"run{fold}" / "training.json").write_text(json.dumps(record))


def evaluate(inputs: Path, output: Path, *options: str) -> None:
    arguments = [str(inputs / "run0"), str(inputs / "run1"), "--corpus", str(inputs / "corpus")]
    arguments += ["--output", str(output), "--json", str(output / "scores.json")]
    evaluate_encoder.main([*arguments, *options])


def outcome_of_evaluation(output: Path) -> dict[str, Any]:
    figures = {name: read_json(output / name) for name in ("scores.json", "summary.json")}
    return {**figures, **tables(output, "trials.parquet")}


def inputs_of_voices(folder: Path) -> None:
    save_bark(folder, max_new_tokens=12)
    save_tiny_encoder(folder / "encoder")
    save_voices(folder / "speech", ["The dog runs.", "one two three."] * 4, seconds=2.1, held_out=4)


def evaluate_voices(inputs: Path, output: Path, *options: str) -> None:
    arguments = [str(inputs / "speech"), "--bark", str(inputs / "bark"), "--encoder", str(inputs / "encoder")]
    arguments += ["--texts-per-voice", "1", "--conditions", "full", "--parts", "codec", "clone", "--batch-size", "1"]
    evaluate_voice.main([*arguments, "--output", str(output), *options], Counting().scorers)


def outcome_of_voices(output: Path) -> dict[str, Any]:
    summary = read_json(output / "summary.json")
    return {"summary": {k: v for k, v in summary.items() if k != "settings"}, **sounds(output)}


def inputs_of_packaging(folder: Path) -> None:
    save_tiny_encoder(folder / "run")
    record = {"fold": None, "seed": 0, "steps": 1, "config": "tiny.yaml", "corpus": "corpus", "clips": {"pair": 3}}
    (folder / "run" / "training.json").write_text(json.dumps(record))
    share = {"mean": 0.5, "low": 0.4, "high": 0.6}
    row = {"top_1": share, "top_5": share, "clips": 3, "tokens": 100}
    scores = {"table": {"english, audio": row}, "input_level_db": None, "folds": [0, 1], "num_folds": 2}
    (folder / "scores.json").write_text(json.dumps(scores))


def package(inputs: Path, output: Path, *options: str) -> None:
    arguments = [str(inputs / "run"), "--scores", str(inputs / "scores.json"), "--output", str(output)]
    package_encoder.main([*arguments, "--license", "mit", *options])


@cache
def hub() -> StubHub:
    """A stub Hub in a thread of the test's process."""
    context = running_hub()
    atexit.register(context.__exit__, None, None, None)
    return context.__enter__()


def repository_of(output: Path) -> str:
    return f"me/{hashlib.sha256(str(output).encode()).hexdigest()[:12]}"


def inputs_of_publication(folder: Path) -> None:
    inputs_of_packaging(folder)
    package(folder, folder / "encoder")


def publish_folder(inputs: Path, output: Path, *options: str) -> None:
    if not output.exists():
        copied = output.with_name("copied")
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(inputs / "encoder", copied)
        copied.rename(output)
    with pytest.MonkeyPatch.context() as patch:
        use_hub(hub(), output.parents[1] / "cache", patch)
        patch.setenv("HF_TOKEN", "hf_stub")
        publish.main([str(output), repository_of(output), "--license", "cc-by-4.0", *options])


def outcome_of_publication(output: Path) -> dict[str, Any]:
    files = {
        name: hashlib.sha256(content if isinstance(content, bytes) else content.read_bytes()).hexdigest()
        for name, content in hub().repositories[repository_of(output)].items()
    }
    assert not hub().unknown, hub().unknown
    return {"published": files, **digests(output, "*")}


def inputs_of_batch(folder: Path) -> None:
    save_bark(folder)
    save_tiny_encoder(folder / "encoder")


def speak_on_page(inputs: Path, output: Path, *options: str) -> None:
    """The page and a visitor of it in one process, so that a kill meets both."""
    import gradio_client

    from hf_bark_semantic.app import page
    from hf_bark_semantic.app.studio import PRESET, Studio

    bark = str(inputs / "bark")
    shown = page.build_page(Studio(bark, encoder=str(inputs / "encoder"), device="cpu"), Shelf(output / "voices"))
    _, address, _ = page.launch(shown, port=None)
    visitor = gradio_client.Client(address, verbose=False, analytics_enabled=False, download_files=output.parents[1])
    settings = (1, "", "", "", "", "full", "fixed", "wav")
    lines = "the dog runs.\nthe cat sleeps.\na dog sleeps."
    _, archive, _ = visitor.predict(0, bark, "", f"{PRESET}v2/en_a", *settings, lines, api_name="/speak_lines")
    output.mkdir(exist_ok=True)
    with atomic_write(output / "speech.zip") as file:
        file.write(Path(archive["value"]).read_bytes())
    shown.close()


def outcome_of_batch(output: Path) -> dict[str, Any]:
    with zipfile.ZipFile(output / "speech.zip") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    spoken = {name: soundfile.read(io.BytesIO(data))[0] for name, data in content.items() if name.endswith(".wav")}
    return {**spoken, "lines": content["lines.tsv"].decode()}


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "generate_corpus", inputs_of_generation, generate, outcome_of_corpus,
            num_processes=(1, 2), other_settings=("--seed", "1"), refusal="plan.seed", refuses_a_second=False,
            unlike=(*(f"{folder}.*.unfinished" for folder in ("", "data/", "shards/")),),  # they are kept for an hour
        ),
        Stage(
            "import_corpus", inputs_of_import, import_pairs, outcome_of_corpus,
            other_settings=("--source", "other"), refusal="source",
        ),
        Stage(
            "finetune_bark prepare", inputs_of_preparation, prepare, outcome_of_corpus,
            num_processes=(1, 2), other_settings=("--text-informed", "0.5"), refusal="text_informed",
        ),
        Stage(
            "train_encoder", inputs_of_training, train, outcome_of_training,
            num_processes=(2,),
            other_settings=("--set", "training.learning_rate=0.5"), refusal="training.learning_rate",
        ),
        Stage(
            "finetune_bark train", inputs_of_tuning, tune, outcome_of_tuning,
            other_settings=("--set", "training.learning_rate=0.5"), refusal="training.learning_rate",
        ),
        Stage(
            "evaluate_encoder", inputs_of_evaluation, evaluate, outcome_of_evaluation,
            num_processes=(1, 2), other_settings=("--known-codebooks", "4"), refusal="known_codebooks",
            unlike=("trials-*.jsonl", "report.html"),
        ),
        Stage(
            "evaluate_voice", inputs_of_voices, evaluate_voices, outcome_of_voices,
            other_settings=("--seed", "1"), refusal="seed", unlike=("trials-*.jsonl",),
        ),
        Stage(
            "package_encoder", inputs_of_packaging, package,
            lambda output: digests(output, "*"),
        ),
        Stage(
            "publish", inputs_of_publication, publish_folder, outcome_of_publication,
            writes=False, start=hub,
        ),
        Stage(
            "app", inputs_of_batch, speak_on_page, outcome_of_batch, refuses_a_second=False, writes=False,
        ),
    )
}  # fmt: skip
