"""Files on the local disk, one per blob revision, shared by the processes of a machine."""
