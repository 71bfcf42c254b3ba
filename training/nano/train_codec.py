"""Stage 3. Train nano's codec: a small `EncodecModel`, 24 kHz, 75 frames per second, 8 codebooks of 1,024.

    python training/nano/train_codec.py outputs/nano/speech outputs/nano/codec --tokens outputs/nano/tokens.npz

The autoencoder is trained alone first, then with the quantizer. These measures make it train in an hour or two on one
core, with codes that a small model can predict:
- every convolution is rescaled to unit output variance on a first batch; weight-normalized layers stall otherwise;
- Muon optimizes the convolutions' weights as matrices; bfloat16 makes the convolutions a third faster;
- a linear layer must predict the log-mel frame from every latent; the encoder keeps little but loudness otherwise;
- a small network must predict every latent from the semantic tokens around it and the mean of the crop, because the
  coarse model has little more information;
- before the quantizer starts, variances of the latents are made more equal, because the codebooks would mostly encode
  loudness otherwise, and unpredictable directions are scaled down, so that the upper codebooks encode them (the
  scaling is folded into the adjacent convolutions, so that the codec's output is the same);
- half of the crops are decoded from few codebooks, most often from the coarse ones;
- codebooks start from k-means over many batches, are updated by moving averages, and unused entries are replaced.
A killed run continues from its last checkpoint.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torchaudio
from nano_bark import SEMANTIC_VOCAB_SIZE
from safetensors.torch import load_model, save_model
from speech import SAMPLING_RATE, load_speech
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm
from transformers import EncodecConfig, EncodecModel
from transformers.utils import ModelOutput

from hf_bark_semantic.configuration_bark_semantic import CODEC_HOP_LENGTH, NUM_COARSE_CODEBOOKS, SEMANTIC_RATE_HZ
from hf_bark_semantic.trainers.loop import TrainingArguments, train

CROP = 15_360  # samples: 0.64 s, 48 frames
TOKENS_PER_FRAME = SEMANTIC_RATE_HZ * CODEC_HOP_LENGTH / SAMPLING_RATE
LOG_MEL_MEAN, LOG_MEL_STD = -5.4, 2.1  # statistics of the corpus
WINDOWS = (256, 512, 1024, 2048)
LEVELS_DB = (-9.0, 3.0)  # of crops, relative to the level of their clip
SEED_BATCHES = 60  # batches for the initial codebooks
TRUNCATED, COARSE_ALONE = 0.5, 0.25  # share of crops that keep few codebooks, and that keep only the coarse ones
UNPREDICTABLE = 0.05  # share of its variance that an unpredictable direction keeps in the quantizer
START_NORM = 0.1  # initial norm of convolutions' rows; with weight normalization, shorter rows rotate faster


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--tokens", type=Path, required=True, help="semantic tokens of the speech, from labels.py")
    parser.add_argument("--steps", type=int, nargs=2, default=(700, 7_300), help="without and with the quantizer")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--filters", type=int, default=16)
    args = parser.parse_args(arguments)
    tokens = np.load(args.tokens)
    speech = load_speech(args.speech, wanted=lambda row: row["id"] in tokens)
    clips = [(clip.waveform, tokens[clip.id].astype(np.int64)) for clip in speech]
    print(f"{len(clips)} clips, {sum(len(w) for w, _ in clips) / SAMPLING_RATE / 3600:.2f} h", flush=True)
    torch.manual_seed(0)
    batches = Crops(clips, args.batch_size, sum(args.steps))
    training = CodecTraining(EncodecModel(codec_config(args.filters)))
    rescale_to_unit_output(training.codec, batches[0][0]["waveform"])
    for phase, steps in zip(("autoencoder", "quantized"), args.steps, strict=True):
        folder = args.output / phase
        training.quantizing = phase == "quantized"
        if not (folder / "model.safetensors").exists():
            if training.quantizing and not (folder / "checkpoint").exists():
                start_quantizer(training, [batches[step][0] for step in range(SEED_BATCHES)])
            arguments = TrainingArguments(
                output_dir=str(folder), steps=steps, learning_rate=2e-3, optimizer="muon", warmup=0.02,
                weight_decay=0.0, checkpoint_every=250, log_every=50, max_grad_norm=5.0,
                seed=int(training.quantizing),
            )  # fmt: skip
            train(training, batches, arguments)
            save_model(training, str(folder / "model.safetensors"))
        load_model(training, folder / "model.safetensors")
    weights_as_transformers_has_them(training.codec)
    training.codec.save_pretrained(args.output)


def codec_config(filters: int) -> EncodecConfig:
    shape = {"num_filters": filters, "num_lstm_layers": 1, "hidden_size": 64}
    return EncodecConfig(target_bandwidths=[6.0], **shape, pad_mode="constant")  # a fifth faster than "reflect"


class Crops(torch.utils.data.Dataset):
    """Batches of random crops at random levels, with the tokens of their frames; pure functions of the step."""

    def __init__(self, clips: list[tuple[np.ndarray, np.ndarray]], batch_size: int, steps: int):
        self.waveforms = [w if len(w) > CROP else np.pad(w, (0, CROP + 1 - len(w))) for w, _ in clips]
        self.tokens = [tokens for _, tokens in clips]
        self.batch_size, self.steps = batch_size, steps
        lengths = np.array([len(waveform) for waveform in self.waveforms], float)
        self.probabilities = lengths / lengths.sum()

    def __len__(self):
        return self.steps

    def __getitem__(self, step: int):
        rng = np.random.default_rng([0, step])
        rows, tokens = [], []
        for index in rng.choice(len(self.waveforms), self.batch_size, p=self.probabilities):
            start = rng.integers(len(self.waveforms[index]) - CROP)
            gain = 10 ** (rng.uniform(*LEVELS_DB) / 20) / 32768
            rows.append(self.waveforms[index][start : start + CROP].astype(np.float32) * gain)
            times = (start / CODEC_HOP_LENGTH + 0.5 + np.arange(CROP // CODEC_HOP_LENGTH)) * TOKENS_PER_FRAME
            tokens.append(self.tokens[index][times.astype(int).clip(max=len(self.tokens[index]) - 1)])
        return [{"waveform": torch.from_numpy(np.stack(rows)).float(), "tokens": torch.from_numpy(np.stack(tokens))}]


class MatrixWeightNorm(nn.Module):
    """Weight normalization of a convolution's weight as a matrix for Muon, with a row for each channel."""

    def __init__(self, shape: torch.Size):
        super().__init__()
        self.shape = shape

    def forward(self, rows, norms):
        return (rows * (norms / rows.norm(dim=1))[:, None]).view(self.shape)

    def right_inverse(self, weight):
        rows = weight.flatten(1)
        norms = rows.norm(dim=1)
        return rows * (START_NORM / norms)[:, None], norms


