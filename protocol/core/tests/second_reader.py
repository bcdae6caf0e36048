"""A second reader of ledger events, written from docs/protocol.md alone, to be held against the first.

Reads lines of hexadecimal digits, each an event; writes for each `yes <kind>` or `no <reason>`. Nothing but the standard
library. It knows deterministic CBOR, the events' shapes, and that what does not encode to the same bytes is no event.
"""

import sys

U32, U64 = 2**32 - 1, 2**64 - 1


class Wrong(Exception):
    pass


class Reader:
    """CBOR as the ledger uses it: integers, byte strings, texts, arrays and maps of definite length, all shortest."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def head(self, major):
        if self.at >= len(self.data):
            raise Wrong("it ends early")
        first = self.data[self.at]
        if first >> 5 != major:
            raise Wrong(f"major type {first >> 5} instead of {major}")
        self.at += 1
        low = first & 31
        if low < 24:
            return low
        if low > 27:
            raise Wrong("an indefinite or reserved length")
        size = 1 << (low - 24)
        digits = self.data[self.at : self.at + size]
        if len(digits) < size:
            raise Wrong("it ends early")
        self.at += size
        value = int.from_bytes(digits, "big")
        if value < (24 if size == 1 else 1 << (4 * size)):
            raise Wrong("a number that is not as short as it could be")
        return value

    def string(self, major):
        length = self.head(major)
        found = self.data[self.at : self.at + length]
        if len(found) < length:
            raise Wrong("it ends early")
        self.at += length
        return found


def integer(most):
    def read(reader):
        value = reader.head(0)
        if value > most:
            raise Wrong(f"{value} is above {most}")
        return value

    return read


def octets(length):
    def read(reader):
        found = reader.string(2)
        if len(found) != length:
            raise Wrong(f"{len(found)} bytes instead of {length}")
        return found.hex()

    return read


def plain(count):
    def read(reader):
        value = reader.head(0)
        if value >= count:
            raise Wrong(f"no variant {value}")
        return value

    return read


def listed(item):
    def read(reader):
        count = reader.head(4)
        found = []
        for _ in range(count):
            found.append(item(reader))
        return found

    return read


def blob(reader):
    if reader.head(4) != 2:
        raise Wrong("a blob is an array of two")
    return [digest(reader), u64(reader)]


def structure(*fields):
    """`fields` are (name, reader, optional) by their keys from 0 on."""

    def read(reader):
        count = reader.head(5)
        found, least = {}, 0
        for _ in range(count):
            key = reader.head(0)
            if key < least or key >= len(fields):
                raise Wrong(f"key {key} has no place here")
            least = key + 1
            found[fields[key][0]] = fields[key][1](reader)
        for name, _, optional in fields:
            if name not in found and not optional:
                raise Wrong(f"{name} is missing")
        return found

    return read


def choice(*variants):
    """`variants` are lists of readers, by their numbers from 0 on."""

    def read(reader):
        if reader.head(4) != 2:
            raise Wrong("a choice is an array of two")
        number = reader.head(0)
        if number >= len(variants):
            raise Wrong(f"no variant {number}")
        if reader.head(4) != len(variants[number]):
            raise Wrong("another number of fields")
        return [number, [field(reader) for field in variants[number]]]

    return read


def must(name, read):
    return (name, read, False)


def may(name, read):
    return (name, read, True)


u32, u64, digest = integer(U32), integer(U64), octets(32)
# A member's name is 32 bytes; whether they are a key shows when something has to be verified with it.
member = octets(32)

join = structure(must("role", plain(2)), must("seen", u64), may("draw_key", digest), may("recovery", member))
leave = structure(must("seen", u64))
seat = structure(must("member", member), must("steps", u32))
round_open = structure(
    must("round", u64), must("stage", u32), must("start_state", blob), must("seats", listed(seat))
)
commit = structure(
    must("round", u64),
    must("start_state", digest),
    must("work", digest),
    must("steps", u32),
    must("contribution", blob),
    must("trace", blob),
    may("feedback_in", blob),
    must("feedback_out", blob),
    must("tokens", u64),
    must("loss_first", u64),
    must("loss_last", u64),
    must("train_ms", u64),
    may("moments", digest),
)
seal = structure(must("round", u64), must("commits", listed(u64)))
challenge = structure(must("round", u64), must("proof", octets(80)))
divergence = structure(
    must("what", plain(11)),
    must("replayed", blob),
    may("first_step", u32),
    may("claimed", u64),
    may("replayed_loss", u64),
    may("trace", blob),
)
finding = choice([], [divergence], [plain(1)])
deviation = structure(
    must("distance", u64),
    must("angle", u64),
    must("tensor_distance", u64),
    must("tensor_angle", u64),
    must("loss", u64),
    must("gradient_norm", u64),
    must("moments", u64),
)
verdict = structure(
    must("round", u64), must("commit", u64), must("finding", finding), may("deviation", deviation)
)
exclusion = structure(must("commit", u64), must("reason", choice([u64], [], [], [])))
round_close = structure(
    must("round", u64), must("included", listed(u64)), must("excluded", listed(exclusion))
)
outcome = structure(must("round", u64), must("state", blob))
penalty = structure(must("member", member), must("verdict", u64))
end = structure(must("rounds", u64), must("state", blob))
rotate = structure(
    must("member", member), must("successor", member), may("draw_key", digest), must("consent", octets(64))
)
revoke = structure(must("member", member))
late = structure(must("commit", commit), must("restored", blob))
opening = structure(must("round", u64), must("proof", octets(80)))


def manifest(_):
    raise Wrong("manifests are not read here")


KINDS = [
    ("manifest", manifest),
    ("join", join),
    ("leave", leave),
    ("round_open", round_open),
    ("commit", commit),
    ("seal", seal),
    ("challenge", challenge),
    ("verdict", verdict),
    ("round_close", round_close),
    ("outcome", outcome),
    ("penalty", penalty),
    ("end", end),
    ("late", late),
    ("opening", opening),
    ("rotate", rotate),
    ("revoke", revoke),
]
event = choice(*[[read] for _, read in KINDS])


def main():
    for line in sys.stdin:
        reader = Reader(bytes.fromhex(line.strip()))
        try:
            number, _ = event(reader)
            if reader.at != len(reader.data):
                raise Wrong("bytes after the end")
            print("yes", KINDS[number][0])
        except Wrong as wrong:
            print("no", wrong)


if __name__ == "__main__":
    main()
