"""Reads exports with the parsers that other programs have: exports.py FORMAT FILE. Writes what they saw, as JSON.

peers-yml with PyYAML: the kccs, in diagnostic notation, and the scopes. cose-keyset with cbor2 and pycose. csv with Python's
own reader.
"""

import csv
import json
import sys

import cbor2
import yaml
from pycose.keys import CoseKey

kind, path = sys.argv[1:]
if kind == "peers-yml":
    with open(path) as file:
        seen = yaml.safe_load(file) or []
elif kind == "cose-keyset":
    with open(path, "rb") as file:
        keys = [CoseKey.from_dict(key) for key in cbor2.load(file)]
        assert not file.read(), "something follows"
    seen = [{"kid": key.kid.hex(), "x": key.x.hex(), "y": key.y.hex(), "curve": key.crv.fullname} for key in keys]
elif kind == "csv":
    with open(path, newline="") as file:
        seen = list(csv.DictReader(file))
else:
    sys.exit(f"no such format: {kind}")
json.dump(seen, sys.stdout)
