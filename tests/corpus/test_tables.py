"""Every table layout in training/README.md is read, or refused with the message given there."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Dataset

from hf_bark_semantic import AudioError, load_audio, save_audio
from hf_bark_semantic.cli import finetune_bark
from hf_bark_semantic.corpus import recordings as recordings_module
from hf_bark_semantic.corpus.columns import parse_columns
from hf_bark_semantic.corpus.flaws import RecordingFlaw
from hf_bark_semantic.corpus.recordings import read_recordings
from hf_bark_semantic.corpus.tables import read_table
from hf_bark_semantic.corpus.texts import load_sentences

README = (Path(__file__).parents[2] / "training" / "README.md").read_text("utf-8").replace("\\|", "|")
RATE = 24_000
DOG, CAT = "The dog runs, and barks.", "A cat, a dog."


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "wavs").mkdir()
    for number in range(4):
        waveform = 0.1 * np.random.default_rng(number).standard_normal(RATE).astype(np.float32)
        save_audio(tmp_path / "wavs" / f"clip{number}.wav", waveform, RATE)
    return tmp_path


def lines(*rows: str) -> str:
    return "".join(f"{row}\n" for row in rows)


def json_lines(*rows: dict) -> str:
    return lines(*map(json.dumps, rows))


LJSPEECH = lines(
    f"clip0|{DOG}|{DOG}", 'clip1|"A cat," he said, no. 1.|"A cat," he said, number one.', "clip2|Only one, here."
)
# name of the layout in README: file, content, texts, speakers, what the columns are said to be
LAYOUTS = {
    "LJSpeech": (
        "metadata.csv", LJSPEECH, [DOG, '"A cat," he said, number one.', "Only one, here."], ["", "", ""],
        "3 rows, separated by '|', without a header. Column 1 -> audio, 2 -> text where 3 is empty, 3 -> text.",
    ),
    "`id|text`": (
        "metadata.csv", lines(f"clip0|{DOG}", f"clip1|{CAT}"), [DOG, CAT], ["", ""],
        "2 rows, separated by '|', without a header. Column 1 -> audio, 2 -> text.",
    ),
    "`id||text`": (
        "metadata.csv", lines(f"clip0||{DOG}", f"clip1||{CAT}"), [DOG, CAT], ["", ""],
        "2 rows, separated by '|', without a header. Column 1 -> audio, 2 -> not read, 3 -> text.",
    ),
    "piper": (
        "metadata.csv", lines(f"clip0|anna|{DOG}", f"clip1|ben|{CAT}"), [DOG, CAT], ["anna", "ben"],
        "2 rows, separated by '|', without a header. Column 1 -> audio, 2 -> speaker (2 different: anna, ben), "
        "3 -> text.",
    ),
    "XTTS": (
        "metadata_train.csv",
        lines("audio_file|text|speaker_name", f"wavs/clip0.wav|{DOG}|anna", f"wavs/clip1.wav|{CAT}|ben"),
        [DOG, CAT], ["anna", "ben"],
        "2 rows, separated by '|', with a header. Column 1 'audio_file' -> audio, 2 'text' -> text, "
        "3 'speaker_name' -> speaker (2 different: anna, ben).",
    ),
    "VITS": (
        "train_filelist.txt", lines(f"wavs/clip0.wav|{DOG}", f"wavs/clip1.wav|{CAT}"), [DOG, CAT], ["", ""],
        "2 rows, separated by '|', without a header. Column 1 -> audio, 2 -> text.",
    ),
    "VITS of several speakers": (
        "train_filelist.txt", lines(f"wavs/clip0.wav|0|{DOG}", f"wavs/clip1.wav|17|{CAT}"), [DOG, CAT], ["0", "17"],
        "2 rows, separated by '|', without a header. Column 1 -> audio, 2 -> speaker (2 different: 0, 17), 3 -> text.",
    ),
    "NeMo": (
        "train_manifest.json",
        json_lines(
            {"audio_filepath": "wavs/clip0.wav", "text": DOG, "duration": 1.0, "speaker": 7},
            {"audio_filepath": "wavs/clip1.wav", "text": CAT, "duration": 1.0, "speaker": 8},
        ),
        [DOG, CAT], ["7", "8"],
        "2 rows, JSON lines, with a header. Column 1 'audio_filepath' -> audio, 2 'text' -> text, "
        "3 'duration' -> not read, 4 'speaker' -> speaker (2 different: 7, 8).",
    ),
    "Common Voice": (
        "validated.tsv",
        lines("client_id\tpath\tsentence\tup_votes", f"b2c\tclip0.wav\t{DOG}\t2", f'f00\tclip1.wav\t"{CAT}\t2'),
        [DOG, f'"{CAT}'], ["b2c", "f00"],
        "2 rows, separated by tabs, with a header. Column 1 'client_id' -> speaker (2 different: b2c, f00), "
        "2 'path' -> audio, 3 'sentence' -> text, 4 'up_votes' -> not read.",
    ),
    "CSV": (
        "metadata.csv", lines("file_name,text", f'wavs/clip0.wav,"{DOG}"', f'wavs/clip1.wav,"{CAT}"'),
        [DOG, CAT], ["", ""],
        "2 rows, separated by ',', with a header. Column 1 'file_name' -> audio, 2 'text' -> text.",
    ),
    "Excel": (
        "metadata.csv",
        "\ufeff" + lines("File Name;Text;Speaker ID", f"clip0.wav;{DOG};anna", 'clip1.wav;"Semi; ""colon""";ben', ";;")
        .replace("\n", "\r\n"),
        [DOG, 'Semi; "colon"'], ["anna", "ben"],
        "2 rows, separated by ';', with a header. Column 1 'File Name' -> audio, 2 'Text' -> text, "
        "3 'Speaker ID' -> speaker (2 different: anna, ben).",
    ),
    "UTF-16": (
        "metadata.tsv", lines("file_name\ttext", f"clip0.wav\t{DOG}", "clip1.wav\tSüß, 你好.").encode("utf-16"),
        [DOG, "Süß, 你好."], ["", ""],
        "2 rows, separated by tabs, with a header. Column 1 'file_name' -> audio, 2 'text' -> text.",
    ),
    "quoted newlines": (
        "metadata.csv", lines("file_name,text", 'clip0.wav,"The dog,\r\nruns"', f'clip1.wav,"{CAT}"'),
        ["The dog, runs", CAT], ["", ""],
        "2 rows, separated by ',', with a header. Column 1 'file_name' -> audio, 2 'text' -> text.",
    ),
    "spaces around separators": (
        "metadata.csv", lines("file_name , text , speaker", f'clip0.wav , "{DOG}" , anna', "clip1.wav , A cat. , ben"),
        [DOG, "A cat."], ["anna", "ben"],
        "2 rows, separated by ',', with a header. Column 1 'file_name' -> audio, 2 'text' -> text, "
        "3 'speaker' -> speaker (2 different: anna, ben).",
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_commands_read_a_layout_and_say_which_column_is_what(folder, layout):
    name, content, texts, speakers, meaning = LAYOUTS[layout]
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    said, said_of_texts = [], []
    recordings = read_recordings(folder / name, log=said.append)
    assert [" ".join(recording.text.split()) for recording in recordings] == texts
    assert [recording.voice for recording in recordings] == speakers
    assert [r.read() for r in recordings] == [folder / "wavs" / f"clip{n}.wav" for n in range(len(texts))]
    assert said[0] == f"{folder / name}: {meaning}"
    assert any("all recordings count as one voice" in line for line in said) == (not any(speakers))
    assert [sentence.text for sentence in load_sentences(folder / name, log=said_of_texts.append)] == texts
    assert said_of_texts == said[:1]
    assert f"| {layout} | {meaning} |" in README


REFUSED = [
    (
        "metadata.csv", lines("clip0|The dog, here", "clip1|A cat | a dog, there", "clip2|More"),
        "'metadata.csv' has 2 columns, separated by '|', but 3 in line 2: 'clip1 | A cat | a dog, there'. If the "
        "text contains a separator, replace that character; if a column is missing, add it.",
    ),
    (
        "metadata.csv", lines("file_name,text,speaker", "clip0.wav,The dog,anna", "clip1.wav,A cat"),
        "'metadata.csv' has 3 columns, separated by ',', but 2 in line 3: 'clip1.wav | A cat'. If the text "
        "contains a separator, replace that character; if a column is missing, add it.",
    ),
    (
        "metadata.csv", lines("clip0|Anna Smith|The dog", "clip1|Ben Jones|A cat"),
        "'metadata.csv' has no header, and column 2 or 3 may be the speaker. Name the columns: "
        "--columns audio=1,speaker=2,text=3, or without a speaker: --columns audio=1,text=3.",
    ),
    (
        "metadata.csv", lines("clip0.wav|anna|EN|The dog", "clip1.wav|ben|EN|A cat"),
        "'metadata.csv' has no header, and its 4 columns were not recognized: clip0.wav | anna | EN | The dog. Name "
        "them, such as --columns audio=1,speaker=2,text=3; by name, if the first row is a header.",
    ),
    (
        "metadata.csv", lines("Datei;Satz", "clip0.wav;The dog", "clip1.wav;A cat"),
        "'metadata.csv' has no column audio or file_name or filename or path or file or audio_path or audio_file or "
        "audio_filepath or wav or wav_filename or id; it has Datei, Satz. Rename one, or say which it is: --columns "
        "audio=NAME,text=NAME.",
    ),
    (
        "metadata.csv", b"clip0|Hello\nclip1|caf\xe9\n",
        "Line 2 of 'metadata.csv' is not in UTF-8. Save it in UTF-8 (Excel: 'CSV UTF-8'), or convert it: `iconv -f "
        "WINDOWS-1252 -t UTF-8 FILE > NEW`.",
    ),
    (
        "metadata.csv", lines("clip0|Hello", "clip1|You").encode("utf-16-le"),
        "'metadata.csv' contains zero bytes, like UTF-16 without a byte order mark. Save it in UTF-8 (Excel: 'CSV "
        "UTF-8'), or convert it: `iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW`.",
    ),
    (
        "manifest.json", '[{"audio_filepath": "clip0.wav", "text": "Hello"}]\n',
        "Line 1 of 'manifest.json' is not a JSON object, such as {\"text\": \"Hello.\"}.",
    ),
    (
        "manifest.json", '{"audio_filepath": "clip0.wav", "text": "\\ud800"}\n',
        "Line 1 of 'manifest.json' cannot be read: 'utf-8' codec can't encode character '\\ud800'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), REFUSED)
def test_a_table_that_is_refused_is_refused_in_the_words_of_the_readme(folder, name, content, message):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as refusal:
        read_recordings(folder / name)
    assert str(refusal.value).replace(f"{folder}/", "").startswith(message)
    assert f"| {message}" in README


@pytest.mark.parametrize(
    ("columns", "texts", "speakers"),
    [
        ("audio=1,speaker=2,text=4", ["The dog", "A cat"], ["anna", "ben"]),
        ("text=4, audio=1", ["The dog", "A cat"], ["", ""]),
        ("audio=1,text=2,speaker=3", ["anna", "ben"], ["EN", "EN"]),
    ],
)
def test_columns_are_what_the_user_says(folder, columns, texts, speakers):
    (folder / "metadata.csv").write_text(lines("clip0.wav|anna|EN|The dog", "clip1.wav|ben|EN|A cat"))
    recordings = read_recordings(folder, columns=parse_columns(columns))
    assert [r.text for r in recordings] == texts and [r.voice for r in recordings] == speakers
    assert [s.text for s in load_sentences(folder / "metadata.csv", columns=parse_columns(columns))] == texts


def test_names_and_numbers_override_known_names(folder):
    rows = ["file_name,text,Erzähler,raw", "clip0.wav,no. 1,anna,number one", "clip1.wav,no. 2,ben,number two"]
    (folder / "metadata.csv").write_text(lines(*rows))
    said = []
    columns = parse_columns("text=raw,speaker=erzähler")
    recordings = read_recordings(folder, columns=columns, log=said.append)
    assert [(r.text, r.voice) for r in recordings] == [("number one", "anna"), ("number two", "ben")]
    assert "2 'text' -> not read, 3 'Erzähler' -> speaker" in said[0] and len(said) == 1
    assert [r.text for r in read_recordings(folder, columns={"text": "4"})] == ["number one", "number two"]
    (folder / "words.csv").write_text(lines("words;lang", "Hello, you.;en"))
    with pytest.raises(ValueError, match="2 columns were not recognized: words | lang. Name them, such as "):
        load_sentences(folder / "words.csv")
    assert load_sentences(folder / "words.csv", columns=parse_columns("text=words")) == [("Hello, you.", None)]
    Dataset.from_dict({"said": ["Hello."], "tongue": ["de"]}).save_to_disk(folder / "saved")
    columns = parse_columns("text=said,language=2")
    assert load_sentences(folder / "saved", columns=columns) == [("Hello.", "de")]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("text=4", r"has no column '4' for --columns text=4; it has 1 'file_name', 2 'text'"),
        ("speaker=who", "has no column 'who' for --columns speaker=who"),
        ("words=2", r"--columns takes audio=.., text=.., speaker=.., .*, not 'words=2'"),
        ("text", "not 'text'"),
    ],
)
def test_columns_that_do_not_exist_are_refused(folder, columns, message):
    (folder / "metadata.csv").write_text(lines("file_name,text", "clip0.wav,The dog"))
    with pytest.raises(ValueError, match=message):
        read_recordings(folder, columns=parse_columns(columns))


def test_without_a_header_all_that_is_needed_must_be_said(folder):
    (folder / "metadata.csv").write_text(lines("clip0|anna|The dog", "clip1|ben|A cat"))
    with pytest.raises(ValueError, match="has no header, so --columns must also name the audio and the text"):
        read_recordings(folder, columns={"speaker": "2"})


SPEAKERS = {
    "few short values": ([f"Ann{'ab'[n % 2]} Smith" for n in range(8)], [f"This is sentence {n}." for n in range(8)]),
    "numbers": ([str(n % 3) for n in range(8)], [f"This is sentence {n}." for n in range(8)]),
    "single words": (["anna", "ben"], ["The dog runs.", "A cat sleeps."]),
    "Chinese": (["SSB0005", "SSB0005"], ["今天天气很好", "你好"]),
    "one sentence by many": ([f"speaker{n}" for n in range(8)], ["The dog runs here."] * 8),
}


@pytest.mark.parametrize("kind", SPEAKERS)
@pytest.mark.parametrize("speaker_first", [True, False])
def test_speakers_are_told_from_texts_by_their_values(tmp_path, kind, speaker_first):
    speakers, texts = SPEAKERS[kind]
    second, third = (speakers, texts) if speaker_first else (texts, speakers)
    rows = (f"clip{n}|{a}|{b}" for n, (a, b) in enumerate(zip(second, third, strict=True)))
    (tmp_path / "metadata.csv").write_text(lines(*rows), encoding="utf-8")
    table = list(read_table(tmp_path / "metadata.csv", needed=("audio", "text")))
    assert [row["speaker"] for row in table] == speakers and [row["text"] for row in table] == texts


UNSURE = {
    "digits, and names with a space": (["Anna Smith"] * 4, ["7", "8", "7", "8"]),
    "commands": (["speaker_01", "speaker_2", "anna", "anna"], ["yes", "yes", "no", "no"]),
    "Chinese words": (["Anna Smith", "Ben Jones"], ["你好", "再见"]),
    "translations": (["Hello, my friend.", "It rains."], ["Guten Tag, Kamerad.", "Heute regnet es."]),
    "digests": ([f"{n:08x}" for n in range(40)], [f"This is sentence {n}." for n in range(40)]),
}


@pytest.mark.parametrize("kind", UNSURE)
@pytest.mark.parametrize("speaker_first", [True, False])
def test_where_speakers_cannot_be_told_from_texts_nothing_is_guessed(tmp_path, kind, speaker_first):
    second, third = UNSURE[kind] if speaker_first else UNSURE[kind][::-1]
    rows = (f"clip{n}|{a}|{b}" for n, (a, b) in enumerate(zip(second, third, strict=True)))
    (tmp_path / "metadata.csv").write_text(lines(*rows), encoding="utf-8")
    with pytest.raises(ValueError, match="column 2 or 3 may be the speaker"):
        read_table(tmp_path / "metadata.csv", needed=("audio", "text"))


def test_a_recording_without_its_speaker_is_left_out(folder):
    (folder / "metadata.csv").write_text(lines("file_name,text,speaker", "clip0.wav,The dog,anna", "clip1.wav,A cat,"))
    known, unknown = read_recordings(folder)
    assert known.read() == folder / "wavs" / "clip0.wav"
    with pytest.raises(RecordingFlaw, match="Other rows name a speaker, and this one does not") as flaw:
        unknown.read()
    assert flaw.value.kind == "no speaker" and f"| {flaw.value} |" in README


def test_separators_of_texts_do_not_divide_columns(folder):
    """Every row has one comma, and `|` as well: constant are the columns of both."""
    for rows in (["clip0|a, b", "clip1|c, d"], ["clip0.wav;a, b", "clip1.wav;c, d"], ["clip0\ta; b", "clip1\tc; d"]):
        (folder / "metadata.csv").write_text(lines(*rows))
        assert [r.text.replace(";", ",") for r in read_recordings(folder)] == ["a, b", "c, d"]
    (folder / "metadata.csv").write_text(lines("clip0.wav,x | y", "clip1.wav,y | z"))
    assert [r.text for r in read_recordings(folder)] == ["x | y", "y | z"]


def test_quotes_that_open_in_one_row_and_close_in_another_join_nothing(folder):
    (folder / "metadata.csv").write_text(lines('clip0|"One.', 'clip1|Two."'))
    assert [r.text for r in read_recordings(folder)] == ['"One.', 'Two."']
    (folder / "metadata.csv").write_text(lines('clip0|"One ""two"" | three"', "clip1|Four"))
    assert [r.text for r in read_recordings(folder)] == ['One "two" | three', "Four"]


@pytest.mark.parametrize("ending", ["flac", "mp3", "m4a", "FLAC"])
@pytest.mark.parametrize("place", ["", "wav", "wavs"])
def test_an_id_without_an_ending_finds_its_file(tmp_path, ending, place):
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / f"1.5_clip.{ending}").write_bytes(b"sound")
    (tmp_path / "metadata.csv").write_text(lines("1.5_clip|The dog", "clip7|A cat"))
    found, missing = read_recordings(tmp_path)
    assert found.read() == tmp_path / place / f"1.5_clip.{ending}"
    with pytest.raises(RecordingFlaw, match="There is no file 'clip7' in .* or its wavs, wav, clips") as flaw:
        missing.read()
    assert flaw.value.kind == "no file" and f"| {flaw.value} |".replace(str(tmp_path), "my_voice") in README


