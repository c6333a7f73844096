"""Where examples come from, who holds which, and the public and private data types."""
