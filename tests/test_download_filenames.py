"""The name of an image file, after its address."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsim.data.filenames import image_file_name

BASE = "https://upload.wikimedia.org/wikipedia/commons/a/ab/"


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("segment", "suffix"),
    [
        ("Photo.jpg", ".jpg"),
        ("Photo.JPG", ".JPG"),
        ("Photo.jpeg", ".jpeg"),
        ("Photo.JPEG", ".JPEG"),
        ("Photo.png", ".png"),
        ("Photo.PNG", ".PNG"),
        ("Flag.svg", ".png"),
        ("Flag.SVG", ".png"),
        ("Dots.in.name.v2.jpg", ".jpg"),
        ("330px-Flag.svg.png", ".png"),
        ("Film.ogv.jpg", ".jpg"),
        ("Anim.gif", "Anim.gif"),
        ("Scan.tif", "Scan.tif"),
        ("no_extension", "no_extension"),
        ("Mixed.Jpg", "Mixed.Jpg"),
    ],
)
def test_suffix_follows_the_release(segment, suffix):
    assert image_file_name(BASE + segment) == md5(segment) + suffix


def test_the_segment_is_hashed_as_it_stands_in_the_address():
    assert image_file_name(BASE + "S%C3%A3o_Paulo.jpg") == md5("S%C3%A3o_Paulo.jpg") + ".jpg"


@pytest.mark.parametrize("tail", ["?20100101", "#top", "?width=5#a/b.png", "?path=/x/y.gif"])
def test_queries_and_fragments_are_no_part_of_the_name(tail):
    assert image_file_name(BASE + "Photo.jpg" + tail) == md5("Photo.jpg") + ".jpg"


@given(st.text(st.sampled_from("abA.%20_-jpgJPGpnesvifSV"), min_size=1, max_size=30))
def test_the_suffix_begins_at_the_last_known_extension_or_is_all(segment):
    known = (".jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG", ".svg", ".SVG")
    starts = [at for at in range(1, len(segment)) if segment.startswith(known, at)]
    suffix = segment[max(starts, default=0) :].replace(".svg", ".png").replace(".SVG", ".png")
    assert image_file_name(BASE + segment) == md5(segment) + suffix
