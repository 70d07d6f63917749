"""Opens ESP packets and seals packets with scapy.

stdin: JSON list of SAs: {spi, crypt, key, icv, auth, authkey, transport, sealed: [hex],
plain: [hex]}. stdout: JSON list of {opened: [hex], sealed: [hex]}."""
import json
import sys

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation


def packet(octets):
    return IP(octets) if octets[0] >> 4 == 4 else IPv6(octets)


out = []
for sa in json.load(sys.stdin):
    r = {"opened": [], "sealed": []}
    for way in ("sealed", "plain"):
        for i, text in enumerate(sa[way] or []):
            p = packet(bytes.fromhex(text))
            words = dict(spi=sa["spi"], crypt_algo=sa["crypt"], auth_algo=sa["auth"] or None)
            if sa["key"]:
                words["crypt_key"] = bytes.fromhex(sa["key"])
            if sa["authkey"]:
                words["auth_key"] = bytes.fromhex(sa["authkey"])
            if sa["icv"]:
                words["crypt_icv_size"] = sa["icv"]
            if not sa["transport"]:
                words["tunnel_header"] = type(p)(src=p.src, dst=p.dst)
            a = SecurityAssociation(ESP, **words)
            if way == "sealed":
                r["opened"].append(bytes(a.decrypt(p)).hex())
            else:
                r["sealed"].append(bytes(a.encrypt(p, seq_num=i + 1)).hex())
    out.append(r)
json.dump(out, sys.stdout)
