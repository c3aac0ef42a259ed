"""Prepare this machine, then run a recipe of the justfile: `python3 deploy/bootstrap.py [RECIPE [ARGUMENT…]]`.

Standard library only, because it runs before anything is installed. Each step looks first and does nothing
when its result is there, so a second start costs a fraction of a second.
"""

from __future__ import annotations  # an old Python then gets as far as the message that it is too old

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
PINS = ROOT / "requirements" / "tools.txt"
COMMANDS = {"nft": "nftables", "ip": "iproute2", "wg": "wireguard-tools", "wireguard-go": "wireguard-go"}


def stop(message: str) -> NoReturn:
    sys.exit(f"bootstrap: {message}")


def missing_packages() -> list[str]:
    """Debian packages whose command or library this machine lacks."""
    missing = [package for command, package in COMMANDS.items() if not shutil.which(command)]
    try:
        ctypes.CDLL("libnftables.so.1")
    except OSError:
        missing.append("libnftables1")
    return missing


def run(what: str, *command: str | Path) -> None:
    print(f"bootstrap: {what}", file=sys.stderr, flush=True)
    if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode:
        stop(f"{what} failed, see above; the command was: {' '.join(map(str, command))}")


def install_packages() -> None:
    missing = missing_packages()
    if not missing:
        return
    by_hand = f"apt-get install {' '.join(missing)}"
    if not shutil.which("apt-get"):
        stop(f"missing {', '.join(missing)}, and there is no apt-get: install them with the system's package manager")
    if os.geteuid() != 0:
        stop(f"missing {', '.join(missing)}: run this as root, or install them with: {by_hand}")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    run("updating the list of system packages", "apt-get", "-qq", "update")
    run(f"installing {', '.join(missing)}", "apt-get", "-qq", "install", "--no-install-recommends", "-y", *missing)


def install_tools() -> None:
    """uv and just in .tools, as pinned; plain `pip install` is refused on Debian, `--target` is not."""
    done = TOOLS / "installed.txt"
    if done.exists() and done.read_bytes() == PINS.read_bytes():
        return
    if importlib.util.find_spec("pip") is None:
        stop(f"{sys.executable} has no pip: install it with: apt-get install python3-pip")
    shutil.rmtree(TOOLS, ignore_errors=True)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    flags = ("--root-user-action=ignore", "--only-binary=:all:", "--require-hashes")
    run("installing uv and just", *pip, *flags, "--target", TOOLS, "-r", PINS)
    shutil.copy(PINS, done)


def main() -> None:
    if sys.version_info < (3, 11):
        stop(f"Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}")
    os.chdir(ROOT)
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    os.environ["UV_PYTHON"] = sys.executable
    install_packages()
    install_tools()
    os.execv(TOOLS / "bin" / "just", ["just", *(sys.argv[1:] or ["lab"])])


if __name__ == "__main__":
    main()
