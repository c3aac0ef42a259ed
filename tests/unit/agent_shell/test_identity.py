"""Keys on disk: made once, kept private, never lost to a bad file."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from services.agent.errors import AlreadyRunning, CorruptState
from services.agent.state import identity
from services.agent.state.directory import StateDirectory
from shared import files

HOST = f"wbt{os.getpid()}"


def test_a_host_without_identity_has_none(tmp_path: Path) -> None:
    assert identity.load(tmp_path) is None


def test_keys_are_on_disk_before_anybody_has_them(tmp_path: Path) -> None:
    made = identity.create(tmp_path)
    assert identity.load(tmp_path) == made
    assert not made.enrolled


def test_the_same_keys_come_back_with_the_peer_they_became(tmp_path: Path) -> None:
    made = identity.create(tmp_path)
    identity.save(tmp_path, msgspec.structs.replace(made, account="a", peer_id="p"))
    again = identity.load(tmp_path)
    assert again is not None
    assert (again.public_key, again.bus_key, again.account, again.peer_id) == (made.public_key, made.bus_key, "a", "p")
    assert again.enrolled


def test_only_the_owner_reads_the_state(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o755)
    directory = StateDirectory(path, HOST)
    identity.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {
        "lock": 0o600,
        "identity.json": 0o600,
    }
    directory.release()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"wireguard_key": "x", "bus_seed": "y"}', b"[]"])
def test_a_corrupt_identity_is_set_aside_and_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "identity.json").write_bytes(content)
    (tmp_path / "identity.json.corrupt-1").write_bytes(b"an earlier one")
    with pytest.raises(CorruptState, match=r"identity\.json is corrupt and was set aside as identity\.json\.corrupt-2"):
        identity.load(tmp_path)
    assert (tmp_path / "identity.json.corrupt-2").read_bytes() == content
    assert (tmp_path / "identity.json.corrupt-1").read_bytes() == b"an earlier one"


def test_a_private_key_shows_in_no_text(tmp_path: Path) -> None:
    made = identity.create(tmp_path)
    assert made.wireguard_key not in f"{made!r} {made}"
    assert made.bus_seed not in f"{made!r} {made}"


def test_a_file_set_aside_is_never_written_over(tmp_path: Path) -> None:
    file = tmp_path / "x"
    names = []
    for content in ("1", "2", "3"):
        file.write_text(content)
        names.append(files.set_aside(file, "corrupt").name)
    assert names == ["x.corrupt-1", "x.corrupt-2", "x.corrupt-3"]
    assert [(tmp_path / name).read_text() for name in names] == ["1", "2", "3"]


KILLED = "import os, sys; from pathlib import Path; from shared import files; os.fsync = lambda _: os._exit(9); "
KILLED += "files.write(Path(sys.argv[1]) / 'lastgood', b'what a banished host was told')"


def test_what_a_killed_run_was_writing_is_gone_with_the_next_one(tmp_path: Path) -> None:
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)]).returncode == 9
    (tmp_path / "lastgood").write_bytes(b"whole")
    StateDirectory(tmp_path, HOST).release()
    assert {file.name for file in tmp_path.iterdir()} == {"lock", "lastgood"}


HOLD = "import sys; from pathlib import Path; from services.agent.state.directory import StateDirectory; "
HOLD += "held = StateDirectory(Path(sys.argv[1]), sys.argv[2]); print('held', flush=True); sys.stdin.read()"


@pytest.mark.parametrize(
    ("directory", "host", "line"),
    [("one", "b", "state directory .* is in use by another agent"), ("two", "a", "another agent runs on this host")],
)
def test_a_second_agent_is_told_what_the_first_one_holds(tmp_path: Path, directory: str, host: str, line: str) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "one"), f"{HOST}a"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunning, match=line) as refused:
            StateDirectory(tmp_path / directory, f"{HOST}{host}")
        assert refused.value.exit_code == 5
    finally:
        first.kill()
        first.communicate()
    StateDirectory(tmp_path / directory, f"{HOST}{host}").release()
