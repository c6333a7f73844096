"""The files in ``conf/dataset`` and ``conf/partition``: complete, typed and composable."""

import dataclasses
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from fedlite.base.errors import UsageError
from fedlite.data.options import PARTITIONS as DIVISIONS
from fedlite.data.options import AugmentOptions, DatasetOptions, PartitionOptions
from fedlite.runs.compose import compose_config, parse_config, store_defaults
from fedlite.runs.conf import conf_dir
from fedlite.runs.splits import splits_of

TEXTS = ["trec", "ag_news", "sms_spam"]
DATASETS = ["digits", "fashion_mnist", "mnist", "mnist_writers", "har", "cifar10", *TEXTS]
OWN_DATA = ["npz", "npy", "idx", "pictures", "sound", "table", "text", "huggingface"]
PARTITIONS = ["iid", "dirichlet", "pathological", "shards", "size", "natural"]


@pytest.fixture(autouse=True)
def _data_sets(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLITE_DATA", str(data_dir))


def composed(*overrides: str) -> DictConfig:
    store_defaults()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=["federation.rounds=20", *overrides])


def names(schema: type) -> set[str]:
    return {item.name for item in dataclasses.fields(schema)}


def test_every_file_is_tested() -> None:
    assert {path.stem for path in (conf_dir() / "dataset").iterdir()} == {*DATASETS, *OWN_DATA}
    assert {path.stem for path in (conf_dir() / "partition").iterdir()} == set(PARTITIONS)
    assert set(DIVISIONS.names()) == set(PARTITIONS)


@pytest.mark.parametrize("name", DATASETS + OWN_DATA)
def test_dataset_has_every_key_and_the_right_types(name: str) -> None:
    config = composed(f"dataset={name}")
    assert set(config.dataset) == names(DatasetOptions)
    assert set(config.dataset.augment) == names(AugmentOptions)
    if name in OWN_DATA:
        config = composed(f"dataset={name}", "dataset.root=somewhere")
    assert parse_config(config).dataset.name == name


@pytest.mark.parametrize(
    ("typed", "student", "teacher"),
    [
        (["dataset=digits"], "cnn", "cnn"),
        (["dataset=table"], "mlp", "mlp"),
        (["student.kwargs.hidden=[8]", "dataset=table"], "mlp", "mlp"),
        (["dataset=table", "teacher=resnet"], "mlp", "resnet"),
        (["student=cnn", "dataset=table"], "cnn", "mlp"),
        (["dataset=table", "experiment=fashion_mnist_mobile"], "mobilenet", "resnet"),
        *((["run.dir=x", f"dataset={name}"], "text_cnn", "text_cnn") for name in [*TEXTS, "text"]),
        (["dataset=text", "student=text_bag"], "text_bag", "text_cnn"),
    ],
)
def test_a_data_set_chooses_networks_that_fit_it_unless_others_are_given(
    typed: list[str], student: str, teacher: str
) -> None:
    config = compose_config(typed)
    assert (config.student.name, config.teacher.name) == (student, teacher)


def test_a_list_of_defaults_with_the_data_set_first_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [_base, dataset: table, teacher: cnn]\n")
    with pytest.raises(UsageError, match=r"^dataset=table: chooses a student, so student must st"):
        compose_config([f"--config-dir={tmp_path}", "--config-name=mine"])


@pytest.mark.parametrize("name", PARTITIONS)
def test_partition_has_every_key_and_natural_counts_clients_itself(name: str) -> None:
    config = composed(f"partition={name}")
    assert set(config.partition) == names(PartitionOptions)
    typed = parse_config(config)
    assert typed.partition.name == name
    assert typed.federation.num_clients == (None if name == "natural" else 20)
    assert OmegaConf.select(config, "federation.rounds") == 20


def test_in_har_a_client_is_a_person_whom_client_level_privacy_protects() -> None:
    config = parse_config(composed("experiment=har", "privacy=client"))
    assert (config.partition.name, config.privacy.unit) == ("natural", "client")
    if not Path(str(config.dataset.root)).exists():
        pytest.skip(f"{config.dataset.root} is not there")
    assert splits_of(config).num_clients == 17  # tests/data/test_splits.py: each a whole person


def test_overrides_reach_a_natural_partition() -> None:
    config = composed("partition=natural", "partition.alpha=2", "federation.num_clients=16")
    assert (config.partition.alpha, config.federation.num_clients) == (2, 16)


@pytest.mark.parametrize(
    ("overrides", "clients"),
    [
        (["dataset=digits"], 20),
        (["dataset=mnist", "partition=dirichlet"], 20),
        (["dataset=har", "partition=natural"], 16),
        (["dataset=cifar10", "partition=shards"], 20),
        (["dataset=trec"], 20),
        (["dataset=ag_news", "partition=dirichlet"], 20),
        (["dataset=sms_spam"], 20),
    ],
)
def test_configured_data_sets_load(overrides: list[str], clients: int) -> None:
    config = parse_config(composed(*overrides))
    if config.dataset.root and not Path(config.dataset.root).exists():
        pytest.skip(f"{config.dataset.root} is not there")
    splits = splits_of(config)
    assert splits.num_clients == clients
    assert splits.task.class_names == tuple(config.dataset.class_names or splits.task.class_names)
    assert min(splits.client_sizes()) >= 1
