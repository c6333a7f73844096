"""The two errors a person sees as one line: what is wrong, where, and what would be right."""


class FedliteError(Exception):
    """A failure that the message explains in full; the command line exits with code 1."""

    exit_code = 1


class UsageError(FedliteError):
    """Bad input from the user (option, value, path); the command line exits with code 2."""

    exit_code = 2
