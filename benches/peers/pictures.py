"""What both peers share: which pictures, and the published model's size of a picture."""

import math
import os
import sys

import numpy
import PIL

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


def names(folder):
    """Paths of the pictures in a folder, in order."""
    found = sorted(name for name in os.listdir(folder) if name.lower().endswith(ENDINGS))
    return [os.path.join(folder, name) for name in found]


def smart_resize(height, width, factor=28, least=3_136, most=2_560_000):
    """The image processor's rule; Python rounds halves to even as it does."""
    if max(height, width) / min(height, width) > 200:
        raise ValueError("too long")
    h, w = round(height / factor) * factor, round(width / factor) * factor
    if h * w > most:
        beta = math.sqrt(height * width / most)
        h = max(factor, math.floor(height / beta / factor) * factor)
        w = max(factor, math.floor(width / beta / factor) * factor)
    elif h * w < least:
        beta = math.sqrt(least / (height * width))
        h, w = math.ceil(height * beta / factor) * factor, math.ceil(width * beta / factor) * factor
    return h, w


def versions():
    """Which Python, Pillow and numpy this is."""
    from PIL import features

    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return f"Python {sys.version.split()[0]}, Pillow {PIL.__version__}, libjpeg-turbo {jpeg}, numpy {numpy.__version__}"


MEAN = numpy.array([0.48145466, 0.4578275, 0.40821073], dtype=numpy.float32)
DEVIATION = numpy.array([0.26862954, 0.26130258, 0.27577711], dtype=numpy.float32)


def patches(image):
    """A resized picture as rows of 588 numbers, in merge order."""
    pixels = numpy.asarray(image, dtype=numpy.float32)
    pixels = (pixels * numpy.float32(1 / 255) - MEAN) / DEVIATION
    h, w = pixels.shape[0] // 14, pixels.shape[1] // 14
    pixels = pixels.transpose(2, 0, 1).reshape(3, h // 2, 2, 14, w // 2, 2, 14)
    return numpy.ascontiguousarray(pixels.transpose(1, 4, 2, 5, 0, 3, 6)).reshape(h * w, 588)
