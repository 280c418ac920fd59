import csv
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from link_tables import NIL, instances, tables
from linking import IMAGE_DIM, TEXT_DIM, ablations, link_config
from synthetic import config as siamese_config
from synthetic import memory, rules

from mmsim.comparison.compare import LINKING, compare
from mmsim.comparison.revisions import Revision
from mmsim.comparison.text import comparison_text
from mmsim.errors import UserError
from mmsim.evaluation.linking.evaluate import evaluate
from mmsim.evaluation.linking.lists import candidate_lists, gold_entities
from mmsim.evaluation.linking.ranks import list_ranks
from mmsim.evaluation.measure import measure_links
from mmsim.models.checkpoint import (
    from_pretrained,
    load_link_head,
    load_pair_head,
    save_pretrained,
    seed_folder,
)
from mmsim.models.dedup import Dedup, DedupConfig
from mmsim.models.link_heads import LINK_HEADS, build_link_head
from mmsim.models.siamese import Siamese
from mmsim.params import load_params
from mmsim.reporting import link_blocks as link_blocks_module
from mmsim.reporting.link_blocks import link_blocks
from mmsim.reporting.table import flatten, metrics_table, summary_table
from mmsim.training.link_loop import train_linker
from mmsim.training.link_scoring import entity_index, pool_ranks, score_lists
from mmsim.training.mentions import LinkData
from mmsim.training.scoring import score_pairs

ENTITIES, IMAGES, TEXTS = 12, 10, 40
RERANK = 4
PROTOCOLS = ("candidates", "injected", "pool")
BASELINES = {
    *("memorised_form", "string_similarity", "tfidf"),
    *("frozen_cosine", "list_order", "chance"),
}