def test_paths_may_be_absolute_within_the_folder_or_begin_in_another(folder):
    clip = folder / "wavs" / "clip0.wav"
    (folder / "manifest.json").write_text(json_lines({"audio_filepath": str(clip), "text": "The dog"}))
    assert read_recordings(folder / "manifest.json")[0].read() == clip
    (folder / "filelists").mkdir()
    filelist = folder / "filelists" / "train.txt"
    filelist.write_text(lines(f"wavs/clip0.wav|{DOG}", f"../{folder.name}/wavs/clip1.wav|{CAT}"))
    with pytest.raises(RecordingFlaw, match="--audio-folder"):
        read_recordings(filelist)[0].read()
    inside, outside = read_recordings(filelist, audio_folder=folder)
    assert inside.read() == clip
    with pytest.raises(RecordingFlaw, match="outside"):
        outside.read()


def test_offsets_of_a_manifest_cut_its_file(folder):
    whole = load_audio(folder / "wavs" / "clip0.wav", RATE)
    row = {"audio_filepath": "clip0.wav", "text": "The dog"}
    parts = [{"offset": 0.25, "duration": 0.5}, {"offset": 0.5}, {"duration": 0.25}, {"offset": 0.25}, {"offset": -1}]
    (folder / "manifest.json").write_text(json_lines(*({**row, **part} for part in parts)))
    middle, end, start, again, negative = read_recordings(folder / "manifest.json")
    assert [r.id for r in (middle, end, start)] == ["clip0.wav@0.25", "clip0.wav@0.5", "clip0.wav@0"]
    for recording, samples in ((middle, slice(6_000, 18_000)), (end, slice(12_000, None)), (start, slice(6_000))):
        np.testing.assert_array_equal(load_audio(recording.read(), RATE), whole[samples])
    for recording, message in ((again, "'clip0.wav@0.25' is listed twice."), (negative, "Offset '-1' or duration")):
        with pytest.raises(RecordingFlaw, match=message) as flaw:
            recording.read()
        assert f"| {flaw.value} |" in README
    assert len({r.stamp for r in (middle, end, start)}) == 3
    (folder / "clip9.wav").write_text("no sound")
    (folder / "manifest.json").write_text(json_lines({**row, "offset": 0.5, "duration": 1e308}))
    assert len(read_recordings(folder / "manifest.json")[0].read()["array"]) == RATE // 2
    (folder / "manifest.json").write_text(json_lines({**row, "audio_filepath": "clip9.wav", "offset": 1e308}))
    with pytest.raises(AudioError, match="clip9.wav"):
        read_recordings(folder / "manifest.json")[0].read()


