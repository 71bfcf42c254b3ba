"""The encoder: inputs, outputs, and the equality of a batch and its rows."""

import inspect

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, SeamlessM4TFeatureExtractor, WhisperFeatureExtractor, WhisperModel

from hf_bark_semantic import BarkSemanticEncoderConfig, BarkSemanticEncoderModel, BarkSemanticEncoderProcessor
from hf_bark_semantic.backbones_bark_semantic import build_backbone, kaldi_filter_banks, whisper_log_mel
from hf_bark_semantic.configuration_bark_semantic import (
    CODEC_RATE_HZ,
    FRAME_RATE_HZ,
    num_semantic_tokens,
    num_semantic_tokens_of_samples,
)
from hf_bark_semantic.modeling_bark_semantic import plan_windows
from hf_bark_semantic.trainers.augmentation import SpectrogramAugmentation
from tiny import BACKBONES, backbone_config, noise, random_codes, tiny_encoder

WRONG = {  # of each field of the config: values that its rule refuses, with the other fields that they are wrong with
    "backbone_config": [{"backbone_config": 3}, {"backbone_config": {"model_type": "bert"}}, {"backbone_config": {}}],
    "backbone_layers": [{"backbone_layers": 9}, {"backbone_layers": []}, {"backbone_layers": [4]}],
    "normalize_features": [{"normalize_features": "no"}],
    "codec_hidden_size": [{"codec_hidden_size": -1}, {"backbone_config": None, "codec_hidden_size": 0}],
    "codec_num_layers": [{"codec_num_layers": 0}],
    "codec_kernel_size": [{"codec_kernel_size": 4}, {"codec_kernel_size": 0}],
    "codec_output": [{"codec_output": "tokens"}, {"codec_output": "spectrogram", "codec_hidden_size": 16}],
    "codec_weight": [{"codec_weight": 1.5}, {"codec_weight": None}],
    "head_type": [{"head_type": "quadratic"}],
    "hidden_size": [{"hidden_size": 0}]
    + [{"hidden_size": 100, "head_type": head, "num_hidden_layers": 1} for head in ("transformer", "embedding")],
    "num_hidden_layers": [{"num_hidden_layers": -1}]
    + [{"num_hidden_layers": 0, "head_type": head} for head in ("recurrent", "transformer", "autoregressive")],
    "num_attention_heads": [
        {"num_attention_heads": 0},
        {"num_attention_heads": 5, "head_type": "autoregressive"},
    ],
    "intermediate_size": [{"intermediate_size": 1.5}],
    "dropout": [{"dropout": 1}, {"dropout": float("nan")}],
    "conv_kernel_size": [{"conv_kernel_size": 2}, {"conv_kernel_size": -1}],
    "embedding_size": [{"embedding_size": 0}],
    "vocab_size": [{"vocab_size": 0}, {"vocab_size": "50"}],
    "num_codebooks": [{"num_codebooks": 0}],
    "codebook_size": [{"codebook_size": True}],
    "label_smoothing": [{"label_smoothing": 1}],
    "frame_offset": [{"frame_offset": 50}, {"frame_offset": 0.5}],
    "num_transitions": [{"num_transitions": n} for n in (-1, 1.5)],
    "transition_weight": [{"transition_weight": w} for w in (-1, 11, None)],
    "temperatures": [{"temperatures": t} for t in (1.5, {"video": 1.0}, {"codes": 0.0}, {"audio": float("nan")})],
    "input_level_db": [{"input_level_db": 3}, {"input_level_db": float("-inf")}],
    "window_s": [
        {"window_s": 2.4},
        {"window_s": float("inf")},
        {"window_s": 60, "head_type": "autoregressive", "num_attention_heads": 4},
        {"window_s": 60, "backbone_config": backbone_config("whisper")},
    ],
    "overlap_s": [{"overlap_s": -1}, {"overlap_s": None}],
}
processor = BarkSemanticEncoderProcessor()
LENGTHS_S = (1.31, 0.52, 2.0)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_batch_gives_what_its_rows_give_alone(backbone):
    model = tiny_encoder(backbone, backbone_layers=[1, 3], head_type="transformer", conv_kernel_size=3)
    waveforms = [noise(seconds, seed) for seed, seconds in enumerate(LENGTHS_S)]
    with torch.no_grad():
        batch = model(**processor(waveforms))
        for row, waveform in enumerate(waveforms):
            alone = model(**processor(waveform))
            n = int(alone.num_tokens[0])
            assert n == int(batch.num_tokens[row]) == num_semantic_tokens_of_samples(len(waveform))
            torch.testing.assert_close(batch.logits[row, :n], alone.logits[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("codec_output", ["features", "spectrogram"])
def test_batch_of_codes_gives_what_its_rows_give_alone(codec_output):
    model = tiny_encoder("whisper", codec_hidden_size=16, codec_output=codec_output, head_type="transformer")
    codes = [random_codes(frames, frames) for frames in (90, 31, 150)]
    with torch.no_grad():
        batch = model(**processor(audio_codes=codes))
        for row, item in enumerate(codes):
            alone = model(**processor(audio_codes=item))
            n = int(alone.num_tokens[0])
            assert n == num_semantic_tokens(item.shape[1])
            torch.testing.assert_close(batch.logits[row, :n], alone.logits[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("head", ["linear", "recurrent", "transformer", "embedding", "autoregressive"])
def test_every_head_batches_and_learns(head):
    model = tiny_encoder("hubert", head_type=head)
    waveforms = [noise(seconds, seed) for seed, seconds in enumerate(LENGTHS_S)]
    inputs = processor(waveforms)
    with torch.no_grad():
        batch = model.encode(**inputs)
        for row, waveform in enumerate(waveforms):
            alone = model.encode(**processor(waveform))
            assert (
                batch.semantic_tokens[row, : int(batch.num_tokens[row])].tolist() == alone.semantic_tokens[0].tolist()
            )
    labels = torch.where(batch.semantic_tokens < 0, -100, (batch.semantic_tokens + 7) % 50)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        losses.append(model(**inputs, labels=labels).loss)
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("layer", [1, 3])
def test_cut_backbone_equals_the_full_one(backbone, layer):
    """Only the layers that are read are built, and they say what transformers' own model says."""
    torch.manual_seed(0)
    config = backbone_config(backbone)
    config._attn_implementation = "eager"
    full = AutoModel.from_config(config).eval()
    model = BarkSemanticEncoderModel.from_backbone(full, backbone_layers=[layer], vocab_size=50).eval()
    waveform = torch.from_numpy(noise(1.7))[None]
    with torch.no_grad():
        ours = model.backbone(waveform, None)[layer]
        if backbone == "whisper":
            assert len(model.backbone.model.layers) == layer
            return  # its own forward takes 30 s only: see below
        inputs = {"input_values": waveform}
        if backbone == "wav2vec2-bert":
            inputs = SeamlessM4TFeatureExtractor()(waveform[0].numpy(), sampling_rate=16_000, return_tensors="pt")
        output = full(**inputs, output_hidden_states=True)
        theirs = output.last_hidden_state if layer == config.num_hidden_layers else output.hidden_states[layer]
    frames = ours.shape[1]
    assert len(model.backbone.model.encoder.layers) == layer
    torch.testing.assert_close(ours, theirs[:, :frames], atol=2e-4 if "bert" in backbone else 2e-5, rtol=1e-3)


def test_a_checkpoint_without_some_weights_is_refused_instead_of_made_up(tmp_path):
    model = tiny_encoder()
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = next(name for name in weights if name.startswith("head."))
    save_file({key: value for key, value in weights.items() if key != name}, tmp_path / "model.safetensors")
    for load in (BarkSemanticEncoderModel.from_pretrained, AutoModel.from_pretrained):
        with pytest.raises(ValueError, match="lacks 1 of its weights, such as 'head"):
            load(tmp_path)


def test_the_backbone_of_an_encoder_is_one_for_another(tmp_path):
    torch.manual_seed(0)
    full = AutoModel.from_config(backbone_config("hubert-large"))
    BarkSemanticEncoderModel.from_backbone(full, backbone_layers=[1, 2], vocab_size=50).save_pretrained(tmp_path)
    whole, cut = (
        BarkSemanticEncoderModel.from_backbone(backbone, backbone_layers=[2], vocab_size=50).eval()
        for backbone in (full, str(tmp_path))
    )
    waveform = torch.from_numpy(noise(0.5))[None]
    with torch.no_grad():
        assert torch.equal(whole.backbone(waveform, None)[0], cut.backbone(waveform, None)[0])
    with pytest.raises(ValueError, match="has no weights for .*layers.2"):
        BarkSemanticEncoderModel.from_backbone(str(tmp_path), backbone_layers=[3], vocab_size=50)
    BarkSemanticEncoderModel(BarkSemanticEncoderConfig(codec_hidden_size=16)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="an encoder without a backbone"):
        BarkSemanticEncoderModel.from_backbone(str(tmp_path))


def test_whisper_backbone_equals_transformers_on_30_seconds():
    torch.manual_seed(0)
    full = WhisperModel(backbone_config("whisper")).eval()
    model = BarkSemanticEncoderModel.from_backbone(full, backbone_layers=[2, 3], vocab_size=50).eval()
    waveform = torch.from_numpy(noise(30.0))[None]
    features = WhisperFeatureExtractor()(waveform[0].numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        theirs = full.encoder(features.input_features, output_hidden_states=True).hidden_states
        ours = model.backbone(waveform, None)
    assert len(ours) == len(theirs)
    for own, other in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-3)


def test_spectrograms_equal_transformers_feature_extractors():
    waveform = noise(3.0)
    ours = whisper_log_mel(torch.from_numpy(waveform)[None], None, 80)[0]
    theirs = WhisperFeatureExtractor()(waveform, sampling_rate=16_000, return_tensors="pt").input_features[0].T[:300]
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)
    ours = kaldi_filter_banks(torch.from_numpy(waveform)[None], None, 80)[0]
    theirs = SeamlessM4TFeatureExtractor()(waveform, sampling_rate=16_000, return_tensors="pt").input_features[0]
    torch.testing.assert_close(ours, theirs[: len(ours)], atol=5e-3, rtol=1e-3)


def test_deeper_layers_than_are_read_do_not_exist():
    model = tiny_encoder("hubert", backbone_layers=[1])
    assert not any("encoder.layers.1." in name for name in model.state_dict())


def test_windows_cover_every_token_once_and_give_enough_context():
    config = tiny_encoder().config
    config.window_s, config.overlap_s = 4.0, 1.0
    for num_tokens in [1, 50, 197, 198, 199, 200, 201, 250, 499, 1000, 2345]:
        windows = plan_windows(num_tokens, config)
        kept = [token for window in windows for token in range(window.keep_from, window.keep_to)]
        assert kept == list(range(num_tokens))
        assert all(w.start_frame % 2 == 0 and w.stop_frame - w.start_frame <= 204 for w in windows)
        assert all(w.first_token <= w.keep_from and w.keep_to <= w.first_token + w.num_tokens for w in windows)
        for before, behind in zip(windows, windows[1:], strict=False):
            assert (
                before.first_token + before.num_tokens - before.keep_to >= 10
            )  # tokens of context, ~0.5 s less rounding
            assert behind.keep_from - behind.first_token >= 10


@pytest.mark.parametrize("backbone", ["whisper", "hubert-large"])
def test_long_audio_in_windows_agrees_with_one_pass(backbone):
    """Features of a neighbourhood are the same in a window, but for what is normalized over time."""
    model = tiny_encoder(backbone, backbone_layers=[0], codec_hidden_size=16, codec_num_layers=2)
    if backbone == "whisper":
        model.backbone.model.embed_positions.weight.data.zero_()
    waveform, codes = noise(12.4), random_codes(930)
    one_pass = model.encode(**processor(waveform, audio_codes=codes))
    model.config.window_s, model.config.overlap_s = 5.0, 2.0
    windows = model.encode(**processor(waveform, audio_codes=codes))
    assert int(windows.num_tokens[0]) == int(one_pass.num_tokens[0]) == num_semantic_tokens(930)
    assert (windows.semantic_tokens == one_pass.semantic_tokens).float().mean() > 0.97


def test_codes_in_windows_equal_one_pass():
    model = tiny_encoder(None, codec_hidden_size=16, codec_num_layers=2)
    codes = random_codes(2000)
    one_pass = model.encode(**processor(audio_codes=codes))
    model.config.window_s, model.config.overlap_s = 5.0, 2.0
    torch.testing.assert_close(model.encode(**processor(audio_codes=codes)).confidence, one_pass.confidence)


def test_audio_and_codes_together_are_the_weighted_mean_of_their_log_probabilities():
    model = tiny_encoder("whisper", codec_hidden_size=16, codec_output="spectrogram", codec_weight=0.3)
    waveform, codes = noise(2.0), random_codes(150)
    with torch.no_grad():
        audio = model(**processor(waveform)).logits.log_softmax(-1)
        of_codes = model(**processor(audio_codes=codes)).logits.log_softmax(-1)
        both = model(**processor(waveform, audio_codes=codes)).logits
    torch.testing.assert_close(both, 0.7 * audio + 0.3 * of_codes)


def test_spectrogram_augmentation_changes_what_is_heard_and_what_is_read_until_it_is_taken_out():
    model = tiny_encoder("whisper", codec_hidden_size=16, codec_output="spectrogram")
    for inputs in (processor(noise(1.0)), processor(audio_codes=random_codes(75))):
        with torch.no_grad():
            plain = model.features(**inputs)
            model.backbone.augmentation = SpectrogramAugmentation(1.0, (1.1, 1.15), 0, 0, 0, 0)
            assert not torch.allclose(model.features(**inputs), plain, atol=1e-3)
            model.backbone.augmentation = None
            assert torch.equal(model.features(**inputs), plain)


def test_unknown_codebooks_are_those_left_out():
    model = tiny_encoder(None, codec_hidden_size=16)
    codes = random_codes(60)
    unknown = codes.copy()
    unknown[2:] = 1024
    with torch.no_grad():
        assert torch.equal(
            model(**processor(audio_codes=codes[:2])).logits, model(**processor(audio_codes=unknown)).logits
        )


def test_a_front_end_for_coarse_codes_ignores_the_fine_ones():
    model = tiny_encoder(None, codec_hidden_size=16, num_codebooks=2)
    codes = random_codes(60)
    with torch.no_grad():
        assert torch.equal(
            model(**processor(audio_codes=codes)).logits, model(**processor(audio_codes=codes[:2])).logits
        )


def test_top_k_starts_with_the_token_and_its_confidence():
    model = tiny_encoder()
    result = model.encode(**processor([noise(1.0), noise(0.6, 1)]), top_k=4)
    assert result.top_k_tokens.shape == (2, int(result.num_tokens.max()), 4)
    assert torch.equal(result.top_k_tokens[..., 0], result.semantic_tokens)
    assert torch.equal(result.top_k_confidence[..., 0], result.confidence)
    assert (result.top_k_confidence.diff(dim=-1) <= 0).all()
    n = int(result.num_tokens[1])
    assert (result.semantic_tokens[1, n:] == -100).all() and (result.confidence[1, n:] == 0).all()


@pytest.mark.parametrize("kind", ["audio", "codes", "audio+codes"])
def test_a_temperature_changes_the_confidence_of_its_kind_of_input_and_no_token(kind):
    model, given = tiny_encoder(codec_hidden_size=16), {"audio": noise(1.0), "audio_codes": random_codes(75)}
    inputs = processor(**{name: given[name] for name in given if name.removeprefix("audio_") in kind.split("+")})
    plain = model.encode(**inputs, top_k=50)
    model.config.temperatures = {name: 3.0 for name in ("audio", "codes", "audio+codes") if name != kind}
    assert all(torch.equal(value, plain[name]) for name, value in model.encode(**inputs, top_k=50).items())
    model.config.temperatures = {kind: 2.0}
    tempered = model.encode(**inputs, top_k=50)
    assert torch.equal(tempered.top_k_tokens, plain.top_k_tokens)
    expected = (plain.top_k_confidence.log() / 2).softmax(-1)  # all 50 tokens of the vocabulary
    torch.testing.assert_close(tempered.top_k_confidence, expected)
    assert torch.equal(tempered.confidence, tempered.top_k_confidence[..., 0])


def test_embedding_head_reads_out_the_nearest_row_and_the_float_prompt():
    model = tiny_encoder(head_type="embedding", embedding_size=12, num_hidden_layers=0)
    result = model.encode(**processor(noise(1.0)), output_embeddings=True)
    distance = torch.cdist(result.embeddings[0], model.head.token_embeddings)
    assert result.embeddings.shape[-1] == 12
    assert torch.equal(distance.argmin(-1), result.semantic_tokens[0])


def test_centroid_head_matches_nearest_centroid_and_never_says_an_unseen_token():
    model = tiny_encoder()
    features = torch.randn(200, 32)
    centroids = torch.randn(50, 32)
    seen = torch.arange(50) % 3 != 0
    model.head.from_centroids(torch.where(seen[:, None], centroids, torch.nan), seen)
    nearest = torch.cdist(features, centroids).masked_fill(~seen, torch.inf).argmin(-1)
    assert torch.equal(model.head(features).argmax(-1), nearest)
    assert torch.isfinite(model.half().head.output.bias).all()


def test_autoregressive_decoding_equals_teacher_forcing_on_its_own_output():
    model = tiny_encoder(head_type="autoregressive", num_hidden_layers=2)
    inputs = processor([noise(1.0), noise(0.7, 1)])
    with torch.no_grad():
        free = model(**inputs)
        tokens = free.logits.argmax(-1)
        forced = model(**inputs, labels=tokens)
    for row in range(2):
        n = int(free.num_tokens[row])
        torch.testing.assert_close(forced.logits[row, :n], free.logits[row, :n], atol=2e-5, rtol=1e-4)


def test_frozen_backbone_stays_in_evaluation_mode_and_gets_no_gradient():
    model = tiny_encoder("hubert").freeze_backbone().train()
    inputs = processor(noise(1.0))
    labels = torch.ones(1, num_semantic_tokens_of_samples(16_000), dtype=torch.long)
    model(**inputs, labels=labels).loss.backward()
    assert not model.backbone.training and model.head.training
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert model.head.output.weight.grad is not None


@pytest.mark.parametrize("backbone", ["hubert", "whisper", "wav2vec2-bert"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same_probabilities(backbone, dtype):
    model = tiny_encoder(backbone, head_type="transformer")
    inputs = processor([noise(1.0), noise(0.8, 1)])
    with torch.no_grad():
        full, probabilities = model.encode(**inputs), model(**inputs).logits.softmax(-1)
    half = model.to(dtype).encode(**inputs)
    # of a random model, equally likely tokens change places, so what counts is how likely the chosen ones are
    chosen = probabilities.gather(-1, half.semantic_tokens.clamp(min=0)[..., None])[..., 0]
    spoken = full.semantic_tokens >= 0
    assert torch.equal(half.semantic_tokens >= 0, spoken)
    torch.testing.assert_close(chosen[spoken], full.confidence[spoken], atol=0.03, rtol=0.2)
    torch.testing.assert_close(half.confidence, full.confidence, atol=0.03, rtol=0.2)


@pytest.mark.parametrize("backbone", ["whisper", "hubert-large"])
def test_with_an_input_level_loud_and_quiet_recordings_have_equal_tokens(backbone):
    model = tiny_encoder(backbone, input_level_db=-20.0)
    waveform = noise(1.5)
    waveforms = [waveform, 0.05 * waveform, 3 * waveform[:16_000]]
    batch = model.encode(**processor(waveforms))
    assert torch.equal(batch.semantic_tokens[0], batch.semantic_tokens[1])
    alone = model.encode(**processor(waveform[:16_000]))
    assert torch.equal(batch.semantic_tokens[2, : int(alone.num_tokens[0])], alone.semantic_tokens[0])
    silent = model(**processor(0 * waveform))
    assert torch.isfinite(silent.logits).all()


@pytest.mark.parametrize("name", list(inspect.signature(BarkSemanticEncoderConfig).parameters)[:-1])
def test_every_field_of_the_config_has_a_rule(name):
    base = {"backbone_config": backbone_config("hubert"), "backbone_layers": [2]}
    BarkSemanticEncoderConfig(**base)
    for values in WRONG[name]:
        with pytest.raises(ValueError, match=f"^`{name}` is .*must be "):
            BarkSemanticEncoderConfig(**{**base, **values})


def test_the_longest_windows_fit_the_positions_of_their_readers():
    for backbone, longest_s, head in (("whisper", 30, "linear"), ("hubert", 40, "autoregressive")):
        config = tiny_encoder(backbone, head_type=head, window_s=longest_s).config
        windows = plan_windows(num_semantic_tokens(CODEC_RATE_HZ * 200), config)
        assert max(window.num_tokens for window in windows) <= longest_s * FRAME_RATE_HZ
        with pytest.raises(ValueError, match=f"`window_s` is .* must be {longest_s} or less"):
            tiny_encoder(backbone, head_type=head, window_s=longest_s + 0.02)
    model = tiny_encoder("whisper", window_s=30)
    for seconds in (29.99, 30.0, 30.03, 47.3):
        tokens = model.encode(**processor(noise(seconds)))
        assert int(tokens.num_tokens[0]) == num_semantic_tokens_of_samples(int(seconds * 16_000))


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="labels for 3 tokens"):
        tiny_encoder()(**processor(noise(1.0)), labels=torch.zeros(1, 3, dtype=torch.long))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "Nothing to encode"),
        ({"input_values": torch.zeros(16_000)}, "shape"),
        ({"input_values": torch.zeros(1, 100)}, "at least 800"),
        ({"audio_codes": torch.zeros(1, 9, 50, dtype=torch.long)}, "1 to 8 codebooks"),
        ({"audio_codes": torch.zeros(1, 8, 50)}, "whole numbers"),
        ({"audio_codes": torch.full((1, 8, 50), 1025)}, "0 to 1023"),
        ({"input_values": torch.zeros(1, 16_000), "attention_mask": torch.zeros(1, 5)}, "attention_mask"),
        ({"input_values": torch.zeros(1, 900), "attention_mask": torch.arange(900)[None] > 50}, "padded on the right"),
        (
            {"input_values": torch.zeros(1, 16_000), "audio_codes": torch.zeros(1, 8, 150, dtype=torch.long)},
            "must be of the same recording",
        ),
    ],
)
def test_impossible_inputs_are_refused_with_the_rule(inputs, message):
    model = tiny_encoder("whisper", codec_hidden_size=16)
    for call in (model, model.encode):
        with pytest.raises(ValueError, match=message):
            call(**inputs)


def test_audio_beyond_whispers_window_is_refused_by_forward_and_encoded_by_encode():
    model = tiny_encoder("whisper")
    inputs = processor(noise(31.0))
    with pytest.raises(ValueError, match="encode"):
        model(**inputs)
    assert int(model.encode(**inputs).num_tokens[0]) == num_semantic_tokens_of_samples(31 * 16_000)


def test_compiled_model_gives_the_same_logits():
    model = tiny_encoder("whisper", head_type="transformer")
    inputs = processor([noise(1.0), noise(1.0, 1)])
    with torch.no_grad():
        expected = model(**inputs).logits
        compiled = torch.compile(model, backend="aot_eager")(**inputs).logits
    torch.testing.assert_close(compiled, expected, atol=1e-5, rtol=1e-4)


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = tiny_encoder("hubert").train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for parameter in (model.backbone.config, *(m.attention for m in model.backbone.model.encoder.layers)):
            if hasattr(parameter, "dropout"):
                parameter.dropout = 0.0
        if checkpointing:
            model.activation_checkpointing_enable()
        labels = torch.ones(1, num_semantic_tokens_of_samples(16_000), dtype=torch.long)
        model(**processor(noise(1.0)), labels=labels).loss.backward()
        gradients.append(model.backbone.model.encoder.layers[0].feed_forward.output_dense.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_build_backbone_knows_how_many_frames_each_makes():
    for name in BACKBONES:
        model = tiny_encoder(name)
        for num_samples in (800, 16_000, 23_457):
            states = model.backbone(torch.from_numpy(noise(num_samples / 16_000))[None][:, :num_samples], None)
            assert states[0].shape[1] == model.backbone.num_frames(num_samples), name
    assert build_backbone(model.config).num_frames(None) is None
