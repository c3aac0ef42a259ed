"""Which domains are asked for."""

import pytest

from services.resolver.core.names import resolvable


@pytest.mark.parametrize(
    ("domains", "names"),
    [
        pytest.param((), (), id="none"),
        pytest.param(("b.example", "a.example"), ("b.example", "a.example"), id="in the given order"),
        pytest.param(("a.example", "a.example"), ("a.example",), id="each once"),
        pytest.param(("*.example", "example"), ("example",), id="a wildcard cannot be asked for (R7)"),
        pytest.param(("xn--bcher-kva.example",), ("xn--bcher-kva.example",), id="IDNA"),
        pytest.param(("_ldap._tcp.example",), ("_ldap._tcp.example",), id="service names"),
        pytest.param(("printer",), ("printer",), id="a single label"),
        pytest.param(("", ".", "a..b", "-a.example", "a b.example", "x" * 64, "A.example"), (), id="what is no name"),
        pytest.param((".".join(["a" * 49] * 6),), (), id="longer than 253 bytes (R8)"),
    ],
)
def test_what_is_asked_for(domains: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert resolvable(domains) == names
