"""Image files of any kind as arrays of one size and kind; all by Pillow."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgeq_lib.data.near_duplicates import SMALLEST

# Files called so are photos, and an error where they cannot be read; others are looked into.
SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".heic", ".heif", ".hif"),
}
# A closed list: others that Pillow knows start helper programs (EPS) or are no photos.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
THUMBNAIL = 32  # pixels
MAX_PIXELS = 100_000_000
ASPECTS = ("stretch", "crop")
# What is wrong with a file is reported as a reason; Pillow's own warnings would print paths into
# notebooks.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Unreadable(Exception):
    """An image that cannot be decoded; the message says why, in the same words on every machine."""


def decode_image(
    content: bytes | Path | np.ndarray,
    size: tuple[int, int],
    channels: int,
    aspect: str = "stretch",
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode one image.

    The EXIF orientation is applied. Transparency is laid on white. 16 bits are scaled to 8 (divided
    by 257, not clipped). Of an animation the first frame is taken. Resizing is bilinear with
    antialiasing.

    Args:
        content: A file's bytes, its path, or pixels: uint8 (height, width) or (height, width, 3).
        size: (height, width) that is wanted.
        channels: 1 or 3.
        aspect: "stretch" takes the whole image; "crop" its centre as ImageNet evaluation does: the
            short side to 256/224 of the size, then the middle.

    Returns:
        The image as uint8 (height, width, channels), and the names of the conversions that it took.

    Raises:
        Unreadable: For truncated, garbled, float-valued or very large (over 100 million pixels)
            images, and for HEIC without `pillow-heif`. A JPEG with wrong bytes inside an otherwise
            complete stream still decodes: the format has no checksum.
    """
    pixels, notes, _ = decode_with_thumbnail(content, size, channels, aspect)
    return pixels, notes


def decode_with_thumbnail(
    content: bytes | Path | np.ndarray,
    size: tuple[int, int],
    channels: int,
    aspect: str = "stretch",
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray | None]:
    """Decode one image, and shrink the whole of it so that copies can be found.

    Args:
        content: See `decode_image`, as all that follows.
        size: (height, width) that is wanted.
        channels: 1 or 3.
        aspect: "stretch" or "crop".

    Returns:
        The image and its conversions as of `decode_image`, and uint8 (32, 32, 3), which does not
        depend on the size wanted; None for an image of fewer than 64 pixels on its shorter side.

    Raises:
        Unreadable: See `decode_image`.
    """
    try:
        image, notes = _open(content)
        image = _to_channels(image, channels, notes)
        pixels = np.asarray(_resize(image, size, aspect), np.uint8)
        small = thumbnail(image) if min(image.size) >= SMALLEST else None
    except Unreadable:
        raise
    # On garbled files Pillow raises nearly anything: OSError, SyntaxError, struct.error, …
    except Exception as error:
        raise Unreadable(_reason(error)) from None
    return pixels.reshape(*size, channels), tuple(notes), small


def thumbnail(image: Image.Image) -> np.ndarray:
    """Shrink an image for `near_duplicates`.

    Args:
        image: The image, RGB or grey.

    Returns:
        uint8 (32, 32, 3).
    """
    small = image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(small.convert("RGB"), np.uint8)


def is_image(path: Path) -> bool:
    """Tell by its content, whatever it is called, whether a file is an image of a known kind.

    Args:
        path: The file; only its beginning is read.
    """
    try:
        with open(path, "rb") as file:
            if _is_heic(file.read(12)):
                return True
        with Image.open(path, formats=FORMATS):
            return True
    except Exception:  # see `decode_image`: garbled files raise nearly anything
        return False


def _is_heic(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS


def _heic_formats() -> tuple[str, ...]:
    try:
        import pillow_heif
    except ImportError:
        raise Unreadable("HEIC, which needs `pip install 'edgeq[heic]'` (pillow-heif)") from None
    pillow_heif.register_heif_opener()
    return ("HEIF",)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a known format"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels (a decompression bomb?)"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).split("\n")[0]
    return text if text and "0x" not in text else type(error).__name__


def _open(content: bytes | Path | np.ndarray) -> tuple[Image.Image, list[str]]:
    if isinstance(content, np.ndarray):
        return Image.fromarray(content), []
    data = content.read_bytes() if isinstance(content, Path) else content
    if not data:
        raise Unreadable("empty file")
    notes: list[str] = []
    formats = _heic_formats() if _is_heic(data[:12]) else FORMATS
    with Image.open(io.BytesIO(data), formats=formats) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Unreadable("too many pixels (a decompression bomb?)")
        if (
            getattr(image, "is_animated", False) and image.format != "MPO"
        ):  # MPO: a photo with previews behind it
            notes.append("animated")
        if image.tile and ";16" in str(
            image.tile[0]
        ):  # Pillow takes the high byte of colour pictures of 16 bits
            notes.append("16-bit")
        image.load()
        try:
            upright = (
                ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) != 1 else image
            )
        except Exception:  # garbled metadata say nothing against the pixels
            upright = image
        if upright is not image:
            notes.append("rotated")
        return upright, notes


def _to_channels(image: Image.Image, channels: int, notes: list[str]) -> Image.Image:
    """To mode RGB or L; adds to `notes` what that took."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable("32-bit pixels, whose range is not known")
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
        if "16-bit" not in notes:
            notes.append("16-bit")
    elif image.mode == "F":
        raise Unreadable("floating-point pixels, whose range is not known")
    if image.mode in ("P", "PA"):
        notes.append("palette")
    if image.mode == "CMYK":
        notes.append("cmyk")
    grey = image.mode in ("L", "1", "LA", "La")
    if image.has_transparency_data:
        notes.append("alpha")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    if grey and channels == 3:
        notes.append("grey")
    if not grey and channels == 1:
        notes.append("colour")
    if not grey or channels == 3:
        image = image.convert("RGB")  # first, since Pillow turns some modes (LAB) into RGB only
    return image if channels == 3 else image.convert("L")


def _resize(image: Image.Image, size: tuple[int, int], aspect: str) -> Image.Image:
    height, width = size
    if aspect == "stretch":
        return (
            image
            if image.size == (width, height)
            else image.resize((width, height), Image.Resampling.BILINEAR)
        )
    # Enlarging to 256/224 and cutting the middle is the same as enlarging the middle, without a
    # rounded size between.
    scale = max(height / image.height, width / image.width) * 256 / 224
    dx, dy = (image.width - width / scale) / 2, (image.height - height / scale) / 2
    return image.resize(
        (width, height),
        Image.Resampling.BILINEAR,
        box=(dx, dy, image.width - dx, image.height - dy),
    )
