"""Templates and scripts of the page's `gr.HTML` components, which run in the visitor's browser.

OVERVIEW, DRAG    a recording with its chosen part, which the pointer and the arrow keys move
PLAYER            a player that plays pieces of speech in a row, as they arrive
LINES             a table of lines, each with a play button

A template would run code in a visitor's text, so scripts insert texts as plain text.
"""

OVERVIEW = """${value ? `<svg viewBox="0 -1 ${value.peaks.length} 2" preserveAspectRatio="none" tabindex="0"
    role="slider" aria-label="The chosen part of the recording" aria-valuemin="0" aria-valuemax="${value.duration_s}"
    aria-valuenow="${value.start_s}" aria-valuetext="${value.start_s} s to ${value.end_s} s">
    ${value.peaks.map((peak, i) => `<path class="peaks" d="M${i + 0.5} ${-peak}V${peak}"/>`).join("")}
    <rect class="part" x="${value.start_s / value.duration_s * value.peaks.length}" y="-1" height="2"
        width="${(value.end_s - value.start_s) / value.duration_s * value.peaks.length}"/></svg>` : ""}"""

DRAG = """
const KEYS = {ArrowLeft: -0.1, ArrowRight: 0.1, PageDown: -1, PageUp: 1, Home: -Infinity, End: Infinity};
let dragged = false;
const moveTo = (wanted) => {
    const {duration_s, start_s, end_s} = props.value, length = end_s - start_s;
    const start = Math.max(0, Math.min(duration_s - length, wanted));
    const round = (seconds) => Math.round(seconds * 100) / 100;
    props.value = {...props.value, start_s: round(start), end_s: round(start + length)};
    trigger('drag');
};
const follow = (event) => {
    const {left, width} = element.getBoundingClientRect(), {duration_s, start_s, end_s} = props.value;
    moveTo((event.clientX - left) / width * duration_s - (end_s - start_s) / 2);
};
element.addEventListener('pointerdown', (event) => {
    if (!props.value) return;
    dragged = true;
    element.setPointerCapture(event.pointerId);
    follow(event);
});
element.addEventListener('pointermove', (event) => dragged && follow(event));
element.addEventListener('pointerup', () => {
    if (dragged) trigger('drop');
    dragged = false;
});
element.addEventListener('keydown', (event) => {
    if (!props.value || !(event.key in KEYS)) return;
    event.preventDefault();
    moveTo(props.value.start_s + KEYS[event.key]);
});
element.addEventListener('keyup', (event) => event.key in KEYS && props.value && trigger('drop'));
"""

PLAYER = """
const context = new AudioContext();
let end = 0, sources = [];
const stop = () => {
    sources.forEach((source) => source.stop());
    [end, sources, element.dataset.playedS] = [0, [], 0];
};
watch('value', async () => {
    if (!props.value) return stop();
    const {first, wav} = props.value;
    if (first) stop();
    await context.resume();
    const bytes = Uint8Array.from(atob(wav), (letter) => letter.charCodeAt(0));
    const source = context.createBufferSource();
    source.buffer = await context.decodeAudioData(bytes.buffer);
    if (!props.value) return;
    source.connect(context.destination);
    end = Math.max(end, context.currentTime);
    source.start(end);
    sources.push(source);
    end += source.buffer.duration;
    element.dataset.playedS = (Number(element.dataset.playedS) + source.buffer.duration).toFixed(2);
});
"""

LINES = """
const audio = new Audio(), body = document.createElement('tbody'), table = document.createElement('table');
let playing = null;
const mark = (button, plays) => {
    button.textContent = plays ? '■' : '▶';
    button.ariaLabel = `${plays ? 'Stop' : 'Play'} line ${button.dataset.line}`;
};
const stop = () => {
    audio.pause();
    if (playing) mark(playing, false);
    playing = null;
};
const play = (button) => {
    if (playing === button) return stop();
    stop();
    audio.src = `gradio_api/file=${button.dataset.file}`;
    audio.play();
    mark(playing = button, true);
};
audio.onended = stop;
const head = table.createTHead().insertRow();
for (const [scope, name] of [['col', 'Line'], ['col', 'Text'], ['col', 'Result'], ['col', 'Play']])
    head.append(Object.assign(document.createElement('th'), {scope, textContent: name}));
table.append(body);
table.ariaLabel = 'Lines';
watch('value', () => {
    const lines = props.value ?? [];
    if (lines.length < body.rows.length) {
        stop();
        body.replaceChildren();
    }
    if (lines.length && !table.isConnected) element.append(table);
    if (!lines.length) table.remove();
    for (const [number, text, result, file] of lines.slice(body.rows.length)) {
        const row = body.insertRow();
        for (const words of [number, text, result]) row.insertCell().textContent = words;
        const cell = row.insertCell();
        if (!file) continue;
        const button = cell.appendChild(document.createElement('button'));
        Object.assign(button.dataset, {line: Number(number), file});
        button.onclick = () => play(button);
        mark(button, false);
    }
});
"""

__all__ = ["DRAG", "LINES", "OVERVIEW", "PLAYER"]
