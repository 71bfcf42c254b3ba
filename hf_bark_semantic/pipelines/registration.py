"""Register the encoder with transformers' auto classes, and the two tasks with its pipelines.

Each is registered when transformers' module with the registry is imported: immediately if this has happened, otherwise
later. Until then, nothing here imports transformers.
"""

import sys
import threading
from contextlib import contextmanager

from ..import_hooks import run_around_imports


def register_with_transformers() -> None:
    """Register with the imported modules of transformers, and with others when they are imported."""
    pending = dict(_REGISTRATIONS)
    imports = threading.local()  # depth of nested imports in this thread

    @contextmanager
    def around():
        imports.depth = getattr(imports, "depth", 0) + 1
        try:
            yield
        finally:
            imports.depth -= 1
        if not imports.depth:  # no module of this package or transformers is partially executed
            register()

    def register():
        for module in [module for module in pending if module in sys.modules]:
            if function := pending.pop(module, None):
                function()

    run_around_imports(("transformers", "hf_bark_semantic"), around)
    register()


def _register_config() -> None:
    from transformers import AutoConfig

    from ..configuration_bark_semantic import BarkSemanticEncoderConfig

    AutoConfig.register(BarkSemanticEncoderConfig.model_type, BarkSemanticEncoderConfig, exist_ok=True)


def _register_model() -> None:
    from transformers import AutoModel

    from ..modeling_bark_semantic import BarkSemanticEncoderConfig, BarkSemanticEncoderModel

    AutoModel.register(BarkSemanticEncoderConfig, BarkSemanticEncoderModel, exist_ok=True)


def _register_processor() -> None:
    from transformers import AutoProcessor

    from ..configuration_bark_semantic import BarkSemanticEncoderConfig
    from ..processing_bark_semantic import BarkSemanticEncoderProcessor

    AutoProcessor.register(BarkSemanticEncoderConfig, BarkSemanticEncoderProcessor, exist_ok=True)


def _register_pipelines() -> None:
    from . import cloning, encoding

    encoding.register_pipeline()
    cloning.register_pipeline()


_REGISTRATIONS = {
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_model,
    "transformers.models.auto.processing_auto": _register_processor,
    "transformers.pipelines": _register_pipelines,
}

__all__ = ["register_with_transformers"]
