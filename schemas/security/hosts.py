"""Hosts and networks: which is this machine, which names a page goes by, whose word on a client is believed. Pure."""

import ipaddress
import re
from collections.abc import Iterable

from schemas.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::\d{1,5})?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}", re.ASCII)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name; no name is looked up.

    >>> [is_loopback(host) for host in ("localhost", "127.9.0.1", "::1", "0.0.0.0", "127.0.0.1.example.org")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_name(header: str) -> str | None:
    """The name in a Host header, in lower case, without its port; None where it is no such header.

    >>> host_name("Localhost:6067"), host_name("[::1]:6067"), host_name("localhost:6067/@evil.example")
    ('localhost', '::1', None)
    """
    found = _HOST.fullmatch(header)
    return (found[1] or found[2]).lower().removesuffix(".") if found else None


def page_names(text: str | None) -> frozenset[str]:
    """The names in a comma-separated setting, in lower case. Raises ConfigError for what is no host name or address.

    >>> sorted(page_names("Tamiz.example.org, 10.1.2.3"))
    ['10.1.2.3', 'tamiz.example.org']
    """
    names = [name.strip() for name in text.split(",")] if text else []
    if bad := [name for name in names if not _NAME.fullmatch(name)]:
        raise ConfigError(f"web_hosts: {bad[0]!r} is no host name; wanted names without port, say tamiz.example.org")
    return frozenset(name.lower() for name in names)


def networks(text: str | None) -> tuple[Network, ...]:
    """The networks in a comma-separated setting. Raises ConfigError for what is neither address nor network.

    >>> networks("10.0.0.0/8, ::1")
    (IPv4Network('10.0.0.0/8'), IPv6Network('::1/128'))
    """
    found: list[Network] = []
    for part in text.split(",") if text else ():
        try:
            found.append(ipaddress.ip_network(part.strip()))
        except ValueError:
            raise ConfigError(
                f"web_trusted_proxies: {part.strip()!r} is neither an address nor a network; wanted 10.0.0.0/8 or ::1"
            ) from None
    return tuple(found)


def address_of(text: str) -> Address | None:
    """The IP address that a text is, an IPv4 one that is wrapped in IPv6 unwrapped; None where it is none."""
    try:
        address = ipaddress.ip_address(text.strip()[:45])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_among(address: Address | None, trusted: Iterable[Network]) -> bool:
    """Whether an address lies in one of the networks."""
    return address is not None and any(address in network for network in trusted)
