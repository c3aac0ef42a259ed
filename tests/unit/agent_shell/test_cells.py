"""Shared values: a part wakes once for any number of changes, and for none of them never."""

import asyncio
import random

import pytest

from services.agent.cells import Cell, Watch, counted, since


async def is_quiet(watch: Watch) -> bool:
    """Whether the watch waits."""
    waiting = asyncio.create_task(watch.wait())
    for _ in range(5):
        await asyncio.sleep(0)
    waiting.cancel()
    return not waiting.done()


async def test_a_value_is_read_by_whoever_looks() -> None:
    cell = Cell(1)
    cell.set(2)
    assert cell.value == 2


async def test_what_was_set_before_a_part_watched_is_not_told() -> None:
    cell = Cell(1)
    cell.set(2)
    assert await is_quiet(Watch(cell))


async def test_any_number_of_changes_between_two_waits_is_one() -> None:
    one, other = Cell(0), Cell(0)
    watch = Watch(one, other)
    for number in range(100):
        one.set(number)
        other.set(number)
    await watch.wait()
    assert await is_quiet(watch)


async def test_each_part_wakes_for_itself() -> None:
    cell = Cell(0)
    first, second = Watch(cell), Watch(cell)
    cell.set(1)
    await first.wait()
    assert await is_quiet(first)
    await second.wait()


async def test_an_equal_value_wakes_as_well() -> None:
    cell = Cell(1)
    watch = Watch(cell)
    cell.set(1)
    await watch.wait()


async def test_what_comes_while_a_part_works_ends_its_next_wait() -> None:
    cell = Cell(0)
    watch = Watch(cell)
    cell.set(1)
    await watch.wait()
    cell.set(2)  # while the part acts on 1
    await watch.wait()


async def test_a_part_that_catches_up_is_not_woken_for_what_it_saw() -> None:
    cell = Cell(0)
    watch = Watch(cell)
    cell.set(1)
    watch.catch_up()
    assert await is_quiet(watch)


async def test_a_wait_ends_in_time_and_by_a_reason_of_the_parts_own() -> None:
    watch = Watch()
    await asyncio.wait_for(watch.wait(0.0), 1.0)
    watch.wake()
    await asyncio.wait_for(watch.wait(), 1.0)


@pytest.mark.parametrize("seed", range(20))
async def test_a_part_that_reads_after_each_wait_ends_with_the_last_value(seed: int) -> None:
    """However writer and reader take turns."""
    chance = random.Random(seed)
    cell = Cell(0)
    watch = Watch(cell)
    seen = [0]

    async def read() -> None:
        while seen[-1] != 50:
            await watch.wait(chance.choice((None, 0.0)))
            value = cell.value
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            seen.append(value)

    reading = asyncio.create_task(read())
    for number in range(1, 51):
        cell.set(number)
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
    await asyncio.wait_for(reading, 5.0)
    assert seen == sorted(seen)


def test_what_happened_is_told_by_its_number_however_many_looks_were_missed() -> None:
    before = counted({}, ["link"])
    now = counted(counted(before, ["route", "link"]), ["route"])
    assert since(before, now) == {"link", "route"}
    assert since(now, now) == frozenset()
    assert since({}, before) == {"link"}


def test_one_kind_that_happens_again_does_not_hide_the_other() -> None:
    before = counted({}, ["link", "route"])
    assert since(before, counted(before, ["route"])) == {"route"}
