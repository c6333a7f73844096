"""What clients keep between rounds, and who is there: what the rounds ask of an engine."""

from typing import Protocol

from fedlite.federation.gather import Clients


class ClientStates(Protocol):
    """What clients keep between rounds, for a checkpoint of a simulation."""

    def dump_contexts(self) -> dict[int, bytes]:
        """By node id; nothing where clients keep it themselves."""

    def restore_contexts(self, dumped: dict[int, bytes]) -> None:
        """Put back what :meth:`dump_contexts` took."""

    def present(self) -> Clients | None:
        """Who is there; None where only the clients themselves can tell."""


class KeptElsewhere:
    """Clients whose states are their own or their engine's affair."""

    def dump_contexts(self) -> dict[int, bytes]:
        """Nothing."""
        return {}

    def restore_contexts(self, dumped: dict[int, bytes]) -> None:
        """Nothing to put back."""

    def present(self) -> Clients | None:
        """None: they are asked."""
        return None
