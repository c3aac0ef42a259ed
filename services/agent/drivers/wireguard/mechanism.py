"""Which WireGuard this host has, and whether there is room for ours."""

import errno
import os
import shutil
import socket
from pathlib import Path
from typing import Literal, TypeAlias

from services.agent.drivers import netlink, rtnl_links
from services.agent.drivers.netlink import Netlink, Refusal, Request
from services.agent.drivers.wireguard import userspace
from services.agent.drivers.wireguard.process import PROGRAM
from services.agent.drivers.wireguard.userspace import WireGuardGo
from services.agent.errors import AlreadyRunning, MechanismMissing
from services.agent.ports import WireGuardDriver

Mechanism: TypeAlias = Literal["kernel", "wireguard-go"]

TUN = Path("/dev/net/tun")
STATUS = Path("/proc/self/status")
CAP_NET_ADMIN = 12

GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME = 16, 3, 2
GENL_VERSION = 1


def probe() -> Mechanism:
    """The better WireGuard that works here. Nothing is made to find out.

    Raises MechanismMissing with the remedy.
    """
    if not _may_administer():
        raise MechanismMissing("managing WireGuard needs root (CAP_NET_ADMIN): run as root")
    if _kernel_has_it():
        return "kernel"
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as problem:
        raise MechanismMissing(
            f"no WireGuard: the kernel has no module wireguard, and {TUN} cannot be opened ({problem.strerror}): "
            "load one of the modules wireguard and tun, or give the container the device"
        ) from None
    if shutil.which(PROGRAM) is None:
        raise MechanismMissing(f"no WireGuard: the kernel has no module wireguard: load it, or apt install {PROGRAM}")
    return "wireguard-go"


def open_wireguard(mechanism: Mechanism, rtnl: Netlink, interface: str, private_key: str) -> WireGuardDriver:
    """The driver of that mechanism. private_key: base64."""
    if mechanism == "wireguard-go":
        return WireGuardGo(rtnl, interface, private_key)
    from services.agent.drivers.wireguard.kernelspace import WireGuardKernel  # pyroute2: 17 MB for those who need it

    return WireGuardKernel(rtnl, interface, private_key)


async def require_free(mechanism: Mechanism, rtnl: Netlink, interface: str, port: int, public_key: str) -> None:
    """Raise AlreadyRunning when somebody else has the interface's name or the UDP port.

    public_key: this host's, "" while it has none. An interface with that key is ours, left by a predecessor, and has
    the port itself.
    """
    link = rtnl_links.find(rtnl, interface)
    if link is None:
        _require_free_port(port)
        return
    behind = await _key_behind(mechanism, link.kind, interface)
    if behind is None and link.kind == userspace.KIND and await userspace.goes(rtnl, interface):
        _require_free_port(port)
    elif behind not in ("", public_key):
        raise AlreadyRunning(
            f"interface {interface} is somebody else's: choose another with --interface, or remove it if you know whose"
            " it was"
        )


async def _key_behind(mechanism: Mechanism, kind: str, interface: str) -> str | None:
    """The public key of an interface, "" when it has none yet or does not say, None when it is no WireGuard."""
    if kind == userspace.KIND:
        return await userspace.key_behind(interface)
    if mechanism == "kernel":
        from services.agent.drivers.wireguard import kernelspace

        return await kernelspace.key_behind(interface) if kind == kernelspace.KIND else None
    return None


def _require_free_port(port: int) -> None:
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as attempt:
                if family == socket.AF_INET6:
                    attempt.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                attempt.bind((address, port))
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                raise AlreadyRunning(
                    f"UDP port {port} is in use by another program: stop it, or choose another with --port"
                ) from None


def _may_administer() -> bool:
    capabilities = next(line for line in STATUS.read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(capabilities.split()[1], 16) >> CAP_NET_ADMIN & 1)


def _kernel_has_it() -> bool:
    """Asking generic netlink for the family makes the kernel load the module where there is one."""
    generic = Netlink(netlink.GENERIC)
    try:
        header = bytes((CTRL_CMD_GETFAMILY, GENL_VERSION, 0, 0))
        answer = generic.get(Request(GENL_ID_CTRL, 0, header + netlink.text(CTRL_ATTR_FAMILY_NAME, "wireguard")))
    finally:
        generic.close()
    if isinstance(answer, Refusal) and answer.number != errno.ENOENT:
        raise MechanismMissing(f"the kernel does not say whether it has WireGuard: {answer.text}")
    return not isinstance(answer, Refusal)
