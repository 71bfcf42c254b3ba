"""Adapters of Bark: training, saving, loading, mixing, merging, and batched synthesis with them."""

import copy
import functools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BarkModel

import tiny
from hf_bark_semantic.bark import adapter_bundle
from hf_bark_semantic.bark.adapter_bundle import load_adapters, save_adapters
from hf_bark_semantic.bark.adapters import (
    AdapterError,
    adapter_parameters,
    add_adapters,
    disable_adapters,
    loaded_adapters,
    lora_config,
    merge_adapters,
    remove_adapters,
    set_adapters,
)
from hf_bark_semantic.bark.configs import STAGES, bark_generation_configs, bark_stage
from hf_bark_semantic.bark.examples import Utterance, collate
from hf_bark_semantic.bark.losses import LOSSES
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.sampling import Sampling
from hf_bark_semantic.bark.synthesis import synthesize
from hf_bark_semantic.publishing import ADAPTER
from hf_bark_semantic.trainers.bark_batches import random_example
from tiny import random_codes, tiny_bark_processor, tiny_prompt


@functools.cache
def _tiny_bark() -> BarkModel:
    return tiny.tiny_bark()


def tiny_bark() -> BarkModel:
    return copy.deepcopy(_tiny_bark())  # ten times as fast as a new one


def adapted_bark(seed: int = 1, *, stages=STAGES, name: str = "a", **options) -> BarkModel:
    """A Bark with adapters that change a lot."""
    bark = tiny_bark()
    torch.manual_seed(seed)
    add_adapters(bark, dict.fromkeys(stages, lora_config(**{"rank": 4, **options})), name=name)
    with torch.no_grad():
        for stage in stages:
            for parameter in adapter_parameters(bark_stage(bark, stage), name).values():
                parameter += 0.3 * torch.randn_like(parameter)
    return bark.eval()


def bundle_of(bark: BarkModel, folder, **options):
    return save_adapters(bark, folder, **{"name": "a", "base_model": "me/tiny", **options})


@torch.no_grad()
def losses(bark: BarkModel) -> list[float]:
    """Of one utterance, stage by stage."""
    rng, configs = np.random.default_rng(0), bark_generation_configs(bark)
    utterance = Utterance(rng.integers(0, 20, 5), rng.integers(0, 50, 60), random_codes(configs.num_frames(60)))
    values = []
    for stage, loss in LOSSES.items():
        batch = collate([random_example(stage, utterance, None, configs, np.random.default_rng(1))], configs)
        values.append(float(loss(bark_stage(bark, stage), configs).eval()(**batch).loss))
    return values


def spoken(bark: BarkModel) -> list[tuple]:
    """Greedy tokens and codes of three texts in one batch, one of them prompted."""
    greedy = {stage: Sampling(0.0, min_eos_p=None) for stage in STAGES}
    texts = ["the dog runs", "a cat sleeps, one two three", "laughs"]
    requests = [
        SynthesisRequest(text=text, voice_prompt=tiny_prompt() if i == 1 else None, max_semantic_tokens=20, **greedy)
        for i, text in enumerate(texts)
    ]
    results = synthesize(bark, requests, tokenizer=tiny_bark_processor(), batch_size=3)
    return [(result.semantic_tokens.tolist(), result.audio_codes.tolist()) for result in results]


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True, "dropout": 0.5}])
def test_loss_and_speech_are_the_same_trained_reloaded_and_merged(tmp_path, options):
    base, trained = tiny_bark(), adapted_bark(**options)
    bundle_of(trained, tmp_path / "bundle")
    reloaded = tiny_bark()
    load_adapters(reloaded, tmp_path / "bundle")
    merge_adapters(reloaded).save_pretrained(tmp_path / "merged")
    merged = BarkModel.from_pretrained(tmp_path / "merged").eval()
    assert merged.state_dict().keys() == base.state_dict().keys()
    expected, speech = losses(trained), spoken(trained)
    assert min(abs(a - b) for a, b in zip(expected, losses(base), strict=True)) > 1e-3
    assert speech != spoken(base)
    for bark in (reloaded, merged):
        assert losses(bark) == pytest.approx(expected, abs=1e-5)
        assert spoken(bark) == speech


