"""Ways to choose among the ready keys of an account, one a file."""
