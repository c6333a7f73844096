"""The help screens of the command line."""

import textwrap

from fedlite.compose import conf_dir

WIDTH = 80

COMMANDS: dict[str, str] = {
    "simulate": "all of it: teacher, federated distillation, compression, report",
    "plan": "noise and epsilon by round, and of the alternatives; no training",
    "teacher": "train (or load) the teacher only",
    "federate": "teacher, public warm start and all federated rounds",
    "compress": "prune, quantize, export and measure the student of run.dir",
    "search-student": "find a student within latency and size limits; public data",
    "evaluate": "measure the models of run.dir on the test set again",
    "report": "write the reports of run.dir again",
    "audit": "attack run.dir: canaries, membership, gradient inversion",
    "ledger": "what was spent, by client, run and round",
    "verify": "check a deployable folder: sums, manifest, signature",
    "demo": "write a page that runs the student in the browser",
    "predict": "classify a file with an exported model",
}

MAIN_OPTIONS: tuple[tuple[str, str], ...] = (
    ("run.dir=DIR", "run directory (default outputs/<date>/<time>)"),
    ("run.resume=true", "go on with the run in run.dir; start it where there is none"),
    ("seed=0", "fixes partition, initial weights, cohorts; never the noise of a private run"),
    ("dataset.root=DIR", "where the data set's files lie"),
    ("dataset.public_size=N", "public examples (teacher, warm start, calibration, recovery)"),
    ("federation.num_clients=N", "simulated clients"),
    ("federation.rounds=N", "rounds; federation.fraction=F is the share asked in each"),
    ("federation.local_steps=N", "DP-SGD steps of a client in a round"),
    ("privacy.epsilon=E", "budget of every client for the whole run; privacy=none turns it off"),
    ("privacy.delta=D", "below 1 / examples of a client"),
    ("privacy.sample_rate=Q", "Poisson probability of each example in a step"),
    ("privacy.randomness=R", "secure, or deterministic (repeatable, NOT PRIVATE)"),
    ("distill.alpha=A", "weight of the labels against the teacher"),
    ("engine.num_workers=N", "processes for the clients"),
    ("compress.ratio=R", "share of channels pruned; see `fedlite compress --help`"),
)


def _groups() -> str:
    lines = []
    for folder in sorted(path for path in conf_dir().iterdir() if path.is_dir()):
        options = sorted(p.stem for p in folder.glob("*.yaml") if not p.stem.startswith("_"))
        lines.append(_entry(f"{folder.name}=", " | ".join(options), 15))
    return "\n".join(lines)


def _entry(name: str, text: str, width: int) -> str:
    """A line that continues under its text."""
    return textwrap.fill(
        f"  {name:<{width}} {text}",
        WIDTH,
        subsequent_indent=" " * (width + 3),
        break_long_words=False,
    )


def general_help() -> str:
    """The screen of ``fedlite --help``."""
    commands = "\n".join(_entry(name, text, 14) for name, text in COMMANDS.items())
    return f"""fedlite: distil a small student from a shared teacher on private data; ship it.

usage: fedlite <command> [option=value ...] [-m] [--cfg job]

commands:
{commands}

option groups (choose a file of conf/ by name):
{_groups()}

examples:
  fedlite simulate
  fedlite simulate federation.num_clients=50 privacy.epsilon=4
  fedlite simulate -m privacy.epsilon=1,2,4,8
  fedlite simulate run.dir=DIR run.resume=true
  tensorboard --logdir outputs

`fedlite <command> --help` shows the main options,
`fedlite simulate --cfg job` all of them."""


