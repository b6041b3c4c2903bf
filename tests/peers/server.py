"""A CoAP server that is no commissioning device, of another make: aiocoap speaks CoAP, OSCORE and EDHOC.

    server.py PORT STYLE PEERS

Serves /hello at 127.0.0.1:PORT, to anyone what is public, and more to whoever proves a key: any key if PEERS is "anyone", no
key if it is "nobody". STYLE is how it sends its own credential: by-value, or by-key-id. Writes its credential as a JSON line
once it listens, and serves until it is killed.
"""

import asyncio
import json
import sys

import cbor2
from aiocoap import CONTENT, Context, Message, resource
from aiocoap.credentials import CredentialsMap
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper
from aiocoap.transports.oscore import OSCOREAddress

from station import Key


class Hello(resource.Resource):
    async def render_get(self, request):
        proved = isinstance(request.remote, OSCOREAddress)
        return Message(code=CONTENT, payload=b"hello, " + (b"whoever proved a key" if proved else b"anyone"), content_format=0)


async def main(port, style, peers):
    key = Key.generate()
    # As generated keys are elsewhere: with a subject, and a kid of no bytes.
    credential = {2: "server", 8: {1: key.cose | {2: b"" if style == "by-value" else b"srv"}}}
    own = {"suite": 2, "method": 3, "own_cred_style": style, "own_cred": {14: credential}, "private_key": key.private()}
    known = {f"coap://127.0.0.1:{port}/*": {"edhoc-oscore": own}}
    if peers == "anyone":
        known[":anyone"] = {"edhoc-oscore": {"suite": 2, "method": 3, "peer_cred": {"unauthenticated": True}}}
    credentials = CredentialsMap()
    credentials.load_from_dict(known)
    site = resource.Site()
    site.add_resource(["hello"], Hello())
    site = OscoreSiteWrapper(site, credentials)
    await Context.create_server_context(site, bind=("127.0.0.1", int(port)), server_credentials=credentials)
    print(json.dumps({"credential": cbor2.dumps(credential, canonical=True).hex()}), flush=True)
    await asyncio.get_running_loop().create_future()


asyncio.run(main(*sys.argv[1:]))
