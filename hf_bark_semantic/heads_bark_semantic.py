"""Heads, which turn features (one row per semantic token) into logits; and counts of neighbouring tokens.

Every head is a module with

    states(features, mask, labels=None)      -> the input of `logits`, one row per token
    logits(states)                           -> logits (batch, num_tokens, vocab_size); rows are independent
    forward(features, mask, labels=None)     -> logits of all rows
    loss(features, mask, labels, smoothing)  -> (loss, logits)

`features` are `(batch, num_tokens, feature_size)`, `mask` is boolean `(batch, num_tokens)` or None, `labels` are token
ids, or -100 to ignore a position. Only the autoregressive head uses `labels` for its states (teacher forcing).

`TokenTransitions` counts which tokens follow each other in Bark's own token strings, and reweights the likeliest
tokens of every position by the tokens before and after it.
"""

import functools
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .configuration_bark_semantic import AUTOREGRESSIVE_POSITIONS, BarkSemanticEncoderConfig

# Bias of a token that was never seen in training: below the logit of every seen token, and finite in float16 too.
NEVER_SEEN_BIAS = torch.finfo(torch.float16).min
NUM_CANDIDATES = 20  # per position; 50 would make 0.1 % more of the tokens right, with six times the pairs
DISCOUNT = 0.7  # taken from the count of every pair, for the tokens that never followed its first token


def build_head(config: BarkSemanticEncoderConfig) -> nn.Module:
    """The head that `config.head_type` names."""
    heads = {
        "linear": LinearHead,
        "recurrent": RecurrentHead,
        "transformer": TransformerHead,
        "embedding": EmbeddingHead,
        "autoregressive": AutoregressiveHead,
    }
    return heads[config.head_type](config)


class _Head(nn.Module):
    def states(self, features, mask=None, labels=None):
        raise NotImplementedError

    def logits(self, states):
        return self.output(states)

    def forward(self, features, mask=None, labels=None):
        return self.logits(self.states(features, mask, labels))

    def loss(self, features, mask, labels, smoothing: float):
        logits = self(features, mask, labels)
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), label_smoothing=smoothing), logits


class LinearHead(_Head):
    """One linear layer. With `from_centroids` it is exactly the inference of k-means."""

    def __init__(self, config: BarkSemanticEncoderConfig):
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.feature_size, config.vocab_size)

    def states(self, features, mask=None, labels=None):
        return self.dropout(features)

    @torch.no_grad()
    def from_centroids(self, centroids: torch.Tensor, seen: torch.Tensor | None = None) -> "LinearHead":
        """Make the head choose the nearest centroid: `argmax(2 c·x - |c|²) = argmin |x - c|²`.

        Args:
            centroids (`torch.FloatTensor` of shape `(vocab_size, feature_size)`): one per token.
            seen (`torch.BoolTensor` of shape `(vocab_size,)`, *optional*): False for tokens without a known centroid.
                The head never predicts them.

        Raises:
            ValueError: the centroids have another shape, or no token was seen.
        """
        if centroids.shape != self.output.weight.shape:
            raise ValueError(
                f"The centroids have shape {tuple(centroids.shape)}; it must be {tuple(self.output.weight.shape)}, "
                "which is (vocab_size, feature_size)."
            )
        seen = torch.ones(len(centroids), dtype=torch.bool) if seen is None else seen.cpu()
        if not seen.any():
            raise ValueError("No token was seen, so there are no centroids. Give at least one labelled clip.")
        centroids = torch.where(seen[:, None], centroids.detach().cpu().float(), 0.0)
        self.output.weight.copy_(2 * centroids)
        self.output.bias.copy_(torch.where(seen, -centroids.square().sum(-1), NEVER_SEEN_BIAS))
        return self


