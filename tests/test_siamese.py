import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import ATTENTIONS, TASKS, config, head, memory, pair_batch, sequences, with_padding

from mmsim.errors import UserError
from mmsim.models.batch import PairBatch, Sequences
from mmsim.models.checkpoint import CONFIG, WEIGHTS, from_pretrained, save_pretrained
from mmsim.models.siamese import Siamese, Standardize

each_attention = pytest.mark.parametrize("attention", ATTENTIONS)
each_task = pytest.mark.parametrize("task", TASKS)


def parameter_count(attention, task, sizes):
    with torch.device("meta"):
        model = Siamese(config(attention, task, **sizes))
    return sum(value.numel() for value in model.parameters())


def assert_same_size(task, image_dim, text_dim, width, heads, head_width):
    sizes = {
        "image_dim": image_dim,
        "text_dim": text_dim,
        "width": width,
        "heads": heads,
        "head_width": head_width,
    }
    counts = [parameter_count(attention, task, sizes) for attention in ATTENTIONS]
    assert max(counts) <= 1.02 * min(counts)


@each_task
@pytest.mark.parametrize(
    "sizes", [(2048, 768, 512, 4, 32), (2048, 384, 512, 4, 32), (512, 128, 64, 4, 16)]
)
def test_the_three_attentions_have_the_same_number_of_parameters(task, sizes):
    assert_same_size(task, *sizes)


@given(
    st.sampled_from(TASKS),
    st.sampled_from([512, 2048]),
    st.integers(64, 1024),
    st.integers(1, 16),
    st.integers(1, 16),
    st.integers(8, 128),
)
@settings(max_examples=60, deadline=None)
def test_so_they_do_for_any_widths(task, image_dim, text_dim, share, heads, head_width):
    assert_same_size(task, image_dim, text_dim, max(share * heads, 8 * heads), heads, head_width)


@each_task
@each_attention
def test_every_parameter_learns(attention, task):
    model = head(attention, task)
    scores = model(pair_batch())
    (scores * torch.tensor([1.0, -2.0, 3.0, -1.0, 0.5])).sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@each_task
@each_attention
def test_score_all_scores_each_query_against_each_candidate(attention, task):
    model, batch = head(attention, task), pair_batch()
    scores = model.score_all(batch)
    rows, columns = torch.cartesian_prod(torch.arange(5), torch.arange(5)).T
    crossed = dataclasses.replace(
        batch,
        query_image=batch.query_image[rows],
        query_text=batch.query_text[rows],
        candidate_image=batch.candidate_image[columns],
        candidate_text=batch.candidate_text[columns],
    )
    torch.testing.assert_close(scores.flatten(), model(crossed), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores.diagonal(), model(batch), atol=1e-5, rtol=1e-5)


@each_task
@each_attention
def test_scores_are_cosines_that_differ(attention, task):
    scores = head(attention, task)(pair_batch())
    assert scores.shape == (5,)
    assert scores.abs().max() <= 1 + 1e-6
    assert scores.std() > 1e-3


@each_task
@each_attention
def test_a_single_pair_scores_as_it_does_among_others(attention, task):
    model, batch = head(attention, task), pair_batch()
    scores = model(batch)
    for i in range(5):
        alone = PairBatch(
            batch.images,
            batch.texts,
            *(getattr(batch, name)[i : i + 1] for name in POSITIONS),
        )
        torch.testing.assert_close(model(alone), scores[i : i + 1])
        torch.testing.assert_close(model.score_all(alone), scores[i].reshape(1, 1))


POSITIONS = ["query_image", "query_text", "candidate_image", "candidate_text"]


@each_attention
def test_two_captioned_images_score_the_same_either_way_round(attention):
    model, batch = head(attention, "pair"), pair_batch()
    swapped = dataclasses.replace(
        batch,
        query_image=batch.candidate_image,
        query_text=batch.candidate_text,
        candidate_image=batch.query_image,
        candidate_text=batch.query_text,
    )
    torch.testing.assert_close(model(swapped), model(batch))
    torch.testing.assert_close(model.score_all(swapped), model.score_all(batch).T)


@each_attention
def test_a_captioned_image_is_most_similar_to_itself(attention):
    model, batch = head(attention, "pair"), pair_batch()
    itself = dataclasses.replace(
        batch, candidate_image=batch.query_image, candidate_text=batch.query_text
    )
    torch.testing.assert_close(model(itself), torch.ones(5))


@each_task
@each_attention
def test_padding_changes_no_score(attention, task):
    model, batch = head(attention, task), pair_batch()
    padded = dataclasses.replace(
        batch, images=with_padding(batch.images, 1e3), texts=with_padding(batch.texts, -1e3)
    )
    torch.testing.assert_close(model(padded), model(batch))
    torch.testing.assert_close(model.score_all(padded), model.score_all(batch))


@each_task
@each_attention
@given(st.permutations(range(5)), st.permutations(range(4)), st.permutations(range(4)))
@settings(max_examples=5, deadline=None)
def test_the_order_of_pairs_and_items_changes_no_score(attention, task, order, images, texts):
    model, batch = head(attention, task), pair_batch()
    new_image = torch.tensor(images).argsort()
    new_text = torch.tensor(texts).argsort()
    shuffled = PairBatch(
        Sequences(batch.images.values[images], batch.images.mask[images]),
        Sequences(batch.texts.values[texts], batch.texts.mask[texts]),
        new_image[batch.query_image[order]],
        new_text[batch.query_text[order]],
        new_image[batch.candidate_image[order]],
        new_text[batch.candidate_text[order]],
    )
    torch.testing.assert_close(model(shuffled), model(batch)[order])


