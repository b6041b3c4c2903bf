"""A station that shares no code with this project: aiocoap speaks CoAP, OSCORE and EDHOC, cryptography signs.

    station.py SCENARIO HOST [ISSUER_PEM DEVICE_ID]

Does one of the scenarios below with the device at HOST, and writes what happened as JSON.
"""

import asyncio
import hashlib
import json
import sys
import time
from collections import Counter

import cbor2
from aiocoap import GET, POST, PUT, Context, Message
from aiocoap.error import ResponseWrappingError
from aiocoap.oscore import NotAProtectedMessage
from aiocoap.transports.oscore import OSCOREAddress
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SMALL = 2  # SZX of blocks of 64 bytes
TOKEN_TYP = "application/comm-token+cwt"


class Key:
    """A P-256 key as this project writes them: y is even, kid begins the thumbprint (RFC 9679)."""

    def __init__(self, key):
        point, d = key.public_key().public_numbers(), key.private_numbers().private_value
        self.signer = key if point.y % 2 == 0 else ec.derive_private_key(ORDER - d, ec.SECP256R1())
        point = self.signer.public_key().public_numbers()
        x, y = point.x.to_bytes(32, "big"), point.y.to_bytes(32, "big")
        thumbprint = hashlib.sha256(cbor2.dumps({1: 2, -1: 1, -2: x, -3: y}, canonical=True)).digest()
        self.cose = {1: 2, 2: thumbprint[:8], -1: 1, -2: x, -3: y}

    @classmethod
    def generate(cls):
        return cls(ec.generate_private_key(ec.SECP256R1()))

    def private(self):
        return {1: 2, -1: 1, -4: self.signer.private_numbers().private_value.to_bytes(32, "big")}

    def sign(self, typ, claims):
        """A tagged COSE_Sign1."""
        protected, payload = cbor2.dumps({1: -7, 16: typ}, canonical=True), cbor2.dumps(claims, canonical=True)
        signed = cbor2.dumps(["Signature1", protected, b"", payload])
        r, s = utils.decode_dss_signature(self.signer.sign(signed, ec.ECDSA(SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))


class Station:
    """A CoAP client with no session, or with one under EDHOC from its first request on."""

    def __init__(self, host):
        self.host = host
        self.session = None

    async def __aenter__(self):
        self.context = await Context.create_client_context()
        return self

    async def __aexit__(self, *_):
        await self.context.shutdown()

    async def authenticate(self, key, style, credential_key=None, combined=True):
        """The next request does EDHOC with `key`. The credential names that key, or `credential_key`."""
        device = cbor2.loads((await self.request(GET, "comm")).payload)
        credentials = {
            "suite": 2,
            "method": 3,
            "own_cred_style": style,
            "own_cred": {14: {8: {1: (credential_key or key).cose}}},
            "private_key": key.private(),
            "peer_cred": {14: cbor2.loads(device[2])},
            "use_combined_edhoc": combined,
        }
        self.context.client_credentials.load_from_dict({f"coap://{self.host}/*": {"edhoc-oscore": credentials}})

    @property
    def requests_sent(self):
        """How many in this session: blocks count."""
        return self.session.sender_sequence_number

    async def request(self, code, path, payload=b"", small_blocks=False, **options):
        message = Message(code=code, uri=f"coap://{self.host}/{path}", payload=payload, **options)
        if small_blocks:
            await self.context.find_remote_and_interface(message)
            message.remote.maximum_block_size_exp = SMALL
        response = await self.context.request(message).response
        if isinstance(response.remote, OSCOREAddress):
            # aiocoap 0.4.17 does not remember the session: it would do EDHOC anew for the next request.
            self.session = response.remote.security_context
            self.context.client_credentials[f"coap://{self.host}/*"] = self.session
        return response


async def attempt(request):
    """What came of a request, as JSON can say it."""
    try:
        response = await request
    except NotAProtectedMessage as error:
        return {"unprotected": error.plain_message.code.dotted}
    except ResponseWrappingError as error:
        return {"unprotected": error.coapmessage.code.dotted}
    answer = {"code": response.code.dotted, "payload": response.payload.hex()}
    if (block := response.opt.block2) is not None:
        answer |= {"last_block": block.block_number, "block_size": block.size}
    return answer


async def by_kid(host, issuer_pem, device_id):
    """/comm/owner by kid: without a token, then with one, combined with message_3 and apart from it."""
    with open(issuer_pem, "rb") as file:
        issuer = Key(load_pem_private_key(file.read(), None))
    station, now = Key.generate(), int(time.time())
    issuer_id = issuer.cose[2].hex()
    scope = cbor2.dumps([["/comm/owner", 1]])
    token = issuer.sign(
        TOKEN_TYP, {1: issuer_id, 3: device_id, 4: now + 3600, 6: now, 8: {1: station.cose}, 9: scope}
    )

    async def visit(key, combined):
        async with Station(host) as client:
            await client.authenticate(key, "by-key-id", credential_key=station, combined=combined)
            return await attempt(client.request(GET, "comm/owner"))

    answers = {"stranger": await visit(station, True)}
    async with Station(host) as client:
        answers["token"] = await attempt(client.request(POST, "authz-info", token))
    answers["impostor"] = await visit(Key.generate(), True)
    answers["combined"] = await visit(station, True)
    answers["apart"] = await visit(station, False)
    return answers


async def block1(host):
    """Bodies in inner blocks that make no sense or are too large, then a claim in blocks of 64 bytes."""
    contents = cbor2.dumps({1: Key.generate().cose}, canonical=True)
    answers = {"digest": hashlib.sha256(contents).hexdigest()}
    async with Station(host) as client:

        async def put(*arguments, **options):
            first = client.requests_sent
            answer = await attempt(client.request(PUT, "comm/owner", *arguments, **options))
            return answer | {"requests": client.requests_sent - first}

        await client.authenticate(Key.generate(), "by-value")
        # EDHOC, apart from what follows: message_3 by value and a block of 1024 bytes are too much for one datagram.
        answers["before"] = await attempt(client.request(GET, "comm"))
        for length in (1600, 3000):
            answers[str(length)] = await put(b"\xa5" * length)
        answers["after"] = await attempt(client.request(GET, "comm"))
        answers["claim"] = await put(contents, small_blocks=True)
    return answers


async def block2(host):
    """Two resources whole and in blocks of 64 bytes, without security and under OSCORE."""
    answers = []
    async with Station(host) as client:
        for security in ("none", "OSCORE"):
            if security == "OSCORE":
                await client.authenticate(Key.generate(), "by-value")
            for path in (".well-known/core", "comm"):
                whole = await attempt(client.request(GET, path))
                blocks = await attempt(client.request(GET, path, block2=(0, False, SMALL)))
                answers.append({"security": security, "path": path, "whole": whole, "blocks": blocks})
    return answers


async def thousand(host):
    """As many requests on one session. How many of the answers were which?"""
    codes, sessions = Counter(), set()
    async with Station(host) as client:
        await client.authenticate(Key.generate(), "by-value")
        for _ in range(1000):
            response = await client.request(GET, "comm/owner")
            codes[response.code.dotted] += 1
            sessions.add(client.session)
        return {"codes": codes, "sessions": len(sessions), "requests": client.requests_sent}


async def wrong_key(host):
    """EDHOC with a key that is not the one in the credential, then with the right one."""
    answers = {}
    credential = Key.generate()
    for name, key in (("wrong", Key.generate()), ("right", credential)):
        for combined in (True, False):
            async with Station(host) as client:
                await client.authenticate(key, "by-value", credential_key=credential, combined=combined)
                answer = await attempt(client.request(GET, "comm/owner"))
                answers[f"{name}, {'combined' if combined else 'apart'}"] = answer
    return answers


SCENARIOS = {scenario.__name__: scenario for scenario in (by_kid, block1, block2, thousand, wrong_key)}

if __name__ == "__main__":
    json.dump(asyncio.run(SCENARIOS[sys.argv[1]](*sys.argv[2:])), sys.stdout)
