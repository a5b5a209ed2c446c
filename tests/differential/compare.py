"""Asks the helper and other readers of the same mutants, and counts each kind of disagreement: see run, kinds.py."""

import base64
import collections
import contextlib
import ctypes
import hashlib
import hmac
import json
import os
import pathlib
import random
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import warnings

import kinds
import mutants
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

warnings.simplefilter("ignore")
RELEASE = pathlib.Path(os.environ["RELEASE"])
COUNT = int(os.environ.get("COUNT") or 300)
rng = random.Random(int(os.environ.get("SEED") or 1))
work = pathlib.Path(tempfile.mkdtemp())
pod = work / "pod"
pod.mkdir()
examples = pathlib.Path("target/differential")
inputs, found, failed = collections.Counter(), collections.Counter(), []

# The library that Python's ssl uses, and so servers on this machine.
libcrypto = ctypes.CDLL(re.search(r"\S*libcrypto\S*", pathlib.Path("/proc/self/maps").read_text())[0])
libcrypto.d2i_X509.restype = ctypes.c_void_p
libcrypto.X509_get_extension_flags.argtypes = libcrypto.X509_free.argtypes = [ctypes.c_void_p]
EXFLAG_INVALID = 0x80


def count(what, mutant, how, agree, kind):
    """One input. `kind` explains a disagreement, if it can."""
    inputs[what] += 1
    kind = f"agree: {agree}" if agree else kind
    if not kind:
        failed.append(f"{what}: {how}")
    name = re.sub("[^a-zA-Z0-9]+", "-", kind or f"unexplained {what} {len(failed)}")[:100]
    if not agree and not (examples / name).exists():
        (examples / name).write_bytes(mutant)
    found[what, kind or "UNEXPLAINED"] += 1


