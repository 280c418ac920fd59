"""Versioned lists of mentions and their candidate entities, for task link.

A mention and an entity are lists of row numbers, as pairs are: into the texts that the task needs
and into the images. Texts, each unique one once:

* ``context``: "mention [SEP] sentence", with the tokenizer's own separator;
* ``mention``: the mention alone;
* ``entity``: "name [SEP] description", or the name where there is no description;
* ``phrases``: attribute phrases of an image, where the release has any.

Candidates are the release's own, in its order, never with the gold put among them; what a protocol
adds is added, and named so, by the evaluation.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsim.data.items import surface_form
from mmsim.data.release import SPLITS
from mmsim.data.tables import (
    ENTITIES,
    IMAGES,
    INSTANCES,
    TEXTS,
    read_table,
    write_table,
)
from mmsim.errors import UserError
from mmsim.files import replacing_folder, write_json

if TYPE_CHECKING:
    import pandas as pd

NONE = -1
"""Row number of what is not there: no usable image, no phrases, no gold entity."""

SEPARATOR = " [SEP] "
"""BERT's separator: its tokenizer makes one token of it."""

COLUMNS = (
    *("instance", "text", "name_text", "image", "objects", "scene"),
    *("surface", "form", "sentence", "type", "topic", "entity", "nil", "candidates"),
)


class _Texts:
    """Row numbers of unique texts, in order of first sight."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[int, str]] = {}

    def __call__(self, content: str, kind: str) -> int:
        if not content:
            return NONE
        return self.rows.setdefault(content, (len(self.rows), kind))[0]


def write_mentions(prepared: Path, destination: Path) -> pd.DataFrame:
    """Write ``{train,valid,test}.parquet``, the entities and the texts to `destination`.

    Columns of a split, a row for each mention: ``instance`` (row number in the prepared table),
    ``text``, ``name_text``, ``objects``, ``scene`` (row numbers of texts), ``image`` (row number;
    each of these -1 where there is none), ``surface``, ``form``, ``sentence``, ``type``, ``topic``,
    ``entity`` (row number of the gold, -1 for NIL), ``nil``, ``candidates`` (row numbers of
    entities). ``entities.parquet``: entity, title, description, text, image, mentions.
    ``texts.parquet``: see `mmsim.data.tables.TEXTS`.

    Returns
    -------
    DataFrame
        By split: mentions, with an image, NIL, with the gold among the candidates, candidates.

    Raises
    ------
    UserError
        If a split has no mention with a gold entity, or valid or test no candidates.
    """
    import pandas as pd

    instances = read_table(prepared / INSTANCES)
    images = read_table(prepared / IMAGES)
    entities = read_table(prepared / ENTITIES).sort_values("entity", ignore_index=True)
    sentences = read_table(prepared / TEXTS).set_index("text")["content"]
    usable = set(images.loc[images["status"] == "ok", "image"])
    phrases = images.set_index("image")[["objects", "scene"]].to_dict("index")
    row_of = dict(zip(entities["title"], entities["entity"], strict=True))
    texts = _Texts()
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for mention in instances[instances["mention"] != ""].to_dict("records"):
        surface, sentence = str(mention["mention"]), str(sentences[mention["text"]])
        shown = mention["image"] in usable
        seen = phrases[mention["image"]] if shown else {"objects": "", "scene": ""}
        rows[mention["split"]].append(
            {
                "instance": mention["instance"],
                "text": texts(f"{surface}{SEPARATOR}{sentence}", "context"),
                "name_text": texts(surface, "mention"),
                "image": mention["image"] if shown else NONE,
                "objects": texts(seen["objects"], "phrases"),
                "scene": texts(seen["scene"], "phrases"),
                "surface": surface,
                "form": surface_form(surface),
                "sentence": sentence,
                "type": mention["type"],
                "topic": mention["topic"],
                "entity": mention["entity"],
                "nil": mention["nil"],
                "candidates": [row_of[title] for title in dict.fromkeys(mention["candidates"])],
            }
        )
    tables = {split: pd.DataFrame(rows[split], columns=list(COLUMNS)) for split in SPLITS}
    described = zip(entities["title"], entities["description"], strict=True)
    entities["text"] = [texts(_entity_text(title, text), "entity") for title, text in described]
    entities["image"] = entities["image"].where(entities["image"].isin(usable), NONE)
    summary = _summary(tables)
    _require_mentions(summary)
    with replacing_folder(destination) as folder:
        for split, table in tables.items():
            write_table(folder / f"{split}.parquet", table)
        write_table(folder / ENTITIES, entities)
        write_table(folder / TEXTS, _text_table(texts))
        write_json(folder / "summary.json", {"mentions": summary.to_dict("records")})
    return summary


def _entity_text(title: str, description: str) -> str:
    return f"{title}{SEPARATOR}{description}" if description else title


def _text_table(texts: _Texts) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        [
            {"text": row, "group": row, "content": content, "kind": kind}
            for content, (row, kind) in texts.rows.items()
        ]
    )


def _summary(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "split": split,
                "mentions": len(table),
                "with_image": int((table["image"] != NONE).sum()),
                "nil": int(table["nil"].sum()),
                "gold_among_candidates": sum(
                    gold in listed
                    for gold, listed in zip(table["entity"], table["candidates"], strict=True)
                ),
                "candidates": sum(map(len, table["candidates"])),
            }
            for split, table in tables.items()
        ]
    )


def _require_mentions(summary: pd.DataFrame) -> None:
    linked = summary["mentions"] - summary["nil"]
    empty = summary["split"][linked == 0].tolist()
    if empty:
        raise UserError(
            f"task link finds no mention with a gold entity in {', '.join(empty)}; it needs some "
            f"in every split"
        )
    # Training can do without, with the golds of its batches.
    bare = summary["split"][(summary["candidates"] == 0) & (summary["split"] != "train")].tolist()
    if bare:
        raise UserError(
            f"task link finds no candidates in {', '.join(bare)}: the release needs the "
            f"mention-level files with candidates, wikidiverse_w_cands/<split>_w_10cands.json"
        )