def several(first, count, images=True):
    """Mentions in order; one in seven is NIL, and one in five has not its gold in the list."""
    rows = []
    for number in range(first, first + count):
        gold = NIL if number % 7 == 6 else (5 * number + number // 12) % ENTITIES
        own = [(number + step) % ENTITIES for step in (0, 2, 7, 9)]
        own = [entity for entity in own if entity != gold]
        if number % 5 != 4 and gold != NIL:
            own.insert(number % 3, gold)
        about = {"text": ENTITIES + number % 28, "name_text": ENTITIES + (3 * number) % 28}
        about["image"] = number % IMAGES if images and number % 3 else -1
        about["surface"] = f"Form {number % 8}"
        rows.append((gold, own, about))
    return rows


def world(images=True, **given):
    """Tables of mentions whose features are made of random numbers."""
    splits = {"train": several(0, 28, images), "valid": several(28, 14, images)}
    splits |= {"test": several(42, 35, images)} | given
    found = tables(**splits, titles=[f"Form {number}" for number in range(ENTITIES)])
    if images:
        found.entities["image"] = [number % IMAGES if number % 2 else -1 for number in range(12)]
    return found


def write(folder, found):
    """The lists of the pairs stage."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "valid", "test"):
        getattr(found, split).to_parquet(folder / f"{split}.parquet")
    found.entities.to_parquet(folder / "entities.parquet")
    return folder


def linked(folder, found):
    features = memory(IMAGES, TEXTS, 0, IMAGE_DIM, TEXT_DIM)
    return LinkData.load(write(folder, found), ("train", "valid", "test"), features, 512)


def head(name="siamese", seed=0, **changes):
    torch.manual_seed(seed)
    return build_link_head(link_config(name, **changes)).eval()


def prior_table(*rows):
    return pd.DataFrame(rows, columns=["mention", "entity", "probability"])


PRIORS = prior_table(("Form 1", 3, 0.7), ("Form 2", 4, 1.0))


def run(data, found, models=None, priors=PRIORS, draws=40):
    models = models or {seed: head(seed=seed) for seed in (0, 1)}
    return evaluate(models, data, instances(found), priors, draws, RERANK)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    found = world()
    return found, linked(tmp_path_factory.mktemp("lists"), found)


@pytest.fixture(scope="module", params=LINK_HEADS)
def evaluated(request, small):
    found, data = small
    models = {seed: head(request.param, seed) for seed in (3, 8)}
    return models, run(data, found, models)


def test_the_metrics_are_all_there_and_finite(evaluated):
    models, evaluation = evaluated
    metrics = evaluation.metrics
    assert set(metrics) == {
        *("valid", "link", "baselines", "margins", "controls"),
        *("slices", "ambiguity", "counts"),
    }
    assert set(PROTOCOLS) < set(metrics["link"])
    assert set(metrics["baselines"]) == BASELINES | {"prior"}
    assert set(metrics["controls"]) == {"no_image", "shuffled_image"}
    leaves = dict(flatten(metrics))
    assert len(leaves) > 200
    assert all(
        isinstance(value, (int, float)) and math.isfinite(value) for value in leaves.values()
    )
    assert metrics["counts"] == {
        "valid_mentions": 14,
        "test_mentions": 35,
        "test_entities": evaluation.ranks.query("direction == 'candidates'")["cluster"].nunique(),
        "nil_mentions": 5,
        "entities": ENTITIES,
        "seeds": 2,
        "parameters": sum(value.numel() for value in models[3].parameters()),
    }


def mean_reciprocal_rank(scores, table, injected=False):
    lists, gold = candidate_lists(table), gold_entities(table)
    if not injected:
        lists, scores = lists[:, :-1], scores[:, :-1]
    counted = gold >= 0 if injected else gold >= NIL
    return (1 / list_ranks(scores[counted], lists[counted], gold[counted])).mean()


def test_the_figures_are_those_of_the_heads_scores(small, evaluated):
    (found, data), (models, evaluation) = small, evaluated
    test, valid = data.splits["test"], data.splits["valid"]
    lists = torch.from_numpy(candidate_lists(found.test))
    of_valid = torch.from_numpy(candidate_lists(found.valid))

    def mean_of(values):
        return pytest.approx(np.mean([values(model) for model in models.values()]))

    def scored(mentions, table, lists, **how):
        return mean_of(
            lambda model: mean_reciprocal_rank(
                score_lists(model, data, mentions, lists).numpy(), table, **how
            )
        )

    metrics = evaluation.metrics
    assert metrics["valid"]["mrr"] == scored(valid, found.valid, of_valid)
    assert metrics["link"]["candidates"]["mrr"] == scored(test, found.test, lists)
    assert metrics["link"]["injected"]["mrr"] == scored(test, found.test, lists, injected=True)
    changed = {"no_image": test.without_images(), "shuffled_image": test.with_shuffled_images()}
    for name, mentions in changed.items():
        assert metrics["controls"][name]["mrr"] == scored(mentions, found.test, lists)
    pool = [
        pool_ranks(model, data, test, entity_index(model, data), RERANK)
        for model in models.values()
    ]
    reciprocal = np.mean([1 / ranks for ranks, _ in pool])
    assert metrics["link"]["pool"]["mrr"] == pytest.approx(reciprocal)
    retrieved = np.mean([there for _, there in pool])
    exact = all(model.exact_global for model in models.values())
    assert retrieved == 1 if exact else 0 < retrieved < 1
    assert metrics["link"]["pool"]["retrieved"] == pytest.approx(retrieved)


def test_predictions_hold_the_scores_of_each_seed(small, evaluated):
    (found, data), (models, evaluation) = small, evaluated
    for split in ("valid", "test"):
        table = getattr(found, split)
        lists = torch.from_numpy(candidate_lists(table))
        for seed, model in models.items():
            rows = evaluation.predictions
            rows = rows[(rows["split"] == split) & (rows["seed"] == seed)]
            scores = score_lists(model, data, data.splits[split], lists)
            np.testing.assert_allclose(rows["score"], scores[lists >= 0], rtol=1e-6)


def test_without_images_there_is_no_control(tmp_path):
    found = world(images=False)
    metrics = run(linked(tmp_path, found), found).metrics
    assert metrics["controls"] == {}
    assert all(math.isfinite(value) for _, value in flatten(metrics))


def test_images_of_entities_alone_give_no_control(tmp_path):
    found = world(images=False)
    found.entities["image"] = 1
    assert run(linked(tmp_path, found), found).metrics["controls"] == {}


def test_where_there_is_no_prior_there_is_no_such_baseline(small):
    found, data = small
    metrics = run(data, found, priors=prior_table()).metrics
    for place in (metrics, metrics["link"]["injected"]):
        assert set(place["baselines"]) == BASELINES
    assert "prior" not in metrics["margins"]


SPELLINGS = (
    *(("Paris", 0, 0.4), ("PARIS", 0, 0.4)),  # the sum is no share of anything
    *(("Paris", 1, 0.5), ("PARIS", 1, 0.1)),
    ("Rome", 0, 1.0),
)


@pytest.mark.parametrize("rows", [SPELLINGS, SPELLINGS[::-1]])
def test_of_spellings_of_one_form_the_likeliest_stands(tmp_path, rows):
    about = {"surface": "pAris", "text": 20, "name_text": 21}
    splits = {"train": [(2, [1], about)], "valid": [(2, [1], about)]}
    found = world(False, **splits, test=[(1, [0, 1, 2], about)])
    metrics = run(linked(tmp_path, found), found, priors=prior_table(*rows)).metrics
    prior = metrics["baselines"]["prior"]
    assert (prior["hits_at_1"], prior["mrr"]) == (1, 1)
    assert metrics["link"]["pool"]["baselines"]["prior"]["hits_at_1"] == 1


def test_measured_are_the_heads_and_tables_that_lie_in_the_project(small, tmp_path, monkeypatch):
    found, data = small
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    changes = {
        "train": params.train.model_copy(update={"seeds": [0, 1]}),
        "link": params.link.model_copy(update={"rerank": RERANK, "max_tokens": 512}),
        "evaluate": params.evaluate.model_copy(update={"draws": 40}),
    }
    monkeypatch.chdir(tmp_path)
    write(Path("data/pairs"), found)
    Path("data/prepared").mkdir()
    instances(found).to_parquet("data/prepared/instances.parquet")
    PRIORS.to_parquet("data/prepared/priors.parquet")
    for seed in (0, 1):
        save_pretrained(head(seed=seed), seed_folder(Path("models"), seed))
    measured = measure_links(params.model_copy(update=changes), data.memory)
    assert measured.metrics == run(data, found).metrics


@pytest.mark.parametrize(
    ("name", "without"), [(name, part) for name in LINK_HEADS for part in ablations(name)]
)
def test_a_linking_head_that_is_saved_and_loaded_scores_the_same(small, tmp_path, name, without):
    _, data = small
    model = head(name, without=without)
    model.inputs.text.set_statistics(torch.randn(TEXT_DIM), torch.rand(TEXT_DIM) + 0.5)
    model.inputs.image.set_statistics(torch.randn(IMAGE_DIM), torch.rand(IMAGE_DIM) + 0.5)
    save_pretrained(model, tmp_path)
    torch.manual_seed(1)
    loaded = load_link_head(tmp_path)
    assert loaded.config == model.config
    assert type(loaded) is type(model) and not loaded.training
    test = data.splits["test"]
    first, second = (score_lists(m, data, test, test.candidates) for m in (model, loaded))
    assert torch.equal(first, second)
    assert torch.equal(entity_index(model, data), entity_index(loaded, data))


def dedup(without="nothing"):
    torch.manual_seed(0)
    return Dedup(DedupConfig(6, 5, 8, 0.1, without)).eval()


@pytest.mark.parametrize("without", ablations("dedup"))
def test_a_dedup_head_that_is_saved_and_loaded_scores_the_same(tmp_path, without):
    model, features = dedup(without), memory()
    torch.nn.init.normal_(model.weight)
    torch.nn.init.normal_(model.offset)
    save_pretrained(model, tmp_path)
    loaded = load_pair_head(tmp_path)
    assert isinstance(loaded, Dedup) and loaded.config == model.config
    rows = torch.from_numpy(np.random.default_rng(0).integers(0, 12, (20, 4)))
    first, second = (score_pairs(m, features, rows) for m in (model, loaded))
    assert (first == second).all() and len(set(first)) > 1


def test_a_head_of_the_other_kind_is_refused(tmp_path):
    for name in LINK_HEADS:
        save_pretrained(head(name), tmp_path / name)
        assert load_link_head(tmp_path / name).config.name == name
        with pytest.raises(UserError, match=f"{name} holds a linking head"):
            load_pair_head(tmp_path / name)
    for name, model in {"for_pairs": Siamese(siamese_config()), "dedup": dedup()}.items():
        save_pretrained(model, tmp_path / name)
        assert type(load_pair_head(tmp_path / name)) is type(model)
        with pytest.raises(UserError, match=f"{name} holds a head for pairs"):
            load_link_head(tmp_path / name)


@pytest.mark.parametrize("change", [('"link"', '"join"'), ('"m3el"', '"mimic"'), ("8", "9")])
def test_a_head_that_is_not_its_configuration_is_refused(tmp_path, change):
    save_pretrained(head("m3el"), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(UserError, match="holds no model of this version"):
        from_pretrained(tmp_path)


def revision(name, evaluation):
    rows = evaluation.predictions
    return Revision(name, rows[rows["split"] == "test"].reset_index(drop=True), evaluation.ranks)


@pytest.fixture(scope="module")
def trained(small):
    """Heads that know the test mentions by heart: better than any other can be."""
    found, data = small
    cheat = LinkData(
        {"train": data.splits["test"], "valid": data.splits["test"]},
        *(data.entities, data.entity_table, data.memory, 512),
    )
    chosen = rules(epochs=25, patience=25, batch_size=16)
    config, statistics = link_config("siamese", width=32), cheat.statistics()
    how = torch.float32, lambda epoch: None
    models = {
        seed: train_linker(config, chosen, 4, statistics, cheat, seed, *how).model
        for seed in (0, 1)
    }
    return run(data, found, models, draws=200)


@pytest.fixture(scope="module")
def compared(small, trained):
    found, data = small
    untrained = run(data, found, {seed: head(seed=seed) for seed in (5, 6)}, draws=200)
    revisions = [revision("untrained", untrained), revision("trained", trained)]
    (comparison,) = compare(revisions, draws=200)
    return revisions, (untrained, trained), comparison


NAMES = [f"{protocol}.{name}" for protocol in PROTOCOLS for name in LINKING]


def test_mentions_are_compared_in_each_protocol(compared):
    revisions, evaluations, comparison = compared
    assert all(revision.links for revision in revisions)
    assert (comparison.unit, comparison.count) == ("mentions", 35)
    assert comparison.clusters == evaluations[0].metrics["counts"]["test_entities"]
    assert comparison.seeds == (2, 2)
    assert sorted(comparison.differences) == sorted(comparison.adjusted) == sorted(NAMES)
    randomised = {f"randomisation.{protocol}" for protocol in PROTOCOLS}
    assert set(comparison.secondary) == {"mcnemar"} | randomised
    for name, found in comparison.differences.items():
        protocol, figure = name.split(".")
        first, second = (e.metrics["link"][protocol][figure] for e in evaluations)
        assert (found.a, found.b) == pytest.approx((first, second))
        assert found.difference == pytest.approx(second - first)
        assert found.low <= found.difference <= found.high


def test_what_is_clearly_better_is_found_above(compared):
    revisions, _, comparison = compared
    assert comparison.differences["candidates.mrr"].difference > 0.2
    assert comparison.adjusted["candidates.mrr"] < 0.01
    assert comparison.secondary["mcnemar"] < 0.01
    assert all(comparison.secondary[f"randomisation.{protocol}"] < 0.01 for protocol in PROTOCOLS)
    headline = "MRR of protocol candidates: "
    assert f"{headline}trained is above untrained" in comparison_text(comparison)
    (back,) = compare(revisions[::-1], draws=200)
    assert f"{headline}untrained is below trained" in comparison_text(back)


def test_between_a_revision_and_itself_there_is_no_difference(compared):
    revisions, _, _ = compared
    again = Revision("again", revisions[1].predictions, revisions[1].ranks)
    (comparison,) = compare([revisions[1], again], draws=200)
    for found in comparison.differences.values():
        assert (found.difference, found.p) == (0, 1)
    assert set(comparison.adjusted.values()) == {1}
    assert set(comparison.secondary.values()) == {1}
    assert "no difference is shown" in comparison_text(comparison)


def test_the_text_shows_every_protocol_and_what_was_compared(compared):
    _, _, comparison = compared
    text = comparison_text(comparison)
    lines = text.splitlines()
    assert lines[0] == (
        f"trained against untrained: 35 test mentions of {comparison.clusters} entities, "
        f"2 and 2 seeds"
    )
    for name, found in comparison.differences.items():
        (line,) = [line for line in lines if line.split()[0] == name]
        assert f"{found.a:.4f} ±" in line and f"{found.b:.4f} ±" in line
        assert f"{found.difference:+.4f}" in line
    assert "auc" not in text.lower()
    assert "secondary, which take mentions as independent" in text


def test_linked_mentions_and_pairs_are_not_compared(compared):
    links = compared[0][0]
    rows = len(links.predictions)
    pairs = Revision(
        "pairs",
        pd.DataFrame({"pair": range(rows), "label": 1, "seed": 0, "score": 0.5, "called": True}),
        links.ranks.iloc[:0],
    )
    for revisions in ([links, pairs], [pairs, links]):
        with pytest.raises(UserError, match="one links mentions, the other tells pairs apart"):
            compare(revisions, draws=20)


def test_other_candidates_are_not_compared(compared):
    first = compared[0][0]
    rows = first.predictions.copy()
    rows.loc[rows["instance"] == rows["instance"].iloc[0], "candidate"] = 0
    with pytest.raises(UserError, match=r"\d of 1\d\d test rows differ"):
        compare([first, Revision("other", rows, first.ranks)], draws=20)
    fewer = rows[rows["instance"] != rows["instance"].iloc[0]]
    with pytest.raises(UserError, match=r"they have 1\d\d and 1\d\d test rows"):
        compare([first, Revision("fewer", fewer, first.ranks)], draws=20)


def rows_of(text):
    """Cells of each row by its name; spread and interval stand behind the figure."""
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}


def test_the_summary_holds_the_main_figures_of_each_protocol(trained):
    metrics = trained.metrics
    text = summary_table(metrics)
    assert text.startswith(f"35 test mentions of {metrics['counts']['test_entities']} entities, 2")
    rows, link = rows_of(text), metrics["link"]
    wanted = {f"link.{p}.{f}": link[p][f] for p in PROTOCOLS for f in ("hits_at_1", "mrr")}
    wanted["valid.mrr"] = metrics["valid"]["mrr"]
    wanted["link.candidates.candidate_recall"] = link["candidates"]["candidate_recall"]
    wanted["link.pool.retrieved"] = link["pool"]["retrieved"]
    for name in BASELINES | {"prior"}:
        wanted[f"baselines.{name}.mrr"] = metrics["baselines"][name]["mrr"]
    for protocol in ("injected", "pool"):
        for name, found in link[protocol]["baselines"].items():
            wanted[f"link.{protocol}.baselines.{name}.mrr"] = found["mrr"]
    for name in ("no_image", "shuffled_image"):
        wanted[f"controls.{name}.mrr"] = metrics["controls"][name]["mrr"]
    assert {name: rows[name][0] for name in wanted} == {n: f"{v:.4f}" for n, v in wanted.items()}
    # Baselines have no seeds.
    assert "±" in rows["link.candidates.mrr"] and "±" not in rows["baselines.chance.mrr"]


def test_the_table_of_all_figures_leaves_none_out(trained):
    rows = rows_of(metrics_table(trained.metrics))
    leaves = dict(flatten(trained.metrics))
    sides = ("_std", "_low", "_high")
    assert set(rows) - {"figure"} == {name for name in leaves if not name.endswith(sides)}
    for name in NAMES:
        key = f"link.{name}"
        low, high = leaves[f"{key}_low"], leaves[f"{key}_high"]
        expected = f"{leaves[key]:.4f} ± {leaves[f'{key}_std']:.4f} [{low:.4f}, {high:.4f}]"
        assert " ".join(rows[key]) == expected


@pytest.fixture
def page(trained, tmp_path, monkeypatch):
    """The blocks by their headings, "" for what stands before any."""
    path = tmp_path / "ambiguous_forms.csv"
    trained.forms.to_csv(path, index=False)
    monkeypatch.setattr(link_blocks_module, "AMBIGUOUS_FORMS", path)
    summary = {"mentions": [{"split": "train", "mentions": 1234, "with_image": 5, "nil": 0}]}
    html = "".join(link_blocks(trained.metrics, summary))
    parts = re.split(r"<h2>(.*?)</h2>", html)
    return dict(zip(["", *parts[1::2]], parts[::2], strict=True)), path


def cells(block, place=0):
    """The rows of a table of a block, as lists of texts."""
    return [
        re.findall(r"<t[hd]>(.*?)</t[hd]>", row, re.DOTALL)
        for row in re.findall(r"<tr>(.*?)</tr>", block.split("<table>")[1 + place], re.DOTALL)
    ]


def test_the_page_has_one_table_a_protocol_with_its_own_figures(page, trained):
    blocks, _ = page
    headings = [heading for heading in blocks if heading.startswith("Protocol")]
    assert headings == [f"Protocol {name}" for name in PROTOCOLS]
    metrics = trained.metrics
    for name in PROTOCOLS:
        names, *rows = cells(blocks[f"Protocol {name}"])
        assert {"Hits@1", "Hits@5", "MRR"} < set(names)
        figures = metrics["link"][name]
        of_rules = metrics["baselines"] if name == "candidates" else figures["baselines"]
        wanted = {"head": figures} | {key.replace("_", " "): f for key, f in of_rules.items()}
        assert [row[0] for row in rows] == list(wanted)
        for row in rows:
            found = dict(zip(names, row, strict=True))
            for title, key in (("Hits@1", "hits_at_1"), ("Hits@5", "hits_at_5"), ("MRR", "mrr")):
                assert found[title].startswith(f"{wanted[row[0]][key]:.3f}")
    share = f"scored in full: {metrics['link']['pool']['retrieved']:.3f}"
    assert [name for name, block in blocks.items() if share in block] == ["Protocol pool"]
    assert "35 test mentions" in blocks[""]
    counts = metrics["counts"]
    assert f"{counts['nil_mentions']} of them of entities in no knowledge base" in blocks[""]


def test_the_page_says_what_the_head_adds_to_each_baseline_and_how_much_can_be_reached(
    page, trained
):
    blocks, _ = page
    block = blocks["Protocol candidates"]
    _, *rows = cells(block, 1)
    margins = trained.metrics["margins"]
    assert [row[0].replace(" ", "_") for row in rows] == list(margins)
    for row, found in zip(rows, margins.values(), strict=True):
        assert row[1].startswith(f"{found['mrr']:.3f}")
    recall = trained.metrics["link"]["candidates"]["candidate_recall"]
    assert 0.5 < recall < 0.9
    assert f"{recall:.3f}" in block.split("<table>")[1].split("</table>")[1]
    assert [blocks[f"Protocol {name}"].count("<table>") for name in PROTOCOLS] == [2, 1, 1]


def test_the_page_has_controls_slices_forms_and_mentions(page, trained):
    blocks, path = page
    headings = list(blocks)[4:]
    assert [heading.split()[0] for heading in headings] == [
        "What",
        "Slices",
        "Ambiguous",
        "Mentions",
    ]
    controls, slices, forms, mentions = (cells(blocks[heading]) for heading in headings)
    assert [row[0] for row in controls[1:]] == ["no image", "shuffled image"]
    assert [row[0].replace(" ", "_") for row in slices[1:]] == list(trained.metrics["slices"])
    with path.open(newline="") as file:
        expected = [row["form"] for row in csv.DictReader(file)]
    assert len(expected) > 1
    assert [row[0] for row in forms[1:]] == expected
    assert mentions == [["split", "mentions", "with image", "nil"], ["train", "1,234", "5", "0"]]


def test_the_page_of_texts_alone_has_no_controls(tmp_path, monkeypatch):
    found = world(images=False)
    evaluation = run(linked(tmp_path, found), found)
    path = tmp_path / "forms.csv"
    evaluation.forms.iloc[:0].to_csv(path, index=False)
    monkeypatch.setattr(link_blocks_module, "AMBIGUOUS_FORMS", path)
    html = "".join(link_blocks(evaluation.metrics, {"mentions": [{"split": "test", "nil": 1}]}))
    assert "without the mentions' images" not in html
    # Three protocols, margins, slices and mentions: of no ambiguous form there is no table.
    assert html.count("<table>") == html.count("</table>") == 6
    assert "link.candidates.mrr" in summary_table(evaluation.metrics)
