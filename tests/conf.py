"""What lies in ``conf/``: its groups, their files, and what some of them need beside them."""

from pathlib import Path

from fedlite.runs.conf import conf_dir

GROUPS = sorted(path for path in conf_dir().iterdir() if path.is_dir())
OPTIONS = [
    (folder.name, path.stem)
    for folder in GROUPS
    for path in sorted(folder.glob("*.yaml"))
    if not path.stem.startswith("_")
]
PRETRAINED = Path(__file__).parent / "models" / "files" / "encoder"
# What a person must give with an option that stands for their own data or network.
NEEDS = {
    ("dataset", "huggingface"): ("dataset.root=somewhere",),
    ("dataset", "npz"): ("dataset.root=somewhere",),
    ("dataset", "idx"): ("dataset.root=somewhere",),
    ("student", "custom"): ("student.module=fedlite.models.mlp.MLP",),
    ("teacher", "custom"): ("teacher.module=fedlite.models.mlp.MLP",),
    ("teacher", "transformer"): (f"teacher.checkpoint={PRETRAINED}",),
    ("teacher", "minilm"): (f"teacher.checkpoint={PRETRAINED}",),  # its package may be missing
    ("distill", "relational"): ("privacy=none",),
}
