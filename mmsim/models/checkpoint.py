"""Saving heads as safetensors with a JSON configuration, and loading them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from mmsim.errors import UserError
from mmsim.files import replacing_file, write_json
from mmsim.models.siamese import Siamese, SiameseConfig

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def save_pretrained(model: Siamese, folder: Path) -> None:
    """Write a head's weights and configuration to `folder`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, {"name": "siamese"} | dataclasses.asdict(model.config))
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    with replacing_file(folder / WEIGHTS) as temporary:
        save_file(weights, temporary)
        # safetensors lets no one else read its files; a shared DVC cache needs that.
        temporary.chmod(0o644)


def from_pretrained(folder: Path) -> Siamese:
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
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        config.pop("name")
        model = Siamese(SiameseConfig(**config))
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
