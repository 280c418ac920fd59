"""The typed schema of params.yaml: the one place where a parameter is checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mmsim.catalogue import CATALOGUE, NOTHING
from mmsim.errors import UserError
from mmsim.paths import PARAMS

Share = Annotated[float, Field(ge=0, le=1)]
AtLeastOne = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A block of params.yaml: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataParams(Section):
    """Where the data comes from and what is left out."""

    source: Literal["sample", "wikidiverse", "folder"]
    folder: str | None
    images: Literal["archive", "urls"]
    entity_images: bool
    sample_captions: Annotated[int, Field(ge=60, le=100_000)]
    sample_entities: Annotated[int, Field(ge=10, le=10_000)]
    sample_seed: Annotated[int, Field(ge=0)]
    near_image_bits: Annotated[int, Field(ge=0, le=16)]
    max_excluded: Share
    max_pairs_per_entity: AtLeastOne

    @model_validator(mode="after")
    def _folder_is_given(self) -> DataParams:
        if self.source == "folder" and not self.folder:
            raise ValueError("source is 'folder', so data.folder must name the folder")
        return self


class ImageParams(Section):
    """The frozen image encoder."""

    encoder: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
    weights: Annotated[str, Field(min_length=1)]


class TextParams(Section):
    """The frozen text encoder."""

    encoder: Annotated[str, Field(min_length=1)]
    weights: Literal["auto", "random", "pretrained"]
    max_length: Annotated[int, Field(ge=8, le=512)]


class PairsParams(Section):
    """How pairs are drawn."""

    same_entity: bool
    negatives: Annotated[int, Field(ge=1, le=20)]
    seed: Annotated[int, Field(ge=0)]
    seed_protocol: bool


class ModelParams(Section):
    """The head over cached features."""

    name: Literal["siamese", "dedup", "mimic", "m3el", "dwe"]
    attention: Literal["none", "base", "cross"]
    without: str
    width: Annotated[int, Field(ge=8, le=4096)]
    unit_width: Annotated[int, Field(ge=8, le=4096)]
    heads: Annotated[int, Field(ge=1, le=64)]
    head_width: Annotated[int, Field(ge=1, le=512)]
    dropout: Annotated[float, Field(ge=0, le=0.95)]

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelParams:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _part_is_known(self) -> ModelParams:
        allowed = [NOTHING, *CATALOGUE[self.name].parts]
        if self.without not in allowed:
            raise ValueError(
                f"without is {self.without!r}; {self.name} allows {', '.join(allowed)}"
            )
        return self


class TrainParams(Section):
    """How a head is trained."""

    loss: Literal["contrastive", "bce", "infonce"]
    margin: Annotated[float, Field(gt=0, le=2)]
    temperature: Annotated[float, Field(gt=0)]
    epochs: AtLeastOne
    patience: AtLeastOne
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _seeds_differ(self) -> TrainParams:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds} repeat a seed")
        return self


class LinkParams(Section):
    """Task link: what heads read of a text, training candidates, the scoring of the pool."""

    max_tokens: Annotated[int, Field(ge=8, le=512)]
    candidates: Annotated[int, Field(ge=0, le=1000)]
    rerank: AtLeastOne


class EvaluateParams(Section):
    """What is measured beside the figures."""

    draws: Annotated[int, Field(ge=100, le=100_000)]
    emap_pairs: Annotated[int, Field(ge=0, le=2000)]
    folds: Annotated[int, Field(ge=0, le=20)]

    @field_validator("folds")
    @classmethod
    def _train_valid_and_test(cls, folds: int) -> int:
        if folds in (1, 2):
            raise ValueError(f"found {folds}; 0 for none, or 3 or more: each fold is tested once")
        return folds


class RuntimeParams(Section):
    """How the work is done, never what comes out."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$")]
    workers: AtLeastOne | None
    image_batch_size: AtLeastOne | None
    text_batch_size: AtLeastOne | None
    precision: Literal["auto", "float32", "bfloat16"]

    @property
    def worker_count(self) -> int:
        """Threads that read and decode: `workers`, else one for each core, 16 at most."""
        return self.workers or min(os.cpu_count() or 1, 16)


class Params(Section):
    """All of params.yaml."""

    data: DataParams
    image: ImageParams
    text: TextParams
    task: Literal["match", "pair", "link"]
    pairs: PairsParams
    link: LinkParams
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams
    runtime: RuntimeParams

    @model_validator(mode="after")
    def _seed_protocol_pairs(self) -> Params:
        if self.pairs.seed_protocol and self.task != "pair":
            raise ValueError("pairs.seed_protocol is true, so task must be pair")
        return self

    @model_validator(mode="after")
    def _head_is_for_the_task(self) -> Params:
        allowed = [name for name, head in CATALOGUE.items() if self.task in head.tasks]
        if self.model.name not in allowed:
            raise ValueError(
                f"model.name is {self.model.name!r}, which is not for task {self.task}; "
                f"allowed are {', '.join(allowed)}"
            )
        if self.task == "link" and self.evaluate.folds:
            raise ValueError("evaluate.folds is for the tasks match and pair; set it to 0 for link")
        return self


def load_params(path: Path = PARAMS) -> Params:
    """Read and check the parameters.

    Raises
    ------
    UserError
        If the file is missing, is no YAML, or holds an unknown key or a wrong value; the
        message names every such key, what was found and what is allowed.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; run this in the project's top folder") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid YAML: {error}") from error
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"  {_describe(problem)}" for problem in error.errors())
        raise UserError(f"{path} holds wrong parameters, nothing was run:\n{problems}") from error


def _describe(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "(top level)"
    if problem["type"] == "extra_forbidden":
        return f"{key}: is no parameter of mmsim; see the comments in {PARAMS}"
    if problem["type"] == "missing":
        return f"{key}: is missing; see the comments in {PARAMS}"
    allowed = problem["msg"].removeprefix("Value error, ")
    found = "" if problem["type"] == "value_error" else f"found {problem['input']!r}; "
    return f"{key}: {found}{allowed[0].lower()}{allowed[1:]}"
