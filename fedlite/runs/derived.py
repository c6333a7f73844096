"""Constants of a plan that nobody gave, so that a simulation works them out from private data.

The rules ask for public constants (rule 3 of docs/privacy.md). A simulation may look at all of its
clients, and where an option is left open it does: what then follows from the private data is not
covered by any epsilon, and is said.
"""

from collections.abc import Sequence

from fedlite.runs.config import Config

UNEVEN = 5  # times the nominal number of examples, or as many times fewer
MANY = 0.1  # share of the clients that hold so few
FAR_OFF = 1.5  # times the clients' average, or as much below it
FEW = 4  # examples in a batch on average
OFTEN_EMPTY = 0.01  # share of the batches


def derived_constants(config: Config) -> dict[str, str]:
    """The options left open that private data fills in, and with what; empty without privacy.

    On a device nothing of this happens: its policy and the server's plan give every constant.
    """
    privacy, federation, dataset = config.privacy, config.federation, config.dataset
    if not privacy.private:
        return {}
    found = {}
    if privacy.example_level and privacy.expected_examples is None:
        found["privacy.expected_examples"] = "the average number of examples of the clients"
    counted = privacy.client_level or privacy.trust == "aggregate" or federation.fraction < 1
    if counted and federation.num_clients is None:
        found["federation.num_clients"] = "the number of natural ids that are not public"
    if dataset.public_size is None:
        found["dataset.public_size"] = "a share of the number of all examples"
    if dataset.class_names is None and not dataset.keys.get("class_names"):
        found["dataset.class_names"] = "the labels that occur, where the source names no classes"
    if dataset.source == "table" and not dataset.keys.get("inputs"):
        found["dataset.keys.inputs"] = "the columns that hold numbers and no ids"
    return found


def derived_line(derived: dict[str, str]) -> str:
    """One line on them: what they are, and how to give them."""
    constants = "; ".join(f"{key} ({origin})" for key, origin in derived.items())
    return f"worked out from private data, not covered by epsilon, unless given: {constants}"


def far_off_line(config: Config, sizes: Sequence[int]) -> str:
    """That ``privacy.expected_examples`` is far from what simulated clients hold; "" if it is not.

    Any value keeps the guarantee, but batches are divided by it: where it goes with another number
    of clients, steps come out too long or too short.

    Args:
        sizes: examples of each client.
    """
    given, average = config.privacy.expected_examples, sum(sizes) / len(sizes)
    if not config.privacy.example_level or given is None:
        return ""
    if average / FAR_OFF <= given <= average * FAR_OFF:
        return ""
    return (
        f"privacy.expected_examples={given}: the clients of this simulation hold {average:.0f} on"
        " average, and their steps are divided by what was given; give it anew for this division"
    )


def uneven_line(config: Config, sizes: Sequence[int]) -> str:
    """That simulated clients are so uneven that one nominal size misleads; "" if they are not.

    Every client adds the same noise and takes the same steps, whatever it holds: small ones add
    little else, and a large one counts for many.

    Args:
        sizes: examples of each client.
    """
    privacy, ordered = config.privacy, sorted(sizes)
    nominal = privacy.expected_examples or sum(sizes) // len(sizes)
    few = sum(size * UNEVEN < nominal for size in sizes)
    if not privacy.example_level or (ordered[-1] < UNEVEN * nominal and few < MANY * len(sizes)):
        return ""
    median, weight = ordered[len(ordered) // 2], ordered[-1] / nominal
    return (
        f"the clients of this simulation hold {ordered[0]:,} to {ordered[-1]:,} examples (median"
        f" {median:,}), and one nominal size, {nominal:,}, stands for all: {few} of {len(sizes)}"
        " hold less than a fifth of it and add little but noise, the largest weighs"
        f" {weight:.1f} times as much; an even partition, privacy=aggregate, or"
        " privacy.expected_examples near the median suits them better"
    )


def few_line(config: Config, sizes: Sequence[int]) -> str:
    """That batches hold so few examples that noise is most of what a client sends; "" if they do
    not, and under aggregate trust, where all that a round adds up share one noise.

    Args:
        sizes: examples of each client.
    """
    privacy = config.privacy
    nominal = privacy.expected_examples or sum(sizes) // len(sizes)
    batch, empty = privacy.sample_rate * nominal, (1 - privacy.sample_rate) ** nominal
    if not privacy.example_level or privacy.trust == "aggregate" or batch >= FEW:
        return ""
    often = f", {empty:.0%} of the batches none" if empty >= OFTEN_EMPTY else ""
    examples = f"{batch:.2g} example{'' if batch == 1 else 's'}"
    return (
        f"a client's batch holds {examples} on average (privacy.sample_rate="
        f"{privacy.sample_rate:g} of {nominal}){often}, and its noise is that of a large one: a"
        " larger privacy.sample_rate, more clients in a round, fewer clients with more examples"
        " each (federation.num_clients, partition) or privacy=aggregate leave more of the gradient"
    )
