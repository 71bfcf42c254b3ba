"""What the scripts in `metrics/` tell `evaluate` about themselves, and the types of their inputs."""

from datasets import Features, Sequence, Value
from evaluate import MetricInfo

TEXT = Value("string")
TOKENS = Sequence(Value("int64"))
WAVEFORM = EMBEDDING = Sequence(Value("float32"))


def metric_info(description: str, inputs: str, **features) -> MetricInfo:
    """Describe a metric: what it measures (its script's docstring), arguments and results, and types of inputs."""
    return MetricInfo(description=description, citation="", inputs_description=inputs, features=Features(features))


__all__ = ["EMBEDDING", "TEXT", "TOKENS", "WAVEFORM", "metric_info"]
