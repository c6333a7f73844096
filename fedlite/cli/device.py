"""fedlite device: check a device's policy and its examples before a server asks.

usage: fedlite device DIR [policy=FILE] [data=FILE]

  DIR          the folder with the owner's rules (docs/device-policy.md)
  policy=FILE  their file in DIR; default: policy.yaml
  data=FILE    the examples in DIR, where the policy has no data.file

Says how many examples there are and how many are left out. A policy that cannot
be used, examples that are not as it says, and a max_delta that is not below 1/n
are one line and exit code 2: here, and never in a reply, which would tell a
server how many examples there are. Only reads; nothing is charged.
"""

from fedlite.base.errors import UsageError
from fedlite.cli.parse import Arguments


def run(arguments: Arguments) -> int:
    """Print what a device would train with."""
    from fedlite.federation.device import DATA, POLICY, Device

    arguments.refuse_flags()
    taken = arguments.take(POLICY, DATA)
    path = arguments.need_directory() / taken.pop(POLICY, "policy.yaml")
    arguments.refuse_options((POLICY, DATA))
    device = Device.of({POLICY: str(path), **taken})
    assert device is not None
    policy = device.policy
    if device.data is None:
        raise UsageError(f"policy {path}: data.file: missing; give it there, or data=FILE")
    examples = device.examples(client_id=0)
    if problem := examples.too_many(policy):
        raise UsageError(f"policy {path}: {problem}")
    print(
        f"{path}: {policy.data_set}: at most epsilon {policy.max_epsilon:g} at delta"
        f" {policy.max_delta:g}; units: {', '.join(policy.units) or 'none'};"
        f" trust: {', '.join(policy.trust) or 'none'}"
    )
    print(f"{device.data}: {len(examples.data)} examples to train with")
    if left_out := examples.without():
        print(left_out)
    return 0
