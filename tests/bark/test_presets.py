"""Language and sex of the voice presets."""

import json

import numpy as np
import pytest

from hf_bark_semantic.bark.presets import PITCHES, preset_language, preset_sex, voice_presets
from hf_bark_semantic.packaged import NANO


def test_sex_of_a_preset_is_that_of_its_pitch():
    for name, sex in (("v2/en_speaker_9", "female"), ("v2/en_speaker_3", "male"), ("v2/en_speaker_0", None)):
        assert (preset_language(name, "suno/bark"), preset_sex(name, "suno/bark")) == ("English", sex)


def test_names_of_other_barks_say_nothing():
    assert (preset_language("sara", NANO), preset_sex("sara", NANO)) == ("English", "female")
    assert (preset_language("sara", "suno/bark"), preset_sex("sara", "suno/bark")) == (None, None)
    assert preset_sex("en_speaker_9", "suno/bark") is None  # of Suno's first presets nobody has measured the pitch


def test_every_preset_of_nano_is_measured():
    assert sorted(json.loads(PITCHES.read_text())["nano"]) == sorted(voice_presets(NANO))


def test_pitch_is_that_of_the_recordings(real_data):
    parselmouth = pytest.importorskip("parselmouth")
    expected = json.loads(PITCHES.read_text())["suno"]
    for name in ("en_speaker_9", "tr_speaker_6"):
        sound = parselmouth.Sound(str(real_data / "bark_presets" / f"{name}.flac"))
        pitch = sound.to_pitch_ac(pitch_floor=75, pitch_ceiling=500).selected_array["frequency"]
        assert round(float(np.median(pitch[pitch > 0]))) == expected[f"v2/{name}"]
