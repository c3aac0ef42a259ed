"""Connections to the bus that speak TLS from the first byte, or never."""

import asyncio
import contextlib
import ssl
from typing import Any
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport

from shared.bus.address import BusAddress
from shared.errors import BadSetting

GOODBYE_WITHIN_S = 1.0
"""How long a closing connection waits for the other end to say goodbye: asyncio's 30 s would hold up the next one."""

NOT_YET_VALID, EXPIRED = 9, 10
UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
OTHER_NAME = frozenset({62, 64})
"""X509_V_ERR_* of OpenSSL's x509_vfy.h: verify_code of a certificate that is refused."""


class NotTrusted(OSError):
    """Do what the line says, at the one end or the other: nobody may know who is there."""


class BusTransport(TcpTransport):
    """nats-py's TCP transport, with TLS as the address says and not as the server does.

    nats-py goes on in clear where a server asks for no TLS, and verifies by the system's authorities where one does.
    """

    def __init__(self, bus: BusAddress) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bus = bus

    def __bool__(self) -> bool:
        return True  # false would make nats-py take a transport of its own before this one is connected

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Raises NotTrusted, or another OSError when nothing answers."""
        host = self._bus.name_of(uri.hostname or "")
        try:
            async with asyncio.timeout(connect_timeout):
                reader, writer = await self._streams(uri, limit=buffer_size, **self._tls(host))
        except ssl.SSLError as error:
            raise NotTrusted(_remedy(error, host)) from None
        except ConnectionError as error:
            if error.errno is not None:
                raise  # TCP has not come about
            raise NotTrusted("it hangs up before it has shown a certificate: correct the address") from None
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Called when the server says that it requires TLS: then we have it already, or shall not have it by chance."""
        if not self._bus.tls:
            raise NotTrusted("it requires TLS: write tls:// instead of nats:// in --bus")

    async def readline(self) -> bytes:
        """The next line of the server's that is not about whether this end is there: that is answered here.

        nats-py reads lines only until it is let in, and takes any for the answer that it is. A server that has others
        decide asks after a second or two whether whoever waits is still there.
        """
        while (line := bytes(await super().readline())).strip().upper() == b"PING":  # type: ignore[no-untyped-call]
            self.write(b"PONG\r\n")  # type: ignore[no-untyped-call]
            await self.drain()
        return line

    async def drain(self) -> None:
        """Raises nothing for a connection that is lost: whoever reads notices the same.

        Client.close() drains what is pending, and an error there would leave it half closed.
        """
        with contextlib.suppress(ConnectionError):
            await super().drain()  # type: ignore[no-untyped-call]

    async def _streams(self, uri: ParseResult, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(uri.hostname, uri.port, **options)

    def _tls(self, host: str) -> dict[str, Any]:
        if not self._bus.tls:
            return {}
        try:
            context = self._bus.context()
        except BadSetting as problem:
            raise NotTrusted(str(problem)) from None
        return {"ssl": context, "server_hostname": host, "ssl_shutdown_timeout": GOODBYE_WITHIN_S}


def _remedy(error: ssl.SSLError, host: str) -> str:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"what answers there does not speak TLS ({error.reason}): "
            "correct the address, or start the server with --bus-cert and --bus-key"
        )
    code = error.verify_code
    if code == EXPIRED:
        return "its certificate has expired: renew it, or put this host's clock right"
    if code == NOT_YET_VALID:
        return "its certificate is not valid yet: put this host's clock right"
    if code in OTHER_NAME:
        return f"its certificate is not for {host}: write a name in --bus that it is for, or get one for {host}"
    if code in UNKNOWN_ISSUER:
        return "its certificate is from an authority that this host does not know: name its certificate in --bus-ca"
    return f"its certificate is not accepted: {error.verify_message}"
