"""Who may come in: by the Unix socket this user (the kernel says who it is), by TCP who has the token.

A browser that was led here by another page is turned away: by TCP the Host has to be an address, or this machine's own name, so
that no name of somebody else's can lead here; and a request that says from which page it comes (Origin) has to come from here.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from typing import Final

from starlette.requests import Request

from rxtasks.control.words import Refused

__all__ = ["Door"]

_BEARER: Final = "bearer "


class Door:
    """See the module.

    Args:
        token: what TCP clients show; None: nobody comes in by TCP.
    """

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else token.encode()
        self._names = {"localhost", socket.gethostname().lower()}

    def check(self, request: Request) -> None:
        """Let the request in.

        Raises:
            Refused: it may not.
        """
        local = request.scope["state"].get("local") is True
        host = request.headers.get("host", "")
        if not local:
            self._check_host(host)
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() != f"{request.scope['scheme']}://{host.lower()}":
            raise Refused(403, "ORIGIN", "requests from other origins are not taken", "use the page of this server")
        if not local:
            self._check_token(request.headers.get("authorization", ""))

    def _check_host(self, host: str) -> None:
        name = _name_of(host)
        if name in self._names:
            return
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise Refused(
                421, "HOST", f"this server is not called {host[:80]!r}", "use its address, or the machine's own name"
            ) from None

    def _check_token(self, header: str) -> None:
        given = header[len(_BEARER) :].strip() if header.lower().startswith(_BEARER) else ""
        # The same time for every wrong one.
        if self._token is None or not hmac.compare_digest(given.encode("utf-8", "replace"), self._token):
            raise Refused(
                401,
                "TOKEN",
                "the token is missing or wrong",
                "send the header Authorization: Bearer <the pool's token>",
            )


def _name_of(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
