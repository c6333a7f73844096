"""No protocol: the server sees every student and adds them up."""

from collections.abc import Mapping, Sequence

from flwr.app import ArrayRecord, Message
from torch import Tensor

from fedlite.federation.messages import State, arrays_in, check_arrays, to_arrays, to_state


class PlainSum:
    """The server adds up what it received. That it keeps nothing else is an assumption."""

    def seal(self, state: State, request: Message) -> ArrayRecord:
        """The student as it is."""
        return to_arrays(state)

    def check(self, arrays: ArrayRecord, expected: Mapping[str, Tensor]) -> None:
        """As :func:`fedlite.federation.messages.check_arrays` (rule 16)."""
        check_arrays(arrays, expected)

    def total(self, replies: Sequence[Message]) -> State:
        """The sum of the replies' arrays (float64)."""
        summed: State = {}
        for reply in replies:
            for name, value in to_state(arrays_in(reply.content)).items():
                summed[name] = summed[name].add_(value) if name in summed else value.double()
        return summed


PROTOCOL = PlainSum()
