"""What areas add to the command line and to the configuration, beside their probes and checks."""
