"""Makes the test vectors: a second implementation of the format, with nothing of the package's.

``python make_vectors.py`` prints them; ``vectors.json`` beside it is what it printed.
"""

# docs: from here
import base64
import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SEGMENT, TAG, HEADER = 65536, 16, 48


def derived(key, purpose, size=32):
    """HKDF-SHA256 (RFC 5869) without salt: 32 bytes are one block, the first one."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(extracted, b"collective.s3blobstorage/1/" + purpose.encode() + b"\1", "sha256")[:size]


def nonce(number, last):
    return number.to_bytes(11, "big") + (b"\1" if last else b"\0")


def unseal(key, object_key, metadata, stored):
    """The plain text. key: the 32 bytes of the ring's; object_key: without s3-prefix; metadata: without x-amz-meta-."""
    form, name, wrapped = metadata["sealed"].split(" ")
    assert form == "1" and name.endswith("/" + derived(key, "version", 4).hex()), "another format, or another key"
    wrapped, bound = base64.urlsafe_b64decode(wrapped), f"1\0{name}\0{object_key}".encode()
    data_key = AESGCM(derived(key, "wrap")).decrypt(wrapped[:12], wrapped[12:], bound)
    assert stored[:HEADER] == b"s3blobs\0\1\x10" + bytes(6) + derived(data_key, "commitment")
    segments = [stored[at : at + SEGMENT + TAG] for at in range(HEADER, len(stored), SEGMENT + TAG)]
    cipher, last = AESGCM(derived(data_key, "segments")), len(segments) - 1
    plain = b"".join(cipher.decrypt(nonce(i, i == last), segment, None) for i, segment in enumerate(segments))
    if "sealed-sha256" in metadata:
        hidden = base64.urlsafe_b64decode(metadata["sealed-sha256"])
        digest = AESGCM(derived(data_key, "sha256")).decrypt(bytes(12), hidden, None)
        assert digest == hashlib.sha256(plain).digest()
    return plain


# docs: to here


def seal(key, id, object_key, plain, data_key, drawn):
    """The metadata and the object. drawn: the envelope's nonce."""
    name = f"{id}/{derived(key, 'version', 4).hex()}"
    bound = f"1\0{name}\0{object_key}".encode()
    envelope = drawn + AESGCM(derived(key, "wrap")).encrypt(drawn, data_key, bound)
    hidden = AESGCM(derived(data_key, "sha256")).encrypt(bytes(12), hashlib.sha256(plain).digest(), None)
    parts = [plain[at : at + SEGMENT] for at in range(0, len(plain), SEGMENT)] or [b""]
    cipher, last = AESGCM(derived(data_key, "segments")), len(parts) - 1
    stored = b"s3blobs\0\1\x10" + bytes(6) + derived(data_key, "commitment")
    stored += b"".join(cipher.encrypt(nonce(i, i == last), part, None) for i, part in enumerate(parts))
    spelled = base64.urlsafe_b64encode(envelope).decode()
    return {"sealed": f"1 {name} {spelled}", "sealed-sha256": base64.urlsafe_b64encode(hidden).decode()}, stored


def plain_text(size):
    return bytes(i % 251 for i in range(size))


def vectors():
    key, id = bytes(range(32)), "2026-11"
    made = []
    for number, size in enumerate((0, 1, 65536, 65537), start=1):
        object_key = f"blobs/{number:016x}/{size:032x}"
        data_key = hashlib.sha256(f"data key {number}".encode()).digest()
        drawn = hashlib.sha256(f"nonce {number}".encode()).digest()[:12]
        metadata, stored = seal(key, id, object_key, plain_text(size), data_key, drawn)
        vector = {"size": size, "object_key": object_key, "data_key": data_key.hex(), "nonce": drawn.hex()}
        vector |= {
            "metadata": metadata,
            "stored_size": len(stored),
            "stored_sha256": hashlib.sha256(stored).hexdigest(),
        }
        made.append(vector | ({"stored": stored.hex()} if size < 100 else {}))
    return {"format": 1, "key": key.hex(), "id": id, "version": derived(key, "version", 4).hex(), "objects": made}


if __name__ == "__main__":
    import json

    print(json.dumps(vectors(), indent=1))
