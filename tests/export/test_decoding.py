"""A served picture has the pixels that evaluation sees: Pillow's, by `ImageFolder`."""

import io
import struct
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_densenet.data import picture_files
from keras_densenet.export import decoding

RED = (200, 30, 40)
RNG = np.random.default_rng(0)
COARSE = Image.fromarray(RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8))
RGB = COARSE.resize((70, 50))
ALPHA = Image.fromarray(RNG.integers(0, 256, (50, 70)).astype(np.uint8))
RGBA = Image.merge("RGBA", (*RGB.split(), ALPHA))


def every_colour_on_every_alpha():
    pixels = np.zeros((256, 256, 4), np.uint8)
    pixels[..., :3] = np.arange(256)[:, None, None]
    pixels[..., 3] = np.arange(256)
    return Image.fromarray(pixels)


def of_sixteen_bits():
    """Give every number that a pixel of sixteen bits may have."""
    return Image.fromarray(np.arange(65_536, dtype="uint16").reshape(256, 256))


def exif(orientation, endian="<"):
    content = Image.Exif()
    content.endian = endian
    content[0x010F] = "a maker"
    content[0x0112] = orientation
    return {"exif": content}


PICTURES = {
    "JPEG": (RGB, "JPEG", {}),
    "grey JPEG": (RGB.convert("L"), "JPEG", {}),
    "progressive JPEG": (RGB, "JPEG", {"progressive": True}),
    "CMYK JPEG": (RGB.convert("CMYK"), "JPEG", {}),
    "PNG": (RGB, "PNG", {}),
    "grey PNG": (RGB.convert("L"), "PNG", {}),
    "black and white PNG": (RGB.convert("1"), "PNG", {}),
    "PNG with a palette": (RGB.convert("P"), "PNG", {}),
    "PNG with 16 colours": (RGB.quantize(16), "PNG", {"bits": 4}),
    "PNG with 4 colours, one clear": (
        RGB.quantize(4),
        "PNG",
        {"bits": 2, "transparency": 1},
    ),
    "PNG of 16 bits": (of_sixteen_bits(), "PNG", {}),
    "transparent PNG": (RGBA, "PNG", {}),
    "grey transparent PNG": (RGBA.convert("LA"), "PNG", {}),
    "every colour on every alpha": (every_colour_on_every_alpha(), "PNG", {}),
    "BMP": (RGB, "BMP", {}),
    "grey BMP": (RGB.convert("L"), "BMP", {}),
    "BMP with a palette": (RGB.convert("P"), "BMP", {}),
    "BMP of 32 bits": (RGBA, "BMP", {}),
    "GIF": (RGB, "GIF", {}),
    "animation": (RGB, "GIF", {"save_all": True, "append_images": [RGB.rotate(90)]}),
    "GIF with a comment": (RGB, "GIF", {"comment": b"hello" * 100}),
    **{f"EXIF {n}": (RGB, "JPEG", exif(n)) for n in range(1, 9)},
    "EXIF, big-endian, after a comment": (
        RGB,
        "JPEG",
        {**exif(6, ">"), "comment": b"hello"},
    ),
    "EXIF 9, which is none": (RGB, "JPEG", exif(9)),
}


