"""`bark-semantic app`: clone, speak and convert on a page in the browser."""

import argparse
import errno
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..packaged import NANO
from .console import OK, UsageError, add_encoder_arguments, at_least, check_places, say, usage_errors


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "app", help="a page on this machine: clone, speak, convert (needs the extra app)",
        description="Open a page on this machine that clones, speaks and converts.",
        examples=[
            "bark-semantic app",
            "bark-semantic app --bark suno/bark-small --adapter anna=outputs/anna --port 7861",
            "bark-semantic app --host 0.0.0.0 --auth anna:password.txt",
        ],
    )  # fmt: skip
    parser.add_argument("--bark", default=NANO, metavar="ID", help="Bark: Hub id or folder (default: nano, packaged)")
    parser.add_argument(
        "--adapter", action="append", type=_named_place, default=[], metavar="NAME=ID",
        help="offer this fine-tuned adapter, a Hub id or folder, under a name; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, for this machine alone)"
    )
    parser.add_argument("--port", type=_port, default=7860, help="of the page's address (default: 7860)")
    parser.add_argument(
        "--auth",
        type=_name_and_password,
        metavar="USER:FILE",
        help="ask for this name and the password in the first line of FILE",
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="also answer under this name, such as that of a proxy; may be repeated",
    )
    add_encoder_arguments(parser)
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    check_places(arguments.bark, *arguments.encoder, *dict(arguments.adapter).values())
    _check_address(arguments.host, arguments.port)
    if arguments.host not in ("127.0.0.1", "localhost", "::1") and arguments.auth is None:
        say(f"Everybody who reaches {arguments.host} can use this page; --auth USER:FILE asks for a password.")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported
    with usage_errors("", arguments.bark, *arguments.encoder), _temporary_files():
        from ..app.page import serve
        from ..app.studio import Studio

        studio = Studio(
            arguments.bark,
            encoder=arguments.encoder,
            encoder_weights=arguments.encoder_weights,
            adapters=dict(arguments.adapter),
            device=arguments.device,
            dtype=arguments.dtype,
        )
        names = {"auth": arguments.auth, "allowed_hosts": arguments.allowed_host}
        serve(studio, host=arguments.host, port=arguments.port, **names)
    return OK


@contextmanager
def _temporary_files() -> Iterator[None]:
    """A temporary folder for uploads and results, which is removed at the end, also after SIGTERM."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    if before is not None:
        os.makedirs(before, exist_ok=True)
    end = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="bark-semantic-", dir=before, ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, end)
            del os.environ["GRADIO_TEMP_DIR"]
            if before is not None:
                os.environ["GRADIO_TEMP_DIR"] = before


def _check_address(host: str, port: int) -> None:
    """Bind to the address of the page, to find a port in use before models are loaded."""
    try:
        socket.getaddrinfo(host, port)  # `create_server` does not distinguish this error from others
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except socket.gaierror as error:
        raise UsageError(f"this machine has no address {host!r}; choose another with --host") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} is in use; choose another with --port") from error
        raise UsageError(f"cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}") from error


def _port(text: str) -> int:
    value = at_least(1)(text)
    if value > 65_535:
        raise argparse.ArgumentTypeError(f"{value} is not a port; ports are 1 to 65535")
    return value


def _name_and_password(text: str) -> tuple[str, str]:
    name, colon, place = text.partition(":")
    if not (name and colon and place):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form USER:FILE")
    try:
        lines = Path(place).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"the password in {place!r} cannot be read: {error}") from error
    if not lines or not lines[0].strip():
        raise argparse.ArgumentTypeError(f"the first line of {place!r} is empty; it must be the password")
    return name, lines[0].strip()


def _named_place(text: str) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=FOLDER")
    return name, place


__all__ = ["add_parser", "run"]
