"""Saving heads as safetensors with a JSON configuration, and loading them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from mmsim.errors import UserError
from mmsim.files import replacing_file, write_json
from mmsim.models.dedup import DedupConfig
from mmsim.models.heads import PairHead, build_pair_head
from mmsim.models.link_heads import build_link_head
from mmsim.models.linking import LinkConfig, LinkHead
from mmsim.models.siamese import SiameseConfig

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


Head = PairHead | LinkHead
"""A head for any task."""


def seed_folder(models: Path, seed: int) -> Path:
    """Return the folder of one seed's head."""
    return models / f"seed_{seed}"


def save_pretrained(model: Head, folder: Path) -> None:
    """Write a head's weights and configuration to `folder`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, _described(model))
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    with replacing_file(folder / WEIGHTS) as temporary:
        save_file(weights, temporary)
        # safetensors lets no one else read its files; a shared DVC cache needs that.
        temporary.chmod(0o644)


def from_pretrained(folder: Path) -> Head:
    """Load the head that `save_pretrained` wrote to `folder`, ready to score.

    Raises
    ------
    UserError
        If a file is missing, or the weights are not those of the configuration.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing; train first: `dvc repro train`")
    try:
        model = _built(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (
        SafetensorError,
        RuntimeError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise UserError(f"{folder} holds no model of this version: {error}") from error
    return model.eval()


def load_pair_head(folder: Path) -> PairHead:
    """Load a head for task match or pair; see `from_pretrained`.

    Raises
    ------
    UserError
        If it is a linking head, as well.
    """
    model = from_pretrained(folder)
    if isinstance(model, LinkHead):
        raise UserError(f"{folder} holds a linking head; train one for pairs: `dvc repro train`")
    return model


def load_link_head(folder: Path) -> LinkHead:
    """Load a head for task link; see `from_pretrained`.

    Raises
    ------
    UserError
        If it is a head for pairs, as well.
    """
    model = from_pretrained(folder)
    if not isinstance(model, LinkHead):
        raise UserError(f"{folder} holds a head for pairs; train one to link: `dvc repro train`")
    return model


def _described(model: Head) -> dict[str, Any]:
    """Return a head's name and task, and all other fields of its configuration."""
    fields = dataclasses.asdict(model.config)
    if isinstance(model.config, LinkConfig):
        return {"name": model.config.name, "task": "link"} | fields
    name = "dedup" if isinstance(model.config, DedupConfig) else "siamese"
    return {"name": name} | fields


def _built(described: dict[str, Any]) -> Head:
    """Build the head that `_described` describes."""
    name, task = described["name"], described["task"]
    fields = {key: value for key, value in described.items() if key not in ("name", "task")}
    if task == "link":
        return build_link_head(LinkConfig(name=name, **fields))
    kinds = {"siamese": SiameseConfig, "dedup": DedupConfig}
    return build_pair_head(kinds[name](task=task, **fields))
