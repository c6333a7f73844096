"""Whatever is wrong, one line says what, where and what would be right; what is done is kept."""

import gzip
import json
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from fedlite.cli.main import run
from fedlite.federation.checkpoint import load_checkpoint
from tests.conftest import TINY
from tests.e2e.command import COMMAND, DEADLINE_SECONDS, refusal, start, wait_for

NETWORKS = "tests.e2e.networks"
INTERNALS = ("Hydra", "OmegaConf", "struct", "Lexer", "mismatched input", "token", "^", "  ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["privacy.epsilom=4"], ["epsilom"]),
        (
            ["+privacy.epsilom=4"],
            ["privacy.epsilom: no such option; did you mean privacy.epsilon?"],
        ),
        (["epsilon=4"], ["did you mean privacy.epsilon or privacy.client.epsilon"]),
        (["~privacy.epsilon"], ["~privacy.epsilon: options cannot be taken away"]),
        (["privacy={epsilon: 3}"], ["takes a name; for values give privacy.OPTION=VALUE"]),
        (["hydra.run.dir=x"], ["hydra.run.dir: no such option; did you mean run.dir?"]),
        (["seed='1"], ["seed='1: a quote (') is not closed"]),
        (["seed=1,2"], ["seed=1,2: several values; -m sweeps over them"]),
        (["dataset=fasion_mnist"], ["did you mean fashion_mnist? choose from"]),
        (["privacy.trust=agregate"], ["one of local, aggregate; did you mean aggregate?"]),
        (["privacy.epsilon="], ["privacy.epsilon=: must be a number or null"]),
        (
            ["student.kwargs.actvation=tanh"],
            ["student.kwargs.actvation", "+student.kwargs.actvation="],
        ),
        (["experiment=har,fashion_mnist"], ["several choices; -m sweeps over them"]),
        (["--config-dir=/no/such"], ["--config-dir=/no/such: no such folder"]),
        (["--config-name=none"], ["--config-name=none: no such file"]),
        (["dataset=imagenet"], ["dataset=imagenet: no such choice; choose from"]),
        (["student=lstm"], ["student=lstm: no such choice; choose from"]),
        (["nogroup=1"], ["nogroup"]),
        (["privacy.epsilon"], ["privacy.epsilon"]),
        (["privacy.epsilon=[1"], ["[1"]),
        (["federation.rounds=many"], ["federation.rounds", "many"]),
        (["federation.rounds=1.5"], ["federation.rounds", "1.5"]),
        (["federation.rounds=0"], ["federation.rounds=0", ">= 1"]),
        (
            ["federation=fedavg", "federation.strategy.learning_rate=0.1"],
            ["learning_rate=0.1", "fedavgm"],
        ),
        (["federation.fraction=1.5"], ["federation.fraction=1.5", "<= 1"]),
        (["federation.sampling=random"], ["federation.sampling=random", "bernoulli"]),
        (["federation.num_clients=null"], ["federation.num_clients", "natural"]),
        (["federation.num_clients=5000"], ["federation.num_clients"]),
        (["privacy.epsilon=0"], ["privacy.epsilon=0", "> 0"]),
        (["privacy.epsilon=-1"], ["privacy.epsilon=-1", "> 0"]),
        (["privacy.epsilon=nan"], ["privacy.epsilon=nan", "> 0"]),
        (["privacy.epsilon=null"], ["privacy.epsilon", "privacy.noise_multiplier"]),
        (
            ["privacy.noise_multiplier=1e-3"],
            ["noise_multiplier=0.001", "privacy.epsilon=8"],
        ),
        (["privacy.delta=0.5"], ["privacy.delta=0.5", "1/n"]),
        (["privacy.delta=2"], ["privacy.delta=2", "< 1"]),
        (["seed=-1"], ["seed=-1"]),
        (["seed=x"], ["seed", "x"]),
        (["distill=relational"], ["distill.loss=relational", "privacy=none"]),
        (["dataset=npz"], ["dataset.root"]),
        (["dataset=npz", "dataset.root=/no/such/folder"], ["/no/such/folder", "dataset.root"]),
        (["dataset=idx", "dataset.root=/no/such/folder"], ["/no/such/folder", "dataset.root"]),
        (["partition=natural"], ["partition=natural", "natural id"]),
        (["partition=pathological", "partition.classes_per_client=11"], ["partition"]),
        (["student=custom"], ["student.module"]),
        (["student=custom", "student.module=no.such.Net"], ["no.such.Net"]),
        (["student=custom", "student.module=Net"], ["Net", "package.module.name"]),
        (["student=custom", "student.module=json.dumps"], ["json.dumps", "Module"]),
        (["student=custom", f"student.module={NETWORKS}.WrongAnswer"], ["(2, 10)", "(2, 9)"]),
        (
            ["student=custom", f"student.module={NETWORKS}.WithBatchNorm"],
            ["BatchNorm1d", "GroupNorm"],
        ),
        (
            ["student=custom", f"student.module={NETWORKS}.Quits"],
            ["SystemExit: no settings found", "networks.py, line"],
        ),
        (
            [f"teacher.module={NETWORKS}.TwoHeads"],
            ["teacher: in training mode it must answer", "answer[0]"],
        ),
        (
            ["privacy=none", "student=custom", f"student.module={NETWORKS}.TwoHeads"],
            ["student: in training mode it must answer", "answer[0]"],
        ),
        (["student.kwargs.activation=step"], ["activation", "step"]),
        (["distill.loss=warm"], ["distill.loss=warm", "relational, relations, soft"]),
        (
            [f"distill.loss={NETWORKS}.unknown_tap"],
            ["distill.loss: taps 'no.such.layer'", "teacher does not have"],
        ),
        (["teacher.checkpoint=/no/such/teacher.pt"], ["/no/such/teacher.pt", "no such file"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_options_are_named(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    line = refusal(capsys, 2, "simulate", *TINY, f"run.dir={folder}", *arguments)
    assert all(word in line for word in words), line
    assert not any(word in line for word in INTERNALS), line
    # The same directory takes the right options: nothing was started.
    assert not (folder / "teacher.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], ["fly", "simulate, plan, teacher"]),
        (["simulte"], ["unknown command 'simulte'; did you mean simulate?"]),
        (["help", "preditc"], ["did you mean predict?"]),
        (["predict", "imput=x"], ["imput=x", "did you mean input?"]),
        (["--verbose"], ["--verbose"]),
        (["simulate", "--verbose"], ["--verbose", "--multirun"]),
        (["compress"], ["give the run directory", "fedlite compress DIR"]),
        (["evaluate", "run.dir=/no/such/run"], ["/no/such/run", "no run there"]),
        (["report", "run.dir=/no/such/run"], ["/no/such/run", "no run there"]),
        (["predict"], ["directory of a run and an input", "fedlite predict DIR INPUT"]),
        (["predict", "model=a.onnx"], ["give an input", "fedlite predict DIR INPUT"]),
        (["predict", "model=a.onnx", "input=b.csv", "top=3"], ["top=3"]),
        (["predict", "model=/no/a.onnx", "input=/no/b.csv"], ["/no/a.onnx", "no such file"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_wrong_commands_are_named(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, 2, *arguments)
    assert all(word in line for word in words), line


def test_a_refused_run_leaves_its_directory_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["teacher", *TINY, f"run.dir={tmp_path / 'run'}"]
    simulate = ["simulate", *command[1:]]
    refusal(capsys, 2, *simulate, "privacy.delta=0.5")
    line = refusal(capsys, 2, *simulate, "distill=relational")
    assert "relational" in line
    assert run([*command, "privacy.delta=1e-5", "distill=soft"]) == 0


def npz(folder: Path, **changes: np.ndarray) -> list[str]:
    """Options for a small data set of one's own, with some arrays replaced."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.normal(size=(60, 6)).astype(np.float32),
        "y_train": np.arange(60) % 3,
        **changes,
    }
    folder.mkdir(exist_ok=True)
    np.savez(folder / "data.npz", **arrays)  # type: ignore[arg-type]
    return ["dataset=npz", f"dataset.root={folder}", "student=mlp"]


def test_networks_for_images_are_refused_for_vectors_with_both_remedies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = [*npz(tmp_path / "data")[:2], *TINY[1:], f"run.dir={tmp_path / 'run'}"]
    line = refusal(capsys, 2, "simulate", *mine)
    assert "student=cnn and teacher=cnn: not for inputs of" in line
    assert "vectors of 6 features; use student=mlp teacher=mlp" in line
    mine = [one for one in mine if not one.startswith("teacher.kwargs")]
    line = refusal(capsys, 2, "simulate", *mine, "teacher=mlp")
    assert line.endswith("; use student=mlp")


def test_damaged_data_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = [*TINY[1:], f"run.dir={tmp_path / 'run'}"]
    inputs = np.ones((60, 6), dtype=np.float32)
    inputs[7, 2] = np.nan
    cases: list[tuple[list[str], list[str]]] = [
        (npz(tmp_path / "nan", x_train=inputs), ["NaN", "example 7"]),
        (npz(tmp_path / "hot", y_train=np.eye(3)[np.arange(60) % 3]), ["one-hot", "argmax"]),
        (npz(tmp_path / "float", y_train=np.linspace(0, 1, 60)), ["measurement", "classes"]),
        (npz(tmp_path / "short", y_train=np.arange(59) % 3), ["59", "60 inputs"]),
        (
            [*npz(tmp_path / "high"), "dataset.class_names=[a,b]"],
            ["label 2", "out of range", "2 classes"],
        ),
        ([*npz(tmp_path / "key"), "dataset.keys.inputs_train=images"], ["images", "x_train"]),
    ]
    cut = npz(tmp_path / "cut")
    file = tmp_path / "cut" / "data.npz"
    file.write_bytes(file.read_bytes()[:300])
    cases.append((cut, ["data.npz", "truncated"]))
    for options, words in cases:
        line = refusal(capsys, 2, "simulate", *tiny, *options)
        assert all(word in line for word in words), line


def test_truncated_idx_is_named(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "mnist"
    shutil.copytree(data_dir / "mnist", root)
    labels = root / "t10k-labels-idx1-ubyte.gz"
    options = ["dataset=mnist", f"dataset.root={root}", f"run.dir={tmp_path / 'run'}"]
    whole = labels.read_bytes()
    for damaged in (
        whole[:1000],
        gzip.compress(gzip.decompress(whole)[:5000]),
        gzip.compress(b"\x00\x00\x08\x03" + gzip.decompress(whole)[4:]),
    ):
        labels.write_bytes(damaged)
        line = refusal(capsys, 2, "simulate", *TINY[1:], *options)
        assert str(labels) in line
    labels.unlink()
    line = refusal(capsys, 2, "simulate", *TINY[1:], *options)
    assert labels.name.removesuffix(".gz") in line


def test_a_client_without_data_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["partition=size", "partition.skew=exponential", "federation.num_clients=40"]
    command = ["simulate", *TINY, f"run.dir={tmp_path / 'run'}", *options]
    line = refusal(capsys, 2, *command)
    assert "partition" in line
    assert "client" in line


def test_a_checkpoint_of_another_shape_is_named(
    tmp_path: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["simulate", *TINY, f"run.dir={tmp_path / 'run'}"]
    file = finished_run / "teacher.pt"
    line = refusal(capsys, 2, *command, f"teacher.checkpoint={file}", "teacher.kwargs.hidden=33")
    assert str(file) in line
    assert "33" in line
    torch.save([1, 2], tmp_path / "list.pt")
    line = refusal(capsys, 2, *command, f"teacher.checkpoint={tmp_path / 'list.pt'}")
    assert "state dict" in line
    (tmp_path / "text.pt").write_text("hello")
    line = refusal(capsys, 2, *command, f"teacher.checkpoint={tmp_path / 'text.pt'}")
    assert "state dict" in line


def test_an_unwritable_directory_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "run"
    line = refusal(capsys, 1, "simulate", *TINY, f"run.dir={target}")
    assert str(tmp_path / "file") in line


def test_an_unwritable_directory_prints_one_line_in_a_process_of_its_own() -> None:
    """No log is set up yet at this point: nothing else may reach the terminal."""
    done = subprocess.run(
        [*COMMAND, "simulate", "run.dir=/dev/full/run"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line == "fedlite: run.dir=/dev/full/run: cannot be written (Not a directory)"


def test_an_unwritable_ledger_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    run_dir = f"run.dir={tmp_path / 'run'}"
    ledgers = f"privacy.ledger_dir={tmp_path / 'file' / 'ledgers'}"
    line = refusal(capsys, 1, "federate", *TINY, run_dir, ledgers)
    assert "ledger" in line
    assert "nothing was trained" in line
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_a_damaged_run_is_named(
    tmp_path: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished_run, copy)
    (copy / "federated_student.pt").write_bytes(b"")
    line = refusal(capsys, 1, "compress", f"run.dir={copy}", "compress.ratio=0.5")
    assert "federated_student.pt" in line
    (copy / "state.json").write_text("{")
    line = refusal(capsys, 1, "report", f"run.dir={copy}")
    assert "state.json" in line


def test_prediction_needs_whole_files(
    tmp_path: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy = tmp_path / "deploy"
    shutil.copytree(finished_run / "deploy", deploy)
    model = f"model={deploy / 'student.onnx'}"
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("1,2,3\n")
    line = refusal(capsys, 2, "predict", model, f"input={wrong}")
    assert "3 values" in line
    assert "64" in line
    line = refusal(capsys, 2, "predict", model, f"input={tmp_path / 'none.png'}")
    assert "none.png" in line
    (deploy / "labels.json").unlink()
    line = refusal(capsys, 2, "predict", model, f"input={wrong}")
    assert "labels.json" in line
    (deploy / "student.onnx").write_bytes(b"no model")
    line = refusal(capsys, 1, "predict", model, f"input={wrong}")
    assert "student.onnx" in line


@pytest.mark.slow
def test_ctrl_c_in_mid_round_keeps_what_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    checkpoint = folder / "checkpoint.pt"
    options = [*TINY, f"run.dir={folder}", "federation.rounds=20", "privacy.accountant=rdp"]
    process = start("simulate", *options)
    wait_for(process, checkpoint.exists, what="a checkpoint")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith("fedlite: interrupted")
    assert "run.resume=true" in line
    finished = load_checkpoint(checkpoint).round
    assert 1 <= finished < 20
    assert run(["federate", f"run.dir={folder}"]) == 0
    state = json.loads((folder / "state.json").read_text())
    assert len(state["stages"]["federate"]["history"]) == 20
