import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import sequences, with_padding

from mmsim.models.attention import AttentionPool, TokenPool, masked_mean
from mmsim.models.batch import Sequences

QUERY_DIM, CONTEXT_DIM = 4, 3


def attention_pool(width=6, heads=2, head_width=3, seed=0):
    torch.manual_seed(seed)
    return AttentionPool(QUERY_DIM, CONTEXT_DIM, width, heads, head_width).double()


def queries(lengths=(2, 5, 1), seed=1):
    return sequences(lengths, QUERY_DIM, seed, torch.float64)


def contexts(lengths=(4, 1, 3), seed=2):
    return sequences(lengths, CONTEXT_DIM, seed, torch.float64)


def every_pair(own, other):
    grid = torch.cartesian_prod(torch.arange(len(own.mask)), torch.arange(len(other.mask)))
    return grid[:, 0], grid[:, 1]


def tokens(items, row):
    return items.values[row][items.mask[row]]


@torch.no_grad()
def written_out(pool, query, context):
    """The equations of the module, for the real tokens of one pair, one head after another."""
    outputs = []
    for head in range(pool.heads):
        rows = slice(head * pool.head_width, (head + 1) * pool.head_width)
        share = pool.value.out_features // pool.heads
        value = context @ pool.value.weight[head * share : (head + 1) * share].T
        q, k = query @ pool.query.weight[rows].T, context @ pool.key.weight[rows].T
        per_query = []
        for i in range(len(query)):
            logits = [float(q[i] @ k[j]) / math.sqrt(pool.head_width) for j in range(len(context))]
            weights = [math.exp(logit) for logit in logits]
            mixed = sum(w * value[j] for j, w in enumerate(weights)) / sum(weights)
            per_query.append(mixed)
        outputs.append(sum(per_query) / len(per_query))
    return torch.cat(outputs)


lengths = st.lists(st.integers(1, 5), min_size=1, max_size=3)


