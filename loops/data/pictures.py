"""Picture files as a viewer shows them, by Pillow (extra `images`): PNG, JPEG, GIF, BMP, WebP and TIFF.

A file is what its first bytes say, whatever its name. The camera's orientation is applied, a colour profile converted
to sRGB, a palette looked up, sixteen bits brought to eight, what is transparent laid on white; of several frames the
first counts. A damaged file is named as damaged: no part of it is taken for the picture.
"""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from loops.data.dataset import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

BACKGROUND = (255, 255, 255, 255)  # white: what lies behind transparent pixels
FORMATS = {  # Pillow's name -> how its files begin
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "WEBP": (b"RIFF",),
}
# What people give for a picture by mistake: the first bytes -> its name. For the message alone.
OTHERS = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"\x93NUMPY": "a NumPy array",
    b"<!DOCTYPE html": "a web page",
    b"<html": "a web page",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML text, perhaps an SVG drawing",
}
ORIENTATION = 0x0112  # the tag's number
# Orientation -> how the stored pixels (h, w, 3) are turned to stand as the camera saw them (Exif 2.3, tag 274).
TURNS = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
EXPECTED = "give a PNG, JPEG, GIF, BMP, WebP or TIFF file"


def read(path: Path) -> np.ndarray:
    """Return a picture file's pixels (h, w, 3) uint8.

    Raises:
        DataError: for a file that is missing, damaged or no picture.
        ValueError: where Pillow is not installed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): give the path of a picture") from error
    return decode(content, str(path))


def decode(content: bytes, name: str) -> np.ndarray:
    """Return the bytes of a picture file as pixels (h, w, 3) uint8; `name` is for the messages.

    Raises:
        DataError: for bytes that are damaged or no picture.
        ValueError: where Pillow is not installed.
    """
    try:
        import PIL.Image
    except ImportError as error:
        raise ValueError(
            "pictures are read by Pillow, which is not installed: pip install pillow (or pip install -e '.[images]')"
        ) from error
    kind = _kind(content, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a large picture, or of metadata that nothing here uses
            # The check sums of a PNG file are looked at here and nowhere else; an image is of no use afterwards.
            PIL.Image.open(io.BytesIO(content), formats=[kind]).verify()
            image = PIL.Image.open(io.BytesIO(content), formats=[kind])
            image.load()
            pixels = _as_shown(image, content)
    except PIL.Image.DecompressionBombError as error:
        raise DataError(f"{name}: {error}: scale the picture down first") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers of damaged bytes raise what they stumble over, of every kind
        reason = str(error) if type(error) is OSError else "its content makes no sense"
        raise DataError(
            f"{name}: a {kind} file that is damaged, cut off or of a form that cannot be read ({reason}): put an "
            "intact copy there, or save the picture as an ordinary PNG"
        ) from error
    return pixels


def _kind(content: bytes, name: str) -> str:
    """The picture's format, of `FORMATS`, by its first bytes."""
    for kind, starts in FORMATS.items():
        if content.startswith(starts) and (kind != "WEBP" or content[8:12] == b"WEBP"):
            return kind
    if not content:
        raise DataError(f"{name}: the file is empty: {EXPECTED}")
    if content[4:8] == b"ftyp":
        brand = content[8:12].decode("latin-1")
        raise DataError(f"{name}: a picture or film of the kind {brand!r} (HEIC, AVIF, MP4): save it as JPEG or PNG")
    found = next((what for start, what in OTHERS.items() if content.lstrip()[:20].startswith(start)), "no picture")
    raise DataError(f"{name}: by its first bytes this is {found}: {EXPECTED}")


def _as_shown(image: "Image", content: bytes) -> np.ndarray:
    """The pixels (h, w, 3) uint8 of an opened picture."""
    import PIL.Image

    orientation, profile = _orientation(image), image.info.get("icc_profile")
    image = _in_eight_bits(image, content)
    transparent = image.has_transparency_data
    if transparent or image.mode not in ("L", "CMYK"):  # these two may have a colour profile of their own
        image = image.convert("RGBA" if transparent else "RGB")
    if profile:
        image = _in_srgb(image, profile)
    if transparent:
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, BACKGROUND), image)
    return np.ascontiguousarray(TURNS.get(orientation, lambda pixels: pixels)(np.asarray(image.convert("RGB"))))


def _orientation(image: "Image") -> int:
    """The camera's orientation, 1 .. 8; anything else, or 1, where there is none that can be read."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # the picture itself is whole, and a viewer shows it
        return 1


def _in_srgb(image: "Image", profile: bytes) -> "Image":
    """The picture with its colour profile's values as those of sRGB; unchanged where the profile is of no use."""
    import PIL.ImageCms as cms

    try:
        source, target = cms.ImageCmsProfile(io.BytesIO(profile)), cms.createProfile("sRGB")
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        return cms.profileToProfile(image, source, target, outputMode=mode) or image
    except (ImportError, OSError, ValueError, cms.PyCMSError):
        return image


def _in_eight_bits(image: "Image", content: bytes) -> "Image":
    """The picture with samples of eight bits, and the one transparent colour of a PNG in eight bits, too.

    Pillow cuts sixteen grey bits to 255, and compares a transparent colour as it stands in the file, in the bits of
    the file's samples, with samples of eight.
    """
    import PIL.Image

    bits = content[24] if image.format == "PNG" else 8
    transparent = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        samples = np.asarray(image).astype(np.uint32)  # (h, w)
        shown = PIL.Image.fromarray(((samples * 255 + 32767) // 65535).astype(np.uint8))
        if isinstance(transparent, int):
            opaque = np.where(samples == transparent, 0, 255).astype(np.uint8)
            shown = PIL.Image.merge("LA", (shown, PIL.Image.fromarray(opaque)))
        return shown
    if image.mode in ("I", "F"):
        raise OSError(f"samples of 32 bits, mode {image.mode}")
    if image.mode == "L" and isinstance(transparent, int) and bits < 8:
        image.info["transparency"] = transparent * 255 // (2**bits - 1)
    if image.mode == "RGB" and isinstance(transparent, tuple) and bits == 16:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    return image