def test_a_bundle_says_what_it_is_and_peft_reads_it(tmp_path):
    from peft import PeftModel

    trained = adapted_bark(stages=["semantic"])
    bundle_of(adapted_bark(), tmp_path)  # of which nothing may stay
    bundle_of(trained, tmp_path, voice_prompt=tiny_prompt())
    files = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert files == {
        "bundle.json", "voice.npz", "semantic/adapter_config.json", "semantic/adapter_model.safetensors"
    }  # fmt: skip
    bark = tiny_bark()
    bundle = load_adapters(bark, tmp_path, name="other")
    assert (bundle.name, bundle.base_model, bundle.ranks) == ("other", "me/tiny", {"semantic": 4})
    assert bundle.voice_prompt == tiny_prompt() and loaded_adapters(bark) == {"other": ("semantic",)}
    ids = torch.arange(20)[None]
    expected = trained.semantic(ids).logits
    assert torch.equal(PeftModel.from_pretrained(tiny_bark().semantic, tmp_path / "semantic")(ids).logits, expected)
    bark = tiny_bark()
    bark.semantic.load_adapter(str(tmp_path / "semantic"))
    assert torch.equal(bark.semantic(ids).logits, expected)


def test_new_adapters_change_nothing_and_alone_are_trainable():
    base, bark = tiny_bark(), tiny_bark()
    add_adapters(bark, {"coarse": lora_config(rank=2)})
    assert losses(bark.eval()) == losses(base)
    trainable = {name for name, parameter in bark.coarse_acoustics.named_parameters() if parameter.requires_grad}
    assert trainable and all("lora_" in name for name in trainable)
    assert all(parameter.requires_grad for parameter in bark.semantic.parameters())


def test_adapters_are_swapped_scaled_mixed_and_switched_off(tmp_path):
    for name, seed in (("anna", 1), ("ben", 2)):
        bundle_of(adapted_bark(seed), tmp_path / name)
    bark, base = tiny_bark(), losses(tiny_bark())
    assert load_adapters(bark, tmp_path / "anna").name == "anna"
    anna = losses(bark)
    load_adapters(bark, tmp_path / "ben")
    ben = losses(bark)
    assert loaded_adapters(bark) == {"anna": tuple(STAGES), "ben": tuple(STAGES)} and anna != ben
    set_adapters(bark, "anna")
    assert losses(bark) == anna
    disable_adapters(bark)
    assert losses(bark) == base
    set_adapters(bark, {"ben": 0.0})
    assert losses(bark) == pytest.approx(base, abs=1e-6)
    set_adapters(bark, {"anna": 0.5, "ben": -0.25})
    layer, plain = bark.semantic.layers[0].mlp.in_proj, tiny_bark().semantic.layers[0].mlp.in_proj
    change = 0.5 * layer.get_delta_weight("anna") / 0.5 + layer.get_delta_weight("ben")
    merged = merge_adapters(bark)
    assert torch.allclose(merged.semantic.layers[0].mlp.in_proj.weight, plain.weight + change, atol=1e-6)
    assert losses(merged) == pytest.approx(losses(bark), abs=1e-5)
    set_adapters(bark, "ben")
    assert losses(bark) == ben


def test_weights_multiply_the_change(tmp_path):
    bark = adapted_bark(stages=["semantic"])
    layer = bark.semantic.layers[0].attn.att_proj
    whole = layer.get_delta_weight("a")
    set_adapters(bark, {"a": 0.5})
    assert torch.allclose(layer.get_delta_weight("a"), whole / 2)
    set_adapters(bark, "a")
    assert torch.equal(layer.get_delta_weight("a"), whole)


def test_adapters_of_different_stages_work_together(tmp_path):
    bundle_of(adapted_bark(1, stages=["semantic"]), tmp_path / "words")
    bundle_of(adapted_bark(2, stages=["coarse", "fine"]), tmp_path / "sound")
    bark = tiny_bark()
    load_adapters(bark, tmp_path / "words")
    words = losses(bark)
    load_adapters(bark, tmp_path / "sound")
    sound, base = losses(bark), losses(tiny_bark())
    assert sound[0] == base[0] and words[1:] == base[1:]
    set_adapters(bark, {"words": 1, "sound": 1})
    assert losses(bark) == [words[0], *sound[1:]]


