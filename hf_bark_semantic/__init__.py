"""hf_bark_semantic: the audio-to-semantic encoder that Suno's Bark was published without."""

from transformers import AutoConfig, AutoModel, AutoProcessor

from .configuration_bark_semantic import BarkSemanticEncoderConfig
from .modeling_bark_semantic import BarkSemanticEncoderModel, BarkSemanticEncoderOutput, BarkSemanticTokens
from .processing_bark_semantic import BarkSemanticEncoderProcessor

AutoConfig.register(BarkSemanticEncoderConfig.model_type, BarkSemanticEncoderConfig, exist_ok=True)
AutoModel.register(BarkSemanticEncoderConfig, BarkSemanticEncoderModel, exist_ok=True)
AutoProcessor.register(BarkSemanticEncoderConfig, BarkSemanticEncoderProcessor, exist_ok=True)
