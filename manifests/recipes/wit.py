#!/usr/bin/env python3
# A client that proves its identity with its WIT-SVID, and a server that checks the proof.
#
#   pod-svid-helper --mode=refresh --svid-path=/var/run/secret/svid --wit-svid-file-name=wit.jwt \
#     --wit-key-file-name=wit.jwk --wit-bundle-file-name=wit-bundle.json
#
# - A WIT-SVID alone proves nothing. The client signs a proof with its key, for each request: here a Workload Proof
#   Token (draft-ietf-wimse-wpt). Both are headers of the request, Workload-Identity-Token and Workload-Proof-Token.
# - The client reads token and key from one directory behind `..data`. A key of another rotation is another key.
# - The server needs the bundle alone. It reads the file again for each request, or when `..data` is renamed. It also
#   remembers each `jti` until `exp`, so that nobody can use a proof twice; this example does not.
# - The helper does not verify the signature of a WIT-SVID, and the server does not look at more than its SPIFFE ID.
# - Each library for JSON Web Tokens reads these files. This one is PyJWT: pip install 'pyjwt[crypto]'
#
# usage: wit.py prove DIRECTORY AUDIENCE            prints WIT-SVID and proof
#        wit.py check DIRECTORY AUDIENCE WIT PROOF  prints the client's SPIFFE ID
import hashlib
import json
import os
import sys
import time
import uuid
from base64 import urlsafe_b64encode

import jwt

ALGORITHMS = [family + bits for family in ("RS", "ES", "PS") for bits in ("256", "384", "512")]


def read(directory, name):
    with open(os.path.join(directory, name), encoding="utf-8") as file:
        return file.read()


def hash_of(token):
    return urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


def prove(directory, audience):
    data = os.path.realpath(os.path.join(directory, "..data"))
    wit, key = read(data, "wit.jwt"), json.loads(read(data, "wit.jwk"))
    claims = jwt.decode(wit, options={"verify_signature": False})
    algorithm = claims["cnf"]["jwk"]["alg"]
    proof = {"aud": audience, "exp": int(time.time()) + 60, "jti": uuid.uuid4().hex, "wth": hash_of(wit)}
    return wit, jwt.encode(proof, jwt.PyJWK(key, algorithm).key, algorithm, headers={"typ": "wpt+jwt"})


def check(directory, audience, wit, proof):
    header = jwt.get_unverified_header(wit)
    if header.get("typ") != "wit+jwt" or jwt.get_unverified_header(proof).get("typ") != "wpt+jwt":
        raise jwt.InvalidTokenError("this is no WIT-SVID with its proof")
    keys = jwt.PyJWKSet.from_dict(json.loads(read(directory, "wit-bundle.json")))
    claims = jwt.decode(wit, keys[header["kid"]].key, ALGORITHMS, options={"require": ["sub", "exp", "cnf"]})
    bound = claims["cnf"]["jwk"]
    required = {"require": ["aud", "exp", "jti", "wth"]}
    proven = jwt.decode(proof, jwt.PyJWK(bound).key, [bound["alg"]], audience=audience, options=required)
    if proven["wth"] != hash_of(wit):
        raise jwt.InvalidTokenError("the proof is of another WIT-SVID")
    return claims["sub"]


if __name__ == "__main__":
    if sys.argv[1] == "prove":
        print(*prove(*sys.argv[2:]))
    else:
        print(check(*sys.argv[2:]))
