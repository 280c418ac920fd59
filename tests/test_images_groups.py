from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmsim.data.images import group_near_images, inspect_image


def partition(groups):
    members = defaultdict(set)
    for image, group in enumerate(groups):
        members[group].add(image)
    return {frozenset(images) for images in members.values()}


def partition_by_merging(hashes, max_bits):
    """Start with each image alone; merge two groups for each near pair."""
    groups = [{image} for image in range(len(hashes))]
    for i in range(len(hashes)):
        for j in range(i):
            if hashes[i] and hashes[j]:
                bits = (int(hashes[i], 16) ^ int(hashes[j], 16)).bit_count()
                if bits <= max_bits and groups[i] is not groups[j]:
                    groups[i] |= groups[j]
                    for image in groups[i]:
                        groups[image] = groups[i]
    return {frozenset(group) for group in groups}


# Hashes with few bits set, in the low and the high half, so that many are near each other.
some_hash = st.integers(0, 255).map(lambda bits: f"{(bits & 15) << 60 | bits >> 4:016x}")
some_hashes = st.lists(st.one_of(st.just(""), some_hash), max_size=15)


@given(some_hashes, st.integers(0, 4))
@settings(max_examples=150, deadline=None)
def test_groups_are_those_of_merging_near_pairs(hashes, max_bits):
    groups = group_near_images(hashes, max_bits)
    assert len(groups) == len(hashes)
    assert partition(groups) == partition_by_merging(hashes, max_bits)


def test_the_ends_of_a_chain_are_one_group():
    hashes = ["0000000000000000", "000000000000000f", "00000000000000ff", "ffffffff00000000"]
    assert partition(group_near_images(hashes, 4)) == {frozenset({0, 1, 2}), frozenset({3})}
    assert len(partition(group_near_images(hashes, 3))) == 4


def test_images_without_a_hash_are_alone():
    assert len(partition(group_near_images(["", "", ""], 16))) == 3


def test_with_no_bits_allowed_only_equal_hashes_are_one():
    hashes = ["8000000000000000", "8000000000000001", "8000000000000000"]
    assert partition(group_near_images(hashes, 0)) == {frozenset({0, 2}), frozenset({1})}


def test_no_images_have_no_groups():
    assert group_near_images([], 4).tolist() == []


def picture(seed):
    blocks = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((320, 240), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("seed", range(4))
def test_a_picture_saved_smaller_greyer_or_in_another_format_is_the_same_picture(seed, tmp_path):
    original = picture(seed)
    original.save(tmp_path / "original.png")
    original.save(tmp_path / "coarse.jpg", quality=40)
    original.resize((160, 120)).save(tmp_path / "small.png")
    original.convert("L").save(tmp_path / "grey.png")
    picture(seed + 100).save(tmp_path / "other.png")
    names = ["original.png", "coarse.jpg", "small.png", "grey.png", "other.png"]
    hashes = [inspect_image(tmp_path / name).perceptual_hash for name in names]
    assert partition(group_near_images(hashes, 4)) == {frozenset({0, 1, 2, 3}), frozenset({4})}


def test_blank_pictures_are_never_near_each_other(tmp_path):
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white.png")
    Image.new("RGB", (64, 64), (250, 250, 250)).save(tmp_path / "whitish.png")
    hashes = [
        inspect_image(tmp_path / name).perceptual_hash for name in ("white.png", "whitish.png")
    ]
    assert hashes == ["", ""]
