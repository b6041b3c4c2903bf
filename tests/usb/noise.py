#!/usr/bin/env python3
"""Frames that a device at a USB cable may get from its host and has nothing to do with: noise.py INTERFACE

A router's advertisement with a prefix, a router solicitation, mDNS, ARP and IPv4, and frames that make no sense at all."""

import os
import random
import socket
import struct
import sys

interface = sys.argv[1]
line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
line.bind((interface, 0))
own = line.getsockname()[4]
random.seed(1)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv6(group, protocol, payload, place, hops=255):
    """A packet from a link-local address to a group, its checksum at `place` of the payload."""
    source = socket.inet_pton(socket.AF_INET6, "fe80::dead:beef")
    group = socket.inet_pton(socket.AF_INET6, group)
    pseudo = source + group + struct.pack("!II", len(payload), protocol)
    payload = payload[:place] + struct.pack("!H", checksum(pseudo + payload)) + payload[place + 2 :]
    packet = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + source + group + payload
    return b"\x33\x33" + group[-4:] + own + b"\x86\xdd" + packet


prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, 86400, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8::")
advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix
solicitation = struct.pack("!BBHI", 133, 0, 0, 0)
question = struct.pack("!6H", 0, 0, 1, 0, 0, 0) + b"\x05_coap\x04_udp\x05local\0" + struct.pack("!2H", 12, 1)
mdns = struct.pack("!4H", 5353, 5353, 8 + len(question), 0) + question
arp = struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + own + bytes([169, 254, 1, 1]) + bytes(6) + bytes([169, 254, 1, 2])

frames = [
    ipv6("ff02::1", 58, advertisement, 2),
    ipv6("ff02::2", 58, solicitation, 2),
    ipv6("ff02::fb", 17, mdns, 6),
    b"\xff" * 6 + own + b"\x08\x06" + arp,
    b"\xff" * 6 + own + b"\x08\x00" + b"\x45" + os.urandom(40),
]
for round in range(20):
    for frame in frames:
        line.send(frame)
        # The same with a bit turned, cut off, and with a length that is not its own.
        turned = bytearray(frame)
        turned[random.randrange(14, len(turned))] ^= 1 << random.randrange(8)
        line.send(bytes(turned))
        line.send(frame[: random.randrange(14, len(frame))])
    line.send(own + own + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, 0xFFFF, 17, 255) + os.urandom(32))
    line.send(b"\xff" * 6 + own + os.urandom(2 + random.randrange(1400)))
