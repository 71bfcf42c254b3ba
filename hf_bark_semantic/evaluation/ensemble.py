"""Ensembles of encoders on held-out clips: the best weights, and the gain in accuracy.

    fold_ensembles    the ensemble of each fold, and the clips that it was trained without
    score_members     hits of every clip for every choice of weights
    weights_report    the best weights on one half of the voices, and figures for the other half, for JSON
    weights_blocks    the same as tables
    weights_rows      the same for each clip

Weights are those of an [`EncoderEnsemble`], on a grid. If the corpus has tokens of the community's quantizer, a bonus
is also added to the log-probability of its token at each position. This estimates the gain of the quantizer as one
more member; its own probabilities are unknown.
"""

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import EncodecModel

from ..corpus.rows import Clip
from ..ensemble import EncoderEnsemble
from ..trainers.records import training_record
from ..trainers.splits import digest
from .encoder import (
    FIELDS,
    digest_of,
    format_interval,
    held_out_clips,
    kept_scores,
    load_encoder,
    with_audio,
    with_truth,
)
from .journal import Journal
from .presets import ALL, clip_estimate, community_hits, community_tokens, interval
from .report_page import Table
from .significance import paired_difference
from .tokens import TOP_K, readable_inputs

BONUSES = tuple(i / 2 for i in range(11))  # added to the log-probability of the community's token
FINE, COARSE = 10, 4  # steps of the grid from 0 to 1, for at most three members and for more
Scored = Sequence[tuple[Clip, np.ndarray]]  # clips, and hits of shape (num_weights, num_bonuses, 2)


def fold_ensembles(
    encoders: Sequence[str], clips: Sequence[Clip], *, unseen: bool = False
) -> list[tuple[list[str], list[Clip]]]:
    """The members of each fold's ensemble, in order, and the clips that they were trained without.

    Args:
        encoders (sequence of `str`): runs of folds, and encoders without a held-out fold, which join every ensemble.
        unseen (`bool`): the caller guarantees that the latter were trained on none of the clips.

    Raises:
        ValueError: as in `held_out_clips`, or the folds have different numbers of members.
    """
    records = {place: training_record(place) for place in encoders}
    folds = {place: None if record is None else record["fold"] for place, record in records.items()}
    held_out = {
        place: held_out_clips(place, record, clips, unseen=unseen and folds[place] is None)
        for place, record in records.items()
    }
    numbers = sorted({fold for fold in folds.values() if fold is not None}) or [None]
    members = [[place for place in encoders if folds[place] in (number, None)] for number in numbers]
    if len({len(places) for places in members}) > 1:
        counts = ", ".join(f"fold {fold} has {len(places)}" for fold, places in zip(numbers, members, strict=True))
        raise ValueError(f"Every fold needs the same members, one run of each training; {counts}.")
    return [(places, min((held_out[place] for place in places), key=len)) for places in members]


def weight_grid(num_members: int) -> list[tuple[float, ...]]:
    """Weights that add up to 1: equal ones first, then a grid that includes single members."""
    steps = FINE if num_members <= 3 else COARSE
    points = itertools.product(range(steps + 1), repeat=num_members)
    grid = [tuple(part / steps for part in point) for point in points if sum(point) == steps]
    return list(dict.fromkeys([(1 / num_members,) * num_members, *grid]))


def score_members(
    ensembles: Sequence[tuple[Sequence[str], Sequence[Clip]]],
    journal: Journal,
    *,
    lag: int = 0,
    known_codebooks: int = 8,
    input_level_db: float | None = None,
    codec: EncodecModel | None = None,
) -> list[tuple[Clip, np.ndarray]]:
    """Score every fold's ensemble on its fold, from audio, or from codes where a member reads no audio.

    Args:
        ensembles: from [`fold_ensembles`].
        lag (`int`): delay of the community's tokens, in tokens.
        known_codebooks (`int`), input_level_db (`float`, *optional*), codec (*optional*): as in `score_runs`.

    Returns:
        Each clip with its top-1 and top-5 hits, int of shape `(num_weights, num_bonuses, 2)`, for the weights of
            [`weight_grid`] and, if the community's tokens are known, each of `BONUSES`.

    Raises:
        ValueError: encoders that cannot be an ensemble (see [`EncoderEnsemble`]), or clips that it cannot read.
    """
    scored = []
    for places, held_out in ensembles:
        ensemble = EncoderEnsemble([load_encoder(place, input_level_db) for place in places])
        kind = "audio" if ensemble.backbone is not None else "codes"
        waves, codes = kind == "audio", kind == "codes" or codec is not None
        chosen = [
            clip for clip in with_truth(held_out)
            if (waves and clip.waveform is not None) or (codes and clip.audio_codes is not None)
        ]  # fmt: skip
        if not chosen:
            raise ValueError(f"{', '.join(places)}: none of the {len(held_out)} clips has {kind}; see --codec.")

        def score(clip: Clip, ensemble=ensemble, kind=kind) -> list:
            inputs = readable_inputs(ensemble, with_audio(clip, codec), known_codebooks)[kind]
            log_probabilities = [_log_probabilities(member, inputs) for member in ensemble.members]
            theirs = None if clip.community_tokens is None else torch.from_numpy(community_tokens(clip, lag))
            return clip_hits(log_probabilities, torch.from_numpy(clip.semantic_tokens), theirs)

        hits = kept_scores(score, chosen, journal, digest_of(ensemble))
        scored += [(clip, np.array(of_clip)) for clip, of_clip in zip(chosen, hits, strict=True)]
    return scored


