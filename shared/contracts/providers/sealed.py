"""Encrypted callbacks of the Chinese work platforms: one envelope (AES-256-CBC, a length before the text), two ways of signing it.

WeCom and DingTalk: the key is the base64 of 43 characters, the vector its first half; the plain text is 16 random
bytes, its length (big endian), the text, and the receiver's id; padding to 32. Signature: hex SHA-1 of token,
timestamp, nonce and ciphertext, sorted and joined. Feishu: the key is the SHA-256 of the encrypt key, the vector
comes first in the ciphertext, padding to 16.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from shared.contracts.providers.checks import same
from shared.contracts.providers.receipts import Forged


def work_signature(token: str, timestamp: str, nonce: str, sealed: str) -> str:
    """WeCom's `msg_signature`, DingTalk's `signature`."""
    return hashlib.sha1("".join(sorted((token, timestamp, nonce, sealed))).encode()).hexdigest()


def open_work(sealed: str, aes_key: str, receiver: str) -> bytes:
    """The text of a WeCom or DingTalk envelope; raises `Forged` when it was not sealed with this key for this receiver."""
    key = _bytes(aes_key + "=")
    if len(key) != 32:
        raise Forged("the AES key is not one of 43 characters")
    plain = _unpad(_decrypt(key, key[:16], _bytes(sealed)), 32)
    size = int.from_bytes(plain[16:20], "big")
    text, owner = plain[20 : 20 + size], plain[20 + size :]
    if len(text) != size or not same(owner.decode("utf-8", "replace"), receiver):
        raise Forged("the envelope is for somebody else")
    return text


def seal_work(text: bytes, aes_key: str, receiver: str, salt: bytes) -> str:
    """The reverse of `open_work`; `salt` is 16 random bytes."""
    key = _bytes(aes_key + "=")
    plain = salt + len(text).to_bytes(4, "big") + text + receiver.encode()
    return base64.b64encode(_encrypt(key, key[:16], _pad(plain, 32))).decode()


def open_feishu(sealed: str, encrypt_key: str) -> bytes:
    """The text of a Feishu envelope; raises `Forged`."""
    raw = _bytes(sealed)
    return _unpad(_decrypt(hashlib.sha256(encrypt_key.encode()).digest(), raw[:16], raw[16:]), 16)


def seal_feishu(text: bytes, encrypt_key: str, salt: bytes) -> str:
    """The reverse of `open_feishu`; `salt` is 16 random bytes."""
    key = hashlib.sha256(encrypt_key.encode()).digest()
    return base64.b64encode(salt + _encrypt(key, salt, _pad(text, 16))).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Forged("the envelope is not base64") from error


def _decrypt(key: bytes, vector: bytes, data: bytes) -> bytes:
    if len(vector) != 16 or not data or len(data) % 16:
        raise Forged("the envelope is cut")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def _encrypt(key: bytes, vector: bytes, data: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def _pad(data: bytes, block: int) -> bytes:
    size = block - len(data) % block
    return data + bytes([size]) * size


def _unpad(data: bytes, block: int) -> bytes:
    size = data[-1]
    if not 1 <= size <= block or data[-size:] != bytes([size]) * size:
        raise Forged("the envelope was sealed with another key")
    return data[:-size]
