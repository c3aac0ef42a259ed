"""What is asked, and where from."""

import msgspec


class Question(msgspec.Struct, frozen=True, order=True):
    """A name, asked for once for all routes that want it from the same place.

    account: whose own DNS servers are asked, "" for those of the resolver, which are the same for all accounts.
    """

    name: str
    account: str = ""
