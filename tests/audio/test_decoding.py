"""Decoding of audio files in the formats of phones, browsers and old tools; every row makes its own file."""

import io

import numpy as np
import pytest
import soundfile

from hf_bark_semantic.audio import AudioError, decoding, load_audio
from hf_bark_semantic.audio.decoding import open_sound
from sound_files import encoded, tone, with_sizes, written

PHONE = {"sampling_rate": 8_000, "layout": "mono"}
READ = {
    "m4a": lambda: encoded("ipod", "aac"),
    "m4a, lossless": lambda: encoded("ipod", "alac"),
    "mp4 with a video": lambda: encoded("mp4", "aac", video="mpeg4"),
    "mp4 for streaming": lambda: encoded("mp4", "aac", video="mpeg4", movflags="faststart"),
    "mp4 in fragments": lambda: encoded("mp4", "aac", movflags="frag_keyframe+empty_moov"),
    "mov": lambda: encoded("mov", "pcm_s16le", video="mpeg4"),
    "3gp": lambda: encoded("3gp", "libopencore_amrnb", **PHONE),
    "amr": lambda: encoded("amr", "libopencore_amrnb", **PHONE),
    "aac": lambda: encoded("adts", "aac"),
    "webm": lambda: encoded("webm", "libopus", sampling_rate=48_000),
    "webm with a video": lambda: encoded("webm", "libopus", sampling_rate=48_000, video="libvpx"),
    "webm that a browser recorded": lambda: encoded("webm", "libopus", sampling_rate=48_000, live="1"),
    "mkv": lambda: encoded("matroska", "flac", video="mpeg4"),
    "wma": lambda: encoded("asf", "wmav2"),
    "opus": lambda: encoded("ogg", "libopus", sampling_rate=48_000),
    "w64": lambda: written(tone(), 44_100, "W64"),
    "aiff": lambda: written(tone(), 44_100, "AIFF"),
    "au": lambda: written(tone(), 44_100, "AU"),
    "caf": lambda: written(tone(), 44_100, "CAF"),
}


@pytest.mark.parametrize("name", READ)
def test_what_phones_browsers_and_old_tools_record_is_read(name, tmp_path):
    waveform = load_audio(READ[name]())
    assert len(waveform) == pytest.approx(16_000, abs=1_000)  # encoders pad, and begin late
    power = np.abs(np.fft.rfft(waveform))
    assert np.argmax(power) * 16_000 / len(waveform) == pytest.approx(440, abs=2)
    assert np.sqrt(np.mean(np.square(waveform[2_000:14_000]))) == pytest.approx(0.5 / np.sqrt(2), rel=0.2)


def test_a_lossless_m4a_has_the_samples_that_were_recorded():
    np.testing.assert_allclose(load_audio(READ["m4a, lossless"](), 44_100), tone(), atol=2**-15)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("of_file", [0, 0xFFFFFFFF, 0x7FFFFFFF])