class RecurrentHead(_Head):
    """A unidirectional LSTM with the same weights as the community's quantizers (github.com/gitmylo)."""

    def __init__(self, config: BarkSemanticEncoderConfig):
        super().__init__()
        width = config.hidden_size
        self.lstm = nn.LSTM(config.feature_size, width, num_layers=config.num_hidden_layers, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.intermediate = nn.Linear(width, config.intermediate_size) if config.intermediate_size else None
        self.output = nn.Linear(config.intermediate_size or width, config.vocab_size)

    def states(self, features, mask=None, labels=None):
        states = _scanned(self.lstm, features) if torch.compiler.is_exporting() else self.lstm(features)[0]
        hidden_states = self.dropout(states)  # causal: right padding changes nothing before it
        return hidden_states if self.intermediate is None else self.intermediate(hidden_states)


def _scanned(lstm: nn.LSTM, inputs: torch.Tensor) -> torch.Tensor:
    """States `(batch, time, width)` of an LSTM, as a loop of any length; `torch.export` would unroll torch's own."""
    from torch._higher_order_ops.scan import scan

    states = inputs
    for of_input, of_state, *biases in lstm.all_weights:
        gates = _swapped(F.linear(states, of_input, sum(biases)))
        start = gates.new_zeros(gates.shape[1], lstm.hidden_size)
        states = _swapped(scan(functools.partial(_lstm_step, of_state), (start, start.clone()), gates)[1])
    return states


def _swapped(states: torch.Tensor) -> torch.Tensor:
    """`(batch, time, width)` to `(time, batch, width)` and back, as a copy: with a view, export needs two rows."""
    return states.transpose(0, 1).clone(memory_format=torch.contiguous_format)


def _lstm_step(of_state, carried, gates):
    """`((state, cell), state)` after one step of all rows; `gates` `(batch, 4 * width)` are the input's part."""
    state, cell = carried
    input_gate, forget_gate, candidate, output_gate = (gates + F.linear(state, of_state)).chunk(4, dim=-1)
    cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
    state = output_gate.sigmoid() * cell.tanh()
    return (state, cell), state.clone()


class TransformerHead(_Head):
    """A convolution over the tokens' features, then a bidirectional transformer with rotary positions."""

    def __init__(self, config: BarkSemanticEncoderConfig):
        super().__init__()
        self.encoder = TokenEncoder(config)
        self.output = nn.Linear(config.hidden_size, config.vocab_size)

    def states(self, features, mask=None, labels=None):
        return self.encoder(features, mask)


class EmbeddingHead(_Head):
    """Regression onto Bark's input embeddings of the tokens; the nearest row of that table is the token.

    `token_embeddings` are Bark's: `bark.semantic.input_embeds_layer.weight[:vocab_size]`. The loss is the mean squared
    error to the embedding of the true token, as in github.com/EndlessReform, whose regression is linear
    (`num_hidden_layers=0`).
    """

    def __init__(self, config: BarkSemanticEncoderConfig):
        super().__init__()
        self.encoder = TokenEncoder(config) if config.num_hidden_layers else None
        width = config.hidden_size if config.num_hidden_layers else config.feature_size
        self.projection = nn.Linear(width, config.embedding_size)
        self.token_embeddings = nn.Parameter(
            torch.randn(config.vocab_size, config.embedding_size), requires_grad=False
        )

    def embeddings(self, features, mask=None):
        """`(batch, num_tokens, embedding_size)`: rows that Bark can take in place of embedded tokens."""
        return self.projection(features if self.encoder is None else self.encoder(features, mask))

    def states(self, features, mask=None, labels=None):
        return self.embeddings(features, mask)

    def logits(self, embeddings):
        """Minus the squared distance to every token's embedding, up to a constant per row."""
        table = self.token_embeddings
        return 2 * embeddings @ table.T - table.square().sum(-1)

    def loss(self, features, mask, labels, smoothing: float):
        embeddings = self.embeddings(features, mask)
        valid = labels != -100
        return F.mse_loss(embeddings[valid].float(), self.token_embeddings[labels[valid]].float()), self.logits(
            embeddings
        )


class AutoregressiveHead(_Head):
    """A decoder with cross-attention to the features and causal attention to its own tokens (github.com/huynhnhathao).

    The number of tokens is known, so it does not predict an end. It decodes greedily.
    """

    def __init__(self, config: BarkSemanticEncoderConfig):
        super().__init__()
        width, self.vocab_size = config.feature_size, config.vocab_size
        self.start_id = config.vocab_size  # the end and the padding id follow, as in the checkpoints of that format
        self.decoder_embedding = nn.Embedding(config.vocab_size + 3, width)
        self.pos_embedding = nn.Parameter(torch.zeros(1, AUTOREGRESSIVE_POSITIONS, width))
        layer = nn.TransformerDecoderLayer(
            width, config.num_attention_heads, config.intermediate_size, config.dropout, batch_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, config.num_hidden_layers)
        self.fc = nn.Linear(width, config.vocab_size + 3)

    def states(self, features, mask=None, labels=None):
        """The logits. Without labels, each token is chosen from them before the next one is computed."""
        if labels is None:
            return self._decode(features, mask)
        previous = F.pad(labels.clamp(min=0), (1, 0), value=self.start_id)[:, :-1]
        hidden_states = self.decoder_embedding(previous) + self.pos_embedding[:, : previous.shape[1]]
        causal = nn.Transformer.generate_square_subsequent_mask(
            previous.shape[1], device=features.device, dtype=hidden_states.dtype
        )
        padding = None if mask is None else torch.zeros_like(mask, dtype=causal.dtype).masked_fill(~mask, -torch.inf)
        hidden_states = self.decoder(hidden_states, features, tgt_mask=causal, memory_key_padding_mask=padding)
        return self.fc(hidden_states)[..., : self.vocab_size]

    def logits(self, states):
        return states

    def _decode(self, features, mask):
        """Greedy decoding, one token at a time, with cached keys and values."""
        if torch.compiler.is_exporting():
            raise NotImplementedError(
                "An autoregressive head cannot be exported: its cache of keys and values grows with every token, and "
                "torch.export has no loop over values that grow. Call the model's own `encode` instead."
            )
        batch, num_tokens, _ = features.shape
        attention_mask = None if mask is None else mask[:, None, None]
        memories = [_keys_values(layer.multihead_attn, features) for layer in self.decoder.layers]
        pasts = [None] * len(self.decoder.layers)
        token = torch.full((batch, 1), self.start_id, device=features.device)
        logits = features.new_empty(batch, num_tokens, self.vocab_size)
        for position in range(num_tokens):
            states = self.decoder_embedding(token) + self.pos_embedding[:, position : position + 1]
            for index, layer in enumerate(self.decoder.layers):
                key, value = _keys_values(layer.self_attn, states)
                if pasts[index] is not None:
                    key, value = (
                        torch.cat([old, new], 2) for old, new in zip(pasts[index], (key, value), strict=True)
                    )
                pasts[index] = (key, value)
                states = layer.norm1(states + _attend(layer.self_attn, states, key, value))
                states = layer.norm2(states + _attend(layer.multihead_attn, states, *memories[index], attention_mask))
                states = layer.norm3(states + layer.linear2(layer.activation(layer.linear1(states))))
            logits[:, position] = self.fc(states[:, 0])[..., : self.vocab_size]
            token = logits[:, position].argmax(-1, keepdim=True)
        return logits


def _split_heads(states, num_heads):
    return states.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # (batch, heads, time, head width)


def _keys_values(attention: nn.MultiheadAttention, states):
    width = attention.embed_dim
    both = F.linear(states, attention.in_proj_weight[width:], attention.in_proj_bias[width:])
    return tuple(_split_heads(part, attention.num_heads) for part in both.split(width, dim=-1))


def _attend(attention: nn.MultiheadAttention, states, key, value, mask=None):
    width = attention.embed_dim
    query = F.linear(states, attention.in_proj_weight[:width], attention.in_proj_bias[:width])
    output = F.scaled_dot_product_attention(_split_heads(query, attention.num_heads), key, value, attn_mask=mask)
    return attention.out_proj(output.transpose(1, 2).flatten(2))


class TokenEncoder(nn.Module):
    """Turns features `(batch, num_tokens, feature_size)` into hidden states `(batch, num_tokens, hidden_size)`."""

    def __init__(self, config: BarkSemanticEncoderConfig):
        super().__init__()
        width, kernel = config.hidden_size, config.conv_kernel_size
        self.input = nn.Linear(config.feature_size, width)
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2) if kernel else None
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList([TokenEncoderLayer(config) for _ in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, features, mask=None):
        hidden_states = self.input(self.dropout(features))
        if self.conv is not None:
            if mask is not None:
                hidden_states = hidden_states.masked_fill(~mask[..., None], 0)
            hidden_states = hidden_states + F.gelu(self.conv(hidden_states.transpose(1, 2))).transpose(1, 2)
        rotation = _rotation(hidden_states, self.layers[0].head_size)
        attention_mask = None if mask is None else mask[:, None, None]
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask, rotation)
        return self.dropout(self.norm(hidden_states))


