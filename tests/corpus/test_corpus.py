"""Generated corpora match their plan, for any number of processes and kills."""

import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import psutil
import pytest
from datasets import load_dataset

from hf_bark_semantic import packaged, publishing
from hf_bark_semantic.cli import generate_corpus
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.corpus import generation, shards
from hf_bark_semantic.corpus.filters import Filters
from hf_bark_semantic.corpus.generation import Part
from hf_bark_semantic.corpus.generation import generate_corpus as make_corpus
from hf_bark_semantic.corpus.rows import load_corpus, read_corpus
from hf_bark_semantic.corpus.shards import (
    finished_shards,
    open_corpus,
    shard_records,
    summarize_records,
)
from hf_bark_semantic.corpus.texts import Sentence
from processes import TwoNodes, on_two_processes
from stub_corpus import SENTENCES, VOICES, generate, new_plan, new_recipe, rows_of, speak, start, work
from tiny import random_codes, tiny_bark, tiny_bark_processor

ROOT = Path(__file__).parents[2]


KILLS = 20


@pytest.fixture
def whole(tmp_path):
    generate(tmp_path / "whole", new_plan(), new_recipe())
    return rows_of(tmp_path / "whole")


def test_a_plan_is_a_pure_function_and_says_every_text_before_it_repeats_one():
    plan, again = new_plan(sound_share=0), new_plan(sound_share=0)
    rows = [plan.row(index) for index in range(30)]
    assert rows == [again.row(index) for index in reversed(range(30))][::-1]
    for epoch in range(4):
        assert {row.text for row in rows[7 * epoch : 7 * epoch + 7]} == {text for text, _ in SENTENCES}
    assert [row.text for row in rows[:7]] != [row.text for row in rows[7:14]]
    assert {row.voice for row in rows} == set(VOICES) and len({row.seed for row in rows}) == 30
    assert {row.semantic_temperature for row in rows} == {0.5, 0.7}
    assert [r.seed for r in rows] != [new_plan(seed=1).row(index).seed for index in range(30)]


def test_a_text_gets_a_voice_of_its_language():
    sentences = [Sentence("Ein Satz.", "de"), Sentence("A sentence.", "en"), Sentence("???", None)] * 10
    voices = {"v2/de_speaker_0": VOICES["v2/en_speaker_1"], "v2/en_speaker_0": VOICES["v2/en_speaker_1"]}
    plan = new_plan(sentences=sentences, voices=voices, num_rows=60)
    for row in map(plan.row, range(60)):
        assert row.language is None or row.language in row.voice
    assert {row.voice for row in map(plan.row, range(60)) if row.language is None} == set(voices)
    with pytest.raises(ValueError, match="No voice speaks fr"):
        new_plan(sentences=[Sentence("Une phrase.", "fr")], voices=voices)
    assert new_plan(sentences=[Sentence("Une phrase.", "fr")], voices=voices, match_languages=False).row(0).voice


def test_rows_say_what_they_are_made_of(whole):
    plan = new_plan()
    assert [row["id"] for row in whole] == [r.id for r in map(plan.row, range(30)) if r.seed % 5]
    for row in whole:
        planned = plan.row(int(row["id"]))
        assert (row["text"], row["voice"], row["seed"]) == (planned.text, planned.voice, planned.seed)
        assert row["semantic_temperature"] == pytest.approx(planned.semantic_temperature)
        assert np.shape(row["audio_codes"]) == (8, num_codec_frames(len(row["semantic_tokens"])))
        assert row["failed_filters"] == [] and row["measures"]["silence_share"] < 0.6
        assert row["measures"]["word_error_rate"] is None and row["model"] == "stub"


def test_refused_rows_are_counted_with_their_reasons(tmp_path):
    generate(tmp_path / "c", new_plan(), new_recipe())
    total, cut = (
        summarize_records(shard_records(tmp_path / "c")),
        sum(new_plan().row(i).seed % 5 == 0 for i in range(30)),
    )
    assert cut and total["rejected"] == {"finished": cut} and total["rejected_rows"] == cut
    assert total["planned_rows"] == 30 and total["rows"] == 30 - cut == sum(total["voices"].values())
    generate(tmp_path / "all", new_plan(), new_recipe(keep_rejected=True))
    assert [row["id"] for row in rows_of(tmp_path / "all") if row["failed_filters"]] == [
        row["id"] for record in shard_records(tmp_path / "c") for row in record["rejected"]
    ]
    strict = new_recipe(
        judges={"word_error_rate": lambda result, language: 0.9 if "4" in result.request.text else 0.1}
    )
    generate(tmp_path / "heard", new_plan(), strict)
    assert not any("4" in row["text"] for row in rows_of(tmp_path / "heard"))
    assert summarize_records(shard_records(tmp_path / "heard"))["rejected"]["max_word_error_rate"] > 0
    assert rows_of(tmp_path / "heard")[0]["measures"]["word_error_rate"] == pytest.approx(0.1)
    generate(tmp_path / "unfiltered", new_plan(), new_recipe(filters=Filters.off()))
    assert len(rows_of(tmp_path / "unfiltered")) == 30


