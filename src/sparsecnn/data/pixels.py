"""One image file as RGB of 8 bits, or the reason why it cannot be."""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from sparsecnn.errors import in_a_line

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's other formats include some that start external programs."""
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_DEEP_MODES = ("I", "F")
"""Beginnings of the modes of more than 8 bits per channel."""
_BITS_PER_SAMPLE = 258  # a tag of TIFF
_ORIENTATIONS = range(2, 9)  # those of EXIF that turn or mirror


class UnusableImageError(Exception):
    """A file that is no image, or none that can be used.

    The reason is what is true of one file, as ``has more than one frame``; files are grouped by it.
    The advice is what to do with such files.
    """

    def __init__(
        self, reason: str, detail: str = "", advice: str = "remove or convert them"
    ) -> None:
        super().__init__(reason, detail, advice)
        self.reason, self.detail, self.advice = reason, detail, advice


@dataclass(frozen=True)
class Pixels:
    """A decoded image."""

    rgb: NDArray[np.uint8]
    """Shape (H, W, 3)."""
    transparent: bool
    """Whether the background shows through anywhere."""


def decode(data: bytes, background: str) -> Pixels:
    """Decode an image as it is meant to be seen: turned as EXIF says, laid on `background`.

    Parameters
    ----------
    data
        The file's content, in one of `FORMATS`.
    background
        A colour as CSS writes it; it shows where the image is transparent.

    Raises
    ------
    UnusableImageError
        If it is no image, damaged, of too many pixels, of more than 8 bits per channel, of a colour
        space that is not RGB's, or of more than one frame.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with _opened(data) as image:
            try:
                _check_depth(image, data)
                _check_frames(image)
                return _laid_on(_upright(image), background)
            except UnusableImageError:
                raise
            except Exception as error:  # decoders raise all sorts on damaged data
                raise UnusableImageError("is a damaged image", in_a_line(error)) from None


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UnusableImageError(f"has more than {Image.MAX_IMAGE_PIXELS} pixels") from None
    except Exception:  # as above
        raise UnusableImageError(f"is not an image in one of {', '.join(FORMATS)}") from None


def _check_depth(image: Image.Image, data: bytes) -> None:
    """Pillow drops what is below the upper 8 bits of some images without a word."""
    bits = _bits(image, data)
    if bits > 8:
        raise UnusableImageError(
            "has more than 8 bits per channel",
            f"{bits} bits, {image.format}",
            "convert them to 8 bits per channel, scaled as the values need",
        )
    if image.mode not in _MODES:
        raise UnusableImageError(
            "is in a colour space with no certain way to RGB", image.mode, "convert them to RGB"
        )


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits per channel in the file, which need not be those of the image read from it."""
    if image.format == "PNG":
        return data[24]  # of the header, which comes first
    if image.format == "TIFF":
        stored = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))  # type: ignore[attr-defined]
        return int(max(stored))
    if image.format == "PPM" and image.mode == "RGB":
        options = image.tile[0].args  # type: ignore[attr-defined]
        highest = options[1] if image.tile[0].codec_name != "raw" else 255  # type: ignore[attr-defined]
        return int(highest).bit_length()
    if image.mode.startswith(_DEEP_MODES):
        return 32 if image.mode == "F" else 16
    return 8


def _check_frames(image: Image.Image) -> None:
    frames = getattr(image, "n_frames", 1)
    # What cameras add to the photo in a JPEG (MPO) is the same again for other screens.
    if frames > 1 and image.format != "MPO":
        raise UnusableImageError(
            "has more than one frame", f"{frames}", "store each frame that is an image in a file"
        )


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # data about the picture, damaged; the picture may be whole
        return image
    return ImageOps.exif_transpose(image) if orientation in _ORIENTATIONS else image


def _laid_on(image: Image.Image, background: str) -> Pixels:
    if not image.has_transparency_data:
        return Pixels(np.asarray(image.convert("RGB")), transparent=False)
    picture = image.convert("RGBA")
    transparent = picture.getchannel("A").getextrema() != (255, 255)
    below = Image.new("RGBA", picture.size, background)
    rgb = Image.alpha_composite(below, picture).convert("RGB")
    return Pixels(np.asarray(rgb), transparent=transparent)
