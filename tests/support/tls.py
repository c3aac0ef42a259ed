"""Certificates for tests."""

import datetime
from pathlib import Path

import trustme

from shared.bus.embedded.certificate import Certificate

DAY = datetime.timedelta(days=1)


class Authority:
    """An authority, its certificate in the file `ca`, and one server's certificate that can be replaced."""

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        directory.mkdir(parents=True, exist_ok=True)
        self.ca = directory / "ca.crt"
        self.files = Certificate(cert=directory / "bus.crt", key=directory / "bus.key")
        self._authority.cert_pem.write_to_path(str(self.ca))

    def issue(self, *names: str, from_days: int = -1, to_days: int = 30) -> Certificate:
        """The files, with a new certificate for these names or addresses in them; days count from today."""
        now = datetime.datetime.now(datetime.UTC)
        issued = self._authority.issue_cert(*names, not_before=now + from_days * DAY, not_after=now + to_days * DAY)
        self.files.cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        self.files.key.write_bytes(issued.private_key_pem.bytes())
        return self.files
