"""Kernel settings that routing needs, and what they were before (reference agent §1.4).

The shell keeps a journal of original values on disk, path → value, and writes it before it changes a setting, so that
a crash loses none of them.
"""

from collections.abc import Iterable, Mapping

from services.agent.core.kernel import SysctlEntry

FORWARD_V4 = "net/ipv4/ip_forward"
FORWARD_V6 = "net/ipv6/conf/all/forwarding"
SRC_VALID_MARK = "net/ipv4/conf/all/src_valid_mark"
NO_V6 = "net/ipv6/conf/default/disable_ipv6"
"""Whether interfaces made from now on have IPv6, and ours with them. Never changed, only looked at."""
_STRICT, _LOOSE = "1", "2"


def watched(interfaces: Iterable[str], overlay: str) -> tuple[str, ...]:
    """The settings to read. interfaces: of the host; the overlay's own and loopback are left alone."""
    others = [name for name in interfaces if name not in ("lo", overlay)]
    return (
        FORWARD_V4,
        FORWARD_V6,
        SRC_VALID_MARK,
        NO_V6,
        *(_rp_filter(name) for name in ("all", *others)),
        *(_accept_ra(name) for name in ("default", *others)),
    )


def forwarding_of(interface: str) -> str:
    """Whether IPv4 packets that come in there are forwarded; the kernel sets those of all interfaces with FORWARD_V4.
    IPv6 has one switch for all."""
    return f"net/ipv4/conf/{interface}/forwarding"


def has_v6(current: Mapping[str, str]) -> bool:
    """Whether our interface is to have IPv6: people switch it off and on while the agent runs."""
    return current.get(NO_V6, "0") == "0"


def desired_sysctls(
    *, forward_v4: bool, forward_v6: bool, current: Mapping[str, str], originals: Mapping[str, str]
) -> dict[str, SysctlEntry]:
    """Path → the desired setting, in the order to write them.

    Strict reverse path filtering becomes loose. Router advertisements keep being accepted where they were: with
    forwarding on, 1 means no, so 2 is written first; a host that forwarded before accepted none, and still does not.
    current: what `watched` shows now.
    """
    before = {path: originals.get(path, value) for path, value in current.items()}
    values = {path: _LOOSE for path, value in before.items() if path.endswith("/rp_filter") and value == _STRICT}
    if forward_v6 and before.get(FORWARD_V6) == "0":
        values |= {path: "2" for path, value in before.items() if path.endswith("/accept_ra") and value == "1"}
    values[SRC_VALID_MARK] = "1"
    if forward_v4:
        values[FORWARD_V4] = "1"
    if forward_v6:
        values[FORWARD_V6] = "1"
    return {path: SysctlEntry(path=path, value=value) for path, value in values.items()}


def journal(
    originals: Mapping[str, str], desired: Mapping[str, SysctlEntry], observed: Mapping[str, SysctlEntry]
) -> dict[str, str]:
    """The originals to keep on disk before `desired` is written: those held, and the values about to be changed."""
    return {
        path: observed[path].value
        for path, entry in desired.items()
        if path in observed and observed[path].value != entry.value
    } | dict(originals)


def restored(
    originals: Mapping[str, str], desired: Mapping[str, SysctlEntry], observed: Mapping[str, SysctlEntry]
) -> dict[str, SysctlEntry]:
    """What to write back: settings that are no longer desired and are not yet what they were.

    A setting whose interface is gone is not observed and needs nothing.
    """
    return {
        path: SysctlEntry(path=path, value=original)
        for path, original in originals.items()
        if path not in desired and path in observed and observed[path].value != original
    }


def settled(
    originals: Mapping[str, str], desired: Mapping[str, SysctlEntry], observed: Mapping[str, SysctlEntry]
) -> dict[str, str]:
    """The originals that are still needed, once `observed` was read back."""
    pending = restored(originals, desired, observed)
    return {path: value for path, value in originals.items() if path in desired or path in pending}


def _rp_filter(interface: str) -> str:
    return f"net/ipv4/conf/{interface}/rp_filter"


def _accept_ra(interface: str) -> str:
    return f"net/ipv6/conf/{interface}/accept_ra"
