"""Small releases, made by hand, for tests of single rules."""

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

WIKI = "https://en.wikipedia.org/wiki/"


def image_url(name: str) -> str:
    return f"https://upload.example.org/{name}.png"


def mention(sentence: str, surface: str, title: str | None) -> list:
    start = sentence.find(surface)
    url = "NIL" if title is None else WIKI + title
    return [surface, "Other", start, start + len(surface), url]


def caption(sentence: str, image: str, *mentions: tuple[str, str | None]) -> list:
    """A passage-level record; each mention is (surface, title or None for NIL)."""
    found = [mention(sentence, surface, title) for surface, title in mentions]
    return [sentence, image_url(image), "topic", found]


def write_passages(root: Path, **splits: list) -> Path:
    (root / "wikidiverse").mkdir(parents=True, exist_ok=True)
    for split, records in splits.items():
        (root / "wikidiverse" / f"{split}.json").write_text(json.dumps(records))
    return root


def write_image(root: Path, name: str, seed: int, size: tuple[int, int] = (64, 48)) -> Path:
    """A picture of random blocks, different for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    folder = root / "wikinewsImgs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.md5(f'{name}.png'.encode()).hexdigest()}.png"
    Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def write_mentions(root: Path, **splits: list) -> Path:
    """Mention-level files; each record is (sentence, image, surface, title or None, candidates)."""
    (root / "wikidiverse_w_cands").mkdir(parents=True, exist_ok=True)
    for split, records in splits.items():
        rows = []
        for sentence, image, surface, title, candidates in records:
            _, kind, start, end, url = mention(sentence, surface, title)
            listed = [name.replace(" ", "_") for name in candidates]
            rows.append(
                [
                    sentence,
                    image_url(image),
                    surface,
                    kind,
                    [],
                    [],
                    url,
                    listed,
                    "topic",
                    start,
                    end,
                ]
            )
        path = root / "wikidiverse_w_cands" / f"{split}_w_10cands.json"
        path.write_text(json.dumps(rows))
    return root
