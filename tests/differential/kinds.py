"""The kinds of disagreement, each with its rule and the reason why it is left. What no rule explains fails.

DANGER: the helper accepts, and publishes, what another reader refuses. None of these can come from a CA that writes
DER as it should; each stays because its rule would have to know the public keys of an agent of tomorrow."""

import re

import mutants

# Of what `--mode=check` says.
STANDARD = r"SPIFFE ID|keyUsage (is missing|lacks|has)|the leaf is a CA|not a CA|trust domain|URI SAN"
UNREADABLE = r"not a DER certificate|unreadable|mandatory field is empty|public key cannot be read|not an unencrypted"


def has_large_oid(der):
    """An object identifier that const-oid cannot hold: over 39 bytes, 2.48 or more, or a number of over 32 bits."""
    for siblings, at in mutants.places(mutants.parse(der)):
        body = siblings[at].body
        groups = re.findall(rb"[\x80-\xff]*[\0-\x7f]", body, re.S) if siblings[at].tag == 6 else []
        number = lambda group: sum((byte & 0x7F) << 7 * at for at, byte in enumerate(reversed(group)))
        if groups and (len(body) > 39 or body[0] >= 0x80 or any(number(group) >> 32 for group in groups)):
            return True
    return False


def of_certificate(part, ours, tls, other, facts):
    """tls: OpenSSL's refusal to load the files. other: cryptography's to read certificate or key."""
    if ours is None and tls:
        if part == "key":
            # What is published is not this key, but the helper's own encoding of it.
            return facts.published_key_loads() and "key that check takes as it is, and that is published mended"
        if part != "leaf" and facts.flags == "unread" and "AlgorithmIdentifier::params" in other:
            return f"DANGER {part} with a public key whose parameters hold no value of their type"
        if part == "intermediate" and tls == "CA_KEY_TOO_SMALL" and other:
            return "DANGER intermediate with a public key that OpenSSL does not know or cannot read"
        return None
    if ours is None:
        return other and f"{part} that cryptography alone refuses: it reads every field and extension at once"
    if re.search("there twice", ours) and "Duplicate" in (other or ""):
        return "stricter: an extension twice, which RFC 5280 forbids (OpenSSL loads it in an intermediate)"
    if re.search(UNREADABLE, ours) and other:
        return f"stricter: {part} that is not DER or not of its type (cryptography refuses it too)"
    if "signature algorithms of a certificate differ" in ours:
        return f"stricter: {part} with two signature algorithms (OpenSSL verifies none, when it loads the file)"
    if "numbers do not belong" in ours and other:
        return "stricter: an RSA key whose numbers do not belong together (cryptography refuses it too)"
    if "keyUsage extension" in ours and re.search(rb"\x55\x1d\x0f\x01\x01\xff\x04.\x03[\x04-\x7f]", facts.der, re.S):
        return f"stricter: {part} with a keyUsage of more than 16 bits (RFC 5280 has 9)"
    # What cannot be read at all has no SPIFFE ID, says check.
    if re.search("malformed OID|mandatory field is empty", ours) and has_large_oid(facts.der):
        return "stricter: an object identifier that const-oid cannot hold (2.48 or more, or a number over 32 bits)"
    if "mandatory field is empty" in ours and not facts.has_uri():
        return "stricter: a leaf without a URI, and so without a SPIFFE ID"
    if re.search(STANDARD, ours):
        return f"stricter: {part} that breaks a rule of SPIFFE"
    if re.search("expired at|not valid until|ends at .* before it begins", ours):
        return f"stricter: {part} that is not valid now"
    if "holds no CA that has issued" in ours:
        return f"stricter: {part} whose names lead to no CA of the bundle"
    return None


def of_pem(ours, tls):
    if ours and not tls and re.search("is not the PEM of|and nothing else", ours):
        return "stricter: text around blocks, or another form of PEM than RFC 7468 has"
    if ours and not tls and "holds no CA that has issued" in ours:
        return "stricter: a file that ends before its intermediate (OpenSSL verifies no chain, when it loads the file)"
    return None


def of_keystore(ours, theirs, loads_without_attributes):
    if ours is None and "another chain" in theirs:
        return "keystore with another intermediate, which both readers take: neither verifies its signature"
    if ours is None:
        return loads_without_attributes() and "keystore with attributes that check skips, and the helper never wrote"
    if ours and theirs is None and "not the DER of PKCS#12" in ours:
        return "stricter: a keystore that is not DER (OpenSSL takes BER)"
    if ours and theirs is None and re.search("its (MAC|encryption|key derivation)|holds something other", ours):
        return "stricter: a keystore that is not of the one form that the helper writes"
    return None


def of_jwks(ours, theirs):
    if ours and theirs is None and "recursion limit" in ours:
        return "stricter: a JWKS nested more than 127 deep"
    if ours and theirs is None and "number out of range" in ours:
        return "stricter: a JWKS with a number that is too large for a double (RFC 8259, section 6)"
    return None
