"""Measure whether known words help an encoder: plain and text-informed tokens of clips with known tokens.

    python training/studies/evaluate_text_informed.py outputs/nano/encoder --bark outputs/nano/bark \\
        --corpus outputs/nano/generated --fold 19 --json outputs/nano/text_informed.json

The clips of the encoder's held-out fold are divided into two halves by voice. On one half, every pair of a weight (of
Bark's log-probabilities) and a prior (share of the log-frequencies of the other folds' tokens) is tried. The pair with
the highest accuracy is used on the other half, for which the report has token accuracy and the likelihood under Bark
given the text (without the end token), each with the difference to plain tokens. The corpus needs rows with text,
voice, audio and tokens, as from `nano/speak_corpus.py` and `generate_corpus.py --audio`; --fold -1 uses all rows of a
corpus without folds.
"""

import argparse
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from hf_bark_semantic import BarkSemanticEncoderModel, load_bark
from hf_bark_semantic.bark.configs import bark_generation_configs
from hf_bark_semantic.bark.examples import Utterance
from hf_bark_semantic.bark.loading import check_encoder
from hf_bark_semantic.bark.prompting import text_to_ids
from hf_bark_semantic.bark.text_informed import (
    DEFAULT_BEAM_SIZE,
    DEFAULT_TOP_K,
    TextInformedDecoder,
    log_unigram,
)
from hf_bark_semantic.corpus.rows import Clip, read_corpus
from hf_bark_semantic.evaluation.significance import paired_difference, ratio_estimate
from hf_bark_semantic.evaluation.tokens import semantic_likelihood
from hf_bark_semantic.packaged import named_encoder
from hf_bark_semantic.trainers.encoder_batches import collate

PLAIN = (0.0, 0.0)  # weight and prior


@dataclass(frozen=True)
class Trial:
    """The tokens of one clip with one weight and prior."""

    id: str
    voice: str
    weight: float
    prior: float
    num_tokens: int
    hits: int
    nll: float | None = None  # of all tokens, in nats
    nll_of_truth: float | None = None


