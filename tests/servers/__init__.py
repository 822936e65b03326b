"""Real servers for the tests and the demo: an embedded S3 server, a Ceph gateway, and a proxy that injects faults.

Nothing here imports pytest or the package under test.
"""
