import io
import sys
import tracemalloc
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from hf_bark_semantic.audio import (
    SAVED_FORMATS,
    AudioError,
    LongRecording,
    list_audio_files,
    load_audio,
    loading,
    read_audio,
    save_audio,
    unread_files,
)
from sound_files import encoded, written


def tone(seconds=1.0, sampling_rate=16_000, hz=440.0):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * sampling_rate)) / sampling_rate)).astype(
        np.float32
    )


@pytest.mark.parametrize(
    ("extension", "subtype"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", None), ("ogg", None), ("mp3", None)]
)
def test_every_supported_format_gives_the_same_waveform(tmp_path, extension, subtype):
    path = tmp_path / f"tone.{extension}"
    soundfile.write(path, tone(), 16_000, subtype=subtype)
    waveform = load_audio(path)
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert abs(len(waveform) - 16_000) < 2_400  # an mp3 pads its ends with up to two frames
    if extension in ("wav", "flac"):
        np.testing.assert_allclose(waveform, tone(), atol=1e-4)
    else:
        power = np.abs(np.fft.rfft(waveform))
        assert np.argmax(power) * 16_000 / len(waveform) == pytest.approx(440, abs=2)


def test_path_bytes_file_and_datasets_rows_are_one_source(tmp_path):
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(), 16_000, subtype="FLOAT")
    content = path.read_bytes()
    expected = load_audio(path)
    for source in (
        str(path),
        content,
        bytearray(content),
        io.BytesIO(content),
        {"path": str(path)},
        {"bytes": content, "path": "a name that is no file.wav"},
        {"bytes": None, "path": str(path)},
        {"array": tone(), "sampling_rate": 16_000},
        {"raw": tone(), "sampling_rate": 16_000},
    ):
        np.testing.assert_array_equal(load_audio(source), expected)
    with open(path, "rb") as file:
        np.testing.assert_array_equal(load_audio(file), expected)


def test_a_torchcodec_decoder_is_read():
    samples = SimpleNamespace(data=torch.from_numpy(tone())[None], sample_rate=16_000)
    decoder = SimpleNamespace(get_all_samples=lambda: samples)
    np.testing.assert_array_equal(load_audio(decoder), tone())


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy, np.ndarray.tolist])
def test_array_tensor_and_list_are_one_source(make):
    np.testing.assert_array_equal(load_audio(make(tone()), source_sampling_rate=16_000), tone())


def test_bfloat16_tensors_are_read():
    tensor = torch.from_numpy(tone()).to(torch.bfloat16)
    np.testing.assert_allclose(load_audio(tensor, source_sampling_rate=16_000), tone(), atol=2e-3)


def test_loading_leaves_its_argument_alone():
    samples = tone()
    waveform = load_audio(samples, source_sampling_rate=16_000)
    waveform[:] = 0
    np.testing.assert_array_equal(samples, tone())


@pytest.mark.parametrize(
    ("dtype", "zero", "full_scale"),
    [("int8", 0, 2**7), ("int16", 0, 2**15), ("int32", 0, 2**31), ("uint8", 128, 2**7)],
)
def test_integer_samples_are_scaled_by_their_full_scale(dtype, zero, full_scale):
    integers = (zero + np.floor(tone().astype(np.float64) * full_scale)).astype(dtype)
    waveform = load_audio(integers, source_sampling_rate=16_000)
    np.testing.assert_allclose(waveform, tone(), atol=1.01 / full_scale + 1e-7)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged_on_whichever_axis_is_shorter(channels):
    stereo = np.stack([tone() * (i + 1) / channels for i in range(channels)])
    expected = stereo.mean(axis=0)
    np.testing.assert_allclose(load_audio(stereo, source_sampling_rate=16_000), expected, atol=1e-6)
    np.testing.assert_allclose(load_audio(stereo.T, source_sampling_rate=16_000), expected, atol=1e-6)


@pytest.mark.parametrize("source_rate", [8_000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000, 44_101, 767_999])
def test_resampling_keeps_pitch_level_and_duration(source_rate):
    waveform = load_audio(tone(0.5, source_rate), 16_000, source_sampling_rate=source_rate)
    assert abs(len(waveform) - 8_000) <= 1
    middle = slice(1_000, 7_000)  # the filter rings at both ends
    np.testing.assert_allclose(waveform[: len(tone(0.5))][middle], tone(0.5)[: len(waveform)][middle], atol=5e-3)


def test_sound_is_resampled_in_float32_within_a_training_in_bfloat16():
    with torch.autocast("cpu", torch.bfloat16):
        within = load_audio(tone(0.5, 24_000), 16_000, source_sampling_rate=24_000)
    assert np.array_equal(within, load_audio(tone(0.5, 24_000), 16_000, source_sampling_rate=24_000))


