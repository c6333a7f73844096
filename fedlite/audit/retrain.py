"""Retraining the student at a run's plan, on data whose membership is the audit's own choice.

The two apps, the options and the loss are those of the run, FedProx' pull and server's strategy
included; only the clients' data differ. They come from the server's test part: no client's data are
touched and no ledger of the run is charged, and an audit may train without privacy for comparison.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedlite.audit.audited import AuditedRun
from fedlite.audit.scratch import Examples, Networks, Scratch
from fedlite.federation.messages import State
from fedlite.federation.options import FederationOptions
from fedlite.federation.plans import Plans
from fedlite.privacy.randomness import derive_seed


@dataclass(frozen=True)
class Retraining:
    """What all retrained students share: the run's options and plans, and where they start.

    Args:
        audited: the run.
        networks: what is trained, as round 1 of the run was sent it.
        candidates: examples whose membership the audit decides, dealt to a reduced cohort.
        directory: of scratch files, removed by the caller.
    """

    audited: AuditedRun
    networks: Networks
    candidates: Examples
    directory: Path

    @property
    def rounds(self) -> int:
        """Of every student: as many as the most active client took part in."""
        audited = self.audited
        return audited.rounds if audited.plans.example is None else audited.participations

    def train(self, members: NDArray[np.bool_], number: int, *, private: bool) -> State:
        """The student that a reduced federation makes of the candidates that are ``members``.

        Args:
            members: (m,) which candidates are in the data.
            number: of this model; the draws of a deterministic run follow from it.
            private: False leaves clipping and noise out, on the same steps and sampling.

        Raises:
            FedliteError: a client failed or refused.
        """
        config, candidates = self.audited.config, self.candidates
        secure = private and config.privacy.randomness == "secure"
        rows = torch.from_numpy(members)
        return (
            Scratch(
                config=config,
                networks=self.networks,
                examples=Examples(
                    candidates.inputs[rows],
                    candidates.labels[rows],
                    candidates.owners[members],
                    candidates.num_clients,
                ),
                plans=self._plans() if private else Plans(),
                privacy=self.audited.privacy(config.privacy.unit if private else "none"),
                federation=self._reduced(),
                directory=self.directory,
                name=f"model-{number}" if private else f"control-{number}",
                # What is secret needs no seed; one seed lets all models share a workbench.
                seed=config.seed if secure else derive_seed(config.seed, "audit-model", number),
            )
            .run()
            .result
        )

    def _plans(self) -> Plans:
        """The run's; under aggregate trust with shares that add up in the reduced cohort."""
        plans = self.audited.plans
        if plans.example is None or plans.example.trust == "local":
            return plans
        cohort = self.candidates.num_clients
        return dataclasses.replace(
            plans, example=dataclasses.replace(plans.example, min_cohort=cohort, colluders=0)
        )

    def _reduced(self) -> FederationOptions:
        """The run's options with few clients, all of whom take part in all rounds."""
        federation = dataclasses.replace(self.audited.config.federation, rounds=self.rounds)
        if self.audited.plans.client is None:  # else sampling is a part of what is claimed
            federation = dataclasses.replace(federation, fraction=1.0)
        return federation
