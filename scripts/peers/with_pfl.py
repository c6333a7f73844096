"""pfl-research's simulation (Apple), federated averaging on its PyTorch model; no privacy.

python with_pfl.py
"""

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from torch import nn
from work import Clock, Work, flat


def main() -> None:
    """Run all rounds."""
    work, clock = Work.given(), Clock()
    if work.noise_multiplier is not None:
        raise SystemExit("pfl-research adds noise on the server only; run it without privacy")
    inputs, labels = work.examples()
    module = work.model()
    first = flat(module)
    module.loss = lambda x, y, is_eval=False: nn.functional.cross_entropy(module(x), y)
    module.metrics = lambda x, y, is_eval=False: {}

    def user(number: int) -> Dataset:
        return Dataset([inputs[number], labels[number]], user_id=str(number))

    users = list(range(work.clients))
    data = FederatedDataset(user, get_user_sampler("minimize_reuse", users))
    model = PyTorchModel(
        module,
        torch.optim.SGD,
        torch.optim.SGD(module.parameters(), lr=1.0),
    )

    class Watch(TrainingProcessCallback):
        """Tells the clock of rounds."""

        def on_train_begin(self, *, model: PyTorchModel) -> Metrics:
            clock.mark()
            return Metrics()

        def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
            clock.mark()
            return False, Metrics()

    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=work.rounds,
            evaluation_frequency=work.rounds + 1,
            train_cohort_size=work.clients,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(training_data=data, val_data=data),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=None,
            local_num_steps=1,
            local_learning_rate=work.learning_rate,
            local_batch_size=work.batch_size,
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=None),
        callbacks=[Watch()],
    )
    clock.tell(flat(module) - first)


if __name__ == "__main__":
    main()
