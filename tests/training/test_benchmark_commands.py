"""The benchmark of the commands, with stubs of the commands."""

import json
import sys

import benchmark
import benchmark_commands

PRETEND = """if True:
    import http.server, sys, time
    command = sys.argv[1]
    if command == "app":
        http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), http.server.SimpleHTTPRequestHandler).serve_forever()
    if command == "speak":
        sys.stdout.write("RIFF")
        sys.stdout.flush()
        time.sleep(1)
"""


def test_every_wait_is_measured_alone_and_beside_busy_processes(monkeypatch, capsys):
    monkeypatch.setattr(benchmark_commands, "COMMAND", [sys.executable, "-c", PRETEND])
    monkeypatch.setattr(benchmark_commands, "IMPORTS", ("import json",))
    monkeypatch.setattr(benchmark_commands, "LOADED", "print(0.125)")
    monkeypatch.setattr(benchmark_commands, "BUSY", [sys.executable, "-c", "import time; time.sleep(600)"])
    benchmark.main(["commands", "--rounds", "1", "--busy", "1"])
    waits = json.loads(capsys.readouterr().out)["waits"]
    assert list(waits) == ["alone", "beside 1 busy processes"]
    for series in waits.values():
        assert len(series) == 7 and all(wait["seconds"] > 0 for wait in series.values())
        assert series["first audio of nano, loaded"]["seconds"] == 0.12


def test_busy_processes_end_with_the_series():
    with benchmark_commands.busy_processes(2) as processes:
        assert [process.poll() for process in processes] == [None, None]
    assert None not in [process.poll() for process in processes]
