"""Reads a ledger's entries with nothing but Python and its `cryptography`: who said what, and did they sign it?

    python3 entries.py ledger            prints a line for each entry, and stops at the first bad signature

It hashes the entries to a root as well, to be compared with the third line of `ledger/checkpoint`.
"""

import base64
import hashlib
import pathlib
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KINDS = [
    "manifest", "join", "leave", "round_open", "commit", "seal", "challenge", "verdict", "round_close", "outcome",
    "penalty", "end", "late", "opening", "rotate", "revoke",
]


def cbor(data, at=0):
    """One value of deterministic CBOR and where it ends. There are integers, byte strings, texts, lists and maps."""
    major, low = data[at] >> 5, data[at] & 31
    at += 1
    if low >= 24:
        size = 1 << (low - 24)
        low, at = int.from_bytes(data[at : at + size], "big"), at + size
    if major == 0:
        return low, at
    if major in (2, 3):
        found = bytes(data[at : at + low])
        return (found if major == 2 else found.decode()), at + low
    if major == 4:
        found = []
        for _ in range(low):
            value, at = cbor(data, at)
            found.append(value)
        return found, at
    if major == 5:
        found = {}
        for _ in range(low):
            key, at = cbor(data, at)
            found[key], at = cbor(data, at)
        return found, at
    raise ValueError(f"major type {major} has no place in a ledger")


def bundles(ledger, size):
    """The entries of a log of `size`, out of its bundles."""
    for number in range((size + 255) // 256):
        digits = f"{number:03d}" if number < 1000 else f"x{number // 1000:03d}/{number % 1000:03d}"
        path = ledger / "tile/entries" / digits
        if not path.exists():
            path = path.with_name(f"{path.name}.p") / str(size % 256)
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 2], "big")
            yield data[at + 2 : at + 2 + length]
            at += 2 + length


def root(leaves):
    """RFC 6962, section 2.1."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root(leaves[:split]) + root(leaves[split:])).digest()


def main():
    ledger = pathlib.Path(sys.argv[1])
    _, size, claimed = (ledger / "checkpoint").read_text().split("\n")[:3]
    leaves = []
    for index, entry in enumerate(bundles(ledger, int(size))):
        leaves.append(hashlib.sha256(b"\x00" + entry).digest())
        statement = cbor(entry)[0][3]
        run, author, event, signature = (statement[key] for key in range(4))
        message = b"talkoot/statement/v1\n" + run + event
        Ed25519PublicKey.from_public_bytes(author).verify(signature, message)
        print(index, author.hex()[:8], KINDS[cbor(event)[0][0]])
    computed = base64.b64encode(root(leaves)).decode()
    print(f"root {computed}, the checkpoint says {claimed}: {'the same' if computed == claimed else 'ANOTHER'}")


if __name__ == "__main__":
    main()
