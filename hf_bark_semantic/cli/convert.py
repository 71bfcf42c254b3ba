"""`bark-semantic convert`: convert an encoder of another format to a folder for `from_pretrained`."""

import argparse

from .console import OK, local_path, usage_errors


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "convert", help="convert a checkpoint of another program for from_pretrained",
        description="Convert an encoder of another format to a folder for from_pretrained, without running its code.",
        examples=[
            "bark-semantic convert quantifier_hubert_base_ls960_14.pth --output quantizer",
            "bark-semantic convert quantizer.pth --backbone facebook/hubert-base-ls960 --layer 9 --output quantizer",
        ],
    )  # fmt: skip
    parser.add_argument(
        "path", type=local_path, metavar="PATH", help="the file to convert, such as a quantizer's .pth"
    )
    parser.add_argument("--output", type=local_path, required=True, metavar="DIR", help="the folder to write")
    parser.add_argument("--backbone", metavar="ID", help="speech model that the file belongs to: Hub id or folder")
    parser.add_argument("--layer", type=int, metavar="N", help="its layer that the file reads")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder's files")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    from ..conversion.convert import convert

    options = {"backbone": arguments.backbone, "layer": arguments.layer}
    options = {name: value for name, value in options.items() if value is not None}
    with usage_errors():
        convert(arguments.path, arguments.output, overwrite=arguments.overwrite, **options)
    print(arguments.output)
    return OK


__all__ = ["add_parser", "run"]
