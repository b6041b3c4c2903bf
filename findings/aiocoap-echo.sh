#!/usr/bin/env bash
# aiocoap 0.4.17 as a client of plain CoAP: a 4.01 with an Echo option (RFC 9175 section 2.3, the server's way to prove the
# client's address) is handed to the application as the answer. The request is not repeated with the option, as "the client
# SHOULD" there; under OSCORE it is. So a program that reads a device or `commissioner serve` over a network without security
# has to repeat the request itself, as tests/peers/trl.py does.
#
# Seen with aiocoap 0.4.17 from PyPI, Python 3.11: "1 request, answered by 4.01 Unauthorized". Exit code 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check aiocoap==0.4.17
cat >"$folder/client.py" <<'PY'
import asyncio, socket, threading
import aiocoap

ECHO = 252
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
requests = []


def serve():
    """Asks whoever does not send an Echo for one, and says 2.05 to the others."""
    while True:
        datagram, client = server.recvfrom(1500)
        request = aiocoap.Message.decode(datagram)
        requests.append(request)
        known = any(option.number == ECHO for option in request.opt.option_list())
        answer = aiocoap.Message(code=aiocoap.CONTENT if known else aiocoap.UNAUTHORIZED)
        if not known:
            answer.opt.echo = b"12345678"
        answer.mtype, answer.mid, answer.token = aiocoap.ACK, request.mid, request.token
        server.sendto(answer.encode(), client)


async def main():
    threading.Thread(target=serve, daemon=True).start()
    context = await aiocoap.Context.create_client_context()
    uri = f"coap://127.0.0.1:{server.getsockname()[1]}/"
    answer = await context.request(aiocoap.Message(code=aiocoap.GET, uri=uri)).response
    print(f"{len(requests)} request, answered by {answer.code}")
    # With the option it is understood: the server, and the option, are as they should be.
    again = aiocoap.Message(code=aiocoap.GET, uri=uri)
    again.opt.echo = answer.opt.echo
    print(f"with the option: {(await context.request(again).response).code}")
    await context.shutdown()


asyncio.run(main())
PY
seen=$("$folder/venv/bin/python" "$folder/client.py")
echo "$seen"
[ "$seen" = "1 request, answered by 4.01 Unauthorized
with the option: 2.05 Content" ]
