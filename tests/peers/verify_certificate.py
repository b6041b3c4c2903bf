"""Verifies a device certificate with pycose, which shares no code with this project.

Reads the SlotView of /comm/owner in hex from standard input, writes what the certificate says as JSON.
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
CNF = 8

view = cbor2.loads(bytes.fromhex(sys.stdin.read().strip()))
anchor, certificate = view[1], view[2]

message = Sign1Message.decode(certificate)
message.key = EC2Key(crv=P256, x=anchor[-2], y=anchor[-3])
assert message.verify_signature(), "the signature does not verify under the anchor"

# One changed byte, and it must not.
message.payload = message.payload[:-1] + bytes([message.payload[-1] ^ 1])
assert not message.verify_signature(), "a changed payload verifies"

protected = cbor2.loads(cbor2.loads(certificate).value[0])
claims = cbor2.loads(cbor2.loads(certificate).value[2])
assert message.phdr[Algorithm] is Es256
json.dump(
    {
        "typ": protected[TYP],
        "iss": claims[1],
        "sub": claims[2],
        "iat": claims[6],
        "cti": claims[7].hex(),
        "x": claims[CNF][1][-2].hex(),
        "anchor_kid": anchor[2].hex(),
    },
    sys.stdout,
)