def command_help(command: str) -> str:
    """The screen of ``fedlite <command> --help``."""
    if command == "predict":
        return """fedlite predict: classify a file with an exported model.

usage: fedlite predict model=DIR/deploy input=FILE

  model=FILE        the exported student (.onnx, .tflite, .pte, .mlpackage) in
                    its folder, labels.json and preprocessing.json beside it; or
                    the folder: its student.onnx
  input=FILE        an image (png, jpg), an npz (array `inputs`), or a csv (one
                    example per line)

Prints the class names and probabilities of every example in the file."""
    if command == "verify":
        return """fedlite verify: check a deployable folder before it is used.

usage: fedlite verify DIR/deploy [key=FILE.pem]

  DIR/deploy    a folder with SHA256SUMS and manifest.json, as a run writes it
  key=FILE.pem  the signer's public key (ed25519), got elsewhere: the folder
                must be signed by it. Without it a signature is checked against
                the key in the folder, which shows integrity but not origin

Every file must be there, unchanged and known to SHA256SUMS, and no other. Each
fault is one line; exits 1 if there is any."""
    if command == "demo":
        return """fedlite demo: write a page on which the model of run.dir answers.

usage: fedlite demo run.dir=DIR [output=DIR] [ort=DIR] [option=value ...]

  run.dir=DIR        a finished run; DIR/deploy must hold student.onnx
  output=DIR         the page (default: demo in run.dir)
  ort=DIR            an unpacked onnxruntime-web package (default: npm fetches
                     it once into FEDLITE_CACHE, ~/.cache/fedlite)
  dataset.root=DIR   where the data lie now: the page shows public examples

A static folder for any web server: python -m http.server --directory DIR/demo.
Images are drawn, dropped or chosen; nothing leaves the browser."""
    if command == "ledger":
        return """fedlite ledger: what was spent, by client, run and round.

usage: fedlite ledger DIR [client=N] [delta=D]

  DIR       a run directory, or a directory of ledgers (privacy.ledger_dir)
  client=N  that client charge by charge, by its number or data set id
  delta=D   default: that of the run; 1e-5 where DIR is not one of a run

Epsilon is that of the whole ledger so far, by RDP and by a tight accountant.
Clients that spent the same share a row. The server's ledger of client-level
releases stands apart: another unit of privacy, never added to the clients'.
Only reads: works on a read-only disk and while a run goes on."""
    if command == "plan":
        return """fedlite plan: what a configuration will spend, before anything is trained.

usage: fedlite plan [option=value ...] [output=plan.png]

  output=FILE.png           the picture: epsilon by round
  run.dir=DIR               the options of the run there; those given again win
  privacy.epsilon=E         budget; privacy.noise_multiplier=Z: what that costs
  privacy.unit=U            example, client, both; privacy.trust=local|aggregate
  privacy.sample_rate=Q     Poisson probability of each example in a step
  privacy.client.epsilon=E  budget of the client level
  federation.rounds=N       rounds; federation.fraction=F: share asked in each
  federation.num_clients=N  clients; with it no data set is read, as a rule

Takes every option of `fedlite simulate`. Prints the noise multiplier, what each
client adds of it, and epsilon by round: for the chosen unit and trust first,
then for the others at the same budget. Trains and charges nothing."""
    if command == "audit":
        return """fedlite audit: attack the run in run.dir and compare with what it claims.

usage: fedlite audit run.dir=DIR [option=value ...]

  audit.parts=[dirac,membership,inversion]
                            which attacks; earlier results of the others stay
  audit.canaries=N          examples (or clients) made to be noticed
  audit.shadows=N           students the attacker trains; audit.targets=N: those
                            it attacks; audit.clients=N: of their federation
  audit.compressed=false    leaves out the compressed form of every student
  audit.control=false       leaves out the same attack without privacy
  audit.inversion_steps=N   of each search for an example with a given gradient
  audit=quick               fewer models and steps: a minute or two on digits

Lower bounds of epsilon that hold with 95% confidence. One above the claim is
said in red and exits 1. Writes audits.json, pictures, TensorBoard and the
report. No client's data are used and no ledger is charged."""
    if command == "compress":
        return """fedlite compress: make, judge and measure the files that ship.

usage: fedlite compress run.dir=DIR [option=value ...]

  compress.norms=fold         exchange norms that cost time for none
  compress.ratio=R            share of channels pruned; '+compress.layer_ratios=
                              {LAYER: R}' for single layers
  compress.criterion=C        l2, l1, taylor or random: the weakest channels
  compress.schedule=S         one_shot, or iterative: cut and recover in turns
  compress.sparsity=S         share of weights set to zero: a smaller gzip only
  compress.recovery_steps=N   public batches; compress.recovery_from=student|
                              teacher
  compress.quantization=Q     static, dynamic, weight_only (compress.bits=8|4),
                              fp16, qat, none
  compress.formats=[...]      onnx, litert, executorch, coreml; the converter
                              may live elsewhere: '+compress.converters.litert=
                              PYTHON'
  compress.max_accuracy_drop=D, compress.min_snr_db=S
                              worse files are refused; the report says why
  compress.signing_key=FILE   ed25519 key (PEM) that signs the folder

  compress=search             search these options: compress.search.trials=N
  compress.target.latency_ms=T, compress.target.bytes=B
                              limits that the search has to reach

Works on public data alone. Every other option of `fedlite simulate` is taken
too, as far as the run's training is not changed by it."""
    if command == "search-student":
        return """fedlite search-student: find a student within latency and size limits.

usage: fedlite search-student [option=value ...]

  search_student.trials=N     students tried; search_student.max_seconds=S
  search_student.target.latency_ms=T, search_student.target.bytes=B
                              limits, measured on the file that would ship
  search_student.blocks=[...] plain, inverted_residual, channel_shuffle
  search_student.widths=[...], .depths=[...], .kernel_sizes=[...], .stages=[...]
                              what a student may be built of
  search_student.steps=N      batches of public distillation that score one
  search_student.max_accuracy_drop=D
                              the smallest this close to the best one wins
  compress.quantization=Q     the form that is measured (compress.norms=fold)

Trains on public data alone. The configured student is the first trial, and wins
where none is better. The winner is run.dir/search_student/student.yaml;
`fedlite simulate student=FILE` takes it."""
    options = "\n".join(_entry(name, text, 26) for name, text in MAIN_OPTIONS)
    return f"""{textwrap.fill(f"fedlite {command}: {COMMANDS[command]}.", WIDTH)}

usage: fedlite {command} [option=value ...] [-m] [--cfg job]

main options:
{options}

option groups (choose a file of conf/ by name):
{_groups()}

-m sweeps over comma-separated values, each job in its own directory. --cfg job
prints the composed configuration and runs nothing. --hydra-help explains
Hydra's own flags."""
