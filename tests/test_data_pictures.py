"""Picture files: what a viewer shows, whatever the format does to it; and damage that is named."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest

from loops.data import pictures
from loops.data.dataset import DataError

Image = pytest.importorskip("PIL.Image")

RNG = np.random.default_rng(0)
# Each side of another length, no symmetry: a picture turned or mirrored cannot pass.
COLOURS = RNG.integers(0, 256, (5, 7, 3), np.uint8)
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")


def saved(image, kind: str, **settings) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def shown(content: bytes) -> np.ndarray:
    return pictures.decode(content, "given")


def error_of(content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        shown(content)
    message = str(caught.value)
    assert message.startswith("given: ") and "\n" not in message and message.count(": ") >= 2
    return message


def png(samples: np.ndarray, bits: int, colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file by hand, of samples (h, w, channels) of so many bits; `chunks` stand before the pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b""
    for row in samples:
        text = "".join(format(sample, f"0{bits}b") for sample in row.ravel())
        text += "0" * (-len(text) % 8)
        rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, colour_type, 0, 0, 0)
    content = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in content)


def on_white(colour: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Colours (..., 3) and opacity (...) in 0 .. 1, as 0 .. 255."""
    return 255 * (colour * opacity[..., None] + 1 - opacity[..., None])


# The orientation, as Exif says it: where row 0 and column 0 of the stored pixels are on the scene.
SCENES = {
    1: "ab/cd/ef",  # top, left
    2: "ba/dc/fe",  # top, right
    3: "fe/dc/ba",  # bottom, right
    4: "ef/cd/ab",  # bottom, left
    5: "ace/bdf",  # left, top
    6: "eca/fdb",  # right, top
    7: "fdb/eca",  # right, bottom
    8: "bdf/ace",  # left, bottom
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", SCENES)
def test_the_cameras_orientation_is_applied(kind, orientation):
    levels = {letter: 20 + 40 * i for i, letter in enumerate("abcdef")}

    def grid(text: str) -> np.ndarray:
        return np.repeat(np.repeat([[levels[letter] for letter in row] for row in text.split("/")], 16, 0), 16, 1)

    exif = Image.Exif()
    exif[pictures.ORIENTATION] = orientation
    settings = {"lossless": True} if kind == "WEBP" else {}
    stored = Image.fromarray(grid("ab/cd/ef").astype(np.uint8)).convert("RGB")
    found = shown(saved(stored, kind, exif=exif, **settings))
    expected = grid(SCENES[orientation])
    assert found.shape[:2] == expected.shape
    np.testing.assert_allclose(found[..., 1].astype(int), expected, atol=3 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = orientation
    np.testing.assert_array_equal(shown(saved(Image.fromarray(COLOURS), "PNG", exif=exif)), COLOURS)


def test_damaged_exif_does_not_hide_the_picture():
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"Exif\0\0nonsense"):
        np.testing.assert_array_equal(shown(saved(Image.fromarray(COLOURS), "PNG", exif=exif)), COLOURS)


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (3, 1), (4, 2), (6, 4)])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("with_trns", [False, True])
def test_every_kind_of_png(colour_type, channels, bits, with_trns):
    if (
        (bits < 8 and colour_type not in (0, 3))
        or (bits == 16 and colour_type == 3)
        or (with_trns and channels % 2 == 0)
    ):
        pytest.skip("PNG has no such kind")
    top = 2**bits - 1
    rng = np.random.default_rng([colour_type, bits])
    samples = rng.integers(0, top + 1, (5, 7, channels))
    samples[0, 0] = samples[2, 3]
    chunks, opacity = [], np.ones((5, 7))
    if colour_type == 3:
        palette, entries = rng.integers(0, 256, (top + 1, 3), np.uint8), rng.integers(0, 256, top + 1, np.uint8)
        chunks.append((b"PLTE", palette.tobytes()))
        colour = palette[samples[..., 0]] / 255
        if with_trns:
            chunks.append((b"tRNS", entries.tobytes()))
            opacity = entries[samples[..., 0]] / 255
    else:
        colour = samples / top
        if channels % 2 == 0:
            colour, opacity = colour[..., :-1], colour[..., -1]
        if channels in (1, 2):
            colour = np.repeat(colour, 3, -1)
        if with_trns:
            chunks.append((b"tRNS", b"".join(struct.pack(">H", value) for value in samples[2, 3])))
            opacity = 1.0 - (samples == samples[2, 3]).all(-1)
    found = shown(png(samples, bits, colour_type, *chunks))
    # Sixteen bits of colour and of opacity are cut to eight, and the mixture is rounded.
    np.testing.assert_allclose(found, on_white(colour, opacity), atol=2.5)