def publish(directory, *options, key_type="p256"):
    """What the helper writes with these options: the bytes of each file."""
    directory.mkdir()
    server = [RELEASE / "examples/workload-api-server", "--socket", directory / "agent", "--key-type", key_type]
    with subprocess.Popen([*server, "--intermediate"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        agent.stdout.readline()
        helper = [RELEASE / "pod-svid-helper", f"--workload-api-socket={directory}/agent", f"--svid-path={directory}"]
        run = subprocess.run([*helper, *options], capture_output=True, text=True)
        agent.kill()
    return run, {path.name: path.read_bytes() for path in directory.glob("*.*") if path.is_file()}


def check(*options):
    """The helper's verdict on what is in the directory: None, or why it is not good."""
    run = subprocess.run(
        [RELEASE / "pod-svid-helper", "--mode=check", f"--svid-path={pod}", *options], capture_output=True, text=True
    )
    if run.returncode not in (0, 1):
        sys.exit(f"--mode=check ended with {run.returncode}: {run.stderr}")
    return run.stderr.strip() or "no reason" if run.returncode else None


def lay(files):
    for name, contents in files.items():
        (pod / name).write_bytes(contents)


def verdict(read, *arguments):
    try:
        read(*arguments)
    except ssl.SSLError as error:
        return error.reason or str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def load():
    """As a server loads its files, and verifies clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pod / "svid.pem", pod / "svid-key.pem", password=lambda: b"")
    context.load_verify_locations(pod / "bundle.pem")


def read_certificate(der):
    certificate = x509.load_der_x509_certificate(der)
    certificate.public_key()
    return [certificate.extensions, certificate.subject, certificate.issuer, certificate.not_valid_after_utc]


def flags(der):
    """Whether OpenSSL can read a certificate, and its extensions."""
    certificate = libcrypto.d2i_X509(None, ctypes.byref(ctypes.c_char_p(der)), ctypes.c_long(len(der)))
    if not certificate:
        return "unread"
    invalid = libcrypto.X509_get_extension_flags(certificate) & EXFLAG_INVALID
    libcrypto.X509_free(certificate)
    return "invalid" if invalid else None


def pem(label, der):
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def ders(text):
    return [base64.b64decode(block) for block in re.findall(b"-----BEGIN [A-Z ]*-----\n(.*?)-----END", text, re.S)]


def pem_files(leaf, intermediate, ca, key):
    chain = pem("CERTIFICATE", leaf) + pem("CERTIFICATE", intermediate)
    return {"svid.pem": chain, "bundle.pem": pem("CERTIFICATE", ca), "svid-key.pem": pem("PRIVATE KEY", key)}


class Facts:
    """What kinds.py asks of a mutant."""

    def __init__(self, der, good, is_key):
        self.der, self.good, self.flags = der, good, None if is_key else flags(der)

    def published_key_loads(self):
        """As encode_version_1 of src/identity/private_key.rs writes it."""
        version, algorithm, key = mutants.parse(self.der)[0].children[:3]
        version.body, (_, good_algorithm, _) = b"\0", mutants.parse(self.good)[0].children[:3]
        if algorithm.children[0].body != good_algorithm.children[0].body:
            return False
        if algorithm.children[0].body in (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", b"\x2b\x65\x70"):
            algorithm = good_algorithm
        written = mutants.Node(0x30, mutants.encode([version, algorithm, key]))
        lay({"svid-key.pem": pem("PRIVATE KEY", written.encode())})
        return verdict(load) is None

    def has_uri(self):
        try:
            names = x509.load_der_x509_certificate(self.der).extensions
            names = names.get_extension_for_class(x509.SubjectAlternativeName).value
            return any(names.get_values_for_type(x509.UniformResourceIdentifier))
        except x509.ExtensionNotFound:
            return False


def compare_certificates(parts):
    for part, good in parts.items():
        for _ in range(COUNT):
            how, mutant = mutants.of_der(rng, good)
            lay(pem_files(**{**parts, part: mutant}))
            ours, tls, facts = check(), verdict(load), Facts(mutant, good, part == "key")
            read = read_certificate if part != "key" else lambda der: load_der_private_key(der, None)
            other = verdict(read, mutant)
            agree = None
            if ours and tls:
                agree = "all refuse"
            elif not (ours or tls or facts.flags or (other and part != "key")):
                agree = "all accept"
            kind = None if agree else kinds.of_certificate(part, ours, tls, other, facts)
            count("certificates and keys", mutant, f"{part}, {how}: {ours} | {tls} {facts.flags} {other}", agree, kind)


def compare_pem(files):
    for _ in range(COUNT):
        name = rng.choice([*files])
        how, mutant = mutants.of_text(rng, files[name])
        before, after = [
            [re.sub(rb"[^\w+/]", b"", block) for block in text.split(b"-----")] for text in (files[name], mutant)
        ]
        # What another DER is, the other comparisons show.
        if len(before) == len(after) and before != after:
            continue
        lay({**files, name: mutant})
        ours, tls = check(), verdict(load)
        agree = bool(ours) == bool(tls) and ("both refuse" if ours else "both accept")
        count("PEM", mutant, f"{name}, {how}: {ours} | {tls}", agree, kinds.of_pem(ours, tls))


def takes_long(nodes):
    """More iterations than the helper takes: cryptography would count for minutes."""
    found = [siblings[at] for siblings, at in mutants.places(nodes)]
    return any(node.tag == 2 and int.from_bytes(node.body, "big") > 100_000 for node in found)


def authenticate(nodes):
    """Gives a keystore's mutant the MAC of its bytes (RFC 7292, appendix B.2), so that readers look inside."""
    if takes_long(nodes):
        return
    try:
        safe, mac = nodes[0].children[1:3]
        contents, salt = safe.children[1].children[0].content(), mac.children[1].body
        password = "changeit\0".encode("utf-16-be")
        blocks = lambda text: (text * 64)[: -(-len(text) // 64) * 64]
        key = b"\3" * 64 + blocks(salt) + blocks(password)
        for _ in range(min(int.from_bytes(mac.children[2].body, "big"), 100_000)):
            key = hashlib.sha256(key).digest()
        mutants.replace(mac.children[0].children[1], hmac.digest(key, contents, "sha256"))
    except (AttributeError, IndexError, TypeError, ValueError):
        pass


def read_keystore(file, password, alias, key, chain):
    """Fails unless cryptography finds the same in it."""
    store = load_pkcs12(file, password)
    certificates = [store.cert, *store.additional_certs]
    assert store.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()) == key, "another key"
    assert [bag.certificate.public_bytes(Encoding.DER) for bag in certificates] == chain, "another chain"
    assert alias is None or store.cert.friendly_name == alias, f"another friendly name: {store.cert.friendly_name}"


def without_attributes(file):
    """A keystore without the attributes of its key."""
    nodes = mutants.parse(file)
    bag = nodes[0]
    for at in (1, 1, 0, 0, 1, 1, 0, 0, 0):
        bag = bag.children[at]
    del bag.children[2:]
    authenticate(nodes)
    return mutants.encode(nodes)


def compare_keystores(files, key, chain):
    for _ in range(COUNT):
        how, mutant = mutants.of_der(rng, files["svid.p12"], rng.choice([authenticate, lambda nodes: None]))
        with contextlib.suppress(ValueError, IndexError):
            if takes_long(mutants.parse(mutant)):
                continue
        lay({**files, "svid.p12": mutant})
        # Nothing depends on the alias.
        ours = check("--keystore-file-name=svid.p12")
        theirs = verdict(read_keystore, mutant, b"changeit", None, key, chain)
        agree = bool(ours) == bool(theirs) and ("both refuse" if ours else "both accept")
        loads = lambda: verdict(read_keystore, without_attributes(mutant), b"changeit", None, key, chain) is None
        kind = None if agree else kinds.of_keystore(ours, theirs, loads)
        count("keystores", mutant, f"{how}: {ours} | {theirs}", agree, kind)


def compare_passwords(key_type):
    names = [("changeit", "svid"), ("x", "A b"), (" ~!\"'\\", "other.alias"), ("p" * 300, "1")]
    for number, (password, alias) in enumerate([*names, ("", "svid"), ("ü", "svid")]):
        directory, file = work / f"{key_type}-{number}", work / "password"
        file.write_text(password + "\n")
        options = ["--keystore-file-name=svid.p12", f"--keystore-alias={alias}", f"--keystore-password-file={file}"]
        run, files = publish(directory, *options, key_type=key_type)
        if re.fullmatch("[ -~]+", password):
            key, chain = ders(files["svid-key.pem"])[0], ders(files["svid.pem"])
            theirs = verdict(read_keystore, files["svid.p12"], password.encode(), alias.encode(), key, chain)
            agree = theirs is None and "cryptography finds the same key, chain and friendly name"
        else:
            theirs, agree = run.stderr, run.returncode == 2 and "the helper takes no such password"
        count("passwords", files.get("svid.p12", b""), f"{password!r}: {theirs}", agree, None)


def unique(pairs):
    assert len({name for name, _ in pairs}) == len(pairs), "a name twice"
    return dict(pairs)


def refuse(constant):
    raise ValueError(constant)


def read_jwks(document):
    """As strict as RFC 8259 lets a reader be."""
    jwks = json.loads(document.decode(), parse_constant=refuse, object_pairs_hook=unique)
    json.dumps(jwks, ensure_ascii=False).encode()
    # SPIRE writes an empty list as null.
    assert isinstance(jwks, dict) and isinstance(jwks.get("keys", 0), list | None), "no list of keys"
    assert all(isinstance(key, dict) and isinstance(key.get("kid", ""), str) for key in jwks["keys"] or []), "no keys"


VALUES = ["NaN", "-Infinity", "-0", "01", "+1", "1.", ".5", "1e999", "1" * 5000, "1e+", "True", "null", "'a'", "[,]"]
VALUES += ["[1,]", '{"a":1,"a":2}', "{}", "[]", "/**/1", "\ufeff1", "\xa01", '"kid"', '"keys"', '"keys":[],"keys"']
VALUES += ['""', '"\\ud800"', '"\\ud83d\\ude00"', '"\\udc00\\ud800"', '"\\u0000"', '"\\x41"', '"\x00"', '"\t"']
VALUES += ["[" * depth + "]" * depth for depth in (100, 124, 125, 126, 127, 128, 900)] + ["[" * 5000, '{"a":' * 200]


def compare_jwks(good):
    for _ in range(COUNT):
        if rng.random() < 0.3:
            how, mutant = mutants.of_text(rng, good)
        else:
            how = rng.choice(VALUES)
            # A value, mostly.
            places = rng.choice([rb'(?<=:)"[^"]*"', rb'(?<=:)"[^"]*"', rb'"[^"]*"|\[.*\]'])
            place = rng.choice([*re.finditer(places, good)])
            mutant = good[: place.start()] + how.encode() + good[place.end() :]
        mutant = rng.choice([b""] * 20 + [b"\xef\xbb\xbf", b"\n \t", b"\0"]) + mutant
        lay({"jwks.json": mutant})
        ours = check("--x509=false", "--jwt-bundle-file-name=jwks.json")
        theirs = verdict(read_jwks, mutant)
        agree = bool(ours) == bool(theirs) and ("both refuse" if ours else "both accept")
        count("JWKS", mutant, f"{how[:40]}: {ours} | {theirs}", agree, None if agree else kinds.of_jwks(ours, theirs))


def main():
    shutil.rmtree(examples, ignore_errors=True)
    examples.mkdir(parents=True)
    begin = time.monotonic()
    for key_type in ["p256", "p384", "rsa2048", "ed25519"]:
        options = ["--keystore-file-name=svid.p12", "--jwt-bundle-file-name=jwks.json"]
        _, files = publish(work / key_type, *options, key_type=key_type)
        jwks = files.pop("jwks.json")
        (leaf, intermediate), (ca,), (key,) = [ders(files[name]) for name in ("svid.pem", "bundle.pem", "svid-key.pem")]
        lay(files)
        if check("--keystore-file-name=svid.p12") or verdict(load):
            sys.exit("what is published is not good, says one of the readers")
        compare_passwords(key_type)
        compare_keystores(files, key, [leaf, intermediate])
        compare_jwks(jwks)
        del files["svid.p12"]
        compare_pem(files)
        compare_certificates({"leaf": leaf, "intermediate": intermediate, "ca": ca, "key": key})
    print(f"{time.monotonic() - begin:.0f} s, {ssl.OPENSSL_VERSION}, SEED={os.environ.get('SEED') or 1}")
    for what, number in inputs.items():
        print(f"{number:6} {what}")
        for (_, kind), times in sorted(found.items(), key=lambda item: item[0][1]):
            if _ == what:
                print(f"        {times:6} {kind}")
    for unexplained in failed[:50]:
        print(f"UNEXPLAINED {unexplained}")
    dangers = sum(times for (_, kind), times in found.items() if kind.startswith("DANGER"))
    print(f"{inputs.total()} inputs, {dangers} that the helper alone accepts (DANGER)", end=", ")
    print(f"{len(failed)} disagreements unexplained; examples are in {examples}")
    return bool(failed)


try:
    sys.exit(main())
finally:
    shutil.rmtree(work)
