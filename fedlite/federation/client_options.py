"""What a server tells a client of a run, beside its requests: what the work needs and no more.

No path of the server, no key, no option of compression, and nothing of other clients. What a
*simulated* client needs to have data at all is apart, in
:class:`fedlite.federation.simulation.SimulationOptions`, and never sent to a device.
"""

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Self

from annotated_types import Ge, Gt, Le, Lt

from fedlite.base.options import Options, parse
from fedlite.data.types import Task
from fedlite.distill.options import LossOptions
from fedlite.federation.options import LARGEST_LEARNING_RATE, FederationOptions
from fedlite.models.options import ModelOptions, ScaledModelOptions
from fedlite.privacy.options import DEFAULT_GRADIENTS, Gradients, PrivacyOptions, Protects, Unit

CLIENT_OPTIONS = "client-options"  # the key of Flower's run config


@dataclass(frozen=True)
class ClientOptions(Protects, Options):
    """One run as a client sees it.

    ``teacher`` and ``student`` are the networks; ``unit`` is what the run protects; ``sample_rate``
    and ``local_steps`` hold where a request brings no privacy plan. ``seed`` fixes the student's
    first weights, and the draws of training that is not private or deterministic.
    ``class_weights`` are those of the loss, from public labels; empty where all are 1.
    ``class_name`` is the class of students that the run is for; "" where all clients have one.
    ``gradients`` names the engine of clipped sums (:data:`fedlite.privacy.engines.ENGINES`), and
    ``sum_protocol`` how replies are added up (:data:`fedlite.federation.sum_protocol.SUMS`).
    """

    task: Task
    teacher: ScaledModelOptions
    student: ModelOptions
    loss: LossOptions
    unit: Unit
    sample_rate: Annotated[float, Gt(0), Le(1)]
    local_steps: Annotated[int, Ge(1)]
    learning_rate: Annotated[float, Gt(0), Le(LARGEST_LEARNING_RATE)]
    momentum: Annotated[float, Ge(0), Lt(1)]
    seed: int
    gradients: Gradients = DEFAULT_GRADIENTS
    sum_protocol: str = "plain"
    class_weights: tuple[Annotated[float, Ge(0)], ...] = ()
    class_name: str = ""

    @classmethod
    def of_run(
        cls,
        task: Task,
        teacher: ScaledModelOptions,
        student: ModelOptions,
        loss: LossOptions,
        privacy: PrivacyOptions,
        federation: FederationOptions,
        seed: int,
        class_weights: tuple[float, ...] = (),
    ) -> Self:
        """What the clients of a run with these options are sent."""
        return cls(
            task=task,
            teacher=ScaledModelOptions(
                teacher.name, teacher.module, teacher.kwargs, **teacher.scaling
            ),
            student=student,
            loss=LossOptions(loss.loss, loss.alpha, loss.temperature),
            unit=privacy.unit,
            sample_rate=privacy.sample_rate,
            local_steps=federation.local_steps,
            learning_rate=federation.learning_rate,
            momentum=federation.momentum,
            seed=seed,
            gradients=privacy.gradients,
            class_weights=class_weights,
            class_name=federation.class_name,
        )

    def to_json(self) -> str:
        """As one value of Flower's run config; :meth:`from_json` is the inverse."""
        return self._json

    @cached_property
    def _json(self) -> str:
        """Worked out once: clients look their workbench up by it in every round."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Rebuild what :meth:`to_json` wrote.

        Raises:
            UsageError: an option that cannot be.
        """
        return parse(cls, json.loads(text))
