"""What operators do from a shell, beside serving: read and change what the replicas share."""