class TokenEncoderLayer(nn.Module):
    """A pre-norm transformer layer with rotary positions."""

    def __init__(self, config: BarkSemanticEncoderConfig):
        super().__init__()
        width, self.num_heads = config.hidden_size, config.num_attention_heads
        self.head_size = width // self.num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_input = nn.Linear(width, config.intermediate_size)
        self.mlp_output = nn.Linear(config.intermediate_size, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_states, attention_mask, rotation):
        states = self.query_key_value(self.attention_norm(hidden_states))
        query, key, value = (_split_heads(part, self.num_heads) for part in states.chunk(3, dim=-1))
        output = F.scaled_dot_product_attention(
            _rotate(query, rotation), _rotate(key, rotation), value, attn_mask=attention_mask
        )
        hidden_states = hidden_states + self.dropout(self.attention_output(output.transpose(1, 2).flatten(2)))
        states = F.gelu(self.mlp_input(self.mlp_norm(hidden_states)))
        return hidden_states + self.dropout(self.mlp_output(self.dropout(states)))


def _rotation(hidden_states, head_size):
    """Cosines and sines of the rotary positions, each `(time, head_size)`."""
    frequency = 1e4 ** (-torch.arange(0, head_size, 2, device=hidden_states.device) / head_size)
    angle = torch.arange(hidden_states.shape[1], device=hidden_states.device)[:, None] * frequency
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos().to(hidden_states.dtype), angle.sin().to(hidden_states.dtype)


