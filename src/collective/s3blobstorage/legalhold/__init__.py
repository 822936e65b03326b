"""The behaviour "Legal hold": what is saved with it is held in the bucket after the commit."""