def encoded(image, kind, options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_bytes(content, at, *values):
    return content[:at] + bytes(values) + content[at + len(values) :]


JPEG, PNG, BMP, GIF = (encoded(RGB, kind, {}) for kind in ("JPEG", "PNG", "BMP", "GIF"))
HUGE_JPEG = JPEG.index(b"\xff\xc0") + 5  # start of frame: height and width
GIF_FRAME = GIF.index(b"\x2c\x00\x00\x00\x00") + 5
NO_PICTURES = {
    "nothing": (b"", "no JPEG, PNG, GIF or BMP"),
    "text": (b"hello", "no JPEG, PNG, GIF or BMP"),
    "WebP": (encoded(RGB, "WEBP", {}), "no JPEG, PNG, GIF or BMP"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "JPEG"),
    "half a PNG": (PNG[: len(PNG) // 2], "PNG"),
    "half a BMP": (BMP[: len(BMP) // 2], "Input size should match"),
    "a GIF's head": (GIF[:20], "GIF has no picture"),
    "a JPEG of 4 gigapixels": (
        with_bytes(JPEG, HUGE_JPEG, 255, 220, 255, 220),
        "33,554,432 pixels",
    ),
    "a PNG of 10^18 pixels": (
        with_bytes(PNG, 16, 127, 255, 255, 255, 127, 255, 255, 255),
        "33,554,432 pixels",
    ),
    "a BMP of 10^18 pixels": (
        with_bytes(BMP, 18, 255, 255, 255, 127, 255, 255, 255, 127),
        "33,554,432 pixels",
    ),
    "a GIF whose frame has 4 gigapixels": (
        with_bytes(GIF, GIF_FRAME, 255, 255, 255, 255),
        "33,554,432 pixels",
    ),
    "a BMP without pixels": (with_bytes(BMP, 18, 0, 0, 0, 0), "1 to"),
    "a BMP of 4 bits": (with_bytes(BMP, 28, 4, 0), "8, 24 or 32 bits"),
    "a compressed BMP": (with_bytes(BMP, 30, 1), "not compressed"),
}


def bmp_with_alpha(*pixels):
    """Write a BMP of one row, whose header of 124 bytes says where alpha is."""
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)  # red, green, blue, alpha
    size = 4 * len(pixels)
    head = struct.pack("<IiiHHIIiiII", 124, len(pixels), 1, 1, 32, 3, size, 0, 0, 0, 0)
    head += struct.pack("<4I", *masks) + bytes(124 - 56)
    rows = b"".join(bytes((b, g, r, a)) for r, g, b, a in pixels)
    file = struct.pack("<2sIHHI", b"BM", 14 + len(head) + size, 0, 0, 14 + len(head))
    return file + head + rows


FILES = {name: encoded(*picture) for name, picture in PICTURES.items()}
FILES["BMP with alpha"] = bmp_with_alpha((*RED, 255), (0, 0, 0, 51), (9, 9, 9, 0))


@pytest.fixture(scope="module")
def answers():
    """Give the pixels or the error of each, of functions that are traced once."""
    found = {}
    for channels in (1, 3, 4):
        decode = tf.function(
            partial(decoding.decode, channels=channels),
            input_signature=[tf.TensorSpec([], tf.string)],
            autograph=False,
        )
        found |= {(name, channels): decode(file) for name, file in FILES.items()}
        for name, (content, _) in NO_PICTURES.items():
            with pytest.raises(tf.errors.InvalidArgumentError) as error:
                decode(content)
            found[name, channels] = error.value.message
    return found


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_evaluation(answers, name, tmp_path):
    (tmp_path / "picture").write_bytes(FILES[name])
    for channels in (1, 3, 4):
        expected = picture_files.decode(tmp_path / "picture", channels)
        np.testing.assert_array_equal(answers[name, channels], expected)


def test_a_bmp_may_have_alpha(answers):
    # On white 0.8 * 255 = 204 shines through; the gray of red is 81.97.
    found = {n: answers["BMP with alpha", n].numpy()[0].tolist() for n in (1, 3, 4)}
    assert found[1] == [[82], [204], [255]]
    assert found[3] == [[*RED], [204] * 3, [255] * 3]
    assert found[4] == [[*RED, 255], [0, 0, 0, 51], [9, 9, 9, 0]]


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_an_error_that_says_so(answers, name):
    for channels in (1, 3, 4):
        assert NO_PICTURES[name][1] in answers[name, channels]


def test_a_bmp_with_other_masks_is_refused():
    """Its colours would be taken in another order than they are in."""
    file = io.BytesIO()
    Image.new("RGBA", (3, 2), (10, 20, 30, 255)).save(file, "BMP")
    usual = bytearray(file.getvalue())
    usual[30:34] = (3).to_bytes(4, "little")  # masks follow the header of 40 bytes
    usual[54:54] = b"".join(
        mask.to_bytes(4, "little") for mask in (0xFF0000, 0xFF00, 0xFF)
    )
    usual[10:14] = (66).to_bytes(4, "little")  # where the pixels begin
    np.testing.assert_array_equal(
        decoding.decode(bytes(usual)), np.full((2, 3, 3), [10, 20, 30])
    )
    other = usual.copy()
    other[54:66] = b"".join(
        mask.to_bytes(4, "little") for mask in (0xFF, 0xFF00, 0xFF0000)
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="A BMP must have"):
        decoding.decode(bytes(other))