def test_what_lies_under_full_transparency_is_not_seen():
    hidden = np.dstack([COLOURS, np.zeros((5, 7), np.uint8)])
    assert (shown(saved(Image.fromarray(hidden), "PNG")) == 255).all()
    hidden[1:3, 2:5, 3] = 255
    found = shown(saved(Image.fromarray(hidden), "WEBP", lossless=True, exact=True))
    np.testing.assert_array_equal(found[1:3, 2:5], COLOURS[1:3, 2:5])
    assert (found[0] == 255).all()


def bmp(bits: int, pixels: bytes, *, palette: bytes = b"", compression: int = 0, masks: bytes = b"", height: int = 2):
    """A BMP file by hand, 3 pixels wide."""
    start = 54 + len(masks) + len(palette)
    header = struct.pack(
        "<IiiHHIIiiII", 40, 3, height, 1, bits, compression, len(pixels), 2835, 2835, len(palette) // 4, 0
    )
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + masks + palette + pixels


RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)
PALETTE = b"\0\0\xff\0\0\xff\0\0\xff\0\0\0\x5a\x5a\x5a\0"  # red, green, blue, grey, as B G R 0
PICTURE = [[RED, GREEN, BLUE], [GREY, RED, RED]]
# A bit field of 5, 6, 5; 90 is not among its values.
SIXTEEN = [[RED, GREEN, BLUE], [(0, 0, 0), RED, RED]]


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values) + b"\0\0"


BMPS = {
    "1 bit": (bmp(1, b"\x60\0\0\0\x80\0\0\0", palette=PALETTE[:8]), [[GREEN, RED, RED], [RED, GREEN, GREEN]]),
    "4 bits": (bmp(4, b"\x30\0\0\0\x01\x20\0\0", palette=PALETTE), PICTURE),
    "8 bits": (bmp(8, b"\3\0\0\0\0\1\2\0", palette=PALETTE), PICTURE),
    "8 bits, from the top": (bmp(8, b"\0\1\2\0\3\0\0\0", palette=PALETTE, height=-2), PICTURE),
    "8 bits, run lengths": (bmp(8, b"\1\3\2\0\0\0\1\0\1\1\1\2\0\1", palette=PALETTE, compression=1), PICTURE),
    "16 bits, 5 5 5": (bmp(16, words(0, 0x7C00, 0x7C00) + words(0x7C00, 0x03E0, 0x001F)), SIXTEEN),
    "16 bits, 5 6 5": (
        bmp(
            16,
            words(0, 0xF800, 0xF800) + words(0xF800, 0x07E0, 0x001F),
            compression=3,
            masks=struct.pack("<III", 0xF800, 0x07E0, 0x001F),
        ),
        SIXTEEN,
    ),
    "24 bits": (bmp(24, b"\x5a\x5a\x5a\0\0\xff\0\0\xff\0\0\0\0\0\xff\0\xff\0\xff\0\0\0\0\0"), PICTURE),
    "32 bits": (bmp(32, b"\x5a\x5a\x5a\0\0\0\xff\0\0\0\xff\0\0\0\xff\0\0\xff\0\0\xff\0\0\0"), PICTURE),
}


@pytest.mark.parametrize("case", BMPS)
def test_every_kind_of_bmp(case):
    content, expected = BMPS[case]
    np.testing.assert_array_equal(shown(content), np.array(expected, np.uint8))