@pytest.mark.parametrize("num_shards", [1, 5, 8, 30])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_parts_divide_the_shards_and_each_goes_through_all_of_them(num_shards, count):
    parts = [Part(number, count) for number in range(count)]
    assert sorted(shard for part in parts for shard in part.own(num_shards)) == list(range(num_shards))
    for part in parts:
        assert sorted(part.own(num_shards) + part.others(num_shards)) == list(range(num_shards))


def make_a_part(folder, part, speak=speak) -> None:
    """What a command that knows nothing of others does, from the start to the end."""
    plan, recipe = new_plan(), new_recipe()
    open_corpus(folder, {"plan": plan.description(), "recipe": recipe.description()})
    make_corpus(folder, plan, recipe, load_speaker=lambda: speak, part=part)


def test_parts_that_know_nothing_of_each_other_make_each_shard_once(tmp_path, whole):
    """Each in turn: the second one finds all made."""
    spoken = Counter()

    def count(requests, on_step):
        spoken.update(request.seed for request in requests)
        return speak(requests)

    make_a_part(tmp_path / "c", Part(1, 3), count)
    assert rows_of(tmp_path / "c") == whole and set(spoken.values()) == {1}
    make_a_part(tmp_path / "c", Part(0, 3), None)


def test_the_shards_of_lost_processes_are_made_by_the_others(tmp_path, whole):
    """Four at once in one folder; two are killed and not started again."""
    folder, fork = tmp_path / "c", multiprocessing.get_context("fork")

    def slowly(requests, on_step):
        for result in speak(requests):
            time.sleep(0.02)
            on_step("semantic")
            yield result

    processes = [fork.Process(target=make_a_part, args=(folder, Part(number, 4), slowly)) for number in range(4)]
    for process in processes:
        process.start()
    while not list(folder.glob("shards/*.json")):
        time.sleep(0.01)
    for process in processes[:2]:
        os.kill(process.pid, signal.SIGKILL)
    assert len(list(folder.glob("shards/*.json"))) < new_plan().num_shards
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [-signal.SIGKILL, -signal.SIGKILL, 0, 0]
    assert rows_of(folder) == whole and not (folder / "set_aside").exists()
    assert finished_shards(folder, new_plan().planned_rows()) == list(range(new_plan().num_shards))