def test_removed_adapters_leave_the_bark_as_it_was(tmp_path):
    base, bark = tiny_bark(), adapted_bark()
    add_adapters(bark, {"semantic": lora_config()}, name="b")
    set_adapters(bark, "a")
    remove_adapters(bark, "b")
    assert losses(bark) == losses(adapted_bark())
    remove_adapters(bark, "a")
    assert bark.state_dict().keys() == base.state_dict().keys() and losses(bark) == losses(base)
    assert loaded_adapters(bark) == {} and not bark.semantic._hf_peft_config_loaded
    bark.save_pretrained(tmp_path)
    assert losses(BarkModel.from_pretrained(tmp_path).eval()) == losses(base)


def test_merging_leaves_the_bark_as_it_is():
    bark = adapted_bark()
    before, weight = losses(bark), bark.semantic.layers[0].attn.att_proj.base_layer.weight.clone()
    merge_adapters(bark)
    assert losses(bark) == before and torch.equal(bark.semantic.layers[0].attn.att_proj.base_layer.weight, weight)


def test_an_adapter_of_another_bark_is_refused(tmp_path):
    bundle_of(adapted_bark(), tmp_path)
    bark = tiny.tiny_bark(vocab_size=60)
    with pytest.raises(AdapterError, match=r"trained on another Bark, me/tiny.*input_vocab_size 90 there, 100 here"):
        load_adapters(bark, tmp_path)
    assert loaded_adapters(bark) == {}
    bark = tiny_bark()
    bark.generation_config.semantic_config["semantic_infer_token"] = 88
    with pytest.raises(AdapterError, match="semantic_infer_token 89 there, 88 here"):
        load_adapters(bark, tmp_path)


def damage_config(folder, **values):
    file = folder / "semantic" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def damage_bundle(folder, **values):
    file = folder / "bundle.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def drop_tensor(folder):
    file = folder / "semantic" / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors.popitem()
    save_file(tensors, file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "bundle.json").unlink(), "no bundle.json"),
        (lambda folder: (folder / "bundle.json").write_text("["), "not JSON"),
        (lambda folder: (folder / "bundle.json").write_text("[]"), "holds a list"),
        (lambda folder: damage_bundle(folder, format=2), "format 2"),
        (lambda folder: damage_bundle(folder, ranks={"../semantic": 4}), "damaged"),
        (lambda folder: damage_bundle(folder, ranks={"semantic": "4"}), "damaged"),
        (lambda folder: damage_bundle(folder, base_model=None), "damaged"),
        (lambda folder: damage_bundle(folder, package_version=["0.2"]), "damaged"),
        (lambda folder: (folder / "semantic" / "adapter_config.json").unlink(), "no adapter_config.json"),
        (lambda folder: (folder / "semantic" / "adapter_model.safetensors").unlink(), "cannot be read"),
        (lambda folder: (folder / "semantic" / "adapter_model.safetensors").write_bytes(b"\x80"), "cannot be read"),
        (drop_tensor, "does not match its own description"),
        (lambda folder: damage_config(folder, r=8), "does not match its own description"),
        (lambda folder: damage_config(folder, r=10**9), "`rank`"),
        (lambda folder: damage_config(folder, megatron_config={}, megatron_core="os"), "megatron_core"),
        (lambda folder: damage_config(folder, modules_to_save=["lm_head"]), "modules_to_save"),
        (lambda folder: damage_config(folder, alpha_pattern={"att_proj": 100}), "alpha_pattern"),
        (lambda folder: damage_config(folder, init_lora_weights="pissa"), "init_lora_weights"),
        (lambda folder: damage_config(folder, target_modules="(a+)+$"), "`targets`"),
        (lambda folder: damage_config(folder, peft_type="IA3"), "IA3"),
        (lambda folder: damage_config(folder, new_option=True), "new_option"),
    ],
)  # fmt: skip
def test_a_damaged_or_surprising_bundle_is_refused_and_the_bark_stays_as_it_is(tmp_path, damage, message):
    bundle_of(adapted_bark(stages=["semantic"]), tmp_path)
    damage(tmp_path)
    bark = tiny_bark()
    with pytest.raises(AdapterError, match=message):
        load_adapters(bark, tmp_path)
    assert bark.state_dict().keys() == tiny_bark().state_dict().keys()


