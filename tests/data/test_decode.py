"""Images of every kind that turns up in photo folders."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from edgeq_lib.data.decode import (
    FORMATS,
    SUFFIXES,
    Unreadable,
    decode_image,
    decode_with_thumbnail,
    is_image,
)

RANDOM = np.random.default_rng(0)
PHOTO = RANDOM.integers(0, 256, (20, 30, 3), np.uint8)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        buffer, form, **options
    )
    return buffer.getvalue()


def test_an_rgb_image_comes_back_as_it_is(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(PHOTO))
    for content in (encoded(PHOTO), tmp_path / "a.png", PHOTO):
        pixels, notes = decode_image(content, (20, 30), 3)
        assert pixels.dtype == np.uint8 and notes == ()
        np.testing.assert_array_equal(pixels, PHOTO)


def test_grey_becomes_rgb_and_colour_becomes_grey():
    pixels, notes = decode_image(encoded(PHOTO[..., 0]), (20, 30), 3)
    assert notes == ("grey",)
    np.testing.assert_array_equal(pixels, np.repeat(PHOTO[..., :1], 3, axis=2))
    pixels, notes = decode_image(encoded(PHOTO), (20, 30), 1)
    assert pixels.shape == (20, 30, 1) and notes == ("colour",)
    assert decode_image(encoded(PHOTO[..., 0]), (20, 30), 1)[1] == ()
    assert decode_image(PHOTO[..., 0], (20, 30), 1)[0].shape == (20, 30, 1)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(form):
    deep = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    pixels, notes = decode_image(encoded(deep, form), (20, 30), 1)
    assert notes == ("16-bit",)
    np.testing.assert_array_equal(pixels[..., 0], np.round(deep / 257))
    assert decode_image(encoded(deep, form), (20, 30), 3)[1] == ("16-bit", "grey")


def test_sixteen_bit_colour_png():
    deep = RANDOM.integers(0, 65536, (4, 5, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ):
        content += (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )
    pixels, notes = decode_image(content, (4, 5), 3)
    assert notes == ("16-bit",)
    assert np.abs(pixels - deep / 257).max() <= 1


def test_cmyk_keeps_its_colours():
    red = Image.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK")
    pixels, notes = decode_image(encoded(red, "JPEG", quality=95), (16, 16), 3)
    assert notes == ("cmyk",)
    assert np.abs(pixels.mean(axis=(0, 1)) - (255, 0, 0)).max() < 12


def test_transparency_is_laid_on_white():
    glass = np.dstack([PHOTO, np.zeros((20, 30), np.uint8)])
    pixels, notes = decode_image(encoded(glass), (20, 30), 3)
    assert notes == ("alpha",) and (pixels == 255).all()
    palette = Image.fromarray(PHOTO).quantize(8)
    assert decode_image(encoded(palette), (20, 30), 3)[1] == ("palette",)
    assert decode_image(encoded(palette, transparency=0), (20, 30), 3)[1] == ("palette", "alpha")


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation_is_taken(form):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if form == "WEBP" else {}
    pixels, notes = decode_image(
        encoded(frames[0], form, save_all=True, append_images=frames[1:], **options), (8, 8), 3
    )
    assert "animated" in notes
    assert (pixels == (255, 0, 0)).all()


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    pixels, notes = decode_image(encoded(PHOTO, exif=exif), (30, 20), 3)
    assert notes == ("rotated",)
    np.testing.assert_array_equal(pixels, np.rot90(PHOTO, -1))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_are_unreadable(form, share):
    content = encoded(RANDOM.integers(0, 256, (60, 60, 3), np.uint8), form)
    with pytest.raises(Unreadable):
        decode_image(content[: int(len(content) * share)], (8, 8), 3)


def test_garbled_files_are_unreadable_and_the_reason_names_no_address(tmp_path):
    (tmp_path / "missing").unlink(missing_ok=True)
    for content in (
        b"",
        b"hello",
        RANDOM.bytes(5000),
        encoded(PHOTO)[:40] + RANDOM.bytes(300),
        tmp_path / "missing",
        encoded(np.ones((4, 4), np.float32), "TIFF"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ):
        with pytest.raises(Unreadable) as caught:
            decode_image(content, (8, 8), 3)
        assert (
            str(caught.value)
            and "0x" not in str(caught.value)
            and str(tmp_path) not in str(caught.value)
        )


def test_fuzzed_files_decode_or_are_unreadable():
    for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        whole = np.frombuffer(encoded(PHOTO, form), np.uint8)
        for _ in range(40):
            content = whole.copy()
            content[RANDOM.integers(0, len(content), 5)] = RANDOM.integers(0, 256, 5)
            try:
                assert decode_image(content.tobytes(), (8, 8), 3)[0].shape == (8, 8, 3)
            except Unreadable:
                pass


@pytest.mark.parametrize("side", [12_000, 40_000])
def test_decompression_bombs_are_refused_before_they_unfold(side, recwarn):
    small = encoded(Image.new("1", (8, 8)))
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    bomb = small[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + small[33:]
    with pytest.raises(Unreadable, match="too many pixels"):
        decode_image(bomb, (8, 8), 3)


def test_resizing_antialiases():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels, _ = decode_image(stripes, (8, 8), 3)
    assert np.abs(pixels.astype(int) - 127).max() <= 20, "without antialiasing stripes stay stripes"


def test_stretch_takes_everything_and_crop_the_centre():
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, :32] = 255
    assert decode_image(wide, (32, 32), 3)[0][:, :6].min() == 255
    assert decode_image(wide, (32, 32), 3, "crop")[0].max() == 0
    large = RANDOM.integers(0, 256, (256, 256, 3), np.uint8)
    np.testing.assert_array_equal(
        decode_image(large, (224, 224), 3, "crop")[0], large[16:240, 16:240]
    )
    assert decode_image(PHOTO, (10, 40), 3, "crop")[0].shape == (10, 40, 3)


def test_suffixes_and_formats_cover_each_other():
    known = SUFFIXES - {".heic", ".heif", ".hif"}
    assert known <= set(Image.registered_extensions())
    assert {Image.registered_extensions()[suffix] for suffix in known} == set(FORMATS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_upright_in_every_format(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.zeros((40, 64, 3), np.uint8)
    upright[:20, :32] = (250, 20, 20)  # a red corner, top left
    sides = {1: "", 2: "h", 3: "r2", 4: "v", 5: "t", 6: "r1", 7: "a", 8: "r3"}[orientation]
    stored = {
        "": lambda a: a,
        "h": np.fliplr,
        "v": np.flipud,
        "r1": lambda a: np.rot90(a, 1),
        "r2": lambda a: np.rot90(a, 2),
        "r3": lambda a: np.rot90(a, 3),
        "t": lambda a: a.transpose(1, 0, 2),
        "a": lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    }[sides](upright)
    pixels, _ = decode_image(encoded(np.ascontiguousarray(stored), form, exif=exif), (40, 64), 3)
    assert np.abs(pixels.astype(int) - upright).mean() < 6


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_transparent_parts_of_any_palette_are_white(channels, seed):
    random = np.random.default_rng(seed)
    colours, picture = int(random.integers(2, 200)), random.integers(0, 256, (24, 36, 3), np.uint8)
    palette = Image.fromarray(picture).quantize(colours)
    index = int(np.bincount(np.asarray(palette).ravel()).argmax())
    hidden = np.asarray(palette) == index
    for form in ("PNG", "GIF"):
        pixels, notes = decode_image(encoded(palette, form, transparency=index), (24, 36), channels)
        assert "alpha" in notes and (pixels[hidden] == 255).all()


def test_content_says_what_an_image_is(tmp_path):
    for number, (content, image) in enumerate(
        [
            (encoded(PHOTO, "JPEG"), True),
            (encoded(PHOTO, "WEBP"), True),
            (b"\0\0\0\x18ftypheic" + b"\0" * 40, True),
            (b"\0\0\0\x18ftypisom" + b"\0" * 40, False),
            (b"notes on the photos", False),
            (b"", False),
        ]
    ):
        (tmp_path / f"{number}.data").write_bytes(content)
        assert is_image(tmp_path / f"{number}.data") == image
    assert not is_image(tmp_path / "missing")


def test_heic_is_read_or_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(Unreadable, match=r"HEIC, which needs .*edgeq\[heic\]"):
        decode_image(b"\0\0\0\x18ftypheic" + b"\0" * 40, (8, 8), 3)
    monkeypatch.undo()
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    smooth = np.linspace(0, 255, 64 * 96 * 3).reshape(64, 96, 3).astype(np.uint8)
    heif.from_pillow(Image.fromarray(smooth)).save(buffer, quality=90)
    pixels, _ = decode_image(buffer.getvalue(), (64, 96), 3)
    assert np.abs(pixels.astype(int) - smooth).mean() < 6


def test_small_images_have_no_thumbnail_and_others_have_one_of_the_whole():
    wide = RANDOM.integers(0, 256, (64, 200, 3), np.uint8)
    stretched = decode_with_thumbnail(wide, (8, 8), 3)[2]
    np.testing.assert_array_equal(decode_with_thumbnail(wide, (50, 70), 3, "crop")[2], stretched)
    assert stretched.shape == (32, 32, 3) and stretched.dtype == np.uint8
    assert decode_with_thumbnail(wide[:63], (8, 8), 3)[2] is None
    assert decode_with_thumbnail(wide, (8, 8), 1)[2].shape == (32, 32, 3)
