"""Refuse invalid values and requests with a clear message; gradio alone would log a traceback and give no reason.

Blocks      gradio's Blocks, whose events refuse invalid values
Refusals    ASGI middleware that refuses requests on which gradio fails
"""

import errno
import logging
from typing import Any

import gradio as gr
from starlette.responses import PlainTextResponse

logger = logging.getLogger(__name__)

VALUE = "The page cannot read a value that it was sent. Reload the page, then write or choose the value again."
REQUEST = "The page does not understand this request."


class Blocks(gr.Blocks):
    """gradio's Blocks, with an error message for invalid values."""

    async def preprocess_data(self, block_fn: Any, *arguments: Any, **options: Any) -> list[Any]:
        if block_fn.fn is None:  # an event that runs only in the browser
            raise gr.Error(VALUE, print_exception=False)
        try:
            return await super().preprocess_data(block_fn, *arguments, **options)
        except gr.Error as error:
            raise gr.Error(error.message, print_exception=False) from error
        except Exception as error:  # gradio's components raise many kinds of errors for invalid values
            logger.info("A value was refused: %r", error)
            raise gr.Error(VALUE, print_exception=False) from error


class _Gone(Exception):
    """The client has disconnected, or violated the protocol."""


class Refusals:
    """ASGI middleware that answers 400 if the application fails on a request, and ends a started response.

    Args:
        app: the wrapped ASGI application. Errors that a request does not cause, such as a full disk, are not caught.
    """

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_begun = False

        async def send_and_note(message):
            nonlocal has_begun
            has_begun = True
            try:
                await send(message)
            except Exception as error:
                raise _Gone from error

        try:
            await self.app(scope, receive, send_and_note)
        except Exception as error:  # gradio's routes raise many kinds of errors for invalid requests
            if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
                raise
            logger.info("A request was refused: %r", error)
            if not has_begun:
                await PlainTextResponse(REQUEST, 400)(scope, receive, send)


__all__ = ["Blocks", "Refusals"]
