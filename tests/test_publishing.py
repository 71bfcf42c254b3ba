"""Checks before a publication: complete, listed files, readable without running code, with a card."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from huggingface_hub import DatasetCard, ModelCard

import finetune_bark
from hf_bark_semantic import BarkSemanticEncoderProcessor, default_encoder, publishing
from hf_bark_semantic.bark.adapter_bundle import save_adapters
from hf_bark_semantic.bark.adapters import add_adapters, lora_config
from hf_bark_semantic.cli import package_encoder, publish
from hf_bark_semantic.cli.processes import only_run_in
from hf_bark_semantic.evaluation import packaging
from hf_bark_semantic.packaged import card_template
from hf_bark_semantic.publishing import (
    PublishingError,
    adapter_results,
    add_code,
    add_results,
    check_publication,
    encoder_results,
    render_card,
)
from tiny import tiny_bark, tiny_encoder, tiny_prompt

ROOT = Path(__file__).parents[1]

CARD = "---\nlicense: mit\n---\n\n# Name\n\n## Consent\n\nOnly with their consent. `{not a field}`\n"
SCORE = {"mean": 0.25123, "low": 0.2, "high": 0.3}
TABLE = {
    f"english, {inputs}": {"clips": 2, "groups": 2, "tokens": 90, "top_1": SCORE, "top_5": {**SCORE, "mean": 0.5}}
    for inputs in ("audio", "codes")
}
REPORT = {
    "stages": {
        "semantic": {
            "best_step": 4, "last_step": 6, "validation_loss": {"0": 3.0, "4": 2.51239, "6": 2.6},
            "probe": {"songs": {"before": 1.0, "after": 1.2}},
        }
    }
}  # fmt: skip
CALIBRATION = {
    "calibration": {
        "audio": {"temperature": 1.5, "errors": {"all": {"before": 0.06, "after": 0.02}}},
        "codes": {"errors": {"all": {"before": 0.07}}},  # of one fold, to which nothing is fitted
    }
}
PRESETS = {
    "lag": 2,
    "languages": {
        "de": {
            "clips": 3, "groups": 3, "tokens": 1200, "compared_clips": 2, "enhanced_top_1": SCORE, "community": SCORE,
            "difference": {"mean": 0.031, "low": -0.01, "high": 0.07, "p_value": 0.2},
        }
    },
}  # fmt: skip


@pytest.fixture
def encoder(tmp_path) -> Path:
    """An encoder packaged from a run by the script."""
    model = tiny_encoder(codec_hidden_size=16)
    model.config.backbone_config._name_or_path = "outputs/my_hubert"
    model.config.temperatures = {"audio": 2.0, "codes": 1.2}
    model.save_pretrained(tmp_path / "run")
    BarkSemanticEncoderProcessor().save_pretrained(tmp_path / "run")
    record = {"config": "x.yaml", "fold": None, "seed": 0, "steps": 2, "clips": {"pair": 3, "prompt": 4, "preset": 5}}
    (tmp_path / "run" / "training.json").write_text(json.dumps(record))
    scores = {"input_level_db": None, "runs": ["outputs/fold0"], "table": TABLE, "clips": [], "presets": PRESETS}
    scores |= CALIBRATION
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    options = ["--scores", str(tmp_path / "scores.json"), "--output", str(tmp_path / "encoder")]
    package_encoder.main([str(tmp_path / "run"), *options])
    return tmp_path / "encoder"


@pytest.fixture
def adapter(tmp_path) -> Path:
    """As `finetune_bark.py` leaves it: the report is beside the folder."""
    bark = tiny_bark()
    add_adapters(bark, {"semantic": lora_config(rank=2)})
    folder = save_adapters(bark, tmp_path / "run" / "adapter", base_model="suno/bark", voice_prompt=tiny_prompt())
    fields = re.findall(r"\{\{ (\w+) \}\}", card_template("adapter").read_text())
    (folder / "README.md").write_text(render_card(card_template("adapter"), dict.fromkeys(fields, "x")))
    (tmp_path / "run" / "report.json").write_text(json.dumps(REPORT))
    return folder


@pytest.fixture
def corpus(tmp_path) -> Path:
    folder = tmp_path / "corpus"
    for part in ("data", "shards"):
        (folder / part).mkdir(parents=True)
    (folder / "corpus.json").write_text("{}")
    (folder / ".lock").write_text("")
    Dataset.from_list([{"id": "0"}]).to_parquet(folder / "data" / "train-00000.parquet")
    (folder / "shards" / "00000.json").write_text("{}")
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture
def hub(monkeypatch) -> list:
    """The calls that would have gone to the Hub."""
    calls = []

    class Api:
        def create_repo(self, repo_id, **options):
            calls.append(("create", repo_id, options))

        def upload_folder(self, **options):
            calls.append(("upload", options))
            return "https://huggingface.co/me/x/commit/0"

    monkeypatch.setattr(publishing, "HfApi", Api)
    return calls


@pytest.mark.parametrize("kind", ["encoder", "adapter", "corpus"])
def test_a_folder_goes_whole_in_one_commit(kind, request, hub, capsys):
    folder = request.getfixturevalue(kind)
    there = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    publish.main([str(folder), "me/x", "--private", "--license", "mit"])
    (_, repo_id, created), (_, uploaded) = hub
    repo_type = "dataset" if kind == "corpus" else "model"
    assert (repo_id, created) == ("me/x", {"repo_type": repo_type, "private": True, "exist_ok": True})
    assert (uploaded["repo_id"], uploaded["repo_type"], uploaded["folder_path"]) == ("me/x", repo_type, folder)
    patterns = {name: uploaded[name] for name in ("allow_patterns", "ignore_patterns")}
    gone = set(publishing.filter_repo_objects(there, **patterns))
    assert gone == set(there) - {".lock"}
    assert {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()} == gone
    printed = capsys.readouterr().out
    assert all(f"{(folder / path).stat().st_size:,}  {path}" in printed for path in gone)
    assert "https://huggingface.co/me/x/commit/0" in printed


def test_a_dry_run_lists_what_would_go_and_uploads_nothing(encoder, hub, capsys):
    publish.main([str(encoder), "me/x", "--dry-run"])
    printed = capsys.readouterr().out
    assert hub == [] and "model.safetensors" in printed and "Nothing was uploaded" in printed
    assert "bytes in 11 files of the encoder" in printed


def test_the_fine_tuning_script_pushes_as_publish_does(adapter, hub, capsys):
    options = [str(adapter), "me/x", "--private", "--license", "cc-by-4.0"]
    publish.main(options)
    told, card = capsys.readouterr().out, (adapter / "README.md").read_text()
    finetune_bark.main(["push", *options])
    assert len(hub) == 4 and hub[2:] == hub[:2]
    assert capsys.readouterr().out == told and (adapter / "README.md").read_text() == card


def test_the_fine_tuning_script_pushes_nothing_without_a_licence_and_tells_how_to_name_one(adapter, hub):
    with pytest.raises(SystemExit, match="names no licence.*--license mit"):
        finetune_bark.main(["push", str(adapter), "me/x"])
    assert hub == []


def test_the_packaged_encoder_can_be_published():
    publication = check_publication(default_encoder())
    assert publication.kind == "encoder" and publication.left == () and publication.url is None
    assert publication.num_bytes == sum(file.stat().st_size for file in default_encoder().iterdir())


@pytest.mark.parametrize("folder", sorted(default_encoder().parent.iterdir()), ids=lambda folder: folder.name)
def test_packaged_models_name_no_folder_of_the_machine_that_trained(folder):
    assert [file.name for file in folder.glob("*.json") if "outputs/" in file.read_text()] == []


def test_packaging_leaves_the_paths_of_this_machine_behind(encoder):
    config, evaluation = ((encoder / name).read_text() for name in ("config.json", "evaluation.json"))
    assert "outputs/" not in config + evaluation and "_name_or_path" not in config
    assert json.loads(evaluation)["table"] == TABLE and json.loads(config)["backbone_config"]["model_type"] == "hubert"


def test_publishing_takes_the_paths_of_this_machine_out_of_the_folder(encoder, hub):
    plain = (encoder / "config.json").read_bytes()
    config = json.loads(plain)
    config["backbone_config"]["_name_or_path"] = "/home/me/hubert"
    (encoder / "config.json").write_text(json.dumps(config, indent=2))
    publishing.publish(encoder, "me/x", dry_run=True)
    assert b"/home/me" in (encoder / "config.json").read_bytes()
    publication = publishing.publish(encoder, "me/x")
    assert (encoder / "config.json").read_bytes() == plain and publication.files["config.json"] == len(plain)
    assert publishing.strip_paths(encoder) == []


# ---- cards


def test_packaging_multiplies_the_configs_temperatures_by_the_fitted_ones(encoder):
    assert json.loads((encoder / "config.json").read_text())["temperatures"] == {"audio": 3.0, "codes": 1.2}
    assert "audio: 6.0% before, 2.0% after; codes: 7.0% before." in (encoder / "README.md").read_text()


def test_an_encoders_card_holds_what_was_measured(encoder):
    card = ModelCard.load(encoder / "README.md")
    measured = {(r.dataset_type, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert measured == {
        ("bark-english", f"{k} token accuracy, from {inputs}"): value
        for k, value in (("top-1", 0.2512), ("top-5", 0.5))
        for inputs in ("audio", "codes")
    }
    assert card.data.model_name == "encoder" and card.data.license == "mit"
    assert card.data.eval_results[0].metric_args == {"interval_95": [0.2, 0.3]}
    assert "consent" in card.text and "| English speech | audio | 25.1% [20.0%, 30.0%] |" in card.text
    interval = "25.1% [20.0%, 30.0%]"
    assert f"| de | {interval} | {interval} | +3.1% [-1.0%, +7.0%] | 3 | 2 | 1,200 |" in card.text
    assert "5 of Suno's presets" in card.text


def packaged(run: Path, scores: dict, output: Path, *options: str) -> Path:
    (run.parent / "scores.json").write_text(json.dumps(scores))
    package_encoder.main([str(run), "--scores", str(run.parent / "scores.json"), "--output", str(output), *options])
    return output


def test_a_packaged_encoder_says_by_which_command_it_was_measured_and_not_in_which_folders(encoder, tmp_path):
    run = tmp_path / "run"
    record = {"config": "mine.yaml", "fold": None, "seed": 0, "steps": 2, "clips": {"synthetic": 3}, "corpus": "mine"}
    (run / "training.json").write_text(json.dumps(record))
    command = "python -m evaluate_encoder /home/me/cv/fold0 ../cv/fold1 ~/x/fold2 --codec suno/bark"
    made = {"command": command, "date": "2026-01-02T03:04:05", "commit": "abc", "platform": "my machine"}
    scores = {"input_level_db": None, "table": TABLE, "folds": [0], "num_folds": 1, "clips": [], "made": made}
    output = packaged(run, scores, tmp_path / "mine", "--license", "mit")
    command = "python -m evaluate_encoder fold0 ../cv/fold1 fold2 --codec suno/bark"
    measured = json.loads((output / "evaluation.json").read_text())["made"]
    assert measured == {"command": command, "date": made["date"], "commit": "abc"}


def test_an_encoder_of_any_corpus_is_packaged_with_its_own_groups_and_its_corpus(encoder, tmp_path, capsys):
    run = tmp_path / "run"
    record = {"config": "mine.yaml", "fold": None, "seed": 0, "steps": 2, "clips": {"synthetic": 1200}}
    (run / "training.json").write_text(json.dumps({**record, "corpus": "my-corpus"}))
    table = {f"{kind}, audio": TABLE["english, audio"] for kind in ("de", "a, b")}
    scores = {"input_level_db": None, "table": table, "folds": [0, 1], "num_folds": 3, "clips": []}
    output = packaged(run, scores, tmp_path / "mine", "--license", "cc0-1.0")
    line = json.loads((output / "evaluation.json").read_text())["accuracy_line"]
    assert "on voices and sentences (de, read from audio) that" in line and "2 clips." in line
    card = ModelCard.load(output / "README.md")
    assert card.data.license == "cc0-1.0" and card.data.model_name == "mine"
    assert "The corpus `my-corpus`: clips 1,200 of the source `synthetic`." in card.text
    assert "Folds 0, 1 of 3" in card.text and "| a, b | audio | 25.1%" in card.text
    assert "rsxdalv" not in card.text and "OpenAI" not in card.text
    publish.main([str(output), "me/mine", "--dry-run"])
    assert "modeling_bark_semantic.py" in capsys.readouterr().out
    assert "trust_remote_code=True" in card.text
    unseen = packaged(run, {**scores, "folds": []}, tmp_path / "unseen", "--no-remote-code")
    assert "clips that its training did not contain. One seed" in (unseen / "README.md").read_text()
    assert "trust_remote_code" not in (unseen / "README.md").read_text()
    assert not list(unseen.glob("*.py")) and "auto_map" not in (unseen / "config.json").read_text()
    publish.main([str(unseen), "me/unseen", "--dry-run", "--license", "mit", "--remote-code"])
    assert {path.name for path in unseen.glob("*.py")} == {path.name for path in output.glob("*.py")}


def test_code_is_for_whole_encoders_alone(adapter, tmp_path, capsys):
    with pytest.raises(SystemExit, match="adapter files, which need no code"):
        publish.main([str(adapter), "me/x", "--license", "mit", "--remote-code"])
    tiny_encoder().save_pretrained(tmp_path / "no_processor")
    with pytest.raises(PublishingError, match=r"processor_config.json cannot be read.*save model and processor"):
        add_code(tmp_path / "no_processor")
    assert not list((tmp_path / "no_processor").glob("*.py"))


def test_what_cannot_be_packaged_leaves_nothing_behind(encoder, tmp_path, monkeypatch):
    run, output, before = tmp_path / "run", tmp_path / "new", set(tmp_path.iterdir())
    with pytest.raises(SystemExit, match="no table of accuracies"):
        packaged(run, {"runs": []}, output)
    arguments = ["--scores", str(tmp_path / "none.json"), "--output", str(output)]
    with pytest.raises(SystemExit, match="none.json cannot be read.*evaluate_encoder .*--json"):
        package_encoder.main([str(run), *arguments])
    with pytest.raises(SystemExit, match="has no training.json"):
        package_encoder.main([str(tmp_path / "nowhere"), "--scores", str(tmp_path / "scores.json"), *arguments[2:]])
    monkeypatch.setattr(packaging, "encoder_card", lambda *arguments, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        packaged(run, {"table": TABLE, "input_level_db": None}, output)
    assert set(tmp_path.iterdir()) == before


def test_a_folder_in_which_another_run_is_at_work_is_neither_written_nor_published(encoder, tmp_path, hub):
    before = {file: file.stat().st_mtime_ns for file in encoder.iterdir()}
    options = ["--scores", str(tmp_path / "scores.json"), "--output", str(encoder)]
    with only_run_in(encoder):
        with pytest.raises(SystemExit, match="Another run uses .*encoder"):
            package_encoder.main([str(tmp_path / "run"), *options])
        with pytest.raises(SystemExit, match="Another run uses .*encoder"):
            publish.main([str(encoder), "me/x", "--license", "mit"])
    assert {file: file.stat().st_mtime_ns for file in encoder.iterdir()} == before
    assert hub == []


def test_an_adapters_card_gets_the_results_of_the_report_beside_it(adapter, hub):
    publish.main([str(adapter), "me/x", "--license", "cc-by-4.0", "--dry-run"])
    publish.main([str(adapter), "me/x", "--dry-run"])  # once more changes nothing
    card = ModelCard.load(adapter / "README.md")
    found = [(r.dataset_name, r.metric_value, r.metric_args) for r in card.data.eval_results]
    assert found == [
        ("Held-out recordings", 2.5124, {"before_training": 3.0}),
        ("Bark's own speech: songs", 1.2, {"before_training": 1.0}),
    ]
    assert card.data.license == "cc-by-4.0" and card.data.model_name == "run" and "consent" in card.text


def test_results_that_are_measured_again_are_replaced_and_others_stay():
    first, again = encoder_results(TABLE), adapter_results(REPORT)
    card = add_results(add_results(CARD, first, name="a"), again, name="a")
    first[0].metric_value = 0.9
    card = ModelCard(add_results(card, first[:1], name="a"))
    assert sorted(r.metric_value for r in card.data.eval_results) == [0.2512, 0.5, 0.5, 0.9, 1.2, 2.5124]


def test_a_card_is_rendered_with_its_metadata(tmp_path):
    (tmp_path / "t.md").write_text("---\ntags: [a]\n---\n{{ a }} and {{ b }}\n")
    card = render_card(tmp_path / "t.md", {"a": "1", "b": "{{ 2 }}"}, metadata={"license": "mit", "base_model": None})
    assert card == "---\ntags:\n- a\nlicense: mit\n---\n1 and {{ 2 }}\n"
    with pytest.raises(ValueError, match="t.md has fields without a value: b"):
        render_card(tmp_path / "t.md", {"a": "1"})


@pytest.mark.parametrize("name", ["encoder", "adapter", "corpus"])
def test_templates_speak_of_consent_and_licences(name):
    template = (ROOT / "model_cards" / f"{name}.md").read_text()
    assert "consent" in template.lower() and "licen" in template.lower()


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (None, "There is no card"),
        (CARD.replace("license: mit", "tags: [a]"), "names no licence"),
        (CARD.replace("onsent", "onditions"), "consent"),
        (CARD, "does not say `pipeline_tag: audio-to-bark-semantic`.*finds the task"),
        (CARD.replace("---\n\n", "library_name: peft\n---\n\n"), "does not say `library_name: transformers`"),
        (CARD + "{{ rows }} rows", r"has unfilled fields: \{\{ rows \}\}"),
        (CARD.replace("license: mit", "license: [mit"), "metadata of README.md cannot be read"),
        (CARD.replace("license: mit", "- mit"), "metadata of README.md cannot be read"),
        (CARD.replace("mit", "mit\nmodel-index: [{name: a, results: [{task: {type: b}}]}]"), "cannot be read"),
    ],
)
def test_a_card_that_says_too_little_keeps_its_folder_here(encoder, hub, card, message):
    (encoder / "README.md").unlink()
    if card is not None:
        (encoder / "README.md").write_text(card)
    with pytest.raises(PublishingError, match=message):
        publishing.publish(encoder, "me/x")
    assert hub == []


def test_the_card_of_a_corpus_is_a_datasets(corpus):
    (corpus / "README.md").write_text(CARD.replace("license: mit", "license: mit\nsize_categories: [n<1K]"))
    assert check_publication(corpus).repo_type == "dataset"
    assert DatasetCard.load(corpus / "README.md").data.size_categories == ["n<1K"]


# ---- files


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": 1}))


def torch_archive(path: Path) -> None:
    torch.save({"a": torch.ones(1)}, path)


def object_array(path: Path) -> None:
    np.savez(path, semantic_prompt=np.array([{}], dtype=object))


@pytest.mark.parametrize(
    ("kind", "name", "write", "message"),
    [
        ("encoder", "pytorch_model.bin", lambda path: path.write_text("x"), "is a pickle"),
        ("encoder", "weights", pickled, "weights is a pickle"),
        ("encoder", "training.json", pickled, "is a pickle"),
        ("encoder", "archive.zip", torch_archive, "is a pickle"),
        ("adapter", "voice.npz", torch_archive, "is a pickle"),
        ("adapter", "voice.npz", object_array, "voice.npz is damaged"),
        ("adapter", "bundle.json", lambda path: path.write_text("{"), "bundle.json is damaged"),
        ("encoder", "model.safetensors", lambda path: path.write_text("x"), "model.safetensors is damaged"),
        ("corpus", "data/more.parquet", lambda path: path.write_text("x"), "more.parquet is damaged"),
        ("encoder", "modeling_bark_semantic.py", lambda path: path.write_text("x"), "differs from this package"),
        ("encoder", "evil.py", lambda path: path.write_text("x"), r"1 files do not belong .*\(evil.py\)"),
        ("corpus", "notes/me.txt", lambda path: path.write_text("x"), r"do not belong .*\(notes/me.txt\)"),
        ("encoder", "training.json", lambda path: path.symlink_to("/etc/hostname"), "training.json is a link"),
    ],
)
def test_files_that_do_not_belong_there_keep_the_folder_here(kind, name, write, message, request, hub):
    folder = request.getfixturevalue(kind)
    if kind == "adapter":
        (folder / "README.md").write_text(CARD)
    check_publication(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    write(folder / name)
    with pytest.raises(PublishingError, match=message):
        publishing.publish(folder, "me/x")
    assert hub == []


def test_other_files_may_stay_but_pickles_may_not(corpus, hub):
    (corpus / "set_aside").mkdir()
    (corpus / "set_aside" / "shard [0].parquet").write_text("damaged")
    publication = publishing.publish(corpus, "me/x", leave_others=True)
    assert publication.left == ("set_aside/shard [0].parquet",) and "stays here" in str(publication)
    assert publication.left[0] not in publication.files
    uploaded = hub[1][1]
    patterns = {name: uploaded[name] for name in ("allow_patterns", "ignore_patterns")}
    assert not list(publishing.filter_repo_objects(publication.left, **patterns))
    pickled(corpus / "set_aside" / "cache")
    with pytest.raises(PublishingError, match="set_aside/cache is a pickle"):
        publishing.publish(corpus, "me/x", leave_others=True)


@pytest.mark.parametrize(
    ("kind", "missing", "message"),
    [
        ("encoder", "processor_config.json", "There is no processor_config.json: save model and processor"),
        ("encoder", "model.safetensors", r"There is no model\*.safetensors"),
        ("adapter", "semantic/adapter_model.safetensors", "save the adapters again"),
        ("corpus", "data/train-00000.parquet", "generate_corpus.py finish it"),
    ],
)
def test_half_a_thing_is_not_published(kind, missing, message, request, hub):
    folder = request.getfixturevalue(kind)
    (folder / missing).unlink()
    with pytest.raises(PublishingError, match=message):
        publishing.publish(folder, "me/x")
    assert hub == []


def test_all_reasons_are_told_at_once(encoder):
    (encoder / "README.md").unlink()
    (encoder / "notes.txt").write_text("x")
    with pytest.raises(SystemExit) as stopped:
        publish.main([str(encoder), "me/x"])
    assert "There is no card" in str(stopped.value) and "notes.txt" in str(stopped.value)


def test_other_folders_and_names_are_refused(encoder, tmp_path, hub):
    (tmp_path / "bark").mkdir()
    (tmp_path / "bark" / "config.json").write_text('{"model_type": "bark"}')
    for folder in (tmp_path / "bark", tmp_path / "nowhere"):
        with pytest.raises(PublishingError, match="is not a folder of an encoder"):
            publishing.publish(folder, "me/x")
    with pytest.raises(PublishingError, match="not the name of a repository"):
        publishing.publish(encoder, "../me/x y", dry_run=True)
    assert hub == []


def test_code_that_travels_is_the_packages_own(encoder):
    name = "modeling_bark_semantic.py"
    (encoder / name).write_bytes((ROOT / "hf_bark_semantic" / name).read_bytes())
    assert name in check_publication(encoder).files
