"""hf_bark_semantic: the audio-to-semantic encoder that Suno's Bark was published without.

`__init__.pyi` lists the public names; each is imported on first use. The encoder and its tasks are registered with
transformers' auto classes and pipelines, whether transformers is imported before this package or after it.
"""

import lazy_loader

from .environment import VERSION, explain_torchaudio_errors
from .pipelines.registration import register_with_transformers

__version__ = VERSION

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

explain_torchaudio_errors()
register_with_transformers()
