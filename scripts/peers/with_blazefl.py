"""BlazeFL's federated averaging, clients one after the other in one process; no privacy.

python with_blazefl.py
"""

import torch
from blazefl.contrib import FedAvgBaseClientTrainer, FedAvgBaseServerHandler
from blazefl.core import ModelSelector, PartitionedDataset
from torch import Tensor, nn
from work import Clock, Work, flat


def main() -> None:
    """Run all rounds."""
    work, clock = Work.given(), Clock()
    if work.noise_multiplier is not None:
        raise SystemExit("BlazeFL has no privacy; run it without")
    model, data = Model(work), Data(work)
    shared = {"model_selector": model, "model_name": work.student, "dataset": data, "seed": 0}
    shared |= {"device": "cpu", "num_clients": work.clients, "batch_size": work.batch_size}
    server = FedAvgBaseServerHandler(**shared, global_round=work.rounds, sample_ratio=1.0)
    clients = FedAvgBaseClientTrainer(**shared, epochs=1, lr=work.learning_rate)
    first = flat(server.model)
    clock.mark()
    while not server.if_stop():
        cohort = server.sample_clients()
        clients.local_process(server.downlink_package(), cohort)
        for package in clients.uplink_package():
            server.load(package)
        clock.mark()
    clock.tell(flat(server.model) - first)


class Model(ModelSelector):
    """The student of the work."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def select_model(self, model_name: str) -> nn.Module:
        """Its first weights."""
        return self._work.model()


class Data(PartitionedDataset):
    """Of each client one batch: the one step of a round."""

    def __init__(self, work: Work) -> None:
        self._inputs, self._labels = work.examples()
        self._size = work.batch_size

    def get_dataset(self, type_: str, cid: int | None) -> None:
        """Batches are all that is asked for."""
        raise NotImplementedError

    def get_dataloader(
        self,
        type_: str,
        cid: int | None,
        batch_size: int | None = None,
        generator: torch.Generator | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """One batch, drawn anew."""
        labels = self._labels[cid]
        rows = torch.randperm(len(labels), generator=generator)[: self._size]
        return [(self._inputs[cid][rows], labels[rows])]


if __name__ == "__main__":
    main()
