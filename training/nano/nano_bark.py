"""nano's shape and ids: a `BarkModel` with small configs, and the text tokenizer.

All values differ from Suno's: 500 semantic ids, another text vocabulary, shorter windows. The library reads them from
the generation config.
"""

import string

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    BarkCoarseConfig,
    BarkConfig,
    BarkFineConfig,
    BarkModel,
    BarkSemanticConfig,
    EncodecConfig,
    EncodecModel,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

SEMANTIC_VOCAB_SIZE, CODEBOOK_SIZE = 500, 1_024
TEXT_OFFSET = 512
MAX_TEXT, MAX_TOKENS = 160, 448  # ids of text and of history; semantic tokens of one generation: 9 s
COARSE_INPUT, COARSE_HISTORY, COARSE_WINDOW = 192, 420, 90  # a longer window needs fewer prefills
FINE_INPUT, FINE_HISTORY = 512, 256
PUNCTUATION = list(string.punctuation + "♪…—’“”")


def text_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of single letters. Letters have similar durations, unlike words, so the position in the
    text gives the time in the speech ([`align_positions`])."""
    letters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", *PUNCTUATION, *letters, *(f"##{letter}" for letter in letters)]
    ids = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=40))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


def bark_config(codec_config: EncodecConfig, text_vocab_size: int) -> BarkConfig:
    text_pad = TEXT_OFFSET + text_vocab_size
    coarse_vocab = SEMANTIC_VOCAB_SIZE + 2 * CODEBOOK_SIZE + 2  # two codebooks, pad, infer
    shape = {"hidden_size": 256, "num_heads": 4, "num_layers": 4, "bias": False}
    return BarkConfig(
        semantic_config=BarkSemanticConfig(
            **shape, dropout=0.1, block_size=MAX_TEXT + 1 + MAX_TOKENS, input_vocab_size=text_pad + 2,
            output_vocab_size=TEXT_OFFSET,
        ).to_dict(),
        coarse_acoustics_config=BarkCoarseConfig(
            **shape, dropout=0.1, block_size=COARSE_INPUT + 1 + COARSE_HISTORY + COARSE_WINDOW,
            input_vocab_size=coarse_vocab, output_vocab_size=coarse_vocab,
        ).to_dict(),
        fine_acoustics_config=BarkFineConfig(
            hidden_size=192, num_heads=3, num_layers=3, dropout=0.0, bias=False, block_size=FINE_INPUT,
            input_vocab_size=CODEBOOK_SIZE + 1, output_vocab_size=CODEBOOK_SIZE + 1, n_codes_total=8, n_codes_given=1,
        ).to_dict(),
        codec_config=codec_config.to_dict(),
    )  # fmt: skip


def generation_config(text_vocab_size: int) -> GenerationConfig:
    text_pad = TEXT_OFFSET + text_vocab_size
    end = SEMANTIC_VOCAB_SIZE
    return GenerationConfig(
        semantic_config={
            "eos_token_id": end, "pad_token_id": end, "semantic_pad_token": end, "max_new_tokens": MAX_TOKENS,
            "semantic_vocab_size": end, "semantic_rate_hz": 49.9, "max_input_semantic_length": MAX_TEXT,
            "text_encoding_offset": TEXT_OFFSET, "text_pad_token": text_pad, "semantic_infer_token": text_pad + 1,
            "do_sample": True, "temperature": 0.7, "top_k": 0, "speech_temperature": 0.5,
        },
        coarse_acoustics_config={
            "coarse_semantic_pad_token": end + 2 * CODEBOOK_SIZE, "coarse_infer_token": end + 2 * CODEBOOK_SIZE + 1,
            "coarse_rate_hz": 75, "n_coarse_codebooks": 2, "max_coarse_input_length": COARSE_INPUT,
            "max_coarse_history": COARSE_HISTORY, "sliding_window_len": COARSE_WINDOW,
            "do_sample": True, "temperature": 0.7, "top_k": 0,  # no pad_token_id: generate() would mask padding
            "condition_guidance_scale": 2.0, "voice_guidance_scale": 2.0, "speech_temperature": 0.5,
        },
        fine_acoustics_config={
            "n_fine_codebooks": 8, "max_fine_history_length": FINE_HISTORY, "max_fine_input_length": FINE_INPUT,
            "temperature": 0.5,
        },
        codebook_size=CODEBOOK_SIZE, sample_rate=24_000,
    )  # fmt: skip


def new_bark(codec_config: EncodecConfig, text_vocab_size: int) -> BarkModel:
    """A nano with random weights; the codec's weights must be loaded."""
    bark = BarkModel(bark_config(codec_config, text_vocab_size))
    bark.generation_config = generation_config(text_vocab_size)
    return bark


