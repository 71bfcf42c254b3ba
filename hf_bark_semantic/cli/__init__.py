"""The commands.

Their threads sleep while they wait for each other, unless OMP_WAIT_POLICY says otherwise. By default the threads of
OpenMP, which torch computes with, spin; where other programs want the same cores, a small model then does little else.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # OpenMP reads it once, when torch is imported
