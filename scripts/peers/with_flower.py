"""Flower's own simulation runtime (Ray): a client app, a FedAvg strategy, `run_simulation`.

python with_flower.py
"""

import flower_client
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from work import Clock, Work, flat

WORK = Work.given()
server = ServerApp()


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """FedAvg over all clients, for all rounds."""
    clock, model = Clock(), WORK.model()
    first = flat(model)

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        clock.mark()  # before the first round, and after every one
        model.load_state_dict(arrays.to_torch_state_dict())
        return MetricRecord()

    FedAvg(fraction_evaluate=0.0, min_available_nodes=WORK.clients).start(
        grid, ArrayRecord(model.state_dict()), num_rounds=WORK.rounds, evaluate_fn=evaluate
    )
    clock.tell(flat(model) - first)


if __name__ == "__main__":
    run_simulation(
        server,
        flower_client.app,
        num_supernodes=WORK.clients,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": WORK.workers},
        },
    )
