"""Constants of a plan that nobody gave, so that a simulation works them out from private data.

The rules ask for public constants (rule 3 of docs/privacy.md). A simulation may look at all of its
clients, and where an option is left open it does: what then follows from the private data is not
covered by any epsilon, and is said.
"""

from collections.abc import Sequence

from fedlite.runs.config import Config

FAR_OFF = 1.5  # times the clients' average, or as much below it


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