def test_a_shard_is_given_up_when_another_process_has_it(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(generation, "LOOK_EVERY_S", 0.0)
    steps = []

    def overtaken(requests, on_step):
        generate(tmp_path / "c", new_plan(), new_recipe())
        steps.append(1)
        on_step("semantic")
        pytest.fail("it was to be given up")
        yield

    make_a_part(tmp_path / "c", Part(0, 2), overtaken)
    assert steps == [1] and rows_of(tmp_path / "c") == whole


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    folder = tmp_path / "c"
    generate(folder, new_plan(), new_recipe())
    old, young = (folder / "data" / f".train-00000.parquet.{name}.unfinished" for name in ("old", "young"))
    for file in (old, young):
        file.write_bytes(b"")
    os.utime(old, (time.time() - 7200,) * 2)
    generate(folder, new_plan(), new_recipe())
    assert young.exists() and not old.exists()


def test_two_processes_make_what_one_makes_in_any_order(tmp_path, whole):
    missing = start(tmp_path / "two", new_plan(), new_recipe())
    for process in (1, 0):
        work(tmp_path / "two", new_plan(), new_recipe(), missing[process::2])
    assert rows_of(tmp_path / "two") == whole


def test_twenty_kills_lose_double_and_change_nothing(tmp_path, whole):
    rng, fork, kills, folder = random.Random(0), multiprocessing.get_context("fork"), 0, tmp_path / "c"

    def slow_speak(requests):
        for result in speak(requests):
            time.sleep(0.01)
            yield result

    while kills < 20:
        num_processes = rng.choice([1, 2])
        missing = start(folder, new_plan(num_rows=100), new_recipe())
        workers = [
            fork.Process(target=work, args=(folder, new_plan(num_rows=100), new_recipe(), shards, slow_speak))
            for shards in (missing[process::num_processes] for process in range(num_processes))
        ]
        for worker in workers:
            worker.start()
        time.sleep(rng.uniform(0.0, 0.3))
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
            kills += 1
    assert 0 < len(list(shard_records(folder))) <= 25
    generate(folder, new_plan(num_rows=100), new_recipe())
    assert rows_of(folder)[: len(whole)] == whole
    ids = [row["id"] for row in rows_of(folder)]
    assert ids == [row.id for row in map(new_plan().row, range(100)) if row.seed % 5]
    assert not (folder / "set_aside").exists()


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failure_at_any_write_is_made_good(tmp_path, whole, monkeypatch, broken):
    original, calls = getattr(os, broken), []
    attempts = 0
    while attempts < 100:
        fail_at = len(calls) + 1 + attempts % 7

        def failing(*arguments, fail_at=fail_at):
            calls.append(arguments)
            if len(calls) == fail_at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*arguments)

        attempts += 1
        with monkeypatch.context() as patch:
            patch.setattr(shards.os, broken, failing)
            try:
                generate(tmp_path / "c", new_plan(), new_recipe())
                break
            except OSError as error:
                assert error.errno == errno.ENOSPC and "start the same command again" in str(error)
        assert not list((tmp_path / "c").rglob(".*.unfinished"))
    assert 3 < attempts < 100 and rows_of(tmp_path / "c") == whole


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "empty", "record"])
def test_a_damaged_shard_is_set_aside_and_made_again(tmp_path, whole, damage, caplog):
    folder = tmp_path / "c"
    generate(folder, new_plan(), new_recipe())
    data, record = folder / "data" / "train-00002.parquet", folder / "shards" / "00002.json"
    content = data.read_bytes()
    if damage == "truncate":
        data.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        data.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    elif damage == "empty":
        data.write_bytes(b"")
    elif damage == "delete":
        data.unlink()
    else:
        record.write_text(record.read_text()[:20])
    assert 2 not in finished_shards(folder, new_plan().planned_rows())
    if damage != "record":
        assert "train-00002.parquet is damaged or missing" in caplog.text and not record.exists()
        assert (folder / "set_aside" / "shard-00002.parquet").exists() == (damage != "delete")
    generate(folder, new_plan(), new_recipe())
    assert rows_of(folder) == whole and data.read_bytes() == content
    assert len(load_dataset(str(folder), split="train")) == len(whole)


def test_a_corpus_grows_but_never_becomes_another(tmp_path):
    folder = tmp_path / "c"
    generate(folder, new_plan(num_rows=10), new_recipe())
    short = rows_of(folder)
    generate(folder, new_plan(), new_recipe())
    assert rows_of(folder)[: len(short)] == short and len(list(shard_records(folder))) == 8
    for change, message in (
        ({"num_rows": 10}, "plan.num_rows: 30 there, 10 now"),
        ({"seed": 1}, "plan.seed: 0 there, 1 now"),
        ({"sentences": SENTENCES[:6]}, "plan.sentences.count: 7 there, 6 now"),
        ({"voices": {"none": None}}, "plan.voices.v2/en_speaker_1"),
    ):
        with pytest.raises(ValueError, match=message):
            open_corpus(folder, {"plan": new_plan(**change).description(), "recipe": new_recipe().description()})
    with pytest.raises(ValueError, match="recipe.filters.max_silence_share: 0.6 there, 0.1 now"):
        other = new_recipe(filters=Filters(max_silence_share=0.1))
        open_corpus(folder, {"plan": new_plan().description(), "recipe": other.description()})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="contains files, but no corpus"):
        open_corpus(tmp_path / "photos", {})


def test_the_corpus_is_what_training_reads(tmp_path):
    plan, recipe = new_plan(), new_recipe(with_audio=True)
    generate(tmp_path / "c", plan, recipe)
    rows, clips = rows_of(tmp_path / "c"), load_corpus(str(tmp_path / "c"))
    assert [clip.id for clip in clips] == [row["id"] for row in rows]
    for clip, row in zip(clips, rows, strict=True):
        assert clip.semantic_tokens.tolist() == row["semantic_tokens"] and clip.source == "synthetic"
        assert clip.audio_codes.tolist() == row["audio_codes"] and clip.kind == "en" and clip.voice == row["voice"]
        said = next(iter(speak([plan.row(int(row["id"])).request(None)]))).waveform
        assert clip.waveform.std() == pytest.approx(said.std(), rel=0.3)  # at 16 kHz, a third of noise is gone
    generate(tmp_path / "silent", plan, new_recipe())
    assert all(clip.waveform is None for clip in load_corpus(str(tmp_path / "silent")))
    stream = load_dataset(str(tmp_path / "c"), split="train", streaming=True)
    assert next(iter(stream))["audio"]["bytes"][:4] == b"fLaC"


