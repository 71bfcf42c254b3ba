"""Text-informed decoding: the beam search is exact, and its layout is that of generation."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset

import evaluate_text_informed
import finetune_bark
import tiny
from hf_bark_semantic import save_audio
from hf_bark_semantic.bark.configs import bark_generation_configs
from hf_bark_semantic.bark.examples import Utterance
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.sampling import Sampling
from hf_bark_semantic.bark.synthesis import text_to_semantic
from hf_bark_semantic.bark.text_informed import TextInformedDecoder, log_unigram
from hf_bark_semantic.cli import main as cli
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames, num_samples_of_codec_frames
from hf_bark_semantic.corpus.rows import read_corpus
from hf_bark_semantic.corpus.utterances import load_utterances
from hf_bark_semantic.evaluation.tokens import semantic_likelihood
from hf_bark_semantic.pipelines.encoding import AudioToBarkSemanticPipeline
from tiny import noise, random_codes, save_tiny_encoder, tiny_encoder, tiny_prompt

TEXT = "the dog runs, a cat sleeps."
TOKENIZER = tiny.tiny_bark_processor().tokenizer


@pytest.fixture(scope="module")
def bark():
    return tiny.tiny_bark()


@pytest.fixture(scope="module")
def encode():
    return AudioToBarkSemanticPipeline(tiny_encoder(window_s=2.0, overlap_s=0.4), device="cpu")


def random_candidates(num_tokens: int, num_candidates: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Candidates and probabilities as an encoder gives them, best first."""
    probabilities = torch.rand(num_tokens, 50, generator=torch.Generator().manual_seed(seed)).mul(4).softmax(-1)
    best = probabilities.topk(num_candidates)
    return best.indices.numpy(), best.values.numpy()


def bark_log_probabilities(bark, sequences, voice_prompt=None) -> np.ndarray:
    """What Bark expects behind the tokens before each position, by transformers' own forward: `(rows, n, 50)`."""
    config = bark.generation_config.semantic_config
    length, vocab_size = config.get("max_input_semantic_length", 256), config["semantic_vocab_size"]
    text = torch.full((length,), config["text_pad_token"])
    ids = torch.tensor(TOKENIZER(TEXT, add_special_tokens=False)["input_ids"])
    text[: len(ids)] = ids + config["text_encoding_offset"]
    history = torch.full((length,), vocab_size)  # its pad token
    if voice_prompt is not None:
        said = torch.from_numpy(voice_prompt.semantic_tokens[-length:])
        history[: len(said)] = said
    embed = bark.semantic.input_embeds_layer
    sequences = torch.tensor(np.array(sequences))
    rest = torch.cat([torch.full((len(sequences), 1), config["semantic_infer_token"]), sequences[:, :-1]], 1)
    embeds = torch.cat([(embed(text) + embed(history)).expand(len(sequences), -1, -1), embed(rest)], 1)
    with torch.no_grad():
        logits = bark.semantic(inputs_embeds=embeds).logits[:, length:, :vocab_size]
    return logits.float().log_softmax(-1).double().numpy()


def scores_of(bark, sequences, candidates, probabilities, weight, prior=None, voice_prompt=None) -> list[float]:
    """Each sequence's score by its definition."""
    prior, scores = np.zeros(50) if prior is None else prior, []
    for tokens, expected in zip(sequences, bark_log_probabilities(bark, sequences, voice_prompt), strict=True):
        total = 0.0
        for position, token in enumerate(tokens):
            place = candidates[position].tolist().index(token)
            total += np.log(float(probabilities[position, place])) + weight * expected[position, token] - prior[token]
        scores.append(total)
    return scores


