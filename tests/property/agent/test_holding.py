"""Whatever happens to gateways, LAN and bus: the laws of who answers for a return address."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.agent.ha_lan import World

NAMES = ("gw1", "gw2", "gw3")
WHO = st.sampled_from(NAMES)
PAUSE = st.sampled_from((0.01, 0.05, 0.15, 0.4, 0.9, 2.5, 7.0))

FATES = st.one_of(
    st.tuples(st.just("off"), WHO),
    st.tuples(st.just("boots"), WHO),
    st.tuples(st.just("killed"), WHO),
    st.tuples(st.just("restarts"), WHO),
    st.tuples(st.just("frozen"), WHO),
    st.tuples(st.just("thaws"), WHO),
    st.tuples(st.just("withdraws"), WHO),
    st.tuples(st.just("is well"), WHO),
    st.tuples(st.sampled_from(("is drained", "stays")), WHO),
)
BUS = st.tuples(st.sampled_from(("bus away", "bus back")), WHO)
PARTS = st.tuples(st.sampled_from(("cut off", "joined")), WHO)


def befall(world: World, fate: str, who: str) -> None:
    gateway = world.gateways[who]
    match fate:
        case "off":
            world.off(who)
        case "boots" if not gateway.kernel:
            world.boots(who)
        case "killed" | "frozen":
            gateway.agent = False
            if fate == "killed":
                gateway.pending = None
        case "restarts" if gateway.kernel and not gateway.agent:
            world.restarts(who)
        case "thaws" if gateway.kernel:
            gateway.agent = True
        case "withdraws" | "is well":
            gateway.able = fate == "is well"
        case "is drained" | "stays":
            gateway.leaving = fate == "is drained"
        case "bus away" | "bus back":
            for each in world.gateways.values():
                each.bus = fate == "bus back"
        case "cut off" | "joined":
            gateway.part = 1 + NAMES.index(who) if fate == "cut off" else 0


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(PAUSE, FATES), max_size=12))
def test_one_at_most_has_the_address_while_bus_and_lan_connect_all(
    history: list[tuple[float, tuple[str, str]]],
) -> None:
    world = World(NAMES)

    def law() -> None:
        assert len(world.holders()) <= 1, f"{world.holders()} at {world.now}"

    world.on_step = law
    for pause, (fate, who) in history:
        world.run(pause)
        befall(world, fate, who)
    world.run(5.0)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(PAUSE, st.one_of(FATES, BUS)), max_size=12))
def test_nobody_takes_it_while_a_holder_answers_in_the_lan_whatever_the_bus_does(
    history: list[tuple[float, tuple[str, str]]],
) -> None:
    world = World(NAMES)
    before: list[str] = []

    def law() -> None:
        nonlocal before
        now = world.holders()
        assert len(now) <= 1 or set(now) <= set(before), f"{now} after {before} at {world.now}"
        before = now

    world.on_step = law
    for pause, (fate, who) in history:
        world.run(pause)
        befall(world, fate, who)
    world.run(12.0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(PAUSE, st.one_of(FATES, BUS, PARTS)), max_size=12))
def test_once_all_is_well_the_first_in_rank_has_it_alone_and_by_its_lease(
    history: list[tuple[float, tuple[str, str]]],
) -> None:
    world = World(NAMES)
    for pause, (fate, who) in history:
        world.run(pause)
        befall(world, fate, who)
    befall(world, "bus back", NAMES[0])
    for name in NAMES:
        befall(world, "joined", name)
        befall(world, "is well", name)
        befall(world, "boots", name)
        befall(world, "thaws", name)
        befall(world, "stays", name)
    for _ in range(120):
        world.run(1.0)
        if (world.holders(), world.lease.holder) == (["gw1"], "gw1"):
            break
    assert (world.holders(), world.lease.holder) == (["gw1"], "gw1")