def test_grey_and_cmyk_jpeg():
    flat = np.full((16, 16), 90, np.uint8)
    np.testing.assert_allclose(shown(saved(Image.fromarray(flat), "JPEG")), 90, atol=1)
    cmyk = Image.merge("CMYK", [Image.new("L", (16, 16), level) for level in (255, 0, 0, 0)])
    found = shown(saved(cmyk, "JPEG", quality=100))[8, 8].astype(int)
    np.testing.assert_allclose(found, (0, 255, 255), atol=6)  # cyan ink lets green and blue through


def test_a_colour_profile_is_followed():
    """sRGB's profile with the places of red and blue exchanged: what is stored as red, is shown as blue."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    stored = Image.fromarray(np.broadcast_to(np.uint8([230, 20, 20]), (4, 4, 3)).copy())
    for kind in ("PNG", "TIFF"):
        found = shown(saved(stored, kind, icc_profile=bytes(profile)))[0, 0].astype(int)
        np.testing.assert_allclose(found, (20, 20, 230), atol=3)
    found = shown(saved(stored, "PNG", icc_profile=b"no profile at all"))[0, 0]
    np.testing.assert_array_equal(found, (230, 20, 20))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_taken(kind):
    frames = [Image.new("RGB", (7, 5), colour) for colour in (RED, GREEN, BLUE)]
    content = saved(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    np.testing.assert_array_equal(shown(content), np.broadcast_to(np.uint8(RED), (5, 7, 3)))


def test_gif_with_a_transparent_colour():
    image = Image.fromarray(np.uint8([[0, 1, 2], [2, 1, 0]])).convert("P")
    image.putpalette([*RED, *GREEN, *BLUE])
    found = shown(saved(image, "GIF", transparency=1))
    np.testing.assert_array_equal(found, np.uint8([[RED, (255,) * 3, BLUE], [BLUE, (255,) * 3, RED]]))


@pytest.mark.parametrize("kind", FORMATS)
def test_the_first_bytes_decide_not_the_name(tmp_path, kind):
    path = tmp_path / "picture.tsv"
    path.write_bytes(saved(Image.fromarray(COLOURS), kind))
    from loops.evaluation import read_picture

    assert pictures.read(path).shape == (5, 7, 3)
    found = read_picture(path, 32)
    assert found.shape == (32, 32, 3) and found.dtype == np.uint8


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_cut_anywhere_is_refused_or_whole(kind):
    """Never part of a picture: the end of some formats holds nothing that is shown."""
    content = saved(Image.fromarray(np.repeat(np.repeat(COLOURS, 6, 0), 6, 1)), kind)
    whole, refused = shown(content), 0
    cuts = sorted({*range(1, len(content), 1 + len(content) // 150), *range(len(content) - 20, len(content))})
    for cut in cuts:
        try:
            np.testing.assert_array_equal(shown(content[:cut]), whole, err_msg=f"{kind} cut at {cut} of {len(content)}")
        except DataError:
            refused += 1
    assert refused > 0.85 * len(cuts)
    assert "damaged, cut off" in error_of(content[: len(content) // 2])


def test_a_flipped_bit_in_a_png_is_found():
    content = bytearray(saved(Image.fromarray(COLOURS), "PNG"))
    for place in range(16, len(content)):
        damaged = content.copy()
        damaged[place] ^= 1
        with contextlib.suppress(DataError):
            np.testing.assert_array_equal(shown(bytes(damaged)), COLOURS, err_msg=f"byte {place}")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "the file is empty"),
        (b"%PDF-1.7 and so on", "a PDF document"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "'heic'"),
        (b"RIFF\0\0\0\0WAVEfmt ", "no picture"),
        (b"1\t2\t3\n", "no picture"),
    ],
)
def test_what_is_no_picture_is_named(content, what):
    message = error_of(content)
    assert what in message and ("give a PNG" in message or "save it as JPEG or PNG" in message)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            pictures.read(path)


def test_without_pillow_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ValueError, match=r"read by Pillow, which is not installed: pip install"):
        pictures.decode(b"\x89PNG\r\n\x1a\n", "given")
