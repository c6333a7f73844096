"""One run: its configuration, its directory, its stages, and what it spent."""
