"""Image features: what is stored, for good and for broken images, and that nothing is lost."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights, resnet18

from mmsim.errors import UserError
from mmsim.features.decode import decode
from mmsim.features.extract import Extraction
from mmsim.features.extract_images import extract_images, image_source
from mmsim.features.image_encoder import load_image_encoder
from mmsim.features.rows import Failure
from mmsim.features.status import Status
from mmsim.features.store import FeatureStore
from mmsim.features.verify import verify_store
from mmsim.params import ImageParams, RuntimeParams

RESNET18 = ImageParams(encoder="resnet18", weights="random")
CPU = torch.device("cpu")


def runtime(batch_size: int = 4, workers: int = 2) -> RuntimeParams:
    return RuntimeParams(
        device="cpu",
        workers=workers,
        image_batch_size=batch_size,
        text_batch_size=None,
        precision="float32",
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMSIM_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten photographs of noise, each with other content."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(10):
        noise = np.random.default_rng(number).integers(0, 255, (60, 80, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number:02}.png")
    return folder


def table_of(folder: Path) -> pd.DataFrame:
    files = sorted(folder.iterdir())
    return pd.DataFrame(
        {
            "image": range(len(files)),
            "name": [file.name for file in files],
            "sha256": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
            "status": "ok",
            "reason": "",
        }
    )


def run(images: pd.DataFrame, folder: Path, how: RuntimeParams | None = None) -> Extraction:
    return extract_images(
        images, folder, folder.parent / "image.zarr", RESNET18, "random", how or runtime()
    )


def store_of(folder: Path) -> FeatureStore:
    return FeatureStore.open(folder.parent / "image.zarr")


def test_a_row_is_a_grid_of_49_cells_and_their_mean_in_float16(folder: Path) -> None:
    run(table_of(folder), folder)
    grid, pooled = store_of(folder).read("grid"), store_of(folder).read("pooled")
    assert grid.shape == (10, 49, 512)
    assert pooled.shape == (10, 512)
    assert grid.dtype == pooled.dtype == np.float16
    means = grid.astype(np.float32).mean(axis=1)
    np.testing.assert_allclose(means, pooled, rtol=2e-3, atol=2e-3)


def test_features_are_those_of_torchvisions_own_model_and_transforms(
    folder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    model = resnet18().eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    extract_images(
        table_of(folder),
        folder,
        folder.parent / "image.zarr",
        RESNET18,
        str(tmp_path / "weights.pth"),
        runtime(),
    )
    transform = ResNet18_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode(), Image.open(folder / "03.png") as image:
        trunk = torch.nn.Sequential(*list(model.children())[:-2])
        expected = trunk(transform(image)[None])[0].flatten(1).T.numpy()
    stored = store_of(folder).read("grid", 3, 4)[0].astype(np.float32)
    assert np.corrcoef(stored.ravel(), expected.ravel())[0, 1] > 0.9999
    np.testing.assert_allclose(stored, expected, atol=0.01 * expected.max())


def test_broken_and_missing_images_are_rows_with_status_and_reason(folder: Path) -> None:
    truncated = (folder / "01.png").read_bytes()[:5000]
    (folder / "01.png").write_bytes(truncated)
    (folder / "02.png").write_text("<html>404</html>")
    images = table_of(folder)
    (folder / "03.png").unlink()
    images.loc[4, ["sha256", "status", "reason"]] = ["", "unsupported", "an SVG"]
    done = run(images, folder)
    assert done.manifest.counts == {
        "ok": 6, "missing": 1, "corrupt": 2, "unsupported": 1, "overflow": 0
    }  # fmt: skip
    expected = [Status.CORRUPT, Status.CORRUPT, Status.MISSING, Status.UNSUPPORTED]
    assert store_of(folder).read("status", 1, 5).tolist() == expected
    assert [failure["row"] for failure in done.manifest.failures] == [1, 2, 3, 4]
    assert "03.png" in done.manifest.failures[2]["reason"]
    assert done.manifest.failures[3]["reason"] == "an SVG"


def test_a_missing_file_is_tried_again_and_a_corrupt_one_is_not(folder: Path) -> None:
    (folder / "02.png").write_text("no image")
    images = table_of(folder)
    content = (folder / "03.png").read_bytes()
    (folder / "03.png").unlink()
    run(images, folder)
    (folder / "03.png").write_bytes(content)
    done = run(images, folder)
    assert done.encoded == 1
    assert done.manifest.counts["ok"] == 9
    assert [failure["row"] for failure in done.manifest.failures] == [2]


def test_a_file_that_changed_after_it_was_prepared_is_not_encoded_under_its_old_content(
    folder: Path,
) -> None:
    images = table_of(folder)
    (folder / "05.png").write_bytes((folder / "06.png").read_bytes())
    done = run(images, folder)
    assert done.manifest.failures[0]["row"] == 5
    assert "changed" in done.manifest.failures[0]["reason"]


def test_a_second_run_encodes_nothing_and_gives_the_same_features(folder: Path) -> None:
    first = run(table_of(folder), folder)
    before = store_of(folder).read("grid")
    second = run(table_of(folder), folder)
    assert (first.encoded, second.encoded) == (10, 0)
    assert second.manifest == first.manifest
    np.testing.assert_array_equal(store_of(folder).read("grid"), before)


def test_only_added_images_are_encoded_even_when_rows_move(folder: Path) -> None:
    whole = table_of(folder)
    run(whole.iloc[[7, 2, 5]], folder)
    before = store_of(folder).read("pooled")
    done = run(whole, folder)
    assert done.encoded == 7
    np.testing.assert_array_equal(store_of(folder).read("pooled")[[7, 2, 5]], before)


def test_an_image_that_stands_in_two_rows_is_encoded_once(folder: Path) -> None:
    images = pd.concat([table_of(folder)] * 2, ignore_index=True)
    done = run(images, folder)
    assert done.encoded == 10
    pooled = store_of(folder).read("pooled")
    np.testing.assert_array_equal(pooled[:10], pooled[10:])


def test_other_weights_share_no_finished_work(folder: Path, tmp_path: Path) -> None:
    run(table_of(folder), folder)
    torch.manual_seed(1)
    torch.save(resnet18().state_dict(), tmp_path / "weights.pth")
    done = extract_images(
        table_of(folder),
        folder,
        tmp_path / "image.zarr",
        RESNET18,
        str(tmp_path / "weights.pth"),
        runtime(),
    )
    assert done.encoded == 10


def test_features_do_not_depend_on_batch_size_workers_or_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = table_of(folder)
    results = []
    for batch_size, workers, step in [(1, 1, 1), (3, 4, -1), (10, 2, 1)]:
        monkeypatch.setenv("MMSIM_CACHE_DIR", str(folder.parent / f"cache-{batch_size}"))
        done = run(images.iloc[::step], folder, runtime(batch_size, workers))
        assert done.encoded == 10
        results.append(store_of(folder).read("grid").astype(np.float32)[::step])
    reference = results[0].reshape(10, -1)
    for flat in (result.reshape(10, -1) for result in results[1:]):
        norms = np.linalg.norm(flat, axis=1) * np.linalg.norm(reference, axis=1)
        assert ((flat * reference).sum(axis=1) / norms > 0.99999).all()
        assert np.abs(flat - reference).max() <= 2e-3 * reference.max()


def test_a_truncated_shard_is_encoded_again(
    folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(table_of(folder), folder)
    (shard,) = cache.rglob("*.safetensors")
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size // 2)
    done = run(table_of(folder), folder)
    assert done.encoded == 10
    assert shard.name in capsys.readouterr().out


KILLED_RUN = """
import dataclasses, os, signal, sys
from pathlib import Path
import pandas as pd
sys.path.insert(0, sys.argv[3])
from test_features_images import RESNET18, runtime
from mmsim.features import cache, extract_images, layout

