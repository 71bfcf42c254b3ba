"""The precision in which a device multiplies matrices fast.

choose_precision    bf16 if the hardware has bf16 instructions, otherwise float32; and why
bf16_time           how long bf16 takes on this CPU, for each second of float32
"""

import functools
import time

import torch

MIN_SPEEDUP = 1.2  # of bf16 on a CPU: less does not make up for the casts
_SIZE, _MEASURED_S = 192, 0.015  # a product takes 18 ms where bf16 is emulated (0.8 GFLOP/s)


def choose_precision(device: torch.device | str) -> tuple[str, str]:
    """Choose between bf16 and float32 for training on a device.

    Args:
        device (`torch.device` or `str`): a CPU is measured, which takes some 50 ms, once per process.

    Returns:
        `(name, reason)`: `"bf16"` or `"no"` (float32), the names that Accelerate has for mixed precision.
    """
    device = torch.device(device)
    if device.type == "cpu":
        share = bf16_time()
        if share * MIN_SPEEDUP <= 1:
            return "bf16", f"it multiplies {1 / share:.1f} times as fast as float32 on this CPU"
        return "no", f"bf16 takes {share:.1f} times as long as float32 on this CPU"
    if device.type == "cuda":
        name, supported = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)[0] >= 8
    elif device.type == "mps":
        name, supported = "macOS before 14", torch.backends.mps.is_macos_or_newer(14, 0)
        name = "MPS" if supported else name
    else:
        return "no", f"whether bf16 is fast on {device.type} is unknown; `mixed_precision: bf16` tries it"
    return ("bf16", f"{name} multiplies in it") if supported else ("no", f"{name} does not multiply in bf16")


@functools.cache
def bf16_time() -> float:
    """Seconds that a matrix product takes in bf16 on this CPU, over those in float32; 66 where bf16 is emulated."""
    return _product_s(torch.bfloat16) / _product_s(torch.float32)


def _product_s(dtype: torch.dtype) -> float:
    a, b = torch.ones(2, _SIZE, _SIZE, dtype=dtype)
    torch.mm(a, b)  # compiles the kernel
    times: list[float] = []
    started = time.perf_counter()
    while not times or time.perf_counter() - started < _MEASURED_S:
        before = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - before)
    return min(times)


__all__ = ["bf16_time", "choose_precision"]
