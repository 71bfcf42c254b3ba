"""A rehearsal of the Hub: the documented commands, with repositories in its layouts, on a local stub.

In CI with tiny weights of the same layouts. `python -m pytest -m slow tests/test_rehearsal.py -s` takes the real
shapes of bark-small, HuBERT base, EnCodec and the quantizers, with random weights, and prints memory and times.
"""

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from transformers import AutoModel, WavLMModel

import hf_bark_semantic.cli
import hub_layouts
from buzzing_voices import save_voices
from documented_commands import DOCUMENTS, commands_on_repositories, module_and_options
from hf_bark_semantic import BarkSemanticEncoderModel, BarkSemanticEncoderProcessor, VoicePrompt, load_bark, packaged
from hf_bark_semantic.audio import save_audio
from hf_bark_semantic.bark.loading import load_codec
from hf_bark_semantic.cli import main as cli
from hf_bark_semantic.conversion.community import COMMUNITY
from stub_hub import LARGE, StubHub, hub_environment, running_hub
from tiny import corpus_row, noise, save_tiny_encoder, tiny_encoder

ROOT = Path(__file__).parents[1]
GERMAN = COMMUNITY["de"].file
SPEAK = "bark-semantic speak 'the dog runs.' --output out.wav --overwrite --bark suno/bark-small --voice"
BENCHMARK = "python training/benchmarks/benchmark_encoders.py"
MODULE = "python -m hf_bark_semantic.cli."
GENERATE = f"{MODULE}generate_corpus --texts sentences.txt --bark suno/bark-small --output made"
REHEARSED = {  # what the documents tell to type -> what makes it short
    "bark-semantic encode speech.wav --encoder community:en": "",
    "bark-semantic encode speech.wav --encoder builtin community:en-large --encoder-weights 3 1": "",
    "bark-semantic clone me.wav --output voice.npz --encoder builtin community:en --encoder-weights 3 1": "",
    f"bark-semantic convert {GERMAN} --output converted --backbone facebook/hubert-base-ls960 --layer 9": "",
    "bark-semantic encode speech.wav --text 'the dog runs.' --bark suno/bark-small": "",
    "bark-semantic clone me.wav --output voice.npz --bark suno/bark-small": "",
    f"{SPEAK} me.wav": "",
    f"{SPEAK} v2/de_speaker_3": "",
    GENERATE: "--filters off --rows 2",
    f"{MODULE}train_encoder hubert_base --corpus corpus --output trained": (
        "--steps 2 --set 'batches.crops={synthetic: 4}' batches.num_tokens=160 training.num_workers=0"
    ),
    f"{MODULE}evaluate_encoder community:en --corpus corpus --codec facebook/encodec_24khz --unseen": "",
}
VARIANTS = {  # of the same commands, which are not measured in real shapes
    "bark-semantic voices --bark suno/bark-small": "",
    "bark-semantic encode speech.wav --transcribe --bark suno/bark-small --json": "",
    "bark-semantic clone me.wav --transcribe --output voice.npz --bark suno/bark-small": "",
    "bark-semantic speak --file sentences.txt --output out.wav --voice announcer --bark suno/bark-small": "",
    "bark-semantic speak --convert speech.wav --output out.wav --voice me.wav --bark suno/bark-small": "",
    f"{GENERATE} --voices presets --dtype bfloat16 --folds 2 --license cc0-1.0 --dry-run": "",
    f"{GENERATE} --language de --any-language --asr openai/whisper-small --part 1/2": "--rows 2",
    f"{MODULE}export_corpus corpus exported --codec suno/bark-small": "",
    f"{MODULE}evaluate_encoder community:en community:en-large --weights --unseen --corpus corpus --output weights": (
        "--codec facebook/encodec_24khz --json weights.json"
    ),
    f"{BENCHMARK} community:en --input-level-db -22 --corpus heard --output out": "",
    f"{MODULE}evaluate_voice SPEECH --bark suno/bark-small --output evaluation": (
        "--texts-per-voice 1 --limit 1 --parts clone --conditions full --asr none --mos none --speaker-models"
    ),
    f"{MODULE}finetune_bark prepare my_voice --output informed --bark suno/bark-small --text-informed 0.5": (
        "--encoder community:en"
    ),
}
TUNING = {  # one after the other
    f"{MODULE}finetune_bark prepare my_voice --output prepared --bark suno/bark-small": "",
    f"{MODULE}finetune_bark train finetune_lora --output tuned": (
        "--set data=prepared training.steps=1 training.mixed_precision=no validation.share=0.5 "
        "samples=[] 'probe={texts: []}'"
    ),
    f"{MODULE}finetune_bark merge tuned/adapter --bark suno/bark-small --output my_bark": "",
}
TINY_HEAD = "model.hidden_size=32 model.num_attention_heads=4 model.intermediate_size=64 model.num_hidden_layers=1"