@pytest.mark.parametrize("voice_prompt", [None, tiny_prompt()])
def test_a_wide_beam_finds_what_exhaustive_search_finds(bark, voice_prompt):
    candidates, probabilities = random_candidates(5, 3)
    prior = 0.5 * log_unigram(np.arange(120) % 7, 50)
    decoder = TextInformedDecoder(bark, TOKENIZER, weight=0.7, beam_size=3**5, top_k=3, prior=prior)
    found = decoder.decode(candidates, probabilities, TEXT, voice_prompt)
    sequences = list(itertools.product(*candidates.tolist()))
    scores = scores_of(bark, sequences, candidates, probabilities, 0.7, prior, voice_prompt)
    assert tuple(found) == sequences[np.argmax(scores)]
    assert tuple(found) != tuple(candidates[:, 0])  # Bark had something to say


def test_a_beam_of_one_is_greedy(bark):
    candidates, probabilities = random_candidates(30, 6)
    found = TextInformedDecoder(bark, TOKENIZER, weight=0.6, beam_size=1, top_k=6).decode(
        candidates, probabilities, TEXT
    )
    tokens = []
    for position in range(30):
        expected = bark_log_probabilities(bark, [[*tokens, 0]])[0, position]
        totals = np.log(probabilities[position].astype(float)) + 0.6 * expected[candidates[position]]
        tokens.append(int(candidates[position, totals.argmax()]))
    assert found.tolist() == tokens != candidates[:, 0].tolist()


def test_a_narrow_beam_is_an_ordinary_beam_search(bark):
    """Every hypothesis is scored anew by transformers' forward, so keys and values have followed their rows."""
    candidates, probabilities = random_candidates(12, 4)
    decoder = TextInformedDecoder(bark, TOKENIZER, weight=0.8, beam_size=3, top_k=4)
    beams = [()]
    for position in range(12):
        so_far = (candidates[: position + 1], probabilities[: position + 1])
        continued = [(*tokens, token) for tokens in beams for token in candidates[position].tolist()]
        scores = scores_of(bark, continued, *so_far, 0.8)
        beams = [continued[i] for i in np.argsort(scores)[::-1][:3]]
    assert tuple(decoder.decode(candidates, probabilities, TEXT)) == beams[0]


def test_the_layout_is_that_of_generation(bark):
    """Where the encoder knows nothing, greedy search says what Bark says greedily."""
    prompt = tiny_prompt()
    request = SynthesisRequest(
        text=TEXT, voice_prompt=prompt, semantic=Sampling(0.0, min_eos_p=None), min_semantic_tokens=40
    )
    [(said, _)] = text_to_semantic(bark, [replace(request, max_semantic_tokens=40)], tokenizer=TOKENIZER)
    candidates = np.tile(np.arange(50), (40, 1))
    decoder = TextInformedDecoder(bark, TOKENIZER, weight=1.0, beam_size=1, top_k=50)
    found = decoder.decode(candidates, np.full((40, 50), 0.02, np.float32), TEXT, prompt)
    assert found.tolist() == said.tolist() and len(set(said)) > 1


@pytest.mark.parametrize("weight", [0.0, 1e-9])
def test_without_weight_the_tokens_are_the_encoders(bark, encode, weight):
    waveform = noise(1.8)
    decoder = TextInformedDecoder(bark, TOKENIZER, weight=weight)
    plain, informed = (
        encode(waveform, source_sampling_rate=16_000, **o) for o in ({}, {"text": TEXT, "bark": decoder})
    )
    assert plain["semantic_tokens"].tolist() == informed["semantic_tokens"].tolist()
    assert np.allclose(plain["confidence"], informed["confidence"], atol=1e-6)
    candidates, probabilities = random_candidates(20, 50)
    assert decoder.decode(candidates, probabilities, TEXT).tolist() == candidates[:, 0].tolist()


def test_more_weight_makes_tokens_that_bark_finds_likelier(bark):
    candidates, probabilities = random_candidates(40, 16)
    text_ids = np.array(TOKENIZER(TEXT, add_special_tokens=False)["input_ids"])
    nll = []
    for weight in (0.0, 0.5, 4.0):
        tokens = TextInformedDecoder(bark, TOKENIZER, weight=weight).decode(candidates, probabilities, TEXT)
        [likelihood] = semantic_likelihood(bark, [Utterance(text_ids, tokens, complete=False)])
        nll.append(likelihood.nll)
    assert nll[0] > nll[1] > nll[2]


