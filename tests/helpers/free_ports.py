"""Ports of this machine that nobody listens to."""

import socket


def free_ports(number: int) -> list[int]:
    """Return so many different ports, which were free a moment ago."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
