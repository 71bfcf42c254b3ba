"""What runs in the visitor's browser: templates and scripts of the page's `gr.HTML` components."""

# how a page draws an overview and the part of it that was chosen, and lets the part be dragged
OVERVIEW = """${value ? `<svg viewBox="0 -1 ${value.peaks.length} 2" preserveAspectRatio="none">
    ${value.peaks.map((peak, i) => `<path class="peaks" d="M${i + 0.5} ${-peak}V${peak}"/>`).join("")}
    <rect class="part" x="${value.start_s / value.duration_s * value.peaks.length}" y="-1" height="2"
        width="${(value.end_s - value.start_s) / value.duration_s * value.peaks.length}"/></svg>` : ""}"""
DRAG = """
let dragged = false;
const move = (event) => {
    const {left, width} = element.getBoundingClientRect(), {duration_s, start_s, end_s} = props.value;
    const length = end_s - start_s, middle = (event.clientX - left) / width * duration_s;
    const start = Math.max(0, Math.min(duration_s - length, middle - length / 2));
    const round = (seconds) => Math.round(seconds * 100) / 100;
    props.value = {...props.value, start_s: round(start), end_s: round(start + length)};
    trigger('drag');
};
element.addEventListener('pointerdown', (event) => {
    if (!props.value) return;
    dragged = true;
    element.setPointerCapture(event.pointerId);
    move(event);
});
element.addEventListener('pointermove', (event) => dragged && move(event));
element.addEventListener('pointerup', () => {
    if (dragged) trigger('drop');
    dragged = false;
});
"""

# plays pieces of speech one after the other, as they come
PLAYER = """
const context = new AudioContext();
let end = 0;
watch('value', async () => {
    if (!props.value) return;
    const {first, wav} = props.value;
    if (first) end = 0;
    await context.resume();
    const bytes = Uint8Array.from(atob(wav), (letter) => letter.charCodeAt(0));
    const source = context.createBufferSource();
    source.buffer = await context.decodeAudioData(bytes.buffer);
    source.connect(context.destination);
    end = Math.max(end, context.currentTime);
    source.start(end);
    end += source.buffer.duration;
    element.dataset.playedS = (Number(first ? 0 : element.dataset.playedS) + source.buffer.duration).toFixed(2);
});
"""


__all__ = ["DRAG", "OVERVIEW", "PLAYER"]
