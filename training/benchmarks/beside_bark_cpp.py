"""Build bark.cpp (MIT), a C++ implementation for CPUs, and measure its seconds by stage.

    pip download --no-deps --no-binary :all: bark-cpp-python==0.2.0 && tar xzf bark_cpp_python-0.2.0.tar.gz
    CMAKE_ARGS="-DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS=-march=native -DCMAKE_CXX_FLAGS=-march=native" \\
        pip install --no-deps ./bark_cpp_python-0.2.0
    python training/benchmarks/beside_bark_cpp.py outputs/bark_cpp
    python bark_cpp_python-0.2.0/convert.py --dir-model outputs/bark_cpp --out-dir outputs/bark_cpp --use-f16
    python training/benchmarks/benchmark.py synthesis --case single --seconds 3 --beside bark.cpp outputs/bark_cpp

The third command writes random weights in Bark-small's shapes, in the layout of bark.cpp's `convert.py`; the fourth
converts them to float16 (without `--use-f16`, to float32, with which its EnCodec fails). bark.cpp has no voice
prompts, so both sides speak without one.
"""

import argparse
import contextlib
import ctypes
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmark_synthesis import STAGES, random_bark

NEVER_ENDS = 2.0  # a probability that the end of a text never reaches
BERT_VOCABULARY = 119_547  # words of bert-base-multilingual-cased, Bark's tokenizer
SIZES = ("num_layers", "num_heads", "hidden_size", "block_size", "bias", "input_vocab_size", "output_vocab_size")
CODEC_SIZES = (
    "audio_channels", "hidden_size", "num_filters", "kernel_size", "residual_kernel_size", "codebook_size",
    "sampling_rate",
)  # fmt: skip


def write_random_checkpoint(folder: Path) -> None:
    """Write random weights in Bark-small's shapes as bark.cpp's `convert.py` reads them."""
    bark = random_bark("small", torch.float32)
    weights = {}
    for name, value in bark.state_dict().items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        weights[name.replace("parametrizations.weight.original1", "weight_v")] = value
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(weights, folder / "pytorch_model.bin")
    config = bark.config.to_dict()
    sizes = {f"{name}_config": SIZES for name in ("semantic", "coarse_acoustics", "fine_acoustics")}
    sizes["fine_acoustics_config"] = (*SIZES, "n_codes_total", "n_codes_given")
    sizes["codec_config"] = CODEC_SIZES
    written = {part: {name: config[part][name] for name in names} for part, names in sizes.items()}
    (folder / "config.json").write_text(json.dumps(written))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]
    words += [f"[word {number}]" for number in range(BERT_VOCABULARY - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")


def bark_cpp_stages(folder: Path, num_tokens: int, num_threads: int) -> dict[str, float]:
    """Speak `num_tokens` semantic tokens with bark.cpp; seconds by stage, without the loading of the weights.

    Raises:
        SystemExit: bark.cpp is not installed, the folder has no weights, or bark.cpp fails.
    """
    try:
        from bark_cpp import bark_cpp
    except ImportError as error:
        raise SystemExit(
            f"bark.cpp is not installed ({error}); see training/benchmarks/beside_bark_cpp.py."
        ) from error
    weights = next(iter(sorted(folder.glob("ggml_weights*.bin"))), None)
    if weights is None:
        raise SystemExit(f"{folder} has no ggml_weights.bin; see training/benchmarks/beside_bark_cpp.py.")
    params = bark_cpp.bark_context_default_params()
    params.n_steps_text_encoder, params.min_eos_p = num_tokens, NEVER_ENDS
    with c_output() as printed:
        context = bark_cpp.bark_load_model(str(weights).encode(), params, 0)
        if not context:
            raise SystemExit(f"bark.cpp cannot load {weights}.")
        spoken = bark_cpp.bark_generate_audio(context, b"hello world", num_threads)
        seconds = bark_cpp.bark_get_eval_time(context) / 1e6
        samples = bark_cpp.bark_get_audio_data_size(context)
        bark_cpp.bark_free(context)
    text = printed[0]
    # it prints one "total time" for each of the three language models
    times = [float(value) / 1e3 for value in re.findall(r"total time = +([\d.]+) ms", text)]
    if not spoken or len(times) != len(STAGES) - 1 or samples <= 0:
        raise SystemExit(f"bark.cpp failed: {text[-500:]}")
    return dict(zip(STAGES, [*times, seconds - sum(times)], strict=True))


@contextlib.contextmanager
def c_output() -> Iterator[list[str]]:
    """What a C library prints to stdout and stderr meanwhile; it is in the list afterwards."""
    printed: list[str] = []
    kept = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as file:
        try:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
            yield printed
        finally:
            ctypes.CDLL(None).fflush(None)
            for descriptor, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)
            file.seek(0)
            printed.append(file.read().decode(errors="replace"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for random weights that bark.cpp's convert.py reads")
    write_random_checkpoint(parser.parse_args().folder)
