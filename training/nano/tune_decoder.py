"""Stage 4b. Train the codec's decoder on codes that the fine model predicts.

    python training/nano/tune_decoder.py outputs/nano

The upper codebooks can hardly be predicted from the lower ones, so most of the fine model's predictions are wrong, and
the decoder turns them into noise. Here, half of the crops have predicted codes, from which the decoder must
reconstruct the recording. Encoder and codebooks are frozen, so the codes stay the same. Reads `codec/`, `codes.npz`,
`codes_varied.npz`, `fine/` and `speech/`; writes `tuned_codec/`.
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
from train_codec import spectral_loss, use_fast_elu
from transformers import BarkModel, EncodecModel
from transformers.utils import ModelOutput

from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.setup import BarkSetup
from hf_bark_semantic.bark.stages import StageItem, run_stage
from hf_bark_semantic.trainers.loop import TrainingArguments, train

CROP_FRAMES, GUESSED = 48, 0.5


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--clips", type=int, default=1_200)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args(arguments)
    codec = EncodecModel.from_pretrained(args.folder / "codec")
    bark = new_bark(codec.config, len(text_tokenizer()))
    load_model(bark.fine_acoustics, args.folder / "fine" / "model.safetensors")
    clips = []
    for file, version in (("codes.npz", lambda clip: clip), ("codes_varied.npz", varied)):
        codes = np.load(args.folder / file)
        speech = load_speech(args.folder / "speech", wanted=lambda row, codes=codes: row["id"] in codes)
        chosen = np.random.default_rng(len(clips)).permutation(len(speech))[: args.clips // 2]
        clips += [(version(speech[i]).waveform, codes[speech[i].id].astype(np.int64)) for i in chosen]
    guesses = guessed_codes(bark.eval(), [codes for _, codes in clips])
    training = DecoderTraining(codec)
    arguments = TrainingArguments(
        output_dir=str(args.folder / "tuned_codec"), steps=args.steps, learning_rate=5e-4, warmup=0.05,
        weight_decay=0.0, max_grad_norm=5.0, average=0.99, average_from=0.8, checkpoint_every=250, log_every=50,
        learning_rates={"codec.encoder": 0.0},
    )  # fmt: skip
    batches = Crops(clips, guesses, codec.config.hop_length, args.batch_size, args.steps)
    train(training, batches, arguments).codec.save_pretrained(args.folder / "tuned_codec")


def guessed_codes(bark: BarkModel, all_codes: list[np.ndarray]) -> list[np.ndarray]:
    """Codes `(8, num_frames)` whose upper codebooks are predicted by the fine model."""
    setup = BarkSetup(bark, batch_size=16)
    num_coarse = setup.coarse.n_coarse_codebooks
    items = [
        StageItem(index, SynthesisRequest(text="known", seed=index), codes[:num_coarse])
        for index, codes in enumerate(all_codes)
    ]
    guesses = {item.index: item.value for item in run_stage("fine", setup, items)}
    return [guesses[index] for index in range(len(all_codes))]


class Crops(torch.utils.data.Dataset):
    """Batches of crops of codes, predicted or true, and of the original audio."""

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
