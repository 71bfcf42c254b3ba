"""Recordings become utterances: tables are read, unfit recordings are named, and a killed run continues."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Audio, Dataset

from hf_bark_semantic import save_audio
from hf_bark_semantic.bark.configs import bark_generation_configs
from hf_bark_semantic.cli.processes import start_processes
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.corpus import preparation
from hf_bark_semantic.corpus.flaws import RecordingFlaw, describe_flaws
from hf_bark_semantic.corpus.preparation import prepare_recordings
from hf_bark_semantic.corpus.recordings import read_recordings
from hf_bark_semantic.corpus.rows import RECORDING_COLUMNS, row_features
from hf_bark_semantic.corpus.utterances import load_utterances
from hf_bark_semantic.pipelines.encoding import AudioToBarkSemanticPipeline
from hf_bark_semantic.trainers.bark_batches import ReplayBatches
from processes import in_child, on_two_processes
from tiny import random_codes, tiny_bark, tiny_bark_processor, tiny_codec_config, tiny_encoder

RATE = 24_000
TOKENIZER = tiny_bark_processor().tokenizer


@pytest.fixture(scope="module")
def models():
    bark = tiny_bark()
    encoder = AudioToBarkSemanticPipeline(tiny_encoder())
    return {"encoder": encoder, "codec": bark.codec_model, "configs": bark_generation_configs(bark)}


def speech_like(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """Six recordings, not named by any table yet."""
    (tmp_path / "my" / "wavs").mkdir(parents=True)
    for number in range(6):
        save_audio(tmp_path / "my" / "wavs" / f"clip{number}.wav", speech_like(1 + number / 8, number), RATE)
    return tmp_path / "my"


def ljspeech(folder, rows=None) -> None:
    rows = rows or [f"clip{number}|the dog no. {number}|the dog number {number}" for number in range(6)]
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


def prepare(folder, output, models, **options):
    models = {**models, "tokenizer": TOKENIZER, "description": {"encoder": "tiny"}, "rows_per_shard": 2, **options}
    return prepare_recordings(read_recordings(folder), output, **models)


def prepare_a_share(folder, output, models) -> None:
    start_processes()
    prepare(folder, output, models)


def rows_of(output) -> list[dict]:
    """Of all shards, in order."""
    return [row for file in sorted((output / "data").iterdir()) for row in pq.read_table(file).to_pylist()]


def files_of(output) -> dict[str, bytes]:
    return {str(file.relative_to(output)): file.read_bytes() for file in output.rglob("*") if file.is_file()}


CSV = 'file_name,transcription,speaker\nwavs/clip0.wav,the dog,anna\nwavs/clip1.wav,"a cat, a dog",ben\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", CSV),
        ("metadata.csv", "\ufeff" + CSV.replace("\n", "\r\n")),
        ("metadata.csv", CSV.replace("a cat, a dog", "a cat~ a dog").replace(",", ";").replace("~", ",")),
        ("metadata.csv", "audio_file|text|voice\nwavs/clip0|the dog|anna\nclip1|a cat, a dog|ben\n"),
        ("metadata.tsv", "client_id\tpath\tsentence\nanna\tclip0.wav\tthe dog\nben\tclip1.wav\ta cat, a dog\n"),
        (
            "metadata.jsonl",
            '{"audio": "wavs/clip0.wav", "text": "the dog", "voice": "anna"}\n\n'
            '{"audio": "wavs\\\\clip1.wav", "text": "a cat, a dog", "voice": "ben"}\n',
        ),
        ("mine.csv", CSV),
    ],
)
def test_tables_are_read_as_people_write_them(folder, name, content):
    (folder / name).write_bytes(content.encode())
    recordings = read_recordings(folder if name.startswith("metadata") else folder / name)
    assert [(r.text, r.voice) for r in recordings] == [("the dog", "anna"), ("a cat, a dog", "ben")]
    assert [r.read() for r in recordings] == [folder / "wavs" / "clip0.wav", folder / "wavs" / "clip1.wav"]


def test_ljspeech_is_read_with_its_normalized_text(folder):
    ljspeech(folder, ["clip0|No. 1|Number one", 'clip1|"Two|"Two', "clip2|three"])
    assert [(r.id, r.text) for r in read_recordings(folder)] == [
        ("clip0", "Number one"), ("clip1", '"Two'), ("clip2", "three")
    ]  # fmt: skip


def test_ljspeech_is_read_whose_first_line_has_more_commas_than_columns(folder):
    text = "Printing, in the only sense with which we are at present concerned, differs from most if not from all"
    ljspeech(folder, [f"clip0|{text}|{text}", "clip1|in being|in being"])
    assert [(r.id, r.text) for r in read_recordings(folder)] == [("clip0", text), ("clip1", "in being")]


def test_datasets_are_read_without_decoding_or_leaving_them(folder, tmp_path):
    files = [str(folder / "wavs" / f"clip{number}.wav") for number in range(2)]
    rows = {"audio": files, "sentence": ["the dog", "a cat"], "speaker_id": ["anna", "ben"]}
    dataset = Dataset.from_dict(rows).cast_column("audio", Audio())
    dataset.save_to_disk(tmp_path / "saved")
    recordings = read_recordings(tmp_path / "saved")
    assert [(r.id, r.text, r.voice) for r in recordings] == [
        ("00000000", "the dog", "anna"), ("00000001", "a cat", "ben")
    ]  # fmt: skip
    content = Path(files[0]).read_bytes()
    assert recordings[0].read()["bytes"] == content
    rows = {"audio": [{"bytes": content, "path": "a.wav"}, {"bytes": None, "path": files[0]}], "text": ["one", "two"]}
    (tmp_path / "parquet").mkdir()
    Dataset.from_dict(rows).cast_column("audio", Audio()).to_parquet(tmp_path / "parquet" / "train.parquet")
    own, stolen = read_recordings(tmp_path / "parquet")
    assert own.read()["bytes"] == content
    with pytest.raises(RecordingFlaw, match="outside of the dataset"):
        stolen.read()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", "hello", "no metadata.csv"),
        ("metadata.csv", "hello\nyou\n", "no column audio or file_name"),
        ("metadata.csv", "file_name,words\na.wav,hello\n", "no column normalized_text or text"),
        ("metadata.csv", "file_name,text\n", "holds no rows"),
        ("metadata.csv", "", "holds no rows"),
        ("metadata.csv", "clip0|\xe9".encode("latin-1"), "UTF-8"),
        ("metadata.jsonl", "[1]\n", "Line 1 of .* is not a JSON object"),
        ("metadata.jsonl", "{\n", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(folder, name, content, message):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        read_recordings(folder)


HOSTILE = [
    "/etc/hostname",
    "../secret.wav",
    "wavs/../../secret.wav",
    "C:\\secret.wav",
    "..\\secret.wav",
    "link.wav",
    "\0",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_table_names_a_file_outside_of_its_folder(folder, name):
    save_audio(folder.parent / "secret.wav", speech_like(1), RATE)
    (folder / "link.wav").symlink_to(folder.parent / "secret.wav")
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": name, "text": "the dog"}) + "\n")
    [recording] = read_recordings(folder)
    with pytest.raises(RecordingFlaw, match="outside") as flaw:
        recording.read()
    assert flaw.value.kind == "path"


def test_prepared_recordings_are_what_bark_would_make(folder, tmp_path, models):
    ljspeech(folder)
    assert prepare(folder, tmp_path / "out", models) == []
    utterances = load_utterances(tmp_path / "out", TOKENIZER, models["configs"])
    assert [utterance.id for utterance in utterances] == [f"clip{number}" for number in range(6)]
    for number, utterance in enumerate(utterances):
        assert utterance.num_frames == num_codec_frames(utterance.num_tokens)
        assert abs(utterance.num_tokens / 49.9 - (1 + number / 8)) < 0.04
        expected = TOKENIZER(f"the dog number {number}", add_special_tokens=False)["input_ids"]
        assert utterance.text_ids.tolist() == expected and utterance.complete
    ReplayBatches(utterances, models["configs"], "semantic")  # checks them


@pytest.mark.parametrize("backbone", ["hubert", None])
def test_recordings_of_a_batch_are_what_they_are_alone_and_in_the_order_of_their_table(
    folder, tmp_path, models, backbone, monkeypatch
):
    """But for one, none of them is a whole number of codec frames long."""
    ljspeech(folder, [f"clip{number}|a dog" for number in (3, 0, 5, 1, 4, 2)])
    codec_front_end = {"codec_hidden_size": 16, "num_codebooks": 8} if backbone is None else {}
    models = {**models, "encoder": AudioToBarkSemanticPipeline(tiny_encoder(backbone, **codec_front_end))}
    batches, original = [], preparation.encode_clips

    def counting(clips, *args, **kwargs):
        batches.append(len(clips))
        return original(clips, *args, **kwargs)

    monkeypatch.setattr(preparation, "encode_clips", counting)
    monkeypatch.setattr(preparation, "CPU_BATCH_S", 5.0)
    prepare(folder, tmp_path / "six", models, rows_per_shard=6)
    assert batches == [3, 3]
    prepare(folder, tmp_path / "one", models, rows_per_shard=1)
    together, alone = (rows_of(tmp_path / name) for name in ("six", "one"))
    assert [row["id"] for row in together] == [f"clip{number}" for number in (3, 0, 5, 1, 4, 2)]
    for row, expected in zip(together, alone, strict=True):
        assert row.pop("confidence") == pytest.approx(expected.pop("confidence"), abs=1e-5)
        assert row == expected


@pytest.mark.slow  # forks
def test_two_processes_write_what_one_does_through_a_kill(folder, tmp_path, models):
    ljspeech(folder, [*(f"clip{number}|a dog" for number in range(6)), "nowhere|a dog"])
    in_child(prepare, folder, tmp_path / "one", models).join(120)
    expected = files_of(tmp_path / "one")
    assert len(expected) == 9
    on_two_processes(prepare_a_share, folder, tmp_path / "two", models)
    assert files_of(tmp_path / "two") == expected
    (tmp_path / "two" / "shards" / "00001.json").unlink()  # as a kill leaves it
    on_two_processes(prepare_a_share, folder, tmp_path / "two", models)
    assert files_of(tmp_path / "two") == expected
    assert [flaw[:2] for flaw in prepare(folder, tmp_path / "two", models)] == [("nowhere", "no file")]


def test_unfit_recordings_are_left_out_with_their_reasons(folder, tmp_path, models):
    save_audio(folder / "short.wav", speech_like(0.3), RATE)
    save_audio(folder / "long.wav", speech_like(2.5), RATE)
    save_audio(folder / "silent.wav", np.zeros(RATE, np.float32), RATE)
    mostly = np.concatenate([speech_like(0.5), np.zeros(RATE, np.float32)])
    save_audio(folder / "pause.wav", mostly, RATE)
    (folder / "text.wav").write_text("hello")
    lines = {
        "clip0": "the dog", "clip1": "", "clip2": " ", "clip3": "the " * 257, "clip4": "the dog " * 40,
        "short": "a", "long": "the dog", "silent": "a dog", "pause": "a dog", "text": "a dog", "nowhere": "a dog",
        "../clip0": "a dog", "clip5": "a cat",
    }  # fmt: skip
    ljspeech(folder, [f"{name}|{text}" for name, text in lines.items()] + ["clip0|again"])
    flaws = prepare(folder, tmp_path / "out", models)
    assert {id: kind for id, kind, _ in flaws} == {
        "clip1": "no transcript", "clip2": "no transcript", "clip3": "text too long", "clip4": "pace",
        "short": "too short", "long": "too long", "silent": "audio", "pause": "silence", "text": "audio",
        "nowhere": "no file", "../clip0": "path", "clip0": "duplicate",
    }  # fmt: skip
    reasons = {id: reason for id, _, reason in flaws}
    assert "2.5 s long; Bark can generate 2.0 s" in reasons["long"] and "257 ids" in reasons["clip3"]
    assert [u.id for u in load_utterances(tmp_path / "out", TOKENIZER, models["configs"])] == ["clip0", "clip5"]


def test_what_is_left_out_is_told_by_kind_with_examples_and_what_to_do():
    flaws = [(f"{number}.wav", RecordingFlaw("silence", "It is silence.")) for number in range(5)]
    flaws += [("\x1b[2Ja.wav", RecordingFlaw("audio", "It is damaged. Copy it again."))]
    flaws += [(f"{'long/' * 20}b.wav", RecordingFlaw("no speaker", "There is none."))]
    assert str(flaws[0][1]) == "It is silence. Cut it off."
    assert describe_flaws([(id, flaw.kind, str(flaw)) for id, flaw in flaws]).splitlines() == [
        "      5  silence     0.wav, 1.wav, 2.wav and 2 more",
        "                     Cut it off.",
        "      1  audio       ?[2Ja.wav",
        "                     ?[2Ja.wav: It is damaged. Copy it again.",
        "      1  no speaker  ...g/long/long/long/long/long/long/b.wav",
        "                     Add the speaker.",
    ]


def test_a_killed_preparation_goes_on_and_changed_recordings_are_done_again(folder, tmp_path, models, monkeypatch):
    ljspeech(folder)
    encoded, original = [], preparation.encode_clips

    def killed(clips, *args, **kwargs):
        if encoded:
            raise KeyboardInterrupt
        return count(clips, *args, **kwargs)

    def count(clips, *args, **kwargs):
        encoded.extend(map(len, clips))
        return original(clips, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "encode_clips", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(folder, tmp_path / "out", models)
    assert len(list((tmp_path / "out" / "data").iterdir())) == 1
    monkeypatch.setattr(preparation, "encode_clips", count)
    for expected, change in (
        (4, lambda: None),  # the first shard of two is there
        (0, lambda: None),
        (2, lambda: save_audio(folder / "wavs" / "clip3.wav", speech_like(1.1), RATE)),  # and its shard's other one
        (2, lambda: ljspeech(folder, [*(f"clip{n}|the dog no. {n}|the dog number {n}" for n in range(5)), "clip5|a"])),
        (1, lambda: ljspeech(folder, [f"clip{n}|the dog no. {n}|the dog number {n}" for n in range(5)])),
    ):
        change()
        encoded.clear()
        prepare(folder, tmp_path / "out", models)
        assert len(encoded) == expected
    assert len(load_utterances(tmp_path / "out", TOKENIZER, models["configs"])) == 5
    ljspeech(folder, ["clip0|the dog"])
    prepare(folder, tmp_path / "out", models)
    assert len(load_utterances(tmp_path / "out", TOKENIZER, models["configs"])) == 1
    with pytest.raises(ValueError, match="another"):
        prepare(folder, tmp_path / "out", models, description={"encoder": "other"})


def write_corpus(folder, rows) -> None:
    (folder / "data").mkdir(parents=True)
    Dataset.from_list(rows).to_parquet(folder / "data" / "train-00000.parquet")


def corpus_row(number: int, **values) -> dict:
    codes = random_codes(num_codec_frames(60), number)
    tokens = np.random.default_rng(number).integers(0, 50, 60)
    row = {"id": str(number), "text": f"the dog {number}", "voice": "a", "semantic_tokens": tokens.tolist()}
    return {**row, "audio_codes": codes.tolist(), "finish_reason": "eos", "failed_filters": [], **values}


def test_a_corpus_of_barks_own_speech_is_read(tmp_path, models):
    rows = [corpus_row(0), corpus_row(1, finish_reason="length"), corpus_row(2, voice="none")]
    write_corpus(
        tmp_path / "corpus",
        [*rows, corpus_row(3, text=None), corpus_row(4, failed_filters=["pace"]), corpus_row(5, voice="none")],
    )
    utterances = load_utterances(tmp_path / "corpus", TOKENIZER, models["configs"])
    assert [(u.id, u.complete, u.voice) for u in utterances] == [
        ("0", True, "a"), ("1", False, "a"), ("2", True, "none-2"), ("5", True, "none-5")
    ]  # fmt: skip
    assert utterances[0].audio_codes.tolist() == rows[0]["audio_codes"]
    Dataset.from_list(rows[:2]).save_to_disk(tmp_path / "saved")
    saved = load_utterances(tmp_path / "saved", TOKENIZER, models["configs"])
    assert [u.semantic_tokens.tolist() for u in saved] == [row["semantic_tokens"] for row in rows[:2]]


def test_tokens_of_another_bark_are_refused(tmp_path, models):
    write_corpus(tmp_path / "corpus", [corpus_row(0)])
    (tmp_path / "corpus" / "corpus.json").write_text(json.dumps({"vocabularies": {"semantic_vocab_size": 10_000}}))
    with pytest.raises(ValueError, match="prepared for a Bark with semantic_vocab_size = 10,000; this one has 50"):
        load_utterances(tmp_path / "corpus", TOKENIZER, models["configs"])
    write_corpus(tmp_path / "empty", [corpus_row(0, text=None)])
    with pytest.raises(ValueError, match="no utterance"):
        load_utterances(tmp_path / "empty", TOKENIZER, models["configs"])


def test_parquet_is_all_that_a_shard_holds(folder, tmp_path, models):
    ljspeech(folder, ["clip0|the dog", "clip1|a cat"])
    prepare(folder, tmp_path / "out", models)
    table = pq.read_table(tmp_path / "out" / "data" / "train-00000.parquet")
    assert table.column_names == list(row_features(RECORDING_COLUMNS))
    assert json.loads((tmp_path / "out" / "corpus.json").read_text())["vocabularies"] == {
        "semantic_vocab_size": 50, "codebook_size": tiny_codec_config().codebook_size
    }  # fmt: skip
