"""The boundary of a client: of what fails within, one constant word leaves.

Flower's runtimes put the text of an exception into the error reply, and texts quote paths, names
and values. So the app catches its own: the server is told that the client failed, the owner's log
why.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from flwr.app import ConfigRecord, Context, Message
from flwr.app.error import Error
from flwr.clientapp import ClientApp

from fedlite.base.compute import memory_explained
from fedlite.base.errors import FedliteError
from fedlite.federation.device import SIMULATED

log = logging.getLogger(__name__)

FAILED = "failed"
FAILURE = "failure"  # in a simulated client's state: why its last message failed
CLIENT_APP_FAILED = 2  # Flower's ErrorCode.CLIENT_APP_RAISED_EXCEPTION

Work = tuple[Message, Context]
CohortHandler = Callable[[Sequence[Work]], list[Message]]
_Made = TypeVar("_Made")


class SealedClientApp(ClientApp):
    """A ClientApp whose failures all look alike from outside: of handlers, mods and lifespan.

    Where clients share a process, messages of one type that came together may have a handler of
    their own, which seals each client's part by itself (:func:`answer`). Mods and lifespan, which
    are of single messages, it does not see.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cohort_handlers: dict[str, CohortHandler] = {}

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message; whatever raises becomes the reply :data:`FAILED`."""
        return answer(super().__call__, message, context)

    def cohort(self, message_type: str) -> Callable[[CohortHandler], CohortHandler]:
        """Register a handler of messages of this type that came together."""

        def register(handler: CohortHandler) -> CohortHandler:
            self._cohort_handlers[message_type] = handler
            return handler

        return register

    def answer_cohort(self, work: Sequence[Work]) -> list[Message]:
        """Answer messages that came together, in their order: by the handler of their type, where
        each is of another client."""
        kinds = {message.metadata.message_type for message, _ in work}
        handler = self._cohort_handlers.get(kinds.pop()) if len(kinds) == 1 else None
        if handler is None or len({id(context) for _, context in work}) < max(2, len(work)):
            return [self(message, context) for message, context in work]
        return handler(work)


def answers(app: ClientApp, work: Sequence[Work]) -> list[Message]:
    """What ``app`` answers to messages that came together, in their order, sealed."""
    if isinstance(app, SealedClientApp):
        return app.answer_cohort(work)
    return [answer(app, message, context) for message, context in work]


def answer(
    app: Callable[[Message, Context], _Made], message: Message, context: Context
) -> _Made | Message:
    """What ``app`` answers, or an error reply that says :data:`FAILED` and no more.

    An interrupt and an exit end the process as they should; Flower sends nothing of them.
    """
    try:
        context.state.pop(FAILURE, None)
        with memory_explained():
            return app(message, context)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever it is, none of it may reach the server
        _tell_owner(error, message, context)
    return _failure(message)


def held(make: Callable[[], _Made]) -> Callable[[], _Made]:
    """``make`` is called now; what it returned, or raised, comes out whenever the result is called:
    in the answer of each client that needs it."""
    try:
        made = make()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raised = error

        def fail() -> _Made:
            raise raised

        return fail
    return lambda: made


def failed(message: Message, context: Context, reason: str) -> Message:
    """The reply of a simulated client of which nothing came back; ``reason`` is its owner's."""
    context.state[FAILURE] = ConfigRecord({"reason": reason})
    return _failure(message)


def _failure(message: Message) -> Message:
    return Message(Error(CLIENT_APP_FAILED, FAILED), reply_to=message)


def _tell_owner(error: BaseException, message: Message, context: Context) -> None:
    """Log why; a simulated client's owner is the run's user, who is told at the run's end too."""
    # A library's text may quote private values: it stays within the traceback.
    reason = f"{error}" if isinstance(error, FedliteError) else type(error).__name__
    number, kind = context.node_config.get("partition-id"), message.metadata.message_type
    log.error("client %s failed on %s: %s", number, kind, reason, exc_info=error)
    if context.node_config.get(SIMULATED) is True:
        context.state[FAILURE] = ConfigRecord({"reason": reason})


def failure_of(context: Context) -> str:
    """Why a simulated client's last message failed, in its own words; "" if it did not."""
    record = context.state.config_records.get(FAILURE)
    return str(record["reason"]) if record is not None else ""
