"""Student and teacher networks, built by class path."""
