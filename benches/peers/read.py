"""Reads pictures as a Python trainer does: decode, bicubic resize, normalise, cut into patches.

One thread; the files are read before the clock runs. Prints one JSON object.
"""

import io
import json
import sys
import time

from PIL import Image
from pictures import names, patches, smart_resize, versions

files = [open(path, "rb").read() for path in names(sys.argv[1])]
decode = resize = cut = 0.0
for content in files:
    start = time.perf_counter()
    image = Image.open(io.BytesIO(content)).convert("RGB")
    decoded = time.perf_counter()
    height, width = smart_resize(image.height, image.width)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    resized = time.perf_counter()
    patches(image)
    decode += decoded - start
    resize += resized - decoded
    cut += time.perf_counter() - resized
print(
    json.dumps(
        {
            "versions": versions(),
            "pictures": len(files),
            "seconds": decode + resize + cut,
            "decode_seconds": decode,
            "resize_seconds": resize,
            "patch_seconds": cut,
        }
    )
)
