"""The feed of an account as a function of its state: every document, or those of one unit."""

from collections.abc import Iterator

from services.management.core.feed.relations import RelationsOf
from services.management.core.feed.unit import NOTHING, Documents, Given, Observed, Relations, Unit
from services.management.core.feed.units import UNITS
from services.management.core.state import AccountState
from shared.events.documents import KINDS, Document
from shared.events.subjects import FeedKey

_BY_NAME = {kind.name: kind for kind in UNITS}
_BY_DOCUMENT = {kind.makes: kind for kind in UNITS}


def documents(state: AccountState, observed: Observed = NOTHING) -> Documents:
    """Every document of the account's feed."""
    relations = RelationsOf(state, observed)
    return {
        key: document
        for unit in units(state)
        for key, document in unit_documents(state, observed, relations, unit).items()
    }


def units(state: AccountState) -> Iterator[Unit]:
    """Every unit the account has, each once; some have no documents."""
    return (unit for kind in UNITS for unit in kind.units(state))


def unit_of(key: FeedKey, document: Document) -> Unit:
    """The unit a published document belongs to."""
    kind = _BY_DOCUMENT[type(document)]
    return Unit(kind.name, kind.owner_of(key, document))


def unit_documents(state: AccountState, observed: Observed, relations: Relations, unit: Unit) -> Documents:
    """The documents of one unit; {} for one that the account does not have (any more)."""
    kind, account = _BY_NAME[unit.kind], state.account.id
    token, copies = KINDS[kind.makes], kind.documents(Given(state, relations, observed), unit.id)
    return {FeedKey(account, audience, token, id): document for audience, id, document in copies}
