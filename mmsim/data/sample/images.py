"""The sample's pictures: a scene drawn with noise, then encoded as real files are, or spoilt."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mmsim.data.sample.captions import Scene
from mmsim.data.sample.world import RGB, Look

Pixels = NDArray[np.float32]
Encoding = Callable[[Image.Image], bytes]

LIGHT_FACTORS: dict[str, RGB] = {
    "noon": (1.0, 1.0, 1.0),
    "dusk": (0.95, 0.85, 0.8),
    "night": (0.6, 0.65, 0.75),
}
BANNER_COLOURS = {
    "red": (210, 30, 35),
    "yellow": (240, 210, 40),
    "blue": (30, 60, 210),
    "white": (245, 245, 245),
}
SIDE_OFFSETS = {"left": -0.24, "centre": 0.0, "right": 0.24}


def render(scene: Scene) -> Image.Image:
    """Draw a scene; the same scene gives the same pixels.

    Returns
    -------
    PIL.Image.Image
        RGB, ``scene.width`` by ``scene.height``.
    """
    rng = np.random.default_rng(scene.seed)
    attributes = scene.attributes
    backdrop = _draw_backdrop(scene, rng)
    image = Image.fromarray((backdrop * 255).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    # Everything that matters lies near the centre, which is all that an encoder is shown.
    unit = min(scene.width, scene.height)
    centre_x = scene.width / 2 + unit * (SIDE_OFFSETS[attributes.side] + rng.uniform(-0.05, 0.05))
    base_y = scene.height / 2 + unit * rng.uniform(0.2, 0.4)
    if attributes.banner != "none":
        left = scene.width / 2 + unit * rng.uniform(-0.4, 0.15)
        top = scene.height / 2 - unit * rng.uniform(0.25, 0.42)
        box = (left, top, left + unit * rng.uniform(0.25, 0.4), top + unit * rng.uniform(0.1, 0.16))
        draw.rectangle(box, fill=BANNER_COLOURS[attributes.banner])
    if scene.other is not None:
        other_x = scene.width / 2 - (centre_x - scene.width / 2) + unit * rng.uniform(-0.1, 0.1)
        size = unit * rng.uniform(0.2, 0.3)
        _draw_figure(draw, scene.other.kind.type, scene.other.look, other_x, base_y * 0.9, size)
    for place in range(attributes.count):
        size = unit * rng.uniform(0.34, 0.46) / math.sqrt(attributes.count)
        x = centre_x + (place - (attributes.count - 1) / 2) * unit * 0.19 + rng.uniform(-4, 4)
        y = base_y + unit * rng.uniform(-0.05, 0.05)
        _draw_figure(draw, scene.model.kind.type, scene.model.look, x, y, size)
    return _develop(image, scene, rng)


def _draw_backdrop(scene: Scene, rng: np.random.Generator) -> Pixels:
    """Return sky over textured ground with a random horizon and patch of light: (h, w, 3)."""
    look, height, width = scene.model.look, scene.height, scene.width
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None, :]
    tilt, phase = rng.uniform(-0.3, 0.3), rng.uniform(0, 2 * math.pi)
    horizon = height * rng.uniform(0.35, 0.75) + tilt * (columns - width / 2)
    wave = 2 * math.pi / (look.period * min(height, width) * rng.uniform(0.85, 1.15))
    across, down = np.sin(columns * wave + phase), np.sin(rows * wave + phase)
    match look.texture:
        case "bars":
            texture = np.sign(across)
        case "bands":
            texture = np.sign(down)
        case "checks":
            texture = np.sign(across * down)
        case "dots":
            texture = np.where(across + down > 1.2, 1, -0.2)
        case "waves":
            texture = np.sin(rows * wave + 2 * np.sin(columns * wave / 2 + phase))
        case _:
            texture = np.zeros((1, 1), dtype=np.float32)
    colour_noise = rng.normal(0, 0.04, (2, 3))
    sky = (np.asarray(look.sky) + colour_noise[0]).astype(np.float32)
    ground = (np.asarray(look.ground) + colour_noise[1]).astype(np.float32)
    pixels: Pixels = np.where((rows < horizon)[..., None], sky, ground)
    pixels = pixels + np.float32(0.12) * texture[..., None]
    glow_x, glow_y = rng.uniform(0, width), rng.uniform(0, height)
    reach = rng.uniform(0.2, 0.5) * max(width, height)
    glow = np.exp(-((columns - glow_x) ** 2) / (2 * reach**2))
    glow = glow * np.exp(-((rows - glow_y) ** 2) / (2 * reach**2))
    pixels += np.float32(rng.choice([-0.25, 0.25])) * glow[..., None]
    return pixels.astype(np.float32)


def _draw_figure(
    draw: ImageDraw.ImageDraw, kind: str, look: Look, x: float, y: float, size: float
) -> None:
    """Draw one figure that stands on (x, y): the type gives the shape, the look its variant."""
    fill = _to_bytes(look.figure)
    trim = _to_bytes((1 - look.figure[0], 1 - look.figure[1], 1 - look.figure[2]))
    half, top = size / 2, y - size
    if kind == "Person":
        width = half * (0.55 + 0.2 * look.variant)
        draw.ellipse((x - width, y - size * 0.6, x + width, y + size * 0.5), fill=fill)
        draw.ellipse((x - size * 0.2, top, x + size * 0.2, y - size * 0.55), fill=(225, 180, 150))
    elif kind == "Location":
        for step in range(2 + look.variant):
            left = x - half + step * size / (2 + look.variant)
            roof = top + (step % 2) * size * 0.35
            draw.rectangle((left, roof, left + size / (2.4 + look.variant), y), fill=fill)
            draw.rectangle((left + 2, roof + 4, left + 6, roof + 9), fill=trim)
    elif kind == "Organization":
        draw.rectangle((x - half, top, x + half, y), fill=trim)
        sides = (3, 4, 6)[look.variant]
        draw.regular_polygon((x, y - half, size * 0.42), sides, rotation=15, fill=fill)
    elif kind == "Event":
        for ray in range(5 + 2 * look.variant):
            angle = 2 * math.pi * ray / (5 + 2 * look.variant)
            end = (x + half * math.cos(angle), y - half + half * math.sin(angle))
            draw.line(((x, y - half), end), fill=fill, width=max(2, round(size / 9)))
            draw.ellipse((end[0] - 3, end[1] - 3, end[0] + 3, end[1] + 3), fill=trim)
    else:
        flat = size * (0.15 + 0.15 * look.variant)
        draw.rounded_rectangle((x - half, y - flat * 2, x + half, y), radius=flat / 2, fill=fill)
        for wheel in (x - size * 0.3, x + size * 0.3):
            draw.ellipse((wheel - 6, y - 6, wheel + 6, y + 6), fill=trim)


def _develop(image: Image.Image, scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Put weather, light, blur and sensor noise over a drawing."""
    weather = scene.attributes.weather
    draw = ImageDraw.Draw(image)
    if weather in ("rain", "snow"):
        for x, y in rng.uniform((0, 0), image.size, (140, 2)):
            if weather == "rain":
                draw.line((x, y, x - 5, y + 16), fill=(190, 205, 220))
            else:
                draw.ellipse((x, y, x + 4, y + 4), fill=(250, 250, 255))
    image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.4, 1.1)))
    pixels = np.asarray(image, dtype=np.float32)
    if weather == "fog":
        pixels = 0.75 * pixels + 0.25 * 200
    light = np.asarray(LIGHT_FACTORS[scene.attributes.light]) * rng.uniform(0.85, 1.15)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(3, 7))
    pixels = pixels * light.astype(np.float32) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _to_bytes(colour: RGB) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue


