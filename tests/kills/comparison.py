"""Compare the outputs of two runs: bit by bit, or up to rounding.

With other memory addresses, a BLAS may round differently, by one unit in the last place of a float, which can be one
step of a 16-bit sample.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

ROUNDING = {"rtol": 1e-4, "atol": 1e-4}  # two steps of a 16-bit sample are 6e-5


def differences(expected: Any, found: Any, *, exact: bool = False, name: str = "") -> list[str]:
    """Names of the values that differ, each with what was expected and found."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        names = [f"{key} is missing" for key in expected.keys() - found.keys()]
        names += [f"{key} should not be there" for key in found.keys() - expected.keys()]
        for key in expected.keys() & found.keys():
            names += differences(expected[key], found[key], exact=exact, name=f"{name}.{key}" if name else str(key))
        return names
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [
            line
            for number, pair in enumerate(zip(expected, found, strict=True))
            for line in differences(*pair, exact=exact, name=f"{name}[{number}]")
        ]
    return [] if _equal(expected, found, exact) else [f"{name}: {_shown(expected)} expected, {_shown(found)} found"]


def _equal(expected: Any, found: Any, exact: bool) -> bool:
    kinds = (float, np.ndarray)
    if not isinstance(expected, kinds) or not isinstance(found, kinds):
        return bool(np.array_equal(expected, found))
    if np.shape(expected) != np.shape(found):
        return False
    rounding = {"rtol": 0, "atol": 0} if exact else ROUNDING
    return bool(np.allclose(expected, found, equal_nan=True, **rounding))


def _shown(value: Any) -> str:
    text = f"array of {value.shape}" if isinstance(value, np.ndarray) else repr(value)
    return text if len(text) < 100 else f"{text[:97]}..."
