"""Mutants of DER and of text, from a seeded generator: each breaks one thing."""


class Node:
    """A tag with what it holds: more nodes, or bytes. Nodes may stand in an octet or a bit string, too."""

    def __init__(self, tag, body):
        self.tag, self.body, self.lead, self.children, self.form = tag, body, b"", None, "der"
        try:
            if tag & 0x20:
                self.children = parse(body)
            elif tag == 4 and body[:1] in (b"\x30", b"\x04", b"\x03", b"\xa0"):
                self.children = parse(body)
            elif tag == 3 and body[:2] == b"\0\x30":
                self.lead, self.children = b"\0", parse(body[1:])
        except (ValueError, IndexError):
            self.lead = b""

    def content(self):
        return self.lead + encode(self.children) if self.children is not None else self.body

    def encode(self):
        content = self.content()
        length = len(content) + {"longer": 1, "shorter": -1}.get(self.form, 0)
        if self.form == "indefinite":
            return bytes([self.tag, 0x80]) + content + b"\0\0"
        octets = max(length, 0).to_bytes((max(length, 1).bit_length() + 7) // 8, "big")
        if self.form == "not minimal":
            octets = b"\0" + octets
        elif length < 0x80:
            return bytes([self.tag, max(length, 0)]) + content
        return bytes([self.tag, 0x80 + len(octets)]) + octets + content


def parse(der):
    nodes = []
    while der:
        length, begin = der[1], 2
        if length >= 0x80:
            begin += length - 0x80
            if not 3 <= begin <= 5:
                raise ValueError("length")
            length = int.from_bytes(der[2:begin], "big")
        if der[0] & 0x1F == 0x1F or len(der) < begin + length:
            raise ValueError("tag or length")
        nodes.append(Node(der[0], der[begin : begin + length]))
        der = der[begin + length :]
    return nodes


def encode(nodes):
    return b"".join(node.encode() for node in nodes)


def places(nodes):
    """Each node's siblings, and its place among them."""
    for index, node in enumerate(nodes):
        yield nodes, index
        yield from places(node.children or [])


def flip(rng, data):
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def insert(rng, data):
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice([b"\0", b"\xff", b" ", b"\n", b'"', rng.randbytes(1), rng.randbytes(7)]) + data[at:]


def cut(rng, data):
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.choice([1, 1, 2, 8, len(data)]) :]


def trail(rng, data):
    return data + rng.choice([b"\0", b"\0\0", b"\x05\0", b"\n", rng.randbytes(4)])


RAW = {"bit flipped": flip, "bytes inserted": insert, "bytes cut": cut, "bytes behind": trail}


def integer(change):
    return lambda rng, siblings, at: siblings[at].tag == 2 and replace(siblings[at], change(siblings[at].body))


def replace(node, body):
    node.body, node.children = body, None
    return True


def value(change):
    return lambda rng, siblings, at: siblings[at].body and replace(siblings[at], change(rng, siblings[at].body))


def form(name):
    def mutate(_rng, siblings, at):
        siblings[at].form = name
        return name != "indefinite" or siblings[at].tag & 0x20

    return mutate


def swap(rng, siblings, at):
    other = rng.randrange(len(siblings))
    siblings[at], siblings[other] = siblings[other], siblings[at]
    return other != at


def retag(rng, siblings, at):
    siblings[at].tag = rng.choice([1, 2, 3, 4, 5, 6, 12, 19, 20, 22, 23, 24, 48, 49, 128, 130, 134, 160, 161, 163])
    return True


TREE = {
    "TLVs swapped": swap,
    "TLV doubled": lambda rng, siblings, at: siblings.insert(at, siblings[at]) or True,
    "TLV dropped": lambda rng, siblings, at: siblings.pop(at),
    "TLV added": lambda rng, siblings, at: siblings.insert(at, Node(5, b"")) or True,
    "tag changed": retag,
    "value emptied": lambda rng, siblings, at: replace(siblings[at], b""),
    "value flipped": value(flip),
    "value longer": value(insert),
    "value shorter": value(cut),
    "INTEGER padded": integer(lambda body: b"\0" + body),
    "INTEGER negative": integer(lambda body: bytes([body[0] | 0x80]) + body[1:] if body else b"\x80"),
    "length not minimal": form("not minimal"),
    "length indefinite": form("indefinite"),
    "length too long": form("longer"),
    "length too short": form("shorter"),
}


def of_der(rng, der, finish=lambda nodes: None):
    """One mutant, and what was done to it. `finish` mends what depends on the bytes."""
    while True:
        name = rng.choice([*TREE, *TREE, *RAW])
        if name in RAW:
            mutant = RAW[name](rng, der)
        else:
            nodes = parse(der)
            if not TREE[name](rng, *rng.choice(list(places(nodes)))):
                continue
            finish(nodes)
            mutant = encode(nodes)
        if mutant != der:
            return name, mutant


def of_text(rng, text):
    while True:
        name = rng.choice([*RAW])
        mutant = RAW[name](rng, text)
        if mutant != text:
            return name, mutant