def small_shards(width):
    return dataclasses.replace(layout.image_layout(width), shard_rows=8)

extract_images.image_layout = small_shards

images, folder = pd.read_parquet(sys.argv[1]), Path(sys.argv[2])
write, written = cache.ShardWriter._write, []

def write_then_die(self, rows):
    write(self, rows)
    written.append(rows)
    if len(written) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

cache.ShardWriter._write = write_then_die
destination = folder.parent / "image.zarr"
extract_images.extract_images(images, folder, destination, RESNET18, "random", runtime())
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(30):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(folder / f"{number:03}.png")
    table_of(folder).to_parquet(tmp_path / "images.parquet")
    arguments = [str(tmp_path / "images.parquet"), str(folder), str(Path(__file__).parent)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_RUN, *arguments], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "image.zarr").exists()
    done = run(table_of(folder), folder)
    assert done.encoded == 30 - 2 * 8
    assert done.manifest.counts["ok"] == 30
    source = image_source(table_of(folder), folder, RESNET18, "random", runtime())
    assert verify_store(tmp_path / "image.zarr", source, sample=8).reencoded == 8


def test_a_row_beyond_float16_has_a_status_and_no_values(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (124, 116, 104)).save(
        folder / "99.png"
    )  # the mean colour: near zero
    model = resnet18()
    for block in model.layer4:
        torch.nn.init.constant_(block.bn2.weight, 5e4)
    torch.save(model.state_dict(), tmp_path / "large.pth")
    done = extract_images(
        table_of(folder),
        folder,
        tmp_path / "image.zarr",
        RESNET18,
        str(tmp_path / "large.pth"),
        runtime(),
    )
    store = store_of(folder)
    overflown = store.read("status") == Status.OVERFLOW
    assert overflown[:10].all()
    assert done.manifest.counts["overflow"] == overflown.sum()
    assert not store.read("grid")[overflown].any()


