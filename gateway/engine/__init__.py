"""Serving threads from the gateway's own store."""