def test_the_prior_alone_changes_the_choice(bark):
    candidates, probabilities = np.array([[3, 4], [5, 6]]), np.array([[0.6, 0.4], [0.9, 0.1]], np.float32)
    prior = np.zeros(50)
    prior[3] = prior[5] = 1.0  # e times as common as the others
    decoder = TextInformedDecoder(bark, TOKENIZER, weight=0.0, prior=prior)
    assert decoder.decode(candidates, probabilities, TEXT).tolist() == [4, 5]


def test_log_unigram_is_the_logarithm_of_smoothed_frequencies():
    assert np.allclose(np.exp(log_unigram(np.array([0, 0, 2]), 4)), [3 / 7, 1 / 7, 2 / 7, 1 / 7])


# ---- the pipeline and the command line


def test_the_pipeline_gives_the_decoders_tokens_and_the_encoders_confidence(bark, encode):
    rows = [{"array": noise(seconds, 3), "sampling_rate": 16_000} for seconds in (1.0, 1.6)]
    results = encode(rows, text=[TEXT, "one two"], bark=(bark, TOKENIZER), top_k=3)
    for row, text, result in zip(rows, (TEXT, "one two"), results, strict=True):
        plain = encode(row, top_k=50)
        tokens = TextInformedDecoder(bark, TOKENIZER).decode(plain["top_k_tokens"], plain["top_k_confidence"], text)
        assert result["semantic_tokens"].tolist() == tokens.tolist() != plain["semantic_tokens"].tolist()
        of_tokens = plain["top_k_confidence"][plain["top_k_tokens"] == tokens[:, None]]
        assert np.allclose(result["confidence"], of_tokens, atol=1e-6) and result["confidence"].dtype == np.float32
        assert result["top_k_tokens"].tolist() == plain["top_k_tokens"][:, :3].tolist()
    assert "top_k_tokens" not in encode(rows[0], text=TEXT, bark=(bark, TOKENIZER))


def test_a_bark_that_is_named_is_loaded_once(bark_folder, monkeypatch):
    encode = AudioToBarkSemanticPipeline(tiny_encoder(), device="cpu")
    row = {"array": noise(1.0), "sampling_rate": 16_000}
    first = encode(row, text=TEXT, bark=bark_folder)
    monkeypatch.setattr("hf_bark_semantic.bark.loading.load_bark", None)
    assert encode(row, text=TEXT, bark=bark_folder)["semantic_tokens"].tolist() == first["semantic_tokens"].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": TEXT}, "go together"),
        ({"bark": "nano"}, "go together"),
        ({"text": [TEXT], "bark": "nano"}, "go together"),
        ({"text": " ", "bark": "tiny"}, "no token. Write words"),
        ({"text": "the " * 257, "bark": "tiny"}, "Split"),
        ({"text": TEXT, "bark": "tiny", "top_k": 0}, "`top_k` is 0"),
        ({"text": TEXT, "bark": 3}, "must be a Hub id"),
    ],
)
def test_what_the_pipeline_cannot_do_is_said(bark, encode, options, message):
    if options.get("bark") == "tiny":
        options = {**options, "bark": (bark, TOKENIZER)}
    with pytest.raises((ValueError, TypeError), match=message):
        encode({"array": noise(1.0), "sampling_rate": 16_000}, **options)


def test_texts_and_inputs_are_as_many(bark, encode):
    row = {"array": noise(1.0), "sampling_rate": 16_000}
    with pytest.raises(ValueError, match="1 texts for 2 inputs"):
        encode([row, row], text=[TEXT], bark=(bark, TOKENIZER))


def test_what_bark_cannot_say_at_once_is_to_be_split(bark, encode):
    with pytest.raises(ValueError, match=r"151 tokens \(3.0 s\), and Bark generates 100 \(2.0 s\) at once. Split"):
        encode({"array": noise(3.02), "sampling_rate": 16_000}, text=TEXT, bark=(bark, TOKENIZER))