# --- encodings: how a picture becomes the bytes of a file ---------------------------------


def plain_jpeg(image: Image.Image) -> bytes:
    """Encode as most photographs are."""
    return _save(image, "JPEG", quality=82)


def coarser_jpeg(image: Image.Image) -> bytes:
    """Encode a near copy: the same picture compressed harder."""
    return _save(image, "JPEG", quality=60)


def cmyk_jpeg(image: Image.Image) -> bytes:
    """Encode in the four colours of print."""
    return _save(image.convert("CMYK"), "JPEG", quality=82)


def grey_jpeg(image: Image.Image) -> bytes:
    """Encode with one channel."""
    return _save(image.convert("L"), "JPEG", quality=82)


def alpha_png(image: Image.Image) -> bytes:
    """Encode as PNG, transparent outside an ellipse."""
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).ellipse((0, 0, image.width, image.height), fill=255)
    image = image.quantize(32).convert("RGB")
    image.putalpha(mask)
    return _save(image, "PNG")


def drawing_png(image: Image.Image) -> bytes:
    """Encode as the release does an SVG drawing: as a PNG of few colours."""
    return _save(image.quantize(16).convert("RGB"), "PNG")


def gif(image: Image.Image) -> bytes:
    """Encode with a palette."""
    return _save(image.quantize(64), "GIF")


def truncated_jpeg(image: Image.Image) -> bytes:
    """Encode a download that broke off half way."""
    content = plain_jpeg(image)
    return content[: len(content) // 2]


def error_page(image: Image.Image) -> bytes:
    """Return what a server sends in place of a picture that it will not give out."""
    return b"<!DOCTYPE html><html><title>Error 429: too many requests</title></html>\n"


def _save(image: Image.Image, form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
