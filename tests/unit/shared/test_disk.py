"""Whether a disk takes anything, also one that is broken."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.disk import has_room

ASK = "import sys; from pathlib import Path; from shared.disk import has_room; print(has_room(Path(sys.argv[1]), 4096))"


def test_a_directory_that_takes_a_file_has_room(tmp_path: Path) -> None:
    assert has_room(tmp_path, 4096)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_gone_has_none(tmp_path: Path) -> None:
    assert not has_room(tmp_path / "gone", 4096)


@pytest.mark.root
def test_a_disk_that_is_read_only_has_none(tmp_path: Path) -> None:
    """As the kernel makes it after an error; who asks goes on."""
    mounted = f'mount -t tmpfs -o ro none {tmp_path} && exec "$@"'
    asking = ["unshare", "--mount", "sh", "-c", mounted, "sh", sys.executable, "-c", ASK, str(tmp_path)]
    assert subprocess.run(asking, check=True, capture_output=True, text=True, timeout=30).stdout == "False\n"
