"""The client app of `with_flower.py`, in a module that Ray's workers import."""

from functools import cache

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from work import Work

app = ClientApp()


@cache
def work() -> Work:
    """Read once in each process, with the examples below."""
    return Work.given()


@cache
def examples() -> tuple[list[Tensor], list[Tensor]]:
    """Of all clients."""
    return work().examples()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One step on the client's own examples; with privacy as in Flower's example with Opacus."""
    given = work()
    inputs, labels = (part[int(context.node_config["partition-id"])] for part in examples())
    model = given.model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=given.learning_rate)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=given.batch_size, shuffle=True)
    trained = model
    if given.noise_multiplier is not None:
        from opacus import PrivacyEngine

        trained, optimizer, loader = PrivacyEngine(secure_mode=False).make_private(
            module=model,
            optimizer=optimizer,
            data_loader=loader,
            noise_multiplier=given.noise_multiplier,
            max_grad_norm=given.max_grad_norm,
        )
    for own_inputs, own_labels in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(trained(own_inputs), own_labels).backward()
        optimizer.step()
        break
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"num-examples": len(labels)}),
        }
    )
    return Message(content, reply_to=message)
