"""Compresses a pseudo-gradient as a PyTorch trainer does: error feedback, top-k of every chunk, 2-bit values.

Takes a file of f32 values, the chunk, k, and how many rounds to measure. `topk_s` is torch.topk alone, `compress_s` the whole
way to positions and levels, without any coding of them into bytes. Medians. Prints one JSON object.
"""

import json
import os
import statistics
import sys
import time

import numpy
import torch

path, chunk, k, rounds = sys.argv[1], *map(int, sys.argv[2:5])
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
delta = torch.from_numpy(numpy.fromfile(path, dtype=numpy.float32)).view(-1, chunk)
feedback = torch.zeros_like(delta)
alone, whole = [], []
for round in range(rounds + 1):
    start = time.perf_counter()
    torch.topk(delta.abs(), k, dim=1, sorted=False)
    alone.append(time.perf_counter() - start)
    start = time.perf_counter()
    feedback.mul_(0.95).add_(delta)
    positions = torch.topk(feedback.abs(), k, dim=1, sorted=False).indices
    values = feedback.gather(1, positions)
    scale = values.abs().mean(dim=1, keepdim=True) / 2.5
    levels = torch.where(values.abs() / scale > 2.5, 3.0, 2.0) * torch.sign(values)
    feedback.scatter_add_(1, positions, -levels * scale)
    whole.append(time.perf_counter() - start)
print(
    json.dumps(
        {
            "versions": f"PyTorch {torch.__version__}, numpy {numpy.__version__}",
            "threads": torch.get_num_threads(),
            "topk_s": statistics.median(alone[1:]),
            "compress_s": statistics.median(whole[1:]),
        }
    )
)
