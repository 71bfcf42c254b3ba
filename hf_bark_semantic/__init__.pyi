from .audio import AudioError, load_audio, save_audio
from .bark.loading import load_bark
from .bark.request import SynthesisRequest, SynthesisResult
from .bark.sampling import Sampling
from .bark.synthesis import synthesize
from .bark.text_informed import TextInformedDecoder
from .bark.voice_prompt import VoicePrompt, VoicePromptError
from .configuration_bark_semantic import BarkSemanticEncoderConfig
from .modeling_bark_semantic import BarkSemanticEncoderModel, BarkSemanticEncoderOutput, BarkSemanticTokens
from .packaged import default_encoder, example_recording, named_encoder, nano_bark, nano_encoder, nano_recording
from .pipelines.cloning import VoiceCloningPipeline
from .pipelines.encoding import AudioToBarkSemanticPipeline
from .processing_bark_semantic import BarkSemanticEncoderProcessor, DataCollatorForBarkSemanticEncoder
from .publishing import publish
from .voices.provenance import Provenance, read_provenance
from .voices.window import prompt_report

__version__: str

__all__ = [
    "AudioError",
    "AudioToBarkSemanticPipeline",
    "BarkSemanticEncoderConfig",
    "BarkSemanticEncoderModel",
    "BarkSemanticEncoderOutput",
    "BarkSemanticEncoderProcessor",
    "BarkSemanticTokens",
    "DataCollatorForBarkSemanticEncoder",
    "Provenance",
    "Sampling",
    "SynthesisRequest",
    "SynthesisResult",
    "TextInformedDecoder",
    "VoiceCloningPipeline",
    "VoicePrompt",
    "VoicePromptError",
    "default_encoder",
    "example_recording",
    "load_audio",
    "load_bark",
    "named_encoder",
    "nano_bark",
    "nano_encoder",
    "nano_recording",
    "prompt_report",
    "publish",
    "read_provenance",
    "save_audio",
    "synthesize",
]
