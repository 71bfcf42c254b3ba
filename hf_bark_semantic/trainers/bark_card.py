"""Texts about a fine-tuned Bark: tables of losses, and the model card of its adapters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..bark.adapters import lora_config
from ..publishing import markdown_table, render_card
from .bark_config import BarkTrainingConfig


def report_tables(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """Two tables of losses before and after training: on held-out recordings, and on Bark's own speech."""
    rows = []
    for stage, result in stages.items():
        losses = {int(step): value for step, value in result["validation_loss"].items()}
        best = result["best_step"]
        share = f"{result['trained'] / result['parameters']:.2%}"
        rows.append((stage, share, f"{losses[0]:.4f}", f"{losses[best]:.4f}", f"{best} of {result['last_step']}"))
    probes = [
        (stage, kind, f"{value['before']:.4f}", f"{value['after']:.4f}")
        for stage, result in stages.items()
        for kind, value in result["probe"].items()
    ]
    return "\n\n".join(
        [
            markdown_table(["model", "trained", "held-out loss before", "after", "best step"], rows),
            markdown_table(["model", "Bark's own speech", "loss before", "after"], probes) if probes else "",
        ]
    ).strip()


def adapter_card(config: BarkTrainingConfig, report: Mapping[str, Any], template: Path) -> str:
    """The model card of adapters; all its figures come from the report that [`FineTuning`] writes.

    Args:
        config (`BarkTrainingConfig`): of the training.
        report (`Mapping`): the content of report.json.
        template (`Path`): `packaged.card_template("adapter")`.
    """
    base = report["bark"]
    loras = {stage: lora_config(**config.of_stage("lora", stage)) for stage in config.stages}
    values = {
        "name": Path(config.output_dir).resolve().name,
        "base": base,
        "stages": ", ".join(
            f"{stage} (rank {lora.r}, alpha {lora.lora_alpha:g}{', DoRA' if lora.use_dora else ''})"
            for stage, lora in loras.items()
        ),
        "megabytes": f"{report['adapter_megabytes']}",
        "utterances": f"{report['utterances']:,}",
        "minutes": f"{report['minutes']:,}",
        "voices": f"{report['voices']:,}",
        "replay": f"{config.replay.share:.0%}",
        "tables": report_tables(report["stages"]),
    }
    metadata = {"license": config.license or None, "base_model": base if "/" in base else None}
    return render_card(template, values, metadata=metadata)
