"""The commands.

Their threads spin for a moment while they wait for each other, then sleep, unless OMP_WAIT_POLICY says otherwise. By
default the threads of OpenMP, which torch computes with, spin for long; where other programs want the same cores, a
small model then does little else. Threads that sleep at once wake up too late: a step of Bark takes 1.4 times as long.

They ask nobody to convert weights, unless DISABLE_SAFETENSORS_CONVERSION is set to something else. By default
transformers sends the name of a repository that has pickled weights alone to a public server, which converts them.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # OpenMP reads these once, when torch is imported
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # about 0.1 ms; on Linux, where it goes before the policy
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")  # transformers reads it whenever it loads weights