@pytest.mark.parametrize("of_samples", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_whose_sizes_were_never_written_is_read_whole(subtype, of_file, of_samples):
    complete = written(np.stack([tone(), 0.3 * tone(hz=300)], axis=1), 44_100, "WAV", subtype)
    unfinished = with_sizes(complete, of_file=of_file, of_samples=of_samples)
    np.testing.assert_array_equal(load_audio(unfinished), load_audio(complete))


def test_an_unfinished_wav_is_recognized_behind_other_chunks():
    complete = written(tone(), 44_100, "WAV")
    described = complete[:12] + b"bext" + (602).to_bytes(4, "little") + bytes(602) + complete[12:]
    np.testing.assert_array_equal(load_audio(with_sizes(described, of_file=0, of_samples=0)), load_audio(complete))


@pytest.mark.parametrize("junk", [bytes(5), bytes(4_000), b"junk of a radio stream " * 40, b"\xff\xfb\x90" * 100])
def test_an_mp3_behind_junk_has_the_samples_of_the_mp3(junk):
    mp3 = written(np.stack([tone(3.0), tone(3.0, hz=300)], axis=1), 44_100, "MP3")
    np.testing.assert_array_equal(load_audio(junk + mp3), load_audio(mp3))


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "PCM_16"), ("WAV", "MS_ADPCM"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS")],
)
def test_blocks_have_the_samples_that_soundfile_reads_at_once(container, subtype, monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK_VALUES", 10_007)
    content = written(np.stack([tone(2.0, 48_000), tone(2.0, 48_000, hz=300)], axis=1), 48_000, container, subtype)
    expected, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    with open_sound(content) as sound:
        assert (sound.sampling_rate, sound.channels) == (rate, 2)
        blocks = list(sound.blocks)
    assert len(blocks) > 10
    np.testing.assert_array_equal(np.concatenate(blocks), expected)


@pytest.mark.parametrize(("sampling_rate", "channels"), [(8_000, 1), (24_000, 1), (44_100, 2)])
def test_an_mp3_has_the_samples_that_libsndfile_reads(sampling_rate, channels):
    """But for rounding: ffmpeg decodes it here, and without its padding, too."""
    content = written(np.stack([tone(3.0, sampling_rate)] * channels, axis=1), sampling_rate, "MP3")
    expected, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    with open_sound(content) as sound:
        assert (sound.sampling_rate, sound.channels) == (rate, channels)
        found = np.concatenate(list(sound.blocks))
    assert found.shape == expected.shape == (3 * sampling_rate, channels)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_damaged_mp3_is_read_as_far_as_it_goes_without_a_word(capfd):
    mp3 = written(tone(3.0), 44_100, "MP3")
    whole, middle = len(load_audio(mp3)), len(mp3) // 2
    tag = b"ID3\4\0\0\0\0\1\0" + bytes(128)
    for damaged in (mp3[:-500], mp3[:middle] + bytes(700) + mp3[middle:], mp3 + b"TAG" + bytes(125), tag + mp3):
        assert abs(len(load_audio(damaged)) - whole) < 0.15 * 16_000
    assert len(load_audio(mp3[:middle])) > 0.4 * whole
    for lost in (bytes(3_000).join([mp3[:100]] * 9), tag + bytes(50_000), mp3[:40]):
        with pytest.raises(AudioError):
            load_audio(lost)
    assert capfd.readouterr() == ("", "")


def test_blocks_of_a_track_are_small_and_lose_nothing(monkeypatch):
    content = READ["m4a, lossless"]()
    with open_sound(content) as sound:
        (whole,) = sound.blocks
    monkeypatch.setattr(decoding, "BLOCK_VALUES", 20_000)
    with open_sound(content) as sound:
        blocks = list(sound.blocks)
    assert {block.size < 40_000 for block in blocks} == {True}
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_the_comment_of_an_m4a_is_read(tmp_path):
    import av

    with av.open(str(tmp_path / "a.m4a"), "w") as output:
        output.metadata["comment"] = "made by a test"
        stream = output.add_stream("aac", rate=44_100, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone()[None, :1_024], format="fltp", layout="mono")
        frame.sample_rate = 44_100
        output.mux([*stream.encode(frame), *stream.encode(None)])
    with open_sound(tmp_path / "a.m4a") as sound:
        assert sound.comment == "made by a test"


def test_without_pyav_soundfile_s_formats_are_read_and_the_others_say_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    assert len(load_audio(READ["w64"]())) == 16_000
    content = bytes(28) + READ["au"]()
    with pytest.raises(ImportError, match="pip install av"):
        load_audio(b"\0\0\0\x18ftypM4A " + content)


def test_a_consumer_s_error_is_not_taken_for_one_of_the_file():
    with pytest.raises(RuntimeError, match="^mine$"), open_sound(READ["w64"]()) as sound:
        next(sound.blocks)
        raise RuntimeError("mine")
    with pytest.raises(AudioError, match="cut off"), open_sound(READ["m4a"]()[:9_000]):
        pass
