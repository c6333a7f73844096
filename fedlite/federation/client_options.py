"""What a server tells a client of a run, beside its requests: what the work needs and no more.

No path of the server, no key, no option of compression, and nothing of other clients. What a
*simulated* client needs to have data at all is apart, in
:class:`fedlite.federation.simulation.SimulationOptions`, and never sent to a device.
"""

import dataclasses
import json
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Annotated, Self

from annotated_types import Ge, Gt, Le, Lt

from fedlite.base.options import Options, parse
from fedlite.data.augment import Copies
from fedlite.data.options import AugmentOptions
from fedlite.data.types import Task
from fedlite.distill.options import LossOptions
from fedlite.federation.options import LARGEST_LEARNING_RATE, FederationOptions
from fedlite.models.options import ModelOptions, ScaledModelOptions
from fedlite.privacy.options import (
    DEFAULT_GRADIENTS,
    MOST_AUGMENTATIONS,
    Gradients,
    PrivacyOptions,
    Protects,
    Unit,
)

CLIENT_OPTIONS = "client-options"  # the key of Flower's run config


@dataclass(frozen=True)
class ClientOptions(Protects, Options):
    """One run as a client sees it.

    ``teacher`` and ``student`` are the networks; ``unit`` is what the run protects; ``sample_rate``
    and ``local_steps`` hold where a request brings no privacy plan. ``seed`` fixes the student's
    first weights, and the draws of training that is not private or deterministic.
    ``class_weights`` are those of the loss, from public labels; empty where all are 1.
    ``augmentations`` is how many copies by ``augment`` an example's gradient is the mean of.
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
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    augmentations: Annotated[int, Ge(0), Le(MOST_AUGMENTATIONS)] = 0

    @property
    def copies(self) -> Copies | None:
        """What training sees of an example; None: the example as it is."""
        return Copies(self.augment, self.augmentations) if self.augmentations else None

    @property
    def trial_copies(self) -> Copies | None:
        """Of made-up examples in a trial: two where there are more, always the same."""
        return Copies(self.augment, min(self.augmentations, 2), seed=0) if self.copies else None

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
        augment: AugmentOptions | None = None,
    ) -> Self:
        """What the clients of a run with these options are sent."""
        return cls(
            task=task,
            teacher=ScaledModelOptions(
                teacher.name, teacher.module, teacher.kwargs, **teacher.scaling
            ),
            student=student,
            loss=LossOptions(**{one.name: getattr(loss, one.name) for one in fields(LossOptions)}),
            unit=privacy.unit,
            sample_rate=privacy.sample_rate,
            local_steps=federation.local_steps,
            learning_rate=federation.learning_rate,
            momentum=federation.momentum,
            seed=seed,
            gradients=privacy.gradients,
            class_weights=class_weights,
            augment=augment or AugmentOptions(),
            augmentations=privacy.augmentations,
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