def _rotate(states, rotation):
    cosine, sine = rotation
    first, second = states.chunk(2, dim=-1)
    return states * cosine + torch.cat([-second, first], dim=-1) * sine


class TokenTransitions(nn.Module):
    """Pairs of neighbouring tokens, and `log p(second | first) - log p(second)` of each.

    `p(second | first)` is estimated with absolute discounting: `DISCOUNT` is taken from the count of every pair and
    distributed over all tokens in proportion to their own probability. After a token that was never seen, all gains
    are 0.
    """

    pairs: torch.Tensor
    gains: torch.Tensor
    unseen: torch.Tensor

    def __init__(self, config: BarkSemanticEncoderConfig):
        super().__init__()
        self.vocab_size, self.weight = config.vocab_size, config.transition_weight
        pairs = torch.zeros(config.num_transitions, dtype=_key_dtype(config.vocab_size))
        self.register_buffer("pairs", pairs)  # first * vocab_size + second, sorted
        self.register_buffer("gains", torch.zeros(config.num_transitions))
        self.register_buffer("unseen", torch.zeros(config.vocab_size))  # gain of every uncounted pair, by first token

    @torch.no_grad()
    def count(self, strings: Iterable[Sequence[int]]) -> None:
        """Count the pairs of neighbouring tokens in strings of tokens. Repeated strings count once.

        Afterwards, set `num_transitions` of the model's config to `len(transitions.pairs)`.
        """
        different = [np.array(string) for string in sorted({tuple(map(int, string)) for string in strings})]
        tokens = np.bincount(np.concatenate([*different, []]).astype(np.int64), minlength=self.vocab_size) + 0.5
        share = tokens / tokens.sum()
        keys = np.concatenate([np.zeros(0, np.int64), *(s[:-1] * self.vocab_size + s[1:] for s in different)])
        pairs, counts = np.unique(keys, return_counts=True)
        first, second = np.divmod(pairs, self.vocab_size)
        total = np.bincount(first, counts, minlength=self.vocab_size)
        rest = DISCOUNT * np.bincount(first, minlength=self.vocab_size) / np.maximum(total, 1)
        gains = np.log((counts - DISCOUNT) / total[first] / share[second] + rest[first])
        unseen = np.log(rest, out=np.zeros_like(rest), where=total > 0)
        self.pairs = torch.from_numpy(pairs).to(self.pairs)
        self.gains = torch.from_numpy(gains).to(self.gains)
        self.unseen = torch.from_numpy(unseen).to(self.unseen)

    def forward(
        self, parts: Iterable[torch.Tensor], mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reweight the likeliest tokens of every position by the tokens before and after it.

        The head's probabilities, and the gains of neighbouring tokens with the weight `transition_weight`, form a
        linear-chain model. The marginal probabilities of every position are computed exactly, with the
        forward-backward algorithm.

        Args:
            parts (`Iterable[torch.Tensor]`): logits of a head, each `(batch, part of num_tokens, vocab_size)`, in
                order. They come in parts because the logits of 20 s take 40 MB.
            mask (`torch.BoolTensor` of shape `(batch, num_tokens)`, *optional*): False on the padding at the end.

        Returns:
            `(candidates, logits)`, both `(batch, num_tokens, num_candidates)`: the likeliest tokens, and their new
            logits. The logits of all other tokens do not change.
        """
        best = [part.float().topk(min(NUM_CANDIDATES, self.vocab_size), dim=-1) for part in parts]
        scores, candidates = (torch.cat(columns, dim=1) for columns in zip(*best, strict=True))
        if scores.shape[1] < 2 or not len(self.pairs):
            return candidates, scores
        own = scores.softmax(-1)  # (batch, num_tokens, candidates)
        links = (self.weight * self._gains(candidates)).exp()  # (batch, num_tokens - 1, first, second)
        if mask is not None:
            own = torch.where(mask[..., None], own, 1.0)
            links = torch.where(mask[:, 1:, None, None], links, 1.0)
        forwards, backwards = own[:, :-1, :, None] * links, (own[:, 1:, None] * links).mT.flip(1)
        messages = [torch.ones_like(own[:, :1]).repeat(2, 1, 1)]  # (2 * batch, 1, candidates): from both ends
        for step in torch.cat([forwards, backwards]).unbind(1):
            message = messages[-1] @ step
            messages.append(message / message.sum(-1, keepdim=True))
        before, behind = torch.cat(messages, dim=1).chunk(2)
        chain = own * before * behind.flip(1)
        chain = (chain / chain.sum(-1, keepdim=True)).clamp(min=torch.finfo(chain.dtype).tiny)
        return candidates, chain.log() + scores.logsumexp(-1, keepdim=True)

    def _gains(self, tokens: torch.Tensor) -> torch.Tensor:
        """Gains `(batch, num_tokens - 1, first, second)` of all pairs of neighbouring candidates."""
        first, second = tokens[:, :-1, :, None], tokens[:, 1:, None]
        keys = (first * self.vocab_size + second).to(self.pairs.dtype)
        index = torch.searchsorted(self.pairs, keys).clamp(max=len(self.pairs) - 1)
        gains = torch.where(self.pairs[index] == keys, self.gains[index], self.unseen[first])
        return gains.float()


def _key_dtype(vocab_size: int) -> torch.dtype:
    return torch.int32 if vocab_size**2 <= torch.iinfo(torch.int32).max else torch.int64
