"""Prefixes have one text (decision R6)."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.net.prefix import BadPrefix, is_default, parse_prefix, version


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.168.1.7/24", "192.168.1.0/24"),
        ("192.168.1.7/32", "192.168.1.7/32"),
        ("1.2.3.4/0", "0.0.0.0/0"),
        ("2001:DB8:0:0::1/32", "2001:db8::/32"),
        ("fd00:0:0:0:0:0:0:1/127", "fd00::/127"),
        ("::1/0", "::/0"),
        ("::10.0.0.0/104", "::a00:0/104"),
    ],
)
def test_r6_host_bits_are_masked_and_the_text_is_canonical(text: str, canonical: str) -> None:
    assert parse_prefix(text) == canonical


@pytest.mark.parametrize(
    "text, remedy",
    [
        ("10.0.0.0", "add the prefix length"),
        ("", "add the prefix length"),
        ("fd00::1", "add the prefix length"),
        ("10.0.0.0/34", "write address/length"),
        ("fd00::/129", "write address/length"),
        ("10.0.0.0/-1", "write address/length"),
        ("10.0.0.0/08", "write address/length"),
        ("10.0.0.0/255.0.0.0", "write address/length"),
        ("10.0.0.0/8/8", "write address/length"),
        ("10.0.0.0/", "write address/length"),
        ("10/8", "write address/length"),
        ("010.0.0.0/8", "write address/length"),
        (" 10.0.0.0/8", "write address/length"),
        ("10.0.0.0/8\n", "write address/length"),
        ("fe80::1%eth0/64", "write address/length"),
        ("\u0661.0.0.0/8", "write address/length"),
        ("::ffff:10.0.0.0/104", "as an IPv4 prefix"),
        ("example.com/8", "write address/length"),
    ],
)
def test_what_is_no_prefix_is_refused_with_the_remedy(text: str, remedy: str) -> None:
    with pytest.raises(BadPrefix) as refused:
        parse_prefix(text)
    assert remedy in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.ip_addresses(), st.integers(0, 128))
def test_parsing_is_idempotent_and_keeps_the_network(address: object, length: int) -> None:
    text = f"{address}/{length}"
    try:
        canonical = parse_prefix(text)
    except BadPrefix:
        assert length > 32 or "::ffff:" in text
        return
    assert parse_prefix(canonical) == canonical
    assert ip_network(canonical) == ip_network(text, strict=False)


def test_family_and_default_are_read_from_the_text() -> None:
    assert [(version(p), is_default(p)) for p in ("10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/10")] == [
        (4, False),
        (4, True),
        (6, True),
        (6, False),
    ]
