"""The page under load: many visitors at once, who clone, speak, cancel, come back and close their tabs.

    python training/benchmarks/benchmark_page.py --visitors 20 --seconds 600 --output outputs/page

Starts `bark-semantic app` on nano, open to other machines, so that every visitor has a voice. Each visitor uploads and
clones a recording, and then chooses at random: speak a text or a list in this voice, clone again, cancel, reload the
page, or leave during a job. All speech, also each line of a list, must be in the visitor's own voice: the file names
the SHA-256 of the voice prompt. Once a second, another visitor loads the page and the state of its queue. The page's
answers are these times, the times until a visitor who opens the page sees the own voices, and the times until a
visitor learns that the queue is full. Memory, threads, open files and temporary files of the server are recorded
every ten seconds.

    output/ page.json    figures; `spoken` counts recordings of speech, `mixed` those in another visitor's voice
            server.log   what the server printed
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from gradio_client import Client, handle_file

from hf_bark_semantic import VoicePrompt, load_audio, nano_recording, save_audio
from hf_bark_semantic.files import write_json
from hf_bark_semantic.voices.provenance import prompt_sha256, read_provenance

SETTINGS = ("", "", "", "", "full", "fixed", "wav")  # temperatures, guidance, stages, long texts, files
WORDS = ("The dog runs.", "Seven three.", "Open the window, please.", "One nine two.", "Good day.", "A cat sleeps.")
LONG_TEXT = " ".join(WORDS * 20)
WARM_UP_S = 120.0
RATE = 24_000


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--port", type=int, default=7899)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, open(args.output / "server.log", "wb") as log:
        command = [sys.executable, "-m", "hf_bark_semantic.cli.main", "app", "--host", "0.0.0.0", "--device", "cpu"]
        files = Path(temporary, "server")
        files.mkdir()
        environment = {**os.environ, "TMPDIR": str(files), "GRADIO_TEMP_DIR": str(files / "gradio")}
        server = subprocess.Popen([*command, "--port", str(args.port)], env=environment, stdout=log, stderr=log)
        try:
            load = Load(f"http://127.0.0.1:{args.port}/", psutil.Process(server.pid), files, args)
            wait_until_open(load.address, load.server)
            load.run(Path(temporary))
            summary = load.summary()
        finally:
            server.terminate()
            server.wait(60)
        summary["temporary_files_at_the_end"] = sum(path.is_file() for path in files.rglob("*"))
    write_json(args.output / "page.json", summary)
    print(json.dumps(summary, indent=1))
    return summary


class Load:
    """Visitors of a page, and what is measured of it."""

    def __init__(self, address: str, server: psutil.Process, files: Path, args: argparse.Namespace):
        self.address, self.server, self.files, self.args = address, server, files, args
        self.counts: Counter[str] = Counter()
        self.spoken: Counter[bool] = Counter()  # by whether it is in the own voice
        self.refusals: list[float] = []
        self.errors: Counter[str] = Counter()
        self.answers: list[float] = []
        self.arrivals: list[float] = []
        self.samples: list[dict[str, float]] = []
        self.started = self.end = 0.0

    def run(self, folder: Path) -> None:
        self.started = time.monotonic()
        self.end = self.started + self.args.seconds
        recording = load_audio(nano_recording(), RATE)
        threads = [
            threading.Thread(target=self.visit, args=(number, folder, recording), daemon=True)
            for number in range(self.args.visitors)
        ]
        for thread in threads:
            thread.start()
        while time.monotonic() < self.end:
            self.look()
            for _ in range(10):
                if time.monotonic() < self.end:
                    self.answers += [self.answer(""), self.answer("gradio_api/queue/status")]
                    time.sleep(1)
        for thread in threads:
            thread.join(60)
        self.look()

    def answer(self, path: str) -> float:
        """Seconds until the page has answered."""
        started = time.monotonic()
        get(self.address + path)
        return time.monotonic() - started

    def look(self) -> None:
        state = state_of(self.server, self.files)
        self.samples.append({"s": round(time.monotonic() - self.started), **state})

    def visit(self, number: int, folder: Path, recording: np.ndarray) -> None:
        """One visitor, until the time is over: an own pitch makes an own voice."""
        rng = random.Random(f"{self.args.seed} {number}")
        file = folder / f"visitor{number}.wav"
        save_audio(file, (0.5 + number / 50) * recording[rng.randrange(RATE) :], RATE)
        visitor = None
        while time.monotonic() < self.end:
            try:
                visitor = visitor or Visitor(self.address, f"visitor {number}", file, self.arrivals)
                action = "clone" if not visitor.own else rng.choice(Visitor.ACTIONS)
                self.counts[action] += 1
                self.spoken.update(getattr(visitor, action)(rng) or [])
            except Refused as refused:
                self.refusals.append(refused.seconds)
                time.sleep(rng.uniform(1, 5))
            except Exception as error:  # whatever it is, it is counted
                self.errors[" ".join(str(error).split())[:120] or type(error).__name__] += 1
                visitor = visitor if visitor and visitor.own else None
                time.sleep(rng.uniform(1, 5))

    def summary(self) -> dict[str, Any]:
        warm = [sample for sample in self.samples if sample["s"] >= WARM_UP_S] or self.samples[-1:]
        minute = min(6, len(warm))  # samples
        resident = [sample["resident_mb"] for sample in warm]
        before, after = np.mean(resident[:minute]), np.mean(resident[-minute:])
        return {
            "visitors": self.args.visitors,
            "seconds": self.args.seconds,
            "load_average": os.getloadavg()[1],
            "actions": dict(self.counts),
            "spoken": self.spoken.total(),
            "mixed": self.spoken[False],
            "errors": dict(self.errors),
            "page_answers": _times(self.answers),
            "arrivals": _times(self.arrivals),
            "refusals": _times(self.refusals),
            "resident_mb_in_the_minute_after_two": round(float(before)),
            "resident_mb_in_the_last_minute": round(float(after)),
            "growth_after_warm_up": round(float(after / before - 1), 4),
            "samples": [self.samples[0], self.samples[len(self.samples) // 2], self.samples[-1]],
            "resident_mb": [sample["resident_mb"] for sample in self.samples],
        }


def _times(seconds: Sequence[float]) -> dict[str, float]:
    percentiles = {"median_s": 50, "p95_s": 95, "longest_s": 100} if seconds else {}
    return {
        "count": len(seconds),
        **{name: round(float(np.percentile(seconds, share)), 3) for name, share in percentiles.items()},
    }


def get(address: str) -> None:
    with urllib.request.urlopen(address, timeout=60) as answer:
        answer.read()


def post(address: str, values: dict[str, Any]) -> Any:
    request = urllib.request.Request(address, json.dumps(values).encode(), {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=60)


def wait_until_open(address: str, server: psutil.Process, longest_s: float = 300.0) -> None:
    """Wait for the page of a server that has just been started.

    Raises:
        OSError: there is none after that time, or the server has ended.
    """
    deadline = time.monotonic() + longest_s
    while True:
        try:
            return get(address)
        except OSError:
            if time.monotonic() > deadline or not server.is_running():
                raise
            time.sleep(1)


def state_of(process: psutil.Process, temporary: Path) -> dict[str, float]:
    """What a process holds now, and how many files are below its folder for temporary ones."""
    with process.oneshot():
        return {
            "resident_mb": round(process.memory_info().rss / 1e6, 1),
            "threads": process.num_threads(),
            "open_files": process.num_fds(),
            # os.walk passes over folders that are removed meanwhile, where rglob fails
            "temporary_files": sum(len(files) for _, _, files in os.walk(temporary)),
        }


class Refused(Exception):
    """The queue was full, and the visitor was told so after some seconds."""

    def __init__(self, seconds: float):
        super().__init__(f"The queue is full; it took {seconds:.2f} s to say so.")
        self.seconds = seconds


class Visitor:
    """One browser: its voices, as the page gave them, and its connection.

    An action gives, of each recording that was spoken, whether it is in the own voice.

    Args:
        address (`str`): of the page.
        name (`str`), recording (`Path`): of the own voice.
        arrivals (`list[float]`): is given the seconds that each arrival on the page takes.
    """

    ACTIONS = ("speak", "speak", "speak", "speak_lines", "clone", "cancel", "refresh", "leave")

    def __init__(self, address: str, name: str, recording: Path, arrivals: list[float]):
        self.address, self.name, self.recording, self.own, self.prompt = address, name, recording, {}, ""
        self.arrivals = arrivals
        self.open()

    def open(self) -> None:
        """Open the page, and ask for the own voices as its script does, which does not wait in the queue."""
        self.client = Client(self.address, verbose=False, analytics_enabled=False)
        started, last = time.monotonic(), {"bark": None, "voice": f"own:{self.name}", "text": ""}
        asked = {"data": [self.own, [], last], "session_hash": self.client.session_hash}
        with post(f"{self.address}gradio_api/run/arrive", asked) as answer:
            _, _, voices, *_ = json.load(answer)["data"]
        self.arrivals.append(time.monotonic() - started)
        if missing := self.own.keys() - {name for name, _ in voices["choices"]}:
            raise RuntimeError(f"{missing.pop()} is not in the menu")

    def refresh(self, rng: random.Random) -> None:
        self.client.close()
        self.open()

    def leave(self, rng: random.Random) -> None:
        """Close the tab in the middle of a job, and come back."""
        self.submit("/speak", LONG_TEXT)
        time.sleep(rng.uniform(0.5, 3))
        self.refresh(rng)

    def clone(self, rng: random.Random) -> None:
        chosen = (handle_file(str(self.recording)), 0.0, 5.0, self.name, True)
        *_, file, _, self.own = self.ended(self.client.submit({}, 0, "nano", "", *chosen, "", api_name="/clone"))
        self.prompt = prompt_sha256(VoicePrompt.load(file["value"]))

    def submit(self, event: str, text: str):
        inputs = (self.own, None, "nano", "", f"own:{self.name}", 0, *SETTINGS, text)
        return self.client.submit(*inputs, api_name=event)

    def ended(self, job) -> Any:
        """What a job gives in the end."""
        started = time.monotonic()
        try:
            return job.result()
        except Exception as error:
            if "Queue is full" in str(error):
                raise Refused(time.monotonic() - started) from error
            raise

    def speak(self, rng: random.Random) -> list[bool]:
        file, *_ = self.ended(self.submit("/speak", rng.choice(WORDS)))
        return [self.is_own(file)]

    def speak_lines(self, rng: random.Random) -> list[bool]:
        rows, archive, _ = self.ended(self.submit("/speak_lines", "\n".join(rng.sample(WORDS, 4))))
        if failed := [result for _, _, result, _ in rows if "failed" in result]:
            raise RuntimeError(failed[0])
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive["value"]) as opened:
            files = [name for name in opened.namelist() if name.endswith(".wav")]
            return [self.is_own(opened.extract(name, folder)) for name in files]

    def is_own(self, file: str) -> bool:
        return read_provenance(file)["voice_prompt_sha256"] == self.prompt

    def cancel(self, rng: random.Random) -> None:
        job = self.submit("/speak", LONG_TEXT)
        time.sleep(rng.uniform(0.5, 3))
        job.cancel()


if __name__ == "__main__":
    main()
