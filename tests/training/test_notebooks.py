"""The notebooks run from top to bottom, offline, in their own folder, and are committed without outputs."""

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient

import hf_bark_semantic
from hf_bark_semantic import BarkSemanticEncoderModel, VoicePrompt, load_audio, load_bark, packaged
from hf_bark_semantic.corpus.shards import shard_records
from hf_bark_semantic.voices.provenance import prompt_sha256, read_provenance

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "training" / "notebooks"
NAMES = ("quickstart", "train_and_finetune")
CELL_TIMEOUT_S = 900  # against hanging; a busy machine may take its time
STAGE_PARTS = {"semantic": "semantic", "coarse": "coarse_acoustics"}

with_nano = pytest.mark.skipif(not packaged.NANO_BARK.is_dir(), reason="this package has no nano")


@pytest.fixture
def run_notebook(tmp_path, monkeypatch):
    """A function that runs a notebook in `tmp_path` and gives the cells with their outputs, by id."""
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        # that kernel and scripts import the package that is tested here
        "PYTHONPATH": os.pathsep.join(
            [str(Path(hf_bark_semantic.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        ),
    }.items():
        monkeypatch.setenv(name, value.strip(os.pathsep))

    def run(name: str, **parameters) -> dict[str, nbformat.NotebookNode]:
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        if parameters:  # as papermill does: behind the cell with that tag
            (place,) = (i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", []))
            assert all(f"{parameter} = " in notebook.cells[place].source for parameter in parameters)
            source = "\n".join(f"{parameter} = {value!r}" for parameter, value in parameters.items())
            notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(source, id="injected"))
        resources = {"metadata": {"path": str(tmp_path)}}
        NotebookClient(notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", resources=resources).execute()
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
        assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
        return {cell.id: cell for cell in cells}

    return run


def players(cell) -> int:
    """How many sounds a cell shows."""
    return sum("<audio" in output.get("data", {}).get("text/html", "") for output in cell.outputs)


def text(cell) -> str:
    """What a cell prints, and its value."""
    parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "".join(parts)


@with_nano
def test_quickstart_clones_speaks_and_converts(run_notebook, tmp_path):
    cells = run_notebook("quickstart")
    assert "549 tokens of 11.00 s" in text(cells["encode"])
    accuracy = json.loads((hf_bark_semantic.default_encoder() / "evaluation.json").read_text())["accuracy_line"]
    assert text(cells["accuracy"]).strip() == accuracy
    shown = {name: players(cell) for name, cell in cells.items() if players(cell)}
    once = dict.fromkeys(("recording", "reference", "speak", "convert"), 1)
    assert shown == {**once, "presets": 3, "modes": 4}
    voice = VoicePrompt.load(tmp_path / "outputs" / "quickstart" / "voice.npz", semantic_vocab_size=500)
    assert voice.duration_s > 2 and text(cells["save-voice"]).endswith("True")
    sound = tmp_path / "outputs" / "quickstart" / "speech.wav"
    assert len(load_audio(sound)) > 0
    provenance = read_provenance(sound)
    assert provenance["model"] == "nano" and provenance["voice_prompt_sha256"] == prompt_sha256(voice)


@with_nano
def test_an_encoder_and_an_adapter_are_trained(run_notebook, tmp_path):
    cells = run_notebook("train_and_finetune", REPOSITORY=str(ROOT))
    made = tmp_path / "outputs" / "train_and_finetune"

    log = [json.loads(line) for line in (made / "encoder" / "log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in log if "loss" in row]
    assert len(losses) >= 10 and losses[-1] < losses[0]
    encoder = BarkSemanticEncoderModel.from_pretrained(made / "encoder")
    assert encoder.config.vocab_size == load_bark("nano")[0].generation_config.semantic_config["semantic_vocab_size"]
    held_out = json.loads((made / "encoder" / "training.json").read_text())["validation"]["held_out"]
    assert held_out and re.search(r"right: [\d.]+% of \d+ tokens", text(cells["evaluate"]))

    left_out = [row for record in shard_records(made / "prepared") for row in record["rejected"]]
    recordings = (made / "recordings" / "metadata.jsonl").read_text().splitlines()
    report = json.loads((made / "my_voice" / "report.json").read_text())
    assert report["utterances"] == len(recordings) - len(left_out) and f"{len(recordings)} recordings" in text(
        cells["prepare"]
    )
    assert list(report["stages"]) == ["semantic", "coarse"]
    for stage, result in report["stages"].items():
        losses = {int(step): loss for step, loss in result["validation_loss"].items()}
        assert len(losses) > 1 and losses[result["best_step"]] == min(losses.values())
        assert 0 < result["trained"] < result["parameters"]
        assert f"{stage}: step 0: {losses[0]:.3f}, " in text(cells["losses"])

    assert players(cells["speak"]) == 2 and players(cells["merge"]) == 1
    nano, merged = (load_bark(place)[0].state_dict() for place in ("nano", made / "merged"))
    changed = {name.partition(".")[0] for name, value in nano.items() if not torch.equal(value, merged[name])}
    learnt = {stage for stage, result in report["stages"].items() if result["best_step"]}
    assert nano.keys() == merged.keys() and changed == {STAGE_PARTS[stage] for stage in learnt}


@pytest.mark.parametrize("name", NAMES)
def test_committed_notebooks_have_neither_outputs_nor_machine_paths(name):
    content = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    notebook = nbformat.reads(content, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert (
        notebook.metadata.keys() == {"kernelspec", "language_info"} and notebook.metadata.kernelspec.name == "python3"
    )
    assert not re.search(r"/(home|Users|tmp|root|mnt|work|content)/|[A-Z]:\\", content)


def test_every_notebook_is_run():
    assert sorted(file.stem for file in FOLDER.glob("*.ipynb")) == sorted(NAMES)
