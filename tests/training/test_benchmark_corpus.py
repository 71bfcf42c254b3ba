"""The generation of a corpus is timed beside the synthesis of the same rows."""

import json

import pytest

import benchmark
import benchmark_corpus


def test_both_sides_speak_the_same_rows(monkeypatch, capsys):
    spoken, make_speaker = [], benchmark_corpus.stage.make_speaker

    def watched(*args):
        speak = make_speaker(*args)

        def speak_and_note(requests, **options):
            spoken.append([(request.text, request.seed) for request in requests])
            return speak(requests, **options)

        return speak_and_note

    monkeypatch.setattr(benchmark_corpus.stage, "make_speaker", watched)
    benchmark.main(["corpus", "--lines", "3", "--rounds", "1"])
    measured = json.loads(capsys.readouterr().out)
    assert len(spoken[0]) == 3 and spoken[0] == spoken[1]
    corpus, alone = (measured["seconds"][side][0] for side in ("corpus", "synthesis alone"))
    assert measured["corpus_over_synthesis"] == pytest.approx(corpus / alone, abs=1e-3)