def test_a_folder_of_shards_is_read_where_it_is_with_audio_or_without(tmp_path):
    generate(tmp_path / "c", new_plan(), new_recipe(with_audio=True))
    with_audio, without = list(read_corpus(tmp_path / "c")), list(read_corpus(tmp_path / "c", with_audio=False))
    assert not list(Path(datasets.config.HF_DATASETS_CACHE).iterdir())  # where load_dataset copies files to
    assert [clip.id for clip in with_audio] == [clip.id for clip in without] and len(without) > 20
    assert all(clip.waveform is not None for clip in with_audio) and all(clip.waveform is None for clip in without)
    assert {(clip.finish_reason, clip.failed_filters) for clip in without} == {("eos", ())}
    with pytest.raises(ValueError, match="cannot be read as a dataset"):
        load_corpus(tmp_path / "nowhere")


def test_a_shard_without_a_row_is_still_a_shard(tmp_path):
    nothing = new_recipe(filters=Filters(max_duration_ratio=0.0))
    generate(tmp_path / "c", new_plan(num_rows=6), nothing)
    assert rows_of(tmp_path / "c") == [] and finished_shards(tmp_path / "c", {0: 4, 1: 2}) == [0, 1]
    generate(tmp_path / "c2", new_plan(num_rows=6), new_recipe())
    rows = {"data/train-00000.parquet": "c", "data/train-00001.parquet": "c2"}
    mixed = tmp_path / "mixed" / "data"
    mixed.mkdir(parents=True)
    for name, folder in rows.items():
        os.link(tmp_path / folder / name, mixed.parent / name)
    assert (
        len(load_corpus(str(mixed.parent)))
        == len(rows_of(tmp_path / "c2")) - list(shard_records(tmp_path / "c2"))[0]["rows"]
    )


# --- The script ------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path):
    """Options of `generate_corpus.py` with a random Bark."""
    (tmp_path / "bark").mkdir()
    rng = np.random.default_rng(0)
    preset = {
        "semantic_prompt": rng.integers(0, 50, 40),
        "coarse_prompt": (codes := random_codes(60))[:2],
        "fine_prompt": codes,
    }
    tiny_bark(max_new_tokens=90).save_pretrained(tmp_path / "bark")
    tiny_bark_processor({"v2/en_speaker_0": preset}, tmp_path / "bark").save_pretrained(str(tmp_path / "bark"))
    (tmp_path / "en.txt").write_text("A dog.\nA cat!\n\nA dog.\nOne two.\n")
    return [
        *("--bark", str(tmp_path / "bark"), "--texts", str(tmp_path / "en.txt"), "--voices", "presets", "none"),
        *("--output", str(tmp_path / "c"), "--rows", "6", "--rows-per-shard", "2", "--filters", "off"),
    ]


def test_the_script_makes_a_corpus_with_a_card_and_only_once(command, tmp_path, capsys, monkeypatch):
    generate_corpus.main([*command, "--audio", "--sound-share", "0.5", "--license", "cc0-1.0"])
    printed = capsys.readouterr()
    assert "4 texts; 3 without duplicates" in printed.out and "6 rows" in printed.out and "speech" in printed.err
    rows = rows_of(tmp_path / "c")
    assert len(rows) == 6 and {row["voice"] for row in rows} <= {"v2/en_speaker_0", "none"}
    assert (
        any(mark in row["text"] for row in rows for mark in "[♪")
        and len(rows[0]["revision"]) == 64
        and rows[0]["model"] == "bark"
    )
    card = (tmp_path / "c" / "README.md").read_text()
    assert "semantic [0.7]; coarse [0.7]; fine [0.5]" in card and "word_error" not in card
    assert "6 rows" in card and "license: cc0-1.0" in card and "{" not in card.replace("{name}", "")
    assert len(load_corpus(str(tmp_path / "c"))) == 6
    monkeypatch.setattr(generate_corpus, "load_bark", None)  # nothing is left to do, so nobody needs it
    generate_corpus.main([*command, "--audio", "--sound-share", "0.5"])
    assert "3 of 3 shards are finished" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="recipe.with_audio: True there, False now"):
        generate_corpus.main([*command, "--sound-share", "0.5"])


