"""What is said of a certificate before a server gets it."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from shared.bus.embedded.certificate import names
from shared.errors import BadSetting
from tests.support.tls import Authority


@pytest.mark.parametrize(
    ("issued", "said"),
    [
        (("bus.example.com",), ("bus.example.com",)),
        (("*.example.com", "192.0.2.1"), ("bus.example.com", "192.0.2.1")),
        (("2001:db8::1",), ("2001:DB8:0:0:0:0:0:1",)),
    ],
)
def test_it_is_for_the_names_in_it(tmp_path: Path, issued: tuple[str, ...], said: tuple[str, ...]) -> None:
    assert names(Authority(tmp_path).issue(*issued)) == said


@pytest.mark.parametrize(
    ("from_days", "to_days", "said"),
    [(-9, -1, "has expired"), (1, 9, "not yet valid")],
)
def test_what_no_client_would_take_is_refused(tmp_path: Path, from_days: int, to_days: int, said: str) -> None:
    files = Authority(tmp_path).issue("bus.example.com", from_days=from_days, to_days=to_days)
    with pytest.raises(BadSetting, match=rf"^--bus-cert \(WHIMBREL_BUS_CERT\): .*bus.crt: .*{said}"):
        names(files)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    files = Authority(tmp_path / "one").issue("bus.example.com")
    files.key.write_bytes(Authority(tmp_path / "two").issue("bus.example.com").key.read_bytes())
    with pytest.raises(BadSetting, match=r"^--bus-key \(WHIMBREL_BUS_KEY\): .*bus.key is not the key of .*bus.crt"):
        names(files)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("bus.example.com")
    key = load_pem_private_key(files.key.read_bytes(), None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    files.key.write_bytes(sealed)
    with pytest.raises(BadSetting, match=r"^--bus-key .* without a passphrase"):
        names(files)


def test_a_file_that_is_missing_is_named_with_its_option(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("bus.example.com")
    files.key.unlink()
    with pytest.raises(BadSetting, match=r"^--bus-key .*bus.key: No such file"):
        names(files)
    files.cert.unlink()
    with pytest.raises(BadSetting, match=r"^--bus-cert .*bus.crt: No such file"):
        names(files)
