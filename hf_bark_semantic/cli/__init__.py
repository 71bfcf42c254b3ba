"""The commands, and environment variables that they set.

OMP_WAIT_POLICY=PASSIVE, GOMP_SPINCOUNT=10000: torch's OpenMP threads spin for about 0.1 ms while they wait for each
other, then sleep. By default they spin for long, which makes small models slow if other programs use the same cores.
Without spinning, threads wake up too late: a step of Bark takes 1.4 times as long.

DISABLE_SAFETENSORS_CONVERSION=1: for a repository with pickled weights only, transformers would send its name to a
public server that converts them.
"""

import os

SPINS = 10**4  # of a waiting thread, about 0.1 ms

if "OMP_WAIT_POLICY" not in os.environ:  # OpenMP reads these once, when torch is imported
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))  # on Linux, where it overrides the policy
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")  # transformers reads it whenever it loads weights
