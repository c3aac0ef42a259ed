"""Values kept from run to run: whole, or set aside."""

import asyncio
import base64
import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
import structlog.testing

from services.agent.core.documents import Documents, FeedView, Held, LastGood
from services.agent.core.ha.standing import Switch
from services.agent.core.kernel import PeerStats
from services.agent.core.paths.pathbook import PathBook, Reset
from services.agent.core.reconcile.desired import Local
from services.agent.core.routing.choices import Selection
from services.agent.situation import Bus, Situation
from services.agent.state import lastgood, statefile
from services.agent.state.lastgood import LastGoodKeeper
from services.agent.state.statefile import Picture, StateFile
from services.agent.state.switches import SwitchKeeper
from shared import files
from shared.events.documents import FeedMessage, PeerDoc
from shared.events.subjects import FeedKey
from tests.support.bus import eventually
from tests.support.smalldisk import SmallDisk, disk

__all__ = ["disk"]

PEER = PeerDoc(
    peer_id="a",
    name="a",
    fqdn="a.wb",
    wireguard_key="k",
    address_v4="100.64.0.2",
    address_v6="",
    groups=("g",),
    version="1.0.0",
)
PICTURE = Picture(
    feed=LastGood(7, (Held(FeedKey("acc", "g.all", "peer", "a"), 3, FeedMessage(7, PEER)),)),
    endpoints={"a": "192.0.2.1:51820"},
    bus={"bus.example": ("192.0.2.53", "2001:db8::53")},
)


def test_a_picture_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    statefile.picture(tmp_path).keep(PICTURE)
    assert statefile.picture(tmp_path).value == PICTURE
    assert stat.S_IMODE((tmp_path / "lastgood").stat().st_mode) == 0o600


def test_a_choice_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    choice = Selection(selected=frozenset({"x"}), deselected=frozenset({"y"}), none=True)
    statefile.selection(tmp_path).keep(choice)
    assert statefile.selection(tmp_path).value == choice


def test_nothing_kept_is_the_initial_value(tmp_path: Path) -> None:
    assert statefile.picture(tmp_path).value == Picture()
    assert statefile.Originals(tmp_path, "boot 1").value == {}


def test_settings_come_back_until_the_host_is_started_anew(tmp_path: Path) -> None:
    """A reboot set them by what the host is configured with now; what they were before may be wrong meanwhile."""
    forward = {"net/ipv4/ip_forward": "0"}
    statefile.Originals(tmp_path, "boot 1").keep(forward)
    assert statefile.Originals(tmp_path, "boot 1").value == forward
    after = statefile.Originals(tmp_path, "boot 2")
    assert after.value == {}
    after.keep({})
    assert statefile.Originals(tmp_path, "boot 1").value == {}


WHOLE = statefile.sealed(PICTURE)


