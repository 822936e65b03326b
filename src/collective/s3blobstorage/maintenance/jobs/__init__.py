"""Long work on a bucket that people start, watch and stop: its state is in the bucket, see ``interfaces``."""
