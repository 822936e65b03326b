"""What is measured, and how: ``python3 run.py benchmark``."""
