"""`help()` of the public names: an example that runs, every argument, the result and the errors."""

import inspect
import re
import shutil

import pytest

import hf_bark_semantic
import tiny
from hf_bark_semantic.audio import save_audio
from hf_bark_semantic.configuration_bark_semantic import SEMANTIC_VOCAB_SIZE, num_codec_frames

EXAMPLE = re.compile(r"```python\n(.*?)```", re.S)
PUBLIC = {name: getattr(hf_bark_semantic, name) for name in hf_bark_semantic.__all__}


@pytest.fixture(scope="module")
def at_hand(tmp_path_factory):
    """A folder with the files, and the values that the examples take for granted."""
    folder = tmp_path_factory.mktemp("examples")
    waveform = tiny.noise(3.0)
    for name in ("speech.wav", "me.wav"):
        save_audio(folder / name, waveform, 16_000)
    tokens = [1] * 150
    hf_bark_semantic.VoicePrompt(tokens, tiny.random_codes(num_codec_frames(150))).save(folder / "voice.npz")
    tiny.tiny_bark(vocab_size=SEMANTIC_VOCAB_SIZE).save_pretrained(folder / "suno" / "bark-small")
    tiny.tiny_bark_processor().save_pretrained(folder / "suno" / "bark-small")
    shutil.copytree(hf_bark_semantic.default_encoder(), folder / "encoder")
    hf_bark_semantic.publishing.add_code(folder / "encoder")
    values = {"waveform": waveform, "semantic_tokens": tokens, "play": lambda waveform, sampling_rate: None}
    values["model"] = tiny.tiny_encoder(vocab_size=SEMANTIC_VOCAB_SIZE)
    values["processor"] = hf_bark_semantic.BarkSemanticEncoderProcessor()
    return folder, {**PUBLIC, **values}


def examples(name: str) -> list[str]:
    """Those of a name and, of a class, of its public methods."""
    found = PUBLIC[name]
    texts = [found.__doc__ or ""]
    if inspect.isclass(found):
        texts += [inspect.getdoc(method) or "" for key, method in vars(found).items() if not key.startswith("_")]
    return [code for text in texts for code in EXAMPLE.findall(inspect.cleandoc(text))]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example_that_runs(name, at_hand, monkeypatch):
    folder, values = at_hand
    monkeypatch.chdir(folder)
    assert EXAMPLE.search(PUBLIC[name].__doc__ or ""), "no example"
    namespace = dict(values)
    for example in examples(name):
        exec(compile(example, name, "exec"), namespace)


def public_methods(found: type) -> dict:
    """The functions behind the methods and properties that a class itself defines, by name."""
    functions = {}
    for name, value in vars(found).items():
        function = getattr(value, "__func__", getattr(value, "fget", value))
        if inspect.isfunction(function) and (name == "__call__" or not name.startswith("_")):
            functions[name] = function
    return functions


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_say_what_a_name_is_and_what_its_methods_do(name):
    found = PUBLIC[name]
    documented = {name: found, **(public_methods(found) if inspect.isclass(found) else {})}
    for key, item in documented.items():
        first = (item.__doc__ or "").strip().split("\n\n")[0]
        assert len(first.split()) >= 3 and first[-1] in ".:`", f"{key}: {first!r}"


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_speak_of_the_result_and_of_every_error(name):
    found = PUBLIC[name]
    if inspect.isfunction(found):
        assert "Returns:" in found.__doc__
        functions = {name: found}
    else:
        functions = public_methods(found)
    for key, function in functions.items():
        raises = re.search(r"^ +raise \w", inspect.getsource(function), re.M)
        assert not raises or "Raises:" in function.__doc__, key


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_speak_of_every_argument(name):
    found = PUBLIC[name]
    if inspect.isclass(found) and issubclass(found, Exception):
        return
    named = set(re.findall(r"\w+", found.__doc__))
    arguments = [
        parameter.name
        for parameter in inspect.signature(found).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    assert set(arguments) <= named, set(arguments) - named
