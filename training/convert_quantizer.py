"""Convert somebody else's checkpoint: a quantizer, an autoregressive encoder, EnCodec or a CTranslate2 Whisper.

What it writes loads with `from_pretrained`:

    python training/convert_quantizer.py quantifier_V1_hubert_base_ls960_23.pth converted
"""

import argparse

from hf_bark_semantic.conversion.formats import HUBERT_BASE, convert


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="the checkpoint, or the folder of a CTranslate2 model")
    parser.add_argument("output_dir", help="the folder to write")
    parser.add_argument("--backbone", help=f"Hub id or folder of the quantizer's HuBERT (default: {HUBERT_BASE})")
    parser.add_argument("--layer", type=int, default=9, help="layer of HuBERT that the quantizer reads (default: 9)")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that is not empty")
    options = parser.parse_args(arguments)
    try:
        folder = convert(
            options.path,
            options.output_dir,
            backbone=options.backbone,
            layer=options.layer,
            overwrite=options.overwrite,
        )
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"Converted {options.path} to {folder}")


if __name__ == "__main__":
    main()
