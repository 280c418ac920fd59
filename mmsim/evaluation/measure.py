"""From the parameters and the pipeline's files to what is evaluated."""

from __future__ import annotations

from mmsim.data.release import SPLITS
from mmsim.data.tables import ENTITIES, IMAGES, INSTANCES, PRIORS, TEXTS, read_table
from mmsim.evaluation import evaluate as pairs
from mmsim.evaluation.inputs import Data
from mmsim.evaluation.linking import evaluate as linking
from mmsim.evaluation.linking.report import LinkEvaluation
from mmsim.models.checkpoint import load_link_head, load_pair_head, seed_folder
from mmsim.params import Params
from mmsim.paths import MODELS, PAIRS, PREPARED
from mmsim.training.memory import FeatureMemory, Pairs
from mmsim.training.mentions import LinkData


def measure_pairs(params: Params, memory: FeatureMemory) -> pairs.Evaluation:
    """Evaluate the trained heads of task match or pair."""
    device = memory.grid.device
    train, valid, test = (Pairs.load(PAIRS / f"{split}.parquet", memory) for split in SPLITS)
    names = (INSTANCES, IMAGES, TEXTS, ENTITIES)
    return pairs.evaluate(
        {seed: load_pair_head(seed_folder(MODELS, seed)).to(device) for seed in params.train.seeds},
        memory,
        Data(params.task, train, valid, test, *(read_table(PREPARED / name) for name in names)),
        draws=params.evaluate.draws,
        emap_pairs=params.evaluate.emap_pairs,
    )


def measure_links(params: Params, memory: FeatureMemory) -> LinkEvaluation:
    """Evaluate the trained heads of task link."""
    device = memory.grid.device
    return linking.evaluate(
        {seed: load_link_head(seed_folder(MODELS, seed)).to(device) for seed in params.train.seeds},
        LinkData.load(PAIRS, SPLITS, memory, params.link.max_tokens),
        read_table(PREPARED / INSTANCES),
        read_table(PREPARED / PRIORS),
        draws=params.evaluate.draws,
        rerank=params.link.rerank,
    )