def test_without_a_card_template_nothing_is_spoken(command, tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "CARD_TEMPLATES", (tmp_path,))
    with pytest.raises(SystemExit, match="no card template 'corpus'"):
        generate_corpus.main(command)
    assert not (tmp_path / "c").exists()


def test_a_dry_run_tells_the_cost_and_makes_nothing(command, tmp_path, capsys):
    generate_corpus.main([*command, "--dry-run", "--real-time-factor", "36"])
    out = capsys.readouterr().out
    for expected in (
        "rows        6 before",
        "3 of 2 rows",
        "texts       3: en 6",
        "voices      2",
        "36.00 s",
        "given",
    ):
        assert expected in out
    generate_corpus.main([*command, "--dry-run"])
    assert "measured on 6 rows, on a CPU" in capsys.readouterr().out and not (tmp_path / "c").exists()
    generate_corpus.main(command)
    generate_corpus.main([*command, "--dry-run"])
    assert "measured on the finished shards" in capsys.readouterr().out


@pytest.fixture
def hub(monkeypatch) -> list:
    """The calls that would have gone to the Hub."""
    calls = []

    class Api:
        def create_repo(self, repo_id, **options):
            calls.append((repo_id, options))

        def upload_folder(self, **options):
            calls.append(options)
            return "https://huggingface.co/datasets/me/corpus/commit/0"

    monkeypatch.setattr(publishing, "HfApi", Api)
    return calls


def test_what_is_published_is_the_corpus_and_nothing_else(command, tmp_path, hub, capsys):
    generate_corpus.main(command)
    (tmp_path / "c" / "set_aside").mkdir()
    (tmp_path / "c" / "set_aside" / "shard-00000.parquet").write_text("damaged")
    generate_corpus.main([*command, "--push-to-hub", "me/corpus", "--private", "--license", "cc0-1.0"])
    created, uploaded = hub
    assert created == ("me/corpus", {"repo_type": "dataset", "private": True, "exist_ok": True})
    assert (uploaded["repo_id"], uploaded["folder_path"]) == ("me/corpus", tmp_path / "c")
    there = [file.relative_to(tmp_path / "c").as_posix() for file in (tmp_path / "c").rglob("*") if file.is_file()]
    patterns = {name: uploaded[name] for name in ("allow_patterns", "ignore_patterns")}
    shards = [f"{folder}0000{number}" for folder in ("data/train-", "shards/") for number in range(3)]
    gone = {path.partition(".")[0] for path in publishing.filter_repo_objects(there, **patterns)}
    assert gone == {"README", "corpus", *shards}
    out = capsys.readouterr().out
    assert "stays here  set_aside/shard-00000.parquet" in out and "datasets/me/corpus/commit/0" in out


def test_a_corpus_that_must_not_be_published_stays_here(command, tmp_path, hub):
    generate_corpus.main(command)
    (tmp_path / "c" / "cache.pkl").write_bytes(b"")
    with pytest.raises(SystemExit, match="cache.pkl is a pickle"):
        generate_corpus.main([*command, "--push-to-hub", "me/corpus", "--license", "cc0-1.0"])
    assert hub == []


def test_a_corpus_without_a_licence_is_refused_before_it_is_made(command, tmp_path, hub, capsys):
    with pytest.raises(SystemExit):
        generate_corpus.main([*command, "--push-to-hub", "me/corpus"])
    assert "--push-to-hub needs the texts' licence" in capsys.readouterr().err
    assert hub == [] and not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--voices", "v2/en_speaker_9"], "There is no voice 'v2/en_speaker_9'"),
        (["--texts", "missing.txt"], "no file 'missing.txt'"),
        (["--filters", "silence=1"], "NAME=LIMIT"),
        (["--filters", "max_silence_share=little"], "filter 'max_silence_share=little' must be"),
        (["--filters", "finished=maybe"], "finished=on or finished=off"),
        (["--rows", "0"], "num_rows"),
        (["--semantic-temperatures", "-1"], "temperature"),
        (["--voices", "none", "none"], "in use"),
    ],
)
def test_wrong_options_are_explained_before_anything_is_made(command, tmp_path, options, message):
    with pytest.raises(SystemExit, match=message):
        generate_corpus.main([*command, *options])
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part", "0/4"], "'0/4' is not a part. Write 1/16"),
        (["--part", "5/4"], "'5/4' is not a part"),
        (["--part", "1"], "'1' is not a part"),
        (["--part", "1/2", "--push-to-hub", "me/c", "--license", "mit"], "the same command without --part to publish"),
    ],
)
def test_a_wrong_part_is_refused(command, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit):
        generate_corpus.main([*command, *options])
    assert message in capsys.readouterr().err and not (tmp_path / "c").exists()


