"""Completion in the shell: scripts for bash, zsh and fish, and the words that they offer.

A script asks ``fedlite --complete WORD...`` for the words that may stand in the place of the last
one; a word that ends with ``=``, ``.`` or ``/`` is not finished.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fedlite.cli.help import COMMANDS
from fedlite.runs.conf import choices, groups
from fedlite.runs.literal import CONFIG_DIR, CONFIG_NAME

ASKED = ("ask", "threshold", "token_file", "ca")  # of a cascade
OWN_OPTIONS = {  # of commands that take no others
    "predict": ("input", "model", "output", "json", "invert", *ASKED),
    "serve": ("token_file", "cert", "key", "host", "port", "rows", "rate", "threads"),
    "verify": ("key",),
    "ledger": ("client", "delta", "policy", "ledger-dir", "data_set"),
    "device": ("policy", "data"),
}
MORE_OPTIONS = {"demo": ("output", "ort"), "plan": ("output",)}  # beside those of a run
FLAGS = ("--help",)
OWN_FLAGS = {"predict": ("--json", "--invert")}
RUN_FLAGS = ("-m", "--cfg", "--resolve", CONFIG_DIR, CONFIG_NAME)  # of commands that run stages
NO_STAGES = (*OWN_OPTIONS, *MORE_OPTIONS)

BASH = """\
_fedlite() {
  local line="${COMP_LINE:0:COMP_POINT}" one reply
  local -a words
  read -r -a words <<< "$line"
  [[ "$line" == *[[:space:]] ]] && words+=("")
  local current="${words[${#words[@]}-1]}" head=""
  [[ "$current" == *=* ]] && head="${current%%=*}="
  COMPREPLY=()
  while IFS= read -r one; do
    [[ "$COMP_WORDBREAKS" == *=* ]] && one="${one#"$head"}"
    printf -v reply %q "$one"
    case "$one" in *=|*.|*/) ;; *) reply+=" " ;; esac
    COMPREPLY+=("$reply")
  done < <(fedlite --complete "${words[@]:1}" 2>/dev/null)
}
complete -o nospace -F _fedlite fedlite
"""
ZSH = """\
#compdef fedlite
_fedlite() {
  local -a found
  found=("${(@f)$(fedlite --complete "${(@)words[2,$CURRENT]}" 2>/dev/null)}")
  compadd -Q -S '' -- "${(@q)found}"
}
compdef _fedlite fedlite
"""
FISH = """\
function __fedlite
  fedlite --complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null
end
complete -c fedlite -f -a '(__fedlite)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def offered(words: Sequence[str]) -> list[str]:
    """What may stand in the place of the last of ``words``, which follow ``fedlite``."""
    *before, current = words or [""]
    if not before:
        return _begin(["help", "--help", "--version", "--completion", *COMMANDS], current)
    command = before[0]
    if command == "help":
        return _begin(COMMANDS, current)
    if command == "--completion":
        return _begin(SCRIPTS, current)
    if current.startswith("-"):
        more = OWN_FLAGS.get(command, () if command in NO_STAGES else RUN_FLAGS)
        return _begin([*FLAGS, *more], current)
    if "=" in current:
        key, _, value = current.partition("=")
        return [f"{key}={one}" for one in _values(key, value)]
    own = [f"{one}=" for one in (*OWN_OPTIONS.get(command, ()), *MORE_OPTIONS.get(command, ()))]
    if command in OWN_OPTIONS:
        return [*_begin(own, current), *_paths(current)]
    return [*_begin([*own, *_options(current)], current), *_paths(current)]


def _options(current: str) -> Iterator[str]:
    """The groups and, of the one that is begun, its options."""
    if "." in current:
        from fedlite.base.options import options_of
        from fedlite.runs.config import Config

        yield from (f"{option.key}=" for option in options_of(Config))
        return
    for group in groups():
        yield f"{group}="
        if group != "experiment":
            yield f"{group}."
    yield from ("seed=", "device=", "run.dir=", "run.resume=")


def _values(key: str, value: str) -> list[str]:
    if key in groups():
        files = _paths(value) if key in ("student", "teacher", "experiment") else []
        return [*_begin(choices(key), value), *files]
    from fedlite.base.options import options_of
    from fedlite.runs.config import Config

    option = next((one for one in options_of(Config) if one.key == key), None)
    if option is not None and option.choices:
        return _begin(option.choices, value)
    if option is not None and option.type.startswith("true or false"):
        return _begin(("true", "false"), value)
    return _paths(value)


def _begin(known: Iterable[str], current: str) -> list[str]:
    return [one for one in known if one.startswith(current)]


def _paths(current: str) -> list[str]:
    """Files and folders that begin so; a folder ends with a slash, and one of a run does not."""
    folder, _, start = current.rpartition("/")
    where = f"{folder}/" if "/" in current else ""
    try:
        names = sorted(os.listdir(Path(where or ".").expanduser()))  # noqa: PTH208 - names alone
    except OSError:
        return []
    found = []
    for name in names:
        if name.startswith(start) and (start or not name.startswith(".")):
            path = Path(where or ".").expanduser() / name
            open_end = path.is_dir() and not (path / "overrides.json").is_file()
            found.append(f"{where}{name}{'/' if open_end else ''}")
    return found
