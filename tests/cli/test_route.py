"""The route from a corpus to a published encoder: what cannot be measured is refused, with the right command."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from hf_bark_semantic.cli import evaluate_encoder, fold_corpus, generate_corpus, train_encoder
from hf_bark_semantic.cli.route import after_evaluation, after_training, first_training, say_next
from hf_bark_semantic.corpus.rows import load_corpus, split_fold
from hf_bark_semantic.trainers.folds import choose_folds
from hf_bark_semantic.trainers.splits import text_digest
from tiny import corpus_row, save_tiny_encoder


def saved(folder: Path, *rows: dict, without: tuple[str, ...] = ()) -> str:
    Dataset.from_list(list(rows)).remove_columns(list(without)).save_to_disk(folder)
    return str(folder)


@pytest.fixture
def trained(tmp_path):
    """A run of `train_encoder` without steps, on a corpus that holds nothing out, or a fold."""

    def train(corpus: str, *options: str) -> str:
        torch.manual_seed(0)
        config = tmp_path / "config.yaml"
        model = {"codec_hidden_size": 16, "vocab_size": 50, "hidden_size": 32}
        values = {"corpus": corpus, "model": model, "batches": {"crops": {"pair": 2}}, "training": {"steps": 0}}
        config.write_text(json.dumps(values))
        run = tmp_path / "-".join(["run", Path(corpus).name, *options])
        train_encoder.main([str(config), "--output", str(run), *options])
        return str(run)

    return train


def test_a_fold_that_the_corpus_lacks_is_not_held_out(trained, corpus, tmp_path):
    without = saved(tmp_path / "plain", *(corpus_row(seed) for seed in range(3)), without=("fold", "in_folds"))
    with pytest.raises(SystemExit, match="has no folds .column `fold`., so fold 0 cannot be held out"):
        trained(without, "--fold", "0")
    with pytest.raises(SystemExit, match="Fold 7 of .* has no clips; its folds are 0, 1"):
        trained(corpus, "--fold", "7")


def test_an_encoder_that_held_nothing_out_is_measured_on_another_corpus_alone(trained, corpus, tmp_path, capsys):
    run = trained(corpus)
    record = json.loads((Path(run) / "training.json").read_text())
    assert record["corpus"] == "corpus" and record["fold"] is None
    with pytest.raises(SystemExit, match="on every clip of this corpus.*--fold N"):
        evaluate_encoder.main([run, "--corpus", corpus, "--unseen"])
    later = saved(tmp_path / "later", *(corpus_row(seed, kind="en", fold=-1) for seed in range(20, 23)))
    with pytest.raises(SystemExit, match="trained on all of 'corpus'.*Add --unseen"):
        evaluate_encoder.main([run, "--corpus", later])
    evaluate_encoder.main([run, "--corpus", later, "--unseen", "--json", str(tmp_path / "e.json")])
    report = json.loads((tmp_path / "e.json").read_text())
    assert report["table"]["en, codes"]["clips"] == 3 and report["folds"] == []
    assert "unseen clips, En from codes" in capsys.readouterr().out
    of_fold = trained(corpus, "--fold", "1")
    with pytest.raises(SystemExit, match="omit --unseen"):
        evaluate_encoder.main([of_fold, "--corpus", later, "--unseen"])
    with pytest.raises(SystemExit, match="no clip of this corpus is in that fold"):
        evaluate_encoder.main([of_fold, "--corpus", later])


def test_clips_that_failed_a_filter_are_not_trained_on(trained, tmp_path, capsys):
    failed = [[], ["finished"], [], ["max_silence_share", "finished"]]
    rows = [corpus_row(seed, failed_filters=names) for seed, names in enumerate(failed)]
    run = trained(saved(tmp_path / "filtered", *rows))
    assert "2 clips failed a filter and are left out" in capsys.readouterr().out
    assert json.loads((Path(run) / "training.json").read_text())["clips"] == {"pair": 2}


@pytest.mark.parametrize(
    ("say", "least", "lost"),
    [
        (lambda i: (f"voice {i % 10}", f"text {i}"), 60, 0),
        (lambda i: (f"voice {i % 20}", f"Text {i % 20 // 2}!"), 60, 0),
        (lambda i: (f"voice {i % 6}", f"text {i // 6}"), 10, 40),
        (lambda i: ("none", f"text {i}"), 60, 0),
    ],
    ids=["a text once", "pairs of voices share texts", "everybody says everything", "Bark's own voices"],
)
def test_folds_share_neither_voice_nor_text(say, least, lost):
    rows = [say(i) for i in range(60)]
    folds = choose_folds(*zip(*rows, strict=True), 3)
    assert folds == choose_folds(*zip(*rows, strict=True), 3)
    kept = [(fold, *row) for fold, row in zip(folds, rows, strict=True) if fold is not None]
    assert len(kept) >= least and len(rows) - len(kept) <= lost
    for name in ({}, {"text": True}):
        of = {}
        for fold, voice, text in kept:
            if name or voice != "none":
                of.setdefault(text_digest(text) if name else voice, set()).add(fold)
        assert all(len(found) == 1 for found in of.values())
    counts = [folds.count(fold) for fold in range(3)]
    assert max(counts) <= 1.5 * min(counts)


def test_any_corpus_gets_folds_to_hold_out(trained, tmp_path, capsys):
    rows = [corpus_row(seed, voice=f"v{seed % 4}", text=f"text {seed}") for seed in range(8)]
    plain = saved(tmp_path / "plain", *rows, without=("fold", "in_folds"))
    fold_corpus.main([plain, "--folds", "2", "--output", str(tmp_path / "folds")])
    assert "fold 1: 4 clips" in capsys.readouterr().out
    training, held_out = split_fold(load_corpus(tmp_path / "folds"), 1)
    assert len(held_out) == 4 and not {clip.voice for clip in training} & {clip.voice for clip in held_out}
    run = trained(str(tmp_path / "folds"), "--fold", "1")
    evaluate_encoder.main([run, "--corpus", str(tmp_path / "folds")])
    assert "fold 1, English from codes" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="9 folds need at least as many voices, and the corpus has 4. Use fewer"):
        fold_corpus.main([plain, "--folds", "9", "--output", str(tmp_path / "more")])


def test_a_corpus_is_made_with_folds_by_the_rule_for_finished_ones(bark_folder, tmp_path, capsys):
    texts = [f"{word} {number}." for number in ("one", "two") for word in ("Dogs", "Cats", "Birds")]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    command = ["--bark", bark_folder, "--texts", str(tmp_path / "texts.txt"), "--filters", "off", "--keep-rejected"]
    command += ["--voices", "presets", "none", "--output", str(tmp_path / "corpus")]
    generate_corpus.main([*command, "--folds", "2"])
    printed = capsys.readouterr().out
    assert "fold 1: 3 clips" in printed and f"--corpus {tmp_path / 'corpus'} --fold 0" in printed.splitlines()[-1]
    clips = load_corpus(tmp_path / "corpus")
    chosen = choose_folds([clip.voice for clip in clips], [clip.text for clip in clips], 2)
    assert len(clips) == len(texts) and [clip.fold for clip in clips] == chosen
    fold_corpus.main([str(tmp_path / "corpus"), "--folds", "2", "--output", str(tmp_path / "folded")])
    assert [clip.fold for clip in load_corpus(tmp_path / "folded")] == chosen
    with pytest.raises(SystemExit, match="num_rows: 6 there, 8 now.*its folds were made for these rows"):
        generate_corpus.main([*command, "--folds", "2", "--rows", "8"])
    with pytest.raises(SystemExit, match="recipe.folds: 2 there, nothing now"):
        generate_corpus.main(command)
    with pytest.raises(SystemExit, match="9 folds need at least as many voices"):
        generate_corpus.main([*command, "--folds", "9", "--output", str(tmp_path / "more")])
    assert not (tmp_path / "more").exists()


def test_what_comes_next_depends_on_the_trainings_that_are_there(tmp_path, capsys):
    options = ["my recipe.yaml", "--corpus", "corpus"]

    def finish(name: str, fold: int | None, corpus: str = "a") -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "training.json").write_text(json.dumps({"fold": fold, "corpus_fingerprint": corpus}))
        return tmp_path / name

    def after(run: Path, fold: int | None, folds=(0, 1)) -> str:
        say_next(*after_training(run, fold, options, "corpus", folds, "nano"))
        return capsys.readouterr().out.removeprefix("Next: ").strip().replace(f"{tmp_path}/", "")

    train = "python -m hf_bark_semantic.cli.train_encoder 'my recipe.yaml' --corpus corpus"
    finish("other-1", 1, corpus="b")
    assert after(finish("run-0", 0), 0) == f"{train} --fold 1 --output run-1"
    assert after(finish("run-1", 1), 1) == f"{train} --output all"
    assert after_evaluation([str(tmp_path / "run-0")], [0], "corpus", Path("s.json")) is None
    measure = "python -m hf_bark_semantic.cli.evaluate_encoder run-0 run-1 --corpus corpus --codec nano"
    assert after(finish("all", None), None) == after(tmp_path / "run-1", 1, None) == f"{measure} --json scores.json"
    for measured, folds in (("run-0", [0, 1]), ("all", [])):
        package = after_evaluation([str(tmp_path / measured)], folds, "corpus", Path("s.json"))
        assert package[2:4] == ["hf_bark_semantic.cli.package_encoder", tmp_path / "all"]
    assert "fold_corpus corpus --folds 5 --output corpus_folds" in after(tmp_path / "all", None, ())
    assert first_training("corpus", "nano")[3:] == ["nano_corpus", *first_training("corpus", "suno/bark")[4:]]


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ("no.yaml", [], "There is no file 'no.yaml'. There is no recipe 'no.yaml'. There are .*builtin"),
        ("nano_corpus", ["--corpus", "no/such/corpus"], "'no/such/corpus' cannot be read as a dataset"),
        ("nano_corpus", ["--set", "training.steps=[1"], "--set 'training.steps=.1': the value is not YAML"),
        *[
            (
                "nano_corpus",
                ["--set", f"training.steps={value}"],
                f"--set 'training.steps={value}': the value is not YAML",
            )
            for value in ("!!int probability", '!!int ""', "!!bool maybe", "!!timestamp x", "2001-99-99")
        ],
        ("nano_corpus", ["--set", f"training.learning_rate=1{'0' * 400}"], "`training.learning_rate` is 10*; it must"),
        ("nano_corpus", ["--set", "training.stebs=1"], "`training` has no `stebs`; did you mean `steps`"),
        ("nano_corpus", ["--set", "trainings.steps=1"], "it must be KEY=VALUE with a section of the config"),
    ],
)
def test_what_is_missing_or_wrong_is_one_sentence(config, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        train_encoder.main([config, *options])
    assert not list(tmp_path.iterdir())


def test_codes_alone_are_decoded_or_refused(bark_folder, tmp_path):
    rows = [corpus_row(seed, fold=-1, with_audio=False) for seed in range(2)]
    codes, encoder = saved(tmp_path / "codes", *rows), save_tiny_encoder(tmp_path / "encoder")
    arguments = [encoder, "--corpus", codes, "--unseen", "--json", str(tmp_path / "new" / "e.json")]
    with pytest.raises(SystemExit, match="can read none of the 2 clips: they have no audio. --codec"):
        evaluate_encoder.main(arguments)
    evaluate_encoder.main([*arguments, "--codec", bark_folder])
    assert json.loads((tmp_path / "new" / "e.json").read_text())["table"]["english, audio"]["clips"] == 2
    with pytest.raises(SystemExit, match="no training.json"):
        evaluate_encoder.main([encoder, "--corpus", codes])
