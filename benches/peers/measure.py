"""Measures the tokens of pictures as the original's token counting does: by preparing them for the model.

Reads each picture, resizes it, normalises it, cuts it into patches and counts them. The text's tokens, which the
original counts too, are left out, in the peer's favour. One thread. Prints one JSON object.
"""

import json
import sys
import time

from PIL import Image
from pictures import names, patches, smart_resize, versions

paths = names(sys.argv[1])
start = time.perf_counter()
tokens = 0
for path in paths:
    image = Image.open(path).convert("RGB")
    height, width = smart_resize(image.height, image.width)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    tokens += len(patches(image)) // 4
seconds = time.perf_counter() - start
print(
    json.dumps(
        {
            "versions": versions(),
            "samples": len(paths),
            "tokens": tokens,
            "seconds": seconds,
            "samples_per_second": len(paths) / seconds,
        }
    )
)
