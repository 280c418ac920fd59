"""The frozen image encoder: a torchvision ResNet up to its last convolutional map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import get_model, get_model_weights
from torchvision.models.resnet import BasicBlock, Bottleneck

from mmsim.errors import UserError
from mmsim.features.decode import Preprocessing
from mmsim.features.fingerprint import hash_of_state
from mmsim.features.layout import LARGEST_FLOAT16
from mmsim.features.pipeline import to_device

STATE_DICT_SUFFIXES = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class ImageEncoder:
    """A frozen ResNet; made by `load_image_encoder`.

    Attributes
    ----------
    name : str
        ``"resnet50"`` ...
    trunk : torch.nn.Module
        (B, 3, 224, 224) to (B, D, 7, 7).
    width : int
        D.
    preprocessing : Preprocessing
        What it expects of its input.
    weights, weights_sha256 : str
        Where the weights are from, and their content's hash.
    device, precision : torch.device, torch.dtype
        Where and in which type it computes.
    """

    name: str
    trunk: nn.Module
    width: int
    preprocessing: Preprocessing
    weights: str
    weights_sha256: str
    device: torch.device
    precision: torch.dtype

    def describe(self) -> dict[str, Any]:
        """Return all that decides the features of an image."""
        return {
            "kind": "image",
            "encoder": self.name,
            "weights": self.weights,
            "weights_sha256": self.weights_sha256,
            "preprocessing": self.preprocessing.describe(),
            "features": "layer4 as a 7x7 grid row by row; pooled: mean over the grid",
            "dtype": "float16",
            "precision": str(self.precision).removeprefix("torch."),
        }

    def __call__(self, pixels: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Encode RGB pixels (B, 224, 224, 3).

        Returns
        -------
        dict
            ``grid`` (B, 49, D) and ``pooled`` (B, D), float16, and ``finite`` (B,): whether a
            row fits into float16.
        """
        with torch.inference_mode():
            # NHWC pixels permuted are a channels-last tensor: nothing is copied.
            images = to_device(pixels, self.device).permute(0, 3, 1, 2).float().div_(255)
            mean, std = (
                torch.tensor(values, device=self.device).view(1, 3, 1, 1)
                for values in (self.preprocessing.mean, self.preprocessing.std)
            )
            images = images.sub_(mean).div_(std)
            mixed = self.precision != torch.float32
            with torch.autocast(self.device.type, self.precision, enabled=mixed):
                maps = self.trunk(images)
            # (B, D, 7, 7) -> (B, 49, D), which in channels-last memory is a view
            grid = maps.float().flatten(2).transpose(1, 2)
            return {
                "grid": grid.half(),
                "pooled": grid.mean(dim=1).half(),
                "finite": grid.abs().amax(dim=(1, 2)) <= LARGEST_FLOAT16,
            }


