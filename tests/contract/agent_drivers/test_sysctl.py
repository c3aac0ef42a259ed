"""drivers/sysctl.py on the real kernel."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from deploy.lab.netns import Namespace
from services.agent.core.kernel import SysctlEntry
from services.agent.drivers.sysctl import Sysctls

pytestmark = pytest.mark.root

FORWARD = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")


def entries(values: dict[str, str]) -> dict[str, SysctlEntry]:
    return {path: SysctlEntry(path=path, value=value) for path, value in values.items()}


def observed(host: Namespace) -> dict[str, str]:
    found = host.call(lambda: asyncio.run(Sysctls("wt0").observe()))
    return {path: entry.value for path, entry in found.items()}


def written(host: Namespace, values: dict[str, str]) -> dict[str, str]:
    return host.call(lambda: asyncio.run(Sysctls("wt0").upsert(entries(values))))


@pytest.mark.parametrize("path", FORWARD)
def test_forwarding_is_read_written_and_drifts(host: Namespace, path: str) -> None:
    for value in ("0", "1", "1", "0"):
        assert written(host, {path: value}) == {}
        assert observed(host)[path] == value
    host.call(lambda: Path("/proc/sys", path).write_text("1"))
    assert observed(host)[path] == "1"


def test_interfaces_with_dots_in_their_names_are_watched_and_ours_is_not(tunnel: Namespace) -> None:
    tunnel.ip("tuntap", "add", "eth0.100", "mode", "tun")
    paths = observed(tunnel)
    assert "net/ipv4/conf/eth0.100/rp_filter" in paths
    assert "net/ipv6/conf/eth0.100/accept_ra" in paths
    assert [path for path in paths if "/wt0/" in path or "/lo/" in path] == []
    assert written(tunnel, {"net/ipv4/conf/eth0.100/rp_filter": "2"}) == {}
    assert observed(tunnel)["net/ipv4/conf/eth0.100/rp_filter"] == "2"


def test_one_bad_setting_stops_no_other(host: Namespace) -> None:
    errors = written(
        host, {"net/ipv4/conf/gone/rp_filter": "2", "net/ipv4/conf/all/rp_filter": "x", "net/ipv4/ip_forward": "1"}
    )
    assert errors == {
        "net/ipv4/conf/gone/rp_filter": "No such file or directory",
        "net/ipv4/conf/all/rp_filter": "Invalid argument",
    }
    assert observed(host)["net/ipv4/ip_forward"] == "1"


def test_a_kernel_without_ipv6_has_only_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "net/ipv4/conf/all").mkdir(parents=True)
    (tmp_path / "net/ipv4/ip_forward").write_text("0\n")
    found = asyncio.run(Sysctls("wt0", tmp_path).observe())
    assert found == entries({"net/ipv4/ip_forward": "0"})


def test_a_setting_that_a_container_may_only_read_comes_with_what_sets_it(host: Namespace) -> None:
    host.call(lambda: subprocess.run(["mount", "-o", "bind,ro", "/proc/sys", "/proc/sys"], check=True))
    assert written(host, {"net/ipv4/ip_forward": "1"}) == {
        "net/ipv4/ip_forward": "Read-only file system: set it outside of the container: sysctl -w net/ipv4/ip_forward=1"
    }