@pytest.mark.parametrize(
    "content",
    [b"", WHOLE[:-1], WHOLE[:8], b"x" + WHOLE, WHOLE.replace(b"192.0.2.1", b"192.0.2.9"), statefile.sealed(5)],
    ids=["empty", "cut", "nearly nothing", "shifted", "one byte different", "of another version"],
)
def test_a_corrupt_file_is_set_aside_and_the_host_goes_on(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lastgood").write_bytes(content)
    kept = statefile.picture(tmp_path)
    assert kept.value == Picture()
    assert (tmp_path / "lastgood.corrupt-1").read_bytes() == content
    kept.keep(PICTURE)
    assert statefile.picture(tmp_path).value == PICTURE


@pytest.mark.parametrize("name", ["lastgood", "epoch"])
def test_a_directory_in_a_files_place_is_set_aside_as_well(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "somebodys").mkdir(parents=True)
    assert statefile.picture(tmp_path).value == Picture()
    assert statefile.next_epoch(tmp_path, 1_000.0) == 1_000_000
    assert (tmp_path / f"{name}.corrupt-1" / "somebodys").is_dir()
    assert statefile.next_epoch(tmp_path, 1_000.0) == 1_000_001


class Counted(StateFile[Picture]):
    """writes: how often a picture was to be kept."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "lastgood", Picture, Picture())
        self.writes = 0

    def keep(self, value: Picture) -> None:
        self.writes += 1
        super().keep(value)


def keeper_of(file: StateFile[Picture], bus: Mapping[str, tuple[str, ...]]) -> tuple[LastGoodKeeper, Situation]:
    situation = Situation(Local(public_key="", listen_port=1))
    return LastGoodKeeper(situation, file, FeedView(PICTURE.feed), PathBook(""), bus), situation


async def test_changes_are_kept_once_they_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.agent.state.lastgood.DEBOUNCE_S", 0.05)
    file = Counted(tmp_path)
    keeper, situation = keeper_of(file, PICTURE.bus)
    running = asyncio.create_task(keeper.run())
    for revision in range(5):
        situation.documents.set(Documents(revision=revision))
        await asyncio.sleep(0)
    await eventually(lambda: (tmp_path / "lastgood").exists())
    await asyncio.sleep(0.1)
    assert file.writes == 1
    assert statefile.picture(tmp_path).value.feed == PICTURE.feed
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_nothing_is_kept_of_what_a_banished_host_was_told(tmp_path: Path) -> None:
    file = statefile.picture(tmp_path)
    file.keep(PICTURE)
    keeper, situation = keeper_of(file, PICTURE.bus)
    situation.bus.set(Bus(standing="refused"))
    keeper.keep()
    assert statefile.picture(tmp_path).value == Picture()


def test_epochs_grow_also_when_the_clock_is_set_back(tmp_path: Path) -> None:
    epochs = [statefile.next_epoch(tmp_path, wall) for wall in (100.0, 101.5, 50.0, 50.0, 200.0)]
    assert epochs == [100_000, 101_500, 101_501, 101_502, 200_000]


def test_a_disk_that_takes_nothing_more_keeps_no_host_from_its_next_epoch(tmp_path: Path) -> None:
    assert statefile.next_epoch(tmp_path, 100.0) == 100_000
    (tmp_path / f"epoch.{os.getpid()}.new").mkdir()
    assert statefile.next_epoch(tmp_path, 50.0) == 100_001
    assert statefile.next_epoch(tmp_path, 200.0) == 200_000


async def test_endpoints_that_worked_are_kept_and_tried_again(tmp_path: Path) -> None:
    key, other = base64.b64encode(b"a" * 32).decode(), base64.b64encode(b"b" * 32).decode()
    view, book = FeedView(PICTURE.feed), PathBook(other)
    book.set_peers({"a": key}, 0.0)
    book.recall(PICTURE.endpoints, {}, 0.0, 1_000.0)
    book.advance(0.6)
    assert book.endpoints() == {"a": "192.0.2.1:51820"}
    assert lastgood.taken(view, book, PICTURE, PICTURE.bus) == PICTURE
    stats = PeerStats(endpoint="192.0.2.7:51820", last_handshake=1_001.0, rx_bytes=1, tx_bytes=1)
    book.observe({key: stats}, 1.0, 1_001.0)
    assert lastgood.taken(view, book, PICTURE, PICTURE.bus).endpoints == {"a": "192.0.2.7:51820"}


async def test_a_session_that_outlived_the_last_run_is_left_alone() -> None:
    key, other = base64.b64encode(b"a" * 32).decode(), base64.b64encode(b"b" * 32).decode()
    book = PathBook(other)
    book.set_peers({"a": key}, 0.0)
    stats = PeerStats(endpoint="192.0.2.7:51820", last_handshake=990.0, rx_bytes=1, tx_bytes=1)
    book.recall(PICTURE.endpoints, {key: stats}, 0.0, 1_000.0)
    assert book.connected() == {"a"}
    assert not any(isinstance(action, Reset) for action in book.take(0.0))


async def test_a_picture_that_found_no_room_is_kept_when_there_is_some(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lastgood, "DEBOUNCE_S", 0.0)
    monkeypatch.setattr(lastgood, "TRY_AGAIN_S", 0.05)
    file = statefile.picture(disk.root)
    file.keep(PICTURE)
    newer = Picture(feed=PICTURE.feed, bus={f"bus-{number}": ("192.0.2.1",) for number in range(2_000)})
    keeper, situation = keeper_of(file, newer.bus)
    running = asyncio.create_task(keeper.run())
    try:
        with structlog.testing.capture_logs() as said:
            disk.fill()
            situation.documents.set(Documents())
            await eventually(lambda: said)
            await asyncio.sleep(0.3)
            assert statefile.picture(disk.root).value == PICTURE, "what was there is there still"
            assert [entry["log_level"] for entry in said] == ["warning"], "it is told once"
            assert str(disk.root / "lastgood") in said[0]["problem"]
            disk.empty()
            await eventually(lambda: statefile.picture(disk.root).value == newer)
            await eventually(lambda: len(said) == 2)
            assert said[1]["log_level"] == "info"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_a_write_that_finds_no_room_names_the_file(disk: SmallDisk) -> None:
    disk.fill()
    with pytest.raises(OSError) as problem:
        files.write(disk.root / "identity", bytes(100_000))
    assert problem.value.filename == str(disk.root / "identity")
    assert not (disk.root / "identity").exists()


async def test_the_last_switches_are_there_after_a_restart(tmp_path: Path) -> None:
    situation = Situation(Local(public_key="", listen_port=1))
    keeper = SwitchKeeper(situation, statefile.switches(tmp_path))
    one = Switch(
        at=1.0, network_id="n", where="w", former="a", former_name="A", now="b", now_name="B", cause="down", reason="r"
    )
    situation.switches.set((one,))
    keeper.keep()
    assert statefile.switches(tmp_path).value == (one,)
