"""Finds the concepts that each sample is most like: with numpy, and with faiss's flat index where there is one.

    search.py FOLDER K

FOLDER has samples.npy and concepts.npy with rows of length one, and found.bin with the K concepts of each sample that
ours has found (32 bits each). Every peer's are compared with these: a sample differs when a concept that only one of
the two has is further than rounding from the K-th best. Files are read before the clock runs. Threads are those of
OMP_NUM_THREADS. Prints one JSON object.
"""

import json
import os
import sys
import time

import numpy

ROUNDING = 1e-5
SAMPLES_AT_A_TIME = 256


def with_numpy(samples, concepts, most):
    found = numpy.empty((len(samples), most), dtype=numpy.int64)
    start = time.perf_counter()
    for first in range(0, len(samples), SAMPLES_AT_A_TIME):
        scores = samples[first : first + SAMPLES_AT_A_TIME] @ concepts.T
        best = numpy.argpartition(scores, -most, axis=1)[:, -most:]
        order = numpy.argsort(-numpy.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        found[first : first + SAMPLES_AT_A_TIME] = numpy.take_along_axis(best, order, axis=1)
    return time.perf_counter() - start, found


def with_faiss(faiss, samples, concepts, most):
    faiss.omp_set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    index = faiss.IndexFlatIP(concepts.shape[1])
    index.add(concepts)
    start = time.perf_counter()
    _, found = index.search(samples, most)
    return time.perf_counter() - start, found


def differing(samples, concepts, ours, theirs):
    count = 0
    for sample, a, b in zip(samples, ours, theirs):
        only = sorted(set(a.tolist()) ^ set(b.tolist()))
        if only:
            worst = (concepts[b] @ sample).min()
            count += bool((abs(concepts[only] @ sample - worst) > ROUNDING).any())
    return count


def main():
    folder, most = sys.argv[1], int(sys.argv[2])
    samples = numpy.load(os.path.join(folder, "samples.npy"))
    concepts = numpy.load(os.path.join(folder, "concepts.npy"))
    ours = numpy.fromfile(os.path.join(folder, "found.bin"), dtype="<u4").reshape(len(samples), most).astype(numpy.int64)
    versions = f"Python {sys.version.split()[0]}, numpy {numpy.__version__}"
    runs, missing = {"numpy": with_numpy}, []
    try:
        import faiss

        runs["faiss IndexFlatIP"] = lambda *arguments: with_faiss(faiss, *arguments)
        versions += f", faiss {faiss.__version__}"
    except ImportError:
        missing.append("faiss")
    peers = []
    for name, run in runs.items():
        seconds, theirs = run(samples, concepts, most)
        peers.append({"peer": name, "seconds": seconds, "differing": differing(samples, concepts, ours, theirs)})
    print(json.dumps({"versions": versions, "peers": peers, "missing": missing}))


if __name__ == "__main__":
    main()
