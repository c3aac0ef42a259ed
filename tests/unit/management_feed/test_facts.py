"""Which of the resolver's facts the projector shows."""

from services.management.core.state import Intent
from services.management.ports import FoldListener
from services.management.projector.facts import Facts
from shared.bus.codec import encode
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.documents import ResolvedAddress, ResolvedName
from shared.events.facts import ResolutionFact
from tests import builders
from tests.builders import ACCOUNT


class FoldAt:
    """A fold at sequence 1 that `advance` moves on."""

    def __init__(self) -> None:
        self.intent: Intent = builders.intent()

    @property
    def sequence(self) -> int:
        return self.intent.sequence

    def listen(self, listener: FoldListener) -> None: ...

    async def wait_for(self, sequence: int) -> None: ...

    def advance(self) -> None:
        self.intent.apply(self.sequence + 1, builders.commit(builders.group(f"g{self.sequence}")))


def names(address: str) -> tuple[ResolvedName, ...]:
    return (ResolvedName("db.example", (ResolvedAddress(address, 5.0, 0.0),)),)


class Scene:
    """Facts that were read, over a fold at 1; `changed` gathers the routes that were reported."""

    def __init__(self) -> None:
        self.fold = FoldAt()
        self.changed: list[str] = []
        self.facts = Facts(self.fold, Undecodables())
        self.facts.on_change = lambda _, route: self.changed.append(route)
        self.facts.begin()
        self.facts.caught_up()

    def fact(self, route: str, revision: int, found: tuple[ResolvedName, ...]) -> None:
        fact = ResolutionFact(route_id=route, revision=revision, names=found)
        self.facts.message(subjects.resolution_fact(ACCOUNT, route), encode(fact), 1)

    def shown(self) -> dict[str, tuple[ResolvedName, ...]]:
        return dict(self.facts.resolutions(ACCOUNT))


def test_a_fact_is_shown_and_reported_once() -> None:
    scene = Scene()
    scene.fact("r", 1, names("10.9.0.1"))
    scene.fact("r", 1, names("10.9.0.1"))
    assert scene.shown() == {"r": names("10.9.0.1")}
    assert scene.changed == ["r"]


def test_a_fact_without_names_withdraws() -> None:
    scene = Scene()
    scene.fact("r", 1, names("10.9.0.1"))
    scene.fact("r", 1, ())
    assert scene.shown() == {}
    assert scene.changed == ["r", "r"]


def test_a_fact_of_a_newer_revision_waits_and_what_was_known_stays() -> None:
    scene = Scene()
    scene.fact("r", 1, names("10.9.0.1"))
    scene.fact("r", 3, names("10.9.0.3"))
    scene.fold.advance()
    scene.facts.folded()
    assert scene.shown() == {"r": names("10.9.0.1")}
    scene.fold.advance()
    scene.facts.folded()
    assert scene.shown() == {"r": names("10.9.0.3")}
    assert scene.changed == ["r", "r"]


def test_a_newer_fact_replaces_one_that_waits() -> None:
    scene = Scene()
    scene.fact("r", 2, names("10.9.0.2"))
    scene.fact("r", 1, names("10.9.0.1"))
    scene.fold.advance()
    scene.facts.folded()
    assert scene.shown() == {"r": names("10.9.0.1")}


def test_a_snapshot_changes_nothing_until_it_is_whole_and_then_forgets_what_it_did_not_bring() -> None:
    scene = Scene()
    scene.fact("r", 1, names("10.9.0.1"))
    scene.fact("s", 1, names("10.9.0.2"))
    scene.fact("ahead", 2, names("10.9.0.4"))
    scene.facts.begin()
    scene.fact("s", 1, names("10.9.0.2"))
    assert set(scene.shown()) == {"r", "s"}
    scene.facts.caught_up()
    scene.fold.advance()
    scene.facts.folded()
    assert set(scene.shown()) == {"s"}
    assert scene.changed == ["r", "s", "r"]


def test_what_a_snapshot_has_lost_of_a_route_that_there_is_stays() -> None:
    scene = Scene()
    scene.fold.intent.apply(2, builders.commit(builders.route("r", domains=("db.example",))))
    scene.fact("r", 1, names("10.9.0.1"))
    scene.facts.begin()
    scene.facts.caught_up()
    assert scene.shown() == {"r": names("10.9.0.1")}
    scene.fact("r", 1, ())
    assert scene.shown() == {}


def test_what_the_feed_shows_stays_unless_a_fact_says_otherwise() -> None:
    scene = Scene()
    scene.fold.intent.apply(2, builders.commit(*(builders.route(r, domains=("db.example",)) for r in ("r", "s", "t"))))
    scene.fact("r", 1, names("10.9.0.1"))
    scene.fact("s", 1, ())
    for route in ("r", "s", "t", "gone"):
        scene.facts.keep(ACCOUNT, route, names("10.9.0.9"))
    assert scene.shown() == {"r": names("10.9.0.1"), "t": names("10.9.0.9")}


def test_what_cannot_be_decoded_changes_nothing() -> None:
    scene = Scene()
    scene.facts.message(subjects.resolution_fact(ACCOUNT, "r"), b"nonsense", 1)
    scene.facts.message("fact.acc.planet.r.resolution", b"", 1)
    assert scene.shown() == {}
    assert scene.changed == []