def test_offsets_hold_for_files_that_only_load_audio_reads(folder, monkeypatch):
    def fail(file):
        raise soundfile.LibsndfileError(1)

    whole = load_audio(folder / "wavs" / "clip0.wav", RATE)
    row = {"audio_filepath": "clip0.wav", "text": "The dog", "offset": 0.25, "duration": 0.5}
    (folder / "manifest.json").write_text(json_lines(row))
    [recording] = read_recordings(folder / "manifest.json")
    monkeypatch.setattr(recordings_module.soundfile, "SoundFile", fail)
    monkeypatch.setattr(recordings_module, "load_audio", lambda file, sampling_rate: whole)
    np.testing.assert_array_equal(load_audio(recording.read(), RATE), whole[6_000:18_000])


def test_a_list_of_texts_is_no_table(tmp_path):
    (tmp_path / "en.txt").write_text(lines('"Well," he said, "one | two."', "No.", "A; b"))
    said = []
    sentences = load_sentences(tmp_path / "en.txt", log=said.append)
    assert [sentence.text for sentence in sentences] == ['"Well," he said, "one | two."', "No.", "A; b"]
    assert said[0].endswith("en.txt: 3 rows, one text per line, without a header. Column 1 -> text.")
    (tmp_path / "one.csv").write_text(lines("text", "Hello, you", '"Quoted, ""too"""'))
    assert [s.text for s in load_sentences(tmp_path / "one.csv")] == ["Hello, you", 'Quoted, "too"']


