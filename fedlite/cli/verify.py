"""fedlite verify: check a deployable folder before it is used.

usage: fedlite verify DIR [key=FILE.pem]

  DIR           a run directory, or a folder with SHA256SUMS and manifest.json
                as a run writes it (DIR/deploy)
  key=FILE.pem  the signer's public key (ed25519), got elsewhere: the folder
                must be signed by it. Without it a signature is checked against
                the key in the folder, which shows integrity but not origin

Every file must be there, unchanged and known to SHA256SUMS, and no other. Each
fault is one line; exits 1 if there is any.
"""

from fedlite.base.files import user_path
from fedlite.cli.errors import say
from fedlite.cli.parse import Arguments


def run(arguments: Arguments) -> int:
    """Print what holds of a deployable folder; every fault is a line on stderr."""
    from fedlite.serve.verify import deploy_folder, verify_bundle

    arguments.refuse_flags()
    taken = arguments.take("key")
    folder = deploy_folder(arguments.need_directory())
    arguments.refuse_options(("key",))
    verdict = verify_bundle(folder, user_path(taken["key"]) if "key" in taken else None)
    for fault in verdict.faults:
        say(f"{folder}: {fault}", 1)
    for line in verdict.holds:
        print(f"{folder}: {line}")
    return 1 if verdict.faults else 0
