"""hf_bark_semantic: the audio-to-semantic encoder that Suno's Bark was published without.

The public names are those of `__init__.pyi`; each is imported when it is asked for. transformers' auto classes and
pipelines learn of the encoder and of its tasks when they are imported, before this package or after it.
"""

import lazy_loader

from .environment import VERSION, explain_torchaudio_errors
from .pipelines.registration import register_with_transformers

__version__ = VERSION

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

explain_torchaudio_errors()
register_with_transformers()