def test_a_folder_without_metadata_names_the_tables_that_it_has(folder):
    (folder / "filelist.txt").write_text("clip0|Hello\n")
    with pytest.raises(ValueError, match="or name a table of it instead of the folder: filelist.txt"):
        read_recordings(folder)


def test_long_cells_and_deep_json_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("clip0|" + "x" * 200_000)
    with pytest.raises(ValueError, match="cannot be read as a table: field larger"):
        read_recordings(tmp_path / "a.csv")
    (tmp_path / "a.jsonl").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="Line 1 of .* cannot be read"):
        read_recordings(tmp_path / "a.jsonl")
    (tmp_path / "b.csv").write_text(lines("file_name,text", "x" * 5_000 + ",Hello"))
    with pytest.raises(RecordingFlaw, match="There is no file"):
        read_recordings(tmp_path / "b.csv")[0].read()


def test_prepare_prints_which_column_is_what(folder, capsys, monkeypatch):
    (folder / "list.txt").write_text(lines(f"clip0|{DOG}|anna b", f"clip1|{CAT}|anna b"))
    monkeypatch.setattr(finetune_bark, "prepare_recordings", lambda recordings, *args, **options: [])
    monkeypatch.setattr(finetune_bark, "load_utterances", lambda *args: [])
    command = ["prepare", str(folder / "list.txt"), "--output", str(folder / "out"), "--audio-folder", str(folder)]
    finetune_bark.main([*command, "--columns", "audio=1,speaker=3,text=2"])
    assert "Column 1 -> audio, 2 -> text, 3 -> speaker (1 different: anna b)." in capsys.readouterr().out
