"""Whether the log is whole, judged by everything that remembers how far it had come."""

import msgspec


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """last, missing: sequence of the log's last message, and how many before it are not there.

    Who remembers a sequence that the log had: remembered, what is kept beside the seeds, None for nothing; read_model,
    this replica's fold or a file that it had to set aside; feed, the newest document. accepted: missing messages that
    somebody has accepted as lost.
    """

    last: int
    missing: int
    remembered: int | None
    accepted: int
    read_model: int
    feed: int

    @property
    def reached(self) -> int:
        """How far the log had come, by who remembers most."""
        return max(self.remembered or 0, self.read_model, self.feed)

    @property
    def may_begin(self) -> bool:
        """Whether this is a first start: nobody remembers that there was anything, and that is written down."""
        return self.remembered == 0 and self.last >= self.reached


REMEDIES = (
    "start the bus with the data it had, restore a backup (whimbrel server restore), "
    "or go on without what is missing (whimbrel server accept-loss)"
)


def problem(evidence: Evidence) -> str | None:
    """What is wrong with the log, with the remedies, in one line; None when it is whole."""
    if evidence.last < evidence.reached:
        what = f"the log ends at {evidence.last}" if evidence.last else "the log is empty"
        return f"{what} and was at {evidence.reached} before: {REMEDIES}"
    if evidence.missing > evidence.accepted:
        return f"{evidence.missing - evidence.accepted} messages within the log are missing: {REMEDIES}"
    return None


def nothing_to_begin(evidence: Evidence) -> str:
    """Why a log without an account is not begun, with the remedies, in one line."""
    if evidence.remembered is None:
        return f"the log is empty and nothing says that this is a first start: {REMEDIES}"
    return problem(evidence) or f"the log holds no account, though it has come to {evidence.reached}: {REMEDIES}"