def test_an_encoder_of_another_bark_is_refused(bark, encode):
    other = tiny.tiny_bark(vocab_size=40)
    with pytest.raises(ValueError, match="vocabulary of 50"):
        encode({"array": noise(1.0), "sampling_rate": 16_000}, text=TEXT, bark=(other, TOKENIZER))
    with pytest.raises(ValueError, match="tokens 0 to 39"):
        TextInformedDecoder(other, TOKENIZER).decode(*random_candidates(5, 50), TEXT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "`weight`"),
        ({"weight": float("nan")}, "`weight`"),
        ({"beam_size": 0}, "`beam_size`"),
        ({"top_k": 51}, "`top_k`"),
        ({"prior": np.zeros(49)}, "`prior`"),
        ({"prior": np.full(50, -np.inf)}, "`prior`"),
    ],
)
def test_values_out_of_range_are_refused(bark, options, message):
    with pytest.raises(ValueError, match=message):
        TextInformedDecoder(bark, TOKENIZER, **options)


def test_candidates_of_another_shape_are_refused(bark):
    with pytest.raises(ValueError, match=r"must be \(num_tokens, num_candidates\)"):
        TextInformedDecoder(bark, TOKENIZER).decode(np.arange(5), np.ones(5), TEXT)


@pytest.fixture
def encoder_folder(tmp_path) -> str:
    save_tiny_encoder(tmp_path / "encoder", codec_hidden_size=16)
    return str(tmp_path / "encoder")


def test_the_command_line_knows_the_text(bark, bark_folder, encoder_folder, tmp_path, capsys):
    path = str(save_audio(tmp_path / "a.wav", noise(1.0), 16_000))
    np.save(tmp_path / "codes.npy", random_codes(75))
    options = ["--encoder", encoder_folder, "--device", "cpu", "--json"]
    for file in (path, str(tmp_path / "codes.npy")):
        assert cli.main(["encode", file, *options, "--text", TEXT, "--bark", bark_folder]) == 0
        informed = json.loads(capsys.readouterr().out)
        assert cli.main(["encode", file, *options, "--top-k", "16"]) == 0
        plain = json.loads(capsys.readouterr().out)
        assert len(informed["semantic_tokens"]) == 50 and informed["semantic_tokens"] != plain["semantic_tokens"]
        pairs = zip(informed["semantic_tokens"], plain["top_k_tokens"], strict=True)
        assert all(token in candidates for token, candidates in pairs)


def test_the_command_line_takes_one_text_for_one_file(bark_folder, encoder_folder, tmp_path, capsys):
    path = str(save_audio(tmp_path / "a.wav", noise(1.0), 16_000))
    long = str(save_audio(tmp_path / "long.wav", noise(3.0), 16_000))
    options = ["--encoder", encoder_folder, "--device", "cpu"]
    both = ["--text", "a", "--bark", bark_folder]
    for wrong in ([path, "--text", TEXT], [path, "--bark", bark_folder], [path, long, *both]):
        assert cli.main(["encode", *wrong, *options]) == 2
        assert "a single FILE" in capsys.readouterr().err
    assert cli.main(["encode", path, *options, "--text", "a", "--bark", str(tmp_path / "nothing")]) == 2
    assert cli.main(["encode", long, *options, *both]) == 1
    assert "Split it" in capsys.readouterr().err


# ---- the data of fine-tuning, and the evaluation


def test_recordings_are_prepared_with_what_their_transcripts_say(bark, bark_folder, encoder_folder, tmp_path, capsys):
    (tmp_path / "my").mkdir()
    save_audio(tmp_path / "my" / "a.wav", noise(1.5, sampling_rate=24_000), 24_000)
    (tmp_path / "my" / "metadata.csv").write_text("a|one dog runs\n")
    options = ["--bark", bark_folder, "--encoder", encoder_folder, "--device", "cpu", "--output"]
    said = {}
    for name, extra in (("plain", []), ("informed", ["--text-informed"]), ("none", ["--text-informed", "0"])):
        finetune_bark.main(["prepare", str(tmp_path / "my"), *options, str(tmp_path / name), *extra])
        [utterance] = load_utterances(tmp_path / name, TOKENIZER, bark_generation_configs(bark))
        said[name] = utterance.semantic_tokens.tolist()
    assert said["plain"] == said["none"] != said["informed"]
    description = json.loads((tmp_path / "informed" / "corpus.json").read_text())["text_informed"]
    assert description == TextInformedDecoder(bark, TOKENIZER).description()
    with pytest.raises(SystemExit, match="text_informed.weight"):
        finetune_bark.main(["prepare", str(tmp_path / "my"), *options, str(tmp_path / "plain"), "--text-informed"])


