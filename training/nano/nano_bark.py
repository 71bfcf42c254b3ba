"""nano's shape and ids: a `BarkModel` of small configs, and the text tokenizer.

Nothing here is Suno's: 500 semantic ids, another text vocabulary, shorter windows. What the library needs to know of
it stands in the generation config.
"""

import string

from sentences import vocabulary
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    BarkCoarseConfig,
    BarkConfig,
    BarkFineConfig,
    BarkModel,
    BarkSemanticConfig,
    EncodecConfig,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

SEMANTIC_VOCAB_SIZE, CODEBOOK_SIZE = 500, 1_024
TEXT_OFFSET = 512
MAX_TEXT, MAX_TOKENS = 128, 448  # ids of text and of history; semantic tokens of one generation: 9 s
COARSE_INPUT, COARSE_HISTORY, COARSE_WINDOW = 192, 450, 60
FINE_INPUT, FINE_HISTORY = 512, 256
PUNCTUATION = list(string.punctuation + "♪…—’“”")


def text_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece without training: every word of the domain is one id, all other words are spelt."""
    letters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", *PUNCTUATION, *letters, *(f"##{letter}" for letter in letters)]
    pieces += [word for word in vocabulary() if len(word) > 1]
    ids = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=40))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


def bark_config(codec_config: EncodecConfig, text_vocab_size: int) -> BarkConfig:
    text_pad = TEXT_OFFSET + text_vocab_size
    coarse_vocab = SEMANTIC_VOCAB_SIZE + 2 * CODEBOOK_SIZE + 2  # two codebooks, pad, infer
    shape = {"hidden_size": 256, "num_heads": 4, "num_layers": 4, "dropout": 0.1, "bias": False}
    return BarkConfig(
        semantic_config=BarkSemanticConfig(
            **shape, block_size=MAX_TEXT + 1 + MAX_TOKENS, input_vocab_size=text_pad + 2, output_vocab_size=TEXT_OFFSET
        ).to_dict(),
        coarse_acoustics_config=BarkCoarseConfig(
            **shape, block_size=COARSE_INPUT + 1 + COARSE_HISTORY + COARSE_WINDOW, input_vocab_size=coarse_vocab,
            output_vocab_size=coarse_vocab,
        ).to_dict(),
        fine_acoustics_config=BarkFineConfig(
            hidden_size=192, num_heads=3, num_layers=3, dropout=0.05, bias=False, block_size=FINE_INPUT,
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
            "do_sample": True, "temperature": 0.7, "top_k": 0,
        },
        coarse_acoustics_config={
            "coarse_semantic_pad_token": end + 2 * CODEBOOK_SIZE, "coarse_infer_token": end + 2 * CODEBOOK_SIZE + 1,
            "coarse_rate_hz": 75, "n_coarse_codebooks": 2, "max_coarse_input_length": COARSE_INPUT,
            "max_coarse_history": COARSE_HISTORY, "sliding_window_len": COARSE_WINDOW,
            "pad_token_id": end + 2 * CODEBOOK_SIZE, "do_sample": True, "temperature": 0.7, "top_k": 0,
        },
        fine_acoustics_config={
            "n_fine_codebooks": 8, "max_fine_history_length": FINE_HISTORY, "max_fine_input_length": FINE_INPUT,
            "temperature": 0.5,
        },
        codebook_size=CODEBOOK_SIZE, sample_rate=24_000,
    )  # fmt: skip


def new_bark(codec_config: EncodecConfig, text_vocab_size: int) -> BarkModel:
    """A random nano; its codec is to be filled in."""
    bark = BarkModel(bark_config(codec_config, text_vocab_size))
    bark.generation_config = generation_config(text_vocab_size)
    return bark