def _log_probabilities(model, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The log-probabilities of one clip, `(num_tokens, vocab_size)`."""
    result = model.encode(**inputs, top_k=model.config.vocab_size)
    values = result.top_k_confidence[0].clamp(min=torch.finfo(torch.float32).tiny).log()
    return torch.empty_like(values).scatter_(-1, result.top_k_tokens[0], values)


def clip_hits(
    log_probabilities: Sequence[torch.Tensor], labels: torch.Tensor, community: torch.Tensor | None = None
) -> list[list[list[int]]]:
    """Hits of one clip for every choice of weights.

    Args:
        log_probabilities (sequence of `torch.FloatTensor` of shape `(num_tokens, vocab_size)`): from each member.
        labels (`torch.LongTensor` of shape `(num_tokens,)`): the true tokens.
        community (`torch.LongTensor` of shape `(num_tokens,)`, *optional*): the community's tokens; -1 for none.

    Returns:
        `list` of shape `(num_weights, num_bonuses, 2)`; without the community's tokens, `num_bonuses` is 1.
    """
    bonuses, device = (0.0,) if community is None else BONUSES, log_probabilities[0].device
    labels = labels.to(device)[:, None]
    community = torch.full_like(labels, -1) if community is None else community.to(device)[:, None]
    right, wrong = community == labels, (community >= 0) & (community != labels)
    rows = []
    for weights in weight_grid(len(log_probabilities)):
        mixed = torch.stack([w * part for w, part in zip(weights, log_probabilities, strict=True) if w]).sum(0)
        truth, theirs = mixed.gather(-1, labels), mixed.gather(-1, community.clamp(min=0))
        rows.append([])
        for bonus in bonuses:
            raised = truth + bonus * right
            overtaken = wrong & (theirs <= raised) & (theirs + bonus > raised)
            rank = (mixed > raised).sum(-1) + overtaken[:, 0]
            rows[-1].append([int((rank < k).sum()) for k in (1, TOP_K)])
    return rows


def in_first_half(clip: Clip) -> bool:
    """Whether the clip's voice is used to choose weights; figures are measured on the other voices."""
    return digest(clip.voice) % 2 == 0


def weights_report(scored: Scored, members: Sequence[Sequence[str]], *, lag: int = 0) -> dict:
    """The best weights on one half of the voices, and figures for the other half with 95 % intervals.

    Args:
        scored: from [`score_members`], with the same `lag`.
        members: the members of each ensemble.

    Returns:
        `dict`: `members` (names), `weights` and `best_member`, chosen by top-1, then top-5 accuracy on the first half;
            `kinds`: for each kind of clip its counts, `ways` (each member, `equal` weights, the `chosen` ones) with
            `top_1` and `top_5`, and `gain`, the top-1 accuracy of the chosen weights minus that of the best member. If
            the community's tokens are known, `community`: the `bonus`, chosen in the same way, and for each language
            the ensemble `without` and `with` it, the `community` alone, and the `gain`.

    Raises:
        ValueError: all voices are in one half.
    """
    first = [hits for clip, hits in scored if in_first_half(clip)]
    second = [(clip, hits) for clip, hits in scored if not in_first_half(clip)]
    if not first or not second:
        raise ValueError(f"All voices of the {len(scored)} clips are in one half; choosing weights needs two.")
    names = _names(members)
    weights = weight_grid(len(names))
    sums = np.sum([hits[:, 0] for hits in first], axis=0)  # (num_weights, 2)
    chosen = _best(sums, range(len(weights)))
    alone = [weights.index(tuple(row)) for row in np.eye(len(names)).tolist()]
    best = _best(sums, alone)
    ways = dict(zip(names, alone, strict=True)) | ({"equal": 0, "chosen": chosen} if len(names) > 1 else {})
    kinds = {}
    for kind in [*dict.fromkeys(clip.kind for clip, _ in second), ALL]:
        here = [(clip, hits[:, 0]) for clip, hits in second if kind in (clip.kind, ALL)]
        kinds[kind] = {**_counts(here), "ways": {name: _figures(here, index) for name, index in ways.items()}}
        kinds[kind]["gain"] = _gain(here, [hits[chosen, 0] for _, hits in here], [hits[best, 0] for _, hits in here])
    report = {"members": names, "weights": list(weights[chosen]), "best_member": names[alone.index(best)]}
    report |= {"kinds": kinds}
    read = [hits[chosen] for hits in first if hits.shape[1] > 1]
    told = [(clip, hits[chosen]) for clip, hits in second if hits.shape[1] > 1]
    return {**report, "community": _community_report(read, told, lag)} if read and told else report


def _community_report(first: Sequence[np.ndarray], second: Scored, lag: int) -> dict:
    """The `community` part of the report, from hits at the chosen weights, `(num_bonuses, 2)`."""
    bonus = _best(np.sum(first, axis=0), range(len(BONUSES)))
    rows = {}
    for language in [*sorted({clip.language for clip, _ in second}), ALL]:
        here = [(clip, hits) for clip, hits in second if language in (clip.language, ALL)]
        theirs = clip_estimate([clip for clip, _ in here], [community_hits(clip, lag) for clip, _ in here])
        rows[language] = {**_counts(here), "community": theirs}
        rows[language] |= {"without": _figures(here, 0), "with": _figures(here, bonus)}
        rows[language]["gain"] = _gain(here, [hits[bonus, 0] for _, hits in here], [hits[0, 0] for _, hits in here])
    return {"bonus": BONUSES[bonus], "lag": lag, "languages": rows}


def _names(members: Sequence[Sequence[str]]) -> list[str]:
    """The name of each member: the common part of its places, numbered."""
    roles = zip(*members, strict=True)
    return [f"{number}. {os.path.commonprefix(places).rstrip('/')}" for number, places in enumerate(roles, 1)]


def _best(hits: np.ndarray, among: Sequence[int]) -> int:
    """The index with the most top-1 hits, then top-5 hits; the first of equal ones."""
    return max(among, key=lambda index: tuple(hits[index]))


def _counts(scored: Scored) -> dict[str, int]:
    clips = [clip for clip, _ in scored]
    tokens = sum(clip.num_tokens for clip in clips)
    return {"clips": len(clips), "groups": len({clip.voice for clip in clips}), "tokens": tokens}


def _figures(scored: Scored, index: int) -> dict[str, dict[str, float]]:
    """Top-1 and top-5 accuracy from hits `(.., 2)` at one index."""
    clips = [clip for clip, _ in scored]
    return {name: clip_estimate(clips, [hits[index, i] for _, hits in scored]) for i, name in enumerate(FIELDS)}


def _gain(scored: Scored, hits: Sequence[int], before: Sequence[int]) -> dict[str, float]:
    tokens, voices = zip(*((clip.num_tokens, clip.voice) for clip, _ in scored), strict=True)
    difference = paired_difference(hits, before, tokens, groups=voices)
    return {**interval(difference), "p_value": difference.p_value}


def weights_blocks(report: Mapping) -> list[Table]:
    """Tables of [`weights_report`]: by kind of clip, and with the community's tokens by language."""
    ways = list(report["kinds"][ALL]["ways"])
    lines = [[k, *(_cells(row["ways"][way]) for way in ways), *_tail(row)] for k, row in report["kinds"].items()]
    shown = ", ".join(f"{weight:g}" for weight in report["weights"])
    note = (
        f"Top-1 / top-5 on the half of the voices that no weight was chosen on. Chosen on the other half: {shown}. "
        f"The gain in top-1 is over {report['best_member']}, the best member there; intervals over voices."
    )
    columns = ["clips", *ways, "gain", "voices", "tokens"]
    tables = [Table("Several encoders as one", columns, lines, note)]
    if "community" in report:
        rows = report["community"]["languages"]
        lines = [
            [name, format_interval(row["community"]), _cells(row["without"]), _cells(row["with"]), *_tail(row)]
            for name, row in rows.items()
        ]
        note = (
            f"{report['community']['bonus']:g} was added to the log-probability of the community's token, which is "
            f"{report['community']['lag']} tokens late. It was chosen on one half of the voices, as above."
        )
        columns = ["language", "community: top-1", "without it", "with it", "gain", "voices", "tokens"]
        tables.append(Table("With the tokens of the community's quantizer", columns, lines, note))
    return tables


def _cells(figures: Mapping[str, Mapping[str, float]]) -> str:
    return f"{format_interval(figures['top_1'])} / {figures['top_5']['mean']:.1%}"


def _tail(row: Mapping[str, Any]) -> list[str]:
    gain = row["gain"]
    shown = f"{gain['mean']:+.1%} [{gain['low']:+.1%}, {gain['high']:+.1%}]"
    return [shown, str(row["groups"]), f"{row['tokens']:,}"]


def weights_rows(scored: Scored, report: Mapping) -> list[dict]:
    """A row for each clip: its half and its hits at the chosen weights."""
    index = weight_grid(len(report["members"])).index(tuple(report["weights"]))
    rows = []
    for clip, hits in scored:
        row = {"id": clip.id, "voice": clip.voice, "kind": clip.kind, "language": clip.language}
        row |= {"chosen_on": in_first_half(clip), "num_tokens": clip.num_tokens}
        rows.append(row | dict(zip(FIELDS, hits[index, 0].tolist(), strict=True)))
    return rows


__all__ = ["fold_ensembles", "score_members", "weights_blocks", "weights_report", "weights_rows"]