def test_verify_passes_on_a_good_store_and_says_what_it_checked(folder: Path) -> None:
    run(table_of(folder), folder)
    source = image_source(table_of(folder), folder, RESNET18, "random", runtime(3))
    report = verify_store(folder.parent / "image.zarr", source)
    assert (report.rows, report.reencoded) == (10, 10)
    assert report.least_cosine > 0.9999
    assert "10 rows encoded again" in str(report)


def test_verify_names_the_row_whose_values_were_changed(folder: Path) -> None:
    import zarr

    run(table_of(folder), folder)
    grid = zarr.open_group(str(folder.parent / "image.zarr"), mode="r+")["grid"]
    grid[6] = np.asarray(grid[7])
    source = image_source(table_of(folder), folder, RESNET18, "random", runtime())
    with pytest.raises(UserError, match=r"rows 6 are not what the encoder gives"):
        verify_store(folder.parent / "image.zarr", source)


def test_verify_names_the_row_with_a_value_that_is_not_finite(folder: Path) -> None:
    import zarr

    run(table_of(folder), folder)
    zarr.open_group(str(folder.parent / "image.zarr"), mode="r+")["pooled"][4] = np.nan
    source = image_source(table_of(folder), folder, RESNET18, "random", runtime())
    with pytest.raises(UserError, match=r"'pooled' .* not finite in rows 4"):
        verify_store(folder.parent / "image.zarr", source)