def fill(hub: StubHub, folder: Path, *, real: bool) -> None:
    """Publish on a stub Hub what the commands name."""
    hub.publish("suno/bark-small", hub_layouts.bark_small(folder / "bark", real=real))
    hub.publish("facebook/hubert-base-ls960", hub_layouts.speech_model(folder / "hubert", real=real))
    hub.publish("facebook/encodec_24khz", hub_layouts.encodec_24khz(folder / "encodec", real=real))
    for name in ("en", "en-large", "de"):
        encoder, version = COMMUNITY[name], int(name != "en")
        place = folder / encoder.repository
        hub.publish(encoder.repository, hub_layouts.community(place, encoder.file, version=version, real=real))


def prepare(folder: Path, hub: StubHub) -> None:
    """What the commands read, in the folder where they are typed."""
    for name in ("speech.wav", "me.wav"):
        save_audio(folder / name, noise(1.9), 16_000)  # a tiny Bark says 2 s at once
    (folder / "sentences.txt").write_text("the dog runs.\nthe cat sleeps.\n")
    (folder / "my_voice").mkdir()
    texts = ["the dog runs.", "the cat sleeps.", "the dog sleeps.", "the cat runs."]
    for number in range(len(texts)):
        save_audio(folder / "my_voice" / f"{number}.wav", noise(1.9, number), 16_000)
    table = [f"{number}.wav,{text}" for number, text in enumerate(texts)]
    (folder / "my_voice" / "metadata.csv").write_text("\n".join(["file_name,text", *table]))
    rows = [corpus_row(seed, source="synthetic", with_audio=False, text=f"Text {seed}.") for seed in range(8)]
    Dataset.from_list(rows).save_to_disk(folder / "corpus")
    Dataset.from_list([corpus_row(seed) for seed in range(2)]).save_to_disk(folder / "heard")
    save_voices(folder / "SPEECH", texts[:2] * 4, seconds=2.1, held_out=4)
    (folder / GERMAN).write_bytes(hub.repositories[COMMUNITY["de"].repository][GERMAN].read_bytes())


@pytest.fixture(scope="module")
def layouts(tmp_path_factory) -> Iterator[dict]:
    """Tiny repositories, written once."""
    with running_hub() as hub:
        fill(hub, tmp_path_factory.mktemp("layouts"), real=False)
        yield hub.repositories


@pytest.fixture
def elsewhere(online, layouts, tmp_path, monkeypatch) -> StubHub:
    """A folder to type commands in, beside a Hub with tiny repositories and a small packaged encoder."""
    online.repositories.update(layouts)
    save_tiny_encoder(tmp_path / "builtin", vocab_size=10_000)
    monkeypatch.setattr(packaged, "BUILTIN_ENCODER", tmp_path / "builtin")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    prepare(tmp_path / "here", online)
    return online


def typed(command: str) -> None:
    """Type a command in this process."""
    module, options = module_and_options(shlex.split(command))
    assert importlib.import_module(module).main(options) != 2


