"""How objects are encrypted. Null object: ``NoEncryption``."""
