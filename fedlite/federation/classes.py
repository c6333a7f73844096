"""Which client belongs to which class of students: a public rule of numbers alone.

Every client is in exactly one class, whatever it holds. So a class is a federation of its own
clients, and what is planned and charged for it is what a federation of so many clients would be.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.federation.class_options import KEY, StudentClass, listed_ranges
from fedlite.privacy.randomness import derive_seed


def class_members(
    classes: Mapping[str, StudentClass], num_clients: int, seed: int
) -> dict[str, tuple[int, ...]]:
    """The clients of every class, by their numbers in ascending order.

    As listed (``clients``); or by ``share``: clients are put in an order drawn from the seed and
    divided in proportion, what is left over by largest remainders.

    Raises:
        UsageError: a class without clients; a client that is listed twice, not at all, or is none.
    """
    if any(one.clients for one in classes.values()):
        return _as_listed(classes, num_clients)
    order = np.random.default_rng(derive_seed(seed, "classes")).permutation(num_clients)
    counts = _by_share([one.share for one in classes.values()], num_clients)
    for name, count in zip(classes, counts, strict=True):
        if count == 0:
            raise UsageError(
                f"{KEY}.{name}.share={classes[name].share:g}: no client of {num_clients} is left"
                " for it; raise it or federation.num_clients"
            )
    ends = np.cumsum(counts)
    return {
        name: tuple(sorted(int(client) for client in order[end - count : end]))
        for name, count, end in zip(classes, counts, ends, strict=True)
    }


def _by_share(shares: Sequence[float], total: int) -> list[int]:
    exact = [share * total / sum(shares) for share in shares]
    counts = [int(one) for one in exact]
    remainders = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for place in remainders[: total - sum(counts)]:
        counts[place] += 1
    return counts


def _as_listed(classes: Mapping[str, StudentClass], num_clients: int) -> dict[str, tuple[int, ...]]:
    owner: dict[int, str] = {}
    for name, one in classes.items():
        for first, last in listed_ranges(name, one):
            if last >= num_clients:
                raise UsageError(
                    f"{KEY}.{name}.clients: {last}: there are clients 0 to {num_clients - 1}"
                )
            for client in range(first, last + 1):
                if client in owner:
                    other = owner[client]
                    where = "in it twice" if other == name else f"in {KEY}.{other}.clients too"
                    raise UsageError(
                        f"{KEY}.{name}.clients: {client} is {where}; every client is in one class"
                    )
                owner[client] = name
    missing = [client for client in range(num_clients) if client not in owner]
    if missing:
        raise UsageError(
            f"{KEY}: {len(missing)} of {num_clients} clients are in none, client {missing[0]} among"
            " them; every client is in one class"
        )
    return {name: tuple(sorted(i for i in owner if owner[i] == name)) for name in classes}
