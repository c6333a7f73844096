"""A static page on which a shipped model runs in the browser."""