def convolutions_of(codec: EncodecModel) -> list[nn.Conv1d | nn.ConvTranspose1d]:
    """All convolutions, in the order in which they run."""
    return [module for module in codec.modules() if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d))]


def weights_as_matrices(codec: EncodecModel):
    for convolution in convolutions_of(codec):
        parametrize.remove_parametrizations(convolution, "weight")
        parametrize.register_parametrization(convolution, "weight", MatrixWeightNorm(convolution.weight.shape))


def weights_as_transformers_has_them(codec: EncodecModel):
    for convolution in convolutions_of(codec):
        parametrize.remove_parametrizations(convolution, "weight")
        weight_norm(convolution)


class _ExpELU(torch.autograd.Function):
    """ELU by `exp` instead of `expm1`: five times faster on a CPU, where ELU took a third of a step."""

    @staticmethod
    def forward(ctx, states):
        output = states.clamp(max=0).exp_().sub_(1)
        output = torch.maximum(output, states)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx, gradient):
        (output,) = ctx.saved_tensors
        return gradient * (output.clamp(max=0) + 1)


def use_fast_elu(codec: EncodecModel):
    for module in codec.modules():
        if isinstance(module, nn.ELU):
            module.forward = _ExpELU.apply


class CodecTraining(nn.Module):
    """`codec` with the loss and the codebook updates that transformers' EncodecModel lacks."""

    def __init__(
        self, codec: EncodecModel, decay: float = 0.99, commitment: float = 0.1, predictor_weight: float = 0.3
    ):
        super().__init__()
        use_fast_elu(codec)
        weights_as_matrices(codec)
        self.predictor_weight = predictor_weight
        self.codec, self.decay, self.commitment, self.quantizing = codec, decay, commitment, False
        self.frame_spectrogram = torchaudio.transforms.MelSpectrogram(
            SAMPLING_RATE,
            1024,
            hop_length=codec.config.hop_length,
            n_mels=80,
            power=1,
            norm="slaney",
            mel_scale="slaney",
        )
        # a periodic window is a view, into which safetensors cannot load
        self.frame_spectrogram.spectrogram.window = self.frame_spectrogram.spectrogram.window.clone()
        self.frame_readout = nn.Linear(codec.config.hidden_size, 80)
        self.predictor = LatentPredictor(codec.config.hidden_size)

    def forward(self, waveform, tokens):
        latents = self.codec.encoder(waveform[:, None]).float()  # (batch, hidden, frames)
        with torch.autocast(latents.device.type, enabled=False):  # distances to 1,024 entries need float32
            quantized, commitment = self.quantize(latents) if self.quantizing else (latents, 0.0)
        decoded = self.codec.decoder(quantized)[:, 0, : waveform.shape[1]].float()
        loss = spectral_loss(decoded, waveform) + 0.5 * self.readout_loss(quantized, waveform)
        loss = loss + self.predictor_weight * self.unpredictable_share(latents, tokens).mean()
        return ModelOutput(loss=loss + self.commitment * commitment + 0.001 * latents.square().mean())

    def quantize(self, latents):
        """Residual quantization with straight-through gradients; for some crops, only the first codebooks are kept."""
        batch, size, frames = latents.shape
        vectors = latents.transpose(1, 2).reshape(-1, size)  # (batch * frames, hidden)
        layers = self.codec.quantizer.layers
        draw = torch.rand(batch)
        kept = torch.where(draw < TRUNCATED, torch.randint(1, len(layers), (batch,)), len(layers))
        kept = torch.where(draw < COARSE_ALONE, NUM_COARSE_CODEBOOKS, kept)
        kept = kept.to(vectors.device).repeat_interleave(frames)[:, None]
        variance = vectors.detach().var(0).mean()
        total, residual, commitment = torch.zeros_like(vectors), vectors, 0.0
        for index, layer in enumerate(layers):
            with torch.no_grad():
                codes = layer.codebook.encode(residual.detach())
                chosen = layer.codebook.decode(codes)
                if self.training:
                    update_codebook(layer.codebook, residual.detach(), codes, self.decay)
            used = (index < kept).float()
            commitment = commitment + (used * (residual - chosen) ** 2).mean() / len(layers) / variance
            total = total + used * chosen
            residual = residual - chosen
        quantized = vectors + (total - vectors).detach()
        return quantized.reshape(batch, frames, size).transpose(1, 2), commitment

    def unpredictable_share(self, latents, tokens):
        """The share of each latent dimension's variance that `predictor` does not explain, `(hidden,)`."""
        error = (latents - self.predictor(tokens, latents)).square().mean((0, 2))
        return error / latents.var((0, 2)).clamp(min=1e-6)

    def readout_loss(self, quantized, waveform):
        """The error of a linear prediction of the log-mel frame from its latent."""
        target = torch.log(self.frame_spectrogram(waveform)[..., : quantized.shape[2]] + 1e-4)  # (batch, 80, frames)
        target = (target - LOG_MEL_MEAN) / LOG_MEL_STD  # otherwise latents would grow to reach the mean
        return (self.frame_readout(quantized.transpose(1, 2)).transpose(1, 2) - target).abs().mean()


