"""Stage 4b. The codec's decoder learns to live with what the coarse and fine models say.

    python training/nano/tune_decoder.py outputs/nano

Codes that models guess are often wrong, and the decoder, which takes them for the truth, turns them into noise. Here
it hears guesses in most crops, and has to make the recording of them: the coarse model's, each code drawn behind the
true past so that they stay in time with the recording, and the fine model's, which go by those. Encoder and codebooks
stay, so all codes do. Reads `codec/`, `codes.npz`, `codes_varied.npz`, `tokens.npz`, `coarse/`, `fine/` and `speech/`;
writes `tuned_codec/`.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from labels import varied
from nano_bark import new_bark, text_tokenizer
from safetensors.torch import load_model
from speech import load_speech
from torch import nn
from tqdm import tqdm
from train_bark import VARIED, load_utterances
from train_codec import spectral_loss, use_fast_elu
from transformers import BarkModel, EncodecModel
from transformers.utils import ModelOutput

from hf_bark_semantic.bark_finetuning import (
    IGNORED,
    CoarseLoss,
    Utterance,
    UtteranceBatches,
    bark_generation_configs,
    coarse_example,
    collate,
)
from hf_bark_semantic.bark_stages import BarkSetup, StageItem, run_stage
from hf_bark_semantic.synthesis import ALL_SAVINGS, SynthesisRequest
from hf_bark_semantic.training_loop import TrainingArguments, train

CROP_FRAMES, GUESSED = 48, 0.9
WINDOWS = 4  # of inference whose codes are guessed from one input


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--clips", type=int, default=1_200)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args(arguments)
    codec = EncodecModel.from_pretrained(args.folder / "codec")
    tokenizer = text_tokenizer()
    bark = new_bark(codec.config, len(tokenizer))
    load_model(bark.coarse_acoustics, args.folder / "coarse" / "model.safetensors")
    load_model(bark.fine_acoustics, args.folder / "fine" / "model.safetensors")
    speech = {clip.id: clip for clip in load_speech(args.folder / "speech")}
    utterances = load_utterances(args.folder, tokenizer, bark_generation_configs(bark), "coarse")
    single = [index for index, one in enumerate(utterances) if one.id.removesuffix(VARIED) in speech]
    chosen = np.random.default_rng(0).permutation(single)[: args.clips]
    guesses = guessed_codes(bark.eval(), utterances, chosen)
    clips = []
    for index in chosen:
        clip = speech[utterances[index].id.removesuffix(VARIED)]
        clip = varied(clip) if utterances[index].id.endswith(VARIED) else clip
        clips.append((clip.waveform, utterances[index].audio_codes))
    training = DecoderTraining(codec)
    arguments = TrainingArguments(
        output_dir=str(args.folder / "tuned_codec"), steps=args.steps, learning_rate=5e-4, warmup=0.05,
        weight_decay=0.0, max_grad_norm=5.0, average=0.99, average_from=0.8, checkpoint_every=250, log_every=50,
        mixed_precision="bf16", learning_rates={"codec.encoder": 0.0},
    )  # fmt: skip
    batches = Crops(clips, guesses, codec.config.hop_length, args.batch_size, args.steps)
    train(training, batches, arguments).codec.save_pretrained(args.folder / "tuned_codec")


def guessed_codes(bark: BarkModel, utterances: list[Utterance], chosen: np.ndarray) -> list[np.ndarray]:
    """Codes `(8, num_frames)` of the chosen utterances, all of them made up."""
    setup = BarkSetup.of(bark, batch_size=16, savings=ALL_SAVINGS, offload=False)
    coarse = guessed_coarse_codes(bark, utterances, chosen)
    items = [
        StageItem(number, SynthesisRequest(text="known", seed=number), codes) for number, codes in enumerate(coarse)
    ]
    guesses = {item.index: item.value for item in run_stage("fine", setup, items)}
    return [guesses[number] for number in range(len(coarse))]


@torch.no_grad()
def guessed_coarse_codes(bark: BarkModel, utterances: list[Utterance], chosen: np.ndarray) -> list[np.ndarray]:
    """Coarse codes `(2, num_frames)`, each drawn as at inference but behind the true ones."""
    configs = bark_generation_configs(bark)
    batches, loss = UtteranceBatches(utterances, configs, "coarse"), CoarseLoss(bark.coarse_acoustics, configs)
    rng, generator, guesses = np.random.default_rng(0), torch.Generator().manual_seed(0), []
    num_codebooks, stride = configs.coarse.n_coarse_codebooks, configs.coarse.sliding_window_len
    for index in tqdm(chosen, desc="coarse codes"):
        utterance, history = utterances[index], batches.history([index], rng)
        num_ids, examples = num_codebooks * utterance.num_frames, []
        for start in range(0, num_ids, WINDOWS * stride):
            stop = min(start + WINDOWS * stride, num_ids)
            last_window = (stop - 1) // stride * stride
            examples.append(coarse_example(utterance, history, configs, num_generated=last_window))
            examples[-1]["labels"][: start - stop] = IGNORED
        logits, _ = loss.target_logits(**collate(examples, configs))
        probabilities = (logits.float() / bark.generation_config.coarse_acoustics_config["temperature"]).softmax(-1)
        ids = torch.multinomial(probabilities, 1, generator=generator)
        guesses.append(ids.view(-1, num_codebooks).T.numpy())
    return guesses


class Crops(torch.utils.data.Dataset):
    """Batch `step`: crops of codes, guessed or true, and of the sound that they were made of."""

    def __init__(self, clips, guesses, hop_length: int, batch_size: int, steps: int):
        self.clips, self.guesses, self.hop, self.batch_size, self.steps = clips, guesses, hop_length, batch_size, steps
        self.long = [i for i, guess in enumerate(guesses) if guess.shape[1] > CROP_FRAMES]

    def __len__(self):
        return self.steps

    def __getitem__(self, step: int):
        rng = np.random.default_rng([0, step])
        codes, waveforms = [], []
        for index in rng.choice(self.long, self.batch_size):
            waveform, true = self.clips[index]
            source = self.guesses[index] if rng.random() < GUESSED else true
            start = int(rng.integers(self.guesses[index].shape[1] - CROP_FRAMES))
            codes.append(source[:, start : start + CROP_FRAMES])
            piece = waveform[start * self.hop : (start + CROP_FRAMES) * self.hop].astype(np.float32) / 32768
            waveforms.append(np.pad(piece, (0, CROP_FRAMES * self.hop - len(piece))))
        return [{"codes": torch.from_numpy(np.stack(codes)), "waveform": torch.from_numpy(np.stack(waveforms))}]


class DecoderTraining(nn.Module):
    def __init__(self, codec: EncodecModel):
        super().__init__()
        use_fast_elu(codec)
        self.codec = codec

    def forward(self, codes, waveform):
        latents = self.codec.quantizer.decode(codes.transpose(0, 1))
        decoded = self.codec.decoder(latents)[:, 0, : waveform.shape[1]].float()
        return ModelOutput(loss=spectral_loss(decoded, waveform))


if __name__ == "__main__":
    main()
