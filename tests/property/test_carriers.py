"""Law of the counted clients: they are what looking at every client would give."""

from hypothesis import given
from hypothesis import strategies as st

from services.management.core.carriers import Carriers, Client

CLIENTS: list[Client] = [("a", "c1"), ("a", "c2"), ("b", "c1")]
ROUTES = ("r1", "r2", "r3")
GATEWAYS = ("g1", "g2")

choices = st.dictionaries(st.sampled_from(ROUTES), st.sampled_from(GATEWAYS)).map(lambda of: tuple(of.items()))
events = st.lists(st.tuples(st.sampled_from(CLIENTS), choices | st.booleans()), max_size=30)


@given(events)
def test_however_clients_come_choose_and_go_each_is_counted_where_it_is(happened: list[tuple[Client, object]]) -> None:
    carriers = Carriers()
    connected: dict[Client, bool] = {}
    chosen: dict[Client, tuple[tuple[str, str], ...]] = {}
    for client, event in happened:
        if isinstance(event, tuple):
            chosen[client] = event
            carriers.chosen(client, event + event[:1])
        else:
            connected[client] = bool(event)
            carriers.connected(client, bool(event))
        for account in ("a", "b"):
            for route in ROUTES:
                for gateway in GATEWAYS:
                    expected = sum(
                        connected.get(one, False) and (route, gateway) in chosen.get(one, ())
                        for one in CLIENTS
                        if one[0] == account
                    )
                    assert carriers.clients(account, route, gateway) == expected


@given(events)
def test_nothing_is_kept_of_clients_that_are_gone(happened: list[tuple[Client, object]]) -> None:
    carriers = Carriers()
    for client, event in happened:
        if isinstance(event, tuple):
            carriers.chosen(client, event)
        else:
            carriers.connected(client, bool(event))
    for client in CLIENTS:
        carriers.connected(client, False)
        carriers.chosen(client, ())
    assert not any(vars(carriers).values())
