"""Stage 5. Assemble the three trained models and the codec to one `BarkModel`.

    python training/nano/assemble.py outputs/nano

Writes `bark/`: weights, generation config, text tokenizer. `package.py` adds voice presets later.
"""

import argparse
from pathlib import Path

from nano_bark import new_bark, text_tokenizer
from safetensors.torch import load_model
from train_bark import PARTS
from transformers import BarkProcessor, EncodecModel


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args(arguments)
    tokenizer = text_tokenizer()
    codec = EncodecModel.from_pretrained(args.folder / "tuned_codec")
    bark = new_bark(codec.config, len(tokenizer))
    bark.codec_model.load_state_dict(codec.state_dict())
    for stage, part in PARTS.items():
        load_model(getattr(bark, part), args.folder / stage / "model.safetensors")
    bark.save_pretrained(args.folder / "bark")
    BarkProcessor(tokenizer).save_pretrained(args.folder / "bark")
    print(f"{sum(parameter.numel() for parameter in bark.parameters()) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