def load_image_encoder(
    encoder: str, weights: str, device: torch.device, precision: torch.dtype
) -> ImageEncoder:
    """Load a ResNet.

    Parameters
    ----------
    encoder : str
        ``"resnet18"`` to ``"resnet152"``.
    weights : str
        ``"random"`` (seeded), ``"pretrained"``, a torchvision weights name, or the path of a
        state dict.

    Raises
    ------
    UserError
        If the weights are unknown, missing, unreadable, of another encoder, or cannot be
        downloaded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = get_model(encoder, weights=None)
    published = get_model_weights(encoder)
    chosen = published.IMAGENET1K_V1
    if weights == "random":
        _tame(model)
        origin = "random, seed 0"
    elif weights.endswith(STATE_DICT_SUFFIXES) or "/" in weights:
        state = _read_state_dict(Path(weights).expanduser())
        _load_state_dict(model, state, encoder, weights)
        origin = f"state dict {Path(weights).name}, preprocessing of {chosen}"
    else:
        chosen = _published_weights(published, encoder, weights)
        _load_state_dict(model, _download(chosen), encoder, str(chosen))
        origin = str(chosen)
    digest = hash_of_state({k: v for k, v in model.state_dict().items() if _is_needed(k)})
    preset = chosen.transforms()
    trunk = nn.Sequential(*list(_fused(model.eval()).children())[:-2])
    trunk = trunk.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for parameter in trunk.parameters():
        parameter.requires_grad_(False)
    return ImageEncoder(
        name=encoder,
        trunk=trunk,
        width=model.fc.in_features,
        preprocessing=Preprocessing(
            resize=preset.resize_size[0],
            crop=preset.crop_size[0],
            mean=tuple(preset.mean),
            std=tuple(preset.std),
        ),
        weights=origin,
        weights_sha256=digest,
        device=device,
        precision=precision,
    )


def _is_needed(key: str) -> bool:
    return not key.startswith("fc.") and not key.endswith("num_batches_tracked")


def _tame(model: nn.Module) -> None:
    """Scale each residual branch down, or a deep untrained network overflows float16."""
    blocks = [module for module in model.modules() if isinstance(module, BasicBlock | Bottleneck)]
    for block in blocks:
        last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
        nn.init.constant_(last.weight, len(blocks) ** -0.5)


def _fused(model: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution before it: the same function, a quarter faster."""
    for module in list(model.modules()):
        children = dict(module.named_children())
        pairs = [(f"conv{n}", f"bn{n}") for n in (1, 2, 3)]
        pairs += [("0", "1")] if isinstance(module, nn.Sequential) else []
        for convolution, norm in pairs:
            found = children.get(convolution), children.get(norm)
            if isinstance(found[0], nn.Conv2d) and isinstance(found[1], nn.BatchNorm2d):
                setattr(module, convolution, fuse_conv_bn_eval(found[0], found[1]))
                setattr(module, norm, nn.Identity())
    return model


def _published_weights(published: Any, encoder: str, weights: str) -> Any:
    if weights == "pretrained":
        return published.DEFAULT
    name = weights.removeprefix(f"{published.__name__}.")
    if name not in published.__members__:
        allowed = ", ".join(published.__members__)
        raise UserError(
            f"image.weights is {weights!r}, which torchvision does not have for {encoder}; allowed "
            f"are: random, pretrained, {allowed}, or the path of a state dict "
            f"({', '.join(STATE_DICT_SUFFIXES)})"
        )
    return published[name]


def _download(weights: Any) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"the weights {weights} cannot be downloaded from {weights.url} ({error}). Without a "
            f"network, put a torchvision state dict on this machine and set image.weights to its "
            f"path, or set image.weights: random"
        ) from error
    return state


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(
            f"image.weights names the file {path}, which is missing; give the path of a state "
            f"dict ({', '.join(STATE_DICT_SUFFIXES)}), or a weights name, or random"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise many classes on a broken file
        raise UserError(f"{path} cannot be read as a state dict: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} holds no plain state dict (names to tensors)")
    return state


def _load_state_dict(model: nn.Module, state: dict[str, Tensor], encoder: str, origin: str) -> None:
    """Load weights after a strict check of names and shapes; the classifier may be absent."""
    expected = model.state_dict()
    missing = [key for key in expected if _is_needed(key) and key not in state]
    unknown = [key for key in state if key not in expected]
    shapes = [
        f"{key} {tuple(state[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in expected
        if _is_needed(key) and key in state and state[key].shape != expected[key].shape
    ]
    for problem, keys in (("lacks", missing), ("has unknown", unknown), ("misshapes", shapes)):
        if keys:
            shown = "; ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
            raise UserError(
                f"the state dict {origin} is not one of {encoder}: it {problem}: {shown}. Give "
                f"image.encoder its own architecture, in torchvision's key names"
            )
    kept = {key: value for key, value in state.items() if _is_needed(key)}
    model.load_state_dict(kept, strict=False)
