"""Differential privacy: of examples on a client, of whole clients on the server (client_level).

Read plan, accounting, ledger, then sampling, clipping, noise and steps; for where ledgers are kept,
chain, marks, ledger_file and ledger_store. The modules are flat: none needs another to be
understood. :class:`~fedlite.privacy.plan.PrivacyPlan` and, for whole clients,
:class:`~fedlite.privacy.client_level.ClientPlan` are the only places that couple sampling,
clipping, noise and accounting.
"""
