"""Helpers for the scripts in `metrics/`, which `evaluate.load` loads.

metric_path    the folder of a metric by its name
metric_info    the `MetricInfo` of a script; the types of inputs are above
"""

from pathlib import Path

from datasets import Features, Sequence, Value
from evaluate import MetricInfo

METRICS = Path(__file__).parent / "metrics"
TEXT = Value("string")
TOKENS = Sequence(Value("int64"))
WAVEFORM = EMBEDDING = Sequence(Value("float32"))


def metric_path(name: str) -> Path:
    """The folder of a metric, for `evaluate.load(str(metric_path(name)))`, which needs no network.

    Raises:
        ValueError: there is no such metric; the message lists them.
    """
    folder = METRICS / name
    if not (folder / f"{name}.py").is_file():
        names = ", ".join(sorted(file.stem for file in METRICS.glob("*/*.py")))
        raise ValueError(f"There is no metric {name!r}; there are {names}.")
    return folder


def metric_info(description: str, inputs: str, **features) -> MetricInfo:
    """Describe a metric: what it measures (its script's docstring), arguments and results, and types of inputs."""
    return MetricInfo(description=description, citation="", inputs_description=inputs, features=Features(features))


__all__ = ["EMBEDDING", "METRICS", "TEXT", "TOKENS", "WAVEFORM", "metric_info", "metric_path"]