class LatentPredictor(nn.Module):
    """Predicts latents `(batch, hidden, frames)` from the tokens of surrounding frames and the mean of the crop."""

    def __init__(self, hidden_size: int, width: int = 192):
        super().__init__()
        self.tokens = nn.Embedding(SEMANTIC_VOCAB_SIZE, width)
        self.mean = nn.Linear(hidden_size, width)
        convolutions = [(nn.Conv1d(width, width, 7, padding=3), nn.GELU()) for _ in range(2)]
        last = nn.Conv1d(width, hidden_size, 1)
        self.layers = nn.Sequential(*(part for pair in convolutions for part in pair), last)

    def forward(self, tokens, latents):
        mean = latents.detach().mean(2)
        return self.layers((self.tokens(tokens) + self.mean(mean)[:, None]).transpose(1, 2))


def spectral_loss(decoded, waveform):
    """Differences of log-magnitudes, and relative differences of magnitudes, at four resolutions."""
    loss = 0.0
    for size in WINDOWS:
        window = torch.hann_window(size, device=waveform.device)
        is_, should = (
            torch.stft(signal, size, size // 4, window=window, return_complex=True).abs() / size**0.5
            for signal in (decoded, waveform)
        )
        loss = loss + (torch.log(is_ + 1e-2) - torch.log(should + 1e-2)).abs().mean()
        loss = loss + 0.5 * torch.linalg.norm(is_ - should) / torch.linalg.norm(should)
    return loss / len(WINDOWS)


@torch.no_grad()
def start_quantizer(training: CodecTraining, batches: list[dict[str, torch.Tensor]]):
    """Scale directions of the latents, without changing the codec's output, and initialize the codebooks."""
    codec = training.codec
    latents = [codec.encoder(batch["waveform"][:, None]) for batch in batches]
    errors = [z - training.predictor(batch["tokens"], z) for z, batch in zip(latents, batches, strict=True)]
    latents, errors = (torch.cat([z.transpose(1, 2).flatten(0, 1) for z in group]) for group in (latents, errors))
    forward, backward = quantizer_scaling(latents - latents.mean(0), errors - errors.mean(0))
    last, first = codec.encoder.layers[-1].conv, codec.decoder.layers[0].conv
    last.weight = torch.einsum("oik,op->pik", last.weight, forward)
    last.bias.copy_(last.bias @ forward)
    first.weight = torch.einsum("oik,pi->opk", first.weight, backward)
    guess, mean = training.predictor.layers[-1], training.predictor.mean
    guess.weight.copy_((forward.T @ guess.weight[..., 0])[..., None])
    guess.bias.copy_(guess.bias @ forward)
    mean.weight.copy_(mean.weight @ backward.T)
    residual = latents @ forward
    for layer in codec.quantizer.layers:
        seed_codebook(layer.codebook, residual)
        residual = residual - layer.codebook.decode(layer.codebook.encode(residual))


def quantizer_scaling(latents: torch.Tensor, errors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A map of centred latents `(frames, hidden)`, applied from the right, and its inverse.

    A direction keeps the square root of its variance, and less if most of it is `errors` of `LatentPredictor`.
    """
    values, vectors = torch.linalg.eigh(latents.T @ latents / len(latents))
    values = values.clamp(min=1e-4 * values.max())
    whiten, colour = vectors * values**-0.5, (vectors * values**0.5).T
    white = errors @ whiten
    unpredictable, directions = torch.linalg.eigh(white.T @ white / len(white))
    importance = (directions**2 * values[:, None] ** 0.5).sum(0)
    predictable = 1 - unpredictable.clamp(0, 1)
    scale = (importance * (UNPREDICTABLE + (1 - UNPREDICTABLE) * predictable)).sqrt()
    print(f"predictable shares: {', '.join(f'{share:.2f}' for share in predictable.tolist()[::8])}", flush=True)
    return whiten @ directions * scale, directions.T @ colour / scale[:, None]


@torch.no_grad()
def seed_codebook(codebook, vectors, iterations: int = 10):
    """k-means, started from random vectors, or from noisy copies if there are too few."""
    size = codebook.codebook_size
    picked = vectors[torch.randperm(len(vectors), device=vectors.device)]
    picked = picked.repeat(-(-size // len(picked)), 1)[:size]
    codebook.embed.copy_(picked + 0.01 * vectors.std() * torch.randn_like(picked))
    for _ in range(iterations):
        codes = codebook.encode(vectors)
        counts = torch.bincount(codes, minlength=size).float()
        means = torch.zeros_like(codebook.embed).index_add_(0, codes, vectors) / counts.clamp(min=1)[:, None]
        codebook.embed.copy_(torch.where(counts[:, None] > 0, means, codebook.embed))
    codebook.cluster_size.fill_(len(vectors) / SEED_BATCHES / size)
    codebook.embed_avg.copy_(codebook.embed * codebook.cluster_size[:, None])


@torch.no_grad()
def update_codebook(codebook, vectors, codes, decay: float):
    """Move every entry to the mean of its vectors; unused entries restart at a random vector."""
    size = codebook.codebook_size
    counts = torch.bincount(codes, minlength=size).float()
    sums = torch.zeros_like(codebook.embed).index_add_(0, codes, vectors)
    codebook.cluster_size.lerp_(counts, 1 - decay)
    codebook.embed_avg.lerp_(sums, 1 - decay)
    codebook.embed.copy_(codebook.embed_avg / codebook.cluster_size.clamp(min=1e-3)[:, None])
    dead = codebook.cluster_size < 0.05 * len(vectors) / size
    if dead.any():
        new = vectors[torch.randint(len(vectors), (int(dead.sum()),), device=vectors.device)]
        codebook.embed[dead] = new
        codebook.cluster_size[dead] = 0.3 * len(vectors) / size
        codebook.embed_avg[dead] = new * codebook.cluster_size[dead][:, None]


@torch.no_grad()
def rescale_to_unit_output(codec: EncodecModel, waveform: torch.Tensor):
    """Scale every convolution, in the order in which they run, so that its output has variance 1."""

    def rescale(convolution, inputs, output):
        bias = convolution.bias.view(-1, 1)
        factor = 1 / (output - bias).std()
        convolution.weight = convolution.weight * factor
        convolution.bias.zero_()
        return (output - bias) * factor

    hooks = [convolution.register_forward_hook(rescale) for convolution in convolutions_of(codec)]
    decoded = codec.decoder(codec.encoder(waveform[:, None]))
    for hook in hooks:
        hook.remove()
    last = codec.decoder.layers[-1].conv
    last.weight = last.weight * (waveform.std() / decoded.std())


if __name__ == "__main__":
    main()
