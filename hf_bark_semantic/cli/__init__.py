"""The commands.

Their threads sleep while they wait for each other, unless OMP_WAIT_POLICY says otherwise. By default the threads of
OpenMP, which torch computes with, spin; where other programs want the same cores, a small model then does little else.

They ask nobody to convert weights, unless DISABLE_SAFETENSORS_CONVERSION is set to something else. By default
transformers sends the name of a repository that has pickled weights alone to a public server, which converts them.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # OpenMP reads it once, when torch is imported
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")  # transformers reads it whenever it loads weights
