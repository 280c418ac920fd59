"""From the bytes of an image file to the pixels that an encoder takes."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mmsim.features.rows import Failure
from mmsim.features.status import Status

# Checked in the header, before anything is decoded: a small file can expand to gigabytes.
LARGEST_IMAGE_PIXELS = 89_000_000
# Pillow warns of the same images, each time, on standard error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a square of pixels.

    Attributes
    ----------
    resize, crop : int
        The shorter side is scaled to `resize` pixels, then the middle `crop` x `crop` is cut.
    mean, std : tuple of float
        Normalisation of each colour channel, applied on the device.
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def describe(self) -> dict[str, Any]:
        """Return all that decides the pixels, for manifest and fingerprint."""
        return {
            "resize": self.resize,
            "crop": self.crop,
            "interpolation": "bilinear, antialiased",
            "mean": list(self.mean),
            "std": list(self.std),
            "orientation": "as EXIF says",
            "alpha": "over white",
            "frame": "first",
            "jpeg": "decoded at the smallest DCT scale of at least twice the size",
        }


def decode(content: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8] | Failure:
    """Decode an image file.

    Parameters
    ----------
    content : bytes
        The file.
    preprocessing : Preprocessing
        Size of the result.

    Returns
    -------
    ndarray of uint8 (crop, crop, 3) or Failure
        RGB pixels: upright, over white where transparent, the first frame of an animation.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = image.width * image.height
            if pixels > LARGEST_IMAGE_PIXELS:
                return _too_large(f"{image.width} x {image.height} pixels")
            # Twice the size leaves the scaling below the last word on every pixel.
            image.draft(image.mode, (2 * preprocessing.resize, 2 * preprocessing.resize))
            upright = ImageOps.exif_transpose(image)
            return np.asarray(_resized(_as_rgb(upright), preprocessing))
    except Image.DecompressionBombError as error:
        return _too_large(str(error))
    except MemoryError:
        return Failure(Status.UNSUPPORTED, "not enough memory to decode it", lasting=False)
    except Exception as error:  # Pillow's plugins raise almost anything on a broken file
        return Failure(Status.CORRUPT, f"cannot be decoded: {type(error).__name__}: {error}")


def _too_large(found: str) -> Failure:
    return Failure(
        Status.UNSUPPORTED, f"too large: {found}; allowed are {LARGEST_IMAGE_PIXELS:,} pixels"
    )


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        scaled = np.asarray(image).astype(np.uint16) >> 8
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        colours = image.convert("RGBA")
        white = Image.new("RGBA", colours.size, "white")
        return Image.alpha_composite(white, colours).convert("RGB")
    return image.convert("RGB")


def _resized(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Scale the shorter side and cut the middle, computing only the pixels that are kept.

    The arithmetic is that of torchvision's resize and centre crop.
    """
    crop, shorter = preprocessing.crop, min(image.size)
    width, height = (int(preprocessing.resize * side / shorter) for side in image.size)
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, (left + crop) * across, (top + crop) * down)
    return image.resize((crop, crop), Image.Resampling.BILINEAR, box=box)
