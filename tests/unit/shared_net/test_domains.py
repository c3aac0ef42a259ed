"""Names of routes: IDNA ASCII, ≤ 253 bytes (decision R8), a wildcard only in front."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.net.domains import BadDomain, is_wildcard, is_within, parse_domain, parse_name, to_unicode

LABEL_63 = "a" * 63
NAME_253 = ".".join([LABEL_63, LABEL_63, LABEL_63, "a" * 61])


@pytest.mark.parametrize(
    "text, parsed",
    [
        ("example.com", "example.com"),
        ("EXAMPLE.Com", "example.com"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("faß.de", "xn--fa-hia.de"),
        ("日本。jp", "xn--wgv71a.jp"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("localhost", "localhost"),
        ("host.1", "host.1"),
        ("1.2.3", "1.2.3"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("ex_ample.com", "ex_ample.com"),
        ("a-b.com", "a-b.com"),
        (f"{LABEL_63}.com", f"{LABEL_63}.com"),
        (NAME_253, NAME_253),
        ("*.example.com", "*.example.com"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
    ],
)
def test_a_name_becomes_what_the_dns_knows(text: str, parsed: str) -> None:
    assert parse_domain(text) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "example.com.",
        ".example.com",
        "a..b",
        "-example.com",
        "example-.com",
        "example.com-",
        "a_.com",
        "_com",
        "a b.com",
        "example.com\n",
        "exa$mple.com",
        f"{LABEL_63}a.com",
        "*",
        "*.",
        "*.*.example.com",
        "a.*.com",
        "*a.com",
        "☃.com",
        "ü" * 60 + ".de",
        "http://example.com",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(BadDomain, match="is not a valid domain"):
        parse_domain(text)


@pytest.mark.parametrize("text", ["a." + NAME_253, "*." + NAME_253[:-1], "ü." * 30 + NAME_253[:100], "a." * 1_000_000])
def test_r8_a_name_has_at_most_253_bytes_after_idna(text: str) -> None:
    with pytest.raises(BadDomain, match="253 are allowed"):
        parse_domain(text)


def test_a_name_is_shown_as_people_write_it() -> None:
    assert to_unicode("*.xn--bcher-kva.example") == "*.bücher.example"
    assert to_unicode("xn--zzzz99999999.example") == "xn--zzzz99999999.example"


def test_only_a_leading_star_is_a_wildcard() -> None:
    assert is_wildcard("*.example.com")
    assert not is_wildcard("example.com")


@given(
    st.text(max_size=80) | st.from_regex(re.compile(r"(\*\.)?([a-zß-ÿ0-9_-]{1,9}\.){0,4}[a-z0-9]{1,9}"), fullmatch=True)
)
def test_whatever_is_accepted_is_plain_short_and_accepted_again(text: str) -> None:
    try:
        name = parse_domain(text)
    except BadDomain:
        return
    assert re.fullmatch(r"(\*\.)?[a-z0-9_.-]+", name)
    assert len(name) <= 253
    assert parse_domain(name) == name
    assert parse_domain(to_unicode(name)) == name


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("example.com.", "example.com"), ("Bücher.example.", "xn--bcher-kva.example"), (NAME_253 + ".", NAME_253)],
)
def test_a_plain_name_may_end_with_a_dot(text: str, parsed: str) -> None:
    assert parse_name(text) == parsed


@pytest.mark.parametrize("text", ["*.example.com", ".", "", "example.com..", NAME_253 + "a"])
def test_what_is_no_plain_name(text: str) -> None:
    with pytest.raises(BadDomain):
        parse_name(text)


@pytest.mark.parametrize(
    ("name", "inside"),
    [("a.com", True), ("x.a.com", True), ("x.y.a.com", True), ("xa.com", False), ("com", False), ("a.com.x", False)],
)
def test_a_domain_holds_itself_and_what_is_below_it(name: str, inside: bool) -> None:
    assert is_within(name, "a.com") is inside
