"""What is said of a fine-tuned Bark: tables of losses, and the card of its adapters."""

from pathlib import Path

from ..bark.adapters import lora_config
from ..packaged import card_template
from ..publishing import markdown_table
from .bark_config import Settings


def report_tables(content: dict) -> str:
    """What training brought, and what it cost."""
    stages, rows = content["stages"], []
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
            markdown_table(["model", "what Bark said itself", "loss before", "after"], probes) if probes else "",
        ]
    ).strip()


def render_card(settings: Settings, content: dict) -> str:
    """The adapter's card; all numbers are of the report."""
    base = content["bark"]
    loras = {stage: lora_config(**settings.of_stage("lora", stage)) for stage in settings.stages}
    values = {
        "name": Path(settings.output_dir).resolve().name,
        "base_line": f"base_model: {base}\n" if "/" in base else "",
        "license_line": f"license: {settings.license}\n" if settings.license else "",
        "base": base,
        "stages": ", ".join(
            f"{stage} (rank {lora.r}, alpha {lora.lora_alpha:g}{', DoRA' if lora.use_dora else ''})"
            for stage, lora in loras.items()
        ),
        "megabytes": f"{content['adapter_megabytes']}",
        "utterances": f"{content['utterances']:,}",
        "minutes": f"{content['minutes']:,}",
        "voices": f"{content['voices']:,}",
        "replay": f"{settings.replay['share']:.0%}",
        "tables": report_tables(content),
    }
    card = card_template("adapter").read_text(encoding="utf-8")
    for name, value in values.items():
        card = card.replace("{" + name + "}", value)
    return card
