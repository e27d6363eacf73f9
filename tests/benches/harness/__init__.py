"""What `run` is made of: the peers, the measures, the machine they ran on, and the table."""
