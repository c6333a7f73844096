"""Imported by the process that workers are forked from: all that a client needs, in silence."""

from importlib import import_module

from fedlite.base.logs import route_logs

route_logs(None)  # first, for what clients import may have something to log
import_module("fedlite.federation.client_app")
