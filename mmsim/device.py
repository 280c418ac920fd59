"""Which device computes, and in which precision."""

from __future__ import annotations

import torch

from mmsim.errors import UserError


def available_devices() -> list[str]:
    """Return the names of the devices that are there, the CPU last: ``["cuda:0", "cpu"]``."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    names += ["mps"] if torch.backends.mps.is_available() else []
    names += [f"xpu:{index}" for index in range(torch.xpu.device_count())]
    return [*names, "cpu"]


def resolve_device(name: str) -> torch.device:
    """Return the device that `name` means.

    Parameters
    ----------
    name : str
        ``"auto"`` (the first GPU, else the CPU), ``"cpu"``, ``"mps"``, ``"cuda"``,
        ``"cuda:1"``, ``"xpu"`` ...; the value of ``runtime.device``.

    Raises
    ------
    UserError
        If there is no such device; the message names those that there are.
    """
    available = available_devices()
    if name == "auto":
        return torch.device(available[0])
    full_name = f"{name}:0" if name in ("cuda", "xpu") else name
    if full_name not in available:
        raise UserError(
            f"runtime.device is {name!r}, which is not there; this machine has: "
            f"{', '.join(available)}. Choose one of them, or auto"
        )
    return torch.device(full_name)


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type that an encoder computes in.

    Parameters
    ----------
    name : str
        ``"auto"``, ``"float32"`` or ``"bfloat16"``; the value of ``runtime.precision``. Auto
        is bfloat16 on a CUDA device that has it in hardware, else float32.
    device : torch.device
        Where it computes.
    """
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32
