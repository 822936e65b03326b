"""What browsers put into the bucket themselves, until it becomes a blob."""
