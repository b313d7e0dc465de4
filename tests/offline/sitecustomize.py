"""A Python process with this folder first on its PYTHONPATH reaches its own machine only.

Python imports a module of this name when it starts. What C++ opens by itself is not seen.
"""

import socket
from collections.abc import Callable
from typing import Any

OWN = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", "", None, socket.gethostname()}


def stay_here(replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let connections and look-ups of other machines fail."""

    def checked(host: Any) -> None:
        host = host.decode() if isinstance(host, bytes) else host
        if host not in OWN:
            raise OSError(f"No network here: {host!r} was asked for.")

    look_up = socket.getaddrinfo

    def own_address(host: Any, *others: Any, **named: Any) -> Any:
        checked(host)
        return look_up(host, *others, **named)

    def own_connection(connect: Any) -> Any:
        def connection(own: Any, address: Any) -> Any:
            if isinstance(address, tuple):  # and not a file, by which processes speak
                checked(address[0])
            return connect(own, address)

        return connection

    replace(socket, "getaddrinfo", own_address)
    for name in ("connect", "connect_ex"):
        replace(socket.socket, name, own_connection(getattr(socket.socket, name)))


if __name__ == "sitecustomize":
    stay_here()
