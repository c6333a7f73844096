"""The boundary of a client: of what fails within, one constant word leaves.

Flower's runtimes put the text of an exception into the error reply, and texts quote paths, names
and values. So the app catches its own: the server is told that the client failed, the owner's log
why.
"""

import logging
from collections.abc import Callable

from flwr.app import ConfigRecord, Context, Message
from flwr.app.error import Error
from flwr.clientapp import ClientApp

from fedlite.base.errors import FedliteError
from fedlite.federation.device import SIMULATED

log = logging.getLogger(__name__)

FAILED = "failed"
FAILURE = "failure"  # in a simulated client's state: why its last message failed
CLIENT_APP_FAILED = 2  # Flower's ErrorCode.CLIENT_APP_RAISED_EXCEPTION


class SealedClientApp(ClientApp):
    """A ClientApp whose failures all look alike from outside: of handlers, mods and lifespan."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message; whatever raises becomes the reply :data:`FAILED`."""
        return answer(super().__call__, message, context)


def answer(
    app: Callable[[Message, Context], Message], message: Message, context: Context
) -> Message:
    """What ``app`` answers, or an error reply that says :data:`FAILED` and no more.

    An interrupt and an exit end the process as they should; Flower sends nothing of them.
    """
    try:
        context.state.pop(FAILURE, None)
        return app(message, context)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever it is, none of it may reach the server
        _tell_owner(error, message, context)
    return _failure(message)


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