def test_commands_with_parts_make_the_corpus_of_one_without(command, tmp_path, capsys):
    generate_corpus.main([*command, "--output", str(tmp_path / "one")])
    generate_corpus.main([*command, "--part", "2/3"])
    assert "0 of 3 shards are finished; the rest is divided into 3 parts" in capsys.readouterr().out
    assert rows_of(tmp_path / "c") == rows_of(tmp_path / "one") and (tmp_path / "c" / "README.md").exists()


def test_freed_memory_goes_back_after_each_shard(command, tmp_path, monkeypatch):
    counts = []
    monkeypatch.setattr(generation, "release_freed_memory", lambda: counts.append(len(list(tmp_path.rglob("*.json")))))
    generate_corpus.main([*command, "--output", str(tmp_path / "corpus")])
    assert counts == sorted(set(counts)) and len(counts) == 3


def test_seeds_say_the_same_in_any_number_of_processes_and_rows_at_once(command, tmp_path):
    generate_corpus.main([*command, "--output", str(tmp_path / "one")])
    on_two_processes(generate_corpus.main, [*command, "--output", str(tmp_path / "two"), "--batch-size", "1"])
    assert rows_of(tmp_path / "two") == rows_of(tmp_path / "one")


@pytest.mark.slow
def test_real_processes_one_and_two_through_kills_at_random_moments(command, tmp_path):
    """One process of `accelerate launch` and two of `torchrun`: on CPUs, the former starts only one without MPI."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["ACCELERATE_USE_CPU"] = "1"
    command = ["-m", "hf_bark_semantic.cli.generate_corpus", *command, "--rows", "60", "--audio"]
    launchers = {
        1: ["-m", "accelerate.commands.launch", "--cpu"],
        2: ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29611"],
    }

    def launch(output, num_processes):
        arguments = [sys.executable, *launchers[num_processes], *command, "--output", str(output)]
        return subprocess.Popen(arguments, env=environment, cwd=ROOT)

    assert launch(tmp_path / "one", 1).wait() == 0
    rng, description = random.Random(0), tmp_path / "killed" / "corpus.json"
    for attempt in range(KILLS):
        started = time.time()
        run = launch(tmp_path / "killed", 1 + attempt % 2)
        while run.poll() is None and not (description.exists() and description.stat().st_mtime > started):
            time.sleep(0.05)  # until it is at work
        time.sleep(rng.uniform(0, 6))
        for process in [*psutil.Process(run.pid).children(recursive=True), psutil.Process(run.pid)]:
            process.kill()
        run.wait()
        print(f"kill {attempt}: {len(list((tmp_path / 'killed').rglob('shards/*.json')))} of 30 shards")
    assert launch(tmp_path / "killed", 2).wait() == 0
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "one") and len(rows_of(tmp_path / "one")) > 40
    assert json.loads((tmp_path / "one" / "corpus.json").read_text())["plan"]["num_rows"] == 60


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["process", "node"])
def test_two_nodes_make_the_corpus_of_one_process_though_one_is_killed(command, tmp_path, lost):
    """A process is started again by torchrun. A node is not: the other one makes its shards, too."""
    command = [*command, "--rows", "60", "--audio"]
    generate_corpus.main([*command, "--output", str(tmp_path / "one")])
    folder = tmp_path / "nodes"
    with TwoNodes("generate_corpus", *command, "--output", str(folder)) as nodes:
        nodes.wait_until(lambda: len(list(folder.glob("shards/*.json"))) > 1)
        if lost == "process":
            nodes.processes(1)[0].kill()
            nodes.wait()
        else:
            nodes.kill_node(1)
            nodes.wait_until(lambda: not nodes.processes(0))  # torchrun itself waits for the other node
        assert len(list(folder.glob("shards/*.json"))) == 30 and (folder / "README.md").exists()
    assert rows_of(folder) == rows_of(tmp_path / "one") and not (folder / "set_aside").exists()


def test_processes_that_do_not_know_of_each_other_are_refused(command, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="torchrun"):
        generate_corpus.main(command)