@given(lengths, lengths, st.sampled_from([1, 2, 3]), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_attention_is_the_equation_of_its_docstring(query_lengths, context_lengths, heads, w, seed):
    pool = attention_pool(6, heads, w, seed)
    own, other = queries(query_lengths, seed), contexts(context_lengths, seed + 1)
    pairs = every_pair(own, other)
    expected = [
        written_out(pool, tokens(own, i), tokens(other, j)) for i, j in zip(*pairs, strict=True)
    ]
    torch.testing.assert_close(pool(own, other, pairs), torch.stack(expected))


def test_attention_agrees_with_that_of_torch():
    pool = attention_pool()
    own, other = queries(), contexts()
    in_step = torch.arange(3), torch.arange(3)

    def split(projected):
        return projected.unflatten(-1, (pool.heads, -1)).transpose(1, 2)

    attended = torch.nn.functional.scaled_dot_product_attention(
        split(pool.query(own.values)),
        split(pool.key(other.values)),
        split(pool.value(other.values)),
        attn_mask=other.mask[:, None, None, :],
    )
    attended = attended.transpose(1, 2).flatten(2)
    expected = torch.stack([attended[i][own.mask[i]].mean(0) for i in range(3)])
    torch.testing.assert_close(pool(own, other, in_step), expected)


def test_all_pairs_equals_each_pair_by_itself():
    pool = attention_pool()
    own, other = queries((2, 5, 1, 3)), contexts()
    expected = pool(own, other, every_pair(own, other)).unflatten(0, (4, 3))
    torch.testing.assert_close(pool.all_pairs(own, other), expected)


@pytest.mark.parametrize("value", [1e3, -1e3])
def test_padding_never_leaks(value):
    pool = attention_pool()
    own, other = queries(), contexts()
    padded = with_padding(own, value), with_padding(other, value)
    pairs = every_pair(own, other)
    torch.testing.assert_close(pool(*padded, pairs), pool(own, other, pairs))
    torch.testing.assert_close(pool.all_pairs(*padded), pool.all_pairs(own, other))
    torch.testing.assert_close(masked_mean(padded[0]), masked_mean(own))
    token_pool = TokenPool(QUERY_DIM, 60, 6).double()
    torch.testing.assert_close(token_pool(padded[0]), token_pool(own))


def test_padding_gets_no_gradient():
    pool = attention_pool()
    own, other = queries(), contexts()
    for items in (own, other):
        items.values.requires_grad_()
    pool(own, other, every_pair(own, other)).square().sum().backward()
    for items in (own, other):
        assert (items.values.grad[~items.mask] == 0).all()
        assert (items.values.grad[items.mask] != 0).any(-1).all()


@given(st.permutations(range(5)), st.permutations(range(4)))
@settings(max_examples=15, deadline=None)
def test_the_order_of_tokens_does_not_matter(query_order, context_order):
    pool = attention_pool()
    own, other = queries((2, 5, 3)), contexts((4, 1, 3))
    shuffled = (
        Sequences(own.values[:, query_order], own.mask[:, query_order]),
        Sequences(other.values[:, context_order], other.mask[:, context_order]),
    )
    pairs = every_pair(own, other)
    torch.testing.assert_close(pool(*shuffled, pairs), pool(own, other, pairs))


@given(st.permutations(range(9)))
@settings(max_examples=15, deadline=None)
def test_the_order_of_pairs_is_the_order_of_the_output(order):
    pool = attention_pool()
    own, other = queries(), contexts()
    rows, columns = every_pair(own, other)
    torch.testing.assert_close(
        pool(own, other, (rows[order], columns[order])), pool(own, other, (rows, columns))[order]
    )


def test_weights_are_shares_of_the_real_context_tokens():
    pool = attention_pool()
    own, other = queries(), contexts()
    pairs = every_pair(own, other)
    weights = pool.weights(own, other, pairs)
    assert weights.shape == (9, pool.heads, 5, 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(9, pool.heads, 5).double())
    there = other.mask[pairs[1], None, None, :].expand_as(weights)
    assert (weights[~there] == 0).all()
    assert (weights[there] > 0).all()


def test_weights_differ_between_tokens_queries_heads_and_items():
    pool = attention_pool()
    own, other = queries((5, 5)), contexts((4, 4))
    weights = pool.weights(own, other, every_pair(own, other))
    for axis in range(weights.ndim):
        assert weights.std(axis).min() > 1e-4


def test_each_token_of_the_control_counts_by_itself():
    torch.manual_seed(0)
    pool = TokenPool(QUERY_DIM, 60, 6).double()
    first, second = queries((2, 5), seed=1), queries((3, 1), seed=2)
    counts = first.mask.sum(1), second.mask.sum(1)
    joined = Sequences(
        torch.cat([first.values, second.values], dim=1),
        torch.cat([first.mask, second.mask], dim=1),
    )
    weighted = counts[0][:, None] * pool(first) + counts[1][:, None] * pool(second)
    torch.testing.assert_close(pool(joined), weighted / (counts[0] + counts[1])[:, None])


def test_with_attention_tokens_do_not_count_by_themselves():
    pool = AttentionPool(QUERY_DIM, QUERY_DIM, 6, 2, 3).double()
    first, second = queries((2, 5), seed=1), queries((2, 5), seed=2)
    in_step = torch.arange(2), torch.arange(2)
    joined = Sequences(
        torch.cat([first.values, second.values], dim=1),
        torch.cat([first.mask, second.mask], dim=1),
    )
    alone = (pool(first, first, in_step) + pool(second, second, in_step)) / 2
    assert (pool(joined, joined, in_step) - alone).abs().max() > 1e-3


def test_the_mean_is_over_the_tokens_that_are_there():
    items = Sequences(
        torch.tensor([[[1.0, 2.0], [3.0, 6.0], [99.0, 99.0]]]), torch.tensor([[True, True, False]])
    )
    assert masked_mean(items).tolist() == [[2.0, 4.0]]
