"""CSS and theme of the page: system fonts, and a contrast of at least 4.5 to 1 between text and background."""

import gradio as gr

CSS = """
body:not(.dark) {--neutral-400: var(--neutral-500)}
.dark {--color-accent: var(--primary-400); --link-text-color: var(--primary-400)}
:focus-visible:focus-visible:focus-visible {outline: 2px solid var(--color-accent) !important; outline-offset: 1px}
.unseen {display: none !important}
input {text-overflow: ellipsis}
[data-testid=block-label] {max-width: calc(100% - 5em)}
.note p {margin: 0; color: var(--body-text-color)}
#tokens {max-height: 16em; overflow-y: auto}
.overview svg {display: block; width: 100%; height: 72px; cursor: grab; touch-action: pan-y}
.overview svg * {vector-effect: non-scaling-stroke}
.overview .peaks {stroke: var(--body-text-color-subdued)}
.overview .part {fill: var(--color-accent); fill-opacity: 0.3; stroke: var(--color-accent)}
figure.speech {margin: 0}
figure.speech svg, figure.speech img {display: block; width: 100%; margin: 0}
figure.speech .wave {height: 56px; stroke: var(--body-text-color); fill: none}
figure.speech .wave path {vector-effect: non-scaling-stroke}
figure.speech img {height: 128px}
figure.speech .tokens {height: 16px; fill: var(--color-accent)}
figure.speech .seconds {position: relative; height: 1.3em; overflow: hidden; font-size: var(--text-xs)}
figure.speech .seconds span {position: absolute; border-left: 1px solid; padding-left: 3px; white-space: nowrap}
figure.speech figcaption {font-size: var(--text-sm)}
#table table {width: 100%; table-layout: fixed}
#table th:first-child, #table th:last-child {width: 4.2em}
#table td, #table th {padding: 0.3em 0.5em; border: 1px solid var(--border-color-primary); text-align: left}
#table td {white-space: pre-line; overflow-wrap: anywhere}
#table td button {min-width: 2.2em; min-height: 2.2em; border-radius: 4px}
#table td button {background: var(--button-secondary-background-fill); color: var(--button-secondary-text-color)}
button[role=tab] {min-width: 0; padding-left: 0.7em; padding-right: 0.7em}
"""


def theme() -> gr.themes.Base:
    """A theme with the system's fonts, so that no fonts are downloaded."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return gr.themes.Default(primary_hue="blue", **fonts).set(
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        color_accent="*primary_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
    )


__all__ = ["CSS", "theme"]
