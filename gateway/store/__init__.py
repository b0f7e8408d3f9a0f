"""What replicas share, in Redis or Valkey: one implementation, from a laptop to a cluster."""
