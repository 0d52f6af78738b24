"""What Linux's own files say, read through the target; probes and fixes share it."""
