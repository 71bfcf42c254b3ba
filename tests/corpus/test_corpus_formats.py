"""Corpora of other programs: import with checks, and export."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Dataset

from hf_bark_semantic.bark.synthesis import codes_to_waveform
from hf_bark_semantic.cli import export_corpus, import_corpus
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames, num_samples_of_codec_frames
from hf_bark_semantic.corpus import pairs
from hf_bark_semantic.corpus.formats import export_fairseq, read_archives, read_fairseq, read_npz_folder
from hf_bark_semantic.corpus.pairs import import_pairs
from hf_bark_semantic.corpus.rows import load_corpus
from hf_bark_semantic.corpus.untrusted import read_array
from hf_bark_semantic.voices.cloning import decode_codes
from tiny import corpus_row, noise, random_codes, tiny_bark


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def wav(num_tokens: int, sampling_rate: int = 24_000, extra: int = 0) -> bytes:
    num_samples = num_samples_of_codec_frames(num_codec_frames(num_tokens), sampling_rate) + extra
    file = io.BytesIO()
    soundfile.write(file, np.resize(noise(1.0, num_tokens), num_samples), sampling_rate, format="WAV")
    return file.getvalue()


def tokens_of(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 10_000, 50 + index)


def community_files(count: int = 12) -> dict[str, bytes]:
    files = {f"semantic/{i}.npy": npy(tokens_of(i)) for i in range(count)}
    return files | {f"wav/{i}.wav": wav(50 + i) for i in range(count)}


def write_zip(path, files) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def pack(folder: Path, way: str) -> Path:
    files = community_files()
    by_kind = {
        kind: {n.split("/")[1]: c for n, c in files.items() if n.startswith(kind)} for kind in ("semantic", "wav")
    }
    if way == "one zip":
        write_zip(folder / "all.zip", files)
        return folder / "all.zip"
    for kind, members in by_kind.items():
        if way == "two zips":
            write_zip(folder / f"{kind}.zip", members)
        elif way == "zips in two folders":
            write_zip(folder / kind / "part.zip", members)
        else:
            (folder / kind).mkdir(parents=True)
            for name, content in members.items():
                stem, ending = name.split(".")
                (folder / kind / f"{stem}_{kind}.{ending}").write_bytes(content)
    return folder


@pytest.mark.parametrize("way", ["one zip", "two zips", "zips in two folders", "unpacked, as gitmylo prepares"])
def test_the_community_layout_is_read_however_it_is_packed(tmp_path, way):
    assert import_pairs(read_archives(pack(tmp_path / "in", way)), tmp_path / "out", rows_per_shard=5) == []
    clips = load_corpus(str(tmp_path / "out"))
    assert [clip.id.split("/")[-1] for clip in clips] == [str(i) for i in range(12)]
    for i, clip in enumerate(clips):
        assert clip.semantic_tokens.tolist() == tokens_of(i).tolist() and clip.audio_codes is None
        assert clip.source == "pair" and clip.waveform is not None
    assert len(list((tmp_path / "out" / "data").iterdir())) == 3


def test_corrupt_pairs_are_left_out_and_named(tmp_path):
    files = community_files(6)
    files["wav/0.wav"] = wav(50, extra=640)
    files["semantic/1.npy"] = npy(np.array([{"a": 1}], dtype=object))
    files["semantic/2.npy"] = files["semantic/2.npy"][:-8]
    files["wav/3.wav"] = b"<html>not found</html>"
    del files["wav/4.wav"]
    files["semantic/6.npy"], files["wav/6.wav"] = npy(np.array([10_000] * 50)), wav(50)
    files["semantic/7.npy"], files["wav/7.wav"] = npy(np.ones(50)), wav(50)
    write_zip(tmp_path / "all.zip", files)
    refused = dict(import_pairs(read_archives(tmp_path / "all.zip"), tmp_path / "out"))
    assert [clip.id for clip in load_corpus(str(tmp_path / "out"))] == ["all/5"]
    for name, reason in {
        "all/0": "50 tokens make 24000 samples at 24000 Hz, but there are 24640, which hold 51 tokens",
        "all/1": "never opened",
        "all/2": "announces shape",
        "all/3": "web page",
        "all/4": "no audio",
        "all/6": "ids in",
        "all/7": "float64, not integers",
    }.items():
        assert reason in refused[name]
    record = json.loads((tmp_path / "out" / "shards" / "00000.json").read_text())
    assert record["planned_rows"] == 8 and {row["id"] for row in record["rejected"]} == set(refused)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../../evil.npy": b""}, "outside"),
        ({"/etc/evil.npy": b""}, "outside"),
        ({"C:\\evil.npy": b""}, "outside"),
        ({"semantic/..\\..\\evil.npy": b""}, "outside"),
        ({f"semantic/{i}.npy": bytes(60 * 2**20) for i in range(3)}, "zip bomb"),
        ({"semantic/0.npy": b"", "x/semantic/0.npy": b"", "x/0.npy": b""}, "two files"),
    ],
)
def test_hostile_archives_are_refused_before_anything_is_written(tmp_path, members, message):
    write_zip(tmp_path / "in" / "bad.zip", members)
    with pytest.raises(ValueError, match=message):
        import_pairs(read_archives(tmp_path / "in"), tmp_path / "out")
    assert not (tmp_path / "out").exists() and sorted(p.name for p in tmp_path.rglob("*")) == ["bad.zip", "in"]


def test_a_member_that_unpacks_to_too_much_or_is_damaged_costs_only_its_pair(tmp_path):
    files = {**community_files(3), "semantic/0.npy": bytes(20 * 2**20)}
    write_zip(tmp_path / "all.zip", files)
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        offset = archive.getinfo("wav/1.wav").header_offset
    content = bytearray((tmp_path / "all.zip").read_bytes())
    content[offset + 200 : offset + 300] = bytes(100)
    (tmp_path / "all.zip").write_bytes(content)
    refused = dict(import_pairs(read_archives(tmp_path / "all.zip"), tmp_path / "out"))
    assert "more than 16,777,216 bytes" in refused["all/0"] and "damaged" in refused["all/1"]
    assert [clip.id for clip in load_corpus(str(tmp_path / "out"))] == ["all/2"]
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(ValueError, match="not a zip archive"):
        list(read_archives(tmp_path / "no.zip"))


def test_a_pickle_is_never_opened():
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('opened')",))

    with pytest.raises(ValueError, match="never opened"):
        read_array(npy(np.array([Bomb()], dtype=object)))
    with pytest.raises(ValueError, match="does not start"):
        read_array(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="announces shape"):
        read_array(npy(np.zeros(1, np.int64)).replace(b"(1,), }" + b" " * 9, b"(9999999999,), }"))
    for array in (np.arange(6, dtype=">i2"), np.asfortranarray(np.arange(6).reshape(2, 3)), np.array(3, np.uint8)):
        assert np.array_equal(read_array(npy(array)), array)


def test_npz_beside_sound_are_read_with_the_codes_they_have(tmp_path):
    codes = random_codes(num_codec_frames(100))
    folder = tmp_path / "in" / "speaker"
    folder.mkdir(parents=True)
    for name, arrays in {
        "whole": {"semantic_prompt": np.arange(100), "coarse_prompt": codes[:2], "fine_prompt": codes},
        "coarse": {"semantic_prompt": np.arange(100), "coarse_prompt": codes[:2]},
        "tokens": {"semantic_prompt": np.arange(100)},
        "shifted": {"semantic_prompt": np.arange(100), "coarse_prompt": codes[:2, 1:]},
        "empty": {"x": np.arange(100)},
    }.items():
        np.savez(folder / f"{name}.npz", **arrays)
        (folder / f"{name}.wav").write_bytes(wav(100))
    np.savez(folder / "mute.npz", semantic_prompt=np.arange(100))
    refused = dict(import_pairs(read_npz_folder(tmp_path / "in"), tmp_path / "out"))
    assert refused.keys() == {"speaker/shifted", "speaker/empty", "speaker/mute"}
    assert "100 tokens make 150 codec frames, but there are 149" in refused["speaker/shifted"]
    coarse, tokens, whole = load_corpus(str(tmp_path / "out"))
    assert np.array_equal(whole.audio_codes, codes) and tokens.audio_codes is None
    assert np.array_equal(coarse.audio_codes[:2], codes[:2]) and (coarse.audio_codes[2:] == 1024).all()


def test_the_real_pairs_are_all_whole(real_data, tmp_path):
    assert import_pairs(read_npz_folder(real_data / "bark_pairs"), tmp_path / "out") == []
    clips = load_corpus(str(tmp_path / "out"))
    assert len(clips) == 43 and sum(clip.num_tokens for clip in clips) == 22_915


def test_a_corpus_comes_back_from_fairseq_as_it_went(tmp_path, capsys):
    rows = [corpus_row(seed) for seed in range(5)]
    Dataset.from_list(rows).save_to_disk(tmp_path / "corpus")
    export_corpus.main([str(tmp_path / "corpus"), str(tmp_path / "fairseq")])
    names = {path.name for path in (tmp_path / "fairseq").iterdir()}
    assert names == {"wav", "manifest.tsv", "labels.txt", "manifest.km", "dict.km.txt"}
    counts = [line.split() for line in (tmp_path / "fairseq" / "dict.km.txt").read_text().splitlines()]
    assert sum(int(count) for _, count in counts) == 5 * 180
    layout = ["fairseq", str(tmp_path / "fairseq" / "manifest.tsv"), str(tmp_path / "fairseq" / "manifest.km")]
    import_corpus.main([*layout, "--output", str(tmp_path / "back")])
    assert "5 pairs" in capsys.readouterr().out
    for clip, row in zip(load_corpus(str(tmp_path / "back")), rows, strict=True):
        assert clip.semantic_tokens.tolist() == row["semantic_tokens"]
        assert np.abs(clip.waveform - row["audio"]).max() < 1e-4  # 16 bit


def test_codes_become_sound_on_the_way_out(tmp_path):
    bark = tiny_bark()
    row = corpus_row(0, with_audio=False)
    Dataset.from_list([row]).save_to_disk(tmp_path / "corpus")
    with pytest.raises(ValueError, match="Name a codec"):
        export_fairseq(str(tmp_path / "corpus"), tmp_path / "out")
    codes = np.array(row["audio_codes"])
    waveform = decode_codes(codes, bark.codec_model)
    np.testing.assert_allclose(waveform, codes_to_waveform(bark, [codes])[0], atol=1e-6)
    export_fairseq(
        str(tmp_path / "corpus"),
        tmp_path / "out",
        codes_to_waveform=lambda codes: decode_codes(codes, bark.codec_model),
    )
    refused = import_pairs(
        read_fairseq(tmp_path / "out" / "manifest.tsv", tmp_path / "out" / "labels.txt"), tmp_path / "back"
    )
    assert refused == [] and load_corpus(str(tmp_path / "back"))[0].semantic_tokens.tolist() == row["semantic_tokens"]


def test_a_killed_import_goes_on_and_what_was_damaged_or_has_changed_is_done_again(tmp_path, monkeypatch):
    archive = pack(tmp_path / "in", "unpacked, as gitmylo prepares")
    import_pairs(read_archives(archive), tmp_path / "whole", rows_per_shard=5)
    written, made = pairs.write_shard, []

    def killed(folder, shard, *content):
        made.append(shard)
        if made == [0, 1]:
            raise KeyboardInterrupt
        written(folder, shard, *content)

    def go_on() -> list[int]:
        made.clear()
        import_pairs(read_archives(archive), tmp_path / "killed", rows_per_shard=5)
        same = [(tmp_path / name / "data" / "train-00001.parquet").read_bytes() for name in ("whole", "killed")]
        assert same[0] == same[1]
        return made

    monkeypatch.setattr(pairs, "write_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        go_on()
    assert go_on() == [1, 2] and go_on() == []
    shard = tmp_path / "killed" / "data" / "train-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert go_on() == [1]
    waveform, rate = soundfile.read(archive / "wav" / "0_wav.wav")
    soundfile.write(archive / "wav" / "0_wav.wav", -waveform, rate)
    assert go_on() == [0]
    with pytest.raises(ValueError, match="another plan .source: pair there, other now"):
        import_pairs(read_archives(archive), tmp_path / "killed", source="other", rows_per_shard=5)


def test_a_fairseq_export_may_have_moved_but_not_escape(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.wav").write_bytes(wav(60, 16_000))
    (tmp_path / "labels.txt").write_text(" ".join(map(str, range(60))) + "\n")
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("D:\\data\\bark\na\\x.wav\t19200\n")  # made on Windows
    assert import_pairs(read_fairseq(manifest, tmp_path / "labels.txt"), tmp_path / "out") == []
    other = tmp_path / "elsewhere"
    with pytest.raises(ValueError, match="there is no file"):
        import_pairs(read_fairseq(manifest, tmp_path / "labels.txt", root=other), tmp_path / "out2")
    manifest.write_text("/\n../../etc/passwd\t1\n")
    with pytest.raises(ValueError, match="lies outside"):
        import_pairs(read_fairseq(manifest, tmp_path / "labels.txt"), tmp_path / "out3")
    (tmp_path / "labels.txt").write_text("1 2\n3 4\n")
    with pytest.raises(ValueError, match="names 1 recordings and labels.txt has 2 lines"):
        list(read_fairseq(manifest, tmp_path / "labels.txt"))
    with pytest.raises(ValueError, match="No intact pair"):
        import_pairs(iter(()), tmp_path / "out4")
