"""The encoder works with tools for transformers: attention, hidden states, Trainer, peft and torch.export."""

import numpy as np
import peft
import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, Trainer, TrainingArguments

from hf_bark_semantic import BarkSemanticEncoderProcessor, DataCollatorForBarkSemanticEncoder
from tiny import BACKBONES, noise, random_codes, tiny_encoder

processor = BarkSemanticEncoderProcessor()


def test_an_encoder_has_no_embeddings_and_says_so():
    """Accelerate asks before it spreads a model by FSDP."""
    assert tiny_encoder().get_input_embeddings() is None


# ---- attention


@pytest.mark.parametrize("backbone", sorted(BACKBONES.keys() - {"wavlm", "wavlm-large"}))
def test_attention_of_the_backbone_is_the_one_that_was_asked_for(backbone, tmp_path, monkeypatch):
    tiny_encoder(backbone).save_pretrained(tmp_path)
    calls = []
    of_torch = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: calls.append(1) or of_torch(*args, **kwargs),
    )
    inputs, logits = processor([noise(1.0), noise(0.6, 1)]), {}
    for name in ("eager", "sdpa", None):
        model = AutoModel.from_pretrained(tmp_path, attn_implementation=name)
        assert model.backbone.config._attn_implementation == (name or "sdpa")
        calls.clear()
        with torch.no_grad():
            logits[name] = model(**inputs).logits
        assert bool(calls) == (name != "eager")
    model.set_attn_implementation("eager")
    calls.clear()
    with torch.no_grad():
        logits["set"] = model(**inputs).logits
    assert not calls
    for other in logits.values():
        torch.testing.assert_close(other, logits["sdpa"], atol=1e-4, rtol=1e-4)


def test_attention_that_a_backbone_has_not_is_refused_by_transformers(tmp_path):
    tiny_encoder("wavlm").save_pretrained(tmp_path)
    for name in (None, "eager"):
        assert (
            AutoModel.from_pretrained(tmp_path, attn_implementation=name).backbone.config._attn_implementation
            == "eager"
        )
    with pytest.raises(ValueError, match="WavLMModel does not support"):
        AutoModel.from_pretrained(tmp_path, attn_implementation="sdpa")


# ---- hidden states


@pytest.mark.parametrize("backbone", ["hubert", "whisper", "wav2vec2-bert"])
def test_hidden_states_are_those_of_the_backbone(backbone):
    model = tiny_encoder(backbone, backbone_layers=[2, 1])
    inputs = processor([noise(1.0), noise(0.6, 1)])
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
        assert model(**inputs).hidden_states is None
        model.config.output_hidden_states = True
        assert len(model(**inputs).hidden_states) == 3
    assert len(output.hidden_states) == 3  # what the first layer reads, and two layers
    frames = output.hidden_states[0].shape[1]
    assert {state.shape for state in output.hidden_states} == {(2, frames, 32)}
    first = torch.cat([output.hidden_states[2][0, 0], output.hidden_states[1][0, 0]])
    torch.testing.assert_close(output.features[0, 0], first)


def test_codes_alone_have_the_hidden_states_of_what_the_backbone_reads():
    inputs = processor(audio_codes=random_codes(75))
    with torch.no_grad():
        assert tiny_encoder(None, codec_hidden_size=16)(**inputs, output_hidden_states=True).hidden_states is None
        model = tiny_encoder("whisper", codec_hidden_size=16, codec_output="spectrogram")
        assert len(model(**inputs, output_hidden_states=True).hidden_states) == 3


def test_inputs_of_other_models_are_refused():
    with pytest.raises(TypeError, match="no input input_ids: it reads `input_values`"):
        tiny_encoder()(**processor(noise(1.0)), input_ids=torch.zeros(1, 1))


# ---- Trainer


def labelled(seconds: list[float]) -> list[dict]:
    """Rows of random sound and codes, with as many labels as Bark has tokens for them."""
    rows = []
    for seed, duration in enumerate(seconds):
        num_tokens = len(tiny_encoder().encode(**processor(noise(duration, seed))).semantic_tokens[0])
        rows.append({
            "input_values": noise(duration, seed),
            "audio_codes": random_codes(round(75 * duration), seed),
            "labels": np.random.default_rng(seed).integers(0, 50, num_tokens),
        })  # fmt: skip
    return rows


def test_collator_pads_waveforms_codes_and_labels():
    rows = labelled([1.0, 0.6])
    batch = DataCollatorForBarkSemanticEncoder(processor)(rows)
    assert batch["input_values"].shape == batch["attention_mask"].shape == (2, 16_000)
    assert batch["audio_codes"].shape == (2, 8, 75) and batch["audio_codes_mask"].sum(1).tolist() == [75, 45]
    assert batch["labels"].shape == (2, 50) and batch["labels"][1].tolist() == [*rows[1]["labels"], *[-100] * 20]
    loss = tiny_encoder(codec_hidden_size=16)(**batch).loss
    assert loss.isfinite()
    of_codes = [{name: row[name] for name in ("audio_codes", "labels")} for row in rows]
    assert DataCollatorForBarkSemanticEncoder(processor)(of_codes)["labels"].equal(batch["labels"])
    unlabelled = [{"input_values": row["input_values"]} for row in rows]
    assert set(DataCollatorForBarkSemanticEncoder(processor)(unlabelled)) == {"input_values", "attention_mask"}


