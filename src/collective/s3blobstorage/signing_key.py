"""The private key by which addresses of a CDN are signed."""

from __future__ import annotations

from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .errors import ConfigurationError


# To load one checks that it is consistent, which takes some hundred times as long as signing.
@lru_cache(maxsize=4)
def signing_key(pem: str) -> RSAPrivateKey:
    """Raises ConfigurationError, with the reason only, for all but RSA keys of 2048 bits: CloudFront takes no other."""
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        raise ConfigurationError("does not hold a private key in PEM without a password") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size != 2048:
        raise ConfigurationError("does not hold an RSA key of 2048 bits")
    return key
