"""Makes the one value that is shown, saved and sent."""
