"""Which limits count: profiles, overrides, and what is selected."""
