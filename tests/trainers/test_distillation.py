"""Distillation: an encoder learns from other encoders, with and without true tokens."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from datasets import Dataset
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModel

from hf_bark_semantic import BarkSemanticEncoderModel
from hf_bark_semantic.cli import train_encoder
from hf_bark_semantic.configuration_bark_semantic import num_samples_of_codec_frames, num_semantic_tokens_of_samples
from hf_bark_semantic.trainers import distillation, encoder
from hf_bark_semantic.trainers.distillation import PIECE_TOKENS, DistillationArguments, soft_label_loss
from hf_bark_semantic.trainers.encoder_config import read_encoder_config
from tiny import backbone_config, corpus_row, noise, save_tiny_encoder

SHAPE = {
    "head_type": "transformer",
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "vocab_size": 50,
}


@pytest.fixture
def config(tmp_path) -> dict:
    """A student of two teachers, one of which reads codes, too; two clips have no audio."""
    torch.manual_seed(0)
    rows = [corpus_row(seed, num_tokens=90, fold=seed % 2, voice=f"voice-{seed}") for seed in range(4)]
    rows += [corpus_row(seed, 90, "prompt", fold=seed % 2, with_audio=False) for seed in (4, 5)]
    Dataset.from_list(rows).save_to_disk(tmp_path / "corpus")
    AutoModel.from_config(backbone_config("whisper")).save_pretrained(tmp_path / "whisper")
    for name, width in (("reads_both", 16), ("reads_audio", 0)):
        options = {"codec_hidden_size": width, "codec_output": "spectrogram" if width else "features", **SHAPE}
        save_tiny_encoder(tmp_path / name, backbone="whisper", **options)
    (tmp_path / "recordings").mkdir()
    for seed in range(3):
        soundfile.write(tmp_path / "recordings" / f"{seed}.wav", noise(1.5 + seed, seed), 16_000)
    return {
        "corpus": str(tmp_path / "corpus"),
        "model": {
            "backbone": str(tmp_path / "whisper"),
            "backbone_layers": [1],
            "codec_hidden_size": 16,
            "codec_output": "spectrogram",
            **SHAPE,
        },
        "batches": {"crops": {"pair": 1, "prompt": 1, "recording": 2}, "num_tokens": 40},
        "feature_copies": {"pair": 1},
        "distillation": {
            "encoders": {str(tmp_path / "reads_both"): 1, str(tmp_path / "reads_audio"): 3},
            "recordings": [str(tmp_path / "recordings")],
            "top_k": 5,
        },
        "training": {"output_dir": "unused", "steps": 6, "checkpoint_every": 2, "log_every": 1},
    }


def run(config: dict, folder: Path, *options: str) -> Path:
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config))
    train_encoder.main([str(file), "--output", str(folder), *options])
    return folder


def test_the_student_learns_what_its_teacher_says_of_recordings(config, tmp_path):
    teacher = str(tmp_path / "teacher")
    shape = {name: value for name, value in config["model"].items() if name != "backbone"}
    model = BarkSemanticEncoderModel.from_backbone(config["model"]["backbone"], **shape)
    model.head.output.weight.data.mul_(20)  # of many opinions, and sure of them
    model.save_pretrained(teacher)
    config["distillation"].update(encoders={teacher: 1}, weight=1.0)
    config["training"].update(steps=150, learning_rate=1e-2, checkpoint_every=0)
    folder = run(config, tmp_path / "run")
    models = [BarkSemanticEncoderModel.from_pretrained(place).eval() for place in (teacher, folder)]
    waveform = torch.from_numpy(noise(3.5, 2))[None]
    first, second = (model.encode(waveform).semantic_tokens for model in models)
    assert (first == first.mode()[0]).float().mean() < 0.3
    assert (first == second).float().mean() > 0.6
    assert not (folder / "soft_labels").exists()
    record = json.loads((folder / "training.json").read_text())
    assert record["teachers"] == {"teacher": 1}
    assert record["clips"] == {"pair": 4, "prompt": 2, "recording": 3}


def test_soft_labels_are_the_weighted_answers_of_all_who_can_read_the_clip(config, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(encoder, "train_encoder", lambda config, clips, **_: given.extend(clips) or pytest.skip)
    monkeypatch.setattr(encoder, "save_encoder", lambda *_: None)
    run(config, tmp_path / "run")
    models = [
        BarkSemanticEncoderModel.from_pretrained(tmp_path / name).eval() for name in ("reads_audio", "reads_both")
    ]
    for clip in given:
        tokens, probabilities = clip.soft_labels
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-3)
        if clip.waveform is None:
            assert not probabilities[:, :5].any()
            continue
        for number, (model, share) in enumerate(zip(models, (0.75, 0.25), strict=True)):
            answer = model.encode(torch.from_numpy(clip.waveform)[None], top_k=5)
            own = slice(5 * number, 5 * number + 5)
            np.testing.assert_array_equal(tokens[:, own], answer.top_k_tokens[0])
            expected = answer.top_k_confidence[0] / answer.top_k_confidence[0].sum(-1, keepdim=True) * share
            np.testing.assert_allclose(probabilities[:, own], expected, atol=1e-3)
    assert [clip.source for clip in given] == ["pair"] * 4 + ["prompt"] * 2 + ["recording"] * 3


def test_a_killed_distillation_asks_no_teacher_again_and_ends_with_the_same_weights(config, tmp_path, monkeypatch):
    whole = run(config, tmp_path / "whole")
    step, calls = encoder.HeadOnFeatures.forward, []

    def killed(self, *arguments, **inputs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(self, *arguments, **inputs)

    with monkeypatch.context() as patch:
        patch.setattr(encoder.HeadOnFeatures, "forward", killed)
        with pytest.raises(SystemExit, match="130"):
            run(config, tmp_path / "killed")
    monkeypatch.setattr(distillation, "_ask", lambda *_: pytest.fail("a teacher was asked again"))
    run(config, tmp_path / "killed")
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, tmp_path / "killed"))
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], atol=0, rtol=0, msg=name)


def test_other_teachers_or_recordings_are_other_settings(config, tmp_path):
    folder = run(config, tmp_path / "run")
    soundfile.write(tmp_path / "recordings" / "0.wav", noise(1.5, 9), 16_000)
    with pytest.raises(SystemExit, match="recordings"):
        run(config, folder)


@pytest.mark.parametrize(
    ("record", "known"),
    [
        (None, "has no training.json"),
        ({"fold": None}, "was trained on all folds"),
        ({"fold": 0}, "was trained without fold 0"),
    ],
)
def test_a_teacher_that_knows_the_held_out_fold_is_refused(config, tmp_path, record, known):
    teacher = tmp_path / "reads_both"
    config["distillation"]["encoders"] = {str(teacher): 1}
    if record is not None:
        (teacher / "training.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match=f"Fold 1 is held out, but the teacher .* {known}"):
        run(config, tmp_path / "run", "--fold", "1")


def test_the_teacher_of_a_fold_is_found_by_its_name(config, tmp_path):
    (tmp_path / "reads_both").rename(tmp_path / "fold1")
    (tmp_path / "fold1" / "training.json").write_text(json.dumps({"fold": 1}))
    config["distillation"]["encoders"] = {str(tmp_path / "fold{fold}"): 1}
    folder = run(config, tmp_path / "run", "--fold", "1")
    assert json.loads((folder / "training.json").read_text())["teachers"] == {"fold1": 1}
    without = read_encoder_config(tmp_path / "run.yaml")
    assert without.distillation == DistillationArguments(
        {str(tmp_path / "foldall"): 1}, config["distillation"]["recordings"], top_k=5
    )


def test_a_clip_that_no_teacher_reads_is_named(config, tmp_path):
    config["distillation"]["encoders"] = {str(tmp_path / "reads_audio"): 1}
    with pytest.raises(SystemExit, match="prompt-4: no teacher can read it"):
        run(config, tmp_path / "run")


def test_long_recordings_become_pieces_that_hold_whole_tokens(tmp_path):
    soundfile.write(tmp_path / "long.flac", noise(31.2, 0), 16_000)
    clips = distillation.unlabelled_clips([str(tmp_path)])
    assert [clip.num_tokens for clip in clips[:2]] == [PIECE_TOKENS] * 2
    assert all(num_semantic_tokens_of_samples(len(clip.waveform)) == clip.num_tokens for clip in clips)
    assert sum(clip.num_tokens for clip in clips) == pytest.approx(31.2 * 49.9, abs=2)
    assert num_samples_of_codec_frames(clips[-1].num_tokens * 750 // 499) == len(clips[-1].waveform)


def test_the_loss_is_cross_entropy_with_both_kinds_of_labels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 10, generator=generator)
    labels = torch.tensor([1, 2, 3, 4, -100, -100])
    others = torch.randint(10, (6, 1), generator=generator)
    ones = torch.ones(6, 1)
    hard = F.cross_entropy(logits[:4], labels[:4], label_smoothing=0.1)
    of_labelled = soft_label_loss(logits[:4], labels[:4], others[:4], ones[:4], weight=0.0, smoothing=0.1)
    torch.testing.assert_close(of_labelled, hard)
    every = soft_label_loss(logits, labels, others, ones, weight=1.0, smoothing=0.1)
    torch.testing.assert_close(every, F.cross_entropy(logits, others[:, 0]))
    mixed = soft_label_loss(logits, labels, others, ones, weight=0.6, smoothing=0.1)
    expected = torch.cat(
        [
            0.4 * F.cross_entropy(logits[:4], labels[:4], label_smoothing=0.1, reduction="none")
            + 0.6 * F.cross_entropy(logits[:4], others[:4, 0], reduction="none"),
            F.cross_entropy(logits[4:], others[4:, 0], reduction="none"),
        ]
    )
    torch.testing.assert_close(mixed, expected.mean())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_copies": None}, "add `feature_copies`"),
        ({"distillation": {"encoders": {}}}, "name one or more"),
        ({"distillation": {"encoders": {"a": 0}}}, "weights above 0"),
        ({"distillation": {"encoders": {"a": 1}}}, "set both or neither"),
        ({"distillation": {"encoders": {"a": 1}, "weight": 2}}, "between 0 and 1"),
        ({"distillation": {"encoders": {"a": 1}, "top_k": 0}}, "1 or more"),
        ({"distillation": {"encoders": {"a": 1}, "temperature": 0}}, "above 0"),
        ({"distillation": {"teachers": {"a": 1}}}, "did you mean|it has encoders"),
    ],
)
def test_a_distillation_that_cannot_be_is_refused(config, tmp_path, changes, message):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({**config, **changes}))
    with pytest.raises(ValueError, match=message):
        read_encoder_config(file)