def test_verify_refuses_a_store_of_other_rows_or_another_encoder(
    folder: Path, tmp_path: Path
) -> None:
    images = table_of(folder)
    run(images, folder)
    moved = image_source(images.iloc[::-1], folder, RESNET18, "random", runtime())
    with pytest.raises(UserError, match="another order"):
        verify_store(tmp_path / "image.zarr", moved)
    torch.save(resnet18().state_dict(), tmp_path / "other.pth")
    other = image_source(images, folder, RESNET18, str(tmp_path / "other.pth"), runtime())
    with pytest.raises(UserError, match="it was made with weights"):
        verify_store(tmp_path / "image.zarr", other)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("IMAGENET1K_V9", r"allowed are: random, pretrained, IMAGENET1K_V1"),
        ("ResNet50_Weights.IMAGENET1K_V2", r"torchvision does not have for resnet18"),
        ("weights/none.pth", r"none\.pth, which is missing"),
    ],
)
def test_weights_that_do_not_exist_are_refused_with_what_is_allowed(
    weights: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_image_encoder("resnet18", weights, CPU, torch.float32)


def test_a_state_dict_of_another_architecture_is_refused_with_its_keys(tmp_path: Path) -> None:
    state = resnet18().state_dict()
    path = tmp_path / "wrong.pth"
    torch.save({**state, "conv1.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(UserError, match=r"conv1\.weight \(64, 3, 3, 3\), expected"):
        load_image_encoder("resnet18", str(path), CPU, torch.float32)
    torch.save({key: value for key, value in state.items() if "layer4" not in key}, path)
    with pytest.raises(UserError, match=r"lacks: layer4\.0\.conv1\.weight"):
        load_image_encoder("resnet18", str(path), CPU, torch.float32)
    torch.save({**state, "head.bias": torch.zeros(3)}, path)
    with pytest.raises(UserError, match=r"has unknown: head\.bias"):
        load_image_encoder("resnet18", str(path), CPU, torch.float32)


def test_a_float16_safetensors_file_without_classifier_is_accepted(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in resnet18().state_dict().items()
        if not key.startswith("fc.")
    }
    save_file(state, tmp_path / "half.safetensors")
    encoder = load_image_encoder("resnet18", str(tmp_path / "half.safetensors"), CPU, torch.float32)
    assert {parameter.dtype for parameter in encoder.trunk.parameters()} == {torch.float32}


def test_a_file_that_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read as a state dict"):
        load_image_encoder("resnet18", str(tmp_path / "broken.pth"), CPU, torch.float32)


@pytest.mark.skipif("MMSIM_REAL_DATA" not in os.environ, reason="MMSIM_REAL_DATA is not set")
def test_real_photographs_are_all_encoded(tmp_path: Path) -> None:
    photographs = Path(os.environ["MMSIM_REAL_DATA"]) / "openstax" / "wikinewsImgs"
    images = table_of(photographs).iloc[::100]
    destination = tmp_path / "image.zarr"
    done = extract_images(images, photographs, destination, RESNET18, "random", runtime())
    assert done.manifest.counts["ok"] == len(images)
    assert len(np.unique(FeatureStore.open(destination).read("pooled"), axis=0)) == len(images)


PREPROCESSING = load_image_encoder("resnet18", "random", CPU, torch.float32).preprocessing


def encoded_as(image: Image.Image, suffix: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBA", "LA", "I;16", "RGB"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    grey = Image.new("L", (40, 30), 128)
    image = Image.fromarray(np.full((30, 40), 128 << 8, np.uint16)) if mode == "I;16" else grey
    image = image if mode == "I;16" else image.convert(mode)
    pixels = decode(encoded_as(image, "JPEG" if mode == "CMYK" else "PNG"), PREPROCESSING)
    assert isinstance(pixels, np.ndarray)
    assert pixels.shape == (224, 224, 3)
    if mode != "1":
        assert np.abs(pixels.astype(int) - 128).max() <= 3


def test_transparency_is_laid_over_white() -> None:
    pixels = decode(encoded_as(Image.new("RGBA", (30, 30), (9, 9, 9, 0)), "PNG"), PREPROCESSING)
    assert np.all(pixels == 255)


def test_orientation_of_a_photograph_is_applied() -> None:
    image = Image.new("RGB", (80, 80), "red")
    image.paste("blue", (40, 0, 80, 80))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    upright = decode(encoded_as(image, "PNG"), PREPROCESSING)
    turned = decode(encoded_as(image.rotate(180), "PNG", exif=exif), PREPROCESSING)
    np.testing.assert_array_equal(turned, upright)


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("P", (20, 20), number) for number in (1, 2)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    content = encoded_as(frames[0], "GIF", save_all=True, append_images=frames[1:])
    pixels = decode(content, PREPROCESSING)
    assert isinstance(pixels, np.ndarray)
    assert pixels[0, 0].tolist() == [255, 0, 0]


def test_an_image_of_too_many_pixels_is_refused_from_its_header() -> None:
    bomb = encoded_as(Image.new("1", (20_000, 20_000)), "PNG")
    failure = decode(bomb, PREPROCESSING)
    assert isinstance(failure, Failure)
    assert failure.status is Status.UNSUPPORTED
    assert "pixels" in failure.reason


@pytest.mark.parametrize("size", [(390, 290), (256, 256), (100, 1000), (3, 2), (2049, 1025)])
def test_scaling_only_what_is_kept_equals_torchvisions_resize_and_crop(
    size: tuple[int, int],
) -> None:
    from torchvision.transforms.functional import center_crop, resize

    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    expected = np.asarray(center_crop(resize(image, [256]), [224])).astype(int)
    pixels = decode(encoded_as(image, "PNG"), PREPROCESSING)
    assert isinstance(pixels, np.ndarray)
    assert np.abs(pixels - expected).max() <= 1
