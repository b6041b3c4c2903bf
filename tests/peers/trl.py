"""A device that watches the token revocation list, with aiocoap: CoAP, Observe, OSCORE and EDHOC that are none of ours.

    trl.py HOST DEVICE_KEY_PEM SERVER_CREDENTIAL_HEX

Reads what is there and the signed list, then writes what the device is told, one JSON line for each notification, until it is
told that it is registered no more, or something else fails.
"""

import asyncio
import json
import sys

import cbor2
from aiocoap import GET, Context, Message
from aiocoap.error import Error
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from station import Key


def say(**what):
    print(json.dumps(what), flush=True)


def hashes(response):
    told = cbor2.loads(response.payload)
    return {
        "code": response.code.dotted,
        "format": int(response.opt.content_format),
        "keys": list(told),
        "hashes": sorted(token_hash.hex() for token_hash in told[0]),
    }


async def get(context, uri):
    """A GET without protection. aiocoap 0.4.17 answers no Echo but under OSCORE: a server that asks for one gets it here."""
    response = await context.request(Message(code=GET, uri=uri)).response
    if response.code.dotted == "4.01" and response.opt.echo is not None:
        response = await context.request(Message(code=GET, uri=uri, echo=response.opt.echo)).response
    return response


async def main(host, key_file, credential):
    with open(key_file, "rb") as file:
        key = Key(load_pem_private_key(file.read(), None))
    context = await Context.create_client_context()
    core = await get(context, f"coap://{host}/.well-known/core")
    say(core=core.payload.decode())
    # Block by block.
    listed = await get(context, f"coap://{host}/list")
    say(code=listed.code.dotted, list=listed.payload.hex())
    plain = await get(context, f"coap://{host}/revoke/trl")
    say(plain=plain.code.dotted)

    credentials = {
        "suite": 2,
        "method": 3,
        "own_cred_style": "by-key-id",
        "own_cred": {14: {8: {1: key.cose}}},
        "private_key": key.private(),
        "peer_cred": {14: cbor2.loads(bytes.fromhex(credential))},
    }
    context.client_credentials.load_from_dict({f"coap://{host}/*": {"edhoc-oscore": credentials}})
    watching = context.request(Message(code=GET, uri=f"coap://{host}/revoke/trl", observe=0))
    try:
        first = await watching.response
        if not first.code.is_successful():
            say(refused=first.code.dotted)
            return
        say(**hashes(first))
        async for told in watching.observation:
            if not told.code.is_successful():
                say(ended=told.code.dotted)
                return
            say(**hashes(told))
    except Error as error:
        say(error=repr(error))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
