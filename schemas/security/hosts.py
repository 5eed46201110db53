"""Host names and networks: loopback addresses, host names of the dashboard, trusted proxies. Pure."""

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
    """Whether a host is a loopback address or `localhost`. Resolves no name.

    >>> [is_loopback(host) for host in ("localhost", "127.9.0.1", "::1", "0.0.0.0", "127.0.0.1.example.org")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_name(header: str) -> str | None:
    """Name in a Host header, in lower case, without port; None if the header is malformed.

    >>> host_name("Localhost:6067"), host_name("[::1]:6067"), host_name("localhost:6067/@evil.example")
    ('localhost', '::1', None)
    """
    found = _HOST.fullmatch(header)
    return (found[1] or found[2]).lower().removesuffix(".") if found else None


def page_names(text: str | None) -> frozenset[str]:
    """Names in the setting `web_hosts`, in lower case. Raises ConfigError for an entry that is not a host name.

    >>> sorted(page_names("Tamiz.example.org, 10.1.2.3"))
    ['10.1.2.3', 'tamiz.example.org']
    """
    names = [name.strip() for name in text.split(",")] if text else []
    if bad := [name for name in names if not _NAME.fullmatch(name)]:
        raise ConfigError(
            f"web_hosts: {bad[0]!r} is not a host name; expected names without port, such as tamiz.example.org"
        )
    return frozenset(name.lower() for name in names)


def networks(text: str | None) -> tuple[Network, ...]:
    """Networks in the setting `web_trusted_proxies`. Raises ConfigError for an entry that is not an address or network.

    >>> networks("10.0.0.0/8, ::1")
    (IPv4Network('10.0.0.0/8'), IPv6Network('::1/128'))
    """
    found: list[Network] = []
    for part in text.split(",") if text else ():
        try:
            found.append(ipaddress.ip_network(part.strip()))
        except ValueError:
            raise ConfigError(
                f"web_trusted_proxies: {part.strip()!r} is not an address or network; expected e.g. 10.0.0.0/8 or ::1"
            ) from None
    return tuple(found)


def address_of(text: str) -> Address | None:
    """Parse an IP address; an IPv4-mapped IPv6 address becomes IPv4. None if it is not an address."""
    try:
        address = ipaddress.ip_address(text.strip()[:45])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_among(address: Address | None, trusted: Iterable[Network]) -> bool:
    """Whether an address belongs to one of the networks."""
    return address is not None and any(address in network for network in trusted)