@pytest.mark.parametrize("command", {**REHEARSED, **VARIANTS})
def test_documented_commands_run_on_repositories_as_they_lie_on_the_hub(elsewhere, command, monkeypatch, capsys):
    for module in ("evaluation.judges", "cli.generate_corpus"):
        monkeypatch.setattr(f"hf_bark_semantic.{module}.load_transcriber", lambda *_, **__: lambda _: "the dog.")
    tiny = TINY_HEAD if "train_encoder" in command else ""
    typed(f"{command} {({**REHEARSED, **VARIANTS})[command]} {tiny}")
    assert elsewhere.unknown == [], capsys.readouterr().out
    fetched = {request.split("/resolve/")[0][5:] for request in elsewhere.requests if "/resolve/" in request}
    named = re.findall(r"(?:suno|facebook)/[\w-]+", command)
    assert set(named) <= fetched


def test_a_bark_of_the_hub_is_tuned_and_merged(elsewhere):
    for command, small in TUNING.items():
        typed(f"{command} {small}")
    assert Path("my_bark", "model.safetensors").is_file() and elsewhere.unknown == []


def test_every_documented_command_that_names_a_repository_is_rehearsed_with_its_options():
    """All but the page, which is served until it is stopped and loads models as `speak` does."""
    everything = {**REHEARSED, **VARIANTS, **TUNING}.items()
    rehearsed = commands_on_repositories("\n".join(f"{command} {short}" for command, short in everything))
    missing = {}
    for document in DOCUMENTS:
        told = commands_on_repositories((ROOT / document).read_text(encoding="utf-8"))
        for program in told.keys() - {"bark-semantic app"}:
            if left_out := told[program] - rehearsed.get(program, set()):
                missing[document, program] = left_out
    assert missing == {} and len(rehearsed) > 10


def test_old_checkpoints_give_the_weights_that_were_saved(elsewhere, tmp_path):
    hubert = AutoModel.from_pretrained("facebook/hubert-base-ls960")
    encoder = BarkSemanticEncoderModel.from_backbone("facebook/hubert-base-ls960", backbone_layers=[9]).eval()
    inputs = BarkSemanticEncoderProcessor()(noise(1.0))
    states = hubert(inputs["input_values"], output_hidden_states=True).hidden_states[9]
    ours = encoder.backbone(inputs["input_values"], None)[9]
    assert np.allclose(ours.detach(), states.detach(), atol=1e-5)
    elsewhere.publish("microsoft/wavlm-base", hub_layouts.speech_model(tmp_path / "wavlm", WavLMModel))
    wavlm = BarkSemanticEncoderModel.from_backbone("microsoft/wavlm-base", backbone_layers=[9])
    norms = [name for name, _ in wavlm.named_parameters() if "weight.original" in name]
    assert len(norms) == 2 and wavlm.config.backbone_config.model_type == "wavlm"


def test_bark_and_its_presets_come_from_the_repository_that_was_named(elsewhere):
    bark, processor = load_bark("suno/bark-small")
    voice = VoicePrompt.load(processor("the dog", voice_preset="v2/en_speaker_0")["history_prompt"])
    assert len(voice.semantic_tokens) == 300
    assert not any("ylacombe" in request for request in elsewhere.requests)
    codec = load_codec("suno/bark-small")
    for name, weight in codec.state_dict().items():
        assert (weight == bark.codec_model.state_dict()[name]).all()


def test_commands_ask_nobody_to_convert_pickled_weights(elsewhere, monkeypatch):
    asked = []
    monkeypatch.setattr("transformers.modeling_utils.auto_conversion", lambda name, **_: asked.append(name))
    monkeypatch.delenv("DISABLE_SAFETENSORS_CONVERSION")
    AutoModel.from_pretrained("facebook/hubert-base-ls960")
    importlib.reload(hf_bark_semantic.cli)
    typed("bark-semantic encode speech.wav --encoder community:en")
    assert asked == ["facebook/hubert-base-ls960"]


