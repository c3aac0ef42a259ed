"""The picture that the agent acts on: the former one while a reading goes on, for a part of a reading is no picture."""

from services.agent.core.documents import Documents, FeedView

HELD_BACK_S = 5.0
"""A reading that takes longer has failed; a mixed picture is then better than an old one."""


class HeldBack:
    """Shows what `view` held when no audience was being read. All times are seconds on one clock.

    It begins with what `view` holds: the first session is about to read.
    """

    def __init__(self, view: FeedView, now: float) -> None:
        self._view = view
        self._shown = view.documents()
        self._mixed_since: float | None = now
        self._changed = False
        self._changed_meanwhile = False

    def documents(self, now: float) -> Documents:
        if self._mixed_since is None or now - self._mixed_since > HELD_BACK_S:
            self._shown = self._view.documents()
        return self._shown

    def change(self) -> None:
        """The view changed."""
        self._changed = True
        self._changed_meanwhile = self._mixed_since is not None

    def mix(self, mixed: bool, now: float) -> None:
        """Whether some audience is being read. The changes that a reading brings show in the picture when it ends."""
        if mixed and self._mixed_since is None:
            self._shown, self._mixed_since = self._view.documents(), now
        if mixed:
            return
        self._mixed_since = None
        self._changed |= self._changed_meanwhile
        self._changed_meanwhile = False

    def take_changed(self) -> bool:
        changed, self._changed = self._changed, False
        return changed
