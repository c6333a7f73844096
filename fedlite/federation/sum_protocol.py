"""Sum protocols: how the server learns the sum of a cohort's students.

A protocol is one class with both halves: what a client does to its student before it sends it, and
what the server does with the replies; and with its own checks, because masked replies do not pass
those of plain arrays (rule 18). A cryptographic one must bind what it masks to a hash of the
request, or a server could send clients different ones (docs/device-policy.md).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from flwr.app import ArrayRecord, Message
from torch import Tensor

from fedlite.base.named import Named
from fedlite.federation.messages import State

SUMS = Named("sum protocol", "fedlite.federation.sums", "PROTOCOL", open=False)


class SumProtocol(Protocol):
    """A way to add up students; the same on server and clients, by name."""

    def seal(self, state: State, request: Message) -> ArrayRecord:
        """The client's half: what of its student leaves the client, in answer to ``request``."""

    def check(self, arrays: ArrayRecord, expected: Mapping[str, Tensor]) -> None:
        """The server's check of one reply against the student's names, types and shapes.

        Raises:
            FedliteError: what is wrong with it, with the array's name.
        """

    def total(self, replies: Sequence[Message]) -> State:
        """The server's half: the sum of the students in float64, of at least one reply."""