def align_positions(bark: BarkModel, seconds_per_text_id: float):
    """Initialize the position embeddings of the three models by time.

    With random initialization, a model has to learn for each output position which part of its input is spoken there.
    A few hours of speech are not enough for that: the coarse model then ignores its tokens. So positions start as
    sinusoids of their time, and in the first layer, a narrow and a wide head attend to the same time.
    """
    config = generation_config(0)
    semantic_rate, coarse = config.semantic_config["semantic_rate_hz"], config.coarse_acoustics_config
    token_times = (np.arange(MAX_TOKENS) + 0.5) / semantic_rate
    text_times = (np.arange(MAX_TEXT) + 0.5) * seconds_per_text_id
    frame_times = (np.arange(FINE_INPUT) + 0.5) / coarse["coarse_rate_hz"]
    code_times = frame_times[np.arange(COARSE_HISTORY + COARSE_WINDOW) // coarse["n_coarse_codebooks"]]
    _start_at_times(bark.semantic, text_times, token_times, periods=(0.5, 16.0))
    _start_at_times(bark.coarse_acoustics, token_times[:COARSE_INPUT], code_times, periods=(0.08, 8.0))
    frame_s = frame_times[1] - frame_times[0]
    for embedding in bark.fine_acoustics.input_embeds_layers:  # else frames attend to themselves
        embedding.weight.data[:, : bark.fine_acoustics.config.hidden_size // bark.fine_acoustics.config.num_heads] = 0
    _start_at_times(bark.fine_acoustics, frame_times, [], periods=(0.08, 8.0), offsets=(-frame_s, frame_s))


@torch.no_grad()
def start_from_codebooks(bark: BarkModel, codec: EncodecModel):
    """Initialize code embeddings and heads of the coarse and fine models as projections of the codec's vectors.

    So codes that sound similar have similar embeddings from the first step on.
    """
    vectors = [layer.codebook.embed for layer in codec.quantizer.layers]  # each (codebook_size, codec hidden_size)
    coarse, fine, size = bark.coarse_acoustics, bark.fine_acoustics, CODEBOOK_SIZE
    for codebook in range(bark.generation_config.coarse_acoustics_config["n_coarse_codebooks"]):
        rows = slice(SEMANTIC_VOCAB_SIZE + codebook * size, SEMANTIC_VOCAB_SIZE + (codebook + 1) * size)
        _project(vectors[codebook], coarse.input_embeds_layer.weight[rows], coarse.config)
        _project(vectors[codebook], coarse.lm_head.weight[rows], coarse.config)
    for codebook, embedding in enumerate(fine.input_embeds_layers):
        _project(vectors[codebook], embedding.weight[:size], fine.config)
        if codebook >= fine.config.n_codes_given:
            _project(vectors[codebook], fine.lm_heads[codebook - fine.config.n_codes_given].weight[:size], fine.config)


def _project(vectors: torch.Tensor, weight: torch.Tensor, config):
    """Fill `weight` `(codes, hidden_size)`, except the first head's dimensions, which encode time."""
    head = config.hidden_size // config.num_heads
    directions = torch.randn(vectors.shape[1], config.hidden_size - head) / vectors.shape[1] ** 0.5
    centred = vectors - vectors.mean(0)
    noise = 0.3 * torch.randn(len(vectors), config.hidden_size - head)
    weight[:, head:] = config.initializer_range * (centred / centred.std() @ directions + noise)
    weight[:, :head] = 0


@torch.no_grad()
def _start_at_times(model, input_times, output_times, periods: tuple[float, float], offsets=(0.0, 0.0)):
    """Positions `0 ... len(input_times)` are the input; the next one predicts the token at `output_times[0]`.

    The first head is narrow, the second wide; each attends to its own time plus an offset in seconds.
    """
    width, head = model.config.hidden_size, model.config.hidden_size // model.config.num_heads
    num_rates = head // 2 - 1
    rates = 2 * np.pi / np.geomspace(*periods, num_rates)
    times = np.concatenate([input_times, output_times])
    is_input = (np.arange(len(times)) < len(input_times))[:, None]
    columns = np.hstack([np.sin(times[:, None] * rates), np.cos(times[:, None] * rates), is_input, ~is_input])
    weight = 2 * model.config.initializer_range * torch.from_numpy(columns).float()
    model.position_embeds_layer.weight[: len(times), :head] = weight
    query, key = model.layers[0].attn.att_proj.weight[: 2 * width].view(2, model.config.num_heads, head, width)
    input_marker, output_marker = head - 2, head - 1
    for number, (fastest, offset) in enumerate(zip((0, num_rates // 3), offsets, strict=True)):
        slow = np.arange(num_rates) >= fastest
        cos, sin = np.diag(slow * np.cos(offset * rates)), np.diag(slow * np.sin(offset * rates))
        clock, later = np.kron(np.eye(2), np.diag(slow)), np.block([[cos, sin], [-sin, cos]])
        for projection, turn, marker in ((query[number], later, output_marker), (key[number], clock, input_marker)):
            projection.zero_()
            projection[: 2 * num_rates, : 2 * num_rates] = 1.2 * torch.from_numpy(turn).float()
            projection[input_marker, marker] = 3.5  # output positions attend to input positions