@each_task
@each_attention
def test_dropout_acts_in_training_only(attention, task):
    model, batch = head(attention, task, dropout=0.5), pair_batch()
    assert torch.equal(model(batch), model(batch))
    assert not torch.equal(model.train()(batch), model(batch))


def test_without_dropout_training_scores_as_evaluation_does():
    model, batch = head(dropout=0.0), pair_batch()
    assert torch.equal(model(batch), model.train()(batch))


@each_attention
def test_only_cross_attention_embeds_an_image_in_the_light_of_its_caption(attention):
    model = head(attention)
    images, texts = sequences([4, 3], 6), sequences([2, 3], 5)
    other_texts = sequences([2, 3], 5, seed=9)
    in_step = torch.arange(2), torch.arange(2)
    embedded = model.image(images, texts, in_step)
    beside_another = model.image(images, other_texts, in_step)
    assert torch.equal(embedded, beside_another) == (attention != "cross")


@pytest.mark.parametrize(
    ("attention", "shapes"),
    [
        ("none", {}),
        ("base", {"image": (2, 2, 4, 4), "text": (2, 2, 3, 3)}),
        ("cross", {"image": (2, 2, 4, 3), "text": (2, 2, 3, 4)}),
    ],
)
def test_attention_weights_say_what_attends_to_what(attention, shapes):
    weights = head(attention).attention_weights(sequences([4, 3], 6), sequences([2, 3], 5))
    assert {name: tuple(value.shape) for name, value in weights.items()} == shapes
    for value in weights.values():
        torch.testing.assert_close(value.sum(-1), torch.ones(value.shape[:-1]))
        assert value.std(-1).min() > 1e-4


def test_standardised_channels_have_mean_0_and_deviation_1():
    features = memory(images=9)
    layer = Standardize(6)
    layer.set_statistics(*features.image_statistics(torch.arange(9)))
    values = layer(features.images(torch.arange(9)).values, torch.ones(9, 1, 6)).flatten(0, 1)
    torch.testing.assert_close(values.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.std(0, correction=0), torch.ones(6), atol=1e-4, rtol=0)


def test_text_statistics_are_over_real_tokens_of_the_texts_asked_for():
    features = memory(texts=9)
    mean, deviation = features.text_statistics(torch.tensor([2, 5]))
    start = features.offsets
    tokens = torch.cat([features.tokens[start[i] : start[i + 1]] for i in (2, 5)]).float()
    torch.testing.assert_close(mean, tokens.mean(0))
    torch.testing.assert_close(deviation, tokens.std(0, correction=0))


def test_a_constant_channel_is_centred_and_not_blown_up():
    layer = Standardize(2)
    layer.set_statistics(torch.tensor([3.0, 3.0]), torch.tensor([0.0, 2.0]))
    values = layer(torch.tensor([[[3.5, 7.0]]]), torch.ones(1, 1, 2))
    assert values.tolist() == [[[0.5, 2.0]]]


def test_statistics_are_saved_and_not_trained():
    model = head()
    assert "standardize_image.mean" in model.state_dict()
    assert not any(name.startswith("standardize") for name, _ in model.named_parameters())


@each_task
@each_attention
def test_a_saved_head_scores_as_before(attention, task, tmp_path):
    model, batch = head(attention, task, dropout=0.3), pair_batch()
    model.standardize_image.set_statistics(torch.randn(6), torch.rand(6) + 0.5)
    save_pretrained(model, tmp_path / "head")
    loaded = from_pretrained(tmp_path / "head")
    assert loaded.config == model.config
    assert torch.equal(loaded(batch), model(batch))


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_missing_file_of_a_head_is_named(name, tmp_path):
    save_pretrained(head(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError) as raised:
        from_pretrained(tmp_path)
    assert str(tmp_path / name) in str(raised.value)
    assert "dvc repro train" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (CONFIG, b"{"),
        (CONFIG, b"[]"),
        (CONFIG, b'{"task": "match"}'),
        (CONFIG, b'{"name": "siamese", "depth": 3}'),
        (CONFIG, b"\xff\xfe"),
        (WEIGHTS, b""),
        (WEIGHTS, b"no tensors at all"),
    ],
)
def test_a_broken_file_of_a_head_is_the_users_to_mend(name, content, tmp_path):
    save_pretrained(head(), tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as raised:
        from_pretrained(tmp_path)
    assert str(tmp_path) in str(raised.value)


def test_cut_off_weights_are_refused(tmp_path):
    save_pretrained(head(), tmp_path)
    path = tmp_path / WEIGHTS
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match="holds no model"):
        from_pretrained(tmp_path)


def test_weights_of_another_configuration_are_refused(tmp_path):
    save_pretrained(head(), tmp_path)
    weights = (tmp_path / WEIGHTS).read_bytes()
    save_pretrained(head(width=16), tmp_path)
    (tmp_path / WEIGHTS).write_bytes(weights)
    with pytest.raises(UserError, match="size mismatch"):
        from_pretrained(tmp_path)
