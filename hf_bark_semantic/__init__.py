"""hf_bark_semantic: the audio-to-semantic encoder that Suno's Bark was published without."""

from .environment import explain_import_errors

with explain_import_errors():  # transformers imports torchaudio, whose build may not fit torch's
    from transformers import AutoConfig, AutoModel, AutoProcessor

    from .audio import AudioError, load_audio, save_audio
    from .configuration_bark_semantic import BarkSemanticEncoderConfig
    from .modeling_bark_semantic import BarkSemanticEncoderModel, BarkSemanticEncoderOutput, BarkSemanticTokens
    from .pipelines import AudioToBarkSemanticPipeline, default_encoder, example_recording, register_pipeline
    from .processing_bark_semantic import BarkSemanticEncoderProcessor
    from .voice_prompt import VoicePrompt, VoicePromptError

AutoConfig.register(BarkSemanticEncoderConfig.model_type, BarkSemanticEncoderConfig, exist_ok=True)
AutoModel.register(BarkSemanticEncoderConfig, BarkSemanticEncoderModel, exist_ok=True)
AutoProcessor.register(BarkSemanticEncoderConfig, BarkSemanticEncoderProcessor, exist_ok=True)
register_pipeline()

__all__ = [
    "AudioError",
    "AudioToBarkSemanticPipeline",
    "BarkSemanticEncoderConfig",
    "BarkSemanticEncoderModel",
    "BarkSemanticEncoderOutput",
    "BarkSemanticEncoderProcessor",
    "BarkSemanticTokens",
    "VoicePrompt",
    "VoicePromptError",
    "default_encoder",
    "example_recording",
    "load_audio",
    "save_audio",
]
