"""Accept only the page's own requests, up to a maximum size.

A site that the user visits can make the browser send requests here, too: under a host name that was made to point to
this machine (DNS rebinding), which the header `Host` shows, or from another origin, which the header `Origin` shows.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_REQUEST_BYTES = 2**26  # of requests other than uploads, which gradio limits; 50 voices and a history take less


class Guard:
    """ASGI middleware that refuses foreign hosts and origins with 403, and requests that are too large with 413.

    Args:
        app: the ASGI application that receives the accepted requests.
        address (`str`): the address that the page listens on.
        allowed (`Collection[str]`): host names of a proxy in front of the page. If there are any, or if `address` is a
            loopback address, the page answers only under the loopback's names and these.
    """

    def __init__(self, app, address: str, allowed: Collection[str] = ()):
        self.app, self.allowed = app, allowed
        self.hosts = {*LOOPBACK, *allowed} if address in LOOPBACK or allowed else None

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        flaw = self.flaw_of(headers.get("host", ""), headers.get("origin"))
        if flaw:
            await PlainTextResponse(flaw, 403)(scope, receive, send)
            return
        if scope["type"] == "websocket" or scope["path"].endswith("/upload"):
            await self.app(scope, receive, send)
            return
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isascii() or not length.isdigit():
            await PlainTextResponse("The request must give its length (Content-Length).", 411)(scope, receive, send)
        elif int(length) > MAX_REQUEST_BYTES:
            flaw = f"The request has {int(length):,} bytes; at most {MAX_REQUEST_BYTES:,} are read. Send less at once."
            await PlainTextResponse(flaw, 413)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def flaw_of(self, host: str, origin: str | None) -> str | None:
        """Why a request with these headers is refused; `None` if it is accepted."""
        name = _name_of(f"//{host}")
        if self.hosts is not None and name not in self.hosts:
            return f"This page does not answer as {host!r}. To allow it, start with --allowed-host {name or 'NAME'}."
        if origin is None or origin.partition("://")[2] == host or _name_of(origin) in self.allowed:
            return None
        return (
            f"This page refuses requests from other pages, such as {origin!r}. If it is behind a proxy, start it with "
            "--allowed-host and the host name that visitors type."
        )


def _name_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


__all__ = ["LOOPBACK", "Guard"]
