"""Draw the pictures of the documentation, from the same figures as its tables.

    python training/results/result_pictures.py [NAME ...]      write docs/pictures/NAME.svg or .png (default: all)

    tokens      a spectrogram of the packaged recording, and the tokens that the packaged encoder finds in it
    languages   accuracy by language beside the community's quantizer
    speed       speed beside transformers
    sources     gain in accuracy by each source of training data
    curve       accuracy by hours of training speech

Colours are readable on a white and on a dark page. Matplotlib comes with the extras `eval` and `docs`.
"""

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from result_tables import ALL, ROOT, evaluation, hundredfold, language_name, read_table, speed_table

PICTURES = ROOT / "docs" / "pictures"
OURS, THEIRS, INK = "#4c8df6", "#f59b3a", "#8a8f98"  # each has a contrast of 3 or more to white and to #0d1117
STYLE = {
    "svg.hashsalt": "hf_bark_semantic",  # reproducible files
    "svg.fonttype": "path",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
RASTERS = ("tokens",)
SHOWN_S = (0.55, 2.05)  # shown part of the recording


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*DRAWINGS, []], help="pictures to draw; by default all")
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args().names or DRAWINGS:
        print(save(draw(name), name))


def draw(name: str) -> Figure:
    with matplotlib.rc_context(STYLE):
        return DRAWINGS[name]()


def save(figure: Figure, name: str) -> Path:
    with matplotlib.rc_context(STYLE):
        file = PICTURES / f"{name}.{'png' if name in RASTERS else 'svg'}"
        metadata = {"Software": None} if name in RASTERS else {"Date": None, "Description": digest(figure)}
        figure.savefig(file, transparent=True, bbox_inches="tight", dpi=90, metadata=metadata)
    plt.close(figure)
    return file


def digest(figure: Figure) -> str:
    """A digest of the figures that are drawn, by which outdated pictures are detected."""
    drawn = [round(float(bar.get_width()), 3) for axes in figure.axes for bar in axes.patches]
    for line in (line for axes in figure.axes for line in axes.lines):
        drawn += [round(float(value), 3) for value in line.get_ydata()]
    return f"figures {hashlib.sha256(repr(drawn).encode()).hexdigest()[:16]}"


def languages() -> Figure:
    rows = evaluation()["presets"]["languages"]
    rows = dict(sorted(rows.items(), key=lambda item: (item[0] != ALL, item[1]["difference"]["mean"])))
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    places = np.arange(len(rows))
    for label, field, color, shift in (
        ("this package", "enhanced_top_1", OURS, 0.2),
        ("community's English quantizer", "community", THEIRS, -0.2),
    ):
        bars(axes, places + shift, [hundredfold(row[field]) for row in rows.values()], color, label)
    axes.set_yticks(places, [language_name(language) for language in rows])
    axes.set_xlabel("top-1 accuracy in %, with 95 % intervals over voices")
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def speed() -> Figure:
    rows = speed_table()["rows"]
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    places = -np.arange(len(rows))
    ratios = [row[3] for row in rows]
    axes.barh(places, ratios, 0.6, color=OURS)
    axes.axvline(1, color=THEIRS, linewidth=2)
    for place, ratio in zip(places, ratios, strict=True):
        axes.text(ratio + 0.05, place, f"{ratio:.1f}", va="center")
    axes.set_yticks(places, [row[0] for row in rows])
    axes.set_xlabel("times as fast as plain transformers (1), two CPU cores")
    return figure


def sources() -> Figure:
    table = read_table("sources")
    figure, axes = plt.subplots(figsize=(8, 2.6), layout="constrained")
    places = -np.arange(len(table["rows"]), dtype=float)
    for column, (color, shift) in zip((1, 3), ((OURS, 0.2), (THEIRS, -0.2)), strict=True):
        bars(axes, places + shift, [row[column] for row in table["rows"]], color, table["columns"][column]["name"])
    axes.set_yticks(places, [row[0].replace("the same with", "the first, with") for row in table["rows"]])
    axes.set_xlabel("top-1 accuracy in %, with 95 % intervals over voices")
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def bars(axes: Axes, places: np.ndarray, figures: list, color: str, label: str) -> None:
    """Horizontal bars of [figure, low, high]."""
    means, lows, highs = np.array(figures).T
    errors = np.stack([means - lows, highs - means])
    axes.barh(places, means, 0.38, color=color, label=label, xerr=errors, error_kw={"ecolor": INK})


def curve() -> Figure:
    table = read_table("learning_curve")
    names = [column["name"] for column in table["columns"]]
    minutes = [float(row[0].split()[0]) for row in table["rows"]]
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for name, color in (("own: top-1", OURS), ("unseen synthetic voices", THEIRS), ("people", INK)):
        means, lows, highs = np.array([row[names.index(name)] for row in table["rows"]]).T
        label = "nano's own speech" if name.startswith("own") else name
        axes.errorbar(minutes, means, np.stack([means - lows, highs - means]), color=color, marker="o", label=label)
    axes.set_xscale("log")
    axes.set_xticks(minutes, [f"{minute:.0f}" for minute in minutes])
    axes.minorticks_off()
    axes.set_xlabel("minutes of training speech")
    axes.set_ylabel("top-1 accuracy in %")
    axes.legend()
    return figure


def tokens() -> Figure:
    from transformers import pipeline

    import hf_bark_semantic
    from hf_bark_semantic.configuration_bark_semantic import SAMPLING_RATE

    waveform = hf_bark_semantic.load_audio(hf_bark_semantic.example_recording())
    result = pipeline("audio-to-bark-semantic")(hf_bark_semantic.example_recording())
    first, last = (int(second * SAMPLING_RATE) for second in SHOWN_S)
    rate = result["num_tokens"] / result["seconds"]
    figure, (spectrogram, strip) = plt.subplots(
        2, 1, figsize=(8, 3.4), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    spectrogram.specgram(
        waveform[first:last], NFFT=512, Fs=SAMPLING_RATE, noverlap=384, xextent=SHOWN_S, cmap="magma", vmin=-120
    )
    spectrogram.set_ylabel("Hz")
    shown = np.arange(*(int(second * rate) for second in SHOWN_S))
    ids = result["semantic_tokens"][shown]
    colors = 0.5 + 0.5 * plt.get_cmap("hsv")((ids * 0.618034) % 1)  # close ids have different colours
    strip.bar(shown / rate, 1, 1 / rate, align="edge", color=colors)
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
        place = (shown[start] + (stop - start) / 2) / rate
        strip.text(place, 0.5, str(ids[start]), rotation=90, ha="center", va="center", fontsize=8, color="black")
    strip.set(yticks=[], xlim=SHOWN_S, ylim=(0, 1), xlabel="seconds", ylabel="tokens")
    return figure


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "tokens": tokens,
    "languages": languages,
    "speed": speed,
    "sources": sources,
    "curve": curve,
}


if __name__ == "__main__":
    main()
