#!/usr/bin/env python3
r"""Check a proof of `psm anchor prove`, without PSM: `verify_anchor_proof.py PROOF PUBLIC_KEY`.

Needs Python 3.9 or newer and the package `cryptography`. PROOF is the JSON file (- for standard
input), PUBLIC_KEY the PEM file of whoever signs the anchors. Exit 0: the event is in the log that
the anchor covers, bytes and place; 1: it is not proven; 2: a file cannot be read.

The rules, for those who would rather write their own:

* The signature (Ed25519) is over "psm-anchor\n" and the anchor as JSON without `signature`, and
  without `risk` where that is null, keys sorted, no blanks.
* A leaf is SHA-256(00 + event_hash + subject), a node SHA-256(01 + left + right): RFC 9162.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key


def main(arguments):
    """Print what was checked; return the exit code."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        given = sys.stdin.read() if arguments[0] == "-" else Path(arguments[0]).read_text("utf-8")
        proof = json.loads(given)
        key = load_pem_public_key(Path(arguments[1]).read_bytes())
    except (OSError, ValueError) as error:
        print(f"cannot read: {error}", file=sys.stderr)
        return 2
    try:
        for name, holds in checks(proof, key):
            print(f"{'ok ' if holds else 'BAD'} {name}")
            if not holds:
                return 1
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        print(f"BAD the proof is malformed: {error!r}")
        return 1
    anchor = proof["anchor"]
    print(
        f"log sequence {proof['log_sequence']} on {proof['subject']} is one of the first "
        f"{anchor['size']} messages of {anchor['log']}, signed {anchor['created_at']}"
    )
    return 0


def checks(proof, key):
    """Yield (what, whether it holds)."""
    anchor = proof["anchor"]
    event = base64.b64decode(proof["event_base64"], validate=True)
    yield "the anchor is signed by this key", is_signed(anchor, key)
    event_hash = hashlib.sha256(event).digest()
    yield "the event's bytes give its hash", event_hash.hex() == proof["event_hash"]
    index, size = proof["leaf_index"], anchor["size"]
    place = anchor["first_sequence"] + index
    yield "the leaf is the log sequence's", place == proof["log_sequence"]
    leaf = hashlib.sha256(b"\x00" + event_hash + proof["subject"].encode()).digest()
    path = [bytes.fromhex(node) for node in proof["inclusion"]]
    root = bytes.fromhex(anchor["root"])
    yield "the event is in the anchor's tree", includes(leaf, index, size, path, root)
    if "older_anchor" in proof:
        older = proof["older_anchor"]
        yield "the older anchor is signed by this key", is_signed(older, key)
        same = all(older[name] == anchor[name] for name in ("log", "first_sequence"))
        yield "both anchors are of the same log", same
        path = [bytes.fromhex(node) for node in proof["consistency"]]
        grew = continues(older["size"], bytes.fromhex(older["root"]), size, root, path)
        yield f"the log only grew from {older['size']} to {size} messages", grew


def is_signed(anchor, key):
    """Return whether the key signed this anchor."""
    fields = {name: value for name, value in anchor.items() if name != "signature"}
    if fields.get("risk") is None:
        fields.pop("risk", None)
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        key.verify(bytes.fromhex(anchor["signature"]), b"psm-anchor\n" + text.encode())
    except InvalidSignature:
        return False
    return True


def node(left, right):
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def includes(leaf, index, size, path, root):
    """RFC 9162, 2.1.3.2: return whether `leaf` is leaf `index` of the tree of `size` leaves."""
    if not 0 <= index < size:
        return False
    number, last, computed = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if number % 2 or number == last:
            computed = node(sibling, computed)
            while number % 2 == 0 and number:
                number, last = number // 2, last // 2
        else:
            computed = node(computed, sibling)
        number, last = number // 2, last // 2
    return last == 0 and computed == root


def continues(old_size, old_root, size, root, path):
    """RFC 9162, 2.1.4.2: return whether the older tree is a prefix of the newer one."""
    if old_size == size:
        return not path and old_root == root
    if not 0 < old_size < size:
        return False
    path = [old_root, *path] if old_size & (old_size - 1) == 0 else list(path)
    if not path:
        return False
    number, last = old_size - 1, size - 1
    while number % 2:
        number, last = number // 2, last // 2
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if number % 2 or number == last:
            old, new = node(sibling, old), node(sibling, new)
            while number % 2 == 0 and number:
                number, last = number // 2, last // 2
        else:
            new = node(new, sibling)
        number, last = number // 2, last // 2
    return last == 0 and old == old_root and new == root


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
