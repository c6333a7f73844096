"""The engines behind one seam: run the two Flower apps in process, or on Flower's Ray runtime.

Where logs go is the command line's affair; workers are told the file.
"""

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedlite.base.cache import library_folder
from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.logs import route_logs
from fedlite.base.memory import peak_memory_bytes
from fedlite.base.records import PeakMemory
from fedlite.federation import client_app as client
from fedlite.federation.device import COMPUTE, SIMULATED
from fedlite.federation.options import EngineOptions, usable_cores
from fedlite.federation.rounds import Federation
from fedlite.federation.sealed import FAILED
from fedlite.federation.server_app import make_server_app
from fedlite.federation.transport.grid import InProcessGrid
from fedlite.federation.transport.workers import prepare_workers

log = logging.getLogger(__name__)


def check_engine(config: EngineOptions) -> None:
    """Refuse an engine whose optional dependency is missing.

    Raises:
        UsageError: says what to install.
    """
    if config.name == "ray" and importlib.util.find_spec("ray") is None:
        raise UsageError("engine=ray: Ray is not installed; pip install 'fedlite[ray]'")


def prepare_engine(config: EngineOptions) -> None:
    """Begin what rounds will need of an engine and what takes long, beside other work; returns at
    once."""
    if config.name == "inprocess" and config.num_workers:
        prepare_workers()


def run_federation(
    federation: Federation,
    engine: EngineOptions,
    run_config: dict[str, str],
    log_file: Path,
    device: str = "cpu",
) -> PeakMemory:
    """Run all rounds on the engine; the result is left in ``federation``.

    Args:
        run_config: what clients find in Flower's run config: their options and, in a simulation,
            its own.
        log_file: of workers, whose chatter would else reach the terminal.
        device: where the clients' networks compute; all workers share it.

    Returns:
        what its processes have had of memory at most; of Ray's nothing is known.

    Raises:
        UsageError: the engine's optional dependency is missing.
        FedliteError: the federation cannot go on.
    """
    check_engine(engine)
    if engine.num_workers > (cores := usable_cores()):
        log.warning(
            "engine.num_workers=%d: more than the %d cores of this process; each takes memory, and"
            " those beyond the cores save no time",
            engine.num_workers,
            cores,
        )
    if engine.name == "ray":
        _run_on_ray(federation, engine, run_config, log_file, device)
        return PeakMemory(peak_memory_bytes())
    return _run_in_process(federation, engine, run_config, log_file, device)


def _run_in_process(
    federation: Federation,
    engine: EngineOptions,
    run_config: dict[str, str],
    log_file: Path,
    device: str,
) -> PeakMemory:
    grid = InProcessGrid(
        client.app,
        federation.num_clients,
        run_config,
        num_workers=engine.num_workers,
        replay=federation.plan is None or federation.plan.randomness == "deterministic",
        log_file=log_file,
        device=device,
    )
    server_context = Context(
        run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=dict(run_config)
    )
    try:
        with _telling_why(grid.failure):
            make_server_app(federation, grid)(grid, server_context)
        return grid.peak_memory()
    finally:
        grid.close()


@contextmanager
def _telling_why(reason: Callable[[], str]) -> Iterator[None]:
    """Where a client ends the rounds, all that the server knows is that it failed: the user, whose
    clients these are, is told the ``reason`` as well."""
    try:
        yield
    except FedliteError as error:
        if not f"{error}".endswith(FAILED):
            raise
        raise FedliteError(f"{error}: {reason()}") from error


class _ConfiguredClientApp(ClientApp):
    """The client app with its node and run config, which Flower's Python entry point cannot pass.

    Logs of the process it runs in go to ``log_file``: why a client failed stands there alone.
    """

    def __init__(self, run_config: dict[str, str], log_file: Path, device: str) -> None:
        super().__init__()
        self._run_config, self._log_file, self._device = run_config, log_file, device

    def __call__(self, message: Message, context: Context) -> Message:
        _route_logs_once(self._log_file)
        configured = Context(
            run_id=context.run_id,
            node_id=context.node_id,
            node_config={**context.node_config, SIMULATED: True, COMPUTE: self._device},
            state=context.state,  # shared: what the client keeps, Flower's own context keeps
            run_config={**context.run_config, **self._run_config},
        )
        return client.app(message, configured)


@cache
def _route_logs_once(log_file: Path) -> None:
    route_logs(log_file)


def _run_on_ray(
    federation: Federation,
    engine: EngineOptions,
    run_config: dict[str, str],
    log_file: Path,
    device: str,
) -> None:
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    os.environ.setdefault("FLWR_HOME", str(library_folder("flwr")))  # it keeps an id there
    from flwr.simulation import run_simulation

    workers = engine.num_workers or usable_cores()
    backend: Any = {
        "init_args": {"num_cpus": workers, "log_to_driver": False, "logging_level": "ERROR"},
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    }
    try:
        with _telling_why(lambda: f"see {log_file}"):
            run_simulation(
                make_server_app(federation),
                _ConfiguredClientApp(run_config, log_file, device),
                num_supernodes=federation.num_clients,
                backend_config=backend,
            )
    except RuntimeError as error:
        raise FedliteError(f"engine=ray: {error} (details in {log_file})") from error
    if not federation.result:
        raise FedliteError(f"engine=ray: the server app did not finish (details in {log_file})")
