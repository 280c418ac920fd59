"""Text features: what is stored, that neither padding nor batches show, and which encoders go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from mmsim.errors import UserError
from mmsim.features.extract import Extraction
from mmsim.features.extract_texts import extract_texts, text_source
from mmsim.features.store import FeatureStore
from mmsim.features.text_encoder import load_text_encoder
from mmsim.features.verify import verify_store
from mmsim.features.vocabulary import SPECIAL_TOKENS, tokenizer_from_texts
from mmsim.params import RuntimeParams, TextParams

CPU = torch.device("cpu")
CONTENTS = [
    "A judge leaves the court.",
    "court",
    "The mayor of the town opens the new bridge over the river, and the old one is closed",
    "",
    "RIVER   bridge",
    "A judge of the court meets the mayor of the town near the river " * 3,
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMSIM_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of two layers and its tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = tokenizer_from_texts(CONTENTS)
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    torch.manual_seed(3)
    BertModel(config).save_pretrained(folder)
    return folder


def runtime(batch_size: int | None = 2) -> RuntimeParams:
    return RuntimeParams(
        device="cpu",
        workers=1,
        image_batch_size=None,
        text_batch_size=batch_size,
        precision="float32",
    )


def table_of(contents: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"text": range(len(contents)), "content": contents, "kind": "caption"})


def params_of(bert: Path, max_length: int = 24) -> TextParams:
    return TextParams(encoder=str(bert), weights="pretrained", max_length=max_length)


def run(
    contents: list[str], bert: Path, destination: Path, batch_size: int | None = 2
) -> Extraction:
    table = table_of(contents)
    return extract_texts(table, destination, params_of(bert), "pretrained", runtime(batch_size))


def tokens_of(store: FeatureStore, row: int) -> np.ndarray:
    start, stop = store.read("offsets", row, row + 2)
    return store.read("tokens", start, stop).astype(np.float32)


def test_a_row_holds_the_states_of_all_its_tokens_the_first_and_their_mean(
    bert: Path, tmp_path: Path
) -> None:
    done = run(CONTENTS, bert, tmp_path / "text.zarr")
    store = FeatureStore.open(tmp_path / "text.zarr")
    assert store.read("tokens").dtype == np.float16
    assert store.read("first").shape == store.read("mean").shape == (6, 16)
    for row in range(6):
        tokens = tokens_of(store, row)
        np.testing.assert_array_equal(tokens[0], store.read("first", row, row + 1)[0])
        mean = store.read("mean", row, row + 1)[0]
        np.testing.assert_allclose(tokens.mean(axis=0), mean, atol=2e-3)
    assert len(tokens_of(store, 3)) == 2  # the empty text: only the special tokens
    assert done.manifest.counts["ok"] == 6


def test_features_are_those_of_transformers_for_each_text_alone(bert: Path, tmp_path: Path) -> None:
    run(CONTENTS, bert, tmp_path / "text.zarr", batch_size=6)
    store = FeatureStore.open(tmp_path / "text.zarr")
    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert).eval()
    for row, content in enumerate(CONTENTS):
        inputs = tokenizer(content, truncation=True, max_length=24, return_tensors="pt")
        with torch.inference_mode():
            expected = model(**inputs).last_hidden_state[0].numpy()
        np.testing.assert_allclose(tokens_of(store, row), expected, atol=2e-3)


def test_long_texts_are_cut_and_counted(bert: Path, tmp_path: Path) -> None:
    done = run(CONTENTS, bert, tmp_path / "text.zarr")
    store = FeatureStore.open(tmp_path / "text.zarr")
    assert np.diff(store.read("offsets")).max() == 24
    assert done.manifest.truncated == 1
    assert store.read("truncated").tolist() == [0, 0, 0, 0, 0, 1]


def test_batch_size_and_order_do_not_change_features(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(CONTENTS, bert, tmp_path / "one.zarr", batch_size=1)
    monkeypatch.setenv("MMSIM_CACHE_DIR", str(tmp_path / "other"))
    assert run(CONTENTS[::-1], bert, tmp_path / "many.zarr", batch_size=6).encoded == 6
    one, many = (FeatureStore.open(tmp_path / f"{name}.zarr") for name in ("one", "many"))
    for row in range(6):
        np.testing.assert_allclose(tokens_of(one, row), tokens_of(many, 5 - row), atol=2e-3)


def test_only_added_texts_are_encoded(bert: Path, tmp_path: Path) -> None:
    run([CONTENTS[4], CONTENTS[0]], bert, tmp_path / "text.zarr")
    before = tokens_of(FeatureStore.open(tmp_path / "text.zarr"), 1)
    assert run(CONTENTS, bert, tmp_path / "text.zarr").encoded == 4
    after = tokens_of(FeatureStore.open(tmp_path / "text.zarr"), 0)
    np.testing.assert_array_equal(after, before)


def test_another_longest_text_shares_no_finished_work(bert: Path, tmp_path: Path) -> None:
    run(CONTENTS, bert, tmp_path / "text.zarr")
    shorter = params_of(bert, max_length=12)
    table = table_of(CONTENTS)
    done = extract_texts(table, tmp_path / "text.zarr", shorter, "pretrained", runtime())
    assert done.encoded == 6


def test_an_overflowing_row_has_a_status_and_zeros_and_its_neighbours_are_untouched(
    bert: Path, tmp_path: Path
) -> None:
    model = BertModel.from_pretrained(bert)
    number = AutoTokenizer.from_pretrained(bert).convert_tokens_to_ids("mayor")
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[number] = float("nan")
    model.save_pretrained(tmp_path / "overflowing")
    AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path / "overflowing")
    done = run(CONTENTS, tmp_path / "overflowing", tmp_path / "text.zarr", batch_size=6)
    store = FeatureStore.open(tmp_path / "text.zarr")
    assert done.manifest.counts["overflow"] == 2
    assert [failure["row"] for failure in done.manifest.failures] == [2, 5]
    assert not tokens_of(store, 2).any()
    assert tokens_of(store, 0).any()
    assert np.isfinite(store.read("tokens")).all()


def test_verify_passes_on_a_good_store_and_names_a_changed_row(bert: Path, tmp_path: Path) -> None:
    import zarr

    run(CONTENTS, bert, tmp_path / "text.zarr")
    source = text_source(table_of(CONTENTS), params_of(bert), "pretrained", runtime(3))
    assert verify_store(tmp_path / "text.zarr", source).reencoded == 6
    group = zarr.open_group(str(tmp_path / "text.zarr"), mode="r+")
    start, stop = np.asarray(group["offsets"][2:4])
    group["tokens"][start:stop] = -np.asarray(group["tokens"][start:stop])
    with pytest.raises(UserError, match="rows 2 are not what the encoder gives"):
        verify_store(tmp_path / "text.zarr", source)


def test_random_weights_need_no_network_and_are_the_same_each_time() -> None:
    hashes = set()
    for contents in (CONTENTS, CONTENTS[::-1]):
        torch.manual_seed(len(hashes))
        encoder = load_text_encoder(
            "bert-base-uncased", "random", 100, contents, CPU, torch.float32
        )
        hashes.add(str(encoder.describe()))
        assert encoder.width == 768
    assert len(hashes) == 1


def test_random_weights_of_a_folder_have_its_shape_but_not_its_weights(bert: Path) -> None:
    random = load_text_encoder(str(bert), "random", 24, [], CPU, torch.float32)
    trained = load_text_encoder(str(bert), "pretrained", 24, [], CPU, torch.float32)
    assert random.width == trained.width == 16
    assert random.weights_sha256 != trained.weights_sha256


def test_the_vocabulary_is_special_tokens_characters_then_words_by_frequency() -> None:
    vocabulary = tokenizer_from_texts(["bb a bb", "Ab"]).get_vocab()
    entries = sorted(vocabulary, key=vocabulary.__getitem__)
    assert entries == [*SPECIAL_TOKENS, "a", "b", "##a", "##b", "bb", "ab"]


def test_upper_case_and_white_space_make_no_difference_to_the_vocabulary() -> None:
    tokenizer = tokenizer_from_texts(CONTENTS)
    assert tokenizer("RIVER \n bridge")["input_ids"] == tokenizer("river bridge")["input_ids"]


@pytest.mark.parametrize(
    ("encoder", "weights", "message"),
    [
        ("/nowhere/bert", "pretrained", "names the folder /nowhere/bert, which is missing"),
        ("./bert", "random", "names the folder bert, which is missing"),
        ("roberta-base", "random", "random weights are for bert-base-uncased or a local folder"),
    ],
)
def test_encoders_that_do_not_exist_are_refused_with_what_is_allowed(
    encoder: str, weights: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_text_encoder(encoder, weights, 100, [], CPU, torch.float32)


def test_a_hub_that_cannot_be_reached_is_an_error_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"'nobody/nothing' cannot be loaded.*HF_ENDPOINT"):
        load_text_encoder("nobody/nothing", "pretrained", 100, [], CPU, torch.float32)


def test_a_longest_text_beyond_the_encoders_positions_is_refused(bert: Path) -> None:
    with pytest.raises(UserError, match=r"max_length is 100, but .* takes at most 64"):
        load_text_encoder(str(bert), "pretrained", 100, [], CPU, torch.float32)
