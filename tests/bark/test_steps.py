"""Steps without the host give the tokens of steps with it, and could be captured in a CUDA graph."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hf_bark_semantic.bark import steps as bark_steps
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.sampling import Guidance, Sampling
from hf_bark_semantic.bark.setup import BarkSetup
from hf_bark_semantic.bark.steps import DeviceSteps, Head
from hf_bark_semantic.bark.synthesis import synthesize
from hf_bark_semantic.bark.transformer import DecodingBatch, Savings, legal_head
from random_bark import GREEDY, LetterTokenizer, assert_same, make_bark, make_requests

ON_DEVICE = replace(Savings(), device_steps=True)
SAMPLINGS = {
    "as the Bark": {},
    "greedy": {"semantic": GREEDY, "coarse": GREEDY},
    "filtered": {"semantic": Sampling(0.9, top_k=40, top_p=0.9), "coarse": Sampling(0.8, top_p=0.95)},
    "guided": {
        "semantic": Sampling(guidance_scale=2.0, voice_guidance_scale=1.5),
        "coarse": Sampling(None, guidance_scale=1.5),
    },
}


@pytest.fixture(scope="module")
def bark():
    return make_bark()


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("values", SAMPLINGS.values(), ids=SAMPLINGS)
def test_steps_without_the_host_give_the_same_tokens(bark, values, batch_size):
    """Rows that end in the middle of several steps, that enter later, and that differ in temperature."""
    requests = [
        *make_requests(**values),
        SynthesisRequest(text="at its own temperature", semantic=Sampling(1.3), seed=7),
    ]
    requests.append(
        SynthesisRequest(text="no end before 25", min_semantic_tokens=25, max_semantic_tokens=40, **values)
    )
    options = {"tokenizer": LetterTokenizer(), "batch_size": batch_size}
    assert_same(synthesize(bark, requests, **options), synthesize(bark, requests, **options, savings=ON_DEVICE))


def test_steps_without_the_host_follow_the_rules_of_transformers(bark):
    options = {"tokenizer": LetterTokenizer(), "batch_size": 3, "transformers_rules": True}
    requests = make_requests()
    assert_same(synthesize(bark, requests, **options), synthesize(bark, requests, **options, savings=ON_DEVICE))


def test_the_host_reads_once_in_many_steps(bark, monkeypatch):
    reads, steps = [], []

    class Counted(DeviceSteps):
        def run(self, rows, num_steps, turn=0):
            reads.append(num_steps)
            return super().run(rows, num_steps, turn)

    monkeypatch.setattr(bark_steps, "DeviceSteps", Counted)
    request = SynthesisRequest(text="a", min_semantic_tokens=40, max_semantic_tokens=40)
    options = {"tokenizer": LetterTokenizer(), "savings": ON_DEVICE, "on_step": steps.append}
    list(synthesize(bark, [request], **options))
    assert reads == [16, 16, 8, 30, 30, 30, 30]  # 40 tokens, then the 120 ids of 60 frames in windows of 30
    assert (steps.count("semantic"), steps.count("coarse")) == (40, 120)


class Seen(TorchDispatchMode):
    """The operations of a step with the shapes of what they read and give, and those that read tensors of the host."""

    def __init__(self):
        super().__init__()
        self.operations, self.from_host = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [value for value in (*args, result) if isinstance(value, torch.Tensor)]
        self.operations.append((str(function), [tuple(tensor.shape) for tensor in tensors]))
        if any(tensor.device.type == "cpu" and tensor.ndim for tensor in tensors):
            self.from_host.append(str(function))
        return result


@pytest.fixture(params=[Guidance(), Guidance(2.0, 1.5)], ids=["plain", "guided"])
def device_steps(bark, request):
    """A function that gives steps of the coarse stage on a device, at a state in which rows differ in length."""

    def make(device):
        model, savings = copy.deepcopy(bark.coarse_acoustics).to(device), Savings()
        num_views = len(request.param.views)
        batch = DecodingBatch(model, 2 * num_views, 60, savings, num_views)
        heads = [Head(legal_head(model.lm_head, slice(start, start + 64), savings), start) for start in (500, 564)]
        setup = BarkSetup(bark)
        steps = DeviceSteps(setup, Sampling(0.8, top_k=9, top_p=0.9), request.param, batch, heads, most=8)
        embeds = model.input_embeds_layer(torch.arange(20, device=device).repeat(2 * num_views, 1))
        batch.prefill(range(2 * num_views), embeds, [20] * num_views + [15] * num_views)
        steps.positions.copy_(torch.tensor(batch.lengths))
        return steps

    return make


@torch.inference_mode()
def test_a_step_neither_reads_on_the_host_nor_copies_from_it(device_steps):
    """On the device `meta`, tensors have no values that a host could read."""
    steps = device_steps("meta")
    with Seen() as seen:
        for number in range(8):
            steps.step(number % 2)
    assert seen.operations and not seen.from_host
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        steps.picked.tolist()


@torch.inference_mode()
def test_a_step_has_the_same_shapes_and_addresses_each_time(device_steps):
    steps, seen = device_steps("cpu"), []
    for _ in range(3):
        addresses = {name: value.data_ptr() for name, value in vars(steps).items() if isinstance(value, torch.Tensor)}
        addresses.update(keys=steps.batch.keys.data_ptr(), values=steps.batch.values.data_ptr())
        with Seen() as mode:
            steps.step(0)
        seen.append((mode.operations, addresses))
    assert seen[0] == seen[1] == seen[2] and len(seen[0][0]) > 50
    assert steps.positions.tolist() == [length + 3 for length in steps.batch.lengths]


def test_a_row_that_goes_on_behind_its_end_stays_within_its_positions(device_steps):
    steps = device_steps("cpu")
    with torch.inference_mode():
        steps.positions.fill_(steps.batch.last_position)
        for number in range(3):
            steps.step(number % 2)
    assert set(steps.positions.tolist()) == {steps.batch.last_position}