@pytest.fixture
def spoken(tmp_path) -> str:
    """A corpus of `nano/speak_corpus.py`'s columns: eight clips of four voices in fold 0, and some that don't fit."""
    rows = []
    for number in range(11):
        num_tokens = 120 if number == 9 else 40 + number
        num_frames = num_codec_frames(num_tokens)
        rows.append(
            {
                "id": f"clip-{number}", "source": "nano", "kind": "generated", "voice": "abcd"[number % 4],
                "text": "" if number == 10 else TEXT, "fold": int(number == 8), "in_folds": True,
                "semantic_tokens": np.random.default_rng(number).integers(0, 50, num_tokens).tolist(),
                "audio_codes": random_codes(num_frames, number).tolist(),
                "audio": noise(num_samples_of_codec_frames(num_frames) / 16_000 + 1e-6, number),
            }
        )  # fmt: skip
    Dataset.from_list(rows).save_to_disk(tmp_path / "spoken")
    return str(tmp_path / "spoken")


def test_the_evaluation_chooses_on_one_half_and_reports_on_the_other(
    bark, bark_folder, encoder_folder, spoken, tmp_path, capsys
):
    options = ["--bark", bark_folder, "--corpus", spoken, "--fold", "0", "--json", str(tmp_path / "e.json")]
    options += ["--weights", "0.5", "4", "--priors", "0", "0.3", "--beam-size", "2", "--top-k", "8"]
    evaluate_text_informed.main([encoder_folder, *options])
    report = json.loads((tmp_path / "e.json").read_text())
    assert report["left_out"] == {"longer than one generation of Bark": 1, "no text, or longer than Bark reads": 1}
    tried = {(row["weight"], row["prior"]): row["accuracy"] for row in report["accuracy_where_it_was_chosen"]}
    assert tried.keys() == {(0, 0), (0.5, 0), (0.5, 0.3), (4, 0), (4, 0.3)}
    chosen = tuple(report["chosen"].values())
    assert chosen != (0, 0) and tried[chosen] == max(v for setting, v in tried.items() if setting != (0, 0))
    assert report["accuracy"]["plain"]["count"] == 4 and report["accuracy"]["plain"]["groups"] == 2
    plain = [trial for trial in report["trials"] if trial["weight"] == 0]
    model = evaluate_text_informed.BarkSemanticEncoderModel.from_pretrained(encoder_folder).eval()
    for clip in read_corpus(spoken):
        for trial in plain:
            if trial["id"] == clip.id:
                result = model.encode(torch.from_numpy(clip.waveform)[None])
                assert trial["hits"] == int((result.semantic_tokens[0].numpy() == clip.semantic_tokens).sum())
    total = sum(trial["num_tokens"] for trial in plain)
    assert report["accuracy"]["plain"]["value"] == pytest.approx(sum(trial["hits"] for trial in plain) / total)
    nll = report["nll"]
    assert nll["text_informed"]["value"] < nll["plain"]["value"]
    assert nll["difference"]["value"] == pytest.approx(nll["text_informed"]["value"] - nll["plain"]["value"])
    assert "| text-informed |" in capsys.readouterr().out


def test_halves_share_no_voice(spoken):
    clips = list(read_corpus(spoken))
    first, second = evaluate_text_informed.halved(clips)
    assert len(first) + len(second) == 11 and not {c.voice for c in first} & {c.voice for c in second}
    assert [len(half) for half in evaluate_text_informed.halved([c for c in clips if c.voice == "a"])] == [2, 1]
