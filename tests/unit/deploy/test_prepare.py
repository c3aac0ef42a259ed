"""What the one-shot of the compose stack leaves: seeds of each service in its own folder, and the server's file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.nats.__main__ import HOLDS, prepare
from services.management.wiring import Seeds, read_seeds
from services.resolver import wiring as resolver
from services.signal import wiring as signal
from shared.bus.embedded.config import credentials
from shared.bus.keys import new_seed, public_key, read_seed
from shared.bus.reached import Reached
from tests.arch.tree import ROOT


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return prepared(tmp_path)


def prepared(stack: Path, *nodes: str) -> Path:
    prepare(stack / "seeds", stack / "handed-out", stack / "data", nodes or ("bus",), "0.0.0.0", 4222)
    return stack


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_service_gets_the_seeds_that_it_reads_and_no_others(stack: Path) -> None:
    handed_out = contents(stack / "handed-out")
    assert set(handed_out) == {
        *(f"management/{role}.nk" for role in Seeds.__struct_fields__),
        "management/log-reached",
        f"signal/{signal.ROLE}.nk",
        f"resolver/{resolver.ROLE}.nk",
    }
    keys = credentials(stack / "seeds")
    assert read_seeds(stack / "handed-out/management").issuer == keys.issuer
    assert read_seed(stack / "handed-out/signal/signal.nk") == keys.signal
    assert read_seed(stack / "handed-out/resolver/resolver.nk") == keys.resolver


def test_only_their_owner_may_read_them(stack: Path) -> None:
    paths = [stack / "seeds", *(stack / "handed-out").iterdir()]
    assert {oct(path.stat().st_mode & 0o777) for path in paths} == {"0o700"}
    files = [file for path in paths for file in path.iterdir()]
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}
    assert len(files) == 6 + sum(map(len, HOLDS.values())) + 1


def test_a_second_run_changes_nothing(stack: Path) -> None:
    before = contents(stack)
    files = {path: path.stat().st_ino for path in (stack / "handed-out").rglob("*.nk")}
    files |= {path: path.stat().st_ino for path in (stack / "data").rglob("*.conf")}
    prepared(stack)
    assert contents(stack) == before
    assert {path: path.stat().st_ino for path in files} == files, "and writes nothing, for which there may be no room"


@pytest.mark.parametrize("name", ["seeds", "handed-out", "data"])
def test_a_folder_that_cannot_be_used_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    words = [f"--{folder}={tmp_path / folder}" for folder in ("seeds", "handed-out", "data")]
    ended = subprocess.run([sys.executable, "-m", "deploy.nats", *words], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {tmp_path / name}")
    assert len(ended.stderr.splitlines()) == 1


def test_a_service_whose_seeds_were_lost_gets_them_again(stack: Path) -> None:
    before = contents(stack)
    (stack / "handed-out/signal/signal.nk").unlink()
    prepared(stack)
    assert contents(stack) == before


def test_only_new_seeds_let_a_log_begin_and_management_alone_remembers_how_far_it_came(stack: Path) -> None:
    remembered = Reached(stack / "handed-out/management")
    assert remembered.read() == (0, 0)
    assert Reached(stack / "seeds").read() is None
    remembered.note(57)
    prepared(stack)
    assert remembered.read() == (57, 0)
    (stack / "handed-out/management/log-reached").unlink()
    prepared(stack)
    assert remembered.read() is None, "nothing may begin where it was forgotten"


def test_a_run_that_was_cut_off_before_the_seeds_were_whole_still_lets_the_log_begin(tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    Reached(tmp_path / "seeds").begin()
    (tmp_path / "seeds/issuer.nk").write_text(new_seed("account") + "\n")
    prepared(tmp_path)
    assert Reached(tmp_path / "handed-out/management").read() == (0, 0)


def test_what_the_bus_sees_holds_no_seed(stack: Path) -> None:
    seeds = {text.decode().strip() for text in contents(stack / "seeds").values()}
    config = (stack / "data/bus/server.conf").read_text()
    assert set(contents(stack / "data")) == {"bus/server.conf"}
    assert [seed for seed in seeds if seed in config] == []
    assert [seed for seed in seeds if public_key(seed) not in config] == []


def test_with_a_certificate_the_server_requires_tls(stack: Path) -> None:
    plain = (stack / "data/bus/server.conf").read_text()
    assert "tls" not in plain
    words = [f"--{name}={stack / name}" for name in ("seeds", "handed-out", "data")]
    files = {"WHIMBREL_BUS_CERT": "/tls/bus.crt", "WHIMBREL_BUS_KEY": "/tls/bus.key"}
    subprocess.run([sys.executable, "-m", "deploy.nats", *words], cwd=ROOT, env={**os.environ, **files}, check=True)
    added = (stack / "data/bus/server.conf").read_text().removeprefix(plain)
    assert added.split()[:6] == ["tls", "{", "cert_file:", '"/tls/bus.crt"', "key_file:", '"/tls/bus.key"']


@pytest.mark.parametrize("option", ["--bus-cert", "--bus-key"])
def test_a_certificate_without_its_key_is_refused(tmp_path: Path, option: str) -> None:
    words = ["--seeds", "s", "--handed-out", "h", "--data", "d", option, "file"]
    ended = subprocess.run([sys.executable, "-m", "deploy.nats", *words], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.endswith("error: give --bus-cert and --bus-key together\n")


def test_the_servers_of_a_cluster_know_each_other_by_name_and_by_a_password_of_their_own(tmp_path: Path) -> None:
    stack = prepared(tmp_path, "one", "two", "three")
    password = read_seed(stack / "seeds/cluster.nk")
    for name in ("one", "two", "three"):
        config = stack / "data" / name / "server.conf"
        assert config.stat().st_mode & 0o777 == 0o600
        text = config.read_text()
        assert f'server_name: "{name}"' in text
        assert f'store_dir: "{stack}/data/{name}/store"' in text
        for member in ("one", "two", "three"):
            assert f"nats://whimbrel:{password}@{member}:6222" in text
    assert password not in "".join(map(str, contents(stack / "handed-out").values()))
    before = contents(stack)
    prepared(stack, "one", "two", "three")
    assert contents(stack) == before


def test_a_server_that_was_alone_and_one_of_a_cluster_never_see_what_the_other_kept(tmp_path: Path) -> None:
    def store(*nodes: str) -> str:
        config = (prepared(tmp_path, *nodes) / "data/bus/server.conf").read_text()
        [found] = re.findall(r'store_dir: "(.*)"', config)
        return str(found).removeprefix(f"{tmp_path}/data/bus/")

    three = ("bus", "bus-2", "bus-3")
    assert store("bus") == "store"
    (tmp_path / "data/bus/store/jetstream/WHIMBREL/streams/LOG").mkdir(parents=True)
    assert store("bus") == "store"
    assert store(*three) == "store-of-a-member"
    assert store("bus") == "store", "and a move can be taken back"
    (tmp_path / "data/bus-2/store/jetstream/SYS/_js_/_meta_").mkdir(parents=True)
    assert 'bus-2/store"' in (prepared(tmp_path, *three) / "data/bus-2/server.conf").read_text()
