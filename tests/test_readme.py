"""README's snippets run as they stand, and its first two commands are the ones that CI runs."""

import re
import shutil
from pathlib import Path

import hf_bark_semantic
import tiny
from hf_bark_semantic.audio import save_audio
from hf_bark_semantic.configuration_bark_semantic import SEMANTIC_VOCAB_SIZE, num_codec_frames

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_python_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_audio("speech.wav", hf_bark_semantic.load_audio(hf_bark_semantic.example_recording())[:48_000], 16_000)
    tokens = [1] * 250
    hf_bark_semantic.VoicePrompt(tokens, tiny.random_codes(num_codec_frames(250))).save("voice.npz")
    for name in ("me.wav", "somebody_else.wav"):
        shutil.copy("speech.wav", name)
    Path("book.txt").write_text("the dog runs.\nthe cat sleeps.\n")
    tiny.tiny_bark(vocab_size=SEMANTIC_VOCAB_SIZE).save_pretrained("suno/bark-small")  # stands in for the Hub's
    tiny.tiny_bark_processor().save_pretrained("suno/bark-small")
    namespace = {}
    snippets = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(snippets) >= 4
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), namespace)
    assert len(namespace["result"]["semantic_tokens"]) == 150
    assert namespace["tokens"].semantic_tokens.tolist()[0] == namespace["result"]["semantic_tokens"].tolist()
    assert namespace["from_codes"]["num_tokens"] == 250
    assert len(namespace["converted"]["audio"]) and Path("me.npz").exists()
    assert namespace["spoken"].index == 1


def test_the_first_two_commands_install_run_and_test():
    commands = re.findall(r"```bash\n(.*?)```", README, re.S)
    assert commands[0].strip() == "pip install . && bark-semantic demo"
    assert commands[1].startswith('pip install ".[test]"') and "pytest" in commands[1]


def test_every_file_that_the_docs_link_to_exists():
    root = Path(__file__).parents[1]
    for document in (root / "README.md", root / "training" / "README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert target.startswith("http") or (document.parent / target).exists(), f"{document.name}: {target}"
