"""fedlite demo: write a page on which the model of a run answers.

usage: fedlite demo DIR [output=DIR] [ort=DIR] [option=value ...]

  DIR                a finished run; DIR/deploy must hold student.onnx
  output=DIR         the page (default: DIR/demo)
  ort=DIR            an unpacked onnxruntime-web package (default: npm fetches
                     it once into FEDLITE_CACHE, ~/.cache/fedlite)
  dataset.root=DIR   where the data lie now: the page shows public examples

A static folder for any web server: python -m http.server --directory DIR/demo.
Pictures are drawn, dropped or chosen, rows of numbers set by sliders, series
and spectrograms shown by public examples; nothing leaves the browser.
"""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from fedlite.base.cache import cache_folder
from fedlite.base.class_folders import one_run
from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import read_json, user_path
from fedlite.cli.go_on import command_to_go_on
from fedlite.cli.parse import Arguments, options_of_run


def run(arguments: Arguments) -> int:
    """Write the page of a run."""
    arguments.refuse_flags()
    taken = arguments.take("output", "ort")
    output, ort = (user_path(taken[name]) if name in taken else None for name in ("output", "ort"))
    run_demo(options_of_run(arguments, existing=True), output, ort)
    return 0


def run_demo(overrides: Sequence[str], output: Path | None, ort: Path | None) -> None:
    """Write the page of the run in ``run.dir`` and say how to open it.

    Args:
        overrides: the options of the run, ``run.dir`` among them.
        output: the folder to write; None is ``demo`` in the run directory.
        ort: an unpacked package with the page's runtime; None fetches it into the cache.

    Raises:
        UsageError: the run is not finished, or holds no ONNX model to show.
        FedliteError: the bundle is damaged, or the runtime cannot be fetched.
    """
    from fedlite.demo.facts import page_facts
    from fedlite.demo.ort import cached_ort, given_ort
    from fedlite.demo.page import can_tokenize, write_demo
    from fedlite.demo.samples import choose_samples
    from fedlite.demo.typical import typical_of
    from fedlite.report.write import load_report
    from fedlite.runs.compose import compose_config
    from fedlite.runs.splits import splits_of
    from fedlite.serve.predict import DEFAULT
    from fedlite.serve.tokens import TOKENIZER
    from fedlite.serve.verify import MANIFEST, verify_bundle

    config = compose_config(overrides)
    run_dir = one_run(Path(config.run.dir))
    bundle, output = run_dir / "deploy", output or run_dir / "demo"
    if not (run_dir / "report.json").is_file() or not bundle.is_dir():
        raise UsageError(
            f"run.dir={run_dir}: nothing ships there yet; finish the run with:"
            f" {command_to_go_on('simulate', [], run_dir)}"
        )
    if faults := verify_bundle(bundle).faults:
        raise FedliteError(f"{bundle}: {faults[0]}; write it anew with `fedlite report`")
    entries = [entry for entry in read_json(bundle / MANIFEST) if entry["file"] == DEFAULT]
    if not entries:
        raise UsageError(f"{bundle}: holds no {DEFAULT}; add onnx to compress.formats")
    splits = splits_of(config)
    if splits.task.vocabulary is not None and not can_tokenize(read_json(bundle / TOKENIZER)):
        raise UsageError(
            f"run.dir={run_dir}: its tokens are neither words nor characters"
            " (dataset.text.tokenizer), and the page can make no others; use fedlite predict"
            f" {quote(str(run_dir))} FILE.txt"
        )
    samples = choose_samples(splits.public_validation, splits.task)
    facts = page_facts(load_report(run_dir / "report.json"), entries[0])
    runtime = cached_ort(Path(cache_folder()).expanduser()) if ort is None else given_ort(ort)
    typical = typical_of([splits.public, splits.public_validation], splits.task)
    write_demo(output, bundle, samples, facts, runtime, typical=typical)
    print(f"demo  {output}")
    print(
        f"open  python -m http.server --directory {quote(str(output))} 8000,"
        " then http://localhost:8000"
    )
