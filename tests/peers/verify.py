"""Verifies signed objects with pycose, which shares no code with this project.

Reads JSON from standard input: `view`, the SlotView of /comm/owner as its owner sees it, and perhaps `token`, a station
token, both in hex. Writes what the certificate and the token say, as JSON.
"""

import json
import sys

import cbor2
from pycose.algorithms import Es256
from pycose.headers import Algorithm
from pycose.keys import EC2Key
from pycose.keys.curves import P256
from pycose.messages import Sign1Message

TYP = 16


def verify(anchor, signed):
    """The `typ` and the claims of a COSE_Sign1 that verifies under `anchor`, and with one bit flipped does not."""
    key = EC2Key(crv=P256, x=anchor[-2], y=anchor[-3])

    def verifies(signed):
        try:
            message = Sign1Message.decode(signed)
            message.key = key
            return message.verify_signature() and message.phdr[Algorithm] is Es256
        except Exception:  # whatever a decoder thinks of a flipped bit
            return False

    assert verifies(signed), "the signature does not verify under the anchor"
    protected, unprotected, payload, signature = cbor2.loads(signed).value
    assert unprotected == {}
    # All that the signature is about, and the signature.
    for part in (protected, payload, signature):
        start = signed.index(part)
        for at in range(start, start + len(part)):
            flipped = bytes([signed[at] ^ 1 << at % 8])
            assert not verifies(signed[:at] + flipped + signed[at + 1 :]), f"with a flipped bit in byte {at} it verifies"
    protected = cbor2.loads(protected)
    assert protected == {1: -7, TYP: protected[TYP]}
    return protected[TYP], cbor2.loads(payload)


def as_text(value):
    """A value with its byte strings in hex, as JSON can hold it."""
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {str(key): as_text(item) for key, item in value.items()}
        case list():
            return [as_text(item) for item in value]
    return value


given = json.load(sys.stdin)
view = cbor2.loads(bytes.fromhex(given["view"]))
anchor = view[1]
signed = {"certificate": view[2]}
if "token" in given:
    signed["token"] = bytes.fromhex(given["token"])

seen = {"anchor": as_text(anchor)}
for name, item in signed.items():
    typ, claims = verify(anchor, item)
    if 9 in claims:
        claims[9] = cbor2.loads(claims[9])
    seen[name] = {"typ": typ, "claims": as_text(claims)}
json.dump(seen, sys.stdout)
