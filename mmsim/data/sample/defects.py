"""What real data has wrong, planted in the sample on purpose: one function for each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from mmsim.data.sample import images
from mmsim.data.sample.captions import Mention, Scene

Describe = Callable[[Scene], tuple[str, list[Mention]]]


@dataclass(eq=False)
class Row:
    """One caption with its picture; `encode` is None where the picture file is missing."""

    sentence: str
    image_url: str
    topic: str
    mentions: list[Mention]
    scene: Scene
    encode: images.Encoding | None = images.plain_jpeg


def plant_defects(splits: dict[str, list[Row]], describe: Describe) -> None:
    """Spoil a few rows, from the end of each split, that have exactly one mention.

    Parameters
    ----------
    splits : dict
        Rows of ``train``, ``valid`` and ``test``; changed in place.
    describe : callable
        Writes another sentence about a scene.
    """
    train, valid, test = (_rows_with_one_mention(splits[name]) for name in splits)

    # Images that cannot be read.
    train.pop().encode = images.truncated_jpeg
    train.pop().encode = images.error_page
    train.pop().encode = None

    # Images that can, in less usual forms and under less usual names.
    train.pop().encode = images.cmyk_jpeg
    train.pop().encode = images.grey_jpeg
    change_suffix(train.pop(), ".png", images.alpha_png)
    change_suffix(train.pop(), ".svg", images.drawing_png)
    change_suffix(train.pop(), ".gif", images.gif)
    change_suffix(train.pop(), ".JPG", images.plain_jpeg)
    percent_encode_image_name(train.pop())

    # Entities that are unknown, or badly written.
    for row in (train.pop(), test.pop()):
        change_entity_url(row, lambda url: "NIL")
    change_entity_url(train.pop(), lambda url: f"n{url}")
    change_entity_url(train.pop(), lambda url: url.replace("/wiki/", "//wiki/"))
    change_entity_url(train.pop(), lambda url: f"[{url}]")
    change_entity_url(train.pop(), percent_encode_title)

    # What stands twice: within a split, and in two splits, where it leaks.
    share_image(train.pop(), train.pop(), describe)
    repeat_mention(train.pop())
    repeat_caption(train.pop(), test.pop())
    copy_image(train.pop(), test.pop(), describe, images.plain_jpeg)
    # In the dark noise outweighs the drawing, and a perceptual hash no longer knows a near copy.
    bright = next(row for row in train if row.scene.attributes.light == "noon")
    train.remove(bright)
    copy_image(bright, valid.pop(), describe, images.coarser_jpeg)

    # Sentences that are not what they should be.
    misspell_mention(train.pop())
    empty_caption(train.pop())


def _rows_with_one_mention(rows: list[Row]) -> list[Row]:
    return [row for row in rows if len(row.mentions) == 1]


def change_suffix(row: Row, suffix: str, encode: images.Encoding) -> None:
    """Give the image another kind of file."""
    row.image_url = row.image_url.removesuffix(".jpg") + suffix
    row.encode = encode


def percent_encode_image_name(row: Row) -> None:
    """Put characters into the image's name that a URL must escape."""
    folder, _, name = row.image_url.rpartition("/")
    row.image_url = f"{folder}/{quote('Men‘s day, ' + unquote(name))}"


def percent_encode_title(url: str) -> str:
    """Escape the title, spaces and all, in an entity's URL."""
    folder, _, title = url.rpartition("/")
    return f"{folder}/{quote(title.replace('_', ' '))}"


def change_entity_url(row: Row, change: Callable[[str], str]) -> None:
    """Write the entity of the only mention in another way."""
    (mention,) = row.mentions
    row.mentions = [replace(mention, entity_url=change(mention.entity_url))]


def share_image(row: Row, other: Row, describe: Describe) -> None:
    """Let one image serve two captions."""
    other.scene, other.image_url, other.topic = row.scene, row.image_url, row.topic
    other.sentence, other.mentions = describe(row.scene)


def repeat_mention(row: Row) -> None:
    """Record the same mention twice."""
    row.mentions = row.mentions * 2


def repeat_caption(row: Row, other: Row) -> None:
    """Put a caption into a second split, there with another image."""
    other.sentence, other.mentions, other.topic = row.sentence, row.mentions, row.topic


def copy_image(row: Row, other: Row, describe: Describe, encode: images.Encoding) -> None:
    """Put an image into a second split, under another URL and with another caption."""
    other.scene, other.topic, other.encode = row.scene, row.topic, encode
    other.sentence, other.mentions = describe(row.scene)


def misspell_mention(row: Row) -> None:
    """Write a mention's text otherwise than the sentence does."""
    (mention,) = row.mentions
    row.mentions = [replace(mention, text=mention.text[:-1] + "x")]


def empty_caption(row: Row) -> None:
    """Leave an image without a caption."""
    row.sentence, row.mentions = "", []
