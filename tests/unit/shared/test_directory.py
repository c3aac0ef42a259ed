"""A directory that nobody can hold."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.directory import held
from shared.errors import BadSetting


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for directory, reason in (
        (file, f"{file} is a file: choose a directory"),
        (file / "x", f"cannot write to {file / 'x'}: Not a directory: choose another directory"),
    ):
        with pytest.raises(BadSetting) as refusal, held(directory):
            pass
        assert str(refusal.value) == f"--data-dir: {reason}"


READ_ONLY = 'mount -t tmpfs -o ro none "$0" && exec "$1" -m services.cli server --data-dir "$0/{inside}"'


@pytest.mark.parametrize("inside", ["", "new"])
def test_a_read_only_file_system_is_one_line(inside: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", READ_ONLY.format(inside=inside), str(tmp_path), sys.executable],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    said = ended.stderr.splitlines()
    assert ended.returncode == 2
    assert said[-1] == (
        f"whimbrel server: --data-dir: cannot write to {tmp_path / inside}: Read-only file system: "
        "choose another directory"
    )
    assert "Traceback" not in ended.stderr
