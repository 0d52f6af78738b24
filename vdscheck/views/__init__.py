"""What areas add to the report and to the screen, beside their probes and checks."""
