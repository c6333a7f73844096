"""Secret randomness that a test knows: where only what is secret is trained together."""

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from fedlite.privacy.randomness import SecureRandomness


class Repeated(SecureRandomness):
    """Secure randomness of known keys, one for each that is made."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        Repeated.made += 1
        self.number = Repeated.made
        key = self.number.to_bytes(32, "big")
        self._stream = Cipher(AES(key), CTR(bytes(16))).encryptor()