def test_a_bundle_is_loaded_from_the_hub_under_its_name(tmp_path, monkeypatch):
    asked = []
    bundle_of(adapted_bark(), tmp_path)
    monkeypatch.setattr(adapter_bundle, "snapshot_download", lambda *args, **kwargs: asked.append(kwargs) or tmp_path)
    bark = tiny_bark()
    assert load_adapters(bark, "me/anna-v1.5", revision="main").name == "anna-v1_5"
    assert asked == [{"allow_patterns": list(ADAPTER.allowed), "revision": "main"}]
    assert losses(bark) == losses(adapted_bark())


def test_a_hub_id_that_is_not_there_says_so():
    with pytest.raises(OSError, match="Cannot load the adapter 'nobody/nothing'"):
        load_adapters(tiny_bark(), "nobody/nothing")


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda bark: set_adapters(bark, "b"), "no adapter 'b'; loaded are a"),
        (lambda bark: set_adapters(bark, {"a": float("nan")}), "must be a number"),
        (lambda bark: remove_adapters(bark, "b"), "no adapter 'b'"),
        (lambda bark: save_adapters(bark, "x", name="b"), "no adapter 'b'"),
        (lambda bark: add_adapters(bark, {"fine": lora_config()}, name="a"), "already"),
        (lambda bark: add_adapters(bark, {"codec": lora_config()}), "'codec'"),
        (lambda bark: add_adapters(bark, {}), "one or more"),
        (lambda bark: add_adapters(bark, {"fine": lora_config()}, name="v1.5"), "not a valid name"),
        (lambda bark: add_adapters(bark, {"fine": lora_config()}, name="keys"), "not a valid name"),
        (lambda bark: lora_config(rank=0), "`rank` is 0"),
        (lambda bark: lora_config(alpha=0), "`alpha`"),
        (lambda bark: lora_config(dropout=1), "`dropout`"),
        (lambda bark: lora_config(targets=["lm_head"]), "`targets`"),
    ],
)
def test_what_cannot_be_done_is_said(use, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdapterError, match=message):
        use(adapted_bark())


def test_dora_adapters_are_used_alone_and_whole():
    bark = adapted_bark(use_dora=True)
    add_adapters(bark, dict.fromkeys(STAGES, lora_config()), name="b")
    add_adapters(bark, {"semantic": lora_config()}, name="c")
    for weights in ({"a": 0.5}, {"a": 1, "b": 1}):
        with pytest.raises(AdapterError, match="DoRA"):
            set_adapters(bark, weights)
    remove_adapters(bark, "a")
    add_adapters(bark, {"fine": lora_config(use_dora=True)}, name="a")
    set_adapters(bark, "c")
    with pytest.raises(AdapterError, match="DoRA"):
        set_adapters(bark, {"a": 0.5, "b": 1})
    assert bark.semantic.layers[0].attn.att_proj.active_adapters == ["c"]  # nothing was changed


def test_nan_is_not_merged():
    bark = adapted_bark(stages=["fine"])
    with torch.no_grad():
        next(iter(adapter_parameters(bark.fine_acoustics, "a").values())).fill_(float("nan"))
    with pytest.raises(AdapterError, match=r"fine\.layers.*NaN"):
        merge_adapters(bark)


def test_a_local_path_is_not_published(tmp_path):
    tiny_bark().save_pretrained(tmp_path / "secret" / "tiny")
    bark = BarkModel.from_pretrained(tmp_path / "secret" / "tiny")
    add_adapters(bark, {"semantic": lora_config()})
    save_adapters(bark, tmp_path / "bundle")
    assert not any(b"secret" in file.read_bytes() for file in (tmp_path / "bundle").rglob("*") if file.is_file())
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["base_model"] == "tiny"


def test_a_bark_with_adapters_can_be_copied():
    bark = adapted_bark()
    assert losses(copy.deepcopy(bark)) == losses(bark)
