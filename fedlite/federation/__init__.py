"""Flower apps, messages, strategies and engines: how clients and server work together."""
