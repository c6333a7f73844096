"""The files in ``conf/dataset`` and ``conf/partition``: complete, typed and composable."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from fedlite.data.options import AugmentOptions, DatasetOptions, PartitionOptions
from fedlite.data.splits import load_splits
from fedlite.runs.config import parse_config

CONF = Path(__file__).parents[2] / "conf"
DATASETS = ["digits", "fashion_mnist", "mnist", "mnist_writers", "har", "cifar10"]
OWN_DATA = ["npz", "idx", "huggingface"]
PARTITIONS = ["iid", "dirichlet", "pathological", "shards", "size", "natural"]
PRIMARY = """
defaults: [{dataset: digits}, {federation: default}, {partition: iid}, _self_]
seed: 0
run: {dir: unused}
teacher: {name: none, module: none}
student: {name: none, module: none}
distill: {}
privacy: {}
engine: {}
compress: {}
tracking: {}
"""


@pytest.fixture
def conf(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small primary configuration around the two groups under test."""
    for group in ("dataset", "partition"):
        shutil.copytree(CONF / group, tmp_path / group)
    (tmp_path / "federation").mkdir()
    (tmp_path / "federation" / "default.yaml").write_text("num_clients: 20\nrounds: 20\n")
    (tmp_path / "primary.yaml").write_text(PRIMARY)
    monkeypatch.setenv("FEDLITE_DATA", str(data_dir))
    return tmp_path


def composed(conf: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(config_dir=str(conf), version_base="1.3"):
        return compose("primary", overrides=list(overrides))


def names(schema: type) -> set[str]:
    return {item.name for item in dataclasses.fields(schema)}


def test_every_file_is_tested() -> None:
    assert {path.stem for path in (CONF / "dataset").glob("*.yaml")} == {
        "_base",
        *DATASETS,
        *OWN_DATA,
    }
    assert {path.stem for path in (CONF / "partition").glob("*.yaml")} == {"_base", *PARTITIONS}


@pytest.mark.parametrize("name", DATASETS + OWN_DATA)
def test_dataset_has_every_key_and_the_right_types(conf: Path, name: str) -> None:
    config = composed(conf, f"dataset={name}")
    assert set(config.dataset) == names(DatasetOptions)
    assert set(config.dataset.augment) == names(AugmentOptions)
    if name in OWN_DATA:
        config = composed(conf, f"dataset={name}", "dataset.root=somewhere")
    assert parse_config(config).dataset.name == name


@pytest.mark.parametrize("name", PARTITIONS)
def test_partition_has_every_key_and_natural_counts_clients_itself(conf: Path, name: str) -> None:
    config = composed(conf, f"partition={name}")
    assert set(config.partition) == names(PartitionOptions)
    typed = parse_config(config)
    assert typed.partition.name == name
    assert typed.federation.num_clients == (None if name == "natural" else 20)
    assert OmegaConf.select(config, "federation.rounds") == 20


def test_overrides_reach_a_natural_partition(conf: Path) -> None:
    config = composed(conf, "partition=natural", "partition.alpha=2", "federation.num_clients=16")
    assert (config.partition.alpha, config.federation.num_clients) == (2, 16)


@pytest.mark.parametrize(
    ("overrides", "clients"),
    [
        (["dataset=digits"], 20),
        (["dataset=mnist", "partition=dirichlet"], 20),
        (["dataset=har", "partition=natural"], 16),
        (["dataset=cifar10", "partition=shards"], 20),
    ],
)
def test_configured_data_sets_load(
    conf: Path, data_dir: Path, overrides: list[str], clients: int
) -> None:
    config = parse_config(composed(conf, *overrides))
    if config.dataset.root and not Path(config.dataset.root).exists():
        pytest.skip(f"{config.dataset.root} is not there")
    splits = load_splits(
        config.dataset, config.partition, config.federation.num_clients, config.seed
    )
    assert splits.num_clients == clients
    assert splits.task.class_names == tuple(config.dataset.class_names or splits.task.class_names)
    assert min(splits.client_sizes()) >= 1
