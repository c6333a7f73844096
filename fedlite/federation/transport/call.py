"""Calling the ClientApp for one message: the boundary of a client."""

import logging
import traceback

from flwr.app import Context, Message
from flwr.app.error import Error
from flwr.clientapp import ClientApp

from fedlite.base.errors import FedliteError

log = logging.getLogger(__name__)

CLIENT_APP_FAILED = 2  # Flower's ErrorCode.CLIENT_APP_RAISED_EXCEPTION


def call_client(client_app: ClientApp, message: Message, context: Context) -> Message:
    """Run one message on one client; an exception becomes a logged error reply."""
    try:
        return client_app(message, context)
    except Exception as error:  # the boundary of a client: its failure must not end the server
        client = context.node_config["partition-id"]
        log.error(
            "client %s failed on %s:\n%s",
            client,
            message.metadata.message_type,
            traceback.format_exc(),
        )
        # A library's text may quote private values; what it says stays in the client's log.
        text = f"{error}" if isinstance(error, FedliteError) else type(error).__name__
        reason = f"client {client}: {text}"
        return Message(Error(CLIENT_APP_FAILED, reason), reply_to=message)