def test_shards_are_fetched(elsewhere, tmp_path):
    model = tiny_encoder()
    folder = hub_layouts.in_shards(model, tmp_path / "sharded")
    BarkSemanticEncoderProcessor().save_pretrained(folder)
    elsewhere.publish("someone/sharded", folder)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    typed("bark-semantic encode speech.wav --encoder someone/sharded")


FAULTS = {
    "gone": ((401, "RepoNotFound"), "the Hub has no such repository any more, or it is private"),
    "404": ((404, "RepoNotFound"), "the Hub has no such repository any more, or it is private"),
    "gated": ((403, "GatedRepo"), "its author asks you to accept conditions: do so on https://huggingface.co/"),
    "401": ((401, ""), "the Hub refuses the token that was sent (401)"),
    "429": ((429, ""), "the Hub has had too many requests from here (429)"),
}
OF_REPOSITORY = {
    "suno/bark-small": f"{SPEAK} v2/de_speaker_3",
    "facebook/encodec_24khz": "bark-semantic clone me.wav --output voice.npz",
    "facebook/hubert-base-ls960": "bark-semantic encode speech.wav --encoder community:en",
    "someone/encoder": "bark-semantic encode speech.wav --encoder someone/encoder",
}


@pytest.mark.parametrize("repository", OF_REPOSITORY)
def test_what_the_hub_refuses_is_one_line_with_a_way_out(elsewhere, repository, capsys):
    for name, (answer, sentence) in FAULTS.items():
        elsewhere.refused[repository] = answer
        assert cli.main(shlex.split(OF_REPOSITORY[repository])[1:]) == 2, name
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bark-semantic: ")]
        assert len(lines) == 1 and sentence in lines[0], (name, lines)


@pytest.mark.parametrize("repository", ["suno/bark-small", "facebook/encodec_24khz", "facebook/hubert-base-ls960"])
def test_a_download_that_breaks_off_is_one_line_and_the_next_one_goes_on(elsewhere, repository, monkeypatch, capsys):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub waits before it tries again
    weights = next(name for name in elsewhere.repositories[repository] if name.endswith(LARGE))
    command = shlex.split(OF_REPOSITORY[repository])[1:]
    elsewhere.cut_off.add(weights)
    assert cli.main(command) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bark-semantic: ")]
    assert len(lines) == 1 and "the download was interrupted (peer closed connection" in lines[0], lines
    elsewhere.cut_off.clear()
    assert cli.main(command) == 0


MEASURED = """if True:
    import importlib, sys, time
    from pathlib import Path
    code = importlib.import_module(sys.argv[1]).main(sys.argv[2:])
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    print(code or 0, int(status["VmHWM"].split()[0]) // 1024, round(time.process_time()))
"""


@pytest.mark.slow
def test_real_shapes(tmp_path):
    """Prints the peak of each command's memory, as the kernel counts it, and its time on the processor."""
    with running_hub() as hub:
        fill(hub, tmp_path / "layouts", real=True)
        (tmp_path / "here").mkdir()
        prepare(tmp_path / "here", hub)
        environment = {**os.environ, **hub_environment(hub), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        environment |= {"PYTHONPATH": str(ROOT)}
        print("\n| command | fetched | peak memory | processor time |\n| --- | --- | --- | --- |", flush=True)
        for command, short in {**REHEARSED, **TUNING}.items():
            hub.requests.clear()
            module, options = module_and_options(shlex.split(f"{command} {short}"))
            words = [sys.executable, "-c", MEASURED, module, *options]
            result = subprocess.run(words, cwd=tmp_path / "here", env=environment, capture_output=True, text=True)
            assert result.returncode == 0, result.stderr
            code, peak, seconds = map(int, result.stdout.splitlines()[-1].split())
            assert code == 0, result.stderr
            weights = [request for request in hub.requests if request.startswith("GET /storage/")]
            fetched = ", ".join(dict.fromkeys("/".join(request.split("/")[2:4]) for request in weights))
            print(f"| `{command} {short}` | {fetched} | {peak:,} MiB | {seconds} s |", flush=True)
