"""What is known of a storage: kept figures, the last check, what its processes counted. See ``interfaces``."""
