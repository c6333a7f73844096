"""What a run would have taken on the devices of its simulated fleet: section, sentence, table."""

from collections.abc import Mapping, Sequence

from fedlite.report.parts import plain, table
from fedlite.report.sections import DeviceEntry, FleetSection
from fedlite.report.words import human_seconds

CLIENT_COUNTS = ("asked", "away", "left", "not_counted")


def fleet_section(
    classes: dict[str, DeviceEntry], rounds: Sequence[Mapping[str, float]]
) -> FleetSection:
    """The section of what ``simulated`` says of every round."""
    seconds = rounds[-1]["clock_seconds"] if rounds else 0.0
    return {
        "classes": classes,
        "seconds": seconds,
        "rounds_an_hour": 3600 * len(rounds) / seconds if seconds else 0.0,
        "joules": sum(one["joules"] for one in rounds),
        "clients": {
            key: sum(one[key] for one in rounds) / max(1, len(rounds)) for key in CLIENT_COUNTS
        },
    }


def fleet_sentence(section: FleetSection) -> str:
    """Time and energy in one sentence."""
    time, clients = human_seconds(section["seconds"]), section["clients"]
    asked, away, left, not_counted = (f"{clients[key]:.3g}" for key in CLIENT_COUNTS)
    return (
        f"On this fleet the rounds take {time} ({section['rounds_an_hour']:.3g} an hour) and the"
        f" clients {section['joules']:,.3g} J, by estimate. Of {asked} clients asked in a round,"
        f" {away} are away, {left} leave before they answer, and {not_counted} answer and are not"
        " counted."
    )


def fleet_markdown(section: FleetSection) -> str:
    """The section of report.md."""
    parts = ["download", "compute", "upload", "overhead", "with the teacher"]
    rows = [
        [
            plain(name),
            f"{one['clients']}",
            f"{one['download_seconds']:.3g} s",
            f"{one['compute_seconds']:.3g} s",
            f"{one['upload_seconds']:.3g} s",
            f"{one['overhead_seconds']:.3g} s",
            f"{one['first_seconds']:.3g} s",
            f"{one['joules']:.3g} J",
        ]
        for name, one in section["classes"].items()
    ]
    visits = table(["class", "clients", *parts, "energy"], rows)
    return f"{fleet_sentence(section)}\n\nThe nominal visit of a client:\n\n{visits}"
