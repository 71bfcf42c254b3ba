"""hf_bark_semantic: the audio-to-semantic encoder that Suno's Bark was published without."""

from .environment import explain_import_errors

with explain_import_errors():  # transformers imports torchaudio, whose build may not fit torch's
    from transformers import AutoConfig, AutoModel, AutoProcessor

    from .audio import AudioError, load_audio, save_audio
    from .bark.loading import load_bark
    from .bark.request import SynthesisRequest, SynthesisResult
    from .bark.sampling import Sampling
    from .bark.synthesis import synthesize
    from .bark.voice_prompt import VoicePrompt, VoicePromptError
    from .configuration_bark_semantic import BarkSemanticEncoderConfig
    from .modeling_bark_semantic import BarkSemanticEncoderModel, BarkSemanticEncoderOutput, BarkSemanticTokens
    from .packaged import default_encoder, example_recording, nano_bark, nano_encoder, nano_recording
    from .pipelines import cloning, encoding
    from .pipelines.cloning import VoiceCloningPipeline
    from .pipelines.encoding import AudioToBarkSemanticPipeline
    from .processing_bark_semantic import BarkSemanticEncoderProcessor

AutoConfig.register(BarkSemanticEncoderConfig.model_type, BarkSemanticEncoderConfig, exist_ok=True)
AutoModel.register(BarkSemanticEncoderConfig, BarkSemanticEncoderModel, exist_ok=True)
AutoProcessor.register(BarkSemanticEncoderConfig, BarkSemanticEncoderProcessor, exist_ok=True)
encoding.register_pipeline()
cloning.register_pipeline()

__all__ = [
    "AudioError",
    "AudioToBarkSemanticPipeline",
    "BarkSemanticEncoderConfig",
    "BarkSemanticEncoderModel",
    "BarkSemanticEncoderOutput",
    "BarkSemanticEncoderProcessor",
    "BarkSemanticTokens",
    "Sampling",
    "SynthesisRequest",
    "SynthesisResult",
    "VoiceCloningPipeline",
    "VoicePrompt",
    "VoicePromptError",
    "default_encoder",
    "example_recording",
    "load_audio",
    "load_bark",
    "nano_bark",
    "nano_encoder",
    "nano_recording",
    "save_audio",
    "synthesize",
]