def test_collator_refuses_labels_of_another_length_and_rows_of_other_kinds():
    collate = DataCollatorForBarkSemanticEncoder(processor)
    row, other = labelled([1.0, 0.6])
    with pytest.raises(
        ValueError, match="Row 1 of the batch has 30 labels, but a recording of its length has 50 tokens"
    ):
        collate([row, {**row, "labels": other["labels"]}])
    with pytest.raises(ValueError, match="audio_codes and input_values and labels and others input_values and labels"):
        collate([row, {name: other[name] for name in ("input_values", "labels")}])


def test_trainer_trains_and_evaluates(tmp_path):
    def accuracy(evaluation):
        known = evaluation.label_ids != -100
        return {"accuracy": (evaluation.predictions.argmax(-1) == evaluation.label_ids)[known].mean()}

    dataset = Dataset.from_list([{**row, "id": str(i)} for i, row in enumerate(labelled([1.0, 0.6, 0.8, 0.7]))])
    trainer = Trainer(
        model=tiny_encoder(codec_hidden_size=16),
        args=TrainingArguments(
            tmp_path, max_steps=12, learning_rate=1e-2, per_device_train_batch_size=4, per_device_eval_batch_size=2,
            logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
        ),
        train_dataset=dataset,
        eval_dataset=dataset,
        data_collator=DataCollatorForBarkSemanticEncoder(processor),
        compute_metrics=accuracy,
    )  # fmt: skip
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss"] < 0.8 * before["eval_loss"]
    assert after["eval_accuracy"] > before["eval_accuracy"]
    predicted = trainer.predict(dataset)
    assert predicted.predictions.shape == (4, 50, 50) and predicted.label_ids.shape == (4, 50)


# ---- peft


@pytest.mark.parametrize("task_type", [None, "FEATURE_EXTRACTION", "TOKEN_CLS"])
@pytest.mark.parametrize("head", [{"head_type": "linear"}, {"head_type": "embedding", "embedding_size": 24}])
def test_lora_with_a_trained_head_learns_and_comes_back(task_type, head, tmp_path):
    settings = {"r": 2, "target_modules": ["q_proj", "v_proj"], "modules_to_save": ["head"]}
    model = peft.get_peft_model(tiny_encoder(**head), peft.LoraConfig(task_type=task_type, **settings))
    inputs = processor([noise(1.0), noise(1.0, 1)])
    labels = torch.arange(100).view(2, 50) % 50
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert any(p is q for p in model.base_model.model.head.modules_to_save.parameters() for q in trained)
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for _ in range(6):
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    model.eval().save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(tiny_encoder(**head), tmp_path).eval()
    expected = model.encode(**inputs).semantic_tokens
    assert torch.equal(again.encode(**inputs).semantic_tokens, expected)
    assert not torch.equal(tiny_encoder(**head).encode(**inputs).semantic_tokens, expected)
    assert torch.equal(again.merge_and_unload().encode(**inputs).semantic_tokens, expected)


# ---- torch.export


def exported(model, example: dict, dimensions: dict, min_rows: int = 0):
    shapes = {name: {0: torch.export.Dim("batch", min=min_rows, max=64), 1: dimensions[name]} for name in example}
    with torch.no_grad():
        return torch.export.export(model, (), example, dynamic_shapes=shapes).module()


@pytest.mark.parametrize(
    ("backbone", "head", "min_rows"),
    [("hubert", "recurrent", 0), ("whisper", "transformer", 0), ("wav2vec2-bert", "linear", 2)],
)
def test_exported_model_gives_the_same_tokens_for_other_lengths_and_batches(backbone, head, min_rows):
    model = tiny_encoder(backbone, head_type=head, num_hidden_layers=2, input_level_db=-22.0)
    example = {"input_values": torch.from_numpy(np.stack([noise(2.0), noise(2.0, 1)]))}
    samples = torch.export.Dim("samples", min=1_600, max=400_000)
    program = exported(model, example, {"input_values": samples}, min_rows)
    for num_samples, rows in ((16_000, 1), (32_000, 2), (39_999, 3), (1_601, 2)):
        rows = max(rows, min_rows)
        inputs = torch.from_numpy(np.stack([noise(num_samples / 16_000, seed) for seed in range(rows)]))
        output, expected = program(input_values=inputs), model.encode(input_values=inputs)
        assert torch.equal(output.logits.argmax(-1), expected.semantic_tokens)
        assert torch.equal(output.num_tokens, expected.num_tokens)


def test_export_of_a_head_that_reads_its_own_tokens_is_a_sentence():
    example = {"input_values": torch.from_numpy(noise(1.0)[None])}
    with pytest.raises(NotImplementedError, match="An autoregressive head cannot be exported: .* values that grow"):
        torch.export.export(tiny_encoder(head_type="autoregressive"), (), example)


def test_exported_model_takes_padded_batches():
    model = tiny_encoder("hubert", head_type="transformer")
    example = dict(processor([noise(2.0), noise(1.0, 1)]))
    samples = torch.export.Dim("samples", min=1_600, max=400_000)
    program = exported(model, example, dict.fromkeys(example, samples))
    for waveforms in ([noise(1.5), noise(0.7, 1), noise(1.2, 2)], [noise(1.0)]):
        inputs = processor(waveforms)
        output, expected = program(**inputs), model.encode(**inputs)
        assert torch.equal(output.num_tokens, expected.num_tokens)
        for row, num_tokens in enumerate(expected.num_tokens):
            found = output.logits[row, :num_tokens].argmax(-1)
            assert torch.equal(found, expected.semantic_tokens[row, :num_tokens])
