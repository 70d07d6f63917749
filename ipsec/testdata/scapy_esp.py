"""Opens ESP packets with scapy and seals others with it. Standard input: one JSON
object a line; standard output: one a line. GMAC, which scapy lacks, is done with
python3-cryptography here, from RFC 4543. A job with "inside" is about metadata: next
header 99 and those octets behind the clear packet's own header, whatever the mode."""
import json
import sys

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

AUTHS = {"": "NULL", "sha1": "HMAC-SHA1-96", "sha256": "SHA2-256-128", "sha384": "SHA2-384-192", "sha512": "SHA2-512-256"}
CIPHERS = {"null": "NULL", "3des": "3DES", "cbc": "AES-CBC", "gcm": "AES-GCM"}


def ip(raw):
    return IPv6(raw) if raw[0] >> 4 == 6 else IP(raw)


def outer(packet):
    if isinstance(packet, IPv6):
        return IPv6(src=packet.src, dst=packet.dst)
    return IP(src=packet.src, dst=packet.dst)


def with_metadata(j, clear):
    head = outer(ip(clear))
    if isinstance(head, IPv6):
        head.nh = 99
    else:
        head.proto = 99
    return head / Raw(bytes.fromhex(j["inside"]))


def inside(packet):
    """What is behind the header of an opened packet, which must name metadata."""
    if (packet.nh if isinstance(packet, IPv6) else packet.proto) != 99:
        raise ValueError("next header isn't 99")
    return bytes(packet.payload)


def gmac(j, clear, sealed):
    key, salt = bytes.fromhex(j["key"])[:-4], bytes.fromhex(j["key"])[-4:]
    aead = AESGCM(key)
    at = 40 if sealed[0] >> 4 == 6 else 20
    esp = sealed[at:]
    aead.decrypt(salt + esp[8:16], esp[-16:], esp[:-16])  # raises on a wrong tag
    body = esp[16:-16]
    opened = body[: len(body) - 2 - body[-2]]
    iv = bytes.fromhex("0001020000000777")
    plain, nh = clear, 41 if clear[0] >> 4 == 6 else 4
    if j.get("inside"):
        plain, nh = bytes.fromhex(j["inside"]), 99
        if body[-1] != 99:
            raise ValueError("next header isn't 99")
    pad = -(len(plain) + 2) % 4
    new = j["spi"].to_bytes(4, "big") + j["seq"].to_bytes(4, "big") + iv + plain
    new += bytes(range(1, pad + 1)) + bytes([pad, nh])
    new += aead.encrypt(salt + iv, b"", new)
    head = outer(ip(clear))
    if isinstance(head, IPv6):
        head.nh = 50
    else:
        head.proto = 50
    return opened, bytes(head / new)


def main():
    for line in sys.stdin:
        j = json.loads(line)
        clear, sealed = bytes.fromhex(j["clear"]), bytes.fromhex(j["sealed"])
        try:
            if j["cipher"] == "gmac":
                opened, again = gmac(j, clear, sealed)
            else:
                sa = SecurityAssociation(
                    ESP, spi=j["spi"], crypt_algo=CIPHERS[j["cipher"]], crypt_key=bytes.fromhex(j["key"]),
                    auth_algo=AUTHS[j["auth"]], auth_key=bytes.fromhex(j["authkey"]) or None,
                    tunnel_header=outer(ip(clear)) if j["tunnel"] and not j.get("inside") else None)
                opened = sa.decrypt(ip(sealed))
                opened = inside(opened) if j.get("inside") else bytes(opened)
                iv = bytes.fromhex("0001020000000777") if j["cipher"] == "gcm" else None
                new = with_metadata(j, clear) if j.get("inside") else ip(clear)
                again = bytes(sa.encrypt(new, seq_num=j["seq"], iv=iv))
            print(json.dumps({"opened": opened.hex(), "sealed": again.hex()}), flush=True)
        except Exception as e:  # the Go test shows it
            print(json.dumps({"error": repr(e)}), flush=True)


main()