def main(arguments=None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="folder, Hub id or name")
    parser.add_argument("--bark", required=True, help="the Bark of the tokens: folder, Hub id or nano")
    parser.add_argument("--corpus", required=True, help="`datasets` folder or Hub id")
    parser.add_argument("--fold", type=int, required=True, help="the encoder's held-out fold")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.1, 0.2, 0.3, 0.5, 0.7, 1.0])
    parser.add_argument("--priors", type=float, nargs="+", default=[0.0, 0.3])
    parser.add_argument("--beam-size", type=int, default=DEFAULT_BEAM_SIZE)
    parser.add_argument("--top-k", type=int, default=DEFAULT_TOP_K)
    parser.add_argument("--limit", type=int, help="clips of each half")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args(arguments)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
    model = BarkSemanticEncoderModel.from_pretrained(named_encoder(args.encoder)).eval()
    bark, processor = load_bark(args.bark)
    top_k = min(args.top_k, model.config.vocab_size)
    decoder = TextInformedDecoder(bark, processor, beam_size=args.beam_size, top_k=top_k)
    check_encoder(model, decoder.vocab_size)
    clips, others, left_out = read_clips(args.corpus, args.fold, decoder)
    unigram = log_unigram(others, decoder.vocab_size)
    halves = [half[: args.limit] for half in halved(clips)]
    print(f"{len(halves[0])} clips to choose by, {len(halves[1])} to report on; left out: {dict(left_out) or 'none'}")

    settings = [PLAIN, *itertools.product(args.weights, args.priors)]
    decoders = {
        setting: replace(decoder, weight=setting[0], prior=setting[1] * unigram if setting[1] else None)
        for setting in settings
    }
    tried = [t for clip in tqdm(halves[0]) for t in trials(model, clip, decoders, with_nll=False)]
    hits = {setting: sum(t.hits for t in tried if (t.weight, t.prior) == setting) for setting in settings}
    chosen = max(settings[1:], key=hits.get)
    compared = {setting: decoders[setting] for setting in (PLAIN, chosen)}
    judged = [t for clip in tqdm(halves[1]) for t in trials(model, clip, compared, with_nll=True)]
    total = sum(clip.num_tokens for clip in halves[0])
    report = {
        "encoder": args.encoder, "bark": args.bark, "fold": args.fold, "beam_size": args.beam_size, "top_k": top_k,
        "chosen": {"weight": chosen[0], "prior": chosen[1]},
        "accuracy_where_it_was_chosen": [
            {"weight": weight, "prior": prior, "accuracy": hits[weight, prior] / total} for weight, prior in settings
        ],
        "left_out": dict(left_out),
        **compare([t for t in judged if (t.weight, t.prior) == PLAIN],
                  [t for t in judged if (t.weight, t.prior) == chosen]),
        "trials": [asdict(trial) for trial in judged],
    }  # fmt: skip
    print(table(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    return report


def read_clips(corpus: str, fold: int, decoder: TextInformedDecoder) -> tuple[list[Clip], np.ndarray, Counter]:
    """Clips of the fold, the tokens `(num_tokens,)` of all other clips, and counts of clips left out, by reason."""
    longest = bark_generation_configs(decoder.bark).semantic.max_input_semantic_length
    clips, others, left_out = [], [], Counter()
    for clip in read_corpus(corpus):
        if clip.fold != fold:
            others.append(clip.semantic_tokens)
        elif clip.waveform is None:
            left_out["no sound"] += 1
        elif clip.num_tokens > decoder.max_tokens:
            left_out["longer than one generation of Bark"] += 1
        elif not 0 < len(text_to_ids(clip.text, decoder.tokenizer)) <= longest:
            left_out["no text, or longer than Bark reads"] += 1
        else:
            clips.append(clip)
    if len(clips) < 2:
        raise SystemExit(
            f"{corpus} has {len(clips)} usable clips in fold {fold} ({dict(left_out)}); name another fold."
        )
    return clips, np.concatenate([*others, np.zeros(0, np.int64)]), left_out


def halved(clips: Sequence[Clip]) -> list[list[Clip]]:
    """Two halves without a common voice, the same ones every time; with a single voice, clips in turn."""
    voices = sorted({clip.voice for clip in clips}, key=lambda voice: hashlib.sha256(voice.encode()).digest())
    if len(voices) == 1:
        return [list(clips[0::2]), list(clips[1::2])]
    return [[clip for clip in clips if clip.voice in voices[half::2]] for half in (0, 1)]


def trials(model, clip: Clip, decoders: dict, *, with_nll: bool) -> list[Trial]:
    """One trial for each decoder."""
    inputs = collate([replace(clip, audio_codes=None)], model.config.codebook_size)
    labels = inputs.pop("labels")[0].numpy()
    first = next(iter(decoders.values()))
    encoded = model.encode(**{name: tensor.to(model.device) for name, tensor in inputs.items()}, top_k=first.top_k)
    candidates, probabilities = encoded.top_k_tokens[0].cpu().numpy(), encoded.top_k_confidence[0].cpu().numpy()
    found = {setting: decoder.decode(candidates, probabilities, clip.text) for setting, decoder in decoders.items()}
    nll = dict.fromkeys(found)
    if with_nll:  # of tokens alone: the end is not what differs
        ids = text_to_ids(clip.text, first.tokenizer)
        utterances = [Utterance(ids, tokens, complete=False) for tokens in (*found.values(), labels)]
        *of_found, of_truth = (u.nll * u.num_targets for u in semantic_likelihood(first.bark, utterances))
        nll = dict(zip(found, of_found, strict=True))
    return [
        Trial(clip.id, clip.voice, *setting, clip.num_tokens, int((tokens == labels).sum()), nll[setting],
              of_truth if with_nll else None)
        for setting, tokens in found.items()
    ]  # fmt: skip


def compare(plain: Sequence[Trial], informed: Sequence[Trial]) -> dict:
    """Accuracy and mean negative log-likelihood of both, of the truth, and the differences, over voices."""
    tokens, voices = [trial.num_tokens for trial in plain], [trial.voice for trial in plain]
    result = {}
    for name in ("hits", "nll"):
        first, second = ([getattr(trial, name) for trial in part] for part in (plain, informed))
        result["accuracy" if name == "hits" else name] = {
            "plain": asdict(ratio_estimate(first, tokens, groups=voices)),
            "text_informed": asdict(ratio_estimate(second, tokens, groups=voices)),
            "difference": asdict(paired_difference(second, first, tokens, groups=voices)),
        }
    truth = [trial.nll_of_truth for trial in plain]
    result["nll"]["truth"] = asdict(ratio_estimate(truth, tokens, groups=voices))
    return result


def table(report: dict) -> str:
    chosen = report["chosen"]
    lines = [
        f"chosen on the other half: weight {chosen['weight']:g}, prior {chosen['prior']:g}",
        "",
        "| | token accuracy | nats per token under Bark |",
        "| --- | --- | --- |",
    ]
    for name in ("plain", "text_informed", "difference", "truth"):
        accuracy, nll = report["accuracy"].get(name), report["nll"][name]
        cell = "" if accuracy is None else "{value:.1%} [{low:.1%}, {high:.1%}]".format(**accuracy)
        p_value = f", p = {accuracy['p_value']:.3g}" if name == "difference" else ""
        lines.append(
            f"| {name.replace('_', '-')} | {cell}{p_value} | {'{value:.3f} [{low:.3f}, {high:.3f}]'.format(**nll)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
