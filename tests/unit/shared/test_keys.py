"""Keys of the bus as text."""

from pathlib import Path

import nkeys
import pytest

from shared.bus.keys import Kind, curve_key, new_seed, public_bytes, public_curve_key, public_key, read_seed, seed_file
from shared.errors import CorruptFile


@pytest.mark.parametrize(("kind", "letter"), [("user", "U"), ("account", "A"), ("curve", "X")])
def test_a_key_shows_its_kind(kind: Kind, letter: str) -> None:
    seed = new_seed(kind)
    assert seed.startswith(f"S{letter}")
    assert public_key(seed).startswith(letter)
    assert len(public_bytes(public_key(seed))) == 32
    assert new_seed(kind) != seed


def test_a_signing_key_is_the_one_that_other_implementations_read() -> None:
    kinds: tuple[Kind, ...] = ("user", "account")
    for kind in kinds:
        seed = new_seed(kind)
        assert public_key(seed) == nkeys.from_seed(seed.encode()).public_key.decode()


def test_a_curve_key_survives_as_text() -> None:
    seed = new_seed("curve")
    assert public_curve_key(public_key(seed)) == curve_key(seed).public_key


@pytest.mark.parametrize("text", ["", "hello", "U" * 56, "SU" + "A" * 55, "ü" * 56])
def test_what_is_no_key_is_refused(text: str) -> None:
    for read in (public_key, public_bytes, public_curve_key):
        with pytest.raises(nkeys.NkeysError):
            read(text)


def test_a_users_key_is_no_curve_key() -> None:
    with pytest.raises(nkeys.NkeysError):
        public_curve_key(public_key(new_seed("user")))


def test_a_seed_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "signal.nk"
    seed = seed_file(file, "user")
    assert file.stat().st_mode & 0o777 == 0o600
    assert seed_file(file, "user") == read_seed(file) == seed


def test_a_damaged_seed_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "signal.nk"
    file.write_text("not a seed")
    with pytest.raises(CorruptFile) as problem:
        read_seed(file)
    assert str(file) in str(problem.value)
    assert "not a seed" not in str(problem.value)


def test_a_key_file_that_cannot_be_read_is_named_with_the_remedy(tmp_path: Path) -> None:
    for file, reason in ((tmp_path / "signal.nk", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(CorruptFile) as problem:
            read_seed(file)
        assert str(problem.value) == (
            f"{file}: this key file cannot be read ({reason}): put it back, or name it with --credentials"
        )


def test_a_key_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "signal.nk"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(CorruptFile, match="it holds no nkey seed"):
        read_seed(file)
