"""Where the bus is, and how a connection makes sure that it is the bus."""

import ssl
from pathlib import Path
from urllib.parse import urlparse

import msgspec

from shared.errors import BadSetting
from shared.settings import option

PLAIN = "nats"
TLS = "tls"


class BusAddress(msgspec.Struct, frozen=True, kw_only=True):
    """One or more servers of one bus.

    urls: all nats:// or all tls://, so that no attempt falls back to plain text. ca: PEM file of whom to trust, the
    system's by default. name: what the certificate is for, where that is not the URL's host.
    """

    urls: tuple[str, ...]
    ca: Path | None = None
    name: str = ""

    @property
    def tls(self) -> bool:
        return self.urls[0].startswith(f"{TLS}://")

    def name_of(self, host: str) -> str:
        """What the certificate of the server at `host` must be for.

        A server that only another one told us of is believed under the name that people wrote.
        """
        hosts = [urlparse(url).hostname or "" for url in self.urls]
        return self.name or (host if host in hosts else hosts[0])

    def context(self) -> ssl.SSLContext:
        """What verifies chain and name, made of what the file holds now. Raises BadSetting."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError:
            raise BadSetting(option("bus_ca"), f"{self.ca} holds no certificate in PEM form") from None
        except OSError as problem:
            raise BadSetting(option("bus_ca"), f"{self.ca}: {problem.strerror}") from None
        if self.ca is not None:
            # Whoever is named in the file is trusted, also a server's own certificate or one that signs for few.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context


def parse_bus(text: str, ca: Path | None = None, name: str = "") -> BusAddress:
    """The address as people write it: URLs, comma separated; a URL without a scheme is nats://. Raises BadSetting."""
    urls = tuple(_checked(url.strip()) for url in text.split(","))
    if len({urlparse(url).scheme for url in urls}) > 1:
        raise BadSetting(option("bus"), f"write {TLS}:// in front of every address, or of none")
    address = BusAddress(urls=urls, ca=ca, name=name)
    if address.tls:
        address.context()
    elif ca or name:
        given = option("bus_ca" if ca else "bus_name")
        raise BadSetting(given, f"it is of use with TLS only: write {TLS}://HOST:PORT in {option('bus')}")
    return address


def _checked(url: str) -> str:
    url = url if "://" in url else f"{PLAIN}://{url}"
    try:
        parts = urlparse(url)
        known = parts.scheme in (PLAIN, TLS) and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise BadSetting(option("bus"), f"write {TLS}://HOST:PORT, or {PLAIN}://HOST:PORT in a trusted network")
    return url