def test_a_torchaudio_that_does_not_fit_torch_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
    with pytest.raises(ImportError, match="pip install --upgrade torch torchaudio"):
        load_audio(tone(), 24_000, source_sampling_rate=16_000)
    assert len(load_audio(tone(), 16_000, source_sampling_rate=16_000)) == 16_000


@pytest.mark.parametrize("extension", ["wav", "flac"])
def test_a_saved_waveform_comes_back(tmp_path, extension):
    path = save_audio(tmp_path / f"out.{extension}", tone(), 24_000)
    np.testing.assert_allclose(load_audio(path, 24_000), tone(), atol=1e-4)
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"out.{extension}"]


def test_a_wav_keeps_samples_above_full_scale_and_a_flac_refuses_them(tmp_path):
    loud = 3 * tone()
    np.testing.assert_array_equal(load_audio(save_audio(tmp_path / "loud.wav", loud, 16_000)), loud)
    with pytest.raises(AudioError, match="clips above"):
        save_audio(tmp_path / "loud.flac", loud, 16_000)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = save_audio(tmp_path / "out.wav", tone(), 24_000)
    before = path.read_bytes()

    def fail(*_):  # the header is written by then
        raise OSError("disk full")

    monkeypatch.setattr(soundfile.SoundFile, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        save_audio(path, 0.1 * tone(), 24_000)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["out.wav"]


def test_folders_give_their_audio_files_sorted_and_files_stand_for_themselves(tmp_path):
    for name in ("b.WAV", "a.flac", "notes.txt", "sub/c.mp3", "sub/._c.mp3", ".cache/d.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    named = [path.relative_to(tmp_path).as_posix() for path in list_audio_files(tmp_path)]
    assert named == ["a.flac", "b.WAV", "sub/c.mp3"]
    listed = list_audio_files([tmp_path / "notes.txt", tmp_path / "sub", tmp_path / "sub" / "c.mp3"])
    assert [path.name for path in listed] == ["notes.txt", "c.mp3"]


def test_endings_of_every_kind_are_found_in_any_case_and_the_others_are_unread(tmp_path):
    names = ["a.WAVE", "b.w64", "c.M4A", "d.m4b", "e.opus", "f.webm", "g.MP4", "h.mov", "i.3gp", "j.aac", "k.amr"]
    for name in names:
        (tmp_path / name).touch()
    assert unread_files(tmp_path) == []
    for name in ("x.txt", "y.TXT", "z.jpg", "README", ".hidden.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_audio_files(tmp_path)] == names
    assert [path.name for path in unread_files(tmp_path)] == ["README", "x.txt", "y.TXT", "z.jpg"]


def test_a_folder_without_audio_is_an_error_that_lists_the_extensions(tmp_path):
    with pytest.raises(AudioError, match=r"\.flac"):
        list_audio_files(tmp_path)


def test_real_clips_load_at_the_length_that_their_codes_announce(real_data):
    for audio in (
        sorted((real_data / "bark_pairs").glob("*.*g"))[:3] + sorted((real_data / "bark_pairs").glob("*.flac"))[:3]
    ):
        num_frames = np.load(audio.with_suffix(".npz"))["coarse_prompt"].shape[1]
        assert len(load_audio(audio, 24_000)) == num_frames * 320
        assert abs(len(load_audio(audio, 16_000)) - num_frames * 320 * 2 / 3) < 1


# ---- long recordings


def stereo(seconds: float, sampling_rate: int) -> np.ndarray:
    both = [
        tone(seconds, sampling_rate, hz) * np.linspace(0.2, 1, round(seconds * sampling_rate)) for hz in (440, 300)
    ]
    return np.stack(both, axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("rate", "target"),
    [(44_100, 16_000), (22_050, 24_000), (8_000, 16_000), (44_101, 16_000), (96_000, 24_000)],
)
@pytest.mark.parametrize("length", [1, 7_001, 2**18])
def test_blocks_are_resampled_as_if_they_were_one(rate, target, length, monkeypatch):
    from torchaudio.functional import resample as resample_at_once

    assert loading.RESAMPLED_SAMPLES == 2**18
    waveform = np.random.default_rng(0).standard_normal(3 * max(rate, length) + 17).astype(np.float32)
    ratio = Fraction(max(rate, target), min(rate, target)).limit_denominator(loading.MAX_RATIO_DENOMINATOR)
    steps = (ratio.denominator, ratio.numerator) if rate < target else (ratio.numerator, ratio.denominator)
    expected = resample_at_once(torch.from_numpy(waveform), *steps).numpy()
    monkeypatch.setattr(loading, "RESAMPLED_SAMPLES", length)
    for blocks in ([waveform], np.array_split(waveform, 11)):
        resampled = list(loading._resampled(iter(blocks), rate, target))
        assert len(resampled) > 1
        # sums of few samples may be in another order
        np.testing.assert_allclose(np.concatenate(resampled), expected, rtol=0, atol=0 if length == 2**18 else 1e-6)


def test_a_recording_in_blocks_is_what_it_is_at_once(tmp_path, monkeypatch):
    file = tmp_path / "six_channels.flac"
    soundfile.write(file, np.concatenate([stereo(5.0, 44_100)] * 3, axis=1), 44_100)
    whole = load_audio(file)
    samples, _ = soundfile.read(file, dtype="float32")
    np.testing.assert_array_equal(whole, loading.resample(samples.mean(axis=1), 44_100, 16_000))
    monkeypatch.setattr(loading, "RESAMPLED_SAMPLES", 10_000)
    monkeypatch.setattr("hf_bark_semantic.audio.decoding.BLOCK_VALUES", 12_345)
    np.testing.assert_allclose(load_audio(file), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["flac", "m4a", "array"])
def test_a_long_recording_has_the_slices_of_the_whole_one(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "LONG_S", 1.0)
    monkeypatch.setattr(loading, "RESAMPLED_SAMPLES", 10_000)
    monkeypatch.setattr("hf_bark_semantic.audio.decoding.BLOCK_VALUES", 12_345)
    rate = 44_100 if kind == "array" else None
    source = {
        "flac": lambda: written(stereo(3.0, 44_100), 44_100, "FLAC"),
        "m4a": lambda: encoded("ipod", "aac", tone(3.0, 44_100)),
        "array": lambda: tone(3.0, 44_100),
    }[kind]()
    whole = load_audio(source, source_sampling_rate=rate)
    recording = read_audio(source, source_sampling_rate=rate)
    assert isinstance(recording, LongRecording)
    assert len(recording) == len(whole)
    assert recording.mean == pytest.approx(whole.mean(), abs=1e-6)
    assert recording.power == pytest.approx(np.square(whole).mean(), rel=1e-5)
    np.testing.assert_array_equal(recording[:], whole)
    np.testing.assert_array_equal(recording[20_000:30_001], whole[20_000:30_001])
    bounds = [(0, 5), (0, 30_000), (29_000, 31_000), (40_000, 47_000), (47_000, 99_000)]
    for part, (start, stop) in zip(recording.parts(bounds), bounds, strict=True):
        np.testing.assert_array_equal(part, whole[start:stop])


def test_a_short_recording_is_an_array_and_a_long_one_is_checked_like_it(monkeypatch):
    assert isinstance(read_audio(written(stereo(1.0, 44_100), 44_100, "WAV")), np.ndarray)
    monkeypatch.setattr(loading, "LONG_S", 1.0)
    with pytest.raises(AudioError, match="silent"):
        read_audio(written(np.zeros(88_200), 44_100, "WAV"))


def test_a_recording_that_has_become_shorter_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "LONG_S", 1.0)
    soundfile.write(tmp_path / "a.wav", tone(3.0), 16_000)
    recording = read_audio(tmp_path / "a.wav")
    soundfile.write(tmp_path / "a.wav", tone(2.0), 16_000)
    with pytest.raises(AudioError, match="48,000 samples, and now has 32,000"):
        recording[40_000:]


def test_memory_does_not_grow_with_the_length_of_a_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "LONG_S", 20.0)

    def peak_of(minutes: int) -> int:
        file = tmp_path / f"{minutes}.flac"
        with soundfile.SoundFile(file, "w", 44_100, 2) as sound:
            for _ in range(minutes):
                sound.write(minute)
        tracemalloc.start()  # which sees numpy's arrays
        recording = read_audio(file)
        assert isinstance(recording, LongRecording)
        assert len(recording[-160_000:]) == 160_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    minute = stereo(60.0, 44_100)
    short, long = peak_of(2), peak_of(5)
    assert long < 1.05 * short < 60 * 2**20


@pytest.mark.parametrize("extension", SAVED_FORMATS)
def test_what_cannot_be_written_is_an_error_and_leaves_what_was_there(extension, tmp_path):
    resource = pytest.importorskip("resource")  # not on Windows
    file, (soft, hard) = tmp_path / f"speech{extension}", resource.getrlimit(resource.RLIMIT_FSIZE)
    file.write_bytes(b"before")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            save_audio(file, tone(2.0), 16_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(file.name, b"before")]
