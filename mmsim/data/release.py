"""Reads the captions of the release layout: passage-level and mention-level JSON.

The two levels say the same of a mention; mention level adds candidates, passage level adds
captions without any mention. Either is enough; together they are merged by
(caption, image address, mention, span).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmsim.errors import UserError

SPLITS = ("train", "valid", "test")
IMAGE_FOLDER = "wikinewsImgs"
PASSAGE_FIELDS = 4
MENTION_FIELDS = 11


@dataclass(frozen=True)
class Mention:
    """A mention as the release has it, before any check."""

    surface: str
    type: str
    start: int
    end: int
    entity_url: str | None
    candidates: tuple[str, ...] = ()


@dataclass
class Caption:
    """One image with one caption in one split, and the mentions in it."""

    split: str
    sentence: str
    image_url: str
    topic: str
    mentions: list[Mention]


@dataclass
class Release:
    """The captions of a release, and how many records could not be read or came twice."""

    captions: list[Caption]
    malformed: dict[str, int]
    repeated: dict[str, int]


def passage_file(root: Path, split: str) -> Path:
    """Return the path of a split's passage-level file."""
    return root / "wikidiverse" / f"{split}.json"


def mention_file(root: Path, split: str) -> Path:
    """Return the path of a split's mention-level file."""
    return root / "wikidiverse_w_cands" / f"{split}_w_10cands.json"


def read_release(root: Path) -> Release:
    """Read every split's captions and mentions below `root`.

    Raises
    ------
    UserError
        If no file of the layout is there, or one is no JSON list.
    """
    release = Release([], {}, {})
    for split in SPLITS:
        captions: dict[tuple[str, str], Caption] = {}
        malformed = repeated = 0
        for record in _read_list(passage_file(root, split)):
            caption = _parse_passage(record, split)
            if caption is None:
                malformed += 1
                continue
            repeated += len(caption.mentions) - len(_merge(caption.mentions))
            known = captions.setdefault((caption.sentence, caption.image_url), caption)
            if known is not caption:
                known.mentions += caption.mentions
                repeated += 1
        seen: set[str] = set()
        for record in _read_list(mention_file(root, split)):
            parsed = _parse_mention(record, split)
            if parsed is None:
                malformed += 1
                continue
            repeated += (key := json.dumps(record)) in seen
            seen.add(key)
            known = captions.setdefault((parsed.sentence, parsed.image_url), parsed)
            if known is not parsed:
                known.mentions += parsed.mentions
        for caption in captions.values():
            caption.mentions = _merge(caption.mentions)
        release.captions += captions.values()
        release.malformed[split], release.repeated[split] = malformed, repeated
    if not release.captions:
        expected = ", ".join(
            str(path.relative_to(root))
            for path in (passage_file(root, "train"), mention_file(root, "train"))
        )
        raise UserError(f"{root} holds no captions; expected files such as {expected}")
    return release


def _merge(mentions: list[Mention]) -> list[Mention]:
    """Join records of one mention; the one with candidates wins."""
    merged: dict[tuple[str, int, int, str | None], Mention] = {}
    for mention in mentions:
        key = (mention.surface, mention.start, mention.end, mention.entity_url)
        if key not in merged or not merged[key].candidates:
            merged[key] = mention
    return list(merged.values())


def _read_list(path: Path) -> list[Any]:
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid JSON: {error}; fetch or unpack it again") from error
    if not isinstance(content, list):
        raise UserError(f"{path} holds a {type(content).__name__}; expected a list of records")
    return content


def _parse_passage(record: Any, split: str) -> Caption | None:
    """Parse [sentence, image url, topic, [[mention, type, start, end, url], ...]]."""
    if not isinstance(record, list) or len(record) != PASSAGE_FIELDS:
        return None
    sentence, image_url, topic, mentions = record
    if not isinstance(sentence, str) or not isinstance(mentions, list):
        return None
    try:
        parsed = [
            Mention(surface, kind, int(start), int(end), url)
            for surface, kind, start, end, url in mentions
        ]
    except (TypeError, ValueError):
        return None
    return Caption(split, sentence, str(image_url), str(topic), parsed)


def _parse_mention(record: Any, split: str) -> Caption | None:
    """Parse the 11 fields of a mention-level record as a caption with one mention."""
    if not isinstance(record, list) or len(record) != MENTION_FIELDS:
        return None
    sentence, image_url, surface, kind, _left, _right, url, candidates, topic, start, end = record
    if not isinstance(sentence, str) or not isinstance(surface, str):
        return None
    try:
        mention = Mention(surface, kind, int(start), int(end), url, tuple(map(str, candidates)))
    except (TypeError, ValueError):
        return None
    return Caption(split, sentence, str(image_url), str(topic), [mention])
