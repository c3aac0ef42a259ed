"""Keys on disk: made once, kept private, never lost to a bad file."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from services.agent.errors import AlreadyRunning, CorruptState
from services.agent.identity import Identity, StateDirectory, set_aside


@pytest.fixture
def interface(request: pytest.FixtureRequest) -> str:
    return f"wbt{os.getpid()}"


def test_keys_are_on_disk_before_anybody_has_them(tmp_path: Path, interface: str) -> None:
    made = StateDirectory(tmp_path / "state", interface).load()
    kept = msgspec.json.decode((tmp_path / "state/identity.json").read_bytes(), type=Identity)
    assert kept == made
    assert not made.enrolled


def test_the_same_keys_come_back_with_the_peer_they_became(tmp_path: Path, interface: str) -> None:
    directory = StateDirectory(tmp_path, interface)
    made = directory.load()
    directory.save(msgspec.structs.replace(made, account="a", peer_id="p"))
    again = directory.load()
    assert (again.public_key, again.bus_key, again.account, again.peer_id) == (made.public_key, made.bus_key, "a", "p")
    assert again.enrolled


def test_only_the_owner_reads_the_state(tmp_path: Path, interface: str) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o755)
    StateDirectory(path, interface).load()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"wireguard_key": "x", "bus_seed": "y"}', b"[]"])
def test_a_corrupt_identity_is_set_aside_and_named(tmp_path: Path, interface: str, content: bytes) -> None:
    (tmp_path / "identity.json").write_bytes(content)
    (tmp_path / "identity.json.corrupt-1").write_bytes(b"an earlier one")
    with pytest.raises(CorruptState, match=r"identity\.json is corrupt and was set aside as identity\.json\.corrupt-2"):
        StateDirectory(tmp_path, interface).load()
    assert (tmp_path / "identity.json.corrupt-2").read_bytes() == content
    assert (tmp_path / "identity.json.corrupt-1").read_bytes() == b"an earlier one"


def test_a_private_key_shows_in_no_text(tmp_path: Path, interface: str) -> None:
    identity = StateDirectory(tmp_path, interface).load()
    assert identity.wireguard_key not in f"{identity!r} {identity}"
    assert identity.bus_seed not in f"{identity!r} {identity}"


def test_a_file_set_aside_is_never_written_over(tmp_path: Path) -> None:
    file = tmp_path / "x"
    names = []
    for content in ("1", "2", "3"):
        file.write_text(content)
        names.append(set_aside(file).name)
    assert names == ["x.corrupt-1", "x.corrupt-2", "x.corrupt-3"]
    assert [(tmp_path / name).read_text() for name in names] == ["1", "2", "3"]


HOLD = "import sys; from pathlib import Path; from services.agent.identity import StateDirectory; "
HOLD += "held = StateDirectory(Path(sys.argv[1]), sys.argv[2]); print('held', flush=True); sys.stdin.read()"


@pytest.mark.parametrize(
    ("directory", "interface_end", "named"), [("one", "b", "state directory"), ("two", "a", "interface")]
)
def test_a_second_agent_is_told_what_the_first_one_holds(
    tmp_path: Path, interface: str, directory: str, interface_end: str, named: str
) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "one"), f"{interface}a"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunning, match=f"{named} .* is in use by another agent") as refused:
            StateDirectory(tmp_path / directory, f"{interface}{interface_end}")
        assert refused.value.exit_code == 5
    finally:
        first.kill()
        first.communicate()
    StateDirectory(tmp_path / directory, f"{interface}{interface_end}")
